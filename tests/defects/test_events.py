"""protocols/miti.md 10, rows 1 to 9: what happens to events."""

from __future__ import annotations

import asyncio
import json

import pytest

from botbook._bus.bus import CONCURRENCY, PER_CHAT
from botbook.compat.miti import MitiAgent
from tests.defects.rig import envelope, gate, pass_until, push, running, sent, served, types, until


async def test_row_01_events_are_not_dropped_under_load(bot):
    """100 at once, and more are at work at the same time than the official client's 15."""
    opened, release = gate()
    begun, ended = [], []

    async def handle(event):
        begun.append(event.message_id)
        await opened.wait()
        ended.append(event.message_id)

    bot.on("message.received", handle)
    said = [bot.sim.say(f"user{n}", "hi") for n in range(100)]
    await until(lambda: len(begun) == CONCURRENCY)
    release()
    await until(lambda: len(ended) == 100)
    assert sorted(ended) == sorted(said)


async def test_row_01_a_chat_that_writes_faster_than_its_handler_loses_nothing(bot):
    opened, release = gate()
    handled = []

    async def handle(event):
        await opened.wait()
        handled.append(event.text)

    bot.on("message.received", handle)
    for n in range(PER_CHAT + 200):
        bot.sim.say("ann", str(n))
    await until(lambda: bot.status().spilled > 0)
    release()
    await until(lambda: len(handled) == PER_CHAT + 200)
    assert handled == [str(n) for n in range(PER_CHAT + 200)]


async def test_row_02_the_agent_takes_limits_and_refuses_unknown_ones(store):
    """`MitiAgent` of the official client takes no limit at all."""
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store, handler_timeout=0.05)

        @agent.on_message
        async def handle(event):
            await asyncio.sleep(30)

        async with running(agent):
            world.say("ann", "hi")
            await until(lambda: "handler.failed" in types(agent._bot))
            assert list(agent._bot.events(type="handler.failed")["error"]) == ["ran longer than 0.05 s"]
    with pytest.raises(ValueError, match="unknown setting: handler_concurency"):
        MitiAgent("a", "s", "http://localhost:1/chat", handler_concurency=3)


async def test_row_03_nobody_is_told_busy_and_nobody_is_left_out(store):
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        busy, handled, opened = [], [], asyncio.Event()
        agent.on_overload(busy.append)

        @agent.on_message
        async def handle(event):
            handled.append(event.header.event_id)
            await opened.wait()

        async with running(agent):
            for n in range(50):
                world.say(f"user{n}", "hi")
            await until(lambda: len(handled) == 50)
            opened.set()
        assert len(set(handled)) == 50
        assert busy == []


async def test_row_04_a_cancel_gets_through_when_every_slot_is_taken(bot):
    """No slot is set aside, and none is needed: a cancel overtakes the answers that hold them all."""
    opened, release = gate()
    begun, cancels = [], []

    async def handle(event):
        async with event.answer() as answer:
            await answer.write("…")
            begun.append(answer)
            await opened.wait()
            await answer.write("to the end")

    bot.on("message.received", handle)
    bot.on("answer.cancelled", lambda event: cancels.append(event.reply_to), name="cancels")
    for n in range(CONCURRENCY):
        bot.sim.say(f"user{n}", "hi")
    await until(lambda: len(begun) == CONCURRENCY)  # all of them, none kept back
    await until(lambda: len(sent(bot.sim, "frame")) >= 2 * CONCURRENCY)
    run_id = bot.sim.cancel()
    await until(lambda: cancels == [run_id])
    assert [answer.cancelled for answer in begun].count(True) == 1
    release()


async def test_row_05_a_slow_chat_holds_up_no_other(bot):
    opened, release = gate()
    handled = []

    async def handle(event):
        if event.user_id == "slow":
            await opened.wait()
        handled.append(event.user_id)

    bot.on("message.received", handle)
    bot.sim.say("slow", "hi")
    for n in range(20):
        bot.sim.say(f"user{n}", "hi")
    await until(lambda: len(handled) == 20)
    assert "slow" not in handled
    release()
    await until(lambda: len(handled) == 21)


async def test_row_06_order_inside_a_conversation_is_kept(bot):
    finished = []

    async def handle(event):
        await asyncio.sleep(0.05 if event.text == "first" else 0.0)
        finished.append(event.text)

    bot.on("message.received", handle)
    for text in ("first", "second", "third"):
        bot.sim.say("ann", text, group="garden")
    await until(lambda: len(finished) == 3)
    assert finished == ["first", "second", "third"]


async def test_row_07_what_a_gateway_repeats_after_a_reconnect_is_handled_once(timed, clock):
    handled = []

    async def handle(event):
        handled.append(event.event_id)

    timed.on("message.received", handle)
    for n in range(40):
        timed.sim.say("ann", str(n))
    await until(lambda: len(handled) == 40)
    timed.sim.fault("duplicate", last=20, when="reconnect")
    timed.sim.fault("rst")
    await until(lambda: timed.status().state != "open")
    await pass_until(clock, lambda: timed.status().reconnects == 1)
    for n in range(20):
        timed.sim.say("ann", str(n))
    await until(lambda: len(handled) >= 60 and timed.status().duplicates == 20)
    assert len(handled) == len(set(handled)) == 60


async def test_row_07_nor_is_it_handled_again_after_a_restart(store):
    """The same server repeats its events to a new process: the journal remembers."""
    handled = []

    def an_agent(world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        agent.on_message(lambda event: handled.append(event.header.event_id))
        return running(agent)

    async with served() as (world, server):
        async with an_agent(world, server):
            for n in range(5):
                world.say("ann", str(n))
            await until(lambda: len(handled) == 5)
        world.fault("duplicate", last=5, when="reconnect")
        async with an_agent(world, server):
            world.say("ann", "new")
            await until(lambda: len(handled) >= 6)
    assert len(handled) == len(set(handled)) == 6


@pytest.mark.parametrize("bare", [False, True], ids=["with ids", "history without ids and times"])
async def test_row_08_events_made_while_away_come_back_from_history(timed, clock, bare):
    handled = []

    async def handle(event):
        handled.append(event.text)

    timed.on("message.received", handle)
    for n in range(20):
        timed.sim.say("ann", f"before {n}")
        timed.sim.say("bob", f"before {n}", group="garden")
    await until(lambda: len(handled) == 40)
    if bare:
        timed.sim.fault("bare_history")
    timed.sim.fault("drop_while_away")
    timed.sim.fault("fin")
    await until(lambda: timed.sim.miti.sockets == 0 and timed.status().state != "open")
    for n in range(20):
        timed.sim.say("ann", f"away {n}")
        timed.sim.say("bob", f"away {n}", group="garden")
    await pass_until(clock, lambda: "connection.gap" in types(timed))
    frame = timed.events()
    for chat_type in ("private", "group"):
        recovered = frame[frame["recovered"] & (frame["chat_type"] == chat_type)]
        assert list(recovered["text"]) == [f"away {n}" for n in range(20)]
        assert set(recovered["type"]) == {"message.received"}
    gap = timed.events(type="connection.gap", raw=True)
    assert len(gap) == 1
    told = json.loads(gap["raw"].iloc[0])
    assert (told["recovered"], told["chats_asked"]) == (40, 2)
    assert told["since"] < told["until"]
    timed.sim.say("ann", "after")
    await until(lambda: "after" in handled)
    assert len(handled) == 41  # those that came back are shown, not answered hours later
    assert timed.status().gaps == 1


async def test_row_09_an_unknown_type_keeps_its_body_and_can_be_answered(bot):
    seen = []

    async def handle(event):
        seen.append(event)
        await event.reply("noted")

    bot.on("platform.specific", handle)
    body = {
        "sender": {"user_id": "ann"},
        "message": {"message_id": "m9", "conversation_id": "si_ann_cli_sim"},
        "reaction": {"emoji": "🌱", "count": 3},
    }
    push(bot.sim, envelope("im.message.reaction", body))
    await until(lambda: sent(bot.sim, "send"))
    assert seen[0].raw["header"]["event_type"] == "im.message.reaction"
    assert seen[0].raw["event"] == body
    assert sent(bot.sim, "send")[0]["body"]["to_user_id"] == "ann"


async def test_row_09_there_is_a_catch_all_and_a_place_for_failures(bot):
    kinds = []
    bot.on("*", lambda event: kinds.append(event.type), name="everything")

    async def fail(event):
        raise LookupError(event.text)

    bot.on("message.received", fail)
    push(bot.sim, envelope("im.new.thing", {"x": 1}))
    bot.sim.say("ann", "oh")
    await until(lambda: "handler.failed" in kinds)
    assert {"platform.specific", "message.received"} <= set(kinds)
    assert list(bot.errors()["error"]) == ["LookupError: oh"]
    assert "raise LookupError(event.text)" in bot.errors()["traceback"].iloc[0]


async def test_row_09_the_face_of_the_sdk_answers_what_it_can_and_says_what_it_cannot(store):
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        seen, refused = [], []

        @agent.on("*")
        async def anything(event):
            seen.append(event)
            try:
                await event.reply("noted")
            except ValueError as error:
                refused.append(str(error))

        async with running(agent):
            push(world, envelope("im.new", {"sender": {"user_id": "ann"}, "extra": [1, 2]}, "e1"))
            push(world, envelope("im.new", {"group_id": "g1", "sender": {"user_id": "ann"}}, "e2"))
            push(world, envelope("im.void", {"extra": 1}, "e3"))
            push(world, envelope("assistant.cancel", {"run_id": "r1"}, "e4"))
            await until(lambda: len(seen) == 4 and len(refused) == 2 and len(sent(world, "send")) == 2)
        found = {event.header.event_id: event for event in seen}
        assert found["e1"].raw["event"]["extra"] == [1, 2]
        assert found["e1"].event.sender.user_id == "ann"
        bodies = [entry["body"] for entry in sent(world, "send")]
        assert {body.get("to_user_id") or body.get("to_group_id") for body in bodies} == {"ann", "g1"}
        assert sorted(refused) == [
            "assistant.cancel is no message, so it cannot be answered",
            "this im.void names nobody, so it cannot be answered",
        ]
