"""Erasing a person: out of the journal, the segments and the handlers' records."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botbook._data.archive import transaction
from botbook._data.database import explain, open_writer
from botbook._data.schema import COLUMNS, RAW, ROW_NAMES, Row, batch_to_rows, micros, rows_to_batch
from botbook._data.segments import (
    Segment,
    add_to_manifest,
    locked,
    manifest,
    read_segment,
    remove,
    strays,
    write_segment,
)
from botbook._errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Forgotten", "forget"]

#: What stands where the person's id stood in rows of others.
ERASED: Final = "erased"
#: How long to wait for other programs to end their reading, so that SQLite's log can be emptied.
SETTLE_SECONDS: Final = 10.0

_AT: Final = {name: place for place, name in enumerate(("seq", *ROW_NAMES))}
_TEXT_NAMES: Final = tuple(column.name for column in (*COLUMNS, RAW) if column.kind in ("text", "texts"))
_TEXTS: Final = tuple(_AT[name] for name in _TEXT_NAMES)
#: Columns that tie a row to somebody else's chat or message.
_TIES: Final = ("chat_id", "reply_to", "message_id")
_SELECT: Final = f"SELECT seq, {', '.join(ROW_NAMES)} FROM events WHERE "
#: Rows that may be about somebody: ?1 and ?2 are how the id is written, ?3 the ids of chats and messages.
_ABOUT: Final = " OR ".join(
    [f"instr({name}, ?1) OR instr({name}, ?2)" for name in _TEXT_NAMES]
    + [f"{name} IN (SELECT value FROM json_each(?3))" for name in _TIES]
)
_UPDATE: Final = (
    f"UPDATE OR REPLACE events SET {', '.join(f'{name} = ?' for name in ROW_NAMES)} WHERE seq = ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was erased.

    Attributes:
        user_id: Who.
        events: Events that are gone: theirs, those of their private chats, answers to them.
        edited: Events of others in which the id was replaced by "erased".
        calls: Handler records that are gone.
        segments: Segments that were written anew.
        complete: Whether the files hold no old copy any more; False while another program reads
            them, and True after the next call.
    """

    user_id: str
    events: int
    edited: int
    calls: int
    segments: int
    complete: bool


def forget(
    journal: Path,
    user_id: str,
    *,
    now: datetime,
    gate: AbstractContextManager[Any] | None = None,
    settle: float = SETTLE_SECONDS,
) -> Forgotten:
    """Erase a user, so that a search of the files' bytes finds no trace.

    Erased are: every event of the user; every event of a private chat that the user was in;
    answers to and ratings of the user's messages; handler records of all these. Where the id still
    stands in an event of somebody else it is replaced. Commits wait meanwhile.

    Args:
        journal: A journal that `prepare` has seen.
        user_id: As in the column ``user_id``.
        now: The wall clock.
        gate: Held while the journal is locked.
        settle: How long to wait for readers in other programs, in seconds.

    Raises:
        StoreError: A row or segment is damaged, so that nobody can say whose it is; nothing was
            erased. Or another program archives for long.
    """
    if not user_id:
        raise StoreError("there is no user without an id", hint="Write user:ID.")
    try:
        with locked(journal) as folder, closing(open_writer(journal)) as connection:
            connection.execute("PRAGMA secure_delete=ON")
            remove(folder, strays(folder, manifest(connection)))
            with gate or nullcontext(), transaction(connection):
                work = _Work(connection, folder, _Person(user_id), micros(now))
                told = work.run()
            remove(folder, work.replaced)
            return Forgotten(user_id=user_id, complete=_settle(connection, settle), **told)
    except sqlite3.Error as error:
        raise explain(error, journal) from None


@dataclass
class _Person:
    """What belongs to somebody, as far as it is known."""

    user_id: str
    chats: set[tuple[str, str, str]] = field(default_factory=set)
    messages: set[tuple[str, str, str]] = field(default_factory=set)
    forms: tuple[str, str] = ("", "")

    def __post_init__(self) -> None:
        """Compile what finds the id: as a whole word, as JSON writes it, too."""
        self.forms = (self.user_id, json.dumps(self.user_id)[1:-1])
        words = "|".join(re.escape(form) for form in sorted(set(self.forms), key=len, reverse=True))
        self._named = re.compile(rf"(?<![\w-])(?:{words})(?![\w-])")

    def ties(self) -> list[str]:
        """Ids of their chats and messages."""
        return sorted({ident for *_, ident in (*self.chats, *self.messages)})

    def learn(self, row: Row) -> None:
        """Note the chats and messages of a row of theirs, or of an answer to them."""
        theirs = row[_AT["user_id"]] == self.user_id
        if not theirs and not (row[_AT["role"]] == "assistant" and self.owns(row)):
            return
        bot = row[_AT["gateway"]], row[_AT["bot"]]
        if row[_AT["chat_type"]] == "private" and row[_AT["chat_id"]]:
            self.chats.add((*bot, row[_AT["chat_id"]]))
        for name in ("event_id", "message_id"):
            if row[_AT[name]]:
                self.messages.add((*bot, row[_AT[name]]))

    def owns(self, row: Row) -> bool:
        """Whether a row is about them."""
        bot = row[_AT["gateway"]], row[_AT["bot"]]
        return (
            row[_AT["user_id"]] == self.user_id
            or (*bot, row[_AT["chat_id"]]) in self.chats
            or (*bot, row[_AT["reply_to"]]) in self.messages
            or (*bot, row[_AT["message_id"]]) in self.messages
        )

    def names(self, text: object) -> bool:
        """Whether their id stands in a text."""
        return isinstance(text, str) and self._named.search(text) is not None

    def without(self, row: Row) -> Row:
        """The row with the id replaced; the row itself where it does not stand in it."""
        if not any(self.names(row[place]) for place in _TEXTS):
            return row
        return tuple(
            self._named.sub(ERASED, value) if place in _TEXTS else value for place, value in enumerate(row)
        )


class _Work:
    """One erasure, inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, folder: Path, person: _Person, now_us: int) -> None:
        self.replaced: list[str] = []
        self._connection = connection
        self._folder = folder
        self._person = person
        self._now_us = now_us
        self._segments = manifest(connection)
        self._gone: set[int] = set()
        self._ids: list[tuple[str, str, str]] = []
        self._edited: set[int] = set()

    def run(self) -> dict[str, int]:
        for _ in ("their rows", "answers to them"):
            for row in self._everything():
                self._person.learn(row)
        for segment in self._segments:
            self._rewrite(segment)
        self._rewrite_journal()
        calls = self._clear_records()
        if self._gone or self._edited:
            self._connection.execute("UPDATE head SET next = next + 1, epoch = epoch + 1")
        return {
            "events": len(self._gone),
            "edited": len(self._edited),
            "calls": calls,
            "segments": len(self.replaced),
        }

    def _everything(self) -> Iterator[Row]:
        """All rows that may be about the person."""
        for segment in self._segments:
            yield from self._rows(read_segment(self._folder, segment))
        yield from self._journal()

    def _rows(self, table: pa.Table) -> Iterator[Row]:
        """The rows of a segment that may be about the person."""
        for batch in table.to_batches():
            yield from batch_to_rows(batch.filter(_about(batch, self._person)))

    def _journal(self) -> list[Row]:
        values = (*self._person.forms, json.dumps(self._person.ties()))
        return self._connection.execute(_SELECT + _ABOUT, values).fetchall()

    def _split(self, rows: Iterable[Row]) -> tuple[list[int], list[Row]]:
        """The seqs of rows that go, and rows that change, as they are to be."""
        gone, changed = [], []
        for row in rows:
            if self._person.owns(row):
                gone.append(row[0])
                self._ids.append((row[_AT["gateway"]], row[_AT["bot"]], row[_AT["event_id"]]))
            elif (clean := self._person.without(row)) is not row:
                changed.append(clean)
        self._gone.update(gone)
        self._edited.update(row[0] for row in changed)
        return gone, changed

    def _rewrite(self, segment: Segment) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = read_segment(self._folder, segment)
        gone, changed = self._split(self._rows(table))
        if not gone and not changed:
            return
        self._connection.execute("DELETE FROM segments WHERE name = ?", (segment.name,))
        self.replaced.append(segment.name)
        touched = pa.array([*gone, *(row[0] for row in changed)], pa.int64())
        kept = table.filter(pc.invert(pc.is_in(table["seq"], value_set=touched)))
        batches = [*kept.to_batches(), rows_to_batch(changed, raw=True)]
        if any(map(len, batches)):
            made = write_segment(
                self._folder,
                batches,
                first_seq=segment.first_seq,
                last_seq=segment.last_seq,
                sealed_at=self._now_us,
            )
            add_to_manifest(self._connection, made)

    def _rewrite_journal(self) -> None:
        gone, changed = self._split(self._journal())
        self._connection.executemany("DELETE FROM events WHERE seq = ?", [(seq,) for seq in gone])
        self._connection.executemany(_UPDATE, [(*row[1:], row[0]) for row in changed])

    def _clear_records(self) -> int:
        """Records of what is gone, records that name the id, and ids that are kept against redelivery."""
        connection = self._connection
        named = [
            (seq, handler)
            for seq, handler, *texts in connection.execute("SELECT seq, handler, error, calls FROM calls")
            if seq in self._gone or any(map(self._person.names, texts))
        ]
        connection.executemany("DELETE FROM calls WHERE seq = ? AND handler = ?", named)
        kept = connection.execute("SELECT gateway, bot, event_id FROM sealed_ids").fetchall()
        self._ids += [row for row in kept if self._person.names(row[2])]
        connection.executemany(
            "DELETE FROM sealed_ids WHERE gateway = ? AND bot = ? AND event_id = ?", self._ids
        )
        return len(named)


def _about(batch: pa.RecordBatch, person: _Person) -> Any:
    """Which rows of a segment may be about somebody; the same as `_ABOUT`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ties = pa.array(person.ties(), pa.large_string())
    terms = [pc.is_in(batch[name], value_set=ties) for name in _TIES]
    for name in _TEXT_NAMES:
        column = batch[name]
        if name == "feedback_reasons":
            column = pc.binary_join(column, "\n").cast(pa.large_string())
        terms += [pc.match_substring(column, form) for form in person.forms]
    return reduce(pc.or_, terms)


def _settle(connection: sqlite3.Connection, seconds: float) -> bool:
    """Empty SQLite's log and write its file anew, so that no old page stays in either."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            connection.execute("VACUUM")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            busy = 1
        if not busy:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
