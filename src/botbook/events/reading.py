"""LangBot's unified events as columns, and columns as unified events (protocols/langbot.md 8).

Two spellings are read: the events of 4.11, and the ``FriendMessage``, ``GroupMessage`` and
``FeedbackEvent`` before them. What was read stays in ``raw_json``, with the type in front, so that
`unified` knows it again; writing it gives back every key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from botbook._errors import RemoteProtocolError
from botbook.events.entities import Group, User
from botbook.messages import MessageChain, Source
from botbook.messages._json import ident, moment, number, text

__all__ = [
    "OWN",
    "Columns",
    "Shape",
    "columns",
    "group_in",
    "pushed",
    "shape_of",
    "unified",
    "user_in",
]

#: The types before 4.11, and what they are called now.
_OLD_NAMES: Final = {
    "FriendMessage": "message.received",
    "GroupMessage": "message.received",
    "FeedbackEvent": "feedback.received",
}
#: Where botbook keeps those columns that LangBot's form has no key for.
OWN: Final = "botbook"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = ("at", "received_at")
_NUMBERS: Final = {"latency_s": (int, float), "feedback_type": (int,), "tokens": (int,)}
_CHOICES: Final = {"chat_type": ("private", "group", ""), "role": ("user", "assistant", "system")}
_TEXTS: Final = (
    *("event_id", "gateway", "bot", "chat_id", "user_id", "user_name", "message_id", "reply_to", "text"),
    *("feedback_id", "error"),
)


class Columns(Protocol):
    """What is read here of an event."""

    @property
    def type(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def gateway(self) -> str: ...
    @property
    def bot(self) -> str: ...
    @property
    def chat_type(self) -> str: ...
    @property
    def chat_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def user_name(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def reply_to(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def feedback_id(self) -> str: ...
    @property
    def feedback_type(self) -> int | None: ...
    @property
    def feedback_reasons(self) -> tuple[str, ...]: ...
    @property
    def raw_json(self) -> str: ...
    @property
    def chain(self) -> MessageChain: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a type of event keeps what the columns hold.

    Attributes:
        who: The key of who did it.
        chain: The key of the message, or "".
        text: The key of the text, if it is no message.
        role: Of the event.
    """

    who: str = "sender"
    chain: str = ""
    text: str = ""
    role: str = "user"


_MESSAGE: Final = Shape(chain="message_chain")
_MEMBER: Final = Shape(who="member")
_FRIEND: Final = Shape(who="user")
_ABOUT_BOT: Final = Shape(who="operator", role="system")

#: The types of the source document and of 4.11. The rest is read as `_OTHER`.
_SHAPES: Final[dict[str, Shape]] = {
    "message.received": _MESSAGE,
    "message.edited": Shape(who="editor", chain="new_content"),
    "message.deleted": Shape(who="operator"),
    "message.reaction": Shape(who="user", text="reaction"),
    "feedback.received": Shape(who="", text="feedback_content"),
    "group.member_joined": _MEMBER,
    "group.member_left": _MEMBER,
    "group.member_banned": _MEMBER,
    "group.member_unbanned": _MEMBER,
    "group.info_updated": Shape(who="operator"),
    "friend.request_received": Shape(who="user", text="message"),
    "friend.added": _FRIEND,
    "friend.removed": _FRIEND,
    "bot.invited_to_group": Shape(who="inviter", role="system"),
    "bot.removed_from_group": _ABOUT_BOT,
    "bot.muted": _ABOUT_BOT,
    "bot.unmuted": _ABOUT_BOT,
}
_OTHER: Final = Shape(chain="message_chain", role="system")
#: Who did it, where a type has no shape of its own or leaves its key empty.
_WHO: Final = ("sender", "editor", "user", "member", "inviter", "operator")
#: How the raw text of a unified event begins.
_FRONT: Final = '{"type": '
#: Keys that tell by which way an event came, and not what it is.
_BY_THE_WAY: Final = frozenset({"adapter_name", "source_platform_object"})
#: The bot log leaves out what is longer, in bytes.
_SHORT: Final = 512


def shape_of(type: str) -> Shape:
    """Where a type of event keeps what the columns hold."""
    return _SHAPES.get(type, _OTHER)


def unified(event: Columns) -> dict[str, Any] | None:
    """The JSON of an event that was read from a unified event, parsed anew; else None."""
    raw = event.raw_json
    if not raw.startswith(_FRONT):
        return None
    names = (event.type, *(old for old, new in _OLD_NAMES.items() if new == event.type))
    if not any(raw.startswith(_front(name)) for name in names):
        return None
    value: dict[str, Any] = json.loads(raw)
    return value


def _front(name: str) -> str:
    return _FRONT + json.dumps(name)


def columns(obj: Any, **known: Any) -> dict[str, Any]:
    """A unified event as the columns of an event.

    Args:
        obj: What `json.loads` gave.
        **known: Columns that the caller knows better; None counts as unknown.

    Raises:
        RemoteProtocolError: It is no object, has no type, or is no JSON.
    """
    if not isinstance(obj, Mapping) or not isinstance(name := obj.get("type"), str) or not name:
        raise RemoteProtocolError("a unified event that is no object with a type", frame=obj)
    try:
        raw_json = json.dumps({"type": name, **obj})
    except (TypeError, ValueError, RecursionError):
        raise RemoteProtocolError("a unified event that is no JSON") from None
    kind = _OLD_NAMES.get(name, name)
    found = _found(obj, kind) | _own(obj.get(OWN)) | {key: v for key, v in known.items() if v is not None}
    at = found.setdefault("at", found.get("received_at", _EPOCH))
    found.setdefault("received_at", at)
    row = {"type": kind, "gateway": "langbot", **found, "raw_json": raw_json}
    row.setdefault("event_id", _event_id(obj, row))
    return row


def _found(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    shape = shape_of(kind)
    who, where = user_in(obj, shape), group_in(obj)
    chain = obj.get(shape.chain) if shape.chain else None
    parts = MessageChain.from_json(chain) if isinstance(chain, list) else None
    row: dict[str, Any] = {
        "bot": ident(obj.get("bot_uuid")),
        "user_id": who.id,
        "user_name": who.name,
        "role": shape.role,
        "message_id": ident(obj.get("message_id")) or _source_id(parts),
        "text": parts.text if parts is not None else text(obj.get(shape.text)),
        "parts": parts,
    }
    at = moment(number(obj.get("timestamp", obj.get("time"))))
    return row | _where(obj, who, where) | _rating(obj, kind) | ({"at": at} if at else {})


def user_in(obj: Mapping[str, Any], shape: Shape) -> User:
    """Who did it; with an empty id if it does not tell."""
    for key in (shape.who, *_WHO):
        if isinstance(item := obj.get(key), Mapping) and (who := User.from_json(item)).id:
            return who
    return User(id=ident(obj.get("user_id")))


def group_in(obj: Mapping[str, Any]) -> Group | None:
    """The group it is about, if it names one."""
    sender = obj.get("sender")
    item = obj.get("group") or (sender.get("group") if isinstance(sender, Mapping) else None)
    return Group.from_json(item) if isinstance(item, Mapping) else None


def _source_id(parts: MessageChain | None) -> str:
    return next((part.id for part in parts or () if isinstance(part, Source)), "")


def _where(obj: Mapping[str, Any], who: User, where: Group | None) -> dict[str, Any]:
    kind, chat = text(obj.get("chat_type")), ident(obj.get("chat_id"))
    session = text(obj.get("session_id"))
    if kind in ("private", "person") or (not kind and not where and not session and who.id):
        return {"chat_type": "private", "chat_id": chat or who.id}
    if kind == "group" or where:
        return {"chat_type": "group", "chat_id": chat or (where.id if where else "")}
    return {
        "chat_type": "group" if session.startswith("group_") else "private" if session else "",
        "chat_id": chat or session,
    }


def _rating(obj: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if kind != "feedback.received":
        return {}
    rating, reasons = obj.get("feedback_type"), obj.get("inaccurate_reasons")
    return {
        "feedback_id": ident(obj.get("feedback_id")),
        "feedback_type": rating if isinstance(rating, int) and not isinstance(rating, bool) else None,
        "feedback_reasons": tuple(map(str, reasons)) if isinstance(reasons, list) else (),
        "reply_to": ident(obj.get("stream_id")),
    }


def _own(item: Any) -> dict[str, Any]:
    """The columns that botbook wrote itself; what has a wrong shape is left out."""
    if not isinstance(item, Mapping):
        return {}
    row: dict[str, Any] = {name: item[name] for name in _TEXTS if isinstance(item.get(name), str)}
    row |= {name: item[name] for name, known in _CHOICES.items() if item.get(name) in known}
    for name, kinds in _NUMBERS.items():
        if name in item and (
            item[name] is None or (isinstance(item[name], kinds) and item[name] is not True)
        ):
            row[name] = item[name]
    for name in _TIMES:
        when = moment(item.get(name)) if isinstance(item.get(name), str) else None
        if when is not None and when.tzinfo is not None:
            row[name] = when
    reasons = item.get("feedback_reasons")
    if isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons):
        row["feedback_reasons"] = tuple(reasons)
    if isinstance(item.get("recovered"), bool):
        row["recovered"] = item["recovered"]
    return row


def _event_id(obj: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """An id for what has none, the same by whichever way the event came.

    The bot log leaves out what is long and the webhook says less (protocols/langbot.md 7), so it is
    made of what both say.
    """
    names = ("type", "bot", "chat_id", "user_id", "message_id", "reply_to", "feedback_id", "feedback_type")
    facts: dict[str, Any] = {name: row.get(name) for name in names}
    facts["at"] = row["at"].isoformat()
    if row["type"] != "message.received":
        facts["what"] = {key: v for key, v in obj.items() if key not in _BY_THE_WAY and _is_short(v)}
    said = json.dumps(facts, sort_keys=True)
    return f"{row['type']}:{hashlib.sha256(said.encode()).hexdigest()[:24]}"


def _is_short(value: Any) -> bool:
    """Whether the bot log keeps a value."""
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass")) <= _SHORT
    if isinstance(value, list | dict):
        return len(json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")) <= _SHORT
    return True


def pushed(obj: Any) -> dict[str, Any]:
    """The message that LangBot's webhook pushes, as a unified event.

    Raises:
        RemoteProtocolError: It is no such message.
    """
    kinds = {"bot.person_message": "private", "bot.group_message": "group"}
    data = obj.get("data") if isinstance(obj, Mapping) else None
    if not isinstance(data, Mapping) or obj.get("event_type") not in kinds:
        raise RemoteProtocolError("a push that is no message", frame=obj)
    sender, where = data.get("sender"), data.get("group")
    chat = where if isinstance(where, Mapping) else sender
    return {
        "type": "message.received",
        **{key: data.get(key) for key in ("timestamp", "bot_uuid", "adapter_name")},
        "message_chain": data.get("message"),
        "sender": sender,
        "chat_type": kinds[obj["event_type"]],
        "chat_id": chat.get("id") if isinstance(chat, Mapping) else None,
        "group": where,
    }
