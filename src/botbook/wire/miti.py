"""The Miti agent gateway, seen from the client (protocols/miti.md).

One socket brings events and takes streamed answers; sends, history and the token go over REST.
Frames stand in `miti_frames`, what they hold in `miti_content` and `miti_answers`, REST answers in
`miti_rest`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar, Final

from botbook._errors import NotSupported, RemoteProtocolError
from botbook.actions import (
    Action,
    AnswerCompleted,
    AnswerDelta,
    AnswerFailed,
    AnswerStarted,
    History,
    Native,
    Send,
    split_target,
)
from botbook.events import ASSISTANT, SYSTEM, USER, ChatType, Event, Role
from botbook.messages import MessageChain
from botbook.wire.contract import Frame, HttpRequest, Opening, Received, Verdict
from botbook.wire.miti_answers import Answer, answer_event, read_ack
from botbook.wire.miti_content import markdown_content, read_content
from botbook.wire.miti_frames import (
    ACK,
    CANCEL,
    GROUP_AT,
    RECEIVE,
    decode,
    encode,
    from_epoch_ms,
    object_of,
    text_of,
)
from botbook.wire.miti_rest import (
    HISTORY_CAP,
    HISTORY_PATH,
    SEND_PATH,
    TOKEN_PATH,
    SendBody,
    TokenBody,
    read_history,
    read_sent,
    read_token,
)

__all__ = ["GATEWAY_PATH", "MitiWire"]

GATEWAY_PATH: Final = "/agent/gateway"

#: 401 and 403 refuse an upgrade, 1008 and 3000 are the close codes for the same thing (RFC 6455
#: 7.4.1 and the IANA registry). What the live gateway uses is not known (protocols/miti.md 3).
_REAUTH: Final = frozenset({401, 403, 1008, 3000})

_PRIVATE: Final = "si_"
_GROUP: Final = "sg_"

#: Conversations remembered because their id does not follow the pattern.
_ODD_LIMIT: Final = 10_000

_Reader = Callable[[str, dict[str, Any], datetime], Received]


class MitiWire:
    """The five pure methods of `botbook.wire.contract.Wire` for Miti.

    Args:
        base_url: Such as ``https://www.miti.chat/chat``.
        app_id: The agent's id.
        app_secret: Its secret.
        name: Name of the connection, as it stands in events.
        gateway: Name of the gateway, as it stands in events.
    """

    can: ClassVar = frozenset(
        {Send, AnswerStarted, AnswerDelta, AnswerCompleted, AnswerFailed, History, Native}
    )

    def __init__(
        self, *, base_url: str, app_id: str, app_secret: str, name: str = "miti", gateway: str = "miti"
    ) -> None:
        self.gateway = gateway
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._app_id = app_id
        self._app_secret = app_secret
        self._odd: dict[str, str] = {}
        self._readers: dict[str, _Reader] = {
            RECEIVE: self._message,
            GROUP_AT: self._message,
            CANCEL: self._cancel,
            ACK: self._ack,
        }

    # ------------------------------------------------------------------------ opening

    def token_request(self) -> HttpRequest:
        """How to get a token (protocols/miti.md 2)."""
        body: TokenBody = {"app_id": self._app_id, "app_secret": self._app_secret}
        return HttpRequest(
            method="POST",
            url=self._base_url + TOKEN_PATH,
            json=body,
            read=read_token,
            authorised=False,
            repeatable=True,
        )

    def opening(self, token: str | None) -> Opening:
        """How to open the socket: a bearer token and nothing else (protocols/miti.md 3)."""
        scheme, _, rest = self._base_url.partition("://")
        url = f"{'ws' if scheme.lower() == 'http' else 'wss'}://{rest}{GATEWAY_PATH}"
        return Opening(url=url, headers={"Authorization": f"Bearer {token}"} if token else {})

    def ping(self) -> None:
        """No heartbeat of its own: WebSocket pings do."""

    def closing(self, code: int, reason: str) -> Verdict:
        """A fresh token where the old one was refused, else another try; no code is final."""
        return Verdict.REAUTH if code in _REAUTH else Verdict.RETRY

    # ------------------------------------------------------------------------ receiving

    def receive(self, frame: Frame, *, at: datetime) -> list[Received]:
        """Read one frame (protocols/miti.md 4).

        Args:
            frame: As it came.
            at: When it came.

        Raises:
            RemoteProtocolError: It is malformed.
        """
        envelope = decode(frame)
        header = envelope.get("header", {})
        kind = header.get("event_type", "") if type(header) is dict else None
        if type(kind) is not str:
            raise RemoteProtocolError("a frame without a readable header", frame=frame)
        return [self._readers.get(kind, self._unknown)(frame, envelope, at)]  # type: ignore[arg-type]

    def _message(self, frame: str, envelope: dict[str, Any], at: datetime) -> Event:
        """Both message events; one from this app itself is an echo of what it sent."""
        header = envelope["header"]
        event = object_of(envelope.get("event"), "event", frame)
        sender = object_of(event.get("sender"), "sender", frame)
        message = object_of(event.get("message"), "message", frame)
        content = message.get("content")
        text, parts = _read_message(message.get("msg_type"), content, event)
        user_id = text_of(sender.get("user_id"))
        own = user_id == self._app_id != ""
        chat_type, chat_id = self._chat(event, message)
        message_id = text_of(message.get("message_id"))
        event_id = text_of(header.get("event_id")) or _derived_id(frame)
        return Event(
            # The sender's own row has the same id, so that the two are one (bots.md 3b).
            event_id=f"sent:{message_id}" if own and message_id else event_id,
            type="message.sent" if own else "message.received",
            at=from_epoch_ms(header.get("create_time")) or at,
            received_at=at,
            gateway=self.gateway,
            bot=self.name,
            chat_type=chat_type,
            chat_id=chat_id,
            user_id=user_id,
            user_name=text_of(sender.get("name")),
            role=ASSISTANT if own else USER,
            message_id=message_id,
            reply_to=text_of(content.get("ask_msg_id")) if type(content) is dict else "",
            text=text,
            raw_json=frame,
            parts=parts,
        )

    def _cancel(self, frame: str, envelope: dict[str, Any], at: datetime) -> Event:
        header = envelope["header"]
        event = object_of(envelope.get("event"), "event", frame)
        chat_type, chat_id = self._chat({}, event)
        return Event(
            event_id=text_of(header.get("event_id")) or _derived_id(frame),
            type="answer.cancelled",
            at=from_epoch_ms(header.get("create_time")) or at,
            received_at=at,
            gateway=self.gateway,
            bot=self.name,
            chat_type=chat_type,
            chat_id=chat_id,
            role=USER,
            message_id=text_of(event.get("ask_msg_id")),
            reply_to=text_of(event.get("run_id")),
            raw_json=frame,
        )

    def _ack(self, frame: str, envelope: dict[str, Any], at: datetime) -> Received:
        return read_ack(object_of(envelope.get("event"), "event", frame), frame)

    def _unknown(self, frame: str, envelope: dict[str, Any], at: datetime) -> Event:
        """What this version does not know: kept whole, and read as far as it looks like a message."""
        header = envelope.get("header", {})
        event = _object(envelope.get("event"))
        sender, message = _object(event.get("sender")), _object(event.get("message"))
        user_id = text_of(sender.get("user_id"))
        chat_type, chat_id = self._chat(event, message or event)
        return Event(
            event_id=text_of(header.get("event_id")) or _derived_id(frame),
            type="platform.specific",
            at=from_epoch_ms(header.get("create_time")) or at,
            received_at=at,
            gateway=self.gateway,
            bot=self.name,
            chat_type=chat_type,
            chat_id=chat_id,
            user_id=user_id,
            user_name=text_of(sender.get("name")),
            role=self._role(user_id),
            message_id=text_of(message.get("message_id")),
            text=read_content(message.get("content"))[0],
            raw_json=frame,
        )

    def _role(self, user_id: str) -> Role:
        if not user_id:
            return SYSTEM
        return ASSISTANT if user_id == self._app_id else USER

    # ------------------------------------------------------------------------ conversations

    def _chat(self, event: dict[str, Any], message: dict[str, Any]) -> tuple[ChatType, str]:
        """Kind and id of a chat: a group goes by the id that sends need, a private chat by its own."""
        conversation = text_of(message.get("conversation_id"))
        group = text_of(event.get("group_id"))
        if not group and (message.get("session_type") == "group" or conversation.startswith(_GROUP)):
            group = conversation.removeprefix(_GROUP)
        if group:
            if conversation and conversation != _GROUP + group:
                self._remember(group, conversation)
                self._remember(conversation, conversation)
            return "group", group
        if conversation and not conversation.startswith(_PRIVATE):
            self._remember(conversation, conversation)
        private = conversation or message.get("session_type") == "single"
        return "private" if private else "", conversation

    def _remember(self, chat_id: str, conversation: str) -> None:
        self._odd[chat_id] = conversation
        if len(self._odd) > _ODD_LIMIT:
            del self._odd[next(iter(self._odd))]

    def _conversation(self, chat_id: str) -> str:
        """The gateway's name for a chat; ids without a prefix are groups unless seen otherwise."""
        if not chat_id or chat_id.startswith((_PRIVATE, _GROUP)):
            return chat_id
        return self._odd.get(chat_id, _GROUP + chat_id)

    # ------------------------------------------------------------------------ sending

    def send(self, action: Action, *, at: datetime) -> list[Frame | HttpRequest]:
        """Say an action (protocols/miti.md 5, 6).

        Raises:
            LocalProtocolError: The address is none.
            NotSupported: The gateway has no such action.
        """
        match action:
            case Send():
                return [self._send(action)]
            case AnswerStarted() | AnswerDelta() | AnswerCompleted() | AnswerFailed():
                return [self._answer(action, at)]
            case History():
                return [self._history(action)]
            case Native(to=""):
                return [json.dumps(action.body, ensure_ascii=False)]
            case Native():
                return [self._message_request(action.to, action.body)]
        raise NotSupported(type(action).__name__.lower(), self.gateway)

    def _send(self, action: Send) -> HttpRequest:
        content = markdown_content(action.text, action.reply_to) if action.markdown else {"text": action.text}
        body: SendBody = {"msg_type": "stream_full" if action.markdown else "text", "content": content}
        return self._message_request(action.to, body)

    def _message_request(self, to: str, body: SendBody) -> HttpRequest:
        kind, ident = split_target(to)
        addressed: SendBody = {**body, "to_group_id" if kind == "group" else "to_user_id": ident}  # type: ignore[misc]
        return HttpRequest(method="POST", url=self._base_url + SEND_PATH, json=addressed, read=read_sent)

    def _answer(self, action: Answer, at: datetime) -> str:
        conversation = self._conversation(action.run.chat_id)
        event = answer_event(action, agent_id=self._app_id, conversation_id=conversation, at=at)
        return encode(event["event_type"], event, event_id=action.id, app_id=self._app_id, at=at)

    def _history(self, action: History) -> HttpRequest:
        params = {
            "conversation_id": self._conversation(action.chat_id),
            "limit": str(min(max(action.limit, 1), HISTORY_CAP)),
        }
        if action.before:
            params["before_message_id"] = action.before
        url = self._base_url + HISTORY_PATH
        return HttpRequest(method="GET", url=url, params=params, read=read_history, repeatable=True)


def _read_message(msg_type: Any, content: Any, event: dict[str, Any]) -> tuple[str, MessageChain | None]:
    """Text and components; plain text, nearly all there is, takes the short way."""
    if msg_type == "text" and type(content) is dict and type(text := content.get("text")) is str:
        return text, None
    mentioned = text_of(event.get("at_user_id")) if msg_type == "at_text" else ""
    return read_content(content, mentioned=mentioned)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _derived_id(frame: str) -> str:
    """An id for a frame that brings none: the same frame gets the same one again."""
    return "sha256:" + sha256(frame.encode("utf-8", "surrogatepass")).hexdigest()[:32]
