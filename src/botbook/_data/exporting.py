"""Events out to files: Parquet, CSV, JSON lines, Delta; as they are, or without who it was."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

from botbook._data.filters import Asked
from botbook._data.lazy import stream
from botbook._data.record import event_to_line
from botbook._data.schema import RAW, arrow_schema, batch_to_rows, row_to_event, rows_to_batch, to_row
from botbook._data.store import Store
from botbook._errors import CommandError, ConfigError, StoreError, StoreFull
from botbook.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMATS", "Exported", "Format", "anonymous", "export_events", "format_of"]

Format = Literal["parquet", "csv", "jsonl", "delta"]
FORMATS: Final[tuple[Format, ...]] = ("parquet", "csv", "jsonl", "delta")

#: Columns that tell who it was, also where they are another's: the same id becomes the same hash.
_IDS: Final = ("event_id", "chat_id", "user_id", "message_id", "reply_to", "feedback_id")
_KIND_OF_ERROR: Final = re.compile(r"[A-Za-z_][\w.]{0,60}(?=:|\Z)")
_HASH_BYTES: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        path: The file, or the folder of a Delta table.
        format: Which format.
        rows: How many events.
        anonymous: Whether ids were replaced and names dropped.
    """

    path: Path
    format: Format
    rows: int
    anonymous: bool


def format_of(path: Path) -> Format:
    """The format that a file's name says.

    Raises:
        CommandError: It says none.
    """
    kind = path.suffix.lower().lstrip(".")
    found = {"parquet": "parquet", "csv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "delta": "delta"}.get(
        kind
    )
    if found is None:
        raise CommandError(
            f"{path.name} does not say which format",
            hint="End it in .parquet, .csv or .jsonl, or name a format.",
        )
    return found  # type: ignore[return-value]


def export_events(
    store: Store,
    path: str | os.PathLike[str],
    *,
    format: Format | None = None,
    raw: bool = False,
    anonymize: bool = False,
    texts: bool = False,
    key: bytes | None = None,
    **asked: Unpack[Asked],
) -> Exported:
    """Write events to a file that only its owner may read; one of that name is replaced when all is written.

    Args:
        store: The journal, with its archive.
        path: Where to.
        format: Default by the end of the name. ``delta`` needs the package deltalake.
        raw: With the column ``raw``, the frames as they came; never with `anonymize`.
        anonymize: Ids become keyed hashes, names, frames and the words of errors are dropped, texts too.
        texts: Keep texts where `anonymize` drops them; they may name people.
        key: Of the hashes; default a new one that nobody keeps. With the same key two exports match.
        **asked: As in `Store.read`, but no ``limit``.

    Raises:
        CommandError: A filter or the format cannot be understood.
        ConfigError: The package for the format is missing.
        StoreFull: The file cannot be written.
        StoreError: The journal cannot be read.
    """
    target = Path(path).expanduser()
    kind = format or format_of(target)
    if kind not in FORMATS:
        raise CommandError(f"there is no format {kind!r}", hint=f"There are {', '.join(FORMATS)}.")
    raw = raw and not anonymize
    batches: Iterable[pa.RecordBatch] = stream(store, raw=raw or (kind == "jsonl" and not anonymize), **asked)
    if anonymize:
        batches = _changed(batches, anonymous(key or secrets.token_bytes(32), texts=texts))
    write = {"parquet": _parquet, "csv": _csv, "jsonl": _jsonl, "delta": _delta}[kind]
    try:
        rows = write(target, batches, raw) if kind == "delta" else _safely(target, write, batches, raw)
    except OSError as error:
        raise StoreFull(f"{target} cannot be written: {error.strerror}", hint="Name another file.") from None
    return Exported(path=target, format=kind, rows=rows, anonymous=anonymize)


def anonymous(key: bytes, *, texts: bool) -> Callable[[Event], Event]:
    """What takes from an event who it was.

    Args:
        key: Of the hashes; who has it can tell whether an id is in a file.
        texts: Leave texts as they are.
    """

    def hashed(value: str) -> str:
        return (
            hashlib.blake2b(value.encode(), key=key[:64], digest_size=_HASH_BYTES).hexdigest()
            if value
            else ""
        )

    def change(event: Event) -> Event:
        found = _KIND_OF_ERROR.match(event.error)
        values: dict[str, Any] = {name: hashed(getattr(event, name)) for name in _IDS}
        values |= {"user_name": "", "raw_json": "", "text": event.text if texts else ""}
        values["error"] = (found[0] if found else "error") if event.error else ""
        values["feedback_reasons"] = event.feedback_reasons
        return replace(event, **values)

    return change


def _changed(batches: Iterable[pa.RecordBatch], change: Callable[[Event], Event]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        events = [change(row_to_event(row)) for row in batch_to_rows(batch)]
        yield rows_to_batch([to_row(event, 0) for event in events])


def _safely(
    target: Path, write: Callable[[Path, Iterable[pa.RecordBatch], bool], int], batches: Any, raw: bool
) -> int:
    """Write beside the target, then take its name."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        rows = write(temporary, batches, raw)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _parquet(path: Path, batches: Iterable[pa.RecordBatch], raw: bool) -> int:
    import pyarrow.parquet as pq

    schema, rows = arrow_schema(raw), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch.select(schema.names))
            rows += len(batch)
    return rows


def _csv(path: Path, batches: Iterable[pa.RecordBatch], raw: bool) -> int:
    """Comma-separated UTF-8 with a header; times as ISO text in UTC, reasons as JSON."""
    import csv

    names, rows = arrow_schema(raw).names, 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        for batch in batches:
            for row in batch_to_rows(batch):
                writer.writerow([_cell(row_to_event(row), name) for name in names])
            rows += len(batch)
    return rows


def _cell(event: Event, name: str) -> Any:
    import json

    value = getattr(event, "raw_json" if name == RAW.name else name)
    if name in ("at", "received_at"):
        return value.isoformat()
    if name == "feedback_reasons":
        return json.dumps(value, ensure_ascii=False) if value else ""
    return str(value).lower() if isinstance(value, bool) else value


def _jsonl(path: Path, batches: Iterable[pa.RecordBatch], raw: bool) -> int:
    """The form of `%bot record`."""
    rows = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(event_to_line(row_to_event(row)) + "\n" for row in batch_to_rows(batch))
            rows += len(batch)
    return rows


def _delta(path: Path, batches: Iterable[pa.RecordBatch], raw: bool) -> int:
    import pyarrow as pa

    try:
        import deltalake
    except ImportError:
        raise ConfigError("a Delta table needs deltalake", hint="Install it: pip install deltalake") from None
    schema, rows = arrow_schema(raw), 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows
        for batch in batches:
            rows += len(batch)
            yield batch.select(schema.names)

    with closing(pa.RecordBatchReader.from_batches(schema, counted())) as reader:
        try:
            deltalake.write_deltalake(str(path), reader, mode="overwrite")
        except deltalake.exceptions.DeltaError as error:
            raise StoreError(f"the Delta table {path} cannot be written: {error}") from None
    return rows
