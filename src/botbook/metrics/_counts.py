"""Counting by bucket and group."""

from __future__ import annotations

from typing import Any

import narwhals as nw

from botbook.metrics._frame import Columns, micros_of
from botbook.metrics._time import Buckets

__all__ = ["spread_groups", "tally"]


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
