"""LangBot's official export: the CSV files of its monitoring page, as events.

Facts of 4.11.2: UTF-8 with a byte order mark; times in UTC, whole seconds, without zone; newest row
first; ratings as "like" and "dislike", one row each, none for a rating that was taken back; no column
says who spoke.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botbook._errors import CommandError, RemoteProtocolError
from botbook.events import DISLIKE, LIKE, ChatType, Event
from botbook.messages import MessageChain

__all__ = ["langbot_event", "langbot_kind"]

#: Kind of export → columns that only it has.
_KINDS: Final = {
    "messages": frozenset({"id", "timestamp", "message_content", "message_text", "session_id"}),
    "feedback": frozenset({"id", "timestamp", "feedback_id", "feedback_type", "inaccurate_reasons"}),
}
_OTHERS: Final = {
    "llm-calls": frozenset({"id", "timestamp", "model_name", "total_tokens"}),
    "embedding-calls": frozenset({"id", "timestamp", "model_name", "input_count"}),
    "errors": frozenset({"id", "timestamp", "error_type", "stack_trace"}),
    "sessions": frozenset({"session_id", "message_count", "last_activity"}),
}


def langbot_kind(header: Iterable[str]) -> str:
    """Which export has this header: ``messages``, ``feedback``, or "" for none.

    Raises:
        CommandError: It is one that holds no events.
    """
    have = frozenset(header)
    for kind, needs in _KINDS.items():
        if needs <= have:
            return kind
    for kind, needs in _OTHERS.items():
        if needs <= have and "pipeline_id" in have:
            raise CommandError(
                f"LangBot's export of {kind} holds no events",
                hint="Export messages or feedback; the rest comes with `bot.monitoring`.",
            )
    return ""


def langbot_event(kind: str, row: Mapping[str, str]) -> Event:
    """One row as an event.

    Raises:
        ValueError: It has no time or no id.
    """
    if not row["id"]:
        raise ValueError("it has no id")
    at = datetime.fromisoformat(row["timestamp"])
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    shared: dict[str, Any] = {
        "at": at,
        "received_at": at,
        "gateway": "langbot",
        "bot": row.get("bot_name") or "langbot",
        "chat_type": _chat_type(row["session_id"]),
        "chat_id": row["session_id"],
        "user_id": row.get("user_id") or "",
        "raw_json": json.dumps(dict(row), ensure_ascii=False),
    }
    return _message(row, shared) if kind == "messages" else _feedback(row, shared)


def _message(row: Mapping[str, str], shared: dict[str, Any]) -> Event:
    parts = _parts(row["message_content"])
    user = any(isinstance(part, dict) and part.get("type") == "Source" for part in parts)
    failed = row.get("status") == "error" and not user
    text = row["message_text"] or _plain(parts)
    return Event(
        **shared,
        event_id=f"message:{row['id']}",
        type="message.received" if user else "message.sent",
        role="user" if user else "assistant",
        message_id=row["id"],
        text=text,
        error=text if failed else "",
    )


def _feedback(row: Mapping[str, str], shared: dict[str, Any]) -> Event:
    kinds = {"like": LIKE, "dislike": DISLIKE}
    if row["feedback_type"] not in kinds:
        raise ValueError(f"feedback_type is {row['feedback_type']!r}")
    kind, reasons = kinds[row["feedback_type"]], _parts(row["inaccurate_reasons"])
    return Event(
        **shared,
        event_id=f"feedback:{row['feedback_id']}:{kind}:{shared['at'].isoformat()}",
        type="feedback.received",
        role="user",
        message_id=row.get("message_id") or "",
        reply_to=row.get("stream_id") or "",
        text=row.get("feedback_content") or "",
        feedback_id=row["feedback_id"],
        feedback_type=kind,
        feedback_reasons=tuple(map(str, reasons)),
    )


def _chat_type(session: str) -> ChatType:
    return "group" if session.startswith("group_") else "private" if session else ""


def _parts(text: str) -> list[Any]:
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _plain(parts: list[Any]) -> str:
    try:
        return MessageChain.from_json(parts).text
    except RemoteProtocolError:
        return ""
