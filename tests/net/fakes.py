"""A wire, a peer and a token endpoint that exist in memory only, and small servers on loopback."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

from websockets.utils import accept_key

from botbook._errors import ConnectionLost, RemoteProtocolError
from botbook._net.transport import Transport, memory_pair
from botbook.events import Event
from botbook.wire.contract import Ack, Closing, HttpRequest, Opening, Ready, Response, Token, Verdict

SECRET = "tok-very-secret"


class Wire:
    """``e:ID`` is an event, ``ack:ID`` an ack, ``closing:VERDICT`` a goodbye, ``ready`` says so.

    JSON is parsed, the rest is bad.
    """

    gateway = "test"
    name = "test"

    def __init__(self) -> None:
        self.ready_within: float | None = None
        self.first_frames: tuple[str, ...] = ()
        self.heartbeat: str | None = None
        self.verdicts: dict[int, Verdict] = {}
        self.request: HttpRequest | None = None

    def token_request(self) -> HttpRequest | None:
        return self.request

    def opening(self, token: str | None) -> Opening:
        return Opening(
            url="ws://127.0.0.1/",
            headers={"Authorization": f"Bearer {token}"},
            frames=self.first_frames,
            ready_within=self.ready_within,
        )

    def receive(self, frame: str | bytes, *, at: datetime) -> list[Any]:
        if isinstance(frame, bytes):
            raise RemoteProtocolError("not text", frame=frame)
        kind, _, ident = frame.partition(":")
        match kind:
            case "e":
                return [Event(event_id=ident, type="message.received", at=at, received_at=at, gateway="test")]
            case "ack":
                return [Ack(ident)]
            case "ready":
                return [Ready()]
            case "closing":
                verdict = Verdict(ident)
                return [Closing(verdict, ConnectionLost(1000, f"in words: {ident}"))]
        return [json.loads(frame)["event"]]

    def send(self, action: Any, *, at: datetime) -> list[Any]:
        return []

    def ping(self) -> str | None:
        return self.heartbeat

    def closing(self, code: int, reason: str) -> Verdict:
        return self.verdicts.get(code, Verdict.RETRY)


class Http:
    """Answers from a script: a response, an error to raise, or "hang"; the last one stays."""

    def __init__(self, *script: Any) -> None:
        self.script = deque(script)
        self.calls: list[tuple[HttpRequest, str | None]] = []

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        self.calls.append((request, token))
        step = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if step == "hang":
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        return step

    async def close(self) -> None:
        """Nothing is kept."""


class Peer:
    """The other side of a link: follows a script of dials, then accepts."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.script: deque[Any] = deque()
        self.dials: list[float] = []
        self.openings: list[Opening] = []
        self.ends: list[Transport] = []
        self.always: Any = None

    async def dial(self, opening: Opening) -> Transport:
        self.dials.append(self.clock.monotonic())
        self.openings.append(opening)
        step = self.script.popleft() if self.script else self.always
        if step == "hang":
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        mine, theirs = memory_pair()
        self.ends.append(theirs)
        if callable(step):
            await step(theirs)
        return mine

    @property
    def end(self) -> Transport:
        return self.ends[-1]


def token_request(read: Callable[[Response], Any] | None = None) -> HttpRequest:
    """A request whose answer's body is the token, and its ``life`` header the seconds it lives."""

    def plain(response: Response) -> Token:
        life = response.headers.get("life")
        return Token(response.body.decode(), float(life) if life else None)

    return HttpRequest(method="POST", url="http://127.0.0.1/token", read=read or plain, authorised=False)


def token(value: str, life: float | None = None) -> Response:
    return Response(200, value.encode(), {} if life is None else {"life": str(life)})


@asynccontextmanager
async def tcp_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server of raw bytes on loopback. Yields its port, and hangs up on everybody at the end."""
    writers: list[asyncio.StreamWriter] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await talk(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Answer a WebSocket upgrade by hand. Returns the request's head."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = next(line.partition(": ")[2] for line in head.splitlines() if line.startswith("Sec-WebSocket-Key"))
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
    )
    return head


def wire_frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A server's WebSocket frame."""
    first = bytes([opcode | (0x80 if fin else 0)])
    if len(payload) < 126:
        return first + bytes([len(payload)]) + payload
    if len(payload) < 2**16:
        return first + bytes([126]) + len(payload).to_bytes(2) + payload
    return first + bytes([127]) + len(payload).to_bytes(8) + payload
