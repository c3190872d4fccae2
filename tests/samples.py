"""Events for tests."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from botbook.events import Event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
_numbers = itertools.count(1)


def message(text: str = "hello", *, chat: str = "c1", user: str = "u1", **given: Any) -> Event:
    """A message from a user, with an id of its own."""
    number = next(_numbers)
    fields: dict[str, Any] = {
        "event_id": f"e{number}",
        "type": "message.received",
        "at": NOON + timedelta(seconds=number),
        "received_at": NOON + timedelta(seconds=number, milliseconds=20),
        "gateway": "miti",
        "bot": "miti",
        "chat_type": "private",
        "chat_id": chat,
        "user_id": user,
        "role": "user",
        "message_id": f"m{number}",
        "text": text,
    }
    return Event(**(fields | given))
