"""The links of one connection: one for most gateways, one a chat where a socket is a chat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from botbook._clock import Clock
from botbook._errors import ConnectionLost, DeadlineExceeded, NotSupported
from botbook._net.link import Link, LinkState
from botbook.wire.contract import Wire

__all__ = ["Line", "Lines"]

#: A chat that nobody has asked anything for so long is closed, in seconds.
IDLE: Final = 300.0
#: A question waits so long for a link that is being opened again, in seconds.
REOPEN: Final = 10.0
#: And so long for the rest of an answer that was stopped, before the link is opened anew, in seconds.
LEFT_OVER: Final = 1.0


@dataclass(slots=True, eq=False)
class Line:
    """A wire and the link that speaks it.

    Attributes:
        wire: The language.
        link: The connection.
        used_at: Last use, on the monotonic clock.
        busy: How many answers are coming that somebody waits for.
        alone: It takes one question at a time, and what comes belongs to no other.
    """

    wire: Wire
    link: Link
    used_at: float = 0.0
    busy: int = 0
    alone: bool = False

    @property
    def left_over(self) -> bool:
        """Whether the rest of an answer is coming that nobody waits for any more."""
        return self.alone and not self.busy and bool(getattr(self.wire, "asking", ""))


class Lines:
    """The first line, and one for each further chat, opened on first use and closed when idle.

    Args:
        first: The line that is always there.
        open_chat: Makes the line of another chat; None where the gateway has no such thing.
        gateway: Name of the gateway.
        clock: Time.
        ask_chat: The chat of questions that name none; None for the first line.
        idle: After so many seconds without use a further line is closed.
    """

    def __init__(
        self,
        first: Line,
        *,
        open_chat: Callable[[str], Line] | None,
        gateway: str,
        clock: Clock,
        ask_chat: str | None = None,
        idle: float = IDLE,
    ) -> None:
        self.first = first
        self._ask_chat = ask_chat
        self._open_chat = open_chat
        self._gateway = gateway
        self._clock = clock
        self._idle = idle
        self._chats: dict[str, Line] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._sweeper: asyncio.Task[None] | None = None
        self._stopped = False
        self._coming: set[Line] = set()
        first.alone = open_chat is not None

    @property
    def chats(self) -> list[str]:
        """Chats that have a line of their own now."""
        return list(self._chats)

    async def get(self, chat: str | None) -> Line:
        """The line of a chat, open and free of left-overs.

        Args:
            chat: Which one; None for the one that questions go to.

        Raises:
            AgentBusy: Another client has the chat.
            DeadlineExceeded: Its link is down, and did not come back in time.
            NotSupported: The gateway has no chats of their own.
            BotbookError: It cannot be opened, and why.
        """
        chat = self._ask_chat if chat is None else chat
        line = self.first if chat is None else await self._line(chat)
        line.used_at = self._clock.monotonic()
        if line.left_over:
            await self._clear(line)
        if line.link.state is not LinkState.OPEN:
            await self._reopened(line)
        return line

    async def _line(self, chat: str) -> Line:
        if self._open_chat is None:
            raise NotSupported("chat of its own for a question", self._gateway)
        async with self._opening.setdefault(chat, asyncio.Lock()):
            line = self._chats.get(chat)
            if line is None or line.link.state in ("failed", "stopped"):
                line = self._open_chat(chat)
                line.alone = True
                await self._start(line)
                self._chats[chat] = line
                self._sweep()
            return line

    async def _start(self, line: Line) -> None:
        if self._stopped:
            raise ConnectionLost(1001, "the bot was stopped")
        self._coming.add(line)
        try:
            await line.link.start()
        finally:
            self._coming.discard(line)

    async def _clear(self, line: Line) -> None:
        """Let an answer that was stopped run out; one that goes on and on is cut off."""
        until = self._clock.monotonic() + LEFT_OVER
        while line.left_over and self._clock.monotonic() < until:
            await self._clock.sleep(0.02)
        if line.left_over:
            await line.link.renew("the rest of an answer was not wanted")

    async def _reopened(self, line: Line) -> None:
        tasks = [
            asyncio.ensure_future(line.link.wait_open()),
            asyncio.ensure_future(self._clock.sleep(REOPEN)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise line.link.last_error or DeadlineExceeded(f"the link was not back within {REOPEN:g} s")
            tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()

    def _sweep(self) -> None:
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.get_running_loop().create_task(self._close_idle())

    async def _close_idle(self) -> None:
        while self._chats:
            await self._clock.sleep(self._idle / 4)
            now = self._clock.monotonic()
            for chat, line in list(self._chats.items()):
                if not line.busy and now - line.used_at > self._idle:
                    del self._chats[chat]
                    await line.link.stop()

    async def stop(self) -> None:
        """End every line, those too that are being opened."""
        self._stopped = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        lines = [self.first, *self._chats.values(), *self._coming]
        self._chats.clear()
        await asyncio.gather(*(line.link.stop() for line in lines))
