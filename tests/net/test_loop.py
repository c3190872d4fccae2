"""Loops on threads of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
import warnings

import pytest

from botbook._errors import DeadlineExceeded, LocalProtocolError
from botbook._net import loop as module
from botbook._net.loop import LoopThread, handler_loop, io_loop, stop_all


@pytest.fixture
def loop():
    made = LoopThread("test-loop")
    yield made
    made.stop()


async def thread_name():
    return threading.current_thread().name


# ------------------------------------------------------------------------------- run, submit, call


def test_run(loop):
    assert loop.run(thread_name()) == "test-loop"
    assert loop.running


def test_run_raises_what_the_coroutine_raises(loop):
    async def fail():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        loop.run(fail(), timeout=5)


def test_run_with_a_time_limit(loop):
    ended = threading.Event()

    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    began = time.perf_counter()
    with pytest.raises(DeadlineExceeded, match=r"within 0\.05 s"):
        loop.run(slow(), timeout=0.05)
    assert time.perf_counter() - began < 0.3
    assert ended.wait(1), "and the coroutine was cancelled"


def test_a_slow_coroutine_is_waited_for(loop):
    assert loop.run(asyncio.sleep(0.12, "done"), timeout=5) == "done"


def test_the_stop_button(loop):
    """An interrupt ends the wait and the coroutine, and nothing else on the loop."""
    ended = threading.Event()
    other = loop.submit(asyncio.sleep(0.06, "kept"))

    async def forever():
        threading.Timer(0.02, signal.raise_signal, [signal.SIGINT]).start()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        loop.run(forever())
    assert time.perf_counter() - began < 0.3
    assert ended.wait(1)
    assert other.result(1) == "kept"


def test_a_blocking_call_on_its_own_thread_is_refused(loop):
    async def inside():
        with pytest.raises(LocalProtocolError, match="wait for itself"):
            loop.run(thread_name())
        with pytest.raises(LocalProtocolError, match="its own end"):
            loop.stop()
        return "said"

    assert loop.run(inside()) == "said"


async def test_call_from_another_loop(loop):
    assert await loop.call(thread_name()) == "test-loop"


async def test_cancelling_a_call_cancels_the_work(loop):
    ended = threading.Event()
    begun = threading.Event()

    async def forever():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    calling = asyncio.create_task(loop.call(forever()))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert await asyncio.to_thread(ended.wait, 1)


def test_call_on_its_own_loop_is_direct(loop):
    async def outer():
        here = asyncio.current_task()

        async def inner():
            return asyncio.current_task() is here

        return await loop.call(inner())

    assert loop.run(outer())


def test_call_soon(loop):
    came = threading.Event()
    loop.call_soon(came.set)
    assert came.wait(1)


# ------------------------------------------------------------------------------- the end


def test_stop_cancels_what_runs_and_lets_it_clean_up():
    loop = LoopThread("test-stop")
    cleaned = threading.Event()

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            cleaned.set()

    future = loop.submit(forever())
    loop.run(asyncio.sleep(0))
    began = time.perf_counter()
    loop.stop()
    loop.stop()
    assert time.perf_counter() - began < 0.3
    assert cleaned.is_set()
    assert future.cancelled()
    assert not loop.running
    assert loop.lag == 0
    assert len(loop.stack()) == 0
    loop.call_soon(print)
    with pytest.raises(LocalProtocolError, match="was stopped"):
        loop.submit(thread_name())


def test_a_wait_ends_with_the_loop():
    loop = LoopThread("test-end")
    threading.Timer(0.03, loop.stop).start()
    with pytest.raises(LocalProtocolError, match="stopped meanwhile"):
        loop.run(asyncio.sleep(60))


# ------------------------------------------------------------------------------- watchdog


def hold_up(seconds):
    time.sleep(seconds)


def test_a_held_loop_is_reported_once_with_its_stack(loop):
    lags = []
    loop.watch(lags.append, limit=0.02)

    async def handler_of_mine():
        hold_up(0.06)

    loop.run(asyncio.sleep(0.05))
    assert not lags, "waiting is not holding"
    loop.run(handler_of_mine())
    [lag] = lags
    assert lag.loop == "test-loop"
    assert lag.seconds > 0.02
    names = [frame.name for frame in lag.stack]
    assert names[-1] == "hold_up"
    assert "handler_of_mine" in names
    loop.run(asyncio.sleep(0.03))
    loop.run(handler_of_mine())
    assert len(lags) == 2
    loop.watch(None)
    loop.run(handler_of_mine())
    assert len(lags) == 2


def test_lag(loop):
    begun = threading.Event()

    async def hold():
        begun.set()
        hold_up(0.05)

    future = loop.submit(hold())
    begun.wait(1)
    time.sleep(0.01)
    assert loop.lag >= 0.01
    future.result(1)
    time.sleep(0.02)
    assert loop.lag == 0


# ------------------------------------------------------------------------------- the two of this process


@pytest.fixture
def own_loops(monkeypatch):
    fresh = module._Loops()
    monkeypatch.setattr(module, "_LOOPS", fresh)
    yield fresh
    fresh.stop()
    for left in fresh._left_behind:
        left.stop()


def test_two_loops_made_on_first_use(own_loops):
    assert own_loops._threads == {}
    assert io_loop() is io_loop()
    assert io_loop().run(thread_name()) == "botbook-io"
    assert handler_loop().run(thread_name()) == "botbook-handlers"
    stop_all()
    assert io_loop().run(thread_name()) == "botbook-io"


def test_a_loop_that_was_stopped_is_made_anew(own_loops):
    io_loop().stop()
    assert io_loop().running


def test_forgetting(own_loops):
    """What happens in the child of a fork."""
    before = io_loop()
    own_loops.forget()
    assert io_loop() is not before
    assert before.running, "never closed"


def test_after_a_fork_the_loops_are_made_anew_and_the_parents_live_on():
    parent = io_loop()
    parent.run(thread_name())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        ok = io_loop() is not parent and not parent.running
        ok = ok and io_loop().run(thread_name(), timeout=5) == "botbook-io"
        io_loop().stop()
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert parent.run(thread_name(), timeout=5) == "botbook-io"
    assert io_loop() is parent
