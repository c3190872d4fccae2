from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from botbook._data import database, writer
from botbook._data.database import APPLICATION_ID, VERSION, explain, open_reader, open_writer, prepare
from botbook._data.schema import to_row
from botbook._data.store import Store
from botbook._errors import StoreError, StoreFull, StoreTooNew

from .conftest import event


def contents(path: Path) -> dict[str, bytes]:
    """The journal and its log if that holds anything; the shared index is no data."""
    found = {file.name: file.read_bytes() for file in path.parent.glob("j.sqlite*")}
    return {name: data for name, data in found.items() if name == path.name or (data and "-wal" in name)}


def test_a_new_file_becomes_a_journal(path):
    path.touch()
    prepare(path)
    connection = open_writer(path)
    ask = lambda pragma: connection.execute(f"PRAGMA {pragma}").fetchone()[0]  # noqa: E731
    try:
        assert ask("journal_mode") == "wal"
        assert ask("synchronous") == 2  # FULL
        assert ask("busy_timeout") == 5000
        assert ask("user_version") == VERSION
        assert ask("application_id") == APPLICATION_ID
    finally:
        connection.close()


def test_readers_cannot_write(path):
    path.touch()
    prepare(path)
    connection = open_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM events")
    connection.close()


def test_preparing_twice_changes_nothing(path, make):
    with_events = Store(path)
    with_events.append(make(0, 2), lambda rows: None)
    with_events.close()
    before = contents(path)
    prepare(path)
    assert contents(path) == before


def test_of_two_that_make_the_tables_one_comes_second(path):
    path.touch()
    database._make_tables(path)
    database._make_tables(path)
    Store(path).close()


def test_a_newer_journal_is_refused_and_left_alone(path):
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.commit()
    connection.close()
    before = contents(path)
    with pytest.raises(StoreTooNew, match=f"version {VERSION + 1}") as caught:
        Store(path)
    assert "Upgrade" in caught.value.hint
    assert contents(path) == before


def test_a_newer_journal_whose_version_is_still_in_the_log(path):
    Store(path).close()
    code = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        f"c.execute('PRAGMA user_version={VERSION + 1}')\n"
        "os._exit(0)"  # without a close, which would write the log into the file
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=20)
    before = contents(path)
    assert before["j.sqlite-wal"]
    with pytest.raises(StoreTooNew):
        Store(path)
    assert contents(path) == before


@pytest.mark.parametrize("data", [b"hello", b"x" * 5000, b"SQLite format 3\0", b"\0"])
def test_what_is_no_sqlite_file_is_refused_and_left_alone(path, data):
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is no journal"):
        Store(path)
    assert contents(path) == {"j.sqlite": data}


@pytest.mark.parametrize("pragma", ["user_version=1", "application_id=5", "cache_size=100"])
def test_another_programs_file_is_refused_and_left_alone(path, pragma):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.execute(f"PRAGMA {pragma}")
    connection.commit()
    connection.close()
    before = contents(path)
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    assert contents(path) == before


def test_a_half_written_file_says_so_and_stays(path, make):
    store = Store(path)
    store.append(make(0, 500), lambda rows: None)
    store.close()
    path.write_bytes(path.read_bytes()[:9000])
    before = contents(path)
    with pytest.raises(StoreError, match="damaged") as caught:
        Store(path).read()
    assert "Nothing was deleted" in caught.value.hint
    assert contents(path)["j.sqlite"] == before["j.sqlite"]


def test_a_file_that_cannot_be_read(path, monkeypatch):
    monkeypatch.setattr(Path, "open", _refuse)
    path.touch()
    with pytest.raises(StoreError, match="cannot be read: no"):
        prepare(path)


def _refuse(*_: object) -> None:
    raise PermissionError(13, "no")


def test_many_processes_make_one_journal_at_once(path):
    code = "import sys; input(); from botbook._data.store import Store; Store(sys.argv[1]).close()"
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=-1, stderr=-1, text=True)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        _, trouble = child.communicate(timeout=20)
        assert (child.returncode, trouble) == (0, "")


def test_the_switch_to_wal_waits_for_others(path, monkeypatch):
    class Busy(sqlite3.Connection):
        refusals = 2

        def execute(self, sql: str, *rest: object) -> sqlite3.Cursor:
            if "journal_mode" in sql and Busy.refusals:
                Busy.refusals -= 1
                error = sqlite3.OperationalError("database is locked")
                error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise error
            return super().execute(sql, *rest)

    connection = sqlite3.connect(path, factory=Busy)
    database._switch_to_wal(connection)
    assert Busy.refusals == 0
    Busy.refusals = 1
    monkeypatch.setattr(database, "BUSY_SECONDS", -1.0)
    with pytest.raises(sqlite3.OperationalError):
        database._switch_to_wal(connection)
    connection.close()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_FULL, StoreFull, "no room"),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreFull, "read-only"),
        (sqlite3.SQLITE_PERM, StoreFull, "read-only"),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreFull, "disk refuses"),
        (sqlite3.SQLITE_CANTOPEN, StoreFull, "disk refuses"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreError, "another program holds"),
        (sqlite3.SQLITE_NOTADB, StoreError, "no journal"),
        (sqlite3.SQLITE_CORRUPT, StoreError, "damaged"),
        (sqlite3.SQLITE_ERROR, StoreError, "fails: x"),
        (None, StoreError, "fails: x"),
    ],
)
def test_every_kind_of_error_is_explained(code, kind, words):
    error = sqlite3.OperationalError("x")
    if code is not None:
        error.sqlite_errorcode = code
    told = explain(error, Path("/j"))
    assert type(told) is kind
    assert words in str(told)
    assert "/j" in str(told)
    assert told.hint


def test_the_name_may_hold_anything(tmp_path):
    path = tmp_path / "a b?c#d%41 é" / "j?.sqlite"
    Store(path).close()
    assert path.stat().st_size > 0
    assert os.listdir(path.parent) == ["j?.sqlite"]


def old_journal(path: Path, rows: int) -> None:
    """A journal as version 1 left it."""
    path.touch()
    connection = database._open(path, mode="rw")
    connection.execute("PRAGMA journal_mode=WAL")
    for statement in database._TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute("PRAGMA user_version=1")
    connection.executemany(writer._INSERT, [to_row(event(seq), seq) for seq in range(1, rows + 1)])
    connection.execute("UPDATE head SET next = ?", (rows + 1,))
    connection.close()


def test_a_journal_of_version_1_is_upgraded_in_place(path, make):
    old_journal(path, 3)
    store = Store(path)
    assert store.read()["event_id"].to_pylist() == ["e1", "e2", "e3"]
    store.append(make(10, 12), lambda rows: None)
    store.flush()
    assert store.archive(before="0s").rows == 5
    assert store.read().num_rows == 5
    store.close()
    assert path.read_bytes()[60:64] == VERSION.to_bytes(4, "big")


def test_an_upgrade_that_is_cut_off_leaves_the_old_version(path, monkeypatch):
    old_journal(path, 3)
    statements = database._UPGRADES[2]
    monkeypatch.setitem(database._UPGRADES, 2, (*statements, "SELECT no_such_thing()"))
    with pytest.raises(StoreError):
        Store(path)
    monkeypatch.undo()
    store = Store(path)
    assert store.read().num_rows == 3
    store.close()


def test_two_that_upgrade_at_once(path):
    old_journal(path, 3)
    database._make_tables(path)
    database._make_tables(path)
    store = Store(path)
    assert store.read().num_rows == 3
    store.close()
