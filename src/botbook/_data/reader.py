"""Questions to the journal, from any thread."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botbook._data.database import explain, forked, open_reader
from botbook._data.filters import Filters
from botbook._data.owner import is_gone
from botbook._data.schema import (
    RAW,
    ROW_NAMES,
    Row,
    arrow_schema,
    arrow_type,
    micros,
    moment,
    row_to_event,
    rows_to_batch,
)
from botbook._data.segments import Segment, folder_of, manifest
from botbook._data.shelf import Moved, Shelf
from botbook._errors import StoreError
from botbook.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BATCH_ROWS", "Head", "KnownChat", "Loaded", "Reader", "Span"]

T = TypeVar("T")

BATCH_ROWS: Final = 4096
#: How far back `Reader.chats_since` looks, in rows: after a gap the lately active chats count.
CHAT_ROWS: Final = 100_000

_FULL: Final = ", ".join(ROW_NAMES)
_LEAN: Final = ", ".join("''" if name == RAW.name else name for name in ROW_NAMES)
_OF_EVENT: Final = ", ".join(f"events.{name}" for name in ROW_NAMES)
_CHATS: Final = f"""
    SELECT seq, {_FULL} FROM events
    WHERE seq > ? AND gateway = ? AND bot = ? AND received_at >= ?
        AND type IN ('message.received', 'message.sent') AND chat_id != ''
    ORDER BY seq DESC"""
_NEWEST_CALLS: Final = """
    SELECT * FROM (
        SELECT calls.seq, coalesce(event_id, ''), coalesce(type, ''), handler, version, state,
            started_at, ended_at, seconds, calls.error, calls
        FROM calls LEFT JOIN events USING (seq)
        WHERE ?1 IS NULL OR handler = ?1
        ORDER BY calls.seq DESC, handler DESC LIMIT ?2
    ) ORDER BY seq, handler"""
_STARTED: Final = f"""
    SELECT calls.seq, handler, owner, started_at, events.seq, {_OF_EVENT}
    FROM calls LEFT JOIN events ON events.seq = calls.seq
    WHERE state = 'started' ORDER BY calls.seq, handler"""
_CALLS: Final[tuple[tuple[str, Any], ...]] = (
    ("seq", "whole"),
    ("event_id", "text"),
    ("type", "text"),
    ("handler", "text"),
    ("version", "text"),
    ("state", "text"),
    ("started_at", "time"),
    ("ended_at", "time"),
    ("seconds", "number"),
    ("error", "text"),
    ("calls", "text"),
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a journal stands.

    Attributes:
        next: The seq that the next event will get; grows when rows are erased, too.
        sealed: Rows up to this seq are in segments.
        epoch: How often rows were erased.
    """

    next: int
    sealed: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """Rows of one moment.

    Attributes:
        head: Where the journal stood.
        batches: The rows, with ``seq``.
    """

    head: Head
    batches: list[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Span:
    """How much there is.

    Attributes:
        head: Where the journal stands.
        segments: The manifest.
        tail: Rows that are not sealed, at the most.
    """

    head: Head
    segments: list[Segment]
    tail: int

    def rows(self, asked: Filters) -> int:
        """How many rows can be asked for, at the most."""
        most = sum(segment.rows for segment in self.segments if segment.may_hold(asked))
        most += min(self.tail, max(0, self.head.next - 1 - asked.after_seq))
        return most if asked.limit is None else min(most, asked.limit)


@dataclass(frozen=True, slots=True)
class KnownChat:
    """What is known of a conversation.

    Attributes:
        last: The last message of a user in it, or the last message where no user wrote.
        said: (role, text) of its last messages, oldest first.
        ids: Message ids that are known.
    """

    last: Event
    said: tuple[tuple[str, str], ...]
    ids: frozenset[str]


class Reader:
    """Reads one journal; keeps a few connections open.

    Args:
        path: A journal that `prepare` has seen.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        self._pid = os.getpid()

    def head(self) -> Head:
        """Where the journal stands."""
        with self._connection() as connection:
            return _head(connection)

    def load(self, asked: Filters, *, raw: bool = False, archived: bool = True) -> Loaded:
        """The rows asked for as Arrow with ``seq``, in order of seq, all of one moment.

        Args:
            asked: What to narrow them by; `limit` takes the newest.
            raw: With the column ``raw``.
            archived: Also those in segments. One that is damaged is left out, with a warning.

        Raises:
            StoreError: A row is damaged, or the journal cannot be read.
        """
        return self._steady(lambda: self._load(asked, raw=raw, archived=archived))

    def _load(self, asked: Filters, *, raw: bool, archived: bool) -> Loaded:
        with self._view() as (connection, head):
            tail = [rows_to_batch(rows, raw=raw) for rows in self._rows(connection, asked, head, raw=raw)]
            left = None if asked.limit is None else asked.limit - sum(map(len, tail))
            shelf = self._shelf(connection) if archived and asked.after_seq < head.sealed else None
            old = shelf.batches(replace(asked, limit=left), raw=raw) if shelf else []
        return Loaded(head, [*old, *tail])

    def table(self, asked: Filters, *, raw: bool) -> pa.Table:
        """The rows asked for, in the columns of `arrow_schema`.

        Raises:
            StoreError: A row is damaged, or the journal cannot be read.
        """
        import pyarrow as pa

        schema = arrow_schema(raw)
        batches = self.load(asked, raw=raw).batches
        return pa.Table.from_batches([batch.select(schema.names) for batch in batches], schema)

    def events(self, asked: Filters) -> list[tuple[int, Event]]:
        """The oldest rows asked for as events, each behind its seq; `limit` counts from the oldest."""
        return [(row[0], _event(row)) for row in self._steady(lambda: self._oldest(asked))]

    def _oldest(self, asked: Filters) -> list[Row]:
        with self._view() as (connection, head):
            rows: list[Row] = []
            if asked.after_seq < head.sealed:
                rows = self._shelf(connection).oldest(asked)
            left = -1 if asked.limit is None else asked.limit - len(rows)
            where, values = _behind(asked, head).where()
            rows += connection.execute(
                f"SELECT seq, {_FULL} FROM events WHERE {where} ORDER BY seq LIMIT ?", (*values, left)
            )
        return rows

    def snapshot(self, asked: Filters, *, raw: bool) -> tuple[Span, list[pa.RecordBatch]]:
        """The manifest, and the rows asked for that are not sealed, both of one moment."""
        with self._view() as (connection, head):
            tail = [rows_to_batch(rows, raw=raw) for rows in self._rows(connection, asked, head, raw=raw)]
            return Span(head, manifest(connection), sum(map(len, tail))), tail

    def span(self) -> Span:
        """How much there is, without reading it."""
        with self._view() as (connection, head):
            first = connection.execute(
                "SELECT min(seq) FROM events WHERE seq > ?", (head.sealed,)
            ).fetchone()[0]
            return Span(head, manifest(connection), 0 if first is None else head.next - first)

    def chats(
        self, *, gateway: str, bot: str, since: datetime | None, after_seq: int, messages: int
    ) -> list[KnownChat]:
        """Chats with messages that arrived since then, the latest first."""
        with self._view() as (connection, head):
            oldest = max(after_seq, head.next - 1 - CHAT_ROWS)
            first = -(2**63) if since is None else micros(since)
            behind = max(oldest, head.sealed)
            rows = connection.execute(_CHATS, (behind, gateway, bot, first)).fetchall()
        if oldest < head.sealed:
            asked = Filters(after_seq=oldest, before_seq=head.sealed + 1, gateway=gateway, bot=bot)
            rows += [row for row in reversed(self._steady(lambda: self._oldest(asked))) if _said(row, first)]
        by_chat: defaultdict[str, list[Event]] = defaultdict(list)
        for row in rows:
            event = _event(row)
            by_chat[event.chat_id].append(event)
        return [_known(events, messages) for events in by_chat.values()]

    def calls(self, *, handler: str | None, limit: int | None) -> pa.Table:
        """The newest handler records, in order of seq."""
        import pyarrow as pa

        with self._view() as (connection, head):
            most = -1 if limit is None else limit
            rows = connection.execute(_NEWEST_CALLS, (handler, most)).fetchall()
        names = {row[0]: _names(row) for row in self._sealed(head, [row[0] for row in rows])}
        rows = [(row[0], *names.get(row[0], row[1:3]), *row[3:]) for row in rows]
        schema = pa.schema([(name, arrow_type(kind)) for name, kind in _CALLS])
        columns = list(zip(*rows, strict=True)) or [()] * len(_CALLS)
        return pa.Table.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
            schema=schema,
        )

    def interrupted(self, now: datetime) -> list[tuple[int, Event, str]]:
        """Runs that began, never ended, and whose process is gone."""
        with self._view() as (connection, head):
            rows = connection.execute(_STARTED).fetchall()
        cut = [row for row in rows if is_gone(row[2], moment(row[3]), now=now)]
        found = {row[0]: row for row in self._sealed(head, [row[0] for row in cut if row[4] is None])}
        found |= {row[4]: row[4:] for row in cut if row[4] is not None}
        return [(row[0], _event(found[row[0]]), row[1]) for row in cut if row[0] in found]

    def is_finished(self, seq: int, handler: str) -> bool:
        """Whether a handler's run over an event has ended, well or not."""
        with self._connection() as connection:
            found = connection.execute(
                "SELECT 1 FROM calls WHERE seq = ? AND handler = ? AND state != 'started'", (seq, handler)
            ).fetchone()
        return found is not None

    def close(self) -> None:
        """Close the connections that are idle; those in use close when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for one question.

        Raises:
            StoreError: The journal is closed, or SQLite cannot read it.
        """
        if self._closed:
            raise StoreError("this journal is closed", hint="Connect anew.")
        if os.getpid() != self._pid:
            raise forked()
        try:
            connection = self._idle.pop() if self._idle else open_reader(self._path)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise explain(error, self._path) from None
        self._give_back(connection)

    @contextmanager
    def _view(self) -> Iterator[tuple[sqlite3.Connection, Head]]:
        """A connection that sees one moment, and where the journal stood then."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            head = _head(connection)
            yield connection, head
            connection.execute("COMMIT")

    def _shelf(self, connection: sqlite3.Connection) -> Shelf:
        return Shelf(folder_of(self._path), manifest(connection), now=self._manifest)

    def _manifest(self) -> list[Segment]:
        with self._connection() as connection:
            return manifest(connection)

    def _sealed(self, head: Head, seqs: list[int]) -> list[Row]:
        """Single rows out of the segments."""
        old = [seq for seq in seqs if seq <= head.sealed]

        def fetch() -> list[Row]:
            with self._view() as (connection, _):
                return self._shelf(connection).rows(old)

        return self._steady(fetch) if old else []

    @staticmethod
    def _steady(question: Callable[[], T]) -> T:
        """Ask again where a segment was replaced meanwhile, by an erasure."""
        while True:
            try:
                return question()
            except Moved:
                continue

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    @staticmethod
    def _rows(
        connection: sqlite3.Connection, asked: Filters, head: Head, *, raw: bool
    ) -> Iterator[list[Row]]:
        where, values = _behind(asked, head).where()
        query = f"SELECT seq, {_FULL if raw else _LEAN} FROM events WHERE {where} ORDER BY seq"
        if asked.limit is not None:
            query = f"SELECT * FROM ({query} DESC LIMIT ?) ORDER BY seq"
            values = [*values, asked.limit]
        cursor = connection.execute(query, values)
        while rows := cursor.fetchmany(BATCH_ROWS):
            yield rows


def _head(connection: sqlite3.Connection) -> Head:
    return Head(*connection.execute("SELECT next, sealed, epoch FROM head").fetchone())


def _behind(asked: Filters, head: Head) -> Filters:
    """Only what is not sealed: sealed rows count in their segments."""
    return replace(asked, after_seq=max(asked.after_seq, head.sealed))


def _said(row: Row, first: int) -> bool:
    """The conditions of `_CHATS` that `Filters` does not know."""
    event = _event(row)
    return (
        event.type in ("message.received", "message.sent")
        and bool(event.chat_id)
        and micros(event.received_at) >= first
    )


def _names(row: Row) -> tuple[str, str]:
    event = _event(row)
    return event.event_id, event.type


def _event(row: Row) -> Event:
    try:
        return row_to_event(row)
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreError(
            f"row {row[0]} of the journal is damaged: {error}",
            hint="The other rows are whole: `read(after_seq=…)` goes on behind it.",
        ) from None


def _known(newest_first: list[Event], messages: int) -> KnownChat:
    last = next((event for event in newest_first if event.role == "user"), newest_first[0])
    said = tuple((event.role, event.text) for event in reversed(newest_first[:messages]))
    ids = frozenset(event.message_id for event in newest_first) - {""}
    return KnownChat(last, said, ids)
