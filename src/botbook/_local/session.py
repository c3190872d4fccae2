"""One open socket, seen from an embedded peer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Protocol, runtime_checkable

from botbook._errors import ConnectionLost
from botbook._net.transport import Transport
from botbook.wire.contract import Frame

__all__ = ["Breakable", "Session", "Socket"]


@runtime_checkable
class Breakable(Protocol):
    """A transport over real TCP, which can be broken below the WebSocket."""

    def cut(self, *, reset: bool) -> None:
        """End the TCP connection, by a reset or by its regular end, without a closing frame."""
        ...

    def write_raw(self, data: bytes) -> None:
        """Write bytes past the WebSocket."""
        ...


class Socket:
    """A connection as an embedded peer holds it: silent while the peer is stalled, and breakable.

    Args:
        transport: The connection.
        gate: Awaited before anything is read or written; it holds while the peer is stalled.
    """

    def __init__(self, transport: Transport, gate: Callable[[], Awaitable[None]]) -> None:
        self._transport = transport
        self._gate = gate

    async def send(self, frame: Frame) -> None:
        """Send one frame."""
        await self._gate()
        await self._transport.send(frame)

    async def push(self, frames: Iterable[Frame]) -> None:
        """Send frames to whoever still hears them."""
        with suppress(ConnectionLost):
            for frame in frames:
                await self.send(frame)

    async def receive(self) -> list[Frame]:
        """Everything that has arrived."""
        frames = await self._transport.receive()
        await self._gate()
        return frames

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection with a closing frame."""
        await self._transport.close(code, reason)

    async def cut(self, *, reset: bool) -> None:
        """End the connection without one."""
        if isinstance(self._transport, Breakable):
            self._transport.cut(reset=reset)
        else:
            await self._transport.close(1006)

    async def write_raw(self, data: bytes) -> None:
        """Write bytes that are no WebSocket frame; in memory, where there are none, end it as they would."""
        if isinstance(self._transport, Breakable):
            self._transport.write_raw(data)
        else:
            await self._transport.close(1002, "no WebSocket frame")


class Session:
    """A queue of frames towards one client, and what comes from it.

    Args:
        number: Its place in the list of all sockets, from 1.
        socket: The connection.
        on_frame: Called with each frame that comes.
    """

    def __init__(self, number: int, socket: Socket, *, on_frame: Callable[[Session, Frame], None]) -> None:
        self.number = number
        self.socket = socket
        self._on_frame = on_frame
        self._outbox: deque[tuple[Frame, bool]] = deque()
        self._filled = asyncio.Event()

    def push(self, frame: Frame, *, keep: bool = False) -> None:
        """Queue a frame.

        Args:
            frame: What to send.
            keep: It is an event, and `unsent` gives it back if it does not get out.
        """
        self._outbox.append((frame, keep))
        self._filled.set()

    @property
    def unsent(self) -> list[Frame]:
        """Events that did not get out."""
        return [frame for frame, keep in self._outbox if keep]

    async def run(self) -> tuple[int, str]:
        """Serve until the connection ends.

        Returns:
            Close code and reason.
        """
        writer = asyncio.create_task(self._write())
        try:
            while True:
                for frame in await self.socket.receive():
                    self._on_frame(self, frame)
        except ConnectionLost as lost:
            return lost.code, lost.reason
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            while self._outbox:
                await self.socket.send(self._outbox[0][0])
                self._outbox.popleft()
            self._filled.clear()
            await self._filled.wait()
