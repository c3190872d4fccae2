"""Streamed answers: one object, pieces joined, the last frame said until it is acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from botbook._bus.outbox import Answer, BlockingAnswer, Outbox
from botbook._clock import FakeClock
from botbook._errors import AnswerError, ApiError, ConnectionLost, DeadlineExceeded, NotSupported
from botbook.actions import AnswerCompleted, AnswerDelta, AnswerFailed, AnswerStarted, Run

RUN = Run(run_id="r", message_id="m", to="user:u", asker="u", chat_id="c", question_id="q")


class Peer:
    """A gateway that takes frames, and can be down, deaf or without streaming."""

    def __init__(self, *, acknowledges=True, **options):
        self.said = []
        self.whole = []
        self.ended = []
        self.up = asyncio.Event()
        self.up.set()
        self.streams = True
        self.acknowledges = acknowledges
        self.clock = FakeClock()
        self.outbox = Outbox(self.say, opened=self.up.wait, clock=self.clock, **options)

    async def say(self, action):
        if not self.streams:
            raise NotSupported("streamed answers", "test")
        if not self.up.is_set():
            raise ConnectionLost()
        self.said.append(action)
        if self.acknowledges and isinstance(action, AnswerCompleted | AnswerFailed):
            self.outbox.acknowledge(action.id)

    async def instead(self, text):
        self.whole.append(text)

    def answer(self):
        async def finished(answer, error):
            self.outbox.ended(answer)
            self.ended.append((answer.text, error))

        return Answer(
            RUN,
            say=self.outbox.say,
            deliver=self.outbox.deliver,
            instead=self.instead,
            began=self.outbox.began,
            finished=finished,
        )

    def kinds(self):
        return [type(action).__name__ for action in self.said]


async def test_an_answer_carries_its_run_its_numbers_and_its_whole_text():
    peer = Peer()
    async with peer.answer() as answer:
        await answer.write("Hello, ")
        await answer.write("thinking", reasoning=True)
        await answer.write("world", reasoning=False)
    assert peer.kinds() == ["AnswerStarted", "AnswerDelta", "AnswerDelta", "AnswerDelta", "AnswerCompleted"]
    assert {action.run for action in peer.said} == {RUN}
    deltas = [action for action in peer.said if isinstance(action, AnswerDelta)]
    assert [(d.seq, d.text, d.reasoning) for d in deltas] == [
        (1, "Hello, ", False),
        (2, "thinking", True),
        (3, "world", False),
    ]
    last = peer.said[-1]
    assert (last.seq, last.text, last.reasoning, last.finish_reason) == (
        4,
        "Hello, world",
        "thinking",
        "stop",
    )
    assert peer.ended == [("Hello, world", "")]
    assert len({action.id for action in peer.said}) == len(peer.said)


async def test_small_pieces_travel_together():
    peer = Peer()
    async with peer.answer() as answer:
        for _ in range(400):
            await answer.write("abcd")
    deltas = [action for action in peer.said if isinstance(action, AnswerDelta)]
    assert "".join(d.text for d in deltas) == "abcd" * 400
    assert len(deltas) <= 1600 / 80 + 2


async def test_a_lonely_piece_does_not_wait_for_ever():
    peer = Peer()
    async with peer.answer() as answer:
        await answer.write("first")
        await answer.write("second")
        await asyncio.sleep(0.08)
        assert [a.text for a in peer.said if isinstance(a, AnswerDelta)] == ["first", "second"]
        await answer.write("")
    assert peer.ended == [("firstsecond", "")]


async def test_the_last_frame_is_said_again_under_the_same_id_until_it_is_acknowledged():
    peer = Peer(acknowledges=False)

    async def answering():
        async with peer.answer() as answer:
            await answer.write("hi")

    task = asyncio.create_task(answering())
    await peer.clock.advance(10.5)
    completed = [a for a in peer.said if isinstance(a, AnswerCompleted)]
    assert len(completed) == 2
    assert len({a.id for a in completed}) == 1
    assert peer.outbox.acknowledge(completed[0].id)
    await task
    assert not peer.outbox.acknowledge(completed[0].id)


async def test_after_a_reconnect_it_is_said_again_at_once():
    peer = Peer(acknowledges=False)
    task = asyncio.create_task(peer.outbox.deliver(AnswerCompleted(id="x", run=RUN, seq=1, text="t")))
    await peer.clock.settle()
    peer.up.clear()
    (action,) = peer.outbox.under_way()
    await peer.outbox.say_again([action])  # nothing happens while it is down
    peer.up.set()
    await peer.outbox.say_again([action])
    assert [action.id for action in peer.said] == ["x", "x"]
    peer.outbox.acknowledge("x")
    await task
    assert peer.outbox.under_way() == []


async def test_when_the_bot_ends_nobody_waits_for_an_acknowledgement_any_more():
    peer = Peer(acknowledges=False)
    task = asyncio.create_task(peer.outbox.deliver(AnswerCompleted(id="x", run=RUN, seq=1, text="t")))
    await peer.clock.settle()
    peer.outbox.close()
    with pytest.raises(ConnectionLost, match="the bot was stopped"):
        await task
    peer.outbox.close()


async def test_what_waits_for_the_link_is_not_under_way():
    peer = Peer()
    peer.up.clear()
    task = asyncio.create_task(peer.outbox.deliver(AnswerCompleted(id="x", run=RUN, seq=1, text="t")))
    await peer.clock.settle()
    assert peer.outbox.under_way() == []
    peer.up.set()
    await task
    assert [action.id for action in peer.said] == ["x"]


async def test_deltas_of_a_dead_link_are_lost_without_harm_and_the_end_waits_for_the_link():
    peer = Peer()

    async def answering():
        async with peer.answer() as answer:
            peer.up.clear()
            await answer.write("all of it")

    task = asyncio.create_task(answering())
    await peer.clock.settle()
    assert peer.kinds() == ["AnswerStarted"]
    peer.up.set()
    await task
    assert peer.kinds() == ["AnswerStarted", "AnswerCompleted"]
    assert peer.said[-1].text == "all of it"


async def test_silence_ends_in_a_clear_error():
    peer = Peer(acknowledges=False)
    task = asyncio.create_task(peer.outbox.deliver(AnswerCompleted(id="x", run=RUN, seq=1, text="t")))
    await peer.clock.advance(31)
    with pytest.raises(DeadlineExceeded, match="after saying it 3 times"):
        await task
    assert len(peer.said) == 3


async def test_a_refusal_is_an_error_of_the_block():
    peer = Peer(acknowledges=False)

    async def answering():
        async with peer.answer() as answer:
            await answer.write("x")

    task = asyncio.create_task(answering())
    await peer.clock.settle()
    peer.outbox.acknowledge(peer.said[-1].id, ok=False, error="too long")
    with pytest.raises(ApiError, match="too long"):
        await task
    assert peer.ended == [("x", "ApiError: the gateway refused the answer: too long")]


async def test_the_asker_stops_an_answer():
    peer = Peer()
    async with peer.answer() as answer:
        await answer.write("so far")
        assert peer.outbox.cancel(run_id="r", question_id="")
        await answer.write("never seen")
        raise AssertionError("the write above ends the block")
    assert answer.cancelled
    assert peer.said[-1].finish_reason == "cancelled"
    assert peer.said[-1].text == "so far"
    assert not peer.outbox.cancel(run_id="r", question_id="q")


async def test_a_cancel_may_name_the_question_instead():
    peer = Peer()
    async with peer.answer() as answer:
        assert not peer.outbox.cancel(run_id="", question_id="another")
        assert peer.outbox.cancel(run_id="", question_id="q")
        with pytest.raises(AnswerError) as caught:
            await answer.write("x")
    assert caught.value.code == "cancelled"
    assert caught.value.answer is answer


async def test_a_block_that_raises_marks_the_answer_as_failed_and_tells_no_secret():
    peer = Peer()
    with pytest.raises(ValueError, match="the password is"):
        async with peer.answer() as answer:
            await answer.write("half")
            raise ValueError("the password is …")
    last = peer.said[-1]
    assert isinstance(last, AnswerFailed)
    assert last.message == "ValueError"
    assert peer.ended == [("half", "ValueError")]


async def test_the_blocks_own_error_stands_even_if_the_failure_cannot_be_told():
    peer = Peer(acknowledges=False, ack_seconds=0, ack_repeats=0)
    with pytest.raises(ValueError, match="mine"):
        async with peer.answer():
            raise ValueError("mine")


async def test_where_the_gateway_cannot_stream_the_whole_is_sent():
    peer = Peer()
    peer.streams = False
    async with peer.answer() as answer:
        await answer.write("one ")
        await answer.write("two")
    assert not answer.streams
    assert peer.whole == ["one two"]
    with pytest.raises(ValueError, match="x"):
        async with peer.answer():
            raise ValueError("x")
    assert peer.whole == ["one two"]


def test_the_blocking_face():
    with asyncio.Runner() as runner:
        peer = Peer()
        with BlockingAnswer(peer.answer(), runner.run) as answer:
            answer.write("hi ")
            answer.write("there")
            assert answer.text == "hi there"
            assert not answer.cancelled
        assert isinstance(peer.said[0], AnswerStarted)
        assert peer.said[-1].text == "hi there"
