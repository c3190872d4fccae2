"""Streamed answers: what stands in each frame, and that both roles read them alike."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook.actions import AnswerCompleted, AnswerDelta, AnswerFailed, AnswerStarted, Run
from botbook.wire.contract import Ack
from botbook.wire.miti_answers import ANSWERS, ack_event, answer_event, read_ack, read_answer
from botbook.wire.miti_frames import from_epoch_ms

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
RUN = Run(run_id="r", message_id="am", to="user:u1", asker="u1", chat_id="si_u1_c", question_id="m1")
COMMON = {
    "agent_id": "cli_1",
    "user_id": "u1",
    "conversation_id": "si_u1_c",
    "ask_msg_id": "m1",
    "assistant_msg_id": "am",
    "run_id": "r",
    "to_user_id": "u1",
    "to_group_id": "",
    "created_at": 1767323045678,
}


def written(answer) -> dict:
    return answer_event(answer, agent_id="cli_1", conversation_id=answer.run.chat_id, at=AT)


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (AnswerStarted(id="e", run=RUN), {"event_type": "assistant.started"}),
        (
            AnswerDelta(id="e", run=RUN, seq=2, text="hi"),
            {
                "event_type": "assistant.delta",
                "seq": 2,
                "event": "delta",
                "show_type": "markdown",
                "delta": "hi",
                "is_completed": False,
            },
        ),
        (
            AnswerDelta(
                id="e", run=RUN, seq=3, text="hm", reasoning=True, show_type="text", is_completed=True
            ),
            {
                "event_type": "assistant.delta",
                "seq": 3,
                "event": "reasoning_delta",
                "show_type": "text",
                "delta": "hm",
                "is_completed": True,
            },
        ),
        (
            AnswerCompleted(id="e", run=RUN, seq=9, text="all"),
            {"event_type": "assistant.completed", "seq": 9, "markdown": "all", "finish_reason": "stop"},
        ),
        (
            AnswerCompleted(id="e", run=RUN, seq=9, text="all", reasoning="so", finish_reason="length"),
            {
                "event_type": "assistant.completed",
                "seq": 9,
                "markdown": "all",
                "finish_reason": "length",
                "reasoning": "so",
            },
        ),
        (
            AnswerFailed(id="e", run=RUN),
            {"event_type": "assistant.failed", "seq": 0, "error_code": "error", "message": ""},
        ),
    ],
)
def test_bodies(answer, fields):
    assert written(answer) == {**COMMON, **fields}


RECORDED = Path(__file__).parent / "frames" / "miti" / "sdk-0.1.4.jsonl"


@pytest.mark.parametrize("frame", [json.loads(line) for line in RECORDED.read_text().splitlines()])
def test_frames_of_the_official_client_are_written_alike(frame):
    header, event = frame["header"], frame["event"]
    answer = read_answer(header["event_type"], event, event_id=header["event_id"])
    at = from_epoch_ms(event["created_at"])
    conversation = event["conversation_id"]
    assert answer_event(answer, agent_id="cli_sim", conversation_id=conversation, at=at) == event
    assert set(frame) == {"schema", "header", "event"}
    assert set(header) == {"event_id", "event_type", "app_id", "create_time"}


def test_a_group_answer_names_group_and_asker():
    run = replace(RUN, to="group:g1", chat_id="sg_g1")
    body = written(AnswerStarted(id="e", run=run))
    assert (body["to_user_id"], body["to_group_id"], body["user_id"]) == ("u1", "g1", "u1")


def test_the_address_stands_in_for_an_unknown_asker():
    assert written(AnswerStarted(id="e", run=replace(RUN, asker="")))["to_user_id"] == "u1"


ids = st.text("abc_-é:0", min_size=1, max_size=6)
runs = st.builds(
    lambda asker, group, chat, rest: Run(
        run_id=rest,
        message_id=rest,
        to=f"group:{group}" if group else f"user:{asker}",
        asker=asker,
        chat_id=chat,
        question_id=rest,
    ),
    ids,
    st.just("") | ids,
    ids,
    ids,
)
texts, seqs = st.text(), st.integers(0, 2**53)
answers = st.one_of(
    st.builds(AnswerStarted, id=ids, run=runs),
    st.builds(
        AnswerDelta,
        id=ids,
        run=runs,
        seq=seqs,
        text=texts,
        reasoning=st.booleans(),
        show_type=ids,
        is_completed=st.booleans(),
    ),
    st.builds(AnswerCompleted, id=ids, run=runs, seq=seqs, text=texts, reasoning=texts, finish_reason=ids),
    st.builds(AnswerFailed, id=ids, run=runs, seq=seqs, error_code=ids, message=texts),
)


@given(answers)
def test_both_roles_read_alike(answer):
    body = written(answer)
    assert ANSWERS[body["event_type"]] is type(answer)
    assert read_answer(body["event_type"], body, event_id=answer.id) == answer


@given(st.sampled_from(sorted(ANSWERS)), st.dictionaries(st.sampled_from([*COMMON, "seq", "delta"]), texts))
def test_reading_any_body(name, body):
    assert isinstance(read_answer(name, body, event_id="e"), ANSWERS[name])


@given(seqs, texts)
def test_both_roles_read_an_acknowledgement_alike(seq, error):
    body = ack_event(AnswerCompleted(id="e1", run=RUN, seq=seq, text="all"), error=error)
    assert (body["run_id"], body["seq"], "error" in body) == ("r", seq, bool(error))
    assert read_ack(body) == Ack("e1", not error, error)
