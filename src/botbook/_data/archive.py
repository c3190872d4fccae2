"""The archive: old rows of the journal move into segments, and very old segments go."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from botbook._data.database import explain, open_writer
from botbook._data.schema import ROW_NAMES, micros, rows_to_batch
from botbook._data.segments import (
    GROUP_ROWS,
    Segment,
    add_to_manifest,
    locked,
    manifest,
    remove,
    strays,
    write_segment,
)

__all__ = ["Archived", "archive", "discard", "transaction"]

#: How long after its arrival an event may come again and still be known (bots.md 1c asks for 24 h).
KNOWN: Final = timedelta(days=7)
#: A transaction of the archive aims at so many seconds; others wait for it that long at the most.
STEP_SECONDS: Final = 0.008
STEP_ROWS: Final = (20, 5000)
#: Steps after which what was written moves from SQLite's log into its file.
CHECKPOINT_STEPS: Final = 4
#: Rows that are read and converted in one go, and the rest after it, in seconds: Python runs one thread.
READ_ROWS: Final = 256
READ_REST: Final = 0.002

_ROWS: Final = (
    f"SELECT seq, {', '.join(ROW_NAMES)} FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
)
_REMEMBER: Final = """INSERT OR IGNORE INTO sealed_ids
    SELECT gateway, bot, event_id, received_at + ?1 FROM events WHERE seq <= ?2 AND received_at + ?1 > ?3"""
_FORGET_IDS: Final = """DELETE FROM sealed_ids WHERE (gateway, bot, event_id) IN (
    SELECT gateway, bot, event_id FROM sealed_ids WHERE until < ? ORDER BY until LIMIT ?)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """What was moved.

    Attributes:
        rows: How many rows.
        segments: Names of the new files.
        bytes: Their size.
        seconds: How long it took.
    """

    rows: int
    segments: tuple[str, ...]
    bytes: int
    seconds: float


def archive(
    journal: Path,
    *,
    before: datetime,
    now: datetime,
    segment_rows: int = GROUP_ROWS,
    least: int = 1,
    sleep: Callable[[float], None] = time.sleep,
    gate: AbstractContextManager[Any] | None = None,
) -> Archived:
    """Move the rows that arrived before a time, up to the first that did not, into segments.

    A crash at any point loses nothing and doubles nothing: rows count where the manifest says, and
    what it left half done is finished or cleaned up by the next call. Others write meanwhile.

    Args:
        journal: A journal that `prepare` has seen.
        before: By `received_at`.
        now: The wall clock.
        segment_rows: Most rows of one file.
        least: Leave everything as it is where there are fewer rows to move.
        sleep: Waits between steps.
        gate: Held while the journal is locked: this process's writer waits for it without polling.

    Raises:
        StoreError: A row is damaged, the disk is full, or another program archives for long.
    """
    began = time.monotonic()
    made: list[Segment] = []
    with _opened(journal) as (folder, connection):
        remove(folder, strays(folder, manifest(connection)))
        step = _Steps(connection, sleep, gate or nullcontext())
        _clear(step, now)
        last = _last_before(connection, micros(before))
        if last - _sealed(connection) < least:
            last = 0
        while (first := _sealed(connection)) < last:
            made += _seal(step, folder, first, last, segment_rows, now)
            _clear(step, now)
    return Archived(
        rows=sum(segment.rows for segment in made),
        segments=tuple(segment.name for segment in made),
        bytes=sum(segment.bytes for segment in made),
        seconds=time.monotonic() - began,
    )


def discard(journal: Path, *, before: datetime) -> int:
    """Delete the segments that hold nothing younger than a time, by `at`, and their handler records.

    Returns:
        How many rows are gone.
    """
    with _opened(journal) as (folder, connection):
        old = [segment for segment in manifest(connection) if segment.last_at < micros(before)]
        with transaction(connection):
            for segment in old:
                connection.execute("DELETE FROM segments WHERE name = ?", (segment.name,))
                connection.execute(
                    "DELETE FROM calls WHERE seq BETWEEN ? AND ?", (segment.first_seq, segment.last_seq)
                )
            if old:
                connection.execute("UPDATE head SET next = next + 1, epoch = epoch + 1")
        remove(folder, [segment.name for segment in old])
        remove(folder, strays(folder, manifest(connection)))
    return sum(segment.rows for segment in old)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, on the disk."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _opened(journal: Path) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """The lock, and a connection that never makes another writer pay for a checkpoint of what it wrote."""
    with locked(journal) as folder:
        try:
            with closing(open_writer(journal)) as connection:
                connection.execute("PRAGMA wal_autocheckpoint=0")
                yield folder, connection
        except sqlite3.Error as error:
            raise explain(error, journal) from None


def _sealed(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT sealed FROM head").fetchone()[0])


def _last_before(connection: sqlite3.Connection, us: int) -> int:
    """The last seq of the rows that go: all in front of the first that arrived later."""
    sealed = _sealed(connection)
    found = connection.execute(
        "SELECT seq FROM events WHERE seq > ? AND received_at >= ? ORDER BY seq LIMIT 1", (sealed, us)
    ).fetchone()
    if found:
        return int(found[0]) - 1
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])


def _seal(step: _Steps, folder: Path, first: int, last: int, most: int, now: datetime) -> list[Segment]:
    """One segment: the file, then its line in the manifest, which moves the border."""
    connection, batches, after, left = step.connection, [], first, most
    while left and (rows := connection.execute(_ROWS, (after, last, min(left, READ_ROWS))).fetchall()):
        batches.append(rows_to_batch(rows, raw=True))
        after, left = rows[-1][0], left - len(rows)
        step.rest(READ_REST)
    end = last if left else after
    made = (
        [write_segment(folder, batches, first_seq=first + 1, last_seq=end, sealed_at=micros(now))]
        if batches
        else []
    )
    with step.alone():
        for segment in made:
            add_to_manifest(connection, segment)
        connection.execute("UPDATE head SET sealed = ?", (end,))
    return made


class _Steps:
    """Short transactions with a rest after each, so that a live event waits for one step at the most."""

    def __init__(
        self, connection: sqlite3.Connection, rest: Callable[[float], None], gate: AbstractContextManager[Any]
    ) -> None:
        self.connection = connection
        self.rest = rest
        self._gate = gate
        self._rows = STEP_ROWS[0]
        self._count = 0

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One transaction, then a rest as long as it took; the next one is of the right size."""
        began = time.monotonic()
        with self._gate, transaction(self.connection):
            yield
        took = time.monotonic() - began
        low, high = STEP_ROWS
        self._rows = max(low, min(high, int(self._rows * min(1.5, STEP_SECONDS / max(took, 1e-6)))))
        self._count += 1
        if self._count % CHECKPOINT_STEPS == 0:
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self.rest(max(took, STEP_SECONDS))

    def run(self, work: Callable[[int], int]) -> int:
        """Do some of it.

        Args:
            work: Does as many rows as it is told and returns how many it did.
        """
        with self.alone():
            return work(self._rows)


def _clear(step: _Steps, now: datetime) -> None:
    """Remove rows that are sealed from the journal, keeping their ids for a while; drop ids of old."""
    connection, known = step.connection, int(KNOWN.total_seconds()) * 1_000_000
    end = _sealed(connection)

    def rows(count: int) -> int:
        found = connection.execute(
            "SELECT max(seq), count(*) FROM (SELECT seq FROM events WHERE seq <= ? ORDER BY seq LIMIT ?)",
            (end, count),
        ).fetchone()
        if found[1]:
            connection.execute(_REMEMBER, (known, found[0], micros(now)))
            connection.execute("DELETE FROM events WHERE seq <= ?", (found[0],))
        return int(found[1])

    def ids(count: int) -> int:
        return connection.execute(_FORGET_IDS, (micros(now), count)).rowcount

    while step.run(rows):
        pass
    while step.run(ids):
        pass
