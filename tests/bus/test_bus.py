"""Order inside a chat, chats side by side, nothing dropped, no handler able to harm the rest."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from contextlib import asynccontextmanager

import pytest

from botbook._bus.bus import Bus
from botbook._bus.capture import deed_of, keep
from botbook._bus.handler import Handler
from botbook._bus.table import HandlerTable
from botbook.actions import Native, Send
from tests.samples import message


class Desk:
    """A bus with a journal that is a list."""

    def __init__(self, **options):
        self.router = HandlerTable()
        self.rows = []
        self.started = []
        self.calls = []
        self.done = []
        self.numbers = itertools.count(1)
        self.bus = Bus(
            self.router,
            start=self._start,
            finish=self.calls.extend,
            fetch=self._fetch,
            actor=None,
            extra={"bot": "bot"},
            do=self._do,
            **options,
        )

    async def _do(self, action):
        self.done.append(action)

    async def _start(self, pairs):
        await asyncio.sleep(0)
        self.started += [(seq, handler.name) for seq, handler in pairs]

    async def _fetch(self, event, after_seq, limit):
        await asyncio.sleep(0)
        return [row for row in self.rows if row[0] > after_seq and row[1].chat_id == event.chat_id][:limit]

    def on(self, function, pattern="message.received", **options):
        self.router.add(Handler(function, pattern=pattern, **options))

    def put(self, *events):
        rows = [(next(self.numbers), event) for event in events]
        self.rows += rows
        self.bus.dispatch(rows)

    async def quiet(self):
        while self.bus._chats:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # what has ended is kept at the next turn of the loop

    def states(self):
        return [call.state for call in self.calls]


@asynccontextmanager
async def desk(**options):
    made = Desk(**options)
    try:
        async with asyncio.timeout(5):
            yield made
    finally:
        await made.bus.stop()


async def test_order_inside_a_chat_and_chats_side_by_side():
    seen, together = [], []
    running = 0

    async def slow(event):
        nonlocal running
        running += 1
        together.append(running)
        await asyncio.sleep(0.01 if event.text == "0" else 0)
        running -= 1
        seen.append((event.chat_id, event.text))

    async with desk() as d:
        d.on(slow)
        d.put(*(message(str(n), chat=chat) for n in range(4) for chat in "abc"))
        await d.quiet()
    for chat in "abc":
        assert [text for where, text in seen if where == chat] == ["0", "1", "2", "3"]
    assert max(together) == 3
    assert d.bus.handled == 12


async def test_the_cap_holds_over_all_chats():
    running, most = 0, 0

    async def slow(event):
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    async with desk(concurrency=5) as d:
        d.on(slow)
        d.put(*(message(chat=str(n)) for n in range(40)))
        await d.quiet()
    assert most == 5
    assert d.bus.handled == 40


async def test_what_has_no_room_waits_in_the_journal_and_nothing_is_dropped():
    seen = []
    gate = asyncio.Event()

    async def wait_then_note(event):
        await gate.wait()
        seen.append(event.text)

    async with desk(per_chat=4) as d:
        d.on(wait_then_note)
        d.put(*(message(str(n)) for n in range(50)))
        await asyncio.sleep(0)
        assert d.bus.queued <= 4
        assert d.bus.spilled >= 45
        gate.set()
        await asyncio.sleep(0.001)
        d.put(*(message(str(n)) for n in range(50, 60)))
        await d.quiet()
    assert seen == [str(n) for n in range(60)]


async def test_a_spill_that_only_others_could_fill_ends():
    """Rows without a handler, and a journal that has lost what it held, do not keep a chat waiting."""

    async def note(event):
        await asyncio.sleep(0)

    async with desk(per_chat=2) as d:
        d.on(note)
        d.put(*(message(str(n)) for n in range(6)))
        d.rows.clear()
        await d.quiet()
    assert d.bus.handled == 2


async def test_started_is_on_disk_before_the_handler_runs_and_each_event_once():
    order = []

    async with desk() as d:

        async def note(event):
            order.append((event.text, list(d.started)))

        d.on(note)
        d.put(message("a"))
        await d.quiet()
    assert order == [("a", [(1, "note")])]


PROBLEMS = [ValueError("boom"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]


@pytest.mark.parametrize(
    ("problem", "blocking"),
    [(p, False) for p in PROBLEMS] + [(p, True) for p in [*PROBLEMS, StopIteration()]],
    ids=lambda value: value if isinstance(value, bool) else type(value).__name__,
)
async def test_a_failure_is_noted_and_the_rest_goes_on(problem, blocking):
    def fail(event):
        raise problem

    async def fail_async(event):
        raise problem

    async with desk() as d:
        d.on(fail if blocking else fail_async, name="fail")
        d.put(message("a"), message("b"), message("c", chat="other"))
        await d.quiet()
    assert d.states() == ["failed"] * 3
    assert type(problem).__name__ in d.calls[0].error
    assert "raise problem" in d.calls[0].traceback
    assert "botbook/_bus" not in d.calls[0].traceback
    assert d.router.get("fail").stats.failures == 3


async def test_a_handler_that_never_ends_runs_out_of_time():
    async def forever(event):
        await asyncio.Event().wait()

    async with desk() as d:
        d.on(forever, timeout=0.01)
        d.put(message("a"))
        await d.quiet()
    assert d.states() == ["timeout"]
    assert d.calls[0].error == "ran longer than 0.01 s"


async def test_a_timeout_of_its_own_is_a_failure_not_ours():
    async def fail(event):
        raise TimeoutError("their server")

    async with desk() as d:
        d.on(fail)
        d.put(message())
        await d.quiet()
    assert d.states() == ["failed"]
    assert d.calls[0].error == "TimeoutError: their server"


async def test_a_plain_def_runs_on_a_thread_of_its_own():
    threads = set()

    def note(event, bot):
        threads.add((threading.current_thread().name.split("_")[0], bot))

    async with desk() as d:
        d.on(note)
        d.put(message())
        await d.quiet()
    assert threads == {("botbook-def", "bot")}


async def test_a_replaced_handler_is_the_one_that_runs():
    seen = []

    async with desk() as d:

        async def answer(event):
            seen.append(("old", event.text))
            d.on(fresh, name="answer")

        async def fresh(event):
            seen.append(("new", event.text))

        d.on(answer)
        d.put(message("a"), message("b"))
        await d.quiet()
    assert seen == [("old", "a"), ("new", "b")]


async def test_a_handler_taken_away_runs_no_more():
    seen = []

    async with desk() as d:

        async def answer(event):
            seen.append(event.text)
            d.router.remove("answer")

        d.on(answer)
        d.put(message("a"), message("b"))
        await d.quiet()
    assert seen == ["a"]


async def test_conditions():
    seen = []

    async def note(event):
        seen.append(event.text)

    async with desk() as d:
        d.on(note, when=lambda event: event.text > "a")
        d.on(note, name="broken", when=lambda event: 1 / 0)
        d.put(message("a"), message("b"))
        await d.quiet()
    assert seen == ["b"]
    assert [call.error for call in d.calls if call.handler == "broken"] == [
        "ZeroDivisionError: division by zero"
    ] * 2
    assert d.started == [(2, "note")]


async def test_recovered_events_and_those_nobody_wants_are_left_alone():
    seen = []

    async def note(event):
        seen.append(event.text)

    async with desk() as d:
        d.on(note)
        d.put(message("a", recovered=True), message("b", type="feedback.received"), message("c"))
        await d.quiet()
    assert seen == ["c"]


async def test_stop_lets_what_runs_finish_and_begins_nothing_more():
    seen = []

    async def slow(event):
        await asyncio.sleep(0.01)
        seen.append(event.text)

    d = Desk()
    d.on(slow)
    d.put(message("a"), message("b"))
    await asyncio.sleep(0.001)
    await d.bus.stop(drain=1)
    d.put(message("c"))
    assert "c" not in seen
    assert "a" in seen


async def test_stop_cancels_what_does_not_end():
    async def forever(event):
        await asyncio.Event().wait()

    d = Desk()
    d.on(forever)
    d.put(message())
    await asyncio.sleep(0.001)
    await d.bus.stop(drain=0.01)
    assert d.states() == ["cancelled"]


# ---------------------------------------------------------------------------- what a handler gives back


class Mouth:
    """An actor that notes what is said."""

    def __init__(self):
        self.said = []

    async def reply(self, event, text, *, markdown=True):
        self.said.append(text)

    def answer(self, event):
        return Stream(self.said)


class Stream:
    def __init__(self, said):
        self.said = said
        self.text = ""

    async def __aenter__(self):
        return self

    async def write(self, text):
        self.text += text

    async def __aexit__(self, kind, problem, trace):
        self.said.append(f"{self.text}|{kind.__name__ if kind else 'whole'}")


async def gives_text(event):
    return ["a", Native(id="1", body={}), "b"]


def gives_text_plainly(event):
    return "plain"


async def streams(event):
    yield "one "
    yield "two"


def streams_plainly(event):
    seen_threads.append(threading.current_thread().name)
    yield "one "
    yield "two"


def breaks_off(event):
    yield "half"
    raise SystemExit("no")


seen_threads: list[str] = []


@pytest.mark.parametrize(
    ("function", "said", "state"),
    [
        (gives_text, ["a", "b"], "done"),
        (gives_text_plainly, ["plain"], "done"),
        (streams, ["one two|whole"], "done"),
        (streams_plainly, ["one two|whole"], "done"),
        (breaks_off, ["half|_Escaped"], "failed"),
        (lambda event: 3, [], "failed"),
    ],
)
async def test_what_a_handler_gives_back_is_done(function, said, state):
    async with desk() as d:
        d.bus._actor = mouth = Mouth()
        d.on(function)
        d.put(message())
        await d.quiet()
    assert mouth.said == said
    assert d.states() == [state]
    assert len(d.done) == (1 if function is gives_text else 0)
    if function is breaks_off:
        assert d.calls[0].error == "SystemExit: no"
        assert "outcome.py" not in d.calls[0].traceback
    if function is streams_plainly:
        assert all(name.startswith("botbook-def") for name in seen_threads)


async def test_a_call_is_recorded_with_what_it_sent():
    async def sends(event):
        keep(deed_of(Send(id="1", to="user:u", text="hi")))

    def sends_plainly(event):
        keep(deed_of(Send(id="1", to="user:u", text="hi"), reply=True))

    async with desk() as d:
        d.on(sends)
        d.on(sends_plainly)
        d.on(lambda event: None, name="silent")
        d.put(message())
        await d.quiet()
    assert [json.loads(call.calls_json or "[]") for call in d.calls] == [
        [{"call": "send", "text": "hi", "to": "user:u"}],
        [{"call": "reply", "text": "hi", "plain": True}],
        [],
    ]
    keep(deed_of(Send(id="1", to="user:u", text="nobody's")))
