"""Questions to the journal, from any thread."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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
from botbook._errors import StoreError
from botbook.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BATCH_ROWS", "KnownChat", "Reader"]

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
    SELECT handler, owner, started_at, seq, {_OF_EVENT} FROM calls JOIN events USING (seq)
    WHERE state = 'started' ORDER BY seq, handler"""
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

    def head(self) -> int:
        """The seq that the next event will get."""
        with self._connection() as connection:
            return int(connection.execute("SELECT next FROM head").fetchone()[0])

    def chunks(self, asked: Filters, *, raw: bool = False) -> Iterator[list[Row]]:
        """The rows asked for in order of seq, `BATCH_ROWS` at a time, for `rows_to_batch`."""
        with self._connection() as connection:
            cursor = self._select(connection, asked, _FULL if raw else _LEAN)
            while rows := cursor.fetchmany(BATCH_ROWS):
                yield rows

    def table(self, asked: Filters, *, raw: bool) -> pa.Table:
        """The rows asked for, in the columns of `arrow_schema`.

        Raises:
            StoreError: A row is damaged, or the journal cannot be read.
        """
        import pyarrow as pa

        schema = arrow_schema(raw)
        batches = [rows_to_batch(rows, raw=raw) for rows in self.chunks(asked, raw=raw)]
        return pa.Table.from_batches([batch.select(schema.names) for batch in batches], schema)

    def events(self, asked: Filters) -> list[tuple[int, Event]]:
        """The oldest rows asked for as events, each behind its seq; `limit` counts from the oldest."""
        where, values = asked.where()
        with self._connection() as connection:
            rows = connection.execute(
                f"SELECT seq, {_FULL} FROM events WHERE {where} ORDER BY seq LIMIT ?",
                (*values, -1 if asked.limit is None else asked.limit),
            ).fetchall()
        return [(row[0], _event(row)) for row in rows]

    def chats(
        self, *, gateway: str, bot: str, since: datetime | None, after_seq: int, messages: int
    ) -> list[KnownChat]:
        """Chats with messages that arrived since then, the latest first."""
        with self._connection() as connection:
            newest = int(connection.execute("SELECT next FROM head").fetchone()[0]) - 1
            oldest = max(after_seq, newest - CHAT_ROWS)
            first = -(2**63) if since is None else micros(since)
            rows = connection.execute(_CHATS, (oldest, gateway, bot, first)).fetchall()
        by_chat: defaultdict[str, list[Event]] = defaultdict(list)
        for row in rows:
            event = _event(row)
            by_chat[event.chat_id].append(event)
        return [_known(events, messages) for events in by_chat.values()]

    def calls(self, *, handler: str | None, limit: int | None) -> pa.Table:
        """The newest handler records, in order of seq."""
        import pyarrow as pa

        with self._connection() as connection:
            most = -1 if limit is None else limit
            rows = connection.execute(_NEWEST_CALLS, (handler, most)).fetchall()
        schema = pa.schema([(name, arrow_type(kind)) for name, kind in _CALLS])
        columns = list(zip(*rows, strict=True)) or [()] * len(_CALLS)
        return pa.Table.from_arrays(
            [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)],
            schema=schema,
        )

    def interrupted(self, now: datetime) -> list[tuple[int, Event, str]]:
        """Runs that began, never ended, and whose process is gone."""
        with self._connection() as connection:
            rows = connection.execute(_STARTED).fetchall()
        return [(row[3], _event(row[3:]), row[0]) for row in rows if is_gone(row[1], moment(row[2]), now=now)]

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

    def _give_back(self, connection: sqlite3.Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    @staticmethod
    def _select(connection: sqlite3.Connection, asked: Filters, names: str) -> sqlite3.Cursor:
        where, values = asked.where()
        query = f"SELECT seq, {names} FROM events WHERE {where} ORDER BY seq"
        if asked.limit is not None:
            query = f"SELECT * FROM ({query} DESC LIMIT ?) ORDER BY seq"
            values = [*values, asked.limit]
        return connection.execute(query, values)


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
