"""Events in from files: record files, CSV and Parquet with any columns, LangBot's export."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Final

from botbook._data.langbot_csv import langbot_event, langbot_kind
from botbook._data.record import event_from_line
from botbook._data.schema import COLUMNS, RAW
from botbook._errors import CommandError, StoreError
from botbook.events import Event

__all__ = ["Tally", "read_file", "readable"]

Values = Mapping[str, Any]

_NAMES: Final = frozenset(column.name for column in (*COLUMNS, RAW))
_TEXTS: Final = frozenset(column.name for column in COLUMNS if column.kind == "text")
_FEEDBACK: Final = {"like": 1, "dislike": 2, "cancel": 3}
_TRUE: Final = frozenset({"1", "true", "yes"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Longest row of a CSV file, in bytes.
_BLOCK: Final = 1 << 24


@dataclass(slots=True)
class Tally:
    """What reading a file has met so far.

    Attributes:
        read: Rows that became events.
        skipped: Rows that could not.
        problem: What was wrong with the first of them.
        notes: What is not in the file and was filled in.
    """

    read: int = 0
    skipped: int = 0
    problem: str = ""
    notes: list[str] = field(default_factory=list)

    def skip(self, place: str, why: object) -> None:
        """Count a row that is left out."""
        self.skipped += 1
        self.problem = self.problem or f"{place}: {why}"

    def note(self, text: str) -> None:
        """Say once what was filled in."""
        if text not in self.notes:
            self.notes.append(text)


def read_file(
    path: Path, *, columns: Mapping[str, str] | None, gateway: str, bot: str, tally: Tally
) -> Iterator[Event]:
    """The events of a file, in its order; LangBot's export in the order of time.

    Args:
        path: ``.jsonl`` (also ``.jsonl.gz``), ``.csv`` or ``.parquet``.
        columns: Our column → the file's, where they differ.
        gateway: For rows that do not say.
        bot: For rows that do not say.
        tally: Gets the counts.

    Raises:
        CommandError: The format is not known, or a column is missing.
        StoreError: The file cannot be read.
    """
    name = path.name.lower().removesuffix(".gz")
    reader = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv, ".parquet": _parquet}.get(
        Path(name).suffix
    )
    if reader is None:
        raise CommandError(f"{path.name} is of no known format", hint="Use .jsonl, .csv or .parquet.")
    unknown = sorted(set(columns or {}) - _NAMES)
    if unknown:
        raise CommandError(
            f"events have no column {unknown[0]!r}", hint=f"There are {', '.join(c.name for c in COLUMNS)}."
        )
    yield from reader(path, _Plan(dict(columns or {}), gateway, bot, tally))


@dataclass(slots=True)
class _Plan:
    columns: dict[str, str]
    gateway: str
    bot: str
    tally: Tally
    seen: Counter[bytes] = field(default_factory=Counter)

    def check(self, names: Iterable[str], path: Path) -> None:
        """See that the file has the time of its events, and what the map names."""
        have = list(names)
        for ours, theirs in {"at": "at", **self.columns}.items():
            if theirs not in have:
                raise CommandError(
                    f"{path.name} has no column {theirs!r} for {ours}",
                    hint=f"It has {', '.join(have[:30])}. Map one: {ours}=NAME.",
                )

    def event(self, place: str, row: Values) -> Iterator[Event]:
        """The event of a row, or none."""
        try:
            made = self._event(row)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self.tally.skip(place, error)
            return
        self.tally.read += 1
        yield made

    def _event(self, row: Values) -> Event:
        values = {name: row.get(self.columns.get(name, name)) for name in _NAMES}
        at = self._time(values["at"])
        texts = {name: _text(values[name]) for name in _TEXTS}
        role = texts["role"] or "user"
        if role not in ("user", "assistant", "system"):
            raise ValueError(f"role is {role!r}")
        feedback = _feedback(values["feedback_type"])
        kind = (
            "feedback.received" if feedback else "message.sent" if role == "assistant" else "message.received"
        )
        made: dict[str, Any] = {
            "event_id": texts["event_id"] or self._ident(row),
            "type": texts["type"] or kind,
            "gateway": texts["gateway"] or self.gateway,
            "bot": texts["bot"] or self.bot,
            "role": role,
            "at": at,
            "received_at": self._time(values["received_at"]) if _text(values["received_at"]) else at,
            "latency_s": _number(values["latency_s"]),
            "tokens": _whole(values["tokens"]),
            "feedback_type": feedback,
            "feedback_reasons": _reasons(values["feedback_reasons"]),
            "recovered": _text(values["recovered"]).lower() in _TRUE,
            "raw_json": _text(values["raw"]),
        }
        return Event(**{**texts, **made})

    def _ident(self, row: Values) -> str:
        """An id made of the row itself, so that the same file again brings nothing new."""
        digest = hashlib.blake2b(
            json.dumps(row, sort_keys=True, default=str).encode("utf-8", "replace"), digest_size=12
        ).digest()
        self.seen[digest] += 1
        return f"import:{digest.hex()}:{self.seen[digest]}"

    def _time(self, value: Any) -> datetime:
        """A time with zone, without (UTC, which is noted), or seconds or milliseconds since 1970."""
        found = _time(value)
        if found.utcoffset() is None:
            self.tally.note("Times without a zone were taken as UTC.")
            return found.replace(tzinfo=UTC)
        return found.astimezone(UTC)


def _json_lines(path: Path, plan: _Plan) -> Iterator[Event]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            plan.tally.skip(f"line {number}", error)
            continue
        if not isinstance(row, dict):
            plan.tally.skip(f"line {number}", "it is no JSON object")
        elif plan.columns or not {"event_id", "received_at"} <= row.keys():
            yield from plan.event(f"line {number}", row)
        else:
            yield from _recorded(line, number, plan.tally)


def _recorded(line: str, number: int, tally: Tally) -> Iterator[Event]:
    try:
        event = event_from_line(line)
    except StoreError as error:
        tally.skip(f"line {number}", error)
        return
    if event.at.utcoffset() is None or event.received_at.utcoffset() is None:
        tally.skip(f"line {number}", "a time has no zone")
        return
    tally.read += 1
    yield event


def _lines(path: Path) -> Iterator[str]:
    try:
        with _opened(path) as file:
            yield from file
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="Check the file.") from None


def _opened(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def _csv(path: Path, plan: _Plan) -> Iterator[Event]:
    import pyarrow as pa
    import pyarrow.csv as pc

    header = _header(path)
    reading = pc.ReadOptions(block_size=_BLOCK)
    parsing = pc.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: _bad_row(row, plan))
    converting = pc.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=False)
    table = _guarded(path, lambda: pc.read_csv(path, reading, parsing, converting))
    if not plan.columns and (kind := langbot_kind(header)):
        yield from _langbot(table, kind, plan)
        return
    plan.check(header, path)
    yield from _rows(table.to_batches(), plan)


def _bad_row(row: Any, plan: _Plan) -> str:
    plan.tally.skip(f"row {row.number or '?'}", f"{row.actual_columns} columns, not {row.expected_columns}")
    return "skip"


def _header(path: Path) -> list[str]:
    import csv

    try:
        with _opened(path) as file:
            return next(csv.reader([file.readline()]), [])
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="Check the file.") from None


def _parquet(path: Path, plan: _Plan) -> Iterator[Event]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _guarded(path, lambda: pq.ParquetFile(path))
    with file:
        plan.check(file.schema_arrow.names, path)
        batches = file.iter_batches(batch_size=10_000)
        while batch := _guarded(path, lambda: next(batches, None)):
            yield from _rows([pa.RecordBatch.from_arrays(batch.columns, batch.schema.names)], plan)


def _guarded(path: Path, read: Callable[[], Any]) -> Any:
    import pyarrow as pa

    try:
        return read()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="Check the file.") from None


def _rows(batches: Iterable[Any], plan: _Plan) -> Iterator[Event]:
    number = 1
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield from plan.event(f"row {number}", row)


def _langbot(table: Any, kind: str, plan: _Plan) -> Iterator[Event]:
    events = []
    for number, row in enumerate(table.to_pylist(), 2):
        try:
            events.append(langbot_event(kind, row))
        except (ValueError, KeyError) as error:
            plan.tally.skip(f"row {number}", error)
    plan.tally.read += len(events)
    if kind == "messages":
        plan.tally.note(
            "The export does not say who spoke: a message with a source counts as the user's, "
            "any other as the bot's."
        )
    events.reverse()  # it comes newest first
    yield from sorted(events, key=lambda event: event.at)


def _time(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    text = _text(value).strip()
    if not text:
        raise ValueError("it has no time")
    try:
        number = float(text)
    except ValueError:
        return datetime.fromisoformat(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no time")
    return _EPOCH + timedelta(seconds=number / 1000 if abs(number) > 1e11 else number)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else str(value)


def _number(value: Any) -> float | None:
    text = _text(value)
    return float(text) if text else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _feedback(value: Any) -> int | None:
    text = _text(value).strip().lower()
    if not text:
        return None
    number = _FEEDBACK.get(text) or int(float(text))
    if number not in _FEEDBACK.values():
        raise ValueError(f"feedback_type is {text}")
    return number


def _reasons(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple):
        return tuple(map(str, value))
    text = _text(value)
    if not text.startswith("["):
        return (text,) if text else ()
    found = json.loads(text)
    return tuple(map(str, found))


def readable(path: str | os.PathLike[str]) -> Path:
    """A file that is there.

    Raises:
        CommandError: It is not.
    """
    found = Path(path).expanduser()
    if not found.is_file():
        raise CommandError(f"there is no file {found}", hint="Check the name.")
    return found
