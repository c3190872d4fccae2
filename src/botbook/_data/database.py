"""The journal as an SQLite file: its tables, how it is opened, what its errors mean."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from botbook._data.schema import COLUMNS, RAW
from botbook._errors import StoreError, StoreFull, StoreTooNew

__all__ = ["BUSY_SECONDS", "VERSION", "explain", "forked", "open_reader", "open_writer", "prepare"]

VERSION: Final = 2
#: "botb", so that another program's SQLite file is known for what it is.
APPLICATION_ID: Final = 0x626F7462
#: How long to wait for another process that is writing (bots.md 5).
BUSY_SECONDS: Final = 5.0

_MAGIC: Final = b"SQLite format 3\0"
_VERSION_AT: Final = 60  # sqlite.org/fileformat.html 1.3: user version, big-endian
_APPLICATION_AT: Final = 68
_DAMAGED_HINT: Final = (
    'Nothing was deleted. Close every program that uses it, keep a copy, and try sqlite3\'s ".recover".'
)

_TABLES: Final = (
    f"""CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        {", ".join(f"{column.name} {column.sqlite}" for column in (*COLUMNS, RAW))}
    )""",
    "CREATE UNIQUE INDEX events_id ON events (gateway, bot, event_id)",
    # The next seq. Kept apart, so that a seq is never given twice, even when the newest rows are erased.
    "CREATE TABLE head (next INTEGER NOT NULL)",
    "INSERT INTO head VALUES (1)",
    """CREATE TABLE calls (
        seq INTEGER NOT NULL,
        handler TEXT NOT NULL,
        version TEXT NOT NULL,
        state TEXT NOT NULL,
        started_at INTEGER,
        ended_at INTEGER,
        seconds REAL,
        error TEXT NOT NULL,
        calls TEXT NOT NULL,
        owner TEXT NOT NULL,
        PRIMARY KEY (seq, handler)
    ) WITHOUT ROWID""",
    "CREATE INDEX calls_running ON calls (seq) WHERE state = 'started'",
)

#: What version 2 adds: the archive. Of a version to the statements that lead to it.
_UPGRADES: Final[dict[int, tuple[str, ...]]] = {
    2: (
        # Rows up to `sealed` count in the segments alone; those still in `events` wait to be removed.
        "ALTER TABLE head ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0",
        # Grows when rows are erased: whoever holds rows in memory reads them anew.
        "ALTER TABLE head ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0",
        """CREATE TABLE segments (
            name TEXT PRIMARY KEY,
            first_seq INTEGER NOT NULL,
            last_seq INTEGER NOT NULL,
            first_at INTEGER NOT NULL,
            last_at INTEGER NOT NULL,
            rows INTEGER NOT NULL,
            bytes INTEGER NOT NULL,
            in_order INTEGER NOT NULL,
            sealed_at INTEGER NOT NULL
        ) WITHOUT ROWID""",
        # Ids of sealed rows that may still be sent again.
        """CREATE TABLE sealed_ids (
            gateway TEXT NOT NULL,
            bot TEXT NOT NULL,
            event_id TEXT NOT NULL,
            until INTEGER NOT NULL,
            PRIMARY KEY (gateway, bot, event_id)
        ) WITHOUT ROWID""",
        "CREATE INDEX sealed_ids_until ON sealed_ids (until)",
        """CREATE TRIGGER events_sealed BEFORE INSERT ON events WHEN EXISTS (
            SELECT 1 FROM sealed_ids
            WHERE gateway = NEW.gateway AND bot = NEW.bot AND event_id = NEW.event_id
        ) BEGIN SELECT RAISE(IGNORE); END""",
    ),
}


def prepare(path: Path) -> None:
    """See that a file is a journal of this version; an empty one becomes one, an older one is upgraded.

    An upgrade is one transaction: after a crash the file is of the old version, or of the new one.

    Args:
        path: A file that exists.

    Raises:
        StoreTooNew: A newer version wrote it; not a byte was touched.
        StoreError: It is no journal, likewise untouched, or it cannot be opened.
    """
    _check_header(path)
    try:
        if _version(path) < VERSION:
            _make_tables(path)
    except sqlite3.Error as error:
        raise explain(error, path) from None


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that commits to the disk before it returns (WAL, ``synchronous=FULL``).

    Raises:
        sqlite3.Error: See `explain`.
    """
    connection = _open(path, mode="rw")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-16384")  # KiB; the unique index of a million rows is 80 MB
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads.

    Raises:
        sqlite3.Error: See `explain`.
    """
    connection = _open(path, mode="rw")  # not "ro": the last one to leave must be able to clean up
    connection.execute("PRAGMA query_only=ON")
    return connection


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """Say in plain words what SQLite means."""
    code = (getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no room for the journal {path}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreFull(f"the journal {path} is read-only")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
        return StoreFull(f"the disk refuses the journal {path}: {error}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(
            f"another program holds the journal {path}",
            hint="Close what keeps it locked; writing goes on then.",
        )
    if code == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{path} is no journal", hint="Name another file with `store=` or BOTBOOK_STORE.")
    if code == sqlite3.SQLITE_CORRUPT or "decode to UTF-8" in str(error):
        return StoreError(f"the journal {path} is damaged: {error}", hint=_DAMAGED_HINT)
    return StoreError(f"the journal {path} fails: {error}")


def forked() -> StoreError:
    """What to say to a process that got its connections by a fork, where SQLite forbids their use."""
    return StoreError(
        "this journal was opened before a fork", hint="Open a Store of its own in each process."
    )


def _open(path: Path, *, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # each is used by one thread at a time
    )


def _check_header(path: Path) -> None:
    """Look at the first bytes without SQLite, which would write to a file that has a log beside it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be read: {error.strerror}") from None
    if head and (len(head) < 100 or not head.startswith(_MAGIC)):
        raise StoreError(f"{path} is no journal", hint="Name another file with `store=` or BOTBOOK_STORE.")
    version = int.from_bytes(head[_VERSION_AT : _VERSION_AT + 4], "big")
    application = int.from_bytes(head[_APPLICATION_AT : _APPLICATION_AT + 4], "big")
    _check(path, version, application)


def _version(path: Path) -> int:
    """The version as SQLite sees it: the log beside the file may be newer than the file itself.

    Opened read-only, because closing would else write the log into the file.
    """
    connection = _open(path, mode="ro")
    try:
        connection.execute("BEGIN")  # one view of all three
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        application = int(connection.execute("PRAGMA application_id").fetchone()[0])
        _check(path, version, application)
        if not version and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise _foreign(path)
    finally:
        connection.close()
    return version


def _check(path: Path, version: int, application: int) -> None:
    if application not in (0, APPLICATION_ID) or (version and not application):
        raise _foreign(path)
    if version > VERSION:
        raise StoreTooNew(f"the journal {path} has version {version}, this botbook knows {VERSION}")


def _foreign(path: Path) -> StoreError:
    return StoreError(
        f"{path} belongs to another program", hint="Name another file with `store=` or BOTBOOK_STORE."
    )


def _make_tables(path: Path) -> None:
    connection = _open(path, mode="rw")
    try:
        _switch_to_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if not version:
            _do(connection, _TABLES)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        for step in range(max(version, 1) + 1, VERSION + 1):
            _do(connection, _UPGRADES[step])
        if version < VERSION:
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def _do(connection: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """Change the journal mode; of two processes that do so at once SQLite refuses one without waiting."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
