"""What is done to a journal by itself: old events are archived, very old ones deleted where that is asked."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import Final

from botbook._data.store import Store
from botbook._errors import StoreError

__all__ = ["Upkeep"]

FIRST_SECONDS: Final = 60.0
EVERY_SECONDS: Final = 6 * 3600.0
#: Fewer old events are left where they are: a file for each day would make questions slow.
LEAST_ROWS: Final = 10_000

_log = logging.getLogger("botbook")


class _Ended(Exception):
    """The journal is being closed; what is half done is finished by the next archiving."""


class Upkeep:
    """A thread that looks after a journal while it is open.

    Args:
        store: The journal.
        archive_days: Archive what arrived so many days ago; 0: nothing.
        keep_days: Delete archived events of so many days ago; 0: nothing.
        first: Seconds until it looks for the first time.
        every: Seconds between two looks.
        least: Fewest events that are worth a file.
    """

    def __init__(
        self,
        store: Store,
        *,
        archive_days: float,
        keep_days: float = 0.0,
        first: float = FIRST_SECONDS,
        every: float = EVERY_SECONDS,
        least: int = LEAST_ROWS,
    ) -> None:
        self._store = store
        self._archive = timedelta(days=archive_days)
        self._keep = timedelta(days=keep_days)
        self._first = first
        self._every = every
        self._least = least
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="botbook-upkeep", daemon=True)
        if archive_days or keep_days:
            self._thread.start()

    def close(self) -> None:
        """End it, also in the middle of its work."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        wait = self._first
        while not self._ending.wait(wait):
            wait = self._every
            try:
                self._look()
            except _Ended:
                return
            except StoreError as error:
                _log.warning("the archive could not be looked after: %s", error)

    def _look(self) -> None:
        now = self._store.now()
        if self._archive:
            self._store.archive(before=now - self._archive, least=self._least, sleep=self._rest)
        if self._keep:
            self._store.discard(before=now - self._keep)

    def _rest(self, seconds: float) -> None:
        if self._ending.wait(seconds):
            raise _Ended
