"""Run by tests: write numbered events to a journal and say on stdout which ones are kept.

Arguments: path, first number, how many events (0: for ever), how many in each append.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime

from botbook._data.store import Store
from botbook.events import Event

AT = datetime(2026, 1, 1, tzinfo=UTC)


def made(number: int) -> Event:
    return Event(
        event_id=f"e{number}",
        type="message.received",
        at=AT,
        received_at=AT,
        gateway="miti",
        bot="b",
        raw_json='"' + "x" * 300 + '"',
    )


def main(path: str, first: int, count: int, group: int) -> None:
    store = Store(path)
    number = first
    while not count or number < first + count:
        events = [made(n) for n in range(number, number + group)]
        store.append(
            events, lambda new: os.write(1, b"".join(b"%d %s\n" % (s, e.event_id.encode()) for s, e in new))
        )
        number += group
        while store.backlog > 500:
            time.sleep(0.0005)
    assert store.close(20) == 0


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
