"""The links of one connection: one for most gateways, one a chat where a socket is a chat."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from botbook._clock import Clock
from botbook._errors import NotSupported
from botbook._net.link import Link
from botbook.wire.contract import Wire

__all__ = ["Line", "Lines"]

#: A chat that nobody has asked anything for so long is closed, in seconds.
IDLE: Final = 300.0


@dataclass(slots=True, eq=False)
class Line:
    """A wire and the link that speaks it.

    Attributes:
        wire: The language.
        link: The connection.
        used_at: Last use, on the monotonic clock.
        busy: Whether an answer is coming.
    """

    wire: Wire
    link: Link
    used_at: float = 0.0
    busy: int = 0


class Lines:
    """The first line, and one for each further chat, opened on first use and closed when idle.

    Args:
        first: The line that is always there.
        open_chat: Makes the line of another chat; None where the gateway has no such thing.
        gateway: Name of the gateway.
        clock: Time.
        idle: After so many seconds without use a further line is closed.
    """

    def __init__(
        self,
        first: Line,
        *,
        open_chat: Callable[[str], Line] | None,
        gateway: str,
        clock: Clock,
        idle: float = IDLE,
    ) -> None:
        self.first = first
        self._open_chat = open_chat
        self._gateway = gateway
        self._clock = clock
        self._idle = idle
        self._chats: dict[str, Line] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def chats(self) -> list[str]:
        """Chats that have a line of their own now."""
        return list(self._chats)

    async def get(self, chat: str | None) -> Line:
        """The line of a chat, open.

        Args:
            chat: Which one; None for the first.

        Raises:
            NotSupported: The gateway has no chats of their own.
            BotbookError: It cannot be opened, and why.
        """
        line = self.first if chat is None else await self._line(chat)
        line.used_at = self._clock.monotonic()
        return line

    async def _line(self, chat: str) -> Line:
        if self._open_chat is None:
            raise NotSupported("chat of its own for a question", self._gateway)
        async with self._opening.setdefault(chat, asyncio.Lock()):
            line = self._chats.get(chat)
            if line is None or line.link.state in ("failed", "stopped"):
                line = self._open_chat(chat)
                await line.link.start()
                self._chats[chat] = line
                self._sweep()
            return line

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
        """End every line."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sweeper
        lines = [self.first, *self._chats.values()]
        self._chats.clear()
        await asyncio.gather(*(line.link.stop() for line in lines))
