"""How much and when: volume, hours."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import narwhals as nw

from botbook.metrics._columns import Columns
from botbook.metrics._counts import spread_groups, tally
from botbook.metrics._frame import MESSAGES, Strings, read, without_echoes
from botbook.metrics._statistics import rate
from botbook.metrics._time import local

__all__ = ["hour_weekday", "volume"]

#: Series that are always there, so that silence shows as 0.
ROLES: Final = ("user", "assistant")


def volume(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
) -> Any:
    """Messages per bucket and role.

    A message is one row, whatever came twice: deliveries are told apart by event id, and a sent
    message and its echo by message id. Edits and deletions do not change the count. User and bot
    are never summed (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes: pandas, polars, pyarrow or DuckDB.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W`` (from Monday), ``M``, or None for one bucket.
        by: Columns to group by, such as ``bot``, ``gateway`` or ``chat_type``.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        One row per bucket, group and role, in the kind of `frame`: start, end, bucket, hours,
        gap_s, unfinished, the columns of `by`, role, messages, per_hour (by the true length).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    by = [name for name in ([by] if isinstance(by, str) else by) if name != "role"]  # it always is
    rows = read(frame, metric="volume", needs=["role"], tz=tz, freq=freq, by=by, as_of=as_of)
    messages = rows.messages()
    cut = rows.buckets()
    counts = tally(messages, cut, [*rows.by, "role"])
    roles = [*ROLES, *sorted(set(messages["role"].to_list()) - set(ROLES))]
    groups = [(*group, role) for group in rows.groups(messages) for role in roles]
    values = [counts.get((k, *group), 0) for k in range(len(cut or ())) for group in groups]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by, "role"], groups, cut)
    made.count("messages", values)
    hours = [h for h in (cut.hours() if cut else []) for _ in groups]
    made.number("per_hour", [rate(value, hour) for value, hour in zip(values, hours, strict=True)])
    echoes = len(rows.messages(echoes=True)) - len(messages)
    return rows.give(made, used=len(messages), numbers={"echoes": echoes})


def hour_weekday(frame: Any, *, tz: str = "UTC", by: Strings = (), as_of: datetime | None = None) -> Any:
    """Mean user messages per local weekday and hour.

    The count is divided by the number of such hours in the range, by their true length: an hour
    that the clock skipped is not counted, one that came twice counts twice (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of days and hours.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        168 rows per group: the columns of `by`, weekday (0 is Monday), hour, messages, hours (how
        many such hours there were), mean (messages an hour; NaN where there was none), gap_s.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    rows = read(frame, metric="hour_weekday", needs=["role"], tz=tz, freq="h", by=by, as_of=as_of)
    messages = without_echoes(rows.only(nw.col("type").is_in(MESSAGES), nw.col("role") == "user"))
    cut, groups = rows.buckets(), rows.groups(messages)
    counts = tally(messages, cut, [*rows.by])
    cells = [(day, hour) for day in range(7) for hour in range(24)]
    where = [local(int(edge), rows.zone) for edge in (cut.edges[:-1] if cut else [])]
    slots: dict[tuple[int, int], list[int]] = {cell: [] for cell in cells}
    for k, at in enumerate(where):
        slots[at.weekday(), at.hour].append(k)
    lengths, gaps = (cut.hours(), cut.overlap_s(rows.spans())) if cut else ([], [])
    order = [(group, cell) for group in groups for cell in cells] if cut else []
    found = [sum(counts.get((k, *group), 0) for k in slots[cell]) for group, cell in order]
    hours = [sum(lengths[k] for k in slots[cell]) for _, cell in order]
    made = Columns()
    for position, name in enumerate(rows.by):
        made.text(name, [group[position] for group, _ in order])
    made.count("weekday", [cell[0] for _, cell in order]).count("hour", [cell[1] for _, cell in order])
    made.count("messages", found).number("hours", hours)
    made.number("mean", [rate(count, hour) for count, hour in zip(found, hours, strict=True)])
    made.number("gap_s", [sum(gaps[k] for k in slots[cell]) for _, cell in order])
    return rows.give(made, used=len(messages))
