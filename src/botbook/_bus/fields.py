"""What rules may ask of an event: its columns, the keys of its JSON, and the virtual fields of LangBot.

An event of LangBot answers with the values of its JSON, numbers as numbers, so that a rule decides
here as it does on the server (protocols/langbot.md 8). Any other event answers with its columns.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from botbook._errors import ConfigError
from botbook.events import Event
from botbook.events.reading import unified
from botbook.messages import At, Component, Unknown

__all__ = ["FIELDS", "Facts", "check"]

_COLUMNS: Final = frozenset(f.name for f in fields(Event)) - {"raw_json", "parts", "actor"}
#: Top level keys of unified events, beside those that are columns as well.
_KEYS: Final = frozenset(
    {
        *("timestamp", "bot_uuid", "adapter_name", "instance_uuid", "workspace_uuid", "message_chain"),
        *("new_content", "sender", "sender_member", "bot_role", "editor", "operator", "user", "member"),
        *("inviter", "group", "reaction", "is_add", "is_kicked", "join_type", "duration", "changed_fields"),
        *("request_id", "message", "action", "data", "feedback_content", "inaccurate_reasons"),
        *("session_id", "stream_id"),
    }
)
_VIRTUAL: Final = frozenset({"message_text", "message_element_types", "is_at_bot", "chat_type"})
#: All that a filter may name; below a key that holds an object, a dot leads on: ``group.id``.
FIELDS: Final = _COLUMNS | _KEYS | _VIRTUAL


def check(field: str) -> None:
    """Refuse a field that no event has.

    Raises:
        ConfigError: There is none of that name.
    """
    first = field.partition(".")[0]
    if first not in FIELDS:
        near = difflib.get_close_matches(first, FIELDS, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(FIELDS))}."
        raise ConfigError(f"no event has a field {field!r}", hint=hint)


class Facts:
    """One event, asked for fields. What costs something is found out once.

    Args:
        event: The event.
        own_ids: Ids of the bot itself, for ``is_at_bot``; where none is given, any mention counts.
    """

    __slots__ = ("_event", "_known", "_own_ids", "_raw")

    def __init__(self, event: Event, own_ids: frozenset[str] = frozenset()) -> None:
        self._event = event
        self._own_ids = own_ids
        self._raw = unified(event)
        self._known: dict[str, Any] = {}

    def get(self, field: str) -> Any:
        """The value of a field; None if the event has none."""
        known = self._known
        if field not in known:
            known[field] = self._find(field)
        return known[field]

    def _find(self, field: str) -> Any:
        if field in _SPECIAL:
            return _SPECIAL[field](self)
        if self._raw is None:
            return self._column(field)
        value: Any = self._raw
        for key in field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return getattr(self._event, field, None) if value is None and field not in self._raw else value

    def _column(self, field: str) -> Any:
        if field in _COLUMNS:
            return getattr(self._event, field)
        value: Any = self._event.to_json()
        for key in field.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def message_text(self) -> str | None:
        """The plain text of a message; None for an event without one."""
        if self._raw is not None:
            return self._event.chain.text if isinstance(self._raw.get("message_chain"), list) else None
        return self._event.text if self._event.type.startswith("message.") else None

    def message_element_types(self) -> list[str] | None:
        """The types of its parts, in order; None for an event without a message."""
        if self._raw is not None and not isinstance(self._raw.get("message_chain"), list):
            return None
        return [_type(part) for part in self._event.chain]

    def chat_type(self) -> str | None:
        """``person`` or ``group``: rules do not say ``private``."""
        if self._raw is not None and "group" in self._raw:
            return "group" if self._raw["group"] is not None else "person"
        if self._raw is not None:
            return self._raw.get("chat_type")
        return {"private": "person", "group": "group"}.get(self._event.chat_type)

    def is_at_bot(self) -> bool:
        """Whether it mentions the bot.

        A group message whose parts are not known mentions it: a gateway that does not tell the parts
        hands on no other (protocols/miti.md 4).
        """
        event = self._event
        if self._raw is None and event.parts is None:
            return event.chat_type == "group" and event.type == "message.received"
        return any(
            isinstance(part, At) and (not self._own_ids or part.target in self._own_ids)
            for part in event.chain
        )


_SPECIAL: Final[dict[str, Callable[[Facts], Any]]] = {
    "message_text": Facts.message_text,
    "message_element_types": Facts.message_element_types,
    "chat_type": Facts.chat_type,
    "is_at_bot": Facts.is_at_bot,
}


def _type(part: Component) -> str:
    raw = part.raw if isinstance(part, Unknown) else part.given
    kind = raw.get("type") if isinstance(raw, dict) else None
    return kind if isinstance(kind, str) else part.type
