"""Runs handlers without a gateway: what they would send is kept, time and chance are pinned."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from botbook._bus.capture import Capture, CapturedBot, Deed, captured
from botbook._bus.handler import Handler
from botbook._bus.outcome import carry_out
from botbook._bus.patterns import matches
from botbook._bus.pinned import Pinned
from botbook._bus.timeless import TimelessLoop
from botbook.actions import Action, Sent
from botbook.events import ASSISTANT, Event

__all__ = ["Outcome", "Rehearsal", "TooLong"]

T = TypeVar("T")


class TooLong(BaseException):
    """Put into a call that holds its thread; no ``except Exception`` of a handler stops it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one call.

    Attributes:
        event: What the handler was called with.
        handler: Its name.
        deeds: What it would have sent, in order.
        error: One line, or "".
        seconds: How long it took, what it slept included though nobody waited for it.
        problem: What it raised, or None.
        traceback: The whole of it, without botbook's own lines, or "".
    """

    event: Event
    handler: str
    deeds: tuple[Deed, ...] = ()
    error: str = ""
    seconds: float = 0.0
    problem: BaseException | None = field(default=None, repr=False, compare=False)
    traceback: str = field(default="", repr=False)

    @property
    def replies(self) -> tuple[str, ...]:
        """The texts of its answers."""
        return tuple(deed.text for deed in self.deeds if deed.is_reply)

    @property
    def actions(self) -> tuple[Deed, ...]:
        """What else it would have sent."""
        return tuple(deed for deed in self.deeds if not deed.is_reply)


class Rehearsal:
    """A stage for handlers. It lives in one thread, which runs no loop of its own.

    A call ends when the handler has returned and the tasks it left behind have ended; those that do
    not within the handler's timeout are cancelled.

    Args:
        seed: Of chance; the same seed gives every event the same.
        extra: What handlers may ask for besides the event's own columns.
        stands_for: Live bots: wherever the handler's own names lead to one, it finds one that sends
            nothing.
    """

    def __init__(
        self, *, seed: int = 0, extra: Mapping[str, Any] | None = None, stands_for: Iterable[object] = ()
    ) -> None:
        self._seed = seed
        self._extra = dict(extra or {})
        self._live = {id(bot): bot for bot in stands_for}
        self._loop = TimelessLoop()
        self._pinned = Pinned(slept=self._loop.time, sleep=self._loop.skip, stand_in=self._stand_in)
        self._ready: dict[int, tuple[Handler, Handler]] = {}
        self._stage: CapturedBot | None = None

    def __enter__(self) -> Rehearsal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the loop, and what still runs on it."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(_ended())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()

    def call(self, handler: Handler, event: Event) -> Outcome | None:
        """Call a handler with an event, if it is for it.

        Returns:
            What came of it; None where its pattern does not match or its condition does not hold.
        """
        if not matches(handler.pattern, event.type, own=event.role == ASSISTANT):
            return None
        pinned = self._pinned_handler(handler)
        self._pinned.set(event.received_at, f"{self._seed}:{event.event_id}")
        capture = Capture()
        event = dataclasses.replace(event, actor=capture)
        self._stage = CapturedBot(capture, name=event.bot, gateway=event.gateway)
        began = time.perf_counter()
        error, problem = "", None
        try:
            with captured(capture):
                if pinned.when is not None and not pinned.when(event):
                    return None
                self._run(pinned, event, capture)
        except TooLong:
            raise
        except _Late:
            error = f"ran longer than {handler.timeout:g} s"
        except BaseException as raised:  # a handler may raise SystemExit; none may end the rehearsal
            problem = raised
            error = f"{type(raised).__name__}: {raised}".rstrip(": ")
        return Outcome(
            event=event,
            handler=handler.name,
            deeds=tuple(capture.deeds),
            error=error,
            seconds=time.perf_counter() - began + self._pinned.elapsed,
            problem=problem,
            traceback=_users_part(problem) if problem is not None else "",
        )

    def _pinned_handler(self, handler: Handler) -> Handler:
        """The handler in whose eyes time and chance are pinned; made once."""
        known = self._ready.get(id(handler))
        if known is None:
            fresh = copy.copy(handler)
            fresh.function = self._pinned.copy(handler.function)
            fresh.when = handler.when and self._pinned.copy(handler.when)
            known = self._ready[id(handler)] = handler, fresh
        return known[1]

    def _stand_in(self, value: Any) -> Any:
        return self._stage if id(value) in self._live else value

    def _run(self, handler: Handler, event: Event, capture: Capture) -> None:
        args, kwargs = handler.bind(event, {"bot": self._stage, **self._extra})
        if handler.is_async:
            self._until_done(handler.function(*args, **kwargs), event, handler, capture)
            return
        result = handler.function(*args, **kwargs)  # no loop runs meanwhile, as in its thread
        if self._pinned.elapsed > handler.timeout:
            raise _Late
        if result is not None:
            self._until_done(result, event, handler, capture)

    def _until_done(self, result: Any, event: Event, handler: Handler, capture: Capture) -> None:
        problem = self._loop.run_until_complete(_contained(result, event, handler.timeout, capture))
        if problem is not None:
            raise problem


class _Late(Exception):
    """A handler ran out of time."""


async def _contained(result: Any, event: Event, timeout: float, capture: Capture) -> BaseException | None:
    """Carry out a result and what it left behind; what it raises is handed back, and ends no loop."""
    limit = asyncio.timeout(timeout)
    problem: BaseException | None = None
    try:
        async with limit:
            await carry_out(result, event, do=functools.partial(_do, capture), step=_step)
    except BaseException as raised:
        problem = _Late() if limit.expired() else raised
    await _settled(timeout)
    return problem


async def _settled(timeout: float) -> None:
    """Let the tasks that a handler left behind come to their end."""
    while rest := asyncio.all_tasks() - {asyncio.current_task()}:
        _, late = await asyncio.wait(rest, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=timeout)
            return


async def _ended() -> None:
    """Cancel what is left of a call that was broken off."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _do(capture: Capture, action: Action) -> Sent:
    return capture.take(action)


async def _step(function: Callable[[], T]) -> T:
    return function()


_OURS: Final = frozenset({__file__, carry_out.__code__.co_filename, contextlib.__file__, asyncio.__file__})


def _users_part(problem: BaseException) -> str:
    """The traceback from the user's first line on."""
    frames = traceback.extract_tb(problem.__traceback__)
    first = next((index for index, frame in enumerate(frames) if frame.filename not in _OURS), len(frames))
    return "".join(traceback.format_list(frames[first:]) + traceback.format_exception_only(problem))
