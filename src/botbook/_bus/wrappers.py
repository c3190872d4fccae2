"""Wrappers around handlers: each sees the event, and decides whether and how the handler is called.

All have one shape, ``async def around(event, proceed)``, where ``await proceed()`` calls what is
wrapped and gives its result. So they can be put around one another, and `wrapper` makes new ones.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Literal

from botbook._bus.fields import Facts
from botbook._bus.handler import ARGUMENTS, Handler
from botbook._errors import HandlerError
from botbook.events import ASSISTANT, Event

__all__ = [
    "Around",
    "Proceed",
    "Wrapped",
    "ignore_self",
    "log",
    "require_mention",
    "retry",
    "throttle",
    "timeout",
    "wrapper",
]

Proceed = Callable[[], Awaitable[Any]]
Around = Callable[[Event, Proceed], Awaitable[Any]]
Decorator = Callable[[Callable[..., Any]], "Wrapped"]

#: What a throttle counts for itself.
_KEYS: Final[dict[str, Callable[[Event], object]]] = {
    "chat": lambda event: (event.gateway, event.bot, event.chat_id or event.user_id),
    "user": lambda event: (event.gateway, event.bot, event.user_id),
    "all": lambda event: None,
}
#: Keys that a throttle remembers; those that were quiet longest go first.
_REMEMBERED: Final = 10_000


class Wrapped:
    """A handler with something around it; a handler itself.

    It asks for what the handler asks for. A plain ``def`` runs in a thread, as without it.

    Args:
        function: The handler.
        make: Makes what is put around it, with a memory of its own.
    """

    def __init__(self, function: Callable[..., Any], make: Callable[[], Around]) -> None:
        self._inner = Handler(function, pattern="*")
        self._make = make
        self._around = make()
        self.__wrapped__ = function
        self.__name__ = self._inner.name
        self.__doc__ = function.__doc__
        self.__signature__ = _signature(function)

    async def __call__(self, event: Event, **given: Any) -> Any:
        return await self._around(event, partial(self._proceed, event, given))

    async def _proceed(self, event: Event, given: dict[str, Any]) -> Any:
        args, kwargs = self._inner.bind(event, given)
        if self._inner.is_async:
            return await self._inner.function(*args, **kwargs)
        return await asyncio.to_thread(self._inner.function, *args, **kwargs)

    def pinned_by(self, copy: Callable[[Any], Any]) -> Wrapped:
        """The same around a copy of the handler, remembering nothing; for replays."""
        return Wrapped(copy(self.__wrapped__), copy(self._make))

    def __repr__(self) -> str:
        return f"<wrapped {self.__name__}>"


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The event, and by name whatever the function asks for."""
    names = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name in ARGUMENTS - {"event"} and parameter.kind is not parameter.POSITIONAL_ONLY
    ]
    event = inspect.Parameter("event", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature(
        [event, *(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names)]
    )


def wrapper(around: Around) -> Decorator:
    """Make a decorator for handlers: ``@wrapper`` over ``async def around(event, proceed)``.

    Args:
        around: Calls ``await proceed()`` or does not, and gives back what is to be done.
    """
    return lambda function: Wrapped(function, lambda: around)


def throttle(
    calls: int = 1,
    *,
    per: float = 1.0,
    by: Literal["chat", "user", "all"] = "chat",
    otherwise: str | None = None,
) -> Decorator:
    """Let a handler be called so often and no oftener; what comes beyond is left out.

    Args:
        calls: How often.
        per: In so many seconds.
        by: Counted for each ``chat``, for each ``user``, or for ``all`` together.
        otherwise: What to answer instead; default nothing.

    Raises:
        HandlerError: `calls`, `per` or `by` cannot be.
    """
    if calls < 1 or not per > 0 or by not in _KEYS:
        raise HandlerError(
            f"a throttle of {calls} calls in {per} s by {by!r}",
            hint="At least 1 call, above 0 s, by chat, user or all.",
        )
    key_of = _KEYS[by]

    def make() -> Around:
        memory: dict[object, deque[float]] = {}

        async def around(event: Event, proceed: Proceed) -> Any:
            now = time.monotonic()
            recent = memory.pop(key := key_of(event), None) or deque()
            memory[key] = recent  # at the end, behind those that are quiet
            if len(memory) > _REMEMBERED:
                del memory[next(iter(memory))]
            while recent and recent[0] <= now - per:
                recent.popleft()
            if len(recent) >= calls:
                return otherwise
            recent.append(now)
            return await proceed()

        return around

    return lambda function: Wrapped(function, make)


def timeout(seconds: float, *, otherwise: str | None = None) -> Decorator:
    """End a handler after some time. A plain ``def`` runs on in its thread, but is not waited for.

    Args:
        seconds: Longest run, in seconds.
        otherwise: What to answer then; default the call counts as failed.
    """

    async def around(event: Event, proceed: Proceed) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await proceed()
        except TimeoutError:
            if otherwise is None or not limit.expired():
                raise
            return otherwise

    return wrapper(around)


def retry(
    times: int = 3, *, wait: float = 0.5, on: type[Exception] | tuple[type[Exception], ...] = Exception
) -> Decorator:
    """Call a handler again when it fails. What it had answered before is not taken back.

    Args:
        times: How often at the most, the first call included.
        wait: Before the second call, in seconds; doubled each time.
        on: Which errors.
    """

    async def around(event: Event, proceed: Proceed) -> Any:
        for attempt in range(times - 1):
            try:
                return await proceed()
            except on:
                await asyncio.sleep(wait * 2**attempt)
        return await proceed()

    return wrapper(around)


def log(
    function: Callable[..., Any] | None = None,
    *,
    name: str = "botbook.handlers",
    level: int = logging.INFO,
) -> Any:
    """Log each call with its event's id and duration, and errors as errors; no text of any message.

    Args:
        function: The handler, when used without parentheses.
        name: Name of the logger.
        level: Of calls that went well.
    """
    logger = logging.getLogger(name)

    async def around(event: Event, proceed: Proceed) -> Any:
        began = time.perf_counter()
        try:
            result = await proceed()
        except Exception as error:
            logger.error("%s %s: %s", event.type, event.event_id, type(error).__name__)
            raise
        logger.log(level, "%s %s: %.3f s", event.type, event.event_id, time.perf_counter() - began)
        return result

    return _with_or_without(wrapper(around), function)


def require_mention(function: Callable[..., Any] | None = None, *, own_ids: tuple[str, ...] = ()) -> Any:
    """In groups, call a handler only for messages that mention the bot.

    Args:
        function: The handler, when used without parentheses.
        own_ids: Ids of the bot; where none is given, any mention counts.
    """
    ids = frozenset(own_ids)

    async def around(event: Event, proceed: Proceed) -> Any:
        if event.chat_type == "group" and not Facts(event, ids).get("is_at_bot"):
            return None
        return await proceed()

    return _with_or_without(wrapper(around), function)


def ignore_self(function: Callable[..., Any] | None = None, *, own_ids: tuple[str, ...] = ()) -> Any:
    """Do not call a handler for what the bot said itself.

    Args:
        function: The handler, when used without parentheses.
        own_ids: Ids of the bot, for gateways that do not mark its words.
    """

    async def around(event: Event, proceed: Proceed) -> Any:
        own = event.role == ASSISTANT or event.user_id in own_ids
        return None if own else await proceed()

    return _with_or_without(wrapper(around), function)


def _with_or_without(decorator: Decorator, function: Callable[..., Any] | None) -> Any:
    """``@log`` and ``@log()`` are the same."""
    return decorator if function is None else decorator(function)
