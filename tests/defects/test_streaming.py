"""protocols/miti.md 10, rows 29 to 32: streamed answers."""

from __future__ import annotations

import asyncio

import pytest

from botbook._errors import AnswerError
from botbook.compat.miti import MitiAgent
from botbook.wire.miti_answers import read_ack
from tests.defects.rig import answer_frames, pass_until, running, sent, served, until


async def question(bot, user="ann"):
    """Have somebody ask, and give the event."""
    asked = []
    bot.on("message.received", asked.append, name=f"ask {user}", when=lambda event: event.user_id == user)
    bot.sim.say(user, "well?")
    await until(lambda: asked)
    return asked[0]


async def test_row_29_a_completed_frame_survives_its_socket_under_one_id(timed, clock):
    """The official client tells the caller of an error and sends nothing more."""
    event = await question(timed)
    timed.sim.fault("ack_lost")

    async def reply():
        async with timed.answer(event) as answer:
            await answer.write("the whole answer")

    task = asyncio.create_task(reply())
    await until(lambda: len(answer_frames(timed.sim, "completed")) == 1)
    timed.sim.fault("fin")
    await until(lambda: timed.sim.miti.sockets == 0 and timed.status().state != "open")
    await pass_until(clock, task.done, limit=9)  # before any repeat by the clock is due
    await task
    frames = answer_frames(timed.sim, "completed")
    assert len(frames) == 2
    assert len({frame["header"]["event_id"] for frame in frames}) == 1
    history = await timed.history("si_ann_cli_sim")
    assert list(history["text"]) == ["well?", "the whole answer"]  # once


async def test_row_29_an_answer_that_is_given_while_the_link_is_down_arrives_later(timed, clock):
    event = await question(timed)
    timed.sim.fault("upgrade_status", times=2)
    timed.sim.fault("fin")
    await until(lambda: timed.status().state == "waiting")

    async def reply():
        async with timed.answer(event) as answer:
            for word in ("said ", "in ", "the ", "dark"):
                await answer.write(word)

    task = asyncio.create_task(reply())
    await asyncio.sleep(0.05)
    assert not task.done()
    await pass_until(clock, task.done)
    await task
    assert [frame["event"]["markdown"] for frame in answer_frames(timed.sim, "completed")] == [
        "said in the dark"
    ]


async def test_row_29_frames_of_the_face_do_not_fail_while_the_link_is_down(store):
    """On real sockets: pieces get lost, the last frame holds the whole and waits for the link."""
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        done, failed = [], []

        @agent.on_message
        async def handle(event):
            world.fault("fin")
            await until(lambda: agent._bot.status().state != "open")
            try:
                message = await event.reply_started(run_id="r1")
                await event.reply_delta("half", seq=1, run_id="r1", assistant_msg_id=message)
                await event.reply_completed("half and half", seq=2, run_id="r1", assistant_msg_id=message)
                done.append(message)
            except Exception as error:
                failed.append(error)

        async with running(agent):
            world.say("ann", "hi")
            await until(lambda: done or failed)
        assert failed == []
        (frame,) = answer_frames(world, "completed")
        assert frame["event"]["assistant_msg_id"] == done[0]


async def test_row_30_one_object_carries_the_run(bot):
    event = await question(bot)
    async with bot.answer(event) as answer:
        await answer.write("a")
        await answer.write("b", reasoning=True)
    with pytest.raises(ZeroDivisionError):
        async with bot.answer(event) as other:
            await other.write("c")
            raise ZeroDivisionError
    for made, last in ((answer, "completed"), (other, "failed")):
        frames = [entry["frame"]["event"] for entry in sent(bot.sim, "frame")]
        mine = [frame for frame in frames if frame["run_id"] == made.run.run_id]
        assert {frame["assistant_msg_id"] for frame in mine} == {made.run.message_id}
        assert mine[0]["event_type"] == "assistant.started"
        assert mine[-1]["event_type"] == f"assistant.{last}"
        numbers = [frame["seq"] for frame in mine[1:]]
        assert numbers == sorted(set(numbers))


async def test_row_30_an_id_that_was_made_up_is_told(store):
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        told = []

        @agent.on_message
        async def handle(event):
            told.append(await event.reply_started(run_id="r1"))
            told.append(await event.reply_failed(run_id="r2", message="no"))

        async with running(agent):
            world.say("ann", "hi")
            await until(lambda: len(told) == 2)
        frames = answer_frames(world, "started") + answer_frames(world, "failed")
        assert [frame["event"]["assistant_msg_id"] for frame in frames] == told


async def test_row_31_eighty_answers_end_at_once_and_none_is_turned_away(bot):
    """The official client lets 64 wait and fails the rest."""
    event = await question(bot)

    async def reply(n):
        async with bot.answer(event) as answer:
            await answer.write(str(n))

    await asyncio.wait_for(asyncio.gather(*map(reply, range(80))), 20)
    frames = answer_frames(bot.sim, "completed")
    assert sorted(int(frame["event"]["markdown"]) for frame in frames) == list(range(80))
    assert bot._connection.outbox._waiting == {}
    assert bot._connection.outbox._runs == {}  # an answer that is over is forgotten


@pytest.mark.parametrize(
    ("body", "ok"),
    [
        ({"ok": True}, True),
        ({"ok": 1}, True),
        ({"ok": "true"}, True),
        ({}, True),
        ({"ok": False}, False),
        ({"ok": 0, "error": "busy"}, False),
        ({"error": "busy"}, False),
    ],
)
def test_row_31_an_acknowledgement_need_not_be_exactly_true(body, ok):
    assert read_ack({"reply_to_event_id": "e1", **body}).ok is ok


async def test_row_32_small_pieces_share_a_frame(bot):
    """The official client sends about 500 bytes of envelope for each of them."""
    event = await question(bot)
    words = [f"w{n} " for n in range(300)]
    async with bot.answer(event) as answer:
        for word in words:
            await answer.write(word)
    deltas = answer_frames(bot.sim, "delta")
    assert len(deltas) <= 40
    assert "".join(frame["event"]["delta"] for frame in deltas) == "".join(words)
    (completed,) = answer_frames(bot.sim, "completed")
    assert completed["event"]["markdown"] == "".join(words)


async def test_row_32_but_the_first_piece_is_shown_at_once_and_a_slow_one_does_not_wait_for_long(bot):
    event = await question(bot)
    async with bot.answer(event) as answer:
        await answer.write("T")
        await until(lambda: len(answer_frames(bot.sim, "delta")) == 1)
        await answer.write("his")
        await until(lambda: len(answer_frames(bot.sim, "delta")) == 2)


async def test_the_asker_may_stop_an_answer_of_either_kind(bot):
    """Beside the rows: what section 4 says of ``assistant.cancel``."""
    event = await question(bot)
    async with bot.answer(event) as answer:
        await answer.write("on and on")
        await until(lambda: answer_frames(bot.sim, "delta"))
        bot.sim.cancel()
        await until(lambda: answer.cancelled)
        with pytest.raises(AnswerError, match="stopped"):
            await answer.write("more")
    (completed,) = answer_frames(bot.sim, "completed")
    assert completed["event"]["finish_reason"] == "cancelled"
