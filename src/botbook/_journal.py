"""One connection's events: on disk first, then in the frame, then to whoever watches."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from botbook._clock import Clock
from botbook._data.frames import LiveFrame
from botbook._data.lazy import Engine, lazy_events
from botbook._data.record import Recorder
from botbook._data.store import Store
from botbook._data.upkeep import Upkeep
from botbook._errors import DeadlineExceeded, StoreError
from botbook.events import Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Journal"]

Row = tuple[int, Event]
Watch = Callable[[Sequence[Row]], None]

#: Events that may wait for their commit before the link stops reading: reached only when the disk
#: is full, read-only or very slow.
BACKLOG: Final = 10_000


class Journal:
    """The store, the frame over it, and who watches.

    Args:
        path: The store's file, or None for the default place.
        gateway: Whose events these are.
        bot: Of which connection.
        clock: Time.
        archive_days: Archive what is so many days old; 0: nothing.
        keep_days: Delete archived events that are so many days old; 0: nothing.

    Attributes:
        store: The durable half.
        trouble: Why nothing can be kept at the moment, or None.

    Raises:
        StoreError: The file cannot be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        *,
        gateway: str,
        bot: str,
        clock: Clock,
        archive_days: float = 0.0,
        keep_days: float = 0.0,
    ) -> None:
        self._gateway = gateway
        self._bot = bot
        self._clock = clock
        self.trouble: StoreError | None = None
        self.store = Store(path, on_trouble=self._on_trouble)
        self._frame = LiveFrame(self.store)
        self._upkeep = Upkeep(self.store, archive_days=archive_days, keep_days=keep_days)
        self._watches: tuple[Watch, ...] = ()
        self._recorder: Recorder | None = None
        self._began = self.store.head() - 1
        self._waited: dict[str, int] = {}

    def watch(self, call: Watch) -> None:
        """Have rows handed on once they are on disk; called on the writer's thread."""
        self._watches = (*self._watches, call)

    def unwatch(self, call: Watch) -> None:
        """End that."""
        self._watches = tuple(watch for watch in self._watches if watch != call)

    async def publish(self, events: Sequence[Event]) -> None:
        """Keep events. While the disk takes none this waits, so that the link stops reading."""
        while self.store.backlog > BACKLOG:
            await self._clock.sleep(0.05)
        self.keep(events)

    def keep(self, events: Sequence[Event]) -> None:
        """Keep events of our own, without waiting."""
        if events:
            self.store.append(events, self._kept)

    def _kept(self, rows: list[Row]) -> None:
        self._frame.append(rows)
        for watch in self._watches:
            watch(rows)

    def _on_trouble(self, trouble: StoreError | None) -> None:
        self.trouble = trouble

    def frame(self, **filters: Any) -> pd.DataFrame:
        """The journal and the live tail as one frame."""
        return self._frame.events(**filters)

    def lazy(self, engine: Engine, **filters: Any) -> Any:
        """The same, left where it is."""
        return lazy_events(self.store, engine=engine, **filters)

    async def wait(self, type: str, *, count: int, timeout: float) -> list[Event]:
        """The next `count` events of a type or pattern that no earlier call has returned.

        So an event that came between two cells is not missed. It looks back to the connection, or
        to the last `look_ahead`.

        Raises:
            DeadlineExceeded: Fewer came in time; they are returned by the next call.
        """
        loop = asyncio.get_running_loop()
        more = asyncio.Event()

        def watch(rows: Sequence[Row]) -> None:
            loop.call_soon_threadsafe(more.set)

        rows: list[Row] = []
        self.watch(watch)
        try:
            async with asyncio.timeout(timeout):
                while (
                    len(rows := await self._after(self._waited.get(type, self._began), type, count)) < count
                ):
                    await more.wait()
                    more.clear()
        except TimeoutError:
            raise DeadlineExceeded(
                f"{len(rows)} of {count} events of type {type} came within {timeout:g} s",
                hint="`%bot` shows the state of the link; or wait longer.",
            ) from None
        finally:
            self.unwatch(watch)
        self._waited[type] = rows[-1][0]
        return [event for _, event in rows]

    def look_ahead(self) -> None:
        """Let the next `wait` count only what comes from now on."""
        self._began = self.store.head() - 1
        self._waited.clear()

    async def _after(self, seq: int, type: str, limit: int) -> list[Row]:
        return await asyncio.to_thread(
            self.store.pending, gateway=self._gateway, bot=self._bot, type=type, after_seq=seq, limit=limit
        )

    def record(self, path: str | os.PathLike[str] | None) -> None:
        """Copy every event from now on to a file of JSON lines; None ends that.

        Raises:
            StoreError: The file cannot be written.
        """
        fresh = Recorder(path) if path is not None else None
        if self._recorder is not None:
            self.unwatch(self._recorder.write)
            self._recorder.close()
        self._recorder = fresh
        if fresh is not None:
            self.watch(fresh.write)

    def close(self) -> None:
        """Write what waits, and close the files."""
        self.record(None)
        self._upkeep.close()
        self.store.close()
