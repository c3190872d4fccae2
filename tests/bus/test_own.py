"""Rows that botbook makes itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._bus.handler import Call
from botbook._bus.own import (
    connection_event,
    exec_event,
    failed_event,
    missing,
    recovered_events,
    sent_event,
)
from botbook.actions import HistoryItem, Sent
from tests.samples import NOON, message


def item(text, role="user", **given):
    return HistoryItem(role=role, text=text, **given)


def test_a_sent_message_takes_the_id_its_echo_would_have_and_the_servers_clock():
    question = message("how?", at=NOON)
    server_time = int((NOON + timedelta(seconds=2)).timestamp() * 1000)
    event = sent_event(
        gateway="miti",
        bot="b",
        to="user:u1",
        text="so",
        sent=Sent(message_id="m9", server_time=server_time),
        ident="own",
        now=NOON + timedelta(seconds=9),
        question=question,
        own_id="cli_me",
    )
    assert event.event_id == "sent:m9"
    assert (event.type, event.role, event.chat_id) == ("message.sent", "assistant", "c1")
    assert event.user_id == "cli_me"
    assert event.latency_s == 2.0
    assert event.reply_to == question.message_id


def test_a_message_to_a_group_without_a_question():
    event = sent_event(
        gateway="miti", bot="b", to="group:g1", text="hello all", sent=Sent(), ident="own", now=NOON
    )
    assert (event.event_id, event.chat_type, event.chat_id, event.user_id) == ("sent:own", "group", "g1", "")
    assert event.latency_s is None
    assert event.at == NOON


def test_a_clock_that_steps_back_gives_no_negative_latency():
    question = message(at=NOON + timedelta(seconds=5))
    sent = sent_event(
        gateway="m", bot="b", to="user:u", text="", sent=Sent(), ident="i", now=NOON, question=question
    )
    assert sent.latency_s == 0.0


def test_a_failure_names_the_handler_and_keeps_the_traceback():
    call = Call(
        seq=7,
        event=message(),
        handler="h",
        version="v",
        state="failed",
        started_at=NOON,
        seconds=0.1,
        error="ValueError: x",
        traceback="Traceback …",
    )
    event = failed_event(call, gateway="miti", bot="b", now=NOON)
    assert (event.event_id, event.text, event.error) == ("failed:7:h", "h", "ValueError: x")
    assert event.raw["traceback"] == "Traceback …"


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        ({}, ""),
        ({"exit_code": 3}, "exit code 3"),
        ({"status": "timed_out", "exit_code": None}, "timed out"),
        ({"status": "cancelled", "exit_code": None}, "cancelled"),
        ({"status": "failed", "exit_code": None, "error": "no such mount"}, "no such mount"),
    ],
)
def test_a_command_in_a_sandbox_is_a_row(ended, error):
    row = {"session": "s", "cmd": "true", "status": "completed", "exit_code": 0, "duration_ms": 20, **ended}
    event = exec_event(row, gateway="box", bot="b", now=NOON)
    assert (event.type, event.chat_id, event.text, event.latency_s) == ("box.exec", "s", "true", 0.02)
    assert event.error == error
    assert json.loads(event.raw_json) == row
    assert event.event_id != exec_event(row, gateway="box", bot="b", now=NOON).event_id
    assert event.role == "assistant"  # so that no handler of * runs on what it has run itself


def test_connection_rows_keep_their_facts():
    event = connection_event("gap", gateway="miti", bot="b", now=NOON, seconds=2.5, recovered=3)
    assert event.type == "connection.gap"
    assert event.latency_s == 2.5
    assert json.loads(event.raw_json) == {"recovered": 3}
    assert connection_event("opened", gateway="miti", bot="b", now=NOON).raw is None


@pytest.mark.parametrize(
    ("known", "history", "expected"),
    [
        ([("user", "a"), ("assistant", "b")], [("user", "a"), ("assistant", "b"), ("user", "c")], ["c"]),
        ([("user", "a")], [("user", "a")], []),
        ([], [("user", "x")], ["x"]),
        ([("user", "old")], [("user", "p"), ("user", "q")], ["p", "q"]),
        ([("user", "ok"), ("user", "ok")], [("user", "ok"), ("user", "ok"), ("user", "ok")], []),
        ([("user", "a"), ("user", "ok")], [("user", "a"), ("user", "ok"), ("user", "ok")], ["ok"]),
        ([("user", "a")], [], []),
    ],
    ids=["one more", "nothing", "unknown chat", "no meeting", "ambiguous tail", "repeated word", "empty"],
)
def test_what_a_history_holds_beyond_what_is_known(known, history, expected):
    found = missing(known, [item(text, role) for role, text in history])
    assert [i.text for i in found] == expected


def test_ids_tell_where_a_history_goes_on_when_words_do_not():
    history = [replace(item("hi"), message_id=ident) for ident in ("m1", "m2", "m3")]
    assert missing([("user", "hi")], history, ids={"m1"}) == history[1:]
    assert missing([("user", "hi")], history, ids={"m9"}) == []  # other ids than in frames: by words


@given(st.lists(st.text(min_size=1), unique=True), st.lists(st.text(min_size=1), unique=True))
def test_distinct_messages_are_found_exactly(known, later):
    later = [text for text in later if text not in known]
    history = [item(text) for text in [*known, *later]]
    assert [i.text for i in missing([("user", text) for text in known], history)] == later


def test_recovered_rows_are_marked_and_keep_what_the_gateway_told():
    like = message(chat="c9", user="ann")
    rows = recovered_events(
        [
            item("hi", message_id="m1", at_ms=1_767_268_800_000, raw={"a": 1}),
            item("there", role="assistant", own=True),
            item("odd", role="tool"),
            item("an agent's answer", role="assistant"),
        ],
        like=like,
        now=NOON,
        gap="g",
    )
    assert [row.event_id for row in rows] == ["recovered:m1", *(f"recovered:g:c9:{n}" for n in (1, 2, 3))]
    assert [row.type.partition(".")[2] for row in rows] == ["received", "sent", "received", "received"]
    assert [row.role for row in rows] == ["user", "assistant", "system", "assistant"]
    assert [row.user_id for row in rows] == ["ann", "", "", ""], "a partner's name is for the partner's words"
    assert all(row.recovered and row.chat_id == "c9" for row in rows)
    assert rows[0].at.timestamp() == 1_767_268_800
    assert rows[0].raw == {"a": 1}
    assert rows[1].at == NOON
    group = recovered_events([item("x")], like=replace(like, chat_type="group"), now=NOON, gap="g")
    assert group[0].user_id == ""
