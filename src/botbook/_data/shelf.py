"""Rows out of segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from botbook._data.filters import Filters
from botbook._data.schema import COLUMNS, RAW, Row, batch_to_rows, rows_to_batch
from botbook._data.segments import Segment, read_segment, tell_damaged
from botbook._errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Moved", "Shelf"]

_LEAN: Final = tuple(column.name for column in COLUMNS)


class Moved(Exception):
    """A segment was replaced while it was being read: ask again."""


class Shelf:
    """The segments of one moment. One that is damaged is left out, with a warning that names it.

    Args:
        folder: Where they are.
        segments: The manifest, in order of seq.
        now: Reads the manifest anew.
    """

    def __init__(
        self, folder: Path, segments: Sequence[Segment], *, now: Callable[[], Sequence[Segment]]
    ) -> None:
        self._folder = folder
        self._segments = segments
        self._now = now

    def batches(self, asked: Filters, *, raw: bool) -> list[pa.RecordBatch]:
        """The rows asked for, in order of seq; `limit` takes the newest, other files stay shut."""
        left, found = asked.limit, []
        for segment in reversed(self._wanted(asked)):
            if left is not None and left <= 0:
                break
            table = self._read(segment, replace(asked, limit=left), raw=raw)
            left = None if left is None else left - len(table)
            found.append(table.to_batches())
        return [batch for batches in reversed(found) for batch in batches]

    def oldest(self, asked: Filters) -> list[Row]:
        """The oldest rows asked for, with ``raw``; `limit` counts from the oldest."""
        rows: list[Row] = []
        for segment in self._wanted(asked):
            if asked.limit is not None and len(rows) >= asked.limit:
                break
            rows += self._as_rows(self._read(segment, replace(asked, limit=None), raw=True))
        return rows[: asked.limit]

    def rows(self, seqs: Iterable[int]) -> list[Row]:
        """Single rows, with ``raw``, those that are there."""
        import pyarrow as pa
        import pyarrow.compute as pc

        wanted, rows = sorted(set(seqs)), list[Row]()
        for segment in self._segments:
            here = [seq for seq in wanted if segment.first_seq <= seq <= segment.last_seq]
            if here:
                table = self._read(segment, Filters(), raw=True)
                rows += self._as_rows(table.filter(pc.is_in(table["seq"], value_set=pa.array(here))))
        return rows

    def _wanted(self, asked: Filters) -> list[Segment]:
        return [segment for segment in self._segments if segment.may_hold(asked)]

    def _read(self, segment: Segment, asked: Filters, *, raw: bool) -> pa.Table:
        columns = (*_LEAN, RAW.name) if raw else _LEAN
        try:
            return asked.pick(read_segment(self._folder, segment, columns=columns))
        except StoreError as error:
            if segment not in self._now():
                raise Moved from None
            tell_damaged(self._folder, segment, error)
            return _nothing(raw)

    @staticmethod
    def _as_rows(table: pa.Table) -> list[Row]:
        return [row for batch in table.to_batches() for row in batch_to_rows(batch)]


def _nothing(raw: bool) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches([rows_to_batch([], raw=raw)])
