"""Counting by bucket and group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from botbook.metrics._columns import Columns
from botbook.metrics._kinds import micros_of
from botbook.metrics._statistics import rate, wilson
from botbook.metrics._time import Buckets, Ints

__all__ = ["cells_of", "rates", "spread_groups", "tally"]


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


def cells_of(
    cut: Buckets | None, at_us: Ints, keys: Sequence[tuple[str, ...]]
) -> dict[tuple[int, tuple[str, ...]], list[int]]:
    """Which things are in which bucket and group.

    Args:
        cut: The buckets.
        at_us: When each thing was.
        keys: The group of each.
    """
    cells: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    if cut is not None:
        for thing, (slot, key) in enumerate(zip(cut.index(at_us).tolist(), keys, strict=True)):
            cells.setdefault((slot, key), []).append(thing)
    return cells


def rates(made: Columns, name: str, counts: Sequence[tuple[int, int]]) -> Columns:
    """Add a share and its Wilson 95 % interval: ``name_rate``, ``name_low``, ``name_high``.

    Args:
        made: The result.
        name: What is shared.
        counts: Numerator and denominator of each row.
    """
    ends = [wilson(*count) for count in counts]
    made.number(f"{name}_rate", [rate(*count) for count in counts])
    made.number(f"{name}_low", [low for low, _ in ends])
    return made.number(f"{name}_high", [high for _, high in ends])
