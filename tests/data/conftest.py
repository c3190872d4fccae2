"""What the tests of the journal share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from botbook._data.store import Store
from botbook.events import Event

START = datetime(2026, 1, 1, tzinfo=UTC)
MakeEvents = Callable[..., list[Event]]


def event(number: int, **changes: Any) -> Event:
    values: dict[str, Any] = {
        "event_id": f"e{number}",
        "type": "message.received",
        "at": START + timedelta(seconds=number),
        "received_at": START + timedelta(seconds=number, microseconds=7),
        "gateway": "miti",
        "bot": "b",
        "chat_type": "private",
        "chat_id": f"c{number % 3}",
        "user_id": f"u{number % 3}",
        "role": "user",
        "message_id": f"m{number}",
        "text": f"text {number}",
        "raw_json": f'{{"n": {number}}}',
    }
    return Event(**values | changes)


@pytest.fixture
def make() -> MakeEvents:
    return lambda first, end, **changes: [event(number, **changes) for number in range(first, end)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "j.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = Store(path, now=lambda: START + timedelta(hours=1))
    yield opened
    assert opened.close() == 0


@pytest.fixture
def keep(store: Store, make: MakeEvents) -> Callable[..., list[tuple[int, Event]]]:
    """Append and wait: (seq, event) of what was new."""

    def run(events: list[Event]) -> list[tuple[int, Event]]:
        new: list[tuple[int, Event]] = []
        store.append(events, new.extend)
        assert store.flush(10)
        return new

    return run
