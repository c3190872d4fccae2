"""Files into the journal: which reader a file needs, and the way of its events to the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from botbook._data.erase import Forgotten
from botbook._data.filters import Filters
from botbook._data.importing import Tally, read_file, readable
from botbook._data.schema import batch_to_rows, micros, row_to_event
from botbook._data.store import Store
from botbook._errors import CommandError, StoreError
from botbook.events import Event

__all__ = ["Loaded", "Source", "forget_user", "load_file"]

Source = Literal["auto", "table", "topical"]

_BATCH: Final = 2000
_BACKLOG: Final = 10_000
#: What the first line of a Topical-Chat file has in the reduced form of ``notebooks/data/README.md``.
_TOPICAL: Final = ('"conversation_id"', '"turn_rating"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a file brought.

    Attributes:
        path: The file.
        rows: Events read from it.
        new: Those that are in the journal now and were not before.
        skipped: Rows that could not be read.
        problem: What was wrong with the first of them, or "".
        notes: What the file does not say and was made up or assumed.
    """

    path: Path
    rows: int
    new: int
    skipped: int
    problem: str
    notes: tuple[str, ...]


def load_file(
    store: Store,
    path: str | os.PathLike[str],
    *,
    source: Source = "auto",
    columns: Mapping[str, str] | None = None,
    gateway: str = "import",
    bot: str = "",
    days: float = 28.0,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Loaded:
    """Bring the events of a file into the journal; what is there already is left out, no handler runs.

    Args:
        store: The journal.
        path: A record file or other JSON lines, CSV, Parquet, LangBot's export CSV of messages or
            feedback, or Topical-Chat.
        source: ``topical`` for Topical-Chat, ``table`` for anything else; ``auto`` looks.
        columns: Our column → the file's, where they differ, such as ``{"text": "message"}``.
        gateway: For rows that do not say.
        bot: For rows that do not say; default the name of the file.
        days: Topical-Chat: over how many days its made-up clock times go.
        seed: Topical-Chat: of those times.
        progress: Called with the number of events read so far.

    Raises:
        CommandError: The format is not known, or a column is missing.
        StoreError: The file cannot be read, or no row of it.
    """
    found, tally = readable(path), Tally()
    if source not in ("auto", "table", "topical"):
        raise CommandError(f"there is no source {source!r}", hint="There are auto, table and topical.")
    if source == "topical" or (source == "auto" and not columns and _is_topical(found)):
        events = _topical(found, tally, days=days, seed=seed)
    else:
        bot = bot or found.name.split(".")[0]
        events = read_file(found, columns=columns, gateway=gateway, bot=bot, tally=tally)
    new = _keep(store, events, progress)
    if tally.skipped and not tally.read:
        raise StoreError(f"no row of {found} could be read; {tally.problem}", hint="Check its format.")
    return Loaded(
        path=found,
        rows=tally.read,
        new=new,
        skipped=tally.skipped,
        problem=tally.problem,
        notes=tuple(tally.notes),
    )


def forget_user(store: Store, who: str) -> Forgotten:
    """Erase a user.

    Args:
        store: The journal.
        who: ``user:ID``.

    Raises:
        CommandError: It is no such address.
        StoreError: See `Store.forget`.
    """
    kind, _, ident = who.partition(":")
    if kind != "user" or not ident:
        raise CommandError(f"{who!r} is no user", hint="Write user:ID, as in the column user_id.")
    return store.forget(ident)


def _is_topical(path: Path) -> bool:
    import gzip

    if not path.name.lower().endswith((".jsonl", ".jsonl.gz")):
        return False
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            first = file.readline(100_000).decode("utf-8", "replace")
    except (OSError, EOFError):
        return False
    return all(key in first for key in _TOPICAL)


def _topical(path: Path, tally: Tally, *, days: float, seed: int) -> Iterator[Event]:
    import pyarrow as pa

    from botbook._data.schema import arrow_schema
    from botbook.samples import topical_chat

    frame = topical_chat(path, days=days, seed=seed)
    tally.note(
        f"Topical-Chat has no clock times: these are made up, over {days:g} days, with seed {seed}. "
        "Excellent and Good are likes, Passable, Not Good and Poor dislikes; agent_2 stands for the bot."
    )
    table = pa.Table.from_pandas(frame, schema=arrow_schema(), preserve_index=False)
    table = table.add_column(0, "seq", pa.array(range(len(table)), pa.int64()))
    for batch in table.to_batches():
        for row in batch_to_rows(batch):
            tally.read += 1
            yield row_to_event(row)


def _keep(store: Store, events: Iterable[Event], progress: Callable[[int], None] | None) -> int:
    """Append, at the pace of the disk. Returns how many are new."""
    new: list[int] = []
    count, left = 0, iter(events)
    while batch := list(islice(left, _BATCH)):
        fresh = _not_archived(store, batch)
        store.append(fresh, lambda rows: new.append(len(rows)))
        count += len(batch)
        while store.backlog > _BACKLOG:
            time.sleep(0.005)
        if progress is not None:
            progress(count)
    if not store.flush(60.0):
        raise StoreError(f"the journal {store.path} takes no events at the moment")
    return sum(new)


def _not_archived(store: Store, events: list[Event]) -> list[Event]:
    """Without what segments hold; the journal itself knows its own ids."""
    span, times = store.span(), [micros(event.at) for event in events]
    asked = Filters(since=min(times), until=max(times) + 1, before_seq=span.head.sealed + 1)
    if not any(segment.may_hold(asked) for segment in span.segments):
        return events
    known: set[tuple[str, str, str]] = set()
    for batch in store.load(asked).batches:
        known.update(zip(*(batch[name].to_pylist() for name in ("gateway", "bot", "event_id")), strict=True))
    return [event for event in events if (event.gateway, event.bot, event.event_id) not in known]
