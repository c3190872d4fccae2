"""The bot as a whole, on the embedded world in memory."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

import botbook
from botbook import AsyncBot, metrics
from botbook._data.record import event_from_line
from botbook._errors import (
    ApiError,
    ConfigError,
    DeadlineExceeded,
    HandlerError,
    LocalProtocolError,
    NotSupported,
    StoreError,
)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
async def bot(store):
    async with AsyncBot("sim", scenario="quiet", store=store) as made:
        yield made


async def until(truth, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not truth():
            await asyncio.sleep(0.005)


def types(bot):
    return list(bot.events()["type"])


async def test_a_message_becomes_a_row_then_reaches_its_handler_then_the_answer_is_a_row(bot):
    seen = []

    async def answer(event, bot):
        seen.append((event.text, list(bot.events(type="message.received")["text"])))
        await event.reply(f"you said {event.text}")

    registration = bot.on("message.received", answer)
    bot.sim.say("ann", "hello")
    frame = await bot.wait("message.sent", timeout=5)
    assert seen == [("hello", ["hello"])]  # the row was there before the handler ran
    assert list(frame["text"]) == ["you said hello"]
    assert frame["latency_s"].iloc[0] >= 0
    assert frame["reply_to"].iloc[0] == bot.events(type="message.received")["message_id"].iloc[0]
    assert registration.name == "answer"
    assert [entry["what"] for entry in bot.sim.log()].count("send") == 1


async def test_running_a_cell_again_replaces_its_handler(bot):
    async def answer(event):
        await event.reply("old")

    bot.on("message.received", answer)

    async def answer(event):
        await event.reply("new")

    bot.on("message.received", answer)
    bot.sim.say("ann", "x")
    assert list((await bot.wait("message.sent", timeout=5))["text"]) == ["new"]
    assert list(bot.handlers()["name"]) == ["answer"]
    assert bot.off("answer")
    assert not bot.off("answer")


async def test_the_decorator_form_and_conditions(bot):
    @bot.on("message.received", when="chat_type == 'group'", name="groups")
    def answer(event, text):
        event.reply(f"group: {text}", markdown=False)

    bot.sim.say("ann", "private")
    bot.sim.say("ann", "public", group="g1")
    frame = await bot.wait("message.sent", timeout=5)
    assert list(frame["text"]) == ["group: public"]
    assert list(frame["chat_type"]) == ["group"]
    assert answer.off()


async def test_a_streamed_answer_from_both_kinds_of_handler(bot):
    async def stream(event):
        async with event.answer() as answer:
            for word in ("one ", "two ", "three"):
                await answer.write(word)

    def stream_plainly(event):
        with event.answer() as answer:
            answer.write("plain")

    bot.on("message.received", stream, when="text == 'async'")
    bot.on("message.received", stream_plainly, when="text == 'def'")
    bot.sim.say("ann", "async")
    bot.sim.say("bob", "def")
    frame = await bot.wait("message.sent", count=2, timeout=5)
    assert sorted(frame["text"]) == ["one two three", "plain"]
    history = await bot.history(bot.events(type="message.received")["chat_id"].iloc[0])
    assert list(history["text"]) == ["async", "one two three"]
    assert list(history["role"]) == ["user", "assistant"]


async def test_the_asker_stops_an_answer(bot):
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def talk(event):
        async with event.answer() as answer:
            for number in range(10_000):
                await answer.write(f"{number} ")
                await asyncio.sleep(0.005)
        loop.call_soon_threadsafe(stopped.set)

    bot.on("message.received", talk)
    bot.sim.say("ann", "count")
    await until(lambda: [entry["what"] for entry in bot.sim.log()].count("frame") > 2)
    bot.sim.cancel()
    await asyncio.wait_for(stopped.wait(), 5)
    await until(lambda: "answer.cancelled" in types(bot))
    assert list(bot.handlers()["failures"]) == [0]


async def test_a_failure_is_a_row_with_a_traceback_and_the_link_lives_on(bot):
    def fail(event):
        return 1 / 0

    bot.on("message.received", fail)
    bot.sim.say("ann", "x")
    frame = await bot.wait("handler.failed", timeout=5)
    assert list(frame["error"]) == ["ZeroDivisionError: division by zero"]
    assert "return 1 / 0" in bot.errors()["traceback"].iloc[0]
    assert bot.status().state == "open"
    bot.sim.say("ann", "again")
    await bot.wait("handler.failed", timeout=5)


async def test_a_handler_of_failures_that_fails_does_not_feed_itself(bot):
    def fail(event):
        raise ValueError(event.type)

    bot.on("message.received", fail)
    bot.on("handler.failed", fail, name="worse")
    bot.sim.say("ann", "x")
    await until(lambda: len(bot.errors()) == 2)
    await asyncio.sleep(0.1)
    assert types(bot).count("handler.failed") == 1
    assert len(bot.errors()) == 2


async def test_a_handler_that_holds_its_loop_is_named(bot):
    async def greedy(event):
        time.sleep(0.6)  # noqa: ASYNC251 - the very thing to be caught

    bot.on("message.received", greedy)
    bot.sim.say("ann", "x")
    await until(lambda: bot.status().lag_s > 0)
    assert "greedy held its loop" in bot.status().error


async def test_what_came_while_away_is_recovered_and_the_gap_is_told(bot):
    handled = []

    async def note(event):
        handled.append(event.text)

    bot.on("message.received", note)
    bot.sim.say("ann", "before")
    await until(lambda: handled == ["before"])
    bot.sim.fault("drop_while_away")
    bot.sim.fault("fin")
    await until(lambda: bot.status().state != "open" and bot.sim.miti.sockets == 0)
    bot.sim.say("ann", "missed")
    await until(lambda: "connection.gap" in types(bot), seconds=8)
    frame = bot.events()
    recovered = frame[frame["recovered"]]
    assert list(recovered["text"]) == ["missed"]
    assert list(recovered["user_id"]) == ["ann"]
    gap = bot.events(type="connection.gap", raw=True)
    assert json.loads(gap["raw"].iloc[0])["recovered"] == 1
    assert "1 messages recovered" in gap["text"].iloc[0]
    assert handled == ["before"]  # shown, and left for a replay
    assert bot.status().gaps == bot.status().reconnects == 1
    assert types(bot).count("connection.opened") == 2
    assert types(bot).count("connection.closed") == 1
    links = frame[frame["type"].str.startswith("connection.")]
    told = [
        metrics.facts(metrics.connection_health(rows, as_of=frame["at"].max())).gaps
        for rows in (links[links["type"] != "connection.gap"], links[links["type"] == "connection.gap"])
    ]
    ((by_links,), (by_row,)) = told  # the gap row alone says the same as the rows around it
    assert abs(by_row.start - by_links.start) < timedelta(seconds=0.05)
    assert abs(by_row.end - by_links.end) < timedelta(seconds=0.05)


async def test_events_that_the_gateway_repeats_are_one_row_each(bot):
    seen = []
    bot.on("message.received", lambda event: seen.append(event.text))
    for number in range(5):
        bot.sim.say("ann", str(number))
    await until(lambda: len(seen) == 5)
    bot.sim.fault("duplicate")
    bot.sim.say("ann", "last")
    await until(lambda: "last" in seen)
    assert sorted(seen) == ["0", "1", "2", "3", "4", "last"]
    assert bot.status().duplicates == 5
    assert types(bot).count("message.received") == 6


async def test_after_a_restart_the_journal_is_there_and_nothing_is_handled_twice(store):
    seen = []
    async with AsyncBot("sim", scenario="quiet", store=store) as first:
        first.on("message.received", lambda event: seen.append(event.text))
        first.sim.say("ann", "once")
        await until(lambda: seen == ["once"])
    async with AsyncBot("sim", scenario="quiet", store=store) as second:
        second.on("message.received", lambda event: seen.append(event.text))
        assert list(second.events(type="message.received")["text"]) == ["once"]
        second.sim.say("ann", "twice")
        await until(lambda: len(seen) == 2)
        assert second.interrupted().empty
    assert seen == ["once", "twice"]


async def test_sending_without_a_question(bot):
    bot.sim.say("ann", "hi")
    await bot.wait("message.received", timeout=5)
    sent = await bot.send("user:ann", "**news**", markdown=True)
    assert sent.message_id
    await bot.send("group:g9", "hello all")
    await until(lambda: len(bot.events(type="message.sent")) == 2)
    rows = bot.events(type="message.sent")
    received = bot.events(type="message.received")
    assert list(rows["chat_id"]) == [received["chat_id"].iloc[0], "g9"]


async def test_what_the_gateway_refuses(bot):
    bot.sim.fault("no_permission")
    with pytest.raises(ApiError) as caught:
        await bot.send("user:ann", "x")
    assert caught.value.code == 10012
    with pytest.raises(LocalProtocolError):
        await bot.send("ann", "x")


async def test_waiting_in_vain_says_what_came(bot):
    with pytest.raises(DeadlineExceeded, match=r"0 of 2 events of type feedback\.\* came within 0.05 s"):
        await bot.wait("feedback.*", count=2, timeout=0.05)


async def test_a_record_file_holds_every_event_and_reads_back(bot, tmp_path):
    path = tmp_path / "record.jsonl"
    bot.record(path)
    bot.sim.say("ann", "for the record")
    await bot.wait("message.received", timeout=5)
    bot.record(None)
    bot.sim.say("ann", "off the record")
    await bot.wait("message.received", timeout=5)
    events = [event_from_line(line) for line in path.read_text().splitlines()]
    events = [event for event in events if event.type == "message.received"]
    assert [event.text for event in events] == ["for the record"]
    assert events[0].raw["event"]["message"]["content"] == {"text": "for the record"}
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreError, match="cannot be written"):
        bot.record(tmp_path / "no" / "folder.jsonl")


async def test_a_sandboxes_commands_are_kept_with_the_bots_events(bot):
    row = {"session": "s", "cmd": "exit 3", "status": "completed", "exit_code": 3, "duration_ms": 20}
    bot.audit(row)
    (found,) = (await bot.wait("box.exec", timeout=5)).to_dict("records")
    assert (found["text"], found["chat_id"], found["error"]) == ("exit 3", "s", "exit code 3")
    assert json.loads(bot.events(type="box.exec", raw=True)["raw"].iloc[0]) == row


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"at": 1}', "x" * 10, '{"at": "2026-01-01", "nope": 1}'])
def test_a_line_that_is_no_record(line):
    with pytest.raises(StoreError, match="no recorded event"):
        event_from_line(line)


async def test_methods_may_be_awaited_on_any_loop(bot):
    bot.sim.say("ann", "x")
    await bot.wait("message.received", timeout=5)
    sent = []

    def elsewhere():
        sent.append(asyncio.run(bot.send("user:ann", "from another loop")))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert sent[0].message_id


async def test_stop_is_quick_and_harmless_twice(store):
    bot = await AsyncBot("sim", scenario="quiet", store=store).start()
    began = time.perf_counter()
    await bot.stop()
    assert time.perf_counter() - began < 0.2
    await bot.stop()
    assert bot.status().state == "stopped"


async def test_stop_before_start(store):
    bot = AsyncBot("sim", store=store)
    with pytest.raises(LocalProtocolError, match="not connected"):
        bot.events()
    await bot.stop()


async def test_stop_lets_a_running_handler_answer(store):
    async with AsyncBot("sim", scenario="quiet", store=store) as bot:

        async def slowly(event):
            await asyncio.sleep(0.1)
            await event.reply("still here")

        bot.on("message.received", slowly)
        bot.sim.say("ann", "x")
        await bot.wait("message.received", timeout=5)
        await asyncio.sleep(0.03)
        await bot.stop(drain=2)
        assert [entry["what"] for entry in bot.sim.log()].count("send") == 1


@pytest.mark.parametrize(
    ("gateway", "given", "text"),
    [
        ("nonsense", {}, "there is no gateway"),
        ("miti", {"app_id": "x"}, "app id and an app secret"),
        ("miti", {"app_id": "x", "app_secret": "y", "base_url": "http://example.test"}, "this machine only"),
        ("sim", {"scenario": "topicle"}, "there is no scenario"),
        ("sim", {"profile": "none-such"}, "there is no profile"),
    ],
)
def test_wrong_settings_are_refused_before_anything_opens(gateway, given, text, monkeypatch, tmp_path):
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "none.toml"))
    for name in ("MITI_APP_ID", "MITI_APP_SECRET", "MITI_API_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=text) as caught:
        AsyncBot(gateway, **given)
    assert caught.value.hint


async def test_a_store_that_cannot_be_opened_leaves_nothing_running(tmp_path):
    path = tmp_path / "not.sqlite"
    path.write_text("this is no database, and stays as it is")
    with pytest.raises(StoreError):
        await AsyncBot("sim", store=path).start()
    assert path.read_text() == "this is no database, and stays as it is"


async def test_only_the_embedded_world_can_be_played_with():
    bot = AsyncBot("miti", app_id="a", app_secret="b", base_url="http://127.0.0.1:1")
    with pytest.raises(NotSupported, match="miti has no embedded world"):
        _ = bot.sim


async def test_a_wrong_handler_is_refused_at_once(bot):
    with pytest.raises(HandlerError):
        bot.on("mess*", lambda event: None)
    with pytest.raises(HandlerError):
        bot.on("*", lambda event, nonsense: None)
    assert bot.handlers().empty


def test_the_blocking_face(store, tmp_path):
    with botbook.connect("sim", scenario="quiet", store=store, name="mine") as bot:
        assert (bot.name, bot.gateway, bot.settings.scenario) == ("mine", "sim", "quiet")
        assert repr(bot) == "<Bot mine on sim: open, 0 events>"
        bot.on("message.received", lambda event: event.reply("yes"), name="yes")
        bot.sim.say("ann", "x")
        frame = bot.wait("message.sent", timeout=5)
        assert list(frame["bot"]) == ["mine"]
        event = bot.events(type="message.received").iloc[0]
        assert list(bot.history(event["chat_id"])["text"]) == ["x", "yes"]
        assert bot.send("user:ann", "more").message_id
        assert bot.send_native({"msg_type": "text", "content": {"text": "raw"}}, to="user:ann").message_id
        assert list(bot.handlers()["calls"]) == [1]
        assert bot.errors().empty
        assert bot.interrupted().empty
        bot.record(tmp_path / "r.jsonl")
        bot.record(None)
        assert bot.off("yes")
        assert bot.status().state == "open"
    assert bot.status().state == "stopped"


def test_a_bot_that_nobody_holds_closes_its_link(store):
    bot = botbook.connect("sim", scenario="quiet", store=store)
    aio = bot.aio
    assert aio.status().state == "open"
    del bot
    gc.collect()
    assert aio.status().state == "stopped"


async def test_the_stamps_are_utc_and_in_order(bot):
    before = datetime.now(UTC)
    bot.sim.say("ann", "x")
    frame = await bot.wait("message.received", timeout=5)
    assert str(frame["at"].dtype) == str(frame["received_at"].dtype) == "datetime64[us, UTC]"
    assert abs((frame["received_at"].iloc[0] - before).total_seconds()) < 5


def test_what_a_gateway_can_do(store, tmp_path):
    def can(gateway, **given):
        return AsyncBot(gateway, store=store, **given).capabilities()

    assert can("sim") == ["answer", "ask", "history", "native", "send"]
    assert can("miti", app_id="a", app_secret="b") == ["answer", "history", "native", "send"]
    assert can("agent", base_url="ws://127.0.0.1:1/") == ["ask"]
    assert can("langbot", base_url="http://127.0.0.1:1", pipeline="p") == ["ask", "history", "send"]
