"""The events that botbook makes itself: what it sent, what failed, when the link was down."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botbook._bus.handler import Call
from botbook.actions import HistoryItem, Sent, split_target
from botbook.events import ASSISTANT, USER, Event, Role

__all__ = ["connection_event", "exec_event", "failed_event", "missing", "recovered_events", "sent_event"]


def sent_event(
    *,
    gateway: str,
    bot: str,
    to: str,
    text: str,
    sent: Sent,
    ident: str,
    now: datetime,
    question: Event | None = None,
    chat_id: str = "",
    own_id: str = "",
    extra: dict[str, Any] | None = None,
) -> Event:
    """The row of a message that this bot wrote.

    It carries the id that the gateway's echo of the same message would get, so that both are one
    row (bots.md 3b). `latency_s` has both ends on the server's clock where it tells its time.
    """
    kind, target = split_target(to)
    at = datetime.fromtimestamp(sent.server_time / 1000, UTC) if sent.server_time else now
    return Event(
        event_id=f"sent:{sent.message_id or ident}",
        type="message.sent",
        at=at,
        received_at=now,
        gateway=gateway,
        bot=bot,
        chat_type="group" if kind == "group" else "private",
        chat_id=question.chat_id if question else chat_id or (target if kind == "group" else ""),
        user_id=own_id,
        role=ASSISTANT,
        message_id=sent.message_id or ident,
        reply_to=question.message_id if question else "",
        text=text,
        latency_s=max(0.0, (at - question.at).total_seconds()) if question else None,
        raw_json=json.dumps(extra) if extra else "",
    )


def failed_event(call: Call, *, gateway: str, bot: str, now: datetime) -> Event:
    """The row of a handler that raised or ran out of time."""
    return Event(
        event_id=f"failed:{call.seq}:{call.handler}",
        type="handler.failed",
        at=now,
        received_at=now,
        gateway=gateway,
        bot=bot,
        chat_type=call.event.chat_type,
        chat_id=call.event.chat_id,
        user_id=call.event.user_id,
        reply_to=call.event.event_id,
        text=call.handler,
        error=call.error,
        raw_json=json.dumps({"handler": call.handler, "version": call.version, "traceback": call.traceback}),
    )


def connection_event(
    kind: str,
    *,
    gateway: str,
    bot: str,
    now: datetime,
    text: str = "",
    error: str = "",
    seconds: float | None = None,
    **facts: Any,
) -> Event:
    """A ``connection.…`` row.

    Args:
        kind: ``opened``, ``closed`` or ``gap``.
        seconds: How long a gap was that ends now; it becomes `latency_s`, which metrics read.
        facts: Kept in raw.
    """
    return Event(
        event_id=f"connection:{kind}:{now.timestamp():.6f}",
        type=f"connection.{kind}",
        at=now,
        received_at=now,
        gateway=gateway,
        bot=bot,
        text=text,
        error=error,
        latency_s=seconds,
        raw_json=json.dumps(facts) if facts else "",
    )


def exec_event(row: Mapping[str, Any], *, gateway: str, bot: str, now: datetime) -> Event:
    """The row of a command that ran in a sandbox.

    Args:
        row: As the sandbox's audit gives it: session, cmd (cut), status, exit_code, duration_ms …; kept
            in raw.
        gateway: Of the connection in whose journal it is kept.
        bot: That connection.
        now: When it ended.
    """
    return Event(
        event_id=f"box:{uuid.uuid4().hex}",
        type="box.exec",
        at=now,
        received_at=now,
        gateway=gateway,
        bot=bot,
        chat_id=row["session"],
        role=ASSISTANT,
        text=row["cmd"],
        latency_s=row["duration_ms"] / 1000,
        error=_why(row),
        raw_json=json.dumps(dict(row)),
    )


def _why(row: Mapping[str, Any]) -> str:
    """Why a command failed, or ""."""
    if row["status"] != "completed":
        return str(row.get("error") or row["status"].replace("_", " "))
    return f"exit code {row['exit_code']}" if row["exit_code"] else ""


def missing(
    known: Sequence[tuple[str, str]], history: Sequence[HistoryItem], *, ids: Collection[str] = ()
) -> list[HistoryItem]:
    """What a chat's history holds beyond what is known of its end.

    Where the gateway gives ids, what comes behind the last known one is missing. It promises neither
    ids nor times (protocols/miti.md 6); without them the two are laid side by side by who said what:
    the longest stretch of the known end that the history holds is where they meet. Where they do not
    meet at all, everything is missing.

    Args:
        known: (role, text) of the last messages, oldest first.
        history: Oldest first.
        ids: Known message ids.
    """
    met = [index for index, item in enumerate(history) if item.message_id in ids]
    return list(history[met[-1] + 1 if met else _meeting(known, history) :])


def _meeting(known: Sequence[tuple[str, str]], history: Sequence[HistoryItem]) -> int:
    said = [(item.role, item.text) for item in history]
    best, end = 0, 0
    for stop in range(len(said), 0, -1):
        length = 0
        while length < min(stop, len(known)) and said[stop - 1 - length] == known[len(known) - 1 - length]:
            length += 1
        if length > best:
            best, end = length, stop
    return end


def recovered_events(items: Sequence[HistoryItem], *, like: Event, now: datetime, gap: str) -> list[Event]:
    """Rows for messages that were missed, marked ``recovered``.

    Args:
        items: What was missed, oldest first.
        like: Any event of that chat.
        now: Stamp for those whose time the gateway does not tell.
        gap: Name of the gap, part of the ids.
    """
    return [
        Event(
            event_id=f"recovered:{item.message_id}"
            if item.message_id
            else f"recovered:{gap}:{like.chat_id}:{index}",
            type="message.sent" if item.own else "message.received",
            at=datetime.fromtimestamp(item.at_ms / 1000, UTC) if item.at_ms else now,
            received_at=now,
            gateway=like.gateway,
            bot=like.bot,
            chat_type=like.chat_type,
            chat_id=like.chat_id,
            user_id=item.user_id
            or (like.user_id if like.chat_type == "private" and item.role == USER else ""),
            user_name=item.sender_name,
            role=_role(item.role),
            message_id=item.message_id,
            text=item.text,
            recovered=True,
            raw_json=json.dumps(item.raw) if item.raw is not None else "",
        )
        for index, item in enumerate(items)
    ]


def _role(name: str) -> Role:
    return "assistant" if name == ASSISTANT else "user" if name == "user" else "system"
