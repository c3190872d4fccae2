"""The columns of an event, written once, and the ways between `Event`, SQLite row and Arrow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from botbook._errors import StoreError
from botbook.events import Event

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "COLUMNS",
    "MARK_STATES",
    "RAW",
    "ROW_NAMES",
    "Column",
    "Kept",
    "Mark",
    "MarkState",
    "Row",
    "arrow_schema",
    "arrow_type",
    "batch_to_rows",
    "mark_to_row",
    "micros",
    "moment",
    "row_to_event",
    "rows_to_batch",
    "storable",
    "storable_mark",
    "to_row",
]

#: One event as SQLite holds it: its seq, then the columns in the order of `ROW_NAMES`.
Row = tuple[Any, ...]


class Kept(list[tuple[int, Event]]):
    """Events that are on disk, each behind its seq.

    Attributes:
        rows: The same as SQLite took them, seq first; nobody need convert them again.
    """

    __slots__ = ("rows",)

    def __init__(self, pairs: Iterable[tuple[int, Event]], rows: list[Row]) -> None:
        super().__init__(pairs)
        self.rows = rows


MarkState = Literal["started", "done", "failed", "timeout", "cancelled"]
MARK_STATES: Final[tuple[MarkState, ...]] = get_args(MarkState)

Kind = Literal["text", "time", "number", "whole", "flag", "texts"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INT64: Final = 2**63
_SQLITE: Final[dict[Kind, str]] = {
    "text": "TEXT NOT NULL",
    "time": "INTEGER NOT NULL",
    "number": "REAL CHECK (typeof({name}) IN ('real', 'null'))",
    "whole": "INTEGER CHECK (typeof({name}) IN ('integer', 'null'))",
    "flag": "INTEGER NOT NULL",
    "texts": "TEXT NOT NULL",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `bot.events()`.

    Attributes:
        name: Its name, also the attribute of `Event`.
        kind: What it holds; `arrow` and `sqlite` follow from it.
        meaning: One line for people.
    """

    name: str
    kind: Kind
    meaning: str

    @property
    def arrow(self) -> pa.DataType:
        """Type in Arrow and Parquet."""
        return arrow_type(self.kind)

    @property
    def sqlite(self) -> str:
        """Type in the journal: times as UTC microseconds, reasons as JSON or ""."""
        return _SQLITE[self.kind].format(name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One step of one handler's run over one event.

    Attributes:
        seq: The event's seq in the journal.
        handler: Name of the handler.
        version: Which text of it.
        state: ``started``, or how it ended.
        at: When, in UTC.
        seconds: How long it ran, in seconds; None while it runs.
        error: What it raised.
        calls_json: What it did, JSON text.
    """

    seq: int
    handler: str
    version: str = ""
    state: MarkState
    at: datetime
    seconds: float | None = None
    error: str = ""
    calls_json: str = ""


COLUMNS: Final[tuple[Column, ...]] = (
    Column("event_id", "text", "the gateway's id; unique for one gateway and bot"),
    Column("type", "text", "what happened, a dotted name"),
    Column("at", "time", "when, by the server's clock, UTC"),
    Column("received_at", "time", "when it arrived here, UTC"),
    Column("gateway", "text", "miti, agent, langbot, box or sim"),
    Column("bot", "text", "name of the connection"),
    Column("chat_type", "text", "private, group or empty"),
    Column("chat_id", "text", "the conversation"),
    Column("user_id", "text", "who did it"),
    Column("user_name", "text", "their name, if the gateway tells"),
    Column("role", "text", "user, assistant or system"),
    Column("message_id", "text", "the message it is about"),
    Column("reply_to", "text", "the message or event it answers"),
    Column("text", "text", "plain text"),
    Column("latency_s", "number", "from the question to this, in seconds; of a gap its length"),
    Column("feedback_id", "text", "the rating it belongs to"),
    Column("feedback_type", "whole", "1 like, 2 dislike, 3 cancel"),
    Column("feedback_reasons", "texts", "reasons the user ticked"),
    Column("tokens", "whole", "tokens used"),
    Column("error", "text", "error text"),
    Column("recovered", "flag", "fetched after a gap, did not arrive by itself"),
)
RAW: Final = Column("raw", "text", "the frame as it came, JSON text; only on request")

_TIMES: Final = ("at", "received_at")
_CONVERTED: Final = (*_TIMES, "feedback_reasons")
_PLAIN: Final = tuple(column.name for column in COLUMNS if column.name not in _CONVERTED)
#: Columns of a `Row`. What needs converting stands first, so that one getter fetches the rest.
ROW_NAMES: Final = (*_CONVERTED, *_PLAIN, RAW.name)
_plain_values = attrgetter(*_PLAIN, "raw_json")


def arrow_type(kind: Kind) -> pa.DataType:
    """The Arrow type of a kind of column.

    Text is ``large_string`` because that is what pandas 3 holds: handing it over copies nothing.
    """
    import pyarrow as pa

    return {
        "text": pa.large_string(),
        "time": pa.timestamp("us", tz="UTC"),
        "number": pa.float64(),
        "whole": pa.int64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }[kind]


def arrow_schema(raw: bool = False) -> pa.Schema:
    """The schema of every table of events.

    Args:
        raw: With the column ``raw``.
    """
    import pyarrow as pa

    return pa.schema([(column.name, column.arrow) for column in (*COLUMNS, *((RAW,) if raw else ()))])


def micros(at: datetime) -> int:
    """UTC microseconds since 1970.

    Raises:
        TypeError: `at` has no time zone.
    """
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment(us: int) -> datetime:
    """The time, in UTC, that `micros` gave."""
    return _EPOCH + timedelta(microseconds=us)


def to_row(event: Event, seq: int) -> Row:
    """An event as SQLite holds it.

    Raises:
        TypeError: A time has no zone.
    """
    return (
        seq,
        micros(event.at),
        micros(event.received_at),
        _reasons_text(event.feedback_reasons),
        *_plain_values(event),
    )


def mark_to_row(mark: Mark, owner: str) -> Row:
    """A mark as SQLite holds it: seq, handler, version, state, started, ended, seconds, error, calls, owner.

    Raises:
        TypeError: The time has no zone.
    """
    at = micros(mark.at)
    begins = mark.state == "started"
    times = (at, None) if begins else (None, at)
    return (
        *(mark.seq, mark.handler, mark.version, mark.state, *times),
        *(mark.seconds, mark.error, mark.calls_json, owner),
    )


def storable_mark(row: Row) -> Row:
    """A mark's row without what SQLite cannot hold; see `storable`."""
    return tuple(_text(value) if isinstance(value, str) else value for value in row)


def row_to_event(row: Row) -> Event:
    """The event of a row.

    Raises:
        ValueError: The row is damaged.
    """
    at, received_at, reasons = row[1:4]
    values = dict(zip(_PLAIN, row[4:-1], strict=True))
    if not (isinstance(at, int) and isinstance(received_at, int)):
        raise ValueError("a time is no number")
    values["recovered"] = bool(values["recovered"])
    return Event(
        at=moment(at),
        received_at=moment(received_at),
        feedback_reasons=tuple(_reasons(reasons)),
        raw_json=row[-1],
        **values,
    )


def storable(event: Event) -> Event:
    """The event without what the journal cannot hold, for one that it refused.

    JSON may carry half of a surrogate pair, which becomes U+FFFD, and numbers of any size, which
    become None. A value of a foreign type becomes text, or None where a number belongs.
    """
    values = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    for column in COLUMNS:
        if column.kind in _FITTING:
            values[column.name] = _FITTING[column.kind](values[column.name])
    return Event(**values | {"raw_json": _text(event.raw_json)})


def rows_to_batch(rows: Sequence[Row], *, raw: bool = False) -> pa.RecordBatch:
    """Rows as Arrow: ``seq`` and then the columns of `arrow_schema`.

    Raises:
        StoreError: A row is damaged; its seq is in the text.
    """
    import pyarrow as pa

    names = ("seq", *ROW_NAMES)
    lists: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * len(names)
    try:
        return _columns_to_batch(dict(zip(names, lists, strict=True)), raw=raw)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise _damaged(rows, raw, error) from None


def batch_to_rows(batch: pa.RecordBatch) -> list[Row]:
    """What `rows_to_batch` was given; ``raw`` is "" where the batch has none."""
    import pyarrow as pa

    lists: list[Sequence[Any]] = []
    for name in ("seq", *ROW_NAMES):
        if name not in batch.schema.names:
            lists.append([""] * len(batch))
        elif name in _TIMES:
            lists.append(batch.column(name).cast(pa.int64()).to_pylist())
        elif name == "feedback_reasons":
            lists.append([_reasons_text(value) for value in batch.column(name).to_pylist()])
        else:
            lists.append(batch.column(name).to_pylist())
    return list(zip(*lists, strict=True))


def _columns_to_batch(columns: dict[str, Sequence[Any]], *, raw: bool) -> pa.RecordBatch:
    """Lists of SQLite's values, by name, as Arrow in the order of `arrow_schema`."""
    import pyarrow as pa

    arrays = {"seq": pa.array(columns["seq"], pa.int64())}
    for column in (*COLUMNS, RAW) if raw else COLUMNS:
        values = columns[column.name]
        if column.kind == "flag":
            values = [bool(value) for value in values]
        elif column.kind == "texts":
            values = [_reasons(value) for value in values]
        arrays[column.name] = pa.array(values, column.arrow)
    batch = pa.RecordBatch.from_pydict(arrays)
    for column in COLUMNS:
        if batch.column(column.name).null_count and "NOT NULL" in column.sqlite:
            raise ValueError(f"{column.name} is empty")
    return batch


def _reasons_text(reasons: Sequence[str]) -> str:
    return json.dumps(reasons, ensure_ascii=False) if reasons else ""


def _reasons(text: str) -> list[str]:
    if not text:
        return []
    reasons = json.loads(text)
    if not isinstance(reasons, list):
        raise ValueError("feedback_reasons is no list")
    return reasons


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    # By way of UTF-16 two halves that stand side by side become the character they are.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and -_INT64 <= value < _INT64 else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


_FITTING: Final[dict[Kind, Callable[[Any], Any]]] = {
    "text": _text,
    "whole": _whole,
    "number": _number,
    "flag": bool,
    "texts": _texts,
}


def _damaged(rows: Sequence[Row], raw: bool, error: Exception) -> StoreError:
    """Say which row it is: the first one that cannot be read by itself."""
    if len(rows) == 1:
        return StoreError(
            f"row {rows[0][0]} of the journal is damaged: {error}",
            hint="The other rows are whole: `read(after_seq=…)` goes on behind it.",
        )
    for row in rows:
        try:
            rows_to_batch([row], raw=raw)
        except StoreError as found:
            return found
    return StoreError(f"the rows cannot be read: {error}")
