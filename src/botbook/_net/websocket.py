"""The `websockets` library behind `botbook._net.transport`: imported late, and the only door to it.

The library speaks the protocol. What is ours is the inbox: frames are gathered as they are parsed and
handed out all at once, which costs less than a queue and a coroutine a frame. Settings that differ from
the library's:

- no compression: it costs more CPU than chat frames save;
- no redirects: they could carry a token elsewhere (protocols/miti.md 10, defect 17);
- reading pauses at 4 MiB that nobody took, instead of at 16 frames;
- anything heard counts as life, not the pong alone, and a pause of ours is not the peer's silence;
- text that is no UTF-8 is handed out as bytes, and a frame up to 16 times too long is handed out whole,
  so that one bad frame is counted and does not end the connection;
- its log is silent: at DEBUG it would print the bearer token (protocols/miti.md 10, defect 19).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from websockets.asyncio import client
from websockets.exceptions import InvalidHandshake, InvalidStatus, ProxyError, WebSocketException
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN, Event

from botbook._config import checked_url
from botbook._errors import (
    BotbookError,
    ConfigError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
    excerpt,
)
from botbook._net.backoff import retry_after
from botbook._net.proxy import proxy_for
from botbook._net.reach import check_headers, origin, unreachable
from botbook.wire.contract import Frame, Opening

__all__ = ["WebSocketTransport", "connect"]

#: Where the library itself ends the connection, in multiples of the longest good frame.
_HARD_LIMIT: Final = 16
#: Unread frames at which reading pauses, in bytes, and what each frame counts beside its payload.
_INBOX_LIMIT: Final = 4 * 2**20
_FRAME_COST: Final = 64
#: How long a close waits for the peer's part of it, in seconds.
_CLOSE_WAIT: Final = 0.1
#: A close frame holds 123 bytes of reason (RFC 6455 5.5).
_REASON_BYTES: Final = 123

_TEXT: Final = Opcode.TEXT
_BINARY: Final = Opcode.BINARY
_CONT: Final = Opcode.CONT

_SILENT: Final = logging.Logger("botbook.websocket", logging.CRITICAL + 1)


class _Connection(client.ClientConnection):
    """The library's connection, with a list for an inbox and a heartbeat of its own."""

    def __init__(self, *args: Any, ping: tuple[float, float], **options: Any) -> None:
        super().__init__(*args, **options)
        self._ping_interval, self._ping_timeout = ping
        self._inbox: list[Frame] = []
        self._unread = 0
        self._reading_paused = False
        self._partial: bytearray | None = None
        self._partial_text = False
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._heard = False

    # ------------------------------------------------------------------------ from the library

    def start_keepalive(self) -> None:
        """Begin to ping; the library calls this once the upgrade went well."""
        self._timer = self.loop.call_later(self._ping_interval, self._send_ping)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        super().data_received(data)
        if self._inbox:
            self._wake()
        if self.protocol.state is not OPEN:
            self._end()
            if self.protocol.handshake_exc is not None:
                self.transport.abort()  # the library would wait for the peer to hang up

    def process_event(self, event: Event) -> None:
        if not isinstance(event, WireFrame):
            super().process_event(event)
            return
        opcode = event.opcode
        if opcode is _TEXT or opcode is _BINARY:
            if event.fin:
                self._keep(event.data, opcode is _TEXT)
            else:
                self._partial, self._partial_text = bytearray(event.data), opcode is _TEXT
        elif opcode is _CONT:
            self._continue(event)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._end()

    # ------------------------------------------------------------------------ inbox

    def _continue(self, frame: WireFrame) -> None:
        assert self._partial is not None  # the library checks the order of fragments
        self._partial += frame.data
        if frame.fin:
            self._keep(self._partial, self._partial_text)
            self._partial = None

    def _keep(self, data: bytes | bytearray | memoryview, is_text: bool) -> None:
        try:
            self._inbox.append(str(data, "utf-8") if is_text else bytes(data))
        except UnicodeDecodeError:
            self._inbox.append(bytes(data))
        self._unread += len(data) + _FRAME_COST
        if self._unread > _INBOX_LIMIT and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    async def take(self) -> list[Frame]:
        """Everything that has arrived; waits for the first frame."""
        while not self._inbox:
            if self._ended:
                raise self.lost()
            self._waiter = self.loop.create_future()
            await self._waiter
        frames, self._inbox, self._unread = self._inbox, [], 0
        if self._reading_paused:
            self._reading_paused = False
            self.transport.resume_reading()
        return frames

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self) -> None:
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._wake()

    def lost(self) -> ConnectionLost:
        """How the connection ended: the peer's words, else why this side gave up."""
        close = self.protocol.close_rcvd or self.protocol.close_sent
        return ConnectionLost(close.code, close.reason) if close else ConnectionLost()

    # ------------------------------------------------------------------------ outbox

    async def put(self, frame: Frame) -> None:
        """Send one frame, and wait while the peer is slow to take what was sent."""
        if self.protocol.state is not OPEN or self._ended:
            raise self.lost()
        if isinstance(frame, str):
            self.protocol.send_text(frame.encode())
        else:
            self.protocol.send_binary(frame)
        try:
            self.send_data()
            await self.drain()
        except OSError:
            raise self.lost() from None

    async def shut(self, code: int, reason: str) -> None:
        """Say goodbye, wait a moment for the answer, and hang up."""
        try:
            if self.protocol.state is OPEN:
                words = reason.encode()[:_REASON_BYTES].decode(errors="ignore")
                with contextlib.suppress(WebSocketException, OSError):
                    self.protocol.send_close(code, words)
                    self.send_data()
            await asyncio.wait({self.connection_lost_waiter}, timeout=_CLOSE_WAIT)
        finally:
            self.transport.abort()
        await asyncio.wait({self.connection_lost_waiter}, timeout=_CLOSE_WAIT)

    # ------------------------------------------------------------------------ heartbeat

    def _send_ping(self) -> None:
        self._heard = False
        self.protocol.send_ping(b"")
        self.send_data()
        self._timer = self.loop.call_later(self._ping_timeout, self._check)

    def _check(self) -> None:
        if self._heard or self._reading_paused:
            self._timer = self.loop.call_later(self._ping_interval, self._send_ping)
            return
        self.protocol.fail(1011, f"no answer to a ping for {self._ping_timeout:g} s")
        self.transport.abort()
        self._end()


class WebSocketTransport:
    """A `botbook._net.transport.Transport` over a WebSocket.

    Args:
        connection: An open one.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def send(self, frame: Frame) -> Coroutine[Any, Any, None]:
        """Send one frame."""
        return self._connection.put(frame)

    def receive(self) -> Coroutine[Any, Any, list[Frame]]:
        """Everything that has arrived."""
        return self._connection.take()

    def close(self, code: int = 1000, reason: str = "") -> Coroutine[Any, Any, None]:
        """End the connection."""
        return self._connection.shut(code, reason)


class _Connect(client.connect):
    """The library's dialler, made to follow no redirect."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def connect(
    opening: Opening,
    *,
    max_bytes: int,
    open_timeout: float,
    ping_interval: float,
    ping_timeout: float,
    trust_env: bool,
) -> WebSocketTransport:
    """Open a WebSocket; the options are those of `botbook._net.transport.open_websocket`."""
    checked_url(opening.url, schemes=("ws", "wss"))
    check_headers(opening.headers)
    try:
        return WebSocketTransport(
            await _Connect(
                opening.url,
                additional_headers=dict(opening.headers),
                user_agent_header="botbook",
                compression=None,
                proxy=proxy_for(opening.url, trust_env=trust_env),
                open_timeout=open_timeout,
                max_size=_HARD_LIMIT * max_bytes,
                max_queue=None,
                logger=_SILENT,
                create_connection=functools.partial(_Connection, ping=(ping_interval, ping_timeout)),  # type: ignore[arg-type]
            )
        )
    except (OSError, WebSocketException) as error:
        raise _mapped(error, origin(opening.url), open_timeout) from None


# ---------------------------------------------------------------------------- the error map


def _mapped(error: Exception, where: str, timeout: float) -> BotbookError:
    """The one place where errors of the library and of the system become our own."""
    match error:
        case TimeoutError():
            return DeadlineExceeded(
                f"{where} did not open a WebSocket within {timeout:g} s",
                hint="Check the address; a firewall or a busy server answers like this.",
            )
        case InvalidStatus():
            return _refused(error, where)
        case ProxyError():
            return ConnectError(
                f"the proxy did not let a connection to {where} through",
                hint="Check HTTPS_PROXY, or name the host in NO_PROXY.",
            )
        case InvalidHandshake():
            return HandshakeError(f"{where} does not answer like a WebSocket")
        case OSError():
            return unreachable(error, where)
        case _:
            return ConfigError(f"{where} is no address of a WebSocket")


def _refused(error: InvalidStatus, where: str) -> HandshakeError:
    response = error.response
    status = response.status_code
    body = excerpt((response.body or b"").decode(errors="replace").strip())
    return HandshakeError(
        f"{where} refused the WebSocket with HTTP {status}" + (f": {body}" if body else ""),
        status=status,
        retry_after=retry_after(response.headers.get("Retry-After"), now=datetime.now(UTC)),
        hint=_hint(status, response.headers.get("Location")),
    )


def _hint(status: int, location: str | None) -> str | None:
    if status in (401, 403):
        return "Check the credentials of this profile, and that the chat is not in use elsewhere."
    if 300 <= status < 400 and location:
        return f"It points to {excerpt(location)}; if that is right, make it the base URL."
    if status in (429, 503):
        return "The gateway is busy; try again a little later."
    return None
