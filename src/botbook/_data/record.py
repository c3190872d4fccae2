"""Events to a file that people and programs can read: one JSON object a line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from botbook._errors import StoreError
from botbook.events import Event

__all__ = ["Recorder", "event_from_line", "event_to_line"]

_COLUMNS: Final = tuple(f.name for f in fields(Event) if f.name not in ("actor", "parts", "raw_json"))
_TIMES: Final = ("at", "received_at")


def event_to_line(event: Event) -> str:
    """One event as one line of JSON: the columns that say something, and ``raw`` as text."""
    row: dict[str, Any] = {name: getattr(event, name) for name in _COLUMNS}
    row |= {name: row[name].isoformat() for name in _TIMES}
    row["raw"] = event.raw_json
    return json.dumps({key: value for key, value in row.items() if value not in ("", None, (), False)})


def event_from_line(line: str) -> Event:
    """Read what `event_to_line` wrote.

    Raises:
        StoreError: The line is no such event.
    """
    try:
        row = json.loads(line)
        row |= {name: datetime.fromisoformat(row[name]) for name in _TIMES}
        row["feedback_reasons"] = tuple(row.get("feedback_reasons", ()))
        return Event(raw_json=row.pop("raw", ""), **row)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise StoreError(
            f"this line is no recorded event: {type(error).__name__}",
            hint="Use a file made by `%bot record`.",
        ) from None


class Recorder:
    """Appends events to a file.

    Args:
        path: The file; made anew where there is none, readable by its owner alone.

    Raises:
        StoreError: It cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self._file = os.fdopen(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")
        except OSError as error:
            raise StoreError(
                f"{self.path} cannot be written: {error.strerror}", hint="Name another file."
            ) from None

    def write(self, rows: Sequence[tuple[int, Event]]) -> None:
        """Append events, in one write."""
        if not self._file.closed:
            self._file.write("".join(event_to_line(event) + "\n" for _, event in rows))
            self._file.flush()

    def close(self) -> None:
        """End the file. Harmless when ended already."""
        self._file.close()
