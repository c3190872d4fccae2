"""Frames in and out: any kind is read once into Arrow columns, and the answer is handed back in kind.

What the metrics do in between is written in narwhals over Arrow, so one data set has one answer,
whoever made the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, Final, TypeVar

import narwhals as nw

from botbook._errors import ConfigError
from botbook.metrics._columns import Columns
from botbook.metrics._facts import Facts, Gap, attach
from botbook.metrics._gaps import find_gaps, merged
from botbook.metrics._kinds import UNGROUPABLE, arrow, collected, native, normal, opened, wanted_of
from botbook.metrics._prepared import Prepared
from botbook.metrics._time import (
    Buckets,
    buckets,
    freq_named,
    micros,
    moment,
    zone_named,
)

__all__ = [
    "MESSAGES",
    "Rows",
    "Strings",
    "prepare",
    "read",
    "without_echoes",
]

Strings = str | Sequence[str]
T = TypeVar("T")

#: What counts as a message; edits change the text and not the count (bots.md 3b).
MESSAGES: Final = ("message.received", "message.sent")
EDIT: Final = "message.edited"
#: Read whenever they are there: they tell rows apart.
IDENTITY: Final = ("event_id", "type", "gateway", "bot", "chat_id", "message_id", "role")
#: All that any metric reads of its own accord.
READ: Final = (
    *IDENTITY, "user_id", "user_name", "chat_type", "reply_to", "text", "error", "tokens", "model",
    "fallback", "feedback_id", "feedback_type", "feedback_reasons", "recovered", "latency_s",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a frame after de-duplication, and what is known of them.

    Attributes:
        table: Arrow columns under narwhals: ``order`` (of arrival), ``at_us``, and what was asked for;
            text is never null.
        zone: Whose days.
        by: Columns to group by.
        first_us: Time of the first row, in microseconds since 1970; None without rows.
        as_of_us: The time up to which rows count.
        facts: What a figure must say.
        kind: The frame's kind, for the way back.
        dropped: Duplicates of each gateway and bot.
        shared: What other metrics of the same frame have computed, or None.
    """

    table: nw.DataFrame[Any]
    zone: tzinfo
    by: tuple[str, ...]
    first_us: int | None
    as_of_us: int | None
    facts: Facts
    kind: str
    dropped: Mapping[tuple[str, str], int]
    shared: Prepared | None = None

    def once(self, *key: Any, make: Callable[[Rows], T]) -> T:
        """What `make` gives, or gave to another metric of the same frame.

        Args:
            *key: Its name and all that it depends on.
            make: Gets these rows, perhaps with more columns.
        """
        if self.shared is None:
            return make(self)
        if key not in self.shared.made:
            self.shared.made[key] = make(replace(self, table=self.shared.rows.table))
        found: T = self.shared.made[key]
        return found

    def only(self, *conditions: nw.Expr) -> nw.DataFrame[Any]:
        """The rows for which all conditions hold."""
        return self.table.filter(*conditions)

    def messages(self, *, echoes: bool = False) -> nw.DataFrame[Any]:
        """One row a message: a sent one and its echo from the gateway are one (bots.md 3b)."""
        return self.once("messages", echoes, make=lambda rows: _messages(rows, echoes=echoes))

    def buckets(self) -> Buckets | None:
        """The buckets from the first row to `as_of`; None without rows."""
        if self.first_us is None or self.as_of_us is None:
            return None
        return buckets(self.first_us, self.as_of_us, freq=self.facts.freq, zone=self.zone)

    def bucketed(self, cut: Buckets | None, *, times: int) -> Columns:
        """A result that begins with its buckets, each `times` times over."""
        as_of = self.as_of_us if self.facts.freq else None
        return Columns().bucketed(cut, times=times, spans=self.spans(), as_of_us=as_of)

    def groups(self, table: nw.DataFrame[Any]) -> list[tuple[str, ...]]:
        """The distinct values of `by`, sorted; one empty tuple when there is nothing to group by."""
        if not self.by:
            return [()]
        return sorted(set(self.keys(table)))

    def keys(self, table: nw.DataFrame[Any]) -> list[tuple[str, ...]]:
        """The group of each row."""
        return list(table.select(*self.by).iter_rows()) if self.by else [()] * len(table)

    def spans(self) -> list[tuple[int, int]]:
        """Gaps of any connection, merged, in microseconds since 1970."""
        return merged((micros(gap.start), micros(gap.end)) for gap in self.facts.gaps)

    def give(
        self,
        columns: Columns,
        *,
        used: int,
        notes: Iterable[str] = (),
        numbers: Mapping[str, float] | None = None,
        by: Iterable[str] = (),
    ) -> Any:
        """The result, in the kind of the frame that came in, with its facts.

        Args:
            columns: The result.
            used: What it was computed from.
            notes: Sentences for a figure.
            numbers: What was set aside, by name.
            by: Columns that it is grouped by beside those asked for.
        """
        made = replace(
            self.facts,
            by=(*self.by, *by),
            used=used,
            numbers={**self.facts.numbers, **(numbers or {})},
            notes=(*self.facts.notes, *notes),
        )
        return attach(native(columns.table(), self.kind), made)


def _messages(rows: Rows, *, echoes: bool) -> nw.DataFrame[Any]:
    found = rows.only(nw.col("type").is_in(MESSAGES))
    return found if echoes else without_echoes(found)


def read(
    frame: Any,
    *,
    metric: str,
    needs: Sequence[str] = (),
    wants: Sequence[str] = (),
    tz: str = "UTC",
    freq: str | None = None,
    by: Strings = (),
    as_of: datetime | None = None,
) -> Rows:
    """Read what a metric needs of a frame.

    Args:
        frame: pandas, polars, pyarrow, a DuckDB relation, or anything narwhals takes.
        metric: Who asks, for the error text and the facts.
        needs: Columns that must be there, beside ``type`` and ``at``.
        wants: Columns to read if they are there; text that is missing reads as "".
        tz: Zone of days and hours.
        freq: Bucket.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.

    Raises:
        ConfigError: It is no frame, a column is missing or there twice, ``at`` has no zone, or a
            parameter is wrong.
    """
    zone, freq = zone_named(tz), freq_named(freq)
    by = _groupable(by)
    asked = _asked_for(as_of)
    if isinstance(frame, Prepared):
        wanted = wanted_of(metric, frame.names, ["type", *needs, *by], [*IDENTITY, *wants])
        if asked is None and set(wanted) <= set(frame.rows.table.columns):
            made = replace(frame.rows.facts, metric=metric, tz=tz, freq=freq, by=by)
            table = frame.rows.table.select("order", "at_us", *wanted)
            again: Rows = replace(frame.rows, table=table, zone=zone, by=by, facts=made, shared=frame)
            return again
        frame = frame.source
    source, kind = opened(frame)
    known = source.collect_schema().names()
    wanted = wanted_of(metric, known, ["type", "at", *needs, *by], [*IDENTITY, "received_at", *wants])
    table = normal(collected(source.select(*[name for name in wanted if name in known])), wanted)
    whole = len(table)
    table = table.filter(~nw.col("at_us").is_null())
    timeless = whole - len(table)
    if asked is not None:
        table = table.filter(nw.col("at_us") <= asked)
    rows = len(table)
    before, table = table, _distinct(table)
    first, last = (table["at_us"].min(), table["at_us"].max()) if len(table) else (None, None)
    end = asked if asked is not None and last is not None else last
    numbers = {"no_time": timeless} if timeless else {}
    numbers |= {"later": whole - timeless - rows} if whole - timeless > rows else {}
    made = Facts(
        metric=metric,
        tz=tz,
        freq=freq,
        by=by,
        since=None if first is None else moment(first),
        as_of=None if end is None else moment(end),
        rows=rows,
        duplicates=rows - len(table),
        gaps=_gaps(table, end),
        numbers=numbers,
    )
    return Rows(
        table=table,
        zone=zone,
        by=by,
        first_us=first,
        as_of_us=end,
        facts=made,
        kind=kind,
        dropped=_dropped(before, table),
    )


def prepare(frame: Any) -> Prepared:
    """Read a frame once for many metrics; give what comes back in its place.

    Raises:
        ConfigError: As `read`.
    """
    source = arrow(frame)
    return Prepared(source=source, rows=read(source, metric="", wants=READ), names=tuple(source.column_names))


def without_echoes(messages: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """Keep the first of the rows that say the same message.

    A message that was sent to a user by id has no chat until its echo tells: then the echo stays.
    """
    same = ["gateway", "bot", "role", "message_id"]
    named = messages.select("order", "chat_id", *same).filter(nw.col("message_id") != "")
    kept = named.unique([*same, "chat_id"], keep="first", maintain_order=True)
    homeless = kept.filter(nw.col("chat_id") == "")
    if len(homeless):
        twins = kept.filter(nw.col("chat_id") != "").select(*same)
        twice = homeless.join(twins.unique(), on=same, how="semi")
        kept = kept.join(twice.select("order"), on="order", how="anti")
    return _join_back(messages, kept, named)


def _join_back(table: nw.DataFrame[Any], kept: nw.DataFrame[Any], of: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """`table` without the rows of `of` that are not in `kept`; its order stands."""
    if len(kept) == len(of):
        return table
    gone = of.select("order").join(kept.select("order"), on="order", how="anti")["order"]
    return table.filter(~nw.col("order").is_in(gone.to_list()))


def _distinct(table: nw.DataFrame[Any]) -> nw.DataFrame[Any]:
    """One row an event; the first to arrive wins (bots.md 3b)."""
    table = table.sort("seen_us", "order").drop("order", "seen_us").with_row_index("order")
    table = table.with_columns(nw.col("order").cast(nw.Int64))
    named = table.select("order", "gateway", "bot", "event_id").filter(nw.col("event_id") != "")
    kept = named.unique(["gateway", "bot", "event_id"], keep="first", maintain_order=True)
    table = _join_back(table, kept, named)
    bare = table.select("order", "at_us", *IDENTITY).filter(
        nw.col("event_id") == "", nw.col("message_id") != "", nw.col("type").is_in([*MESSAGES, EDIT])
    )
    revision = nw.when(nw.col("type") == EDIT).then("at_us").otherwise(nw.lit(0))
    same = ["gateway", "bot", "chat_id", "message_id", "type", "role", "revision"]
    kept = bare.with_columns(revision=revision).unique(same, keep="first", maintain_order=True)
    return _join_back(table, kept, bare)


def _dropped(before: nw.DataFrame[Any], after: nw.DataFrame[Any]) -> dict[tuple[str, str], int]:
    if len(before) == len(after):
        return {}
    counts = [
        {row[:2]: row[2] for row in table.group_by("gateway", "bot").agg(n=nw.len()).iter_rows()}
        for table in (before, after)
    ]
    return {link: n - counts[1].get(link, 0) for link, n in counts[0].items()}


def _gaps(table: nw.DataFrame[Any], end: int | None) -> tuple[Gap, ...]:
    if end is None:
        return ()
    links = table.filter(nw.col("type").str.starts_with("connection.")).sort("at_us", "order")
    columns = ["gateway", "bot", "type", "at_us", "latency_s"]

    def last_seen(gateway: str, bot: str, before: int) -> int | None:
        mine = (nw.col("gateway") == gateway) & (nw.col("bot") == bot) & (nw.col("at_us") < before)
        seen: int | None = table.filter(mine)["at_us"].max()
        return seen

    return tuple(find_gaps(links.select(*columns).iter_rows(), end_us=end, last_seen=last_seen))


def _groupable(by: Strings) -> tuple[str, ...]:
    by = (by,) if isinstance(by, str) else tuple(dict.fromkeys(by))
    for name in by:
        if name in UNGROUPABLE:
            raise ConfigError(f"{name!r} is nothing to group by", hint="For example by='bot'.")
    return by


def _asked_for(as_of: datetime | None) -> int | None:
    if as_of is None:
        return None
    if not isinstance(as_of, datetime) or as_of.tzinfo is None:
        raise ConfigError(f"as_of={as_of!r} is no time with a zone", hint="Give a datetime in UTC.")
    return micros(as_of)
