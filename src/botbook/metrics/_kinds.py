"""Frames of any kind into Arrow columns of known types, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import narwhals as nw
import numpy as np
import pyarrow as pa

from botbook._errors import ConfigError
from botbook.metrics._time import MOST_DRAWN, Ints, fitting

__all__ = [
    "UNGROUPABLE",
    "arrow",
    "codes",
    "collected",
    "freq_for",
    "micros_of",
    "native",
    "normal",
    "opened",
    "wanted_of",
    "where",
]

#: Column → who makes it, where that is not `bot.events()`.
MAKERS: Final = {"model": "the gateway's monitoring", "cost": "you, from a price list"}
TIMES: Final = ("at", "received_at")
NUMBERS: Final = frozenset({"latency_s", "tokens", "feedback_type"})
LISTS: Final = frozenset({"feedback_reasons"})
UNGROUPABLE: Final = frozenset({*TIMES, *NUMBERS, *LISTS})


def arrow(frame: Any) -> pa.Table:
    """A frame of any kind as an Arrow table, converted once for many metrics.

    Raises:
        ConfigError: It is no frame, or one of its columns cannot be read.
    """
    return collected(opened(frame)[0])


def freq_for(frame: Any, *, usual: str = "D", most: int = MOST_DRAWN) -> str:
    """The bucket that suits the range of a frame: seconds for a minute of events, days for weeks.

    Args:
        frame: Events, as `bot.events()` makes.
        usual: ``W`` for what is told by weeks, such as growth and retention: days, weeks or months.
        most: Buckets there may be; fewer for rates, that each may rest on many.

    Returns:
        One of ``s``, ``10s``, ``min``, ``h``, ``D``, ``W``, ``M``: the finest that makes at most `most`
        buckets; ``D`` without rows.

    Raises:
        ConfigError: It is no frame, or has no times with a zone in ``at``.
    """
    source, _ = opened(frame)
    known = source.collect_schema().names()
    wanted = wanted_of("freq_for", known, ["at"], [])
    at = normal(collected(source.select("at")), wanted)["at_us"].drop_nulls()
    if not len(at):
        return "D"
    return fitting((at.max() - at.min()) / 1e6, usual=usual, most=most)


def opened(frame: Any) -> tuple[nw.LazyFrame[Any], str]:
    try:
        opened = nw.from_native(frame)
        kind = opened.implementation.value
        opened.collect_schema()
    except nw.exceptions.DuplicateError as error:
        raise ConfigError(
            f"a column is there twice: {error}", hint="Give each column its own name."
        ) from None
    except TypeError:
        raise ConfigError(
            f"{type(frame).__name__} is no frame that metrics can read",
            hint="Give a pandas, polars, pyarrow or DuckDB frame, as `bot.events()` makes.",
        ) from None
    return opened.lazy(), kind


def collected(source: nw.LazyFrame[Any]) -> pa.Table:
    try:
        return source.collect("pyarrow").to_native()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigError(
            f"a column mixes kinds of values: {error}", hint="Make each column of one type."
        ) from None


def wanted_of(metric: str, known: Sequence[str], needs: list[str], wants: list[str]) -> list[str]:
    for name in needs:
        if name not in known:
            maker = MAKERS.get(name, "`bot.events()`")
            raise ConfigError(f"{metric} needs a column {name!r}", hint=f"It is made by {maker}.")
    return list(dict.fromkeys([*needs, *wants, "latency_s"]))


def normal(table: pa.Table, wanted: list[str]) -> nw.DataFrame[Any]:
    """Columns of known types under known names, whatever the frame called a string."""
    length = table.num_rows
    made: dict[str, Any] = {"order": pa.array(np.arange(length), type=pa.int64())}
    for name in wanted:
        column = table[name].combine_chunks() if name in table.column_names else None
        if name in TIMES:
            made["at_us" if name == "at" else "seen_us"] = _stamps(name, column, length)
        elif name in NUMBERS:
            made[name] = _cast(name, column, pa.float64(), length)
        elif name in LISTS:
            made[name] = _cast(name, column, pa.list_(pa.string()), length)
        else:
            made[name] = _cast(name, column, pa.string(), length).fill_null("")
    return nw.from_native(pa.table(made), eager_only=True)


def _stamps(name: str, column: pa.Array | None, length: int) -> pa.Array:
    if column is None or pa.types.is_null(column.type):
        return pa.nulls(length, pa.int64())
    if not pa.types.is_timestamp(column.type):
        raise ConfigError(
            f"column {name!r} holds {column.type} and no times",
            hint=f"`pandas.to_datetime(frame[{name!r}], utc=True)` makes times of text.",
        )
    if column.type.tz is None:
        raise ConfigError(
            f"column {name!r} has times without a zone",
            hint=f"`frame[{name!r}].dt.tz_localize('UTC')` says that they are UTC, if they are.",
        )
    return column.cast(pa.timestamp("us", tz="UTC"), safe=False).cast(pa.int64())


def _cast(name: str, column: pa.Array | None, kind: Any, length: int) -> pa.Array:
    if column is None or pa.types.is_null(column.type):
        return pa.nulls(length, kind)
    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError(
            f"column {name!r} holds {column.type}, which does not read as {kind}",
            hint="`bot.events()` shows how it should be.",
        ) from None


def native(table: pa.Table, kind: str) -> Any:
    """An Arrow table as pandas or polars; every other kind gets Arrow."""
    if kind in ("pandas", "modin", "cudf"):
        return table.to_pandas()
    if kind == "polars":
        return nw.from_native(table, eager_only=True).to_polars()
    return table


def micros_of(table: nw.DataFrame[Any], name: str = "at_us") -> Ints:
    """A time column as numbers."""
    return np.asarray(table[name].to_numpy(), dtype=np.int64)


def codes(table: nw.DataFrame[Any], *names: str) -> nw.Series[Any]:
    """Text columns as one column of numbers: equal text, equal number."""
    text = table[names[0]]
    if len(names) > 1:
        text = table.select(joined=nw.concat_str(*names, separator="\x1f"))["joined"]
    column = text.to_native()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    numbers = np.asarray(column.dictionary_encode().indices, dtype=np.int64)
    return nw.new_series("codes", numbers, nw.Int64, backend="pyarrow")


def where(table: nw.DataFrame[Any], mask: Any) -> nw.DataFrame[Any]:
    """The rows that a mask of the same length picks."""
    return table.filter(nw.new_series("mask", mask, nw.Boolean, backend="pyarrow"))
