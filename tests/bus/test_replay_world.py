"""A live run on the embedded world, and its record replayed."""

from __future__ import annotations

import asyncio
import json

import pytest

from botbook import AsyncBot
from botbook._bus.handler import Handler
from botbook._bus.replay import Record, replay
from botbook._data.record import event_from_line
from botbook._data.store import Store
from botbook._errors import NotSupported
from botbook.actions import Native, PlatformCall, Send
from tests.samples import message

ANSWERS = 12


async def careful(event):
    await event.reply(f"You wrote {len(event.text.split())} words, and the last was {event.text.split()[-1]}")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The events of a live run, and what the gateway had been sent when it ended."""
    folder = tmp_path_factory.mktemp("live")
    path = folder / "record.jsonl"

    async def run():
        async with AsyncBot("sim", scenario="topical", speed=2000, store=folder / "journal.sqlite") as bot:
            bot.record(path)
            bot.on("message.received", careful)
            await bot.wait("message.sent", count=ANSWERS, timeout=20)
            while bot.status().handled < ANSWERS:
                await asyncio.sleep(0.01)
            bot.off("careful")
        return bot

    bot = asyncio.run(run())
    events = [event_from_line(line) for line in path.read_text(encoding="utf-8").splitlines()]
    store = Store(folder / "journal.sqlite")
    calls = store.calls(handler="careful").to_pylist()
    store.close()
    return events, calls, bot


def replayed(recorded, function):
    """The events that the handler had answered, once more."""
    events, calls, _ = recorded
    answered = {row["event_id"] for row in calls if row["state"] == "done"}
    mine = [event for event in events if event.event_id in answered]
    assert len(mine) >= ANSWERS
    handler = Handler(function, pattern="message.received", name="careful")
    return replay(mine, [handler], record=Record(events, calls)).rows


def test_an_unchanged_handler_reports_no_difference(recorded):
    assert {row.changed for row in replayed(recorded, careful)} == {False}


def test_one_changed_word_reports_exactly_the_events_that_it_touches(recorded):
    rows = replayed(recorded, careful)
    word = rows[3].outcome.event.text.split()[-1]

    async def changed(event):
        last = event.text.split()[-1]
        said = f"You wrote {len(event.text.split())} words, and the last was {last}"
        await event.reply(said if last != word else said.upper())

    touched = [row.outcome.event.event_id for row in rows if row.outcome.event.text.split()[-1] == word]
    found = [row.outcome.event.event_id for row in replayed(recorded, changed) if row.changed]
    assert found == touched
    assert 0 < len(found) < len(rows)


def test_nothing_was_sent(recorded):
    _, _, bot = recorded
    before = bot.sim.log()
    replayed(recorded, careful)
    assert bot.sim.log() == before
    assert [row for row in before if row["what"] == "send"]


def test_the_record_of_a_call_holds_what_it_sent(recorded):
    _, calls, _ = recorded
    deeds = [json.loads(row["calls"]) for row in calls if row["state"] == "done"]
    assert all(len(sent) == 1 and sent[0]["call"] == "reply" and "words" in sent[0]["text"] for sent in deeds)


async def test_a_bot_that_a_handler_reaches_by_a_way_of_its_own_sends_nothing(tmp_path):
    async def handler(event):
        bot = drawer["bot"]
        await bot.send("user:ann", "a")
        await bot.reply(event, "b")
        await bot.send_native({"msg_type": "text"}, to="user:ann")
        async with bot.answer(event) as answer:
            await answer.write("c")
        try:
            await bot.history(event.chat_id)
        except NotSupported as error:
            await event.reply(str(error))

    async with AsyncBot("sim", scenario="quiet", store=tmp_path / "journal.sqlite") as bot:
        drawer = {"bot": bot}
        log = bot.sim.log()
        made = Handler(handler, pattern="message.received")
        (row,) = (await asyncio.to_thread(replay, [message()], [made])).rows
        assert row.now.error == ""
        assert row.now.replies[:2] == ("b", "c")
        assert "history" in row.now.replies[2]
        assert [deed["call"] for deed in row.now.actions] == ["send", "send_native"]
        assert bot.sim.log() == log
        assert list(bot.events(type="message.*")["type"]) == []


async def test_what_a_live_handler_gives_back_goes_out(tmp_path):
    native = {"msg_type": "text", "content": {"text": "by hand"}}

    async def answers(event):
        return [
            f"you said {event.text}",
            Send(id="1", to="user:bo", text="look"),
            Native(id="2", body=native, to="user:bo"),
        ]

    def wishes(event):
        return PlatformCall(id="3", api="leave_group", params={"group_id": "g"})

    async with AsyncBot("sim", scenario="quiet", store=tmp_path / "journal.sqlite") as bot:
        bot.on("message.received", answers)
        bot.on("message.received", wishes)
        bot.sim.say("ann", "hi")
        sent = await bot.wait("message.sent", count=2, timeout=5)
        failed = await bot.wait("handler.failed", timeout=5)
        assert list(sent["text"]) == ["you said hi", "look"]
        assert "leave_group" in failed["error"][0]
        assert [row for row in bot.sim.log() if "by hand" in json.dumps(row)]
