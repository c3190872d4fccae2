"""The Lambda agent API, embedded: one client a chat, streamed answers, faults (protocols/agent.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote

from botbook._clock import SYSTEM, Clock
from botbook._errors import ConfigError, ConnectionLost, RemoteProtocolError
from botbook._local.agent_persona import FILES, PERSONAS, steps
from botbook._local.mischief import Fault, FaultKind, nearest
from botbook._local.peer import Peer
from botbook._local.query import Query
from botbook._local.record import SentLog
from botbook._local.replies import tokens
from botbook._local.session import Socket
from botbook._net.transport import Transport
from botbook.wire.agent_frames import (
    END,
    ERROR,
    GRACEFUL_DISCONNECT,
    STATUS,
    TEXT_CHUNK,
    Question,
    encode,
    read_question,
)
from botbook.wire.contract import Frame, Response

__all__ = ["AGENT_FAULTS", "WHOLE_PATHS", "AgentGateway"]

#: The one chat of SDK 1.0, which has no fixed path, and where those of SDK 1.1 are.
WHOLE_PATHS: Final = ("/agent_ws/", "/ws/")
_CHATS: Final = "/v1/agent_ws/"

#: Frames that break a rule each.
_POISON: Final[tuple[Frame, ...]] = (
    b"\xff\xfe",
    "no json",
    "[1]",
    '{"type": 7}',
    '{"type": "AGENT_EVENT_TEXT_CHUNK"}',
    '{"type": "AGENT_EVENT_TOOL_RESULT", "result": 1}',
)

#: Every fault of the embedded agent.
AGENT_FAULTS: Final[dict[str, FaultKind]] = {
    "rst": FaultKind("reset the TCP connections", now=True),
    "fin": FaultKind("end the TCP connections without a closing frame", now=True),
    "close": FaultKind("close with a code", {"code": 1001, "reason": ""}, now=True),
    "graceful": FaultKind("say that the container stops, then close", now=True),
    "poison": FaultKind("send malformed frames", now=True),
    "raw": FaultKind("send a frame as it is given", {"frame": ""}, now=True),
    "stall": FaultKind("fall silent for some seconds", {"seconds": 2.0}, now=True),
    "upgrade_status": FaultKind("refuse the upgrade", {"status": 503, "times": 1}),
    "no_status": FaultKind("never say that the chat is ready", {"times": 1}),
    "bad_status": FaultKind("say something else first", {"times": 1}),
    "error": FaultKind("fail the next answer", {"code": "INTERNAL", "details": "broken", "times": 1}),
    "endless": FaultKind("never end the next answer", {"seconds": 0.05, "times": 1}),
    "silent": FaultKind("never answer the next question", {"times": 1}),
    "cut": FaultKind("end the connection in the middle of the next answer", {"after": 3, "times": 1}),
}


class AgentGateway(Peer):
    """The server side of the agent API.

    Args:
        persona: Who answers: ``helper``, ``analyst``, ``searcher``, ``clumsy`` or ``echo``.
        speed: How many times faster than life.
        clock: Where times and delays come from.
        log: Where to note what clients send; default a new one.

    Attributes:
        files: What its workspace holds, by path.

    Raises:
        ConfigError: There is no such persona.
    """

    name = "agent"

    def __init__(
        self,
        *,
        persona: str = "helper",
        speed: float = 1.0,
        clock: Clock = SYSTEM,
        log: SentLog | None = None,
    ) -> None:
        if persona not in PERSONAS:
            raise ConfigError(f"there is no persona {persona!r}", hint=nearest(persona, PERSONAS))
        super().__init__(faults=AGENT_FAULTS, poison=_POISON, clock=clock, log=log)
        self.persona = persona
        self._speed = speed
        self.files: Mapping[str, bytes] = FILES
        self._chats: dict[str, Socket] = {}

    # ------------------------------------------------------------------------ the way in

    def describe(self, base: str) -> dict[str, str]:
        """The ``base_url`` of a client."""
        return {"base_url": "ws" + base.removeprefix("http") + "/"}

    def owns(self, path: str) -> bool:
        """Whether a path is a chat."""
        return _chat_of(path) is not None

    async def upgrade(self, path: str, query: Query, headers: Mapping[str, str]) -> Response | None:
        """Decide on a socket: a chat takes one client.

        Args:
            path: Of the chat.
            query: Unused.
            headers: Unused.

        Returns:
            The refusal, or None.
        """
        chat, refusal = _chat_of(path), None
        if chat is None:
            refusal = Response(404)
        elif made := self._mischief.take("upgrade_status"):
            refusal = Response(made["status"])
        elif chat in self._chats:
            refusal = Response(403)
        self.log.add(self.name, "upgrade", chat=chat, status=refusal.status if refusal else 101)
        return refusal

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], query: Query, body: bytes
    ) -> Response:
        """There is no REST here."""
        return Response(404)

    def open_sockets(self) -> Iterable[Socket]:
        """The sockets that are open now, one a chat."""
        return self._chats.values()

    async def serve(self, transport: Transport, path: str, query: Query) -> None:
        """Serve one chat until its socket ends."""
        chat = _chat_of(path) or "0"
        if chat in self._chats:  # two came at once
            await transport.close(1008, "chat is busy")
            return
        socket = self._chats[chat] = Socket(transport, self.awake)
        questions: asyncio.Queue[Question] = asyncio.Queue()
        work = asyncio.create_task(self._work(socket, questions))
        try:
            await self._read(chat, socket, questions)
        except ConnectionLost as lost:
            self.log.add(self.name, "closed", chat=chat, code=lost.code, reason=lost.reason)
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            del self._chats[chat]

    async def _read(self, chat: str, socket: Socket, questions: asyncio.Queue[Question]) -> None:
        """Take in questions; those that come during an answer wait for its end."""
        while True:
            for frame in await socket.receive():
                try:
                    asked = read_question(frame)
                except RemoteProtocolError as error:
                    self.log.add(self.name, "frame", chat=chat, malformed=str(error))
                    await socket.send(encode(ERROR, code="PARSE_ERROR", details=str(error)))
                    continue
                self.log.add(
                    self.name, "ask", chat=chat, text=asked.text, attachments=list(asked.attachments)
                )
                questions.put_nowait(asked)

    async def _work(self, socket: Socket, questions: asyncio.Queue[Question]) -> None:
        if self._mischief.take("bad_status"):
            await socket.send(encode(TEXT_CHUNK, text="too early"))
        elif not self._mischief.take("no_status"):
            await socket.send(encode(STATUS))
        while True:
            asked = await questions.get()
            await self._answer(socket, asked)

    # ------------------------------------------------------------------------ answering

    async def _answer(self, socket: Socket, asked: Question) -> None:
        if self._mischief.take("silent"):
            return
        if made := self._mischief.take("error"):
            await socket.send(encode(ERROR, code=made["code"], details=made["details"]))
            return
        if made := self._mischief.take("endless"):
            await self._endless(socket, made["seconds"])
        cut = self._mischief.take("cut")
        words = [asked.text]
        for number, step in enumerate(steps(self.persona, asked)):
            if cut and number == cut["after"]:
                await socket.cut(reset=False)
                return
            if step.after:
                await self._clock.sleep(step.after / self._speed)
            await socket.send(step.frame)
            words.append(step.words)
            if step.ends:
                return
        used = tokens(asked.text) + tokens("".join(words[1:]))
        await socket.send(encode(END, tokens_used=used))

    async def _endless(self, socket: Socket, seconds: float) -> None:
        while True:
            await socket.send(encode(TEXT_CHUNK, text="and so on "))
            await self._clock.sleep(seconds / self._speed)

    # ------------------------------------------------------------------------ misbehaving

    def say(self, text: str, *, chat: str = "0") -> None:
        """Let the agent speak without having been asked."""
        if socket := self._chats.get(chat):
            self._spawn(socket.push([encode(TEXT_CHUNK, text=text), encode(END, tokens_used=tokens(text))]))

    def strike(self, made: Fault) -> None:
        """A fault that strikes now; see `AGENT_FAULTS`."""
        if made.kind == "graceful":
            self._each(self._leave)
        else:
            super().strike(made)

    async def _leave(self, socket: Socket) -> None:
        await socket.push([encode(GRACEFUL_DISCONNECT)])
        await socket.close(1001, "the container stops")


def _chat_of(path: str) -> str | None:
    """Which chat a path is, or None."""
    if path.rstrip("/") + "/" in WHOLE_PATHS:
        return "0"
    head, start, chat = path.rpartition(_CHATS)
    chat = unquote(chat.removesuffix("/"))
    return chat if start and not head and chat and "/" not in chat else None
