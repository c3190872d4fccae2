"""Events in LangBot's form (protocols/langbot.md 8)."""

from __future__ import annotations

import dataclasses
from typing import Any

from botbook._errors import LocalProtocolError
from botbook.events.entities import Group, User
from botbook.events.reading import Columns, group_in, shape_of, unified, user_in

__all__ = ["body", "group", "old_body", "old_name", "user"]


def user(event: Columns) -> User:
    """Who did it, with all that a unified event tells of them."""
    raw = unified(event)
    who = user_in(raw, shape_of(event.type)) if raw else User()
    if who.id != event.user_id:
        return User(id=event.user_id, nickname=event.user_name)
    return who if who.name == event.user_name else dataclasses.replace(who, nickname=event.user_name)


def group(event: Columns) -> Group | None:
    """The group that an event is about, with all that a unified event tells of it; None if there is none."""
    raw = unified(event)
    where = group_in(raw) if raw else None
    if where is not None and event.chat_id in (where.id, ""):
        return where
    return Group(id=event.chat_id) if event.chat_type == "group" else where


def body(event: Columns) -> dict[str, Any]:
    """An event in LangBot's form, as far as that goes."""
    shape = shape_of(event.type)
    written: dict[str, Any] = {
        "type": event.type,
        "timestamp": event.at.timestamp(),
        "bot_uuid": event.bot,
        "adapter_name": event.gateway,
    }
    if event.type == "feedback.received":
        return written | _rated(event)
    if (who := user(event)).id:
        written[shape.who] = who.to_json()
    if (where := group(event)) is not None:
        written["group"] = where.to_json()
    if event.type.startswith("message.") or event.message_id:
        written |= {"message_id": event.message_id, "chat_type": event.chat_type, "chat_id": event.chat_id}
    if shape.chain and event.chain:
        written[shape.chain] = event.chain.to_json()
    if shape.text:
        written[shape.text] = event.text
    return written


def _rated(event: Columns) -> dict[str, Any]:
    return {
        "feedback_id": event.feedback_id,
        "feedback_type": event.feedback_type,
        "feedback_content": event.text,
        "inaccurate_reasons": list(event.feedback_reasons) or None,
        "user_id": event.user_id,
        "session_id": event.chat_id,
        "message_id": event.message_id,
        "stream_id": event.reply_to,
    }


def old_name(event: Columns) -> str:
    """What the type was called before 4.11, or ""."""
    if event.type == "message.received":
        return "GroupMessage" if event.chat_type == "group" else "FriendMessage"
    return "FeedbackEvent" if event.type == "feedback.received" else ""


def old_body(event: Columns) -> dict[str, Any]:
    """A message or a rating in the form before 4.11.

    Raises:
        LocalProtocolError: There was no such event.
    """
    name, who, where = old_name(event), user(event), group(event)
    if not name:
        raise LocalProtocolError(
            f"{event.type} has no old form", hint="Only messages and ratings had one; leave out `old`."
        )
    if name == "FeedbackEvent":
        return {"type": name, **_rated(event)}
    sender: dict[str, Any] = {"id": who.id, "nickname": who.name, "remark": who.remark}
    if where is not None:
        home = {"id": where.id, "name": where.name, "permission": "MEMBER"}
        sender = {"id": who.id, "member_name": who.name, "permission": "MEMBER", "group": home}
    chain = event.chain.to_json()
    return {"type": name, "sender": sender, "message_chain": chain, "time": event.at.timestamp()}
