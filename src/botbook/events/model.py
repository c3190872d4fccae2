"""One model for what happens in a chat, whatever the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from botbook._errors import LocalProtocolError
from botbook.events import reading, writing
from botbook.events.entities import Group, Member, User
from botbook.messages import MessageChain, Plain
from botbook.messages._json import overlaid

__all__ = [
    "ASSISTANT",
    "CANCEL",
    "DISLIKE",
    "EVENT_TYPES",
    "LIKE",
    "SYSTEM",
    "USER",
    "Actor",
    "ChatType",
    "Event",
    "Role",
    "from_json",
    "from_webhook",
]

Role = Literal["user", "assistant", "system"]
ChatType = Literal["private", "group", ""]

USER: Final = "user"
ASSISTANT: Final = "assistant"
SYSTEM: Final = "system"

LIKE: Final = 1
DISLIKE: Final = 2
CANCEL: Final = 3

#: Every type that botbook makes itself or knows from LangBot, and what it says.
EVENT_TYPES: Final[dict[str, str]] = {
    "message.received": "somebody wrote",
    "message.sent": "this bot wrote, or its message came back as an echo",
    "message.delta": "a piece of an answer that is being streamed",
    "message.edited": "a message, or what has come of an answer, was replaced",
    "message.deleted": "a message was taken back",
    "message.reaction": "somebody put an emoji on a message, or took it off",
    "answer.cancelled": "the asker stopped an answer",
    "feedback.received": "somebody rated an answer",
    "group.member_joined": "somebody came into a group",
    "group.member_left": "somebody left a group, or was made to",
    "group.member_banned": "somebody may not write in a group",
    "group.member_unbanned": "somebody may write in a group again",
    "group.info_updated": "a group has another name or description",
    "friend.request_received": "somebody wants to be a friend",
    "friend.added": "somebody became a friend",
    "friend.removed": "somebody is no friend any more",
    "bot.invited_to_group": "the bot was asked into a group",
    "bot.removed_from_group": "the bot was put out of a group",
    "bot.muted": "the bot may not write in a group",
    "bot.unmuted": "the bot may write in a group again",
    "agent.tool_call": "an agent called a tool",
    "agent.tool_result": "a tool answered",
    "agent.progress": "news from inside a tool",
    "agent.file": "an agent gave a file",
    "handler.failed": "a handler raised or ran out of time",
    "connection.opened": "a link is up",
    "connection.closed": "a link is down",
    "connection.gap": "time in which events may have been missed",
    "box.exec": "a command ran in a sandbox",
    "platform.specific": "what botbook does not know, kept whole in raw",
}


class Actor(Protocol):
    """What an event needs to act: a bot, as the handler's side sees it.

    Called where a loop runs, as in an ``async def`` handler, each method returns an awaitable;
    called elsewhere, as in a plain ``def``, it has acted when it returns.
    """

    def reply(self, event: Event, text: str, *, markdown: bool = True) -> Any:
        """Answer an event."""
        ...

    def answer(self, event: Event) -> Any:
        """Open a streamed answer to an event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    The attributes are the columns of `bot.events()`, in the same order. What does not apply is
    "" for text and None for numbers.

    Attributes:
        event_id: The gateway's id; unique for one gateway and bot.
        type: Dotted name, one of `EVENT_TYPES` or a gateway's own.
        at: When it happened, by the server's clock, in UTC.
        received_at: When it arrived here, in UTC.
        gateway: ``miti``, ``agent``, ``langbot``, ``box`` or ``sim``.
        bot: Name of the connection.
        chat_type: ``private``, ``group`` or "".
        chat_id: The conversation.
        user_id: Who did it.
        user_name: Their name, if the gateway tells.
        role: ``user``, ``assistant`` or ``system``.
        message_id: The message it is about.
        reply_to: The message or event it answers.
        text: Plain text.
        latency_s: From the question to this, in seconds; of ``connection.gap`` its length.
        feedback_id: The rating it belongs to.
        feedback_type: 1 like, 2 dislike, 3 cancel.
        feedback_reasons: Reasons the user ticked.
        tokens: Tokens used.
        error: Error text.
        recovered: It was fetched after a gap and did not arrive by itself.
        raw_json: The frame as it came, JSON text.
    """

    event_id: str
    type: str
    at: datetime
    received_at: datetime
    gateway: str
    bot: str = ""
    chat_type: ChatType = ""
    chat_id: str = ""
    user_id: str = ""
    user_name: str = ""
    role: Role = "system"
    message_id: str = ""
    reply_to: str = ""
    text: str = ""
    latency_s: float | None = None
    feedback_id: str = ""
    feedback_type: int | None = None
    feedback_reasons: tuple[str, ...] = ()
    tokens: int | None = None
    error: str = ""
    recovered: bool = False
    raw_json: str = field(default="", repr=False)
    parts: MessageChain | None = field(default=None, repr=False)
    actor: Actor | None = field(default=None, repr=False, compare=False)

    @property
    def raw(self) -> Any:
        """The frame as it came, parsed anew at each call; None if there was none."""
        return json.loads(self.raw_json) if self.raw_json else None

    @property
    def chain(self) -> MessageChain:
        """The message as components."""
        if self.parts is not None:
            return self.parts
        raw = reading.unified(self)
        found = raw.get(reading.shape_of(self.type).chain) if raw else None
        chain = MessageChain.from_json(found) if isinstance(found, list) else None
        if chain is not None and chain.text == self.text:
            return chain
        return MessageChain([Plain(text=self.text)] if self.text else [])

    @property
    def user(self) -> User:
        """Who did it, with all that the gateway tells of them."""
        return writing.user(self)

    @property
    def group(self) -> Group | None:
        """The group it is about, with all that the gateway tells of it; None if there is none."""
        return writing.group(self)

    @property
    def member(self) -> Member | None:
        """The sender's place in the group, if the gateway tells it."""
        found = (reading.unified(self) or {}).get("sender_member")
        return Member.from_json(found) if isinstance(found, dict) else None

    @property
    def operator(self) -> User | None:
        """Who made it happen to somebody else, such as an admin; None if the gateway does not tell."""
        found = (reading.unified(self) or {}).get("operator")
        return User.from_json(found) if isinstance(found, dict) else None

    @property
    def old_name(self) -> str:
        """What LangBot called the type before 4.11, such as ``FriendMessage``; "" if it had none."""
        return writing.old_name(self)

    @property
    def target(self) -> str:
        """Where an answer goes: ``user:ID`` or ``group:ID``."""
        return f"group:{self.chat_id}" if self.chat_type == "group" else f"user:{self.user_id}"

    def to_json(self, *, old: bool = False) -> dict[str, Any]:
        """The event as LangBot's unified event (protocols/langbot.md 8).

        One that was read from JSON is that JSON again, with what was changed since. Columns that
        LangBot's form has no key for are kept under ``botbook``, so that `from_json` gives them back.

        Args:
            old: In the form before 4.11, for messages and ratings alone; says less.

        Raises:
            LocalProtocolError: There was no such event before 4.11.
        """
        if old:
            return writing.old_body(self)
        raw = reading.unified(self)
        if raw is None:
            return self._with_rest(writing.body(self), {})
        known = {"event_id": self.event_id, "gateway": self.gateway, "bot": self.bot}
        before = from_json(raw, received_at=self.received_at, **known)
        written = overlaid(raw, writing.body(before), writing.body(self))
        return self._with_rest(written, {"received_at": self.received_at, **known})

    def _with_rest(self, written: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        """Add those columns that would not come back."""
        back = from_json(written, **known)
        rest = {name: getattr(self, name) for name in _COLUMNS if getattr(self, name) != getattr(back, name)}
        for name, value in rest.items():
            rest[name] = value.isoformat() if isinstance(value, datetime) else value
        return written | ({reading.OWN: {**written.get(reading.OWN, {}), **rest}} if rest else {})

    def reply(self, text: str, *, markdown: bool = True) -> Any:
        """Answer in the same chat. Await it in an ``async def`` handler.

        Args:
            text: What to say.
            markdown: Whether `text` is markdown.

        Raises:
            LocalProtocolError: The event did not come through a handler.
        """
        return self._actor().reply(self, text, markdown=markdown)

    def answer(self) -> Any:
        """Open a streamed answer: ``async with event.answer() as a: await a.write("…")``.

        Raises:
            LocalProtocolError: The event did not come through a handler.
        """
        return self._actor().answer(self)

    def bind(self, actor: Actor) -> None:
        """Make this event able to act. The one thing about it that is not frozen."""
        object.__setattr__(self, "actor", actor)

    def _actor(self) -> Actor:
        if self.actor is None:
            raise LocalProtocolError(
                "this event has no bot to answer with", hint="Use `bot.reply(event, text)` outside a handler."
            )
        return self.actor


_COLUMNS: Final = tuple(f.name for f in fields(Event) if f.name not in ("type", "raw_json", "parts", "actor"))


def from_json(
    obj: Any,
    *,
    event_id: str | None = None,
    gateway: str | None = None,
    bot: str | None = None,
    received_at: datetime | None = None,
) -> Event:
    """Read a unified event of LangBot, or a ``FriendMessage``, ``GroupMessage`` or ``FeedbackEvent``.

    Args:
        obj: What `json.loads` gave.
        event_id: Its id; LangBot gives none, so by default one is made of what it says.
        gateway: Default ``langbot``.
        bot: Name of the connection; default LangBot's id of the bot.
        received_at: When it arrived here; default when it happened.

    Returns:
        The event; `Event.to_json` gives `obj` back, key for key.

    Raises:
        RemoteProtocolError: It is no object, has no type, or is no JSON.
    """
    known = {"event_id": event_id, "gateway": gateway, "bot": bot, "received_at": received_at}
    return Event(**reading.columns(obj, **known))


def from_webhook(obj: Any, **known: Any) -> Event:
    """Read what LangBot's webhook pushes: ``{"event_type": "bot.person_message", "data": …}``.

    Args:
        obj: What `json.loads` gave.
        **known: As for `from_json`.

    Raises:
        RemoteProtocolError: It is no such message.
    """
    return from_json(reading.pushed(obj), **known)
