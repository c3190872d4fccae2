"""Live events as a frame: what has come is kept in Arrow, a question costs what is new."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Unpack

from botbook._data.filters import Asked, Filters, filters
from botbook._data.memory import warn_of_memory
from botbook._data.reader import BATCH_ROWS, Head
from botbook._data.schema import COLUMNS, Kept, Row, rows_to_batch, to_row
from botbook._data.store import Store
from botbook._errors import StoreError
from botbook.events import Event

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

__all__ = ["LiveFrame", "events_frame", "to_frame"]

#: Put small batches together beyond so many: each is a chunk of every column.
SMALL_BATCHES: Final = 32
#: An archive of up to so many rows stays in memory once it was asked for, 0.2 GB a million (bots.md 4b).
ARCHIVE_HELD: Final = 2_000_000

_NAMES: Final = [column.name for column in COLUMNS]
#: Columns that pandas holds as plain memory; the others it takes from Arrow without a copy.
_FIXED: Final = [column.name for column in COLUMNS if column.kind in ("time", "number", "whole", "flag")]
_SHARED: Final = [name for name in _NAMES if name not in _FIXED]


class LiveFrame:
    """All events of a journal, those of other processes too, each once, in order of seq.

    Events that are handed to `append` are never read again from the disk; what was there before is
    read at the first question.

    Args:
        store: The journal. Closing it leaves what is held here readable no more.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()  # all below but the inbox
        self._inbox: list[Row] = []
        self._inbox_lock = threading.Lock()
        self._forget_all(store.state())

    def _forget_all(self, head: Head) -> None:
        """Hold nothing: at the start, and when rows were erased."""
        self._next = head.next  # seq of the first row that is not held
        self._epoch = head.epoch
        self._earlier: Filters | None = Filters(before_seq=self._next)
        self._floor: int | None = None  # rows up to this seq are in segments and not held; 0: all are
        self._sealed: list[pa.RecordBatch] = []  # BATCH_ROWS each
        self._small: list[pa.RecordBatch] = []  # younger, fewer rows than that together
        self._tail: list[Row] = []  # youngest, not in Arrow yet
        self._table: pa.Table | None = None
        self._view = _PandasView()

    @property
    def revision(self) -> int:
        """Grows with every new event, of this process or another, and when events were erased.

        Raises:
            StoreError: The journal cannot be read.
        """
        return self._store.head() - 1

    def append(self, rows: Sequence[tuple[int, Event]]) -> None:
        """Take rows that are on disk, in order of seq; meant for the store's ``done``.

        Args:
            rows: (seq, event), best as ``done`` got them.
        """
        fresh = rows.rows if isinstance(rows, Kept) else [to_row(event, seq) for seq, event in rows]
        with self._inbox_lock:
            self._inbox.extend(fresh)
        if len(self._inbox) >= BATCH_ROWS and self._lock.acquire(blocking=False):
            try:
                self._take()
            except StoreError:
                pass  # the rows stay in the inbox; the next question tells what is wrong
            finally:
                self._lock.release()

    def events(self, *, raw: bool = False, **asked: Unpack[Asked]) -> pd.DataFrame:
        """Events as a frame that is the caller's own.

        Args:
            raw: With the column ``raw``, read from the journal.
            **asked: What to narrow them by, see `Asked`; ``limit`` takes the newest.

        Returns:
            The columns of `COLUMNS`: times ``datetime64[us, UTC]``, ``feedback_type`` and ``tokens``
            ``Int64``, ``feedback_reasons`` lists, text ``str``, ``recovered`` ``bool``.

        Raises:
            CommandError: A filter cannot be understood.
            StoreError: The journal cannot be read.
        """
        wanted = filters(now=self._store.now, **asked)
        self._warn(wanted)
        if raw:
            return to_frame(self._store.read(raw=True, **asked))
        with self._lock:
            table = self._current(wanted)
            if table is None:
                return to_frame(self._store.read(**asked))
            if not wanted.narrow and (wanted.limit is None or wanted.limit >= len(table)):
                return self._view.frame(table)
        return to_frame(wanted.pick(table).select(_NAMES))

    def arrow(self, *, raw: bool = False, **asked: Unpack[Asked]) -> pa.Table:
        """Events as an Arrow table, which nobody can change.

        Args:
            raw: With the column ``raw``, read from the journal.
            **asked: As in `events`.

        Raises:
            CommandError: A filter cannot be understood.
            StoreError: The journal cannot be read.
        """
        wanted = filters(now=self._store.now, **asked)
        if raw:
            return self._store.read(raw=True, **asked)
        with self._lock:
            table = self._current(wanted)
        if table is None:
            return self._store.read(**asked)
        return wanted.pick(table).select(_NAMES)

    def _warn(self, wanted: Filters) -> None:
        """Say so before a frame eats the memory."""
        warn_of_memory(self._store.span().rows(wanted))

    def _current(self, wanted: Filters) -> pa.Table | None:
        """Everything that is wanted of the journal as it is now, with ``seq``, and more.

        Returns:
            None where that is more of the archive than should stay in memory.
        """
        import pyarrow as pa

        head = self._store.state()
        if head.epoch != self._epoch:
            self._forget_all(head)
        if self._earlier is not None:
            loaded = self._store.load(self._earlier, archived=False)
            self._sealed[:0] = loaded.batches
            self._floor = min(loaded.head.sealed, self._next - 1)
            self._earlier, self._table = None, None
        self._take()
        if self._next < head.next:  # another process wrote since, or a commit is not handed on yet
            self._read(head.next)
        if self._tail:
            self._batch_tail()
        if not self._reaches(wanted):
            return None
        if self._table is None:
            batches = [*self._sealed, *self._small] or [rows_to_batch([])]
            self._table = pa.Table.from_batches(batches)
        return self._table

    def _reaches(self, wanted: Filters) -> bool:
        """Whether all that is wanted is held; takes the archive in where it is needed and not large."""
        if not self._floor or wanted.after_seq >= self._floor:
            return True
        held = sum(map(len, (*self._sealed, *self._small)))
        if wanted.limit is not None and not replace(wanted, limit=None).narrow and wanted.limit <= held:
            return True
        old = Filters(before_seq=self._floor + 1)
        segments = [one for one in self._store.span().segments if one.may_hold(old)]
        if not any(one.may_hold(wanted) for one in segments):
            return True
        if sum(one.rows for one in segments) > ARCHIVE_HELD:
            return False
        self._sealed[:0] = self._store.load(old).batches
        self._floor, self._table, self._view = 0, None, _PandasView()
        return True

    def _take(self) -> None:
        """Empty the inbox. Where it has gaps, rows of other processes or of nobody, read the disk."""
        with self._inbox_lock:
            inbox = list(self._inbox)
        rows = [row for row in inbox if row[0] >= self._next]
        if rows and rows[-1][0] - self._next + 1 != len(rows):
            self._read(rows[-1][0] + 1)
        else:
            self._add(rows)
        with self._inbox_lock:
            del self._inbox[: len(inbox)]

    def _read(self, end: int) -> None:
        """Bring what is held up to a seq, from the disk."""
        if self._tail:
            self._batch_tail()
        loaded = self._store.load(Filters(after_seq=self._next - 1, before_seq=end))
        for batch in loaded.batches:
            self._hold(batch)
        self._next = end

    def _add(self, rows: Sequence[Row]) -> None:
        if rows:
            self._tail.extend(rows)
            self._next = rows[-1][0] + 1
        if len(self._tail) >= BATCH_ROWS:
            self._batch_tail()

    def _batch_tail(self) -> None:
        """Turn the tail into Arrow."""
        batch = self._batch(self._tail)
        self._tail = []
        self._hold(batch)

    def _hold(self, batch: pa.RecordBatch) -> None:
        """Put a batch behind the others; small ones together when they are many or make a whole one."""
        import pyarrow as pa

        self._small.append(batch)
        self._table = None
        whole = sum(map(len, self._small)) >= BATCH_ROWS
        if whole or len(self._small) > SMALL_BATCHES:
            self._small = pa.Table.from_batches(self._small).combine_chunks().to_batches()
        if whole:
            self._sealed += self._small
            self._small = []

    def _batch(self, rows: Sequence[Row]) -> pa.RecordBatch:
        """Rows as Arrow. Where an event holds what its column cannot, the journal has it as it can."""
        import pyarrow as pa

        try:
            return rows_to_batch(rows)
        except StoreError:
            asked = Filters(after_seq=rows[0][0] - 1, before_seq=rows[-1][0] + 1)
            kept = self._store.load(asked).batches or [rows_to_batch([])]
            return pa.Table.from_batches(kept).combine_chunks().to_batches()[0]


class _PandasView:
    """The same table as a frame, grown in place.

    Plain columns lie in memory with room at the end; each frame is a view of its first rows. New rows
    are written behind what any view shows. pandas copies a column when somebody changes it, because
    the memory stays in use here.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._room = 0
        self._memory: dict[str, tuple[np.ndarray[Any, Any], ...]] = {}
        self._whole: pd.DataFrame | None = None  # the plain columns with their room
        self._frame: pd.DataFrame | None = None

    def frame(self, table: pa.Table) -> pd.DataFrame:
        """A frame of all rows of a table that only ever grew since the last call."""
        import pandas as pd

        if self._frame is None or len(table) != self._rows:
            whole = self._whole
            if whole is None or len(table) > self._room:
                whole = self._whole = self._grown(len(table))
            self._fill(table.slice(self._rows))
            self._rows = len(table)
            shared = to_frame(table.select(_SHARED))
            self._frame = pd.concat([whole.iloc[: self._rows], shared], axis=1)[_NAMES]
        # Without copy-on-write, before pandas 3, a caller's change would show in the next frame.
        return self._frame.copy(deep=int(pd.__version__.split(".")[0]) < 3)

    def _grown(self, rows: int) -> pd.DataFrame:
        import numpy as np
        import pandas as pd

        self._room = max(BATCH_ROWS, rows + rows // 2)
        arrays: dict[str, Any] = {}
        for column in COLUMNS:
            if column.name not in _FIXED:
                continue
            values, *mask = (np.zeros(self._room, kind) for kind in _MEMORY[column.kind])
            for old, new in zip(self._memory.get(column.name, ()), (values, *mask), strict=False):
                new[: self._rows] = old[: self._rows]
            self._memory[column.name] = (values, *mask)
            arrays[column.name] = _over(column.kind, values, mask)
        return pd.DataFrame(arrays, copy=False)

    def _fill(self, new: pa.Table) -> None:
        place = slice(self._rows, self._rows + len(new))
        for name, (values, *mask) in self._memory.items():
            column = new[name]
            if mask:
                mask[0][place] = column.is_null().to_numpy()
                column = column.fill_null(0)
            values[place] = column.to_numpy()


#: Kind of column → types of its memory: values and, where they can be missing, the mask.
_MEMORY: Final[dict[str, tuple[str, ...]]] = {
    "time": ("int64",),
    "number": ("float64",),
    "whole": ("int64", "bool"),
    "flag": ("bool",),
}


def _over(kind: str, values: np.ndarray[Any, Any], mask: list[np.ndarray[Any, Any]]) -> Any:
    """A pandas array over memory, without a copy."""
    import pandas as pd

    if kind == "time":
        return pd.array(values, dtype=pd.DatetimeTZDtype("us", "UTC"), copy=False)
    return pd.arrays.IntegerArray(values, mask[0]) if mask else values


def events_frame(events: Sequence[Event]) -> pd.DataFrame:
    """Events in memory as pandas, with the columns and types of `LiveFrame.events`."""
    import pyarrow as pa

    batch = rows_to_batch([to_row(event, 0) for event in events])
    return to_frame(pa.Table.from_batches([batch]).select(_NAMES))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table of events as pandas, with the types of `LiveFrame.events`."""
    import pandas as pd
    import pyarrow as pa

    def pandas_type(arrow: pa.DataType) -> Any:
        if pa.types.is_integer(arrow):
            return pd.Int64Dtype()
        return pd.ArrowDtype(arrow) if pa.types.is_list(arrow) else None

    frame: pd.DataFrame = table.to_pandas(types_mapper=pandas_type)
    return frame
