"""How much, by whom and when: volume, users, growth, retention, hours."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import narwhals as nw

from botbook.metrics._frame import Columns, Strings, micros_of, read
from botbook.metrics._statistics import rate
from botbook.metrics._time import Buckets

__all__ = ["volume"]

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
    rows = read(frame, metric="volume", needs=["role"], tz=tz, freq=freq, by=by, as_of=as_of)
    messages = rows.messages()
    cut = rows.buckets()
    counts = tally(messages, cut, [*rows.by, "role"])
    roles = [*ROLES, *sorted(set(messages["role"].to_list()) - set(ROLES))]
    groups = [(*group, role) for group in rows.groups(messages) for role in roles]
    values = [counts.get((k, *group), 0) for k in range(len(cut or ())) for group in groups]
    made = Columns().bucketed(cut, rows, times=len(groups))
    spread_groups(made, [*rows.by, "role"], groups, cut)
    made.count("messages", values)
    hours = [h for h in (cut.hours() if cut else []) for _ in groups]
    made.number("per_hour", [rate(value, hour) for value, hour in zip(values, hours, strict=True)])
    echoes = len(rows.messages(echoes=True)) - len(messages)
    return rows.give(made, used=len(messages), echoes=echoes)


def tally(
    table: nw.DataFrame[Any], cut: Buckets | None, columns: list[str], *, distinct: str = ""
) -> dict[tuple[Any, ...], int]:
    """Rows per bucket and group, or distinct values of one column; what is not there is 0."""
    if cut is None:
        return {}
    index = nw.new_series("slot", cut.index(micros_of(table)), nw.Int64, backend="pyarrow")
    what = nw.col(distinct).n_unique() if distinct else nw.len()
    grouped = (
        table.with_columns(index)
        .group_by("slot", *columns)
        .agg(what.alias("n"))
        .select("slot", *columns, "n")
    )
    return {row[:-1]: row[-1] for row in grouped.iter_rows()}


def spread_groups(
    made: Columns, names: list[str], groups: list[tuple[str, ...]], cut: Buckets | None
) -> None:
    """Add the group columns, repeated for each bucket."""
    for position, name in enumerate(names):
        made.text(name, [group[position] for _ in range(len(cut or ())) for group in groups])
