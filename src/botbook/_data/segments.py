"""Segments: sealed ranges of the journal as Parquet files in a folder beside it."""

from __future__ import annotations

import os
import sqlite3
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botbook._data.filters import Filters
from botbook._errors import StoreError, StoreFull

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "DamagedSegment",
    "Segment",
    "add_to_manifest",
    "folder_of",
    "is_whole",
    "locked",
    "manifest",
    "read_segment",
    "remove",
    "strays",
    "sync_folder",
    "tell_damaged",
    "write_segment",
]

#: Rows of a row group, and of a segment at the most (bots.md 5).
GROUP_ROWS: Final = 262_144
LOCK_SECONDS: Final = 60.0
_COLUMNS: Final = "name, first_seq, last_seq, first_at, last_at, rows, bytes, in_order, sealed_at"


class DamagedSegment(UserWarning):
    """A segment cannot be read; its rows are left out, all others are there."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One line of the manifest.

    Attributes:
        name: Of the file, in the segments' folder.
        first_seq: First seq of the range that it stands for.
        last_seq: Last seq of that range.
        first_at: Earliest `at`, in UTC microseconds.
        last_at: Latest `at`, in UTC microseconds.
        rows: How many.
        bytes: Size of the file.
        in_order: Whether its rows, sorted by time, are in order of seq as well.
        sealed_at: When it was made, in UTC microseconds.
    """

    name: str
    first_seq: int
    last_seq: int
    first_at: int
    last_at: int
    rows: int
    bytes: int
    in_order: int
    sealed_at: int

    def may_hold(self, asked: Filters) -> bool:
        """Whether rows that are asked for can be in it."""
        return (
            self.last_seq > asked.after_seq
            and (asked.before_seq is None or self.first_seq < asked.before_seq)
            and (asked.since is None or self.last_at >= asked.since)
            and (asked.until is None or self.first_at < asked.until)
        )


def folder_of(journal: Path) -> Path:
    """The folder of a journal's segments."""
    return journal.with_name(f"{journal.name}.segments")


def manifest(connection: sqlite3.Connection) -> list[Segment]:
    """The segments of a journal, in order of seq."""
    rows = connection.execute(f"SELECT {_COLUMNS} FROM segments ORDER BY first_seq")
    return [Segment(*row) for row in rows]


def add_to_manifest(connection: sqlite3.Connection, segment: Segment) -> None:
    """Add a segment, in the transaction of the caller."""
    connection.execute(
        f"INSERT INTO segments ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(segment)
    )


def write_segment(
    folder: Path, batches: Sequence[pa.RecordBatch], *, first_seq: int, last_seq: int, sealed_at: int
) -> Segment:
    """Write rows to a file that is on the disk, under its name, when this returns.

    Args:
        folder: The segments' folder; made where there is none.
        batches: Rows with ``seq`` and ``raw``.
        first_seq: First seq of the range.
        last_seq: Last seq of the range.
        sealed_at: For the manifest.

    Raises:
        StoreFull: The disk refuses it; nothing is left behind.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    table = pa.Table.from_batches(batches)
    in_order = _grows(table["at"]) and _grows(table["seq"])
    if not in_order:
        table = table.sort_by([("at", "ascending"), ("seq", "ascending")])
        in_order = _grows(table["seq"])
    name = f"{first_seq:012d}-{last_seq:012d}-{uuid.uuid4().hex[:8]}.parquet"
    size = _write_safely(folder, name, table)
    span = pc.min_max(table["at"].cast(pa.int64())).as_py()
    return Segment(
        name, first_seq, last_seq, span["min"], span["max"], len(table), size, int(in_order), sealed_at
    )


def _grows(column: Any) -> bool:
    import pyarrow.compute as pc

    fine = all(
        pc.all(pc.less_equal(chunk[:-1], chunk[1:])).as_py() is not False
        for chunk in (column.combine_chunks(),)
        if len(chunk) > 1
    )
    return bool(fine)


def _write_safely(folder: Path, name: str, table: pa.Table) -> int:
    """Temporary name, fsync, rename, fsync of the folder (bots.md 5). Returns the size."""
    import pyarrow.parquet as pq

    temporary = folder / f"{name}.tmp"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            pq.write_table(
                table, file, compression="zstd", row_group_size=GROUP_ROWS, write_page_checksum=True
            )
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        temporary.rename(folder / name)
        sync_folder(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StoreFull(f"the segment {folder / name} cannot be written: {error.strerror}") from None
    return size


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable; systems that cannot open a folder do so by themselves."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def is_whole(folder: Path, segment: Segment) -> bool:
    """Whether a file is as long as it was and ends as it should; its pages are checked when read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / segment.name
    try:
        return path.stat().st_size == segment.bytes and pq.read_metadata(path).num_rows == segment.rows
    except (OSError, pa.ArrowException):
        return False


def read_segment(folder: Path, segment: Segment, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a segment, in order of seq.

    Args:
        folder: The segments' folder.
        segment: Which one.
        columns: Only these; ``seq`` always.

    Raises:
        StoreError: It is damaged or gone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = None if columns is None else list(dict.fromkeys(("seq", *columns)))
    try:
        with pq.ParquetFile(folder / segment.name, memory_map=True, page_checksum_verification=True) as file:
            if file.metadata.num_rows != segment.rows:
                raise StoreError(f"the segment {segment.name} has {file.metadata.num_rows} rows")
            table = file.read(columns=names)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"the segment {segment.name} cannot be read: {error}", hint="Put it back from a copy."
        ) from None
    return table if segment.in_order else table.sort_by("seq")


def tell_damaged(folder: Path, segment: Segment, why: object) -> None:
    """Warn that rows are left out."""
    warnings.warn(
        f"{segment.rows} archived events are left out, all others are there: {folder / segment.name} "
        f"is damaged or gone ({why})",
        DamagedSegment,
        stacklevel=2,
    )


def remove(folder: Path, names: Sequence[str]) -> None:
    """Delete segment files; one that is in use on Windows stays, and goes as a stray later."""
    for name in names:
        try:
            (folder / name).unlink(missing_ok=True)
        except PermissionError:
            continue
    if names:
        sync_folder(folder)


def strays(folder: Path, known: Sequence[Segment]) -> list[str]:
    """Files that no manifest names: left by a crash. Only meant for who holds the lock."""
    if not folder.is_dir():
        return []
    names = {segment.name for segment in known}
    found = (path.name for path in folder.iterdir() if path.suffix in (".parquet", ".tmp"))
    return sorted(name for name in found if name not in names)


@contextmanager
def locked(journal: Path, *, seconds: float = LOCK_SECONDS) -> Iterator[Path]:
    """Be the only one, of all processes, that changes the archive; a crash sets the lock free.

    Args:
        journal: Whose archive.
        seconds: Longest wait.

    Yields:
        The segments' folder.

    Raises:
        StoreError: Another program holds it for longer.
    """
    folder = folder_of(journal)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        connection = sqlite3.connect(folder / "lock", timeout=seconds, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreFull(f"the folder {folder} cannot be used: {error}") from None
    with closing(connection):
        try:
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            raise StoreError(
                f"another program is archiving or erasing in {folder}: {error}",
                hint="Try again when it is done.",
            ) from None
        yield folder
