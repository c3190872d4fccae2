"""The one thread that writes: group commit, de-duplication, and patience with a full disk."""

from __future__ import annotations

import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

from botbook._data.database import explain, forked
from botbook._data.schema import ROW_NAMES, Kept, Row, storable, storable_mark, to_row
from botbook._errors import StoreError
from botbook.events import Event

__all__ = ["Done", "Pace", "Trouble", "Writer"]

Done = Callable[[Kept], None]
Trouble = Callable[[StoreError | None], None]

#: Commit when so many wait, or so long after the last commits (bots.md 5).
GROUP: Final = 200
GROUP_SECONDS: Final = 0.05
#: Commits in a row that do not wait: an event, its handler's start, the answer and its end.
BURST: Final = 4
#: Most events of one transaction, unless one `append` brings more.
GROUP_MOST: Final = 1000
RETRY_SECONDS: Final = 0.05
RETRY_MOST_SECONDS: Final = 1.0

_INSERT: Final = (
    f"INSERT INTO events (seq, {', '.join(ROW_NAMES)}) VALUES ({', '.join('?' * (len(ROW_NAMES) + 1))}) "
    "ON CONFLICT (gateway, bot, event_id) DO NOTHING"
)
_MARK: Final = """INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (seq, handler) DO UPDATE SET
        version = excluded.version, state = excluded.state,
        started_at = coalesce(excluded.started_at, started_at), ended_at = excluded.ended_at,
        seconds = excluded.seconds, error = excluded.error, calls = excluded.calls, owner = excluded.owner"""
#: A value that SQLite cannot hold, as its driver or `to_row` says it.
_UNFIT: Final = (
    ValueError,
    TypeError,
    OverflowError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
)
_log = logging.getLogger("botbook")


class Pace:
    """When the next commit may be: `BURST` at once, then one every `GROUP_SECONDS`.

    Args:
        burst: Commits that need not wait after a quiet time.
        every: Seconds that bring back one of them.
    """

    def __init__(self, *, burst: int = BURST, every: float = GROUP_SECONDS) -> None:
        self._spare = burst * every
        self._every = every
        self._rested = 0.0  # when the whole burst is there again

    def delay(self, now: float) -> float:
        """Seconds until a commit is due; never above `every`."""
        return max(0.0, self._rested + self._every - self._spare - now)

    def took(self, now: float) -> None:
        """A commit was made."""
        self._rested = min(max(self._rested, now) + self._every, now + self._spare)


@dataclass(slots=True)
class _Events:
    events: list[Event]
    done: Done

    def __len__(self) -> int:
        return len(self.events)


@dataclass(slots=True)
class _Marks:
    rows: list[Row]
    done: Callable[[], None] | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(slots=True)
class _Flush:
    reached: Callable[[], None]

    def __len__(self) -> int:
        return GROUP  # commit at once


_Item = _Events | _Marks | _Flush


class Writer:
    """The writer's thread and what waits for it.

    Args:
        path: A journal that `prepare` has seen.
        open_connection: Opens it for writing.
        on_trouble: Told, on the writer's thread, when writing fails and when it goes again.
    """

    def __init__(
        self, path: Path, *, open_connection: Callable[[Path], sqlite3.Connection], on_trouble: Trouble | None
    ) -> None:
        self.duplicates = 0
        #: Held for each transaction; who else in this process locks the journal often holds it, too.
        self.gate = threading.Lock()
        self._path = path
        self._open = open_connection
        self._on_trouble = on_trouble
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._items: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._taken = 0
        self._settled = 0
        self._closing = threading.Event()
        self._abandoned = False
        self._trouble = ""
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="botbook-writer", daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Events and marks that wait for a commit."""
        return self._taken - self._settled

    def append(self, events: Sequence[Event], done: Done) -> None:
        for event in events:
            if event.at.utcoffset() is None or event.received_at.utcoffset() is None:
                raise TypeError(f"event {event.event_id!r} has a time without zone")
        self._put(_Events(list(events), done))

    def mark(self, rows: list[Row], done: Callable[[], None] | None) -> None:
        self._put(_Marks(rows, done))

    def flush(self, timeout: float) -> bool:
        """Wait until all that was handed in before is on disk."""
        reached = threading.Event()
        self._put(_Flush(reached.set))
        return reached.wait(timeout)

    def close(self, timeout: float) -> int:
        """Write what waits, for so many seconds at the most, and end the thread.

        Returns:
            How many events and marks could not be written.
        """
        if os.getpid() != self._pid:  # a fork took the memory along, not the thread
            return 0
        with self._lock:
            if not self._closing.is_set():
                self._closing.set()
                self._items.put(_Flush(lambda: None))
        if threading.current_thread() is not self._thread:
            self._thread.join(max(0.0, timeout))
            self._abandoned = True
        return self.backlog

    def _put(self, item: _Item) -> None:
        if os.getpid() != self._pid:
            raise forked()
        with self._lock:
            if self._closing.is_set():
                raise StoreError("this journal is closed", hint="Connect anew.")
            if not isinstance(item, _Flush):
                self._taken += len(item)
            self._items.put(item)

    # The writer's thread

    def _run(self) -> None:
        pace = Pace()
        try:
            while not (self._closing.is_set() and self._items.empty()) and not self._abandoned:
                items = self._collect(pace)
                if not self._keep(items):
                    return
                pace.took(time.monotonic())
        finally:
            if self._connection is not None:
                self._connection.close()

    def _collect(self, pace: Pace) -> list[_Item]:
        """Wait for work, then for more of it until the group is full or its time has come."""
        items = [self._items.get()]
        count = len(items[0])
        due = time.monotonic() + pace.delay(time.monotonic())
        while count < GROUP_MOST:
            try:
                items.append(self._items.get_nowait())
            except queue.Empty:
                wait = due - time.monotonic()
                if count >= GROUP or wait <= 0 or not self._await(items, wait):
                    break
            count += len(items[-1])
        return items

    def _await(self, items: list[_Item], seconds: float) -> bool:
        try:
            items.append(self._items.get(timeout=seconds))
        except queue.Empty:
            return False
        return True

    def _keep(self, items: list[_Item]) -> bool:
        """Commit, however long it takes; then say so to those who wait.

        Returns:
            False if it was given up because the store is being closed.
        """
        delay, mended = RETRY_SECONDS, False
        while True:
            last = self._closing.is_set()
            try:
                with self.gate:
                    kept = self._transact(items)
                break
            except Exception as error:  # whatever it is: people's messages wait behind it
                if self._abandoned:
                    return False
                if isinstance(error, _UNFIT) and not mended:
                    _mend(items)
                    mended = True
                    continue
                self._tell(self._named(error))
            if last:
                return False
            self._closing.wait(delay)
            delay = min(delay * 2, RETRY_MOST_SECONDS)
        self._tell(None)
        self._settled += sum(len(item) for item in items if not isinstance(item, _Flush))
        self._hand_on(items, kept)
        return True

    def _named(self, error: Exception) -> StoreError:
        if isinstance(error, StoreError):
            return error
        if isinstance(error, sqlite3.Error):
            return explain(error, self._path)
        return StoreError(f"the journal {self._path} fails: {error!r}")

    def _transact(self, items: list[_Item]) -> list[Kept]:
        """One transaction.

        Returns:
            For each item of events the new ones, each behind its seq.
        """
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            if self._abandoned:
                raise StoreError("this journal is closed")
            kept = self._insert(connection, [item for item in items if isinstance(item, _Events)])
            for item in items:
                if isinstance(item, _Marks):
                    connection.executemany(_MARK, item.rows)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.duplicates += sum(len(item) for item in items if isinstance(item, _Events)) - sum(map(len, kept))
        return kept

    def _insert(self, connection: sqlite3.Connection, items: list[_Events]) -> list[Kept]:
        if not items:
            return []
        first = int(connection.execute("SELECT next FROM head").fetchone()[0])
        numbered, end = [], first
        for item in items:
            numbered.append([to_row(event, seq) for seq, event in enumerate(item.events, end)])
            end += len(item)
        cursor = connection.executemany(_INSERT, chain.from_iterable(numbered))
        whole = cursor.rowcount == end - first
        landed: set[int] = set()
        if not whole:
            landed.update(
                seq for (seq,) in connection.execute("SELECT seq FROM events WHERE seq >= ?", (first,))
            )
            end = max(landed, default=first - 1) + 1
        if end != first:
            connection.execute("UPDATE head SET next = ?", (end,))
        return [
            _kept(rows, item.events, None if whole else landed)
            for rows, item in zip(numbered, items, strict=True)
        ]

    def _connected(self) -> sqlite3.Connection:
        """The connection, to the file that bears the journal's name.

        Raises:
            StoreError: The file was moved or deleted; SQLite itself would go on writing into it.
        """
        if self._connection is None:
            self._connection = self._open(self._path)
            self._file = _identity(self._path)
        elif _identity(self._path) != self._file:
            raise StoreError(
                f"the journal {self._path} was moved or deleted while in use",
                hint="Put it back, or close this connection and open it anew.",
            )
        return self._connection

    def _tell(self, trouble: StoreError | None) -> None:
        """Report a change for the worse or the better, not every attempt."""
        text = str(trouble or "")
        if text != self._trouble:
            self._trouble = text
            if self._on_trouble is not None:
                self._call(self._on_trouble, trouble)

    def _hand_on(self, items: list[_Item], kept: list[Kept]) -> None:
        turn = iter(kept)
        for item in items:
            if isinstance(item, _Events):
                self._call(item.done, next(turn))
            elif isinstance(item, _Flush):
                item.reached()
            elif item.done is not None:
                self._call(item.done)

    @staticmethod
    def _call(function: Callable[..., None], *arguments: Any) -> None:
        """Call back; what it raises is its own fault and must not end the writing."""
        try:
            function(*arguments)
        except Exception:
            _log.exception("a callback of the journal failed")


def _kept(rows: list[Row], events: Sequence[Event], landed: set[int] | None) -> Kept:
    """Rows and their events, of those that landed; None for all."""
    pairs = enumerate(events, rows[0][0] if rows else 0)
    if landed is None:
        return Kept(pairs, rows)
    return Kept((pair for pair in pairs if pair[0] in landed), [row for row in rows if row[0] in landed])


def _mend(items: list[_Item]) -> None:
    """Make every value fit; one of them did not, and which one SQLite does not say."""
    for item in items:
        if isinstance(item, _Events):
            item.events = [storable(event) for event in item.events]
        elif isinstance(item, _Marks):
            item.rows = [storable_mark(row) for row in item.rows]


def _identity(path: Path) -> tuple[int, int]:
    """Device and number of a file; (0, 0) where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)
