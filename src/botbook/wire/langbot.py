"""LangBot's pipeline chat, seen from the client (protocols/langbot.md 4).

All clients of a pipeline and session type hear each other, frames are cumulative, and an answer
does not name its question. So the wire remembers the text of each answer that is coming, and the
questions that have none yet.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final
from urllib.parse import quote, urlencode, urlsplit

from botbook._errors import (
    ApiError,
    AuthError,
    BotbookError,
    ConfigError,
    LocalProtocolError,
    NotSupported,
    RemoteProtocolError,
)
from botbook.actions import Abandon, Action, Ask, History, HistoryItem, Send, split_target
from botbook.events import ASSISTANT, SYSTEM, USER, ChatType, Event
from botbook.wire.contract import (
    Closing,
    Frame,
    HttpRequest,
    Opening,
    Outgoing,
    Ready,
    Received,
    Response,
    Token,
    Verdict,
)
from botbook.wire.langbot_bodies import rows_of
from botbook.wire.langbot_frames import (
    BOT_TARGET,
    BROADCAST,
    CONNECTED,
    ERROR,
    PERSON,
    PING,
    PONG,
    RESPONSE,
    USER_MESSAGE,
    Said,
    authenticate,
    decode,
    encode,
    local_time,
    message,
    read_chain,
    read_said,
)
from botbook.wire.langbot_pairs import MEMORY, Answer, Pairs, ident_of, text_of, user_of
from botbook.wire.langbot_rest import IMAGE_TYPES, LangBotRest

__all__ = ["READY_WITHIN", "LangBotWire", "is_failure"]

#: The server says ``connected`` at once, and gives up a silent client after 10 s.
READY_WITHIN: Final = 10.0

#: A clock and its zone differ from ours by a multiple of this.
_ZONE_STEP: Final = timedelta(minutes=15)

#: What a pipeline says where it failed, as an ordinary answer (4.10 and 4.11; the former can be changed).
_FAILURES: Final = frozenset({"Request failed.", "Agent runner execution failed."})
_FAILURE_STARTS: Final = ("Agent runner not found:",)

_TOKEN_HINT: Final = (
    "The chat needs a user token and the workspace: give user and password, or a fresh token. "
    "An API key does not open it."
)

#: Refusals of an opening (protocols/langbot.md 4). Their words follow the server's language on 4.11;
#: what is not known here gets one try with a fresh token.
_REFUSALS: Final[dict[str, tuple[Verdict, Callable[[str], BotbookError]]]] = {
    "Unauthorized": (
        Verdict.REAUTH,
        lambda text: AuthError(
            f"the server refuses the token: {text}", code=401, status=401, hint=_TOKEN_HINT
        ),
    ),
    "Pipeline not found": (
        Verdict.FATAL,
        lambda text: ApiError(text, code=404, status=404, hint="Check the pipeline's uuid."),
    ),
    "session_type must be person or group": (
        Verdict.FATAL,
        lambda text: ApiError(text, code=400, status=400, hint="Use person or group."),
    ),
    "Valid session_id is required": (
        Verdict.FATAL,
        lambda text: ApiError(text, code=400, status=400, hint="A page's session id is a uuid4."),
    ),
    "Internal server error": (
        Verdict.RETRY,
        lambda text: ApiError(text, code=500, status=500, hint="Too many connections? 32 is the default."),
    ),
}

#: Statuses of a refused upgrade that another try may overcome.
_PASSING: Final = frozenset({408, 425, 429})


class LangBotWire:
    """The five pure methods of `botbook.wire.contract.Wire` for one pipeline, or one web page bot.

    Args:
        base_url: Such as ``http://127.0.0.1:5300``.
        pipeline: Uuid of the pipeline; found by itself at the login where the server has one alone; ""
            for a page.
        session_type: ``person`` or ``group``.
        token: A user token, if there is one; it is renewed.
        user: Account, if there is no token.
        password: Its password.
        workspace: Uuid; found by itself where the account has one alone.
        page: Uuid of a web page bot, to speak as its visitor instead of as a user.
        visitor: A uuid4, the visitor's session.
        stream: Whether answers come in pieces. One switch for all clients of the pipeline.
        mention: Whether a question in a group mentions the bot, without which it gets no answer.
        name: Name of the connection, as it stands in events.
        gateway: Name of the gateway, as it stands in events.
    """

    can: ClassVar = frozenset({Ask, Send, Abandon, History})

    def __init__(
        self,
        *,
        base_url: str,
        pipeline: str = "",
        session_type: str = PERSON,
        token: str = "",
        user: str = "",
        password: str = "",
        workspace: str = "",
        page: str = "",
        visitor: str = "",
        stream: bool = True,
        mention: bool = True,
        name: str = "langbot",
        gateway: str = "langbot",
    ) -> None:
        self.gateway = gateway
        self.name = name
        self.rest = LangBotRest(base_url, workspace=workspace)
        self.pipeline = pipeline
        self.session_type = session_type
        self._token, self._user, self._password = token, user, password
        self._page, self._visitor = page, visitor
        self._stream, self._mention = stream, mention
        self._connection = ""
        self._connections: deque[str] = deque(maxlen=MEMORY)
        self._ask_ids: dict[str, str] = {}
        self._refused: Verdict | None = None
        self._pairs = Pairs(group=session_type != PERSON)
        self._offset: timedelta | None = None
        self._ahead = timedelta()
        self._odd = 0
        self._readers: dict[str, Callable[[dict[str, Any], str, datetime], list[Received]]] = {
            CONNECTED: self._connected,
            USER_MESSAGE: self._question,
            RESPONSE: self._response,
            PONG: self._pong,
            BROADCAST: self._broadcast,
            ERROR: self._error,
        }

    @property
    def chat_id(self) -> str:
        """The conversation, as it stands in events."""
        return f"{self.session_type}:{self._page or self.pipeline}"

    # ------------------------------------------------------------------------ opening

    def token_request(self) -> HttpRequest | None:
        """How to get a token: log in, or renew the one that was given; None for a page."""
        if self._page or not (self._token or (self._user and self._password)):
            return None
        if self._user and self._password:
            request = self.rest.login(self._user, self._password)
        else:
            request = self.rest.check_token(self.rest.newest or self._token)
        return request if self.pipeline else self._and_pipeline(request)

    def _and_pipeline(self, request: HttpRequest) -> HttpRequest:
        """A login whose last step finds the pipeline that was not named."""

        def read(response: Response) -> Token | HttpRequest:
            step: Token | HttpRequest = request.read(response)
            if isinstance(step, HttpRequest):
                return self._and_pipeline(step)
            return self.rest.pipelines_by(step, self._choose)

        return replace(request, read=read)

    def _choose(self, rows: Sequence[dict[str, Any]]) -> None:
        named = [f"{row['uuid']} ({row.get('name')})" for row in rows if isinstance(row.get("uuid"), str)]
        if len(named) != 1:
            raise ConfigError(
                f"this server has {len(named)} pipelines",
                hint=f"Set `pipeline` to one of: {', '.join(named[:5])}."
                if named
                else "Make one there first.",
            )
        self.pipeline = named[0].partition(" ")[0]

    def opening(self, token: str | None) -> Opening:
        """How to open the socket: an Origin always, and the first frame that newer servers ask for.

        Servers before 4.10.7 have said ``connected`` by then and ignore it.
        """
        self._connection, self._refused = "", None
        self._pairs.reopened()
        base = urlsplit(self.rest.base_url)
        scheme = {"http": "ws", "https": "wss"}.get(base.scheme, base.scheme)
        if self._page:
            path, query = f"/api/v1/embed/{quote(self._page, safe='')}", [("session_id", self._visitor)]
            hello = authenticate("")
        else:
            path, query = f"/api/v1/pipelines/{quote(self.pipeline, safe='')}", []
            hello = authenticate(token or "", self.rest.workspace)
        query = [("session_type", self.session_type), *query]
        return Opening(
            url=f"{scheme}://{base.netloc}{base.path}{path}/ws/connect?{urlencode(query)}",
            headers={"Origin": f"{'https' if scheme == 'wss' else 'http'}://{base.netloc}"},
            frames=(hello,),
            ready_within=READY_WITHIN,
        )

    def ping(self) -> Frame | None:
        """The server sends no pings and answers these; proxies like to see them."""
        return encode(PING)

    def closing(self, code: int, reason: str) -> Verdict:
        """What the server said before it closed decides; close 1000 alone says nothing."""
        if self._refused is not None:
            return self._refused
        if code in (401, 403):
            return Verdict.REAUTH
        refused = 300 <= code < 500 and code not in _PASSING
        return Verdict.FATAL if refused else Verdict.RETRY

    # ------------------------------------------------------------------------ sending

    def send(self, action: Action, *, at: datetime) -> list[Outgoing]:
        """Say an action. The server echoes questions, so that no row is made of them here.

        Raises:
            LocalProtocolError: An attachment is no picture, or a `Send` is for another kind of chat.
            NotSupported: The gateway has no such action.
        """
        match action:
            case Ask():
                return [self._ask(action, at)]
            case Send():
                return [self._say(action, at)]
            case Abandon():
                if action.silent:  # a cancelled one may still get its answer, and must keep it
                    self._pairs.abandoned(action.ask_id)
                return []
            case History():
                return [self._history(action)]
        raise NotSupported(type(action).__name__.lower(), self.gateway)

    def _ask(self, action: Ask, at: datetime) -> str:
        components = [_picture(key) for key in action.attachments]
        components.append({"type": "Plain", "text": action.text})
        if self.session_type != PERSON and self._mention:
            components.insert(0, {"type": "At", "target": BOT_TARGET})
        self._pairs.asked(action.id, action.text, at)
        return message(components, stream=self._stream)

    def _say(self, action: Send, at: datetime) -> str:
        kind, _ = split_target(action.to)
        if (kind == "group") != (self.session_type == "group"):
            raise LocalProtocolError(
                f"this chat is a {self.session_type} session, and {action.to!r} is not in it",
                hint="Connect again with `--session person` or `--session group`.",
            )
        self._pairs.asked(action.id, action.text, at)
        return message([{"type": "Plain", "text": action.text}], stream=self._stream)

    def _history(self, action: History) -> HttpRequest:
        session = "group" if action.chat_id.startswith("group") else self.session_type
        if action.chat_id.startswith(PERSON):
            session = PERSON

        def read(data: Any) -> list[HistoryItem]:
            said = [(read_said(row, row), row) for row in rows_of(data, "messages")]
            items = [self._item(one, row, session) for one, row in said if one.is_final]
            until = next((i for i, item in enumerate(items) if item.message_id == action.before), len(items))
            return items[max(0, until - action.limit) : until]

        if self._page:
            return self.rest.page_history(self._page, self._visitor, session, read=read)
        return self.rest.history(self.pipeline, session, read=read)

    def _item(self, said: Said, row: dict[str, Any], session: str) -> HistoryItem:
        when, ident = self._utc(said.timestamp), ident_of(session, said)
        return HistoryItem(
            role=said.role,
            text=text_of(said),
            message_id=self._ask_ids.get(ident, ident),
            user_id=user_of(said.connection_id),
            at_ms=None if when is None else round(when.timestamp() * 1000),
            own=said.connection_id in self._connections,
            raw=row,
        )

    # ------------------------------------------------------------------------ receiving

    def receive(self, frame: Frame, *, at: datetime) -> list[Received]:
        """Read one frame.

        Args:
            frame: As it came.
            at: When it came.

        Raises:
            RemoteProtocolError: It is malformed.
        """
        if not isinstance(frame, str):
            raise RemoteProtocolError("a frame that is not text", frame=frame)
        value = decode(frame)
        try:
            return self._readers.get(value["type"], self._unknown)(value, frame, at)
        except RecursionError:
            raise RemoteProtocolError("a frame that is nested too deeply", frame=frame) from None

    def _connected(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        self._connection = _text(value.get("connection_id"))
        if self._connection:
            self._connections.append(self._connection)
        self._learn_zone(value, at)
        return [Ready()]

    def _pong(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        self._learn_zone(value, at)
        return []

    def _question(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """A question: our own, come back as an echo, or somebody else's."""
        said = read_said(value.get("data"), frame)
        ident = ident_of(self.session_type, said)
        own = said.connection_id == self._connection != ""
        asked = self._pairs.heard(said, at, ident=ident, own=own)
        if asked.ask_id:
            self._remember(ident, asked.ask_id)
        return [
            self._event(
                ident, "message.sent" if own else "message.received", self._utc(said.timestamp), frame, at,
                role=USER, user_id=asked.user_id, message_id=asked.message_id, text=text_of(said),
                parts=read_chain(said.components),
            )
        ]  # fmt: skip

    def _remember(self, ident: str, ask_id: str) -> None:
        """Under which id a question of ours stands in the journal, for the history tells the server's."""
        self._ask_ids[ident] = ask_id
        if len(self._ask_ids) > MEMORY:
            del self._ask_ids[next(iter(self._ask_ids))]

    def _response(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """A piece of an answer; frames are cumulative, and what follows the last one is told as an edit."""
        said = read_said(value.get("data"), frame)
        answer = self._pairs.answer(said, at)
        events: list[Received] = []
        if (text := text_of(said)) != answer.text:
            events.append(self._piece(said, answer, text, frame, at))
        if said.is_final and not answer.done:
            answer.done = True
            events.append(self._whole(said, answer, frame, at))
        return events

    def _piece(self, said: Said, answer: Answer, text: str, frame: str, at: datetime) -> Event:
        start, ident = len(answer.text), ident_of(self.session_type, said)
        grown = not answer.done and text.startswith(answer.text)
        answer.text = text
        return self._event(
            f"{ident}:{start}-{len(text)}" if grown else f"{ident}:edited-{answer.frames}",
            "message.delta" if grown else "message.edited",
            at + self._ahead, frame, at, role=ASSISTANT, message_id=ident, reply_to=answer.reply_to,
            text=text[start:] if grown else text,
        )  # fmt: skip

    def _whole(self, said: Said, answer: Answer, frame: str, at: datetime) -> Event:
        """The row of an answer, at the time of its last frame; the server tells that of the first alone."""
        ident = ident_of(self.session_type, said)
        when = self._utc(said.timestamp) if answer.frames == 1 else at + self._ahead
        return self._event(
            ident, "message.received", when, frame, at, role=ASSISTANT, message_id=ident,
            reply_to=answer.reply_to, text=answer.text, error=answer.text if is_failure(answer.text) else "",
            parts=read_chain(said.components),
        )  # fmt: skip

    def _broadcast(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """News to all; any JSON value."""
        what, stamp = value.get("message"), _text(value.get("timestamp"))
        text = what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)
        ident = f"broadcast@{stamp}" if stamp else self._odd_id(BROADCAST, at)
        when = self._utc(stamp)
        return [self._event(ident, "message.received", when, frame, at, role=SYSTEM, text=text)]

    def _error(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """Before ``connected`` it is a refusal and a close follows; later it is a complaint."""
        text = _text(value.get("message")) or "no reason given"
        if self._connection:
            return self._specific(ERROR, frame, at, text, text)
        verdict, error = _REFUSALS.get(text, (Verdict.REAUTH, _unknown_refusal))
        self._refused = verdict
        return [Closing(verdict, error(text))]

    def _unknown(self, value: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """What this version does not know: kept whole."""
        return self._specific(value["type"], frame, at, value["type"], "")

    def _specific(self, kind: str, frame: str, at: datetime, text: str, error: str) -> list[Received]:
        ident = self._odd_id(kind, at)
        return [self._event(ident, "platform.specific", None, frame, at, role=SYSTEM, text=text, error=error)]

    # ------------------------------------------------------------------------ events and times

    def _event(
        self, event_id: str, kind: str, when: datetime | None, frame: str, at: datetime, **fields: Any
    ) -> Event:
        chat_type: ChatType = "private" if self.session_type == PERSON else "group"
        return Event(
            event_id=event_id,
            type=kind,
            at=when or at,
            received_at=at,
            gateway=self.gateway,
            bot=self.name,
            chat_type=chat_type,
            chat_id=self.chat_id,
            raw_json=frame,
            **fields,
        )

    def _odd_id(self, kind: str, at: datetime) -> str:
        self._odd += 1
        return f"{kind}@{at.timestamp():.6f}:{self._odd}"

    def _learn_zone(self, value: dict[str, Any], at: datetime) -> None:
        """Chat times are the server's local time without a zone: a fresh one tells the zone."""
        stamp = local_time(_text(value.get("timestamp")))
        if stamp is not None and stamp.tzinfo is None:
            away = stamp - at.astimezone(UTC).replace(tzinfo=None)
            self._offset = round(away / _ZONE_STEP) * _ZONE_STEP
            self._ahead = away - self._offset

    def _utc(self, stamp: str) -> datetime | None:
        """A chat time in UTC; None while the zone is not known."""
        when = local_time(stamp)
        try:
            if when is None or when.tzinfo is not None:
                return when and when.astimezone(UTC)
            return None if self._offset is None else (when - self._offset).replace(tzinfo=UTC)
        except OverflowError:
            return None


def is_failure(text: str) -> bool:
    """Whether an ordinary answer is how this server says that it failed."""
    return text in _FAILURES or text.startswith(_FAILURE_STARTS)


def _unknown_refusal(text: str) -> BotbookError:
    return ApiError(f"the server refuses the chat: {text}", code="refused", hint=_TOKEN_HINT)


def _picture(key: str) -> dict[str, Any]:
    if key.rpartition(".")[2].lower() not in IMAGE_TYPES:
        raise LocalProtocolError(
            f"{key!r} is no picture",
            hint="The chat takes pictures alone; upload one first, and give its key.",
        )
    return {"type": "Image", "path": key}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
