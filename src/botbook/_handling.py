"""The handlers' side of a bot: who answers, what was begun, what failed, who holds the loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from botbook._bus.bus import Bus
from botbook._bus.handler import Call, Handler, condition
from botbook._bus.own import failed_event
from botbook._bus.table import HandlerTable
from botbook._connection import Connection, Row
from botbook._data.store import Mark
from botbook._errors import NotSupported
from botbook._net.loop import Lag, handler_loop
from botbook.actions import Action, Native, PlatformCall, Send
from botbook.events import Actor, Event

__all__ = ["Handling", "Registration"]

log = logging.getLogger("botbook")

#: Failed calls that are kept for `%bot errors`.
PROBLEMS = 200


class Registration:
    """A registered handler; also what ``@bot.on(...)`` leaves behind.

    Attributes:
        name: Its name.
        pattern: What it is for.
    """

    def __init__(self, handler: Handler, off: Callable[[str], bool]) -> None:
        self.name = handler.name
        self.pattern = handler.pattern
        self._off = off

    def off(self) -> bool:
        """Take the handler away. Returns whether it was still there."""
        return self._off(self.name)

    def __repr__(self) -> str:
        return f"<{self.name} handles {self.pattern}>"


class Handling:
    """Handlers of one bot, on the handlers' own loop.

    Args:
        connection: Whose events these are.
        actor: What events act with.
        bot: What a handler gets that asks for ``bot``.

    Attributes:
        router: The handlers.
        bus: Runs them.
        problems: The last failed calls.
        slow: Last hold of the loop by a handler of this bot: seconds, and one line.
    """

    def __init__(self, connection: Connection, *, actor: Actor, bot: Any) -> None:
        self._connection = connection
        self._bot = bot
        self._loop = handler_loop()
        self.router = HandlerTable()
        self.bus = Bus(
            self.router,
            start=self._claim,
            finish=self._finished,
            fetch=self._waiting_in_journal,
            actor=actor,
            extra={"bot": bot},
            do=self._do,
            clock=connection.clock,
        )
        self.problems: deque[Call] = deque(maxlen=PROBLEMS)
        self.slow: tuple[float, str] = 0.0, ""

    def open(self) -> None:
        """Watch the loop."""
        _RUNNING.add(self)
        self._loop.watch(_on_lag)

    async def close(self, *, drain: float) -> None:
        """Let handlers finish for so many seconds, then end them."""
        _RUNNING.discard(self)
        await self._loop.call(self.bus.stop(drain=drain))

    def dispatch(self, rows: Sequence[Row]) -> None:
        """Rows that are on disk. Any thread."""
        self._loop.call_soon(self.bus.dispatch, rows)

    def add(
        self,
        pattern: str,
        function: Callable[..., Any],
        *,
        name: str,
        when: str | Callable[[Event], Any] | None,
        timeout: float | None,
    ) -> Registration:
        """Register a handler; one of the same name is replaced at once.

        Raises:
            HandlerError: A wrong pattern, condition or signature.
        """
        handler = Handler(
            function,
            pattern=pattern,
            name=name,
            when=condition(when) if isinstance(when, str) else when,
            timeout=self._connection.made.handler_timeout if timeout is None else timeout,
        )
        self.router.add(handler)
        if self._connection.opened:
            self._connection.journal.look_ahead()
        return Registration(handler, self.remove)

    def remove(self, name: str) -> bool:
        """Take a handler away. Returns whether there was one of that name."""
        return self.router.remove(name) is not None

    async def _claim(self, pairs: Sequence[tuple[int, Handler]]) -> None:
        """Keep on disk that handlers are about to start."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        now = self._connection.clock.now()
        self._connection.journal.store.mark(
            [
                Mark(seq=seq, handler=handler.name, version=handler.version, state="started", at=now)
                for seq, handler in pairs
            ],
            functools.partial(_resolve_soon, loop, kept),
        )
        await kept

    def _finished(self, calls: Sequence[Call]) -> None:
        """Keep on disk how calls ended, and leave a row for each that failed."""
        journal, made = self._connection.journal, self._connection.made
        now = self._connection.clock.now()
        journal.store.mark(
            [
                Mark(
                    seq=call.seq,
                    handler=call.handler,
                    version=call.version,
                    state=call.state,
                    at=now,
                    seconds=call.seconds,
                    error=call.error,
                    calls_json=call.calls_json,
                )
                for call in calls
            ]
        )
        failed = [call for call in calls if call.error]
        self.problems.extend(failed)
        # A handler of failures that fails must not feed itself.
        shown = [call for call in failed if call.event.type != "handler.failed"]
        journal.keep([failed_event(call, gateway=made.gateway, bot=made.name, now=now) for call in shown])

    async def _do(self, action: Action) -> Any:
        """What a handler gave back to be done."""
        match action:
            case Send(to=to, text=text, markdown=markdown):
                return await self._bot.send(to, text, markdown=markdown)
            case Native(body=body, to=to):
                return await self._bot.send_native(body, to=to)
        call = action.api if isinstance(action, PlatformCall) else type(action).__name__.lower()
        raise NotSupported(call, self._connection.made.gateway)

    async def _waiting_in_journal(self, event: Event, after_seq: int, limit: int) -> list[Row]:
        return await asyncio.to_thread(
            self._connection.journal.store.pending,
            gateway=event.gateway,
            bot=event.bot,
            chat_id=event.chat_id,
            after_seq=after_seq,
            limit=limit,
        )

    def lagged(self, lag: Lag) -> None:
        """Something holds the handlers' loop: say which handler, if it is one of this bot's."""
        for frame in reversed(lag.stack):
            for handler in self.router:
                code = getattr(handler.function, "__code__", None)
                if code and (code.co_filename, code.co_name) == (frame.filename, frame.name):
                    text = f"{handler.name} held its loop for {lag.seconds:.2f} s at line {frame.lineno}"
                    self.slow = lag.seconds, text
                    log.warning("%s: use await, or a plain def", text)
                    return


#: Those that run, for the watchdog of the loop that they share.
_RUNNING: weakref.WeakSet[Handling] = weakref.WeakSet()


def _on_lag(lag: Lag) -> None:
    for handling in tuple(_RUNNING):
        handling.lagged(lag)


def _resolve_soon(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Resolve a future of another thread's loop; the loop may have ended meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))
