"""Two event loops on threads of their own: one for sockets, one for handlers (jupyter.md 3.1).

The caller's own loop is never touched. A loop thread knows how long it has been held, because its
selector notes when it hands over to the callbacks and when it gets back; a watchdog reads that note.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from botbook._errors import DeadlineExceeded, LocalProtocolError

__all__ = ["Lag", "LoopThread", "handler_loop", "io_loop", "stop_all"]

T = TypeVar("T")

#: A blocking wait looks up so often, in seconds, so that any platform can interrupt it (jupyter.md 3.4).
STEP: Final = 0.1
#: A loop that is held for longer is reported, in seconds.
LAG_LIMIT: Final = 0.25
#: What `LoopThread.stop` grants to tasks that clean up, and to the thread, in seconds.
_TASK_WAIT: Final = 0.3
_THREAD_WAIT: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """A loop is being held by what runs on it.

    Attributes:
        loop: Name of its thread.
        seconds: For how long so far, in seconds.
        stack: Where its thread is right now, innermost frame last.
    """

    loop: str
    seconds: float
    stack: traceback.StackSummary = field(repr=False)


class _NotingSelector(selectors.DefaultSelector):
    """Notes since when the loop has been busy: None while it waits in here."""

    busy_since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.busy_since = None
        try:
            return super().select(timeout)
        finally:
            self.busy_since = time.monotonic()


class LoopThread:
    """An event loop on a daemon thread.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._selector = _NotingSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._watchdog: _Watchdog | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether work can be given to it."""
        return self._thread.is_alive() and not self._stopping

    @property
    def lag(self) -> float:
        """For how long the loop has been held by what runs now, in seconds; 0 while it is idle."""
        since = self._selector.busy_since
        return 0.0 if since is None or not self.running else time.monotonic() - since

    # ------------------------------------------------------------------------ work

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine from any thread.

        Returns:
            Its future; cancelling that cancels the coroutine.

        Raises:
            LocalProtocolError: The loop was stopped.
        """
        if not self.running:
            work.close()
            raise LocalProtocolError(f"the loop {self.name} was stopped")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T], *, timeout: float | None = None) -> T:
        """Run a coroutine and wait for it, from any thread but the loop's own.

        An interrupt cancels the coroutine, and nothing else that runs there.

        Args:
            work: The coroutine.
            timeout: In seconds; None waits for ever.

        Raises:
            DeadlineExceeded: It took longer, and was cancelled.
            LocalProtocolError: Called on the loop's own thread, or the loop was stopped.
            KeyboardInterrupt: The wait was interrupted, and the coroutine cancelled.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise LocalProtocolError(
                f"a blocking call on {self.name} would wait for itself", hint="Await the call instead."
            )
        future = self.submit(work)
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while not _finished(future, STEP if until is None else min(STEP, until - time.monotonic())):
                if until is not None and time.monotonic() >= until:
                    raise DeadlineExceeded(f"no result within {timeout:g} s")
            return future.result()
        except concurrent.futures.CancelledError:
            raise LocalProtocolError(f"the loop {self.name} was stopped meanwhile") from None
        finally:
            future.cancel()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this loop and await it on any other, or right here if this is the one.

        Raises:
            LocalProtocolError: The loop was stopped.
        """
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(self.submit(work))

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop's thread, soon, from any thread; nothing if it was stopped."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *args)

    def stop(self) -> None:
        """Cancel what runs, give it a moment to clean up, and end the thread. May be called again."""
        if threading.current_thread() is self._thread:
            raise LocalProtocolError(f"{self.name} cannot wait for its own end")
        self.watch(None)
        self._stopping = True
        self.call_soon(self._loop.stop)
        self._thread.join(_THREAD_WAIT)

    # ------------------------------------------------------------------------ watchdog

    def watch(self, on_lag: Callable[[Lag], None] | None, *, limit: float = LAG_LIMIT) -> None:
        """Report when something holds the loop, once for each hold.

        Args:
            on_lag: Called on a thread of the watchdog's own; must not raise. None ends the watch.
            limit: What is too long, in seconds.
        """
        if self._watchdog is not None:
            self._watchdog.stop()
        self._watchdog = None if on_lag is None else _Watchdog(self, on_lag, limit)

    def stack(self) -> traceback.StackSummary:
        """Where the loop's thread is right now, innermost frame last."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return traceback.extract_stack(frame) if frame else traceback.StackSummary()

    # ------------------------------------------------------------------------ the thread

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel_all())
        finally:
            self._loop.close()


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_TASK_WAIT)


def _finished(future: concurrent.futures.Future[Any], seconds: float) -> bool:
    return bool(concurrent.futures.wait([future], timeout=max(0.0, seconds)).done)


class _Watchdog:
    """A thread that looks at a loop twice within each limit."""

    def __init__(self, loop: LoopThread, on_lag: Callable[[Lag], None], limit: float) -> None:
        self._loop = loop
        self._on_lag = on_lag
        self._limit = limit
        self._done = threading.Event()
        threading.Thread(target=self._main, name=f"{loop.name}-watchdog", daemon=True).start()

    def stop(self) -> None:
        self._done.set()

    def _main(self) -> None:
        reported = False
        while not self._done.wait(self._limit / 2):
            lag = self._loop.lag
            if lag > self._limit and not reported:
                self._on_lag(Lag(loop=self._loop.name, seconds=lag, stack=self._loop.stack()))
            reported = lag > self._limit


class _Loops:
    """The loop threads of this process, made on first use and made anew after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: dict[str, LoopThread] = {}
        self._left_behind: list[LoopThread] = []

    def get(self, name: str) -> LoopThread:
        with self._lock:
            found = self._threads.get(name)
            if found is None or not found.running:
                found = self._threads[name] = LoopThread(name)
            return found

    def forget(self) -> None:
        """In a forked child the threads are gone. Their loops are kept, never closed: closing one
        would take its sockets out of the parent's selector."""
        self._lock = threading.Lock()
        self._left_behind += self._threads.values()
        self._threads = {}

    def stop(self) -> None:
        with self._lock:
            threads, self._threads = list(self._threads.values()), {}
        for thread in reversed(threads):
            thread.stop()


_LOOPS: Final = _Loops()
getattr(os, "register_at_fork", dict)(after_in_child=_LOOPS.forget)  # no fork, no hook
atexit.register(_LOOPS.stop)


def io_loop() -> LoopThread:
    """The loop of sockets, heartbeats and REST. No user code runs there."""
    return _LOOPS.get("botbook-io")


def handler_loop() -> LoopThread:
    """The loop of handlers and commands: user code may hold it up without harm to the sockets."""
    return _LOOPS.get("botbook-handlers")


def stop_all() -> None:
    """Stop both loops; they are made anew when asked for. Also done when the process ends."""
    _LOOPS.stop()
