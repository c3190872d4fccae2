"""LangBot's feedback list, polled, as ratings that come, change and go (protocols/langbot.md 6)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from botbook.events import CANCEL, ChatType, Event
from botbook.wire.monitoring_rows import Row

__all__ = ["feedback_changes"]


def feedback_changes(
    before: Mapping[str, Row],
    rows: Iterable[Row],
    *,
    at: datetime,
    since: datetime | None = None,
    gateway: str = "langbot",
    bot: str = "langbot",
) -> tuple[list[Event], dict[str, Row]]:
    """Compare two polls of the whole feedback list: new and changed ratings, and those that vanished.

    The server keeps one row for a rating and deletes it when the user takes it back, so that a
    cancel shows by what is no longer there.

    Args:
        before: What the last poll returned, {} at first.
        rows: This poll, complete.
        at: When it was made.
        since: Start of the window that was polled; older rows are forgotten and not cancelled.
        gateway: Name of the gateway.
        bot: Name of the connection.

    Returns:
        Events ``feedback.received``, oldest first, and what to hand in at the next poll.
    """
    now: dict[str, Row] = {row["feedback_id"]: row for row in rows if row["feedback_id"]}
    events = [
        _feedback(row, row["timestamp"] or at, row["feedback_type"], at, gateway, bot)
        for ident, row in now.items()
        if not _same(before.get(ident), row)
    ]
    gone = (row for ident, row in before.items() if ident not in now)
    events += [
        _feedback(row, at, CANCEL, at, gateway, bot) for row in gone if _within(row["timestamp"], since)
    ]
    return sorted(events, key=lambda event: event.at), now


def _same(old: Row | None, new: Row) -> bool:
    return old is not None and all(old[key] == new[key] for key in ("feedback_type", "timestamp"))


def _within(when: datetime | None, since: datetime | None) -> bool:
    return since is None or (when is not None and when >= since)


def _feedback(row: Row, when: datetime, kind: int | None, at: datetime, gateway: str, bot: str) -> Event:
    """A rating as an event; its id is made of the row's id, kind and time, so that no poll doubles it."""
    stamp = row["timestamp"].isoformat() if row["timestamp"] else ""
    session = row["session_id"] or ""
    chat_type: ChatType = "group" if session.startswith("group_") else "private" if session else ""
    reasons = row["inaccurate_reasons"]
    return Event(
        event_id=f"feedback:{row['feedback_id']}:{kind}:{stamp}",
        type="feedback.received",
        at=when,
        received_at=at,
        gateway=gateway,
        bot=bot,
        chat_type=chat_type,
        chat_id=session,
        user_id=row["user_id"] or "",
        role="user",
        message_id=row["message_id"] or "",
        reply_to=row["stream_id"] or "",
        text=row["feedback_content"] or "",
        feedback_id=row["feedback_id"],
        feedback_type=kind,
        feedback_reasons=tuple(str(reason) for reason in reasons) if isinstance(reasons, list) else (),
        raw_json=json.dumps(row, ensure_ascii=False, default=_json_time),
    )


def _json_time(value: datetime) -> str:
    return value.isoformat()
