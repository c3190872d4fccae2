"""What a link needs of a connection: frames out, frames in, an end."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections import deque
from typing import Final, Protocol

from botbook._errors import ConnectionLost
from botbook.wire.contract import Frame, Opening

__all__ = ["MAX_BYTES", "Transport", "load", "memory_pair", "open_websocket"]

#: Longest frame that is read, in bytes (protocols/miti.md 3).
MAX_BYTES: Final = 2**20
#: Frames on their way through memory before the sender has to wait.
_IN_FLIGHT: Final = 4096


class Transport(Protocol):
    """One open connection."""

    async def send(self, frame: Frame) -> None:
        """Send one frame.

        Raises:
            ConnectionLost: The connection has ended.
        """
        ...

    async def receive(self) -> list[Frame]:
        """Everything that has arrived, in order: one frame at least.

        Raises:
            ConnectionLost: The connection has ended and its last frame was handed out.
        """
        ...

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection. May be called again, never raises, takes 0.2 s at the most.

        Args:
            code: WebSocket close code.
            reason: A word to the peer.
        """
        ...


async def open_websocket(
    opening: Opening,
    *,
    max_bytes: int = MAX_BYTES,
    open_timeout: float = 8.0,
    ping_interval: float = 20.0,
    ping_timeout: float = 10.0,
    trust_env: bool = True,
) -> Transport:
    """Open a WebSocket. Redirects are not followed.

    A frame longer than `max_bytes` is still handed out, for the link to count, as long as it is
    not longer than sixteen times that; then the connection ends with close code 1009.

    Args:
        opening: Where to, and with which headers. Its frames are for the caller to send.
        max_bytes: Longest good frame, in bytes.
        open_timeout: For all of TCP, TLS, proxy and upgrade, in seconds.
        ping_interval: Seconds between pings.
        ping_timeout: Seconds of silence after a ping that end the connection; a dead peer is
            noticed within the sum of both.
        trust_env: Whether proxy settings of the environment hold; see `botbook._net.proxy`.

    Raises:
        ConnectError: Nobody answers.
        HandshakeError: Somebody answers, but TLS failed, or it is no WebSocket, or it refuses.
        DeadlineExceeded: No answer in time.
        ConfigError: The address or the proxy is unfit.
    """
    await load("websockets.asyncio.client")
    from botbook._net import websocket

    return await websocket.connect(
        opening,
        max_bytes=max_bytes,
        open_timeout=open_timeout,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        trust_env=trust_env,
    )


async def load(name: str) -> None:
    """Import a large library aside, so that it does not hold up the other connections of the loop."""
    if name not in sys.modules:
        await asyncio.to_thread(importlib.import_module, name)


def memory_pair() -> tuple[Transport, Transport]:
    """Two ends of a connection in memory, for one event loop."""
    left, right = _MemoryEnd(), _MemoryEnd()
    left.peer, right.peer = right, left
    return left, right


class _MemoryEnd:
    """One end: what its peer sent waits here."""

    peer: _MemoryEnd

    def __init__(self) -> None:
        self._inbox: deque[Frame] = deque()
        self._changed = asyncio.Event()
        self._end: tuple[int, str] | None = None

    async def send(self, frame: Frame) -> None:
        peer = self.peer
        while self._end is None and len(peer._inbox) >= _IN_FLIGHT:
            self._changed.clear()
            await self._changed.wait()
        if self._end is not None:
            raise ConnectionLost(*self._end)
        peer._inbox.append(frame)
        peer._changed.set()

    async def receive(self) -> list[Frame]:
        while not self._inbox:
            if self._end is not None:
                raise ConnectionLost(*self._end)
            self._changed.clear()
            await self._changed.wait()
        frames = list(self._inbox)
        self._inbox.clear()
        self.peer._changed.set()
        return frames

    async def close(self, code: int = 1000, reason: str = "") -> None:
        for end in (self, self.peer):
            end._end = end._end or (code, reason)
            end._changed.set()
