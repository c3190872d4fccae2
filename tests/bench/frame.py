"""What a question costs when a million events are there: run by `tests.bench`, in a process of its own."""

from __future__ import annotations

import json
import resource
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from botbook._data.frames import LiveFrame
from botbook._data.store import Store
from botbook.events import Event

MILLION = 1_000_000


def event(number: int) -> Event:
    at = datetime.fromtimestamp(1_767_225_600 + number / 100, UTC)
    return Event(
        event_id=f"ev-{number}",
        type="message.received",
        at=at,
        received_at=at,
        gateway="miti",
        bot="bench",
        chat_type="private",
        chat_id=f"si_bot_u{number % 1000}",
        user_id=f"u{number % 1000}",
        role="user",
        message_id=f"m-{number}",
        text=f"message number {number} of a benchmark",
        raw_json="{}",
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder, "journal.sqlite"))
        frame = LiveFrame(store)
        frame.events()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for start in range(0, MILLION, 10_000):
            store.append([event(n) for n in range(start, start + 10_000)], frame.append)
            store.flush(60)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        frame.events()
        times = []
        for number in range(20):
            store.append([event(MILLION + number)], frame.append)
            store.flush(10)
            began = time.perf_counter()
            rows = len(frame.events())
            times.append(time.perf_counter() - began)
        store.close()
    print(json.dumps({"rows": rows, "one_new_ms": median(times) * 1000, "grown_mb": grown / 1024}))


if __name__ == "__main__":
    main()
