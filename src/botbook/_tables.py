"""Small frames for people: handlers, failures, calls that were cut off, history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from botbook._bus.handler import Call, Handler
from botbook.actions import HistoryItem
from botbook.events import Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["error_table", "handler_table", "history_table", "interrupted_table"]


def handler_table(handlers: Iterable[Handler]) -> pd.DataFrame:
    """One row a handler; durations in milliseconds, over the last 1,000 calls."""
    rows = (
        (
            h.name,
            h.pattern,
            h.stats.calls,
            h.stats.failures,
            h.stats.running,
            h.stats.percentile_ms(50),
            h.stats.percentile_ms(95),
            h.stats.last_error,
            h.stats.last_at,
        )
        for h in handlers
    )
    return _table(rows, "name pattern calls failures running p50_ms p95_ms last_error last_at")


def error_table(calls: Iterable[Call]) -> pd.DataFrame:
    """One row a failed call."""
    rows = ((c.started_at, c.handler, c.event.event_id, c.error, c.traceback) for c in calls)
    return _table(rows, "at handler event_id error traceback")


def interrupted_table(found: Iterable[tuple[int, Event, str]]) -> pd.DataFrame:
    """One row a call that the end of its process cut off."""
    rows = ((seq, handler, e.event_id, e.type, e.text) for seq, e, handler in found)
    return _table(rows, "seq handler event_id type text")


def history_table(items: Sequence[HistoryItem], *, raw: bool = False) -> pd.DataFrame:
    """One row a message; `at` in UTC, NaT where the gateway does not tell; `raw` as JSON text."""
    import pandas as pd

    rows = ((i.role, i.text, i.sender_name, i.message_id, i.at_ms) for i in items)
    frame = _table(rows, "role text sender_name message_id at")
    frame["at"] = pd.to_datetime(frame["at"], unit="ms", utc=True)
    if raw:
        frame["raw"] = [json.dumps(item.raw, ensure_ascii=False) for item in items]
    return frame


def _table(rows: Iterable[tuple[object, ...]], columns: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(list(rows), columns=columns.split())
