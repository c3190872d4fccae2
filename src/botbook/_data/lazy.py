"""Events where they are: a dataset over segments and tail, for what does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

from botbook._data.filters import Asked, Filters, filters
from botbook._data.schema import arrow_schema, rows_to_batch
from botbook._data.segments import folder_of, is_whole, tell_damaged
from botbook._data.store import Store
from botbook._errors import CommandError, ConfigError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

__all__ = ["Engine", "lazy_events", "stream"]

Engine = Literal["auto", "arrow", "duckdb"]

_BATCH_ROWS: Final = 65_536


def lazy_events(store: Store, *, engine: Engine = "auto", raw: bool = False, **asked: Unpack[Asked]) -> Any:
    """The events of a journal as they are at this moment, read when they are used.

    Args:
        store: The journal.
        engine: ``duckdb`` for a DuckDB relation (needs the extra ``scale``), ``arrow`` for a
            `pyarrow.dataset.Dataset`, ``auto`` for DuckDB where it is installed.
        raw: With the column ``raw``.
        **asked: As in `Store.read`, but no ``limit``.

    Returns:
        What metrics take, too, in the case of DuckDB. Rows are in no order.

    Raises:
        CommandError: A filter cannot be understood, or is ``limit``.
        ConfigError: DuckDB was asked for and is not installed.
        StoreError: The journal cannot be read.
    """
    wanted = _wanted(store, asked)
    duckdb = None if engine == "arrow" else _duckdb(needed=engine == "duckdb")
    dataset = _dataset(store, wanted, raw=raw)
    if duckdb is None:
        return dataset
    names = ", ".join(f'"{name}"' for name in arrow_schema(raw).names)
    return duckdb.connect().from_arrow(dataset).project(names)


def stream(store: Store, *, raw: bool, **asked: Unpack[Asked]) -> Iterator[pa.RecordBatch]:
    """The events asked for with ``seq``, some ten thousand at a time, the oldest segment first.

    Raises:
        StoreError: A segment broke while it was read.
    """
    import pyarrow as pa

    dataset = _dataset(store, _wanted(store, asked), raw=raw)
    try:
        yield from dataset.to_batches(
            batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1, use_threads=True
        )
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"the archive of {store.path} is damaged: {error}") from None


def _wanted(store: Store, asked: Asked) -> Filters:
    wanted = filters(now=store.now, **asked)
    if wanted.limit is not None:
        raise CommandError("there is no limit here", hint="Narrow the events by since, until, type or bot.")
    return wanted


def _dataset(store: Store, wanted: Filters, *, raw: bool) -> ds.Dataset:
    import pyarrow as pa
    import pyarrow.dataset as ds

    span, tail = store.snapshot(wanted, raw=raw)
    schema = pa.schema([("seq", pa.int64()), *arrow_schema(raw)])
    folder, paths = folder_of(store.path), []
    for segment in span.segments:
        if not segment.may_hold(wanted):
            continue
        if is_whole(folder, segment):
            paths.append(str(folder / segment.name))
        else:
            tell_damaged(folder, segment, "it does not end as it should")
    tail = tail or [rows_to_batch([], raw=raw)]
    parts = [ds.dataset(paths, schema=schema, format="parquet")] if paths else []
    whole = ds.dataset([*parts, ds.dataset(pa.Table.from_batches(tail, schema))])
    condition = wanted.expression()
    return whole if condition is None else whole.filter(condition)


def _duckdb(*, needed: bool) -> Any:
    try:
        import duckdb
    except ImportError:
        if needed:
            raise ConfigError(
                "DuckDB is not installed", hint="Install it: pip install 'botbook[scale]'"
            ) from None
        return None
    return duckdb
