"""Recorded events through handlers: nothing is sent, nothing waits, the same every time."""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
import json
import random
import sys
import threading
import time
import uuid
from datetime import date, datetime, timedelta
from random import choice
from time import sleep

import pytest

from botbook._bus.capture import Capture, CapturedBot, capturing, deeds_json
from botbook._bus.handler import Handler, condition
from botbook._bus.replay import Record, Replay, Said, replay
from botbook._bus.timeless import TimelessLoop
from botbook._errors import HandlerError, NotSupported
from botbook.actions import Abandon, Ask, History, Native, PlatformCall, Send
from botbook.messages import At, MessageChain, Plain
from tests.samples import NOON, message


def made(function, **options):
    return Handler(function, **({"pattern": "message.received", "timeout": 60.0} | options))


def run(function, *events, **options):
    """One handler over events; what was said to each."""
    handler = function if isinstance(function, Handler) else made(function)
    return [row.now for row in replay(events or [message("hi")], [handler], **options).rows]


def said(*replies, actions=(), error=""):
    return Said(replies=replies, actions=actions, error=error)


# ---------------------------------------------------------------------------- what is kept


async def answers(event):
    await event.reply("one", markdown=False)
    async with event.answer() as answer:
        await answer.write("think", reasoning=True)
        await answer.write("tw")
        await answer.write("o")


def answers_plainly(event):
    event.reply("one", markdown=False)
    with event.answer() as answer:
        answer.write("think", reasoning=True)
        answer.write("tw")
        answer.write("o")
        assert (answer.text, answer.cancelled) == ("two", False)


@pytest.mark.parametrize("function", [answers, answers_plainly])
def test_what_a_handler_would_answer(function):
    assert run(function) == [said("one", "two")]


async def sends(event, bot):
    sent = await bot.send("user:u1", "hello", markdown=True)
    await bot.send_native({"msg_type": "text"}, to="group:g")
    await bot.aio.reply(event, "re")
    async with bot.answer(event) as answer:
        await answer.write(sent.message_id)


def sends_plainly(event, bot):
    sent = bot.send("user:u1", "hello", markdown=True)
    bot.send_native({"msg_type": "text"}, to="group:g")
    bot.aio.reply(event, "re")
    with bot.answer(event) as answer:
        answer.write(sent.message_id)


@pytest.mark.parametrize("function", [sends, sends_plainly])
def test_what_a_handler_would_send(function):
    assert run(function) == [
        said(
            "re",
            "replay-1",
            actions=(
                {"call": "send", "text": "hello", "to": "user:u1", "markdown": True},
                {"call": "send_native", "text": "", "to": "group:g", "body": {"msg_type": "text"}},
            ),
        )
    ]


async def fails_in_an_answer(event):
    async with event.answer() as answer:
        await answer.write("half")
        raise ValueError("oh no")


def test_an_answer_that_fails():
    (row,) = replay([message()], [made(fails_in_an_answer)]).rows
    assert row.now == said("half", error="ValueError: oh no")
    assert row.outcome.deeds[0].to_json() == {"call": "answer", "text": "half", "error": "ValueError"}
    assert "oh no" in row.outcome.traceback
    assert "rehearsal.py" not in row.outcome.traceback
    assert "fails_in_an_answer" in row.outcome.traceback


async def returns_text(event):
    return "text"


async def returns_much(event):
    chain = MessageChain([At(target="u"), Plain(text=" hi")])
    return ["a", ("b", None), Send(id="1", to="user:u", text="c"), chain, ""]


async def yields(event):
    yield "pie"
    yield Native(id="1", body={"k": 1})
    yield "ces"


def yields_plainly(event):
    yield "pie"
    yield Native(id="1", body={"k": 1})
    yield "ces"


def returns_what_must_be_awaited(event):
    return returns_text(event)


async def yields_nothing(event):
    if event.text == "never":
        yield "x"


async def returns_what_was_sent(event):
    return await event.reply("yes")


NATIVE = {"call": "send_native", "text": "", "body": {"k": 1}}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (returns_text, said("text")),
        (returns_much, said("a", "b", "@u hi", actions=({"call": "send", "text": "c", "to": "user:u"},))),
        (yields, said("pieces", actions=(NATIVE,))),
        (yields_plainly, said("pieces", actions=(NATIVE,))),
        (returns_what_must_be_awaited, said("text")),
        (yields_nothing, said()),
        (returns_what_was_sent, said("yes")),
        (lambda: "hello", said("hello")),
    ],
)
def test_what_a_handler_gives_back(function, expected):
    assert run(function) == [expected]


@pytest.mark.parametrize("value", [3, {"a": 1}, object(), ["x", 3]])
def test_what_nobody_can_say_the_meaning_of(value):
    (row,) = replay([message()], [made(lambda: value)]).rows
    assert row.now.replies == ()
    assert isinstance(row.outcome.problem, HandlerError)
    assert "text, an action" in row.outcome.problem.hint


def yields_and_fails(event):
    try:
        yield "half"
        raise ValueError("no")
    finally:
        closed.append(event.text)


closed: list[str] = []


def test_a_generator_that_fails_is_closed_and_its_answer_marked():
    (row,) = replay([message("g")], [made(yields_and_fails)]).rows
    assert row.outcome.deeds[0].to_json() == {"call": "answer", "text": "half", "error": "ValueError"}
    assert row.now.error == "ValueError: no"
    assert closed == ["g"]


def test_a_bot_in_a_replay_can_send_and_no_more():
    bot = CapturedBot(Capture(), name="lab", gateway="miti")
    assert (bot.name, bot.gateway, repr(bot)) == ("lab", "miti", "<captured lab>")
    with pytest.raises(NotSupported, match="history"):
        bot.history("c1")
    assert not hasattr(bot, "__wrapped__")
    assert run(lambda bot: bot.ask("x"))[0].error.startswith("NotSupported: ")


@pytest.mark.parametrize("action", [Ask(id="1", text="?"), History(id="1", chat_id="c")])
def test_a_replay_gives_no_answers_to_questions(action):
    with pytest.raises(NotSupported, match="replay"):
        Capture().take(action)


def test_other_actions_by_their_fields():
    capture = Capture()
    capture.take(Abandon(id="1", ask_id="a"))
    assert capture.deeds[0].to_json() == {"call": "abandon", "text": "", "ask_id": "a"}
    capture.take(PlatformCall(id="1", api="leave_group", params={"group_id": 1}))
    assert capture.deeds.pop().to_json() == {"call": "leave_group", "text": "", "params": {"group_id": 1}}
    assert json.loads(deeds_json(capture.deeds)) == [{"call": "abandon", "text": "", "ask_id": "a"}]
    assert deeds_json([]) == ""


# ---------------------------------------------------------------------------- which handler for which event


def test_patterns_and_conditions_decide_as_live():
    events = [message("a"), message("b?"), message("c?", type="message.edited")]
    handler = made(lambda text: text, when=condition("text.endswith('?')"))
    assert run(handler, *events) == [said("b?")]
    assert [row.replies for row in run(made(lambda text: text, pattern="*"), *events)] == [
        ("a",),
        ("b?",),
        ("c?",),
    ]


def test_a_star_hears_no_words_of_the_bot():
    assert (
        run(made(lambda text: text, pattern="*"), message("x", type="message.sent", role="assistant")) == []
    )


def test_a_condition_that_fails_is_the_handlers_failure():
    assert run(made(lambda: "x", when=lambda event: event.nonsense))[0].error.startswith("AttributeError")


def test_the_event_itself_is_left_as_it_was():
    event = message()
    replay([event], [made(answers)])
    assert event.actor is None
    assert run(lambda event: setattr(event, "text", "x"), event)[0].error.startswith("FrozenInstanceError")
    assert event.text == "hello"


# ---------------------------------------------------------------------------- time and chance

LATER = timedelta(seconds=2)


async def tells_the_time(event):
    await asyncio.sleep(2)
    return [
        datetime.now(dt.UTC).isoformat(),
        dt.datetime.now(dt.UTC).isoformat(),
        str(datetime.now().astimezone() == datetime.now(dt.UTC)),
        str(datetime.utcnow()),
        str(datetime.today() - datetime.now()),
        str(date.today()),
        str(dt.date.today()),
        str(time.time()),
        str(time.time_ns()),
        str(time.monotonic()),
        str(time.monotonic_ns()),
        str(time.perf_counter()),
        time.strftime("%H:%M:%S", time.gmtime()),
        time.strftime("%Y"),
        time.ctime(0),
        str(time.localtime(5).tm_sec),
        str(datetime(2020, 1, 2)),
        str(date(2020, 1, 2)),
        str(
            isinstance(event.at, datetime) and isinstance(event.at, dt.date) and issubclass(dt.datetime, date)
        ),
        str(datetime == dt.datetime and len({datetime, dt.datetime, type(event.at)}) == 1),
        datetime.fromisoformat("2020-01-01").isoformat(),
        str(time.sleep is sleep and dt.timedelta is timedelta),
    ]


def test_time_is_when_the_event_arrived_and_moves_with_sleep():
    at = NOON + timedelta(days=3)
    (row,) = run(tells_the_time, message(received_at=at))
    then = at + LATER
    local = then.astimezone()
    assert row.error == ""
    assert row.replies == (
        then.isoformat(),
        then.isoformat(),
        "True",
        str(then.replace(tzinfo=None)),
        "0:00:00",
        str(local.date()),
        str(local.date()),
        str(then.timestamp()),
        str(round(then.timestamp() * 1e9)),
        str(then.timestamp()),
        str(round(then.timestamp() * 1e9)),
        str(then.timestamp()),
        "12:00:02",
        str(local.year),
        time.ctime(0),
        "5",
        "2020-01-02 00:00:00",
        "2020-01-02",
        "True",
        "True",
        "2020-01-01T00:00:00",
        "True",
    )


def sleeps_plainly(event):
    time.sleep(1800)
    sleep(1800)
    return str(time.monotonic() - event.received_at.timestamp())


def test_a_plain_def_sleeps_without_waiting():
    began = time.perf_counter()
    assert run(made(sleeps_plainly, timeout=4000)) == [said("3600.0")]
    (row,) = replay([message()], [made(sleeps_plainly, timeout=4000)]).rows
    assert row.outcome.seconds >= 3600
    assert time.perf_counter() - began < 5


async def takes_chances(event, default=choice):
    inner = functools.partial(random.randint, 1, 10**9)
    return [
        str(random.random()),
        choice("abcdef"),
        default("abcdef"),
        str(uuid.uuid4()),
        str(uuid.uuid1()),
        str(inner()),
    ]


def test_chance_is_the_same_for_an_event_at_every_replay():
    events = [message("a"), message("b")]
    first, second = run(takes_chances, *events), run(takes_chances, *events)
    assert first == second
    assert first[0] != first[1]
    assert run(takes_chances, *events, seed=1) != first
    assert run(takes_chances, *reversed(events))[::-1] == first


def beside(kind):
    return kind + datetime.now(dt.UTC).isoformat()


def wrapped(function):
    @functools.wraps(function)
    async def call(event):
        return beside("w ") + await function(event)

    return call


@wrapped
async def calls_beside(event, *, when=beside):
    return when(" f ")


class Clerk:
    def __init__(self, sign):
        self.sign = sign

    async def on_message(self, event):
        return self.sign + datetime.now(dt.UTC).isoformat()

    async def __call__(self, event):
        return self.sign


def test_functions_beside_a_handler_and_around_it_are_pinned_too():
    event = message(received_at=NOON)
    stamp = NOON.isoformat()
    assert run(calls_beside, event) == [said(f"w {stamp} f {stamp}")]
    assert run(Clerk("m ").on_message, event) == [said(f"m {stamp}")]
    assert run(made(Clerk("object"), name="clerk"), event) == [said("object")]
    partly = functools.partial(beside, "p ")
    assert run(made(lambda event: partly(), name="p"), event) == [said(f"p {stamp}")]


counter = 0
shared: list[str] = []


def counts(event):
    global counter
    counter += 1
    shared.append(event.text)
    return str(counter)


def test_what_a_handler_assigns_stays_in_the_replay():
    assert [row.replies for row in run(counts, message("a"), message("b"))] == [("1",), ("2",)]
    assert counter == 0
    assert shared == ["a", "b"]  # an object that it changes is the same object


def test_a_name_that_is_not_filled_yet():
    def early(event):
        return late()

    handler = made(early)
    replay([message()], [handler])

    def late():
        return "now"

    assert run(early) == [said("now")]
    assert run(lambda event: nothing_of_that_name)[0].error.startswith("NameError")  # noqa: F821


# ---------------------------------------------------------------------------- nothing is sent


class Live:
    """Stands for a bot that is connected."""

    def __init__(self):
        self.sent = []

    def send(self, to, text, *, markdown=False):
        if (capture := capturing()) is not None:
            return capture.note("send", text, to=to)
        return self.sent.append(text)


live = Live()
drawer = {"bot": live}


def by_name(event):
    live.send("user:u", "by name")


def by_drawer(event):
    drawer["bot"].send("user:u", "by drawer")


async def by_thread(event):
    await asyncio.to_thread(drawer["bot"].send, "user:u", "by thread")


async def by_task(event):
    asyncio.get_running_loop().call_soon(drawer["bot"].send, "user:u", "by task")
    await asyncio.sleep(0)


@pytest.mark.parametrize("function", [by_name, by_drawer, by_thread, by_task])
def test_a_live_bot_is_not_reached_by_whatever_way(function):
    (row,) = run(function, stands_for=[live])
    assert [(one["call"], one["to"]) for one in row.actions] == [("send", "user:u")]
    assert live.sent == []
    assert capturing() is None


# ---------------------------------------------------------------------------- handlers that misbehave


async def never_ends(event):
    await asyncio.Event().wait()


async def sleeps_too_long(event):
    await event.reply("before")
    await asyncio.sleep(61)
    await event.reply("after")


def raises(problem):
    def handler(event):
        raise problem

    async def coroutine(event):
        raise problem

    return [made(handler, name="plain"), made(coroutine, name="async")]


@pytest.mark.parametrize("function", [never_ends, sleeps_too_long])
def test_what_never_ends_runs_out_of_time_at_once(function):
    (row,) = run(function)
    assert row.error == "ran longer than 60 s"


def test_a_plain_def_that_sleeps_too_long():
    assert run(made(sleeps_plainly, timeout=60)) == [said(error="ran longer than 60 s")]


@pytest.mark.parametrize(
    "problem",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), StopIteration("x"), GeneratorExit()],
)
def test_nothing_that_a_handler_raises_ends_the_replay(problem):
    rows = replay([message(), message()], raises(problem)).rows
    assert len(rows) == 4
    assert all(row.now.error for row in rows)


def spins(event):
    while True:
        pass


async def spins_on_the_loop(event):
    while True:
        pass


async def spins_deaf(event):
    while True:
        try:
            while True:
                pass
        except Exception:
            continue


@pytest.mark.parametrize("function", [spins, spins_on_the_loop, spins_deaf])
def test_what_holds_its_thread_is_broken_off_and_the_rest_goes_on(function):
    rows = replay([message("a"), message("b")], [made(function), made(returns_text)], patience=0.1).rows
    assert [row.outcome.handler for row in rows] == [function.__name__, "returns_text"] * 2
    assert rows[0].now.error.startswith("held its thread for 0.")
    assert rows[1].now == said("text")


def test_a_stop_breaks_off_what_runs():
    run = Replay([message()] * 3, [made(spins)]).start()
    while not run.holding:
        time.sleep(0.001)
    assert run.holding == "spins"
    run.stop()
    assert run.wait(5)
    assert [row.now.error for row in run.rows] == ["was stopped"]
    assert run.done == 1
    assert run.total == 3


def test_a_stop_between_events():
    run = Replay([message()] * 3, [made(returns_text)])
    run.stop()
    run.start()
    assert run.wait()
    assert run.rows == []


def test_the_stop_button():
    def watch(run):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replay([message()], [made(spins)], watch=watch)


def test_trouble_of_the_replay_itself_is_not_hidden():
    with pytest.raises(AttributeError):
        replay([None], [made(returns_text)])


def test_progress():
    seen = []
    run = replay([message()] * 5, [made(returns_text)], watch=lambda run: seen.append((run.done, run.total)))
    assert seen[-1] == (5, 5)
    assert run.wait(0)


async def leaves_tasks(event):
    async def later():
        await asyncio.sleep(5)
        await event.reply("later")

    tasks.add(asyncio.create_task(later()))
    tasks.add(asyncio.create_task(never_ends(event)))
    await event.reply("now")


tasks: set[asyncio.Task] = set()


def test_tasks_that_a_handler_leaves_behind_come_to_their_end():
    assert run(leaves_tasks) == [said("now", "later")]
    assert all(task.done() for task in tasks)


async def works_in_a_thread(event):
    def work():
        done.set()
        return "done"

    async with asyncio.timeout(5):
        return await asyncio.to_thread(work)


done = threading.Event()


def test_work_in_a_thread_is_waited_for():
    assert run(works_in_a_thread) == [said("done")]
    assert done.is_set()


def test_a_loop_with_a_socket_waits_as_any_loop():
    async def over_a_socket():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            async with asyncio.timeout(5):
                data = await reader.read()
            writer.close()
            await writer.wait_closed()
            return data

    loop = TimelessLoop()
    assert loop.run_until_complete(over_a_socket()) == b""
    before = loop.time()
    loop.run_until_complete(asyncio.sleep(3600))
    assert loop.time() >= before + 3600
    loop.close()


# ---------------------------------------------------------------------------- against the record

QUESTIONS = [
    message(f"question {number}", chat=f"c{number % 3}", message_id=f"m{number}") for number in range(9)
]


def answered(function):
    """The questions, and the rows that a live run of a handler leaves."""
    events = list(QUESTIONS)
    for row in replay(QUESTIONS, [made(function)]).rows:
        about = row.outcome.event
        events += [
            message(
                text, type="message.sent", role="assistant", chat=about.chat_id, reply_to=about.message_id
            )
            for text in row.now.replies
        ]
        if row.now.error:
            name = row.outcome.handler
            failed = {"text": name, "reply_to": about.event_id, "error": row.now.error}
            events.append(message(**failed, type="handler.failed"))
    return events


async def careful(event):
    if event.text.endswith("7"):
        raise ValueError("seven")
    return f"You asked {event.text}."


async def careless(event):
    if event.text.endswith("7"):
        raise ValueError("seven")
    return f"You asked {event.text}." if "4" not in event.text else f"You wrote {event.text}."


def test_an_unchanged_handler_says_what_it_said():
    events = answered(careful)
    rows = replay(events, [made(careful)], record=Record(events)).rows
    assert [row.changed for row in rows] == [False] * 9


def test_one_changed_word_touches_just_its_events():
    events = answered(careful)
    rows = replay(events, [made(careless, name="careful")], record=Record(events)).rows
    assert [row.outcome.event.message_id for row in rows if row.changed] == ["m4"]


def test_without_a_record_nothing_is_said_of_change():
    assert replay([message()], [made(careful)]).rows[0].changed is None
    assert Record().of(message(), "careful") is None


def test_the_record_of_calls_knows_which_handler_spoke():
    event = message(event_id="e1")
    calls = [
        {
            "event_id": "e1",
            "handler": "careful",
            "error": None,
            "calls": deeds_json(run_deeds(careful, event)),
        },
        {"event_id": "e1", "handler": "other", "error": "", "calls": '[{"call": "reply", "text": "x"}]'},
        {"event_id": "e1", "handler": "sends", "error": "E: x", "calls": deeds_json(run_deeds(sends, event))},
        {"event_id": "e1", "handler": "old", "error": "", "calls": ""},
    ]
    record = Record([event, message("loud", type="message.sent", reply_to=event.message_id)], calls)
    assert replay([event], [made(careful)], record=record).rows[0].changed is False
    assert record.of(event, "other") == said("x")
    assert record.of(event, "sends").error == "E: x"
    assert record.of(event, "sends").actions[0]["to"] == "user:u1"
    assert record.of(event, "old") == said("loud")


def run_deeds(function, event):
    return replay([event], [made(function)]).rows[0].outcome.deeds


def test_two_handlers_side_by_side():
    rows = replay(QUESTIONS, [made(careful), made(careless)]).rows
    assert len(rows) == 18
    assert [row.changed for row in rows[8:10]] == [True, True]
    assert [row.changed for row in rows if "4" not in row.outcome.event.text] == [False] * 16


def test_a_handler_that_an_event_is_not_for_has_said_nothing():
    silent = made(lambda: "x", name="silent", pattern="group.*")
    for handlers in ([made(careful), silent], [silent, made(careful)]):
        rows = replay(QUESTIONS[:1], handlers).rows
        assert [(row.outcome.handler, row.changed) for row in rows] == [("careful", True)]
    rows = replay(QUESTIONS[:1], [made(careful), made(careful, name="b"), made(careless, name="c")]).rows
    assert [row.changed for row in rows] == [False, False, False]


def test_the_frame():
    frame = replay([message("a", event_id="e1")], [made(sends), made(careful)]).frame()
    assert list(frame.columns) == ["event_id", "handler", "replies", "actions", "error", "seconds", "changed"]
    first, second = frame.to_dict("records")
    assert first["event_id"] == "e1"
    assert first["handler"] == "sends"
    assert first["replies"] == ["re", "replay-1"]
    assert first["actions"][0]["call"] == "send"
    assert first["error"] == ""
    assert first["seconds"] > 0
    assert first["changed"] is True
    assert second["replies"] == ["You asked a."]
    empty = replay([], [made(careful)]).frame()
    assert list(empty.columns) == list(frame.columns)
    assert dict(empty.dtypes)["changed"] == dict(frame.dtypes)["changed"]


def test_the_live_handlers_statistics_are_not_touched():
    handler = made(careful)
    replay(QUESTIONS, [handler])
    assert handler.stats.calls == 0
    assert handler.function is careful


def test_a_megabyte_of_output_harms_nothing(capsys):
    run(lambda event: print("x" * 1_000_000, file=sys.stdout))
    assert len(capsys.readouterr().out) == 1_000_001
