"""What a metric was made from, carried by its frame: a notebook outlives its data (bots.md 3d)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["Facts", "Gap", "attach", "facts"]

KEY: Final = "botbook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Time in which one connection may have missed events.

    Attributes:
        gateway: Of the connection.
        bot: Name of the connection.
        start: When it began, in UTC.
        end: When it was over, in UTC.
    """

    gateway: str
    bot: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a metric frame was made from.

    Attributes:
        metric: Name of the metric.
        tz: Zone of its days and hours.
        freq: Its buckets: ``h``, ``D``, ``W``, ``M`` or "".
        by: The columns it is grouped by.
        since: Time of the first row, in UTC; None without rows.
        as_of: What was known: later rows were left out, in UTC; None without rows.
        rows: Rows that came in, up to `as_of`.
        used: Rows, turns, sessions or answers it was computed from.
        duplicates: Rows left out because their event was there already.
        gaps: Time in which events may be missing.
        numbers: What was set aside and other counts, by name.
        notes: Sentences that belong under a figure.
    """

    metric: str
    tz: str = "UTC"
    freq: str = ""
    by: tuple[str, ...] = ()
    since: datetime | None = None
    as_of: datetime | None = None
    rows: int = 0
    used: int = 0
    duplicates: int = 0
    gaps: tuple[Gap, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: times become ISO text."""
        made = {f.name: getattr(self, f.name) for f in fields(self)}
        return made | {
            "by": list(self.by),
            "since": _text(self.since),
            "as_of": _text(self.as_of),
            "gaps": [[g.gateway, g.bot, _text(g.start), _text(g.end)] for g in self.gaps],
            "numbers": dict(self.numbers),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, made: Mapping[str, Any]) -> Facts:
        """Read what `to_json` wrote; unknown keys are left out."""
        known = {f.name for f in fields(cls)}
        values = {key: value for key, value in made.items() if key in known}
        values |= {key: tuple(values[key]) for key in ("by", "notes") if key in values}
        values |= {key: _time(values[key]) for key in ("since", "as_of") if key in values}
        values["gaps"] = tuple(
            Gap(
                gateway=gateway,
                bot=bot,
                start=datetime.fromisoformat(start),
                end=datetime.fromisoformat(end),
            )
            for gateway, bot, start, end in values.get("gaps", ())
        )
        return cls(**values)


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def attach(frame: Any, made: Facts) -> Any:
    """Tie facts to a frame that can carry them.

    pandas keeps them in ``frame.attrs`` and pyarrow in the schema's metadata, so they last through
    selections and Parquet files; polars keeps them on the object alone.

    Args:
        frame: A pandas, polars or pyarrow frame.
        made: What to say of it.
    """
    if hasattr(frame, "attrs"):
        frame.attrs[KEY] = made.to_json()
    elif hasattr(frame, "replace_schema_metadata"):
        metadata = dict(frame.schema.metadata or {})
        frame = frame.replace_schema_metadata(
            metadata | {KEY.encode(): json.dumps(made.to_json(), ensure_ascii=False).encode()}
        )
    else:
        frame.botbook_facts = made
    return frame


def facts(frame: Any) -> Facts | None:
    """What a metric frame was made from.

    Args:
        frame: What a function of `botbook.metrics` gave back.

    Returns:
        The facts, or None for a frame that carries none: not a metric, or a polars frame that was
        changed since.
    """
    if hasattr(frame, "attrs"):
        made = frame.attrs.get(KEY)
        return Facts.from_json(made) if made else None
    metadata = getattr(getattr(frame, "schema", None), "metadata", None) or {}
    if KEY.encode() in metadata:
        return Facts.from_json(json.loads(metadata[KEY.encode()]))
    return getattr(frame, "botbook_facts", None)
