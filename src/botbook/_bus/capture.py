"""What a handler would have sent: kept in a list, and sent to nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, is_dataclass
from types import TracebackType
from typing import Any, Final, TypeVar

from botbook._errors import NotSupported
from botbook.actions import Action, Ask, History, Native, PlatformCall, Send, Sent
from botbook.events import Event

__all__ = [
    "Capture",
    "CapturedAnswer",
    "CapturedBot",
    "Deed",
    "answer_deed",
    "captured",
    "capturing",
    "deed_of",
    "deeds_json",
    "keep",
    "keeping",
]

T = TypeVar("T")

#: What stands for the gateway in errors, and why it can do so little.
REPLAY: Final = "replay"
_ALONE: Final = "A replay has no gateway: only what would be sent is kept."


@dataclass(frozen=True, slots=True)
class Deed:
    """One outgoing call.

    Attributes:
        call: ``reply``, ``answer``, ``send``, or the name of another.
        text: What it says, or "".
        rest: Its other arguments.
    """

    call: str
    text: str
    rest: tuple[tuple[str, Any], ...] = ()

    @property
    def is_reply(self) -> bool:
        """Whether it answers the event itself."""
        return self.call in ("reply", "answer")

    def to_json(self) -> dict[str, Any]:
        """The deed as an object with ``call``, ``text`` and its other arguments."""
        return {"call": self.call, "text": self.text, **dict(self.rest)}


def deed_of(action: Action, *, reply: bool = False) -> Deed:
    """An action as a deed.

    Args:
        action: What is put on the wire.
        reply: It answers the event that is handled.
    """
    match action:
        case Send():
            if reply:
                return _deed("reply", action.text, plain=not action.markdown)
            return _deed("send", action.text, to=action.to, markdown=action.markdown)
        case Native():
            return _deed("send_native", "", to=action.to, body=action.body)
        case PlatformCall():
            return _deed(action.api, "", params=dict(action.params))
    assert is_dataclass(action)
    rest = {f.name: getattr(action, f.name) for f in fields(action) if f.name not in ("id", "text")}
    return _deed(type(action).__name__.lower(), getattr(action, "text", ""), **rest)


def answer_deed(text: str, *, reasoning: str = "", error: str = "") -> Deed:
    """A streamed answer as a deed.

    Args:
        text: The whole of it.
        reasoning: What was thought.
        error: Why it did not come to its end, or "".
    """
    return _deed("answer", text, reasoning=reasoning, error=error)


def _deed(call: str, text: str, **rest: Any) -> Deed:
    """A deed; what is empty or false is left out."""
    return Deed(call, text, tuple((key, value) for key, value in rest.items() if value))


def deeds_json(deeds: Iterable[Deed]) -> str:
    """Deeds as the JSON text of the journal's record of a call; "" for none."""
    rows = [deed.to_json() for deed in deeds]
    return json.dumps(rows, default=str) if rows else ""


class Capture:
    """An `Actor` that keeps what it is asked to do.

    Attributes:
        deeds: What was asked for, in order.
    """

    def __init__(self) -> None:
        self.deeds: list[Deed] = []

    def note(self, call: str, text: str = "", **rest: Any) -> Sent:
        """Keep one deed; what is empty or false is left out."""
        self.deeds.append(_deed(call, text, **rest))
        return Sent(message_id=f"replay-{len(self.deeds)}")

    def reply(self, event: Event, text: str, *, markdown: bool = True) -> Any:
        """Keep an answer. Awaitable where a loop runs, as the real one."""
        return _now_or_awaited(self._noted("reply", text, plain=not markdown))

    def answer(self, event: Event) -> CapturedAnswer:
        """Open a streamed answer that is kept at its end."""
        return CapturedAnswer(self)

    def take(self, action: Action, *, reply: bool = False) -> Sent:
        """Keep an action.

        Args:
            action: What was to be put on the wire.
            reply: It answers the event that is handled.

        Raises:
            NotSupported: It asks for an answer, which nobody could give.
        """
        if isinstance(action, Ask | History):
            raise NotSupported(type(action).__name__.lower(), REPLAY, hint=_ALONE)
        self.deeds.append(deed_of(action, reply=reply))
        return Sent(message_id=f"replay-{len(self.deeds)}")

    async def _noted(self, call: str, text: str, **rest: Any) -> Sent:
        return self.note(call, text, **rest)


class CapturedAnswer:
    """A streamed answer that nobody reads; for ``async with`` and for ``with``.

    Attributes:
        cancelled: Always false: no asker stops it.
        text: What was written so far.
        reasoning: What was thought so far.
    """

    cancelled: Final = False

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self.text = ""
        self.reasoning = ""

    def write(self, text: str, *, reasoning: bool = False) -> Any:
        """Add a piece. Awaitable where a loop runs, as the real one."""
        return _now_or_awaited(self._write(text, reasoning))

    async def _write(self, text: str, reasoning: bool) -> None:
        if reasoning:
            self.reasoning += text
        else:
            self.text += text

    def __enter__(self) -> CapturedAnswer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        error = "" if kind is None else kind.__name__
        self._capture.deeds.append(answer_deed(self.text, reasoning=self.reasoning, error=error))

    async def __aenter__(self) -> CapturedAnswer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, problem, trace)


class CapturedBot:
    """What a handler gets for a bot: it keeps what it is asked to send, and can do no more.

    Args:
        capture: Who keeps it.
        name: Name of the connection.
        gateway: Which gateway.
    """

    def __init__(self, capture: Capture, *, name: str = "", gateway: str = "") -> None:
        self._capture = capture
        self.name = name
        self.gateway = gateway

    def send(self, to: str, text: str, *, markdown: bool = False) -> Any:
        """Keep a message."""
        return _now_or_awaited(self._capture._noted("send", text, to=to, markdown=markdown))

    def reply(self, event: Event, text: str, *, markdown: bool = True) -> Any:
        """Keep an answer."""
        return self._capture.reply(event, text, markdown=markdown)

    def answer(self, event: Event) -> CapturedAnswer:
        """Open a streamed answer."""
        return self._capture.answer(event)

    def send_native(self, body: Any, *, to: str = "", acknowledged: bool = False) -> Any:
        """Keep what is passed on as it is."""
        return _now_or_awaited(self._capture._noted("send_native", "", to=to, body=body))

    @property
    def aio(self) -> CapturedBot:
        """Itself."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotSupported(name, REPLAY, hint=_ALONE)

    def __repr__(self) -> str:
        return f"<captured {self.name or 'bot'}>"


#: Where the deeds of the call that runs are kept, for its record.
_KEPT: Final[ContextVar[list[Deed] | None]] = ContextVar("botbook-deeds", default=None)
#: What takes the place of every bot in a handler that is replayed.
_CAPTURE: Final[ContextVar[Capture | None]] = ContextVar("botbook-capture", default=None)


def capturing() -> Capture | None:
    """Who keeps what this very code would send, or None outside a replay.

    Asked by whatever puts actions on a wire. It follows a handler into its tasks, its threads and
    onto the loop of a bot, by whatever name the handler got hold of that.
    """
    return _CAPTURE.get()


@contextmanager
def captured(capture: Capture) -> Iterator[None]:
    """Have `capturing` say `capture` for a while."""
    token = _CAPTURE.set(capture)
    try:
        yield
    finally:
        _CAPTURE.reset(token)


@contextmanager
def keeping() -> Iterator[list[Deed]]:
    """Collect what a call really sends, for its record in the journal."""
    deeds: list[Deed] = []
    token = _KEPT.set(deeds)
    try:
        yield deeds
    finally:
        _KEPT.reset(token)


def keep(deed: Deed) -> None:
    """Note that something was sent, if a call is being recorded here."""
    deeds = _KEPT.get()
    if deeds is not None:
        deeds.append(deed)


def _now_or_awaited(work: Coroutine[Any, Any, T]) -> T | Coroutine[Any, Any, T]:
    """As the real ones: an awaitable where a loop runs, else it has acted when it returns."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        try:
            work.send(None)
        except StopIteration as end:
            value: T = end.value
            return value
        raise AssertionError("a capture never waits") from None
    return work
