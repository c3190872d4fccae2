"""The Miti gateway, embedded: token, socket, streamed answers, send and history (protocols/miti.md).

It speaks through the codec that the client uses, from the other side, and misbehaves on demand
(`botbook._local.faults`). Sockets are handed in as transports and REST as plain values, so that
the same gateway works in memory and behind a server.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from botbook._clock import SYSTEM, Clock
from botbook._errors import RemoteProtocolError
from botbook._local.answers import Answers
from botbook._local.chats import Chat, Chats, Ids, Stored
from botbook._local.faults import FAULTS, poison
from botbook._local.mischief import Fault
from botbook._local.peer import Peer
from botbook._local.query import Query
from botbook._local.record import SentLog
from botbook._local.rest import MitiRest, refused, unauthorised
from botbook._local.session import Session, Socket
from botbook._local.tokens import Tokens
from botbook._net.transport import Transport
from botbook.actions import AnswerCompleted, AnswerFailed
from botbook.wire.contract import Frame, Response
from botbook.wire.miti import GATEWAY_PATH
from botbook.wire.miti_answers import ANSWERS, Answer, ack_event, read_answer
from botbook.wire.miti_content import markdown_content
from botbook.wire.miti_frames import (
    ACK,
    CANCEL,
    GROUP_AT,
    RECEIVE,
    CancelEvent,
    GroupAtEvent,
    Message,
    MessageEvent,
    decode,
    encode,
    epoch_ms,
    object_of,
    text_of,
)

__all__ = ["APP_ID", "BOT_NAME", "PREFIX", "MitiGateway"]

#: Path of the gateway, part of its base URL (protocols/miti.md 1).
PREFIX: Final = "/chat"
APP_ID: Final = "cli_sim"
BOT_NAME: Final = "bot"

#: Events that wait while no socket is open, and events that can be sent again.
_WAITING: Final = 200_000
_RECENT: Final = 1000


class MitiGateway(Peer):
    """The server side of Miti, for one agent.

    Args:
        clock: Where times and delays come from.
        app_id: The agent's id.
        app_secret: Its secret; default a random one.
        log: Where to note what clients send; default a new one.

    Attributes:
        opened: Set once the first socket is open.
        chats: What was said.
    """

    name = "miti"

    def __init__(
        self,
        *,
        clock: Clock = SYSTEM,
        app_id: str = APP_ID,
        app_secret: str = "",
        log: SentLog | None = None,
    ) -> None:
        super().__init__(faults=FAULTS, clock=clock, log=log)
        self.app_id = app_id
        self.app_secret = app_secret or secrets.token_urlsafe(24)
        self.opened = asyncio.Event()
        self._ids = Ids(clock.now())
        self._tokens = Tokens(clock)
        self.chats = Chats(app_id)
        self._answers = Answers()
        self._rest = MitiRest(
            app_id=app_id,
            app_secret=self.app_secret,
            tokens=self._tokens,
            chats=self.chats,
            faults=self._mischief,
            log=self.log,
            deliver=self._deliver,
        )
        self._sessions: list[Session] = []
        self._count = 0
        self._waiting: deque[Frame] = deque(maxlen=_WAITING)
        self._recent: deque[Frame] = deque(maxlen=_RECENT)

    # ------------------------------------------------------------------------ what happens here

    def say(self, user: str, text: str, *, group: str | None = None, name: str = "") -> str:
        """Let a user write: to the bot, or in a group with a mention of it.

        Args:
            user: User id.
            text: What they write.
            group: Group id, or None for a private message.
            name: How the user is called; groups alone show it (protocols/miti.md 4).

        Returns:
            The message's id.
        """
        if not group:
            return self._write(self.chats.of(user=user), user, name, "text", {"text": text})
        content = {"text": f"@{BOT_NAME} {text}", "atUserList": [self.app_id]}
        return self._write(self.chats.of(group=group), user, name or user, "at_text", content)

    def echo(self, text: str, *, user: str = "", group: str = "", ask_msg_id: str = "") -> str:
        """Let the bot's own account write, as if another program of its owner had answered.

        Returns:
            The message's id.
        """
        chat, content = self.chats.of(user=user, group=group), markdown_content(text, ask_msg_id)
        return self._write(chat, self.app_id, BOT_NAME, "stream_full", content)

    def _write(self, chat: Chat, user: str, name: str, msg_type: str, content: dict[str, Any]) -> str:
        stored = self._store(chat, self._ids.new("msg"), user, name, content)
        message: Message = {
            "message_id": stored.message_id,
            "conversation_id": chat.conversation_id,
            "session_type": "group" if chat.group else "single",
            "msg_type": msg_type,
            "content": content,
            "send_time": str(epoch_ms(stored.at)),
        }
        body: MessageEvent = {"sender": {"user_id": user}, "message": message}
        if chat.group:
            body["sender"]["name"] = name
        if msg_type == "at_text":
            mention: GroupAtEvent = {"group_id": chat.group, "at_user_id": self.app_id, **body}
            self.push(self._frame(GROUP_AT, mention))
        else:
            self.push(self._frame(RECEIVE, body))
        return stored.message_id

    def _store(self, chat: Chat, message_id: str, user: str, name: str, content: dict[str, Any]) -> Stored:
        stored = Stored(
            message_id=message_id,
            user_id=user,
            name=name,
            own=user == self.app_id,
            content=content,
            at=self._clock.now(),
        )
        chat.messages.append(stored)
        return stored

    def _deliver(self, chat: Chat, content: dict[str, Any]) -> Stored:
        """A whole message of the client."""
        chat.answers += 1
        return self._store(chat, self._ids.new("msg"), self.app_id, BOT_NAME, content)

    def answers(self, *, user: str = "", group: str = "") -> int:
        """How many answers the client has given in a chat, begun ones included."""
        return self.chats.of(user=user, group=group).answers

    def written(self, run_id: str) -> str:
        """What has come of an answer that is being streamed."""
        return self._answers.written(run_id)

    def cancel(self, run_id: str = "") -> str:
        """Let the asker stop a streamed answer.

        Args:
            run_id: Which; default the newest.

        Returns:
            Its run id.

        Raises:
            LocalProtocolError: No such answer is being streamed.
        """
        run = self._answers.find(run_id)
        body: CancelEvent = {
            "run_id": run.run_id,
            "ask_msg_id": run.question_id,
            "conversation_id": run.chat_id,
        }
        self.push(self._frame(CANCEL, body))
        return run.run_id

    def _frame(self, event_type: str, body: Mapping[str, Any]) -> str:
        event_id, at = self._ids.new("evt"), self._clock.now()
        return encode(event_type, body, event_id=event_id, app_id=self.app_id, at=at)

    def push(self, frame: Frame) -> None:
        """Send a frame to every open socket; while there is none, it waits."""
        self._recent.append(frame)
        if self._sessions:
            self._to_all([frame])
        elif not self._mischief.take("drop_while_away"):
            self._waiting.append(frame)

    def _to_all(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            for session in self._sessions:
                session.push(frame, keep=True)

    # ------------------------------------------------------------------------ misbehaving

    def strike(self, made: Fault) -> None:
        """A fault that strikes now; see `botbook._local.faults.FAULTS`."""
        match made.kind:
            case "raw":
                self._each(lambda socket: socket.write_raw(made["data"]))
            case "poison":
                self._to_all(poison(made["which"]))
            case "duplicate":
                self._to_all(self._last(made["last"]))
            case "token_revoked":
                self._tokens.revoke()
            case _:
                super().strike(made)

    def _last(self, count: int) -> list[Frame]:
        return list(self._recent)[-count:] if count > 0 else []

    async def _late(self) -> None:
        await self.awake()
        if slow := self._mischief.take("slow"):
            await self._clock.sleep(slow["seconds"])

    def reset(self) -> None:
        """Behave again, and forget what was said and what waits. Sockets and tokens stay."""
        super().reset()
        self.chats.clear()
        self._answers.clear()
        self._waiting.clear()
        self._recent.clear()

    # ------------------------------------------------------------------------ sockets

    def open_sockets(self) -> list[Socket]:
        """The sockets that are open now."""
        return [session.socket for session in self._sessions]

    def status(self) -> dict[str, int]:
        """Sockets that are open, and events that wait for one."""
        return {"sockets": self.sockets, "queued": self.queued}

    @property
    def queued(self) -> int:
        """How many events wait for a socket."""
        return len(self._waiting)

    def describe(self, base: str) -> dict[str, str]:
        """Settings of a client: ``base_url``, ``app_id`` and ``app_secret``."""
        return {"base_url": base + PREFIX, "app_id": self.app_id, "app_secret": self.app_secret}

    def owns(self, path: str) -> bool:
        """Whether a path is below the prefix ``/chat``."""
        return path.startswith(PREFIX + "/")

    async def upgrade(self, path: str, query: Query, headers: Mapping[str, str]) -> Response | None:
        """Decide on a socket: it needs a token.

        Args:
            path: Whole.
            query: Unused.
            headers: Of the upgrade, lower-case names.

        Returns:
            The refusal, or None.
        """
        if path != PREFIX + GATEWAY_PATH:
            return Response(404)
        await self._late()
        refusal = None
        if made := self._mischief.take("upgrade_status"):
            refusal = refused(made)
        elif not self._tokens.accepts(headers):
            refusal = unauthorised()
        self.log.add(self.name, "upgrade", status=refusal.status if refusal else 101)
        return refusal

    async def serve(self, transport: Transport, path: str, query: Query) -> None:
        """Serve one socket until it ends."""
        self._count += 1
        session = Session(self._count, Socket(transport, self.awake), on_frame=self._received)
        for frame in self._missed():
            session.push(frame, keep=True)
        self._sessions.append(session)
        self.opened.set()
        try:
            code, reason = await session.run()
            self.log.add(self.name, "closed", socket=session.number, code=code, reason=reason)
        finally:
            self._sessions.remove(session)
            if not self._sessions:
                self._waiting.extendleft(reversed(session.unsent))

    def _missed(self) -> list[Frame]:
        """What a new socket gets first; it waits no longer."""
        again = self._mischief.take("duplicate")
        repeated = self._last(again["last"]) if again else []
        known = set(repeated)
        missed = [*repeated, *(frame for frame in self._waiting if frame not in known)]
        self._waiting.clear()
        return missed

    def _received(self, session: Session, frame: Frame) -> None:
        """A frame from a client: noted, and applied if it is part of an answer."""
        try:
            envelope = decode(frame)
            header = object_of(envelope.get("header"), "header")
            event = object_of(envelope.get("event"), "event")
        except RemoteProtocolError as error:
            self.log.add(self.name, "frame", socket=session.number, malformed=str(error))
            return
        self.log.add(self.name, "frame", socket=session.number, frame=envelope)
        event_type = text_of(header.get("event_type"))
        if event_type in ANSWERS:
            self._answer(session, read_answer(event_type, event, event_id=text_of(header.get("event_id"))))

    def _answer(self, session: Session, given: Answer) -> None:
        if not isinstance(given, AnswerCompleted | AnswerFailed):
            self._apply(given)
            return
        made = self._mischief.take("ack_refused")
        if not made:
            self._apply(given)
        if not self._mischief.take("ack_lost"):
            session.push(self._frame(ACK, ack_event(given, error=made["error"] if made else "")))

    def _apply(self, given: Answer) -> None:
        news, run = self._answers.take(given), given.run
        kind, _, ident = run.to.partition(":")
        chat = self.chats.of(user=ident) if kind == "user" else self.chats.of(group=ident)
        chat.answers += news.begun
        if news.text is not None:
            self._store(chat, run.message_id, self.app_id, BOT_NAME, {"text": news.text})

    # ------------------------------------------------------------------------ REST

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], query: Query, body: bytes
    ) -> Response:
        """Answer one REST call.

        Args:
            method: Upper case.
            path: With the prefix ``/chat``.
            headers: Lower-case names.
            query: Decoded.
            body: Undecoded.
        """
        await self._late()
        return self._rest.answer(method, path.removeprefix(PREFIX), headers, query, body)
