"""The journal: every event on disk before anybody sees it."""

from __future__ import annotations

import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from botbook._data.archive import Archived, archive, discard
from botbook._data.database import open_writer, prepare
from botbook._data.erase import Forgotten, forget
from botbook._data.filters import Asked, Filters, Moment, filters, time_of, utcnow
from botbook._data.owner import this_process
from botbook._data.place import journal_path, make_place
from botbook._data.reader import Head, KnownChat, Loaded, Reader, Span
from botbook._data.schema import Mark, mark_to_row
from botbook._data.writer import Done, Trouble, Writer
from botbook.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KnownChat", "Mark", "Store"]

#: How long `Store.close` waits, in seconds, also when the program ends without it.
CLOSE_SECONDS = 5.0


class Store:
    """One journal, shared by any number of processes; one writer thread in each.

    Args:
        path: The file; default ``BOTBOOK_STORE``, else ``.botbook/journal.sqlite`` in the working folder.
        on_trouble: Told on the writer's thread when the journal cannot be written, and with None when
            it can again. Meanwhile events wait in memory, in order, and none is handed on.
        now: The wall clock, for times such as ``1h`` and for `interrupted`.
        open_connection: How the writer opens the file.

    Raises:
        StoreError: The file is no journal, or lies on a network file system.
        StoreFull: The place cannot be written.
        StoreTooNew: A newer botbook wrote it; it is left untouched.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        on_trouble: Trouble | None = None,
        now: Callable[[], datetime] = utcnow,
        open_connection: Callable[[Path], sqlite3.Connection] = open_writer,
    ) -> None:
        self.path = journal_path(path)
        self.now = now
        make_place(self.path)
        prepare(self.path)
        self._owner = this_process()
        self._reader = Reader(self.path)
        self._writer = Writer(self.path, open_connection=open_connection, on_trouble=on_trouble)
        self._at_exit = weakref.finalize(self, self._writer.close, CLOSE_SECONDS)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    # Writing: never blocks

    @property
    def backlog(self) -> int:
        """Events and marks that wait for a commit."""
        return self._writer.backlog

    @property
    def duplicates(self) -> int:
        """Events that were left out because the journal had them already."""
        return self._writer.duplicates

    def append(self, events: Sequence[Event], done: Done) -> None:
        """Hand events to the writer, from any thread.

        Args:
            events: Left as they are; all of them go into one transaction.
            done: Called once on the writer's thread, after the commit, with (seq, event) of those
                that are new, in order. What it raises is logged.

        Raises:
            StoreError: The store is closed.
            TypeError: A time has no zone; nothing was taken.
        """
        self._writer.append(events, done)

    def mark(self, marks: Sequence[Mark], done: Callable[[], None] | None = None) -> None:
        """Keep how handlers began or ended, in the same commits as events.

        Args:
            marks: A later mark of the same event and handler replaces the earlier one.
            done: Called on the writer's thread after the commit.

        Raises:
            StoreError: The store is closed.
        """
        self._writer.mark([mark_to_row(mark, self._owner) for mark in marks], done)

    def flush(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Wait until all that was handed in before is on disk and was handed on.

        Args:
            timeout: Longest wait, in seconds.

        Returns:
            Whether it is.
        """
        return self._writer.flush(timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> int:
        """Write what waits and end the writer. Harmless when closed already.

        Args:
            timeout: Longest wait, in seconds. A journal that is in trouble gets one more try.

        Returns:
            How many events and marks could not be written; 0 if all is well.
        """
        self._at_exit.detach()
        left = self._writer.close(timeout)
        self._reader.close()
        return left

    # The archive

    def archive(
        self,
        *,
        before: Moment = "30d",
        least: int = 1,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Archived:
        """Move events that arrived before a time into Parquet segments; others may write meanwhile.

        Args:
            before: A time with zone, or an age such as ``30d``.
            least: Do nothing where there are fewer.
            sleep: Rests between steps, so that others can write.

        Raises:
            CommandError: It is no time.
            StoreError: A row is damaged, or another program archives for long.
            StoreFull: The disk refuses it; nothing was moved.
        """
        moment = time_of(before, now=self.now)
        self.flush()
        return archive(
            self.path, before=moment, now=self.now(), least=least, sleep=sleep, gate=self._writer.gate
        )

    def discard(self, *, before: Moment) -> int:
        """Delete the segments that hold nothing younger than a time; returns how many events are gone."""
        return discard(self.path, before=time_of(before, now=self.now))

    def forget(self, user_id: str) -> Forgotten:
        """Erase a user from the journal, the segments and the handlers' records; commits wait meanwhile.

        Args:
            user_id: As in the column ``user_id``.

        Raises:
            StoreError: A segment or a row is damaged, so that nobody can say whose it is.
        """
        self.flush()
        return forget(self.path, user_id, now=self.now(), gate=self._writer.gate)

    # Reading: from any thread

    def head(self) -> int:
        """The seq that the next event will get; seqs only grow, in every process."""
        return self._reader.head().next

    def state(self) -> Head:
        """Where the journal stands: head, border of the archive, erasures."""
        return self._reader.head()

    def load(self, asked: Filters, *, archived: bool = True) -> Loaded:
        """The rows asked for as Arrow batches with ``seq``, all of one moment.

        Args:
            asked: What to narrow them by.
            archived: Also those in segments.
        """
        return self._reader.load(asked, archived=archived)

    def span(self) -> Span:
        """How much there is, without reading it."""
        return self._reader.span()

    def read(self, *, raw: bool = False, **asked: Unpack[Asked]) -> pa.Table:
        """Events as an Arrow table in order of seq, which is the order of arrival.

        Args:
            raw: With the column ``raw``.
            **asked: What to narrow them by, see `Asked`; ``limit`` takes the newest.

        Returns:
            The columns of `arrow_schema`.

        Raises:
            CommandError: A filter cannot be understood.
            StoreError: The journal cannot be read; a damaged row is named.

        Warns:
            DamagedSegment: A file of the archive cannot be read; its rows are left out.
        """
        return self._reader.table(filters(now=self.now, **asked), raw=raw)

    def snapshot(self, asked: Filters, *, raw: bool) -> tuple[Span, list[pa.RecordBatch]]:
        """The manifest, and the rows asked for that are not sealed, both of one moment."""
        return self._reader.snapshot(asked, raw=raw)

    def pending(self, **asked: Unpack[Asked]) -> list[tuple[int, Event]]:
        """Events with ``raw_json``, each behind its seq, the oldest first.

        Args:
            **asked: What to narrow them by, see `Asked`; ``limit`` takes the oldest behind ``after_seq``.

        Raises:
            CommandError: A filter cannot be understood.
            StoreError: The journal cannot be read; a damaged row is named.
        """
        return self._reader.events(filters(now=self.now, **asked))

    def chats_since(
        self,
        *,
        gateway: str,
        bot: str,
        at: datetime | None = None,
        after_seq: int = 0,
        limit: int | None = None,
        messages: int = 50,
    ) -> list[KnownChat]:
        """The chats of a bot in which something was said lately, and what; for the repair of gaps.

        Looks at the newest 100,000 rows at the most.

        Args:
            gateway: Which gateway.
            bot: Which connection.
            at: Only messages that arrived from this time on.
            after_seq: Only rows behind this one.
            limit: Only so many chats, the latest ones.
            messages: How many of the last messages of each, at the most.

        Returns:
            The chat that was heard last stands first.
        """
        known = self._reader.chats(gateway=gateway, bot=bot, since=at, after_seq=after_seq, messages=messages)
        return known[:limit]

    def calls(self, *, handler: str | None = None, limit: int | None = None) -> pa.Table:
        """What handlers did: one row for each event and handler.

        Args:
            handler: Only this handler.
            limit: Only the newest so many.

        Returns:
            Columns ``seq event_id type handler version state started_at ended_at seconds error calls``.
        """
        return self._reader.calls(handler=handler, limit=limit)

    def interrupted(self) -> list[tuple[int, Event, str]]:
        """Runs of handlers that were cut off: begun, never ended, in a process that is gone.

        Returns:
            (seq, event, handler), each once.
        """
        return self._reader.interrupted(self.now())

    def is_finished(self, seq: int, handler: str) -> bool:
        """Whether a handler's run over an event has ended, well or not."""
        return self._reader.is_finished(seq, handler)
