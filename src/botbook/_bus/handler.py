"""A handler: any callable, inspected once, then called with just what its signature asks for."""

from __future__ import annotations

import ast
import builtins
import difflib
import hashlib
import inspect
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from statistics import quantiles
from typing import Any, Final, Literal

from botbook._errors import HandlerError
from botbook.events import Event

__all__ = ["ARGUMENTS", "Call", "Handler", "Stats", "condition"]

#: What a handler may ask for by name: the event, its bot, and every column of the event.
ARGUMENTS: Final[frozenset[str]] = frozenset(
    {"event", "bot", "raw", "chain"} | {f.name for f in fields(Event)} - {"actor", "parts", "raw_json"}
)
State = Literal["done", "failed", "timeout", "cancelled"]
STATS_KEPT: Final = 1000


@dataclass(slots=True)
class Stats:
    """What became of a handler's calls.

    Attributes:
        calls: Finished calls.
        failures: Those that raised or ran out of time.
        running: Those that run now.
        last_error: One line, or "".
        last_at: When the last one ended.
    """

    calls: int = 0
    failures: int = 0
    running: int = 0
    last_error: str = ""
    last_at: datetime | None = None
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=STATS_KEPT))

    def note(self, seconds: float, error: str, at: datetime) -> None:
        """Count one finished call."""
        self.calls += 1
        self.last_at = at
        self._seconds.append(seconds)
        if error:
            self.failures += 1
            self.last_error = error

    def percentile_ms(self, percent: int) -> float | None:
        """A percentile of the last 1,000 durations, in milliseconds; None before the first."""
        if not self._seconds:
            return None
        if len(self._seconds) == 1:
            return self._seconds[0] * 1000
        return quantiles(self._seconds, n=100, method="inclusive")[percent - 1] * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One finished call of a handler.

    Attributes:
        seq: The event's number in the journal.
        event: What it was called with.
        handler: Name of the handler.
        version: Hash of its source.
        state: ``done``, ``failed``, ``timeout`` or ``cancelled``.
        started_at: In UTC.
        seconds: How long it ran.
        error: One line, or "".
        traceback: The whole of it, without botbook's own lines, or "".
        calls_json: What it sent, JSON text, or "".
    """

    seq: int
    event: Event
    handler: str
    version: str
    state: State
    started_at: datetime
    seconds: float
    error: str = ""
    traceback: str = field(default="", repr=False)
    calls_json: str = field(default="", repr=False)


class Handler:
    """A registered callable.

    Args:
        function: ``async def`` or ``def``. The first parameter gets the event whatever its name;
            every other parameter is one of `ARGUMENTS`, or has a default.
        pattern: ``message.received``, ``message.*`` or ``*``.
        name: Default the function's own. A second handler of that name replaces the first.
        when: Called with the event; the handler runs only where it is true.
        timeout: Longest run, in seconds.

    Raises:
        HandlerError: `function` is not callable, or asks for what no event has.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        pattern: str,
        name: str = "",
        when: Callable[[Event], Any] | None = None,
        timeout: float = 60.0,
    ) -> None:
        if not callable(function):
            raise HandlerError(f"a handler is a function, not {type(function).__name__}")
        self.function = function
        self.pattern = pattern
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.when = when
        self.timeout = timeout
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        self.version = _source_hash(function)
        self.stats = Stats()
        self._first, self._wanted = _signature(function, self.name)

    def bind(self, event: Event, extra: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one call."""
        args = (event,) if self._first else ()
        if not self._wanted:
            return args, {}
        return args, {
            name: extra[name] if name in extra else event if name == "event" else getattr(event, name)
            for name in self._wanted
        }

    def __repr__(self) -> str:
        return f"<Handler {self.name} on {self.pattern}>"


def condition(text: str) -> Callable[[Event], Any]:
    """Compile an expression over an event's columns, such as ``chat_type == "group" and "hi" in text``.

    Raises:
        HandlerError: It is no expression, or names what no event has.
    """
    try:
        tree = ast.parse(text.strip(), "<when>", "eval")
    except SyntaxError as error:
        raise HandlerError(
            f"{text!r} is no expression: {error.msg}", hint="Write what would stand after `if`."
        ) from None
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    for name in sorted({node.id for node in names} - bound - ARGUMENTS - set(dir(builtins))):
        raise _unknown(f"the condition names {name!r}", name)
    code = compile(tree, "<when>", "eval")
    return lambda event: eval(code, {}, _Columns(event))


class _Columns(dict[str, Any]):
    """An event as the names of an expression."""

    def __init__(self, event: Event) -> None:
        super().__init__(event=event)
        self._event = event

    def __missing__(self, name: str) -> Any:
        try:
            return getattr(self._event, name)
        except AttributeError:
            raise KeyError(name) from None


def _unknown(what: str, name: str) -> HandlerError:
    near = difflib.get_close_matches(name, ARGUMENTS, n=1)
    return HandlerError(
        f"{what}, which no event has",
        hint=f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(sorted(ARGUMENTS))}.",
    )


def _signature(function: Callable[..., Any], name: str) -> tuple[bool, tuple[str, ...]]:
    """Whether the event goes in first by position, and which arguments go in by name."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    wanted: list[str] = []
    first = False
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if index == 0 and parameter.kind in positional and parameter.name not in ARGUMENTS - {"event"}:
            first = True
        elif parameter.name in ARGUMENTS and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            wanted.append(parameter.name)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            first = first or index == 0
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD and parameter.default is parameter.empty:
            raise _unknown(f"{name} asks for {parameter.name!r}", parameter.name)
    return first, tuple(wanted)


def _source_hash(function: Callable[..., Any]) -> str:
    """A short name for this very text of the function, for the records of its calls."""
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        text = repr((code.co_code, code.co_consts)) if code else repr(type(function))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
