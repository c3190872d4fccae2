"""A small result under construction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from botbook.metrics._time import Buckets

__all__ = ["Columns"]

STAMP: Final = pa.timestamp("us", tz="UTC")


class Columns:
    """A small result under construction: named columns of one length, each with its type."""

    def __init__(self) -> None:
        self._columns: dict[str, pa.Array] = {}

    def text(self, name: str, values: Iterable[str]) -> Columns:
        """Add text."""
        return self._add(name, values, pa.string())

    def count(self, name: str, values: Iterable[int | float]) -> Columns:
        """Add whole numbers."""
        return self._add(name, (int(value) for value in values), pa.int64())

    def number(self, name: str, values: Iterable[float]) -> Columns:
        """Add numbers; what is not known is NaN."""
        return self._add(name, (float(value) for value in values), pa.float64())

    def flag(self, name: str, values: Iterable[bool]) -> Columns:
        """Add yes or no."""
        return self._add(name, values, pa.bool_())

    def time(self, name: str, values: Iterable[int | None]) -> Columns:
        """Add times, given in microseconds since 1970; None where there is none."""
        return self._add(name, (None if value is None else int(value) for value in values), STAMP)

    def texts(self, name: str, values: Iterable[Sequence[str]]) -> Columns:
        """Add lists of text."""
        return self._add(name, values, pa.list_(pa.string()))

    @property
    def names(self) -> list[str]:
        """The columns there are."""
        return list(self._columns)

    def bucketed(
        self,
        cut: Buckets | None,
        *,
        times: int,
        spans: Sequence[tuple[int, int]],
        as_of_us: int | None,
    ) -> Columns:
        """Add the columns that say which bucket: each bucket `times` times over.

        They are start, end (UTC), bucket (local name), hours (true length), gap_s, unfinished.

        Args:
            cut: The buckets; None makes empty columns.
            times: Rows a bucket.
            spans: Gaps that do not overlap, in microseconds since 1970.
            as_of_us: What ends later is not over; None where nothing is open.
        """
        if cut is None:
            cut = Buckets(edges=np.array([0], dtype=np.int64), labels=[])

        def spread(values: Iterable[Any]) -> list[Any]:
            return [value for value in values for _ in range(times)]

        self.time("start", spread(cut.edges[:-1]))
        self.time("end", spread(cut.edges[1:]))
        self.text("bucket", spread(cut.labels))
        self.number("hours", spread(cut.hours()))
        self.number("gap_s", spread(cut.overlap_s(spans)))
        return self.flag(
            "unfinished", spread(as_of_us is not None and end > as_of_us for end in cut.edges[1:])
        )

    def table(self) -> pa.Table:
        """The columns as an Arrow table."""
        return pa.table(self._columns)

    def _add(self, name: str, values: Iterable[Any], kind: Any) -> Columns:
        self._columns[name] = pa.array(list(values), type=kind)
        return self
