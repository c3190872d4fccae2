"""Frames as objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook.compat.miti import (
    AgentEvent,
    AssistantCancelEvent,
    EventHeader,
    EventMessage,
    EventSender,
    GroupAtEvent,
    HistoryMessage,
    MessageEvent,
)
from botbook.compat.miti.models import agent_event

HEADER = {"event_id": "e1", "app_id": "cli_a", "create_time": "1767225600000"}
MESSAGE = {
    "message_id": "m1",
    "conversation_id": "si_u1_cli_a",
    "session_type": "single",
    "msg_type": "text",
    "content": {"text": "hi"},
    "send_time": "1767225600001",
}


def read(event_type, body, **header):
    return agent_event(
        {"schema": "1.0", "header": {**HEADER, "event_type": event_type, **header}, "event": body}
    )


def test_a_message():
    made = read("im.message.receive", {"sender": {"user_id": "u1", "name": None}, "message": MESSAGE})
    assert made == AgentEvent(
        "1.0",
        EventHeader("e1", "im.message.receive", "cli_a", "1767225600000"),
        MessageEvent(
            EventSender("u1", ""),
            EventMessage("m1", "si_u1_cli_a", "single", "text", {"text": "hi"}, "1767225600001"),
        ),
    )
    assert (made.is_single, made.is_group_at) == (True, False)
    assert made.raw["event"]["message"] == MESSAGE


def test_a_mention():
    body = {
        "group_id": "g1",
        "at_user_id": "cli_a",
        "sender": {"user_id": "u1", "name": "Ann"},
        "message": MESSAGE,
    }
    made = read("im.message.group_at", body)
    assert isinstance(made.event, GroupAtEvent)
    assert (made.event.group_id, made.event.at_user_id, made.event.sender.name) == ("g1", "cli_a", "Ann")
    assert (made.is_single, made.is_group_at) == (False, True)


def test_a_cancel_is_text_all_through():
    made = read("assistant.cancel", {"run_id": 7, "ask_msg_id": None})
    assert made.event == AssistantCancelEvent("7", "", "")
    assert (made.is_single, made.is_group_at) == (False, False)


@pytest.mark.parametrize(
    ("body", "kind"),
    [({"sender": {"user_id": "u1"}}, MessageEvent), ({"group_id": "g1"}, GroupAtEvent), ({}, MessageEvent)],
)
def test_an_unknown_type_is_read_as_far_as_it_goes(body, kind):
    made = read("im.new", body)
    assert type(made.event) is kind
    assert made.raw["event"] == body


@pytest.mark.parametrize(
    "envelope", [{}, {"header": None, "event": []}, {"header": {}, "event": {"message": 3}}]
)
def test_what_is_missing_is_empty(envelope):
    made = agent_event(envelope)
    assert made.header == EventHeader("", "", "", "")
    assert made.event == MessageEvent(EventSender("", ""), EventMessage("", "", "", "", {}, ""))


def test_content_that_is_no_object_is_an_empty_one():
    assert read("im.message.receive", {"message": {"content": "hi"}}).event.message.content == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(["sender", "message", "group_id", "run_id", "content", "user_id"])
KINDS = st.sampled_from(["im.message.receive", "im.message.group_at", "assistant.cancel", "", 7, None])


@given(KINDS, st.dictionaries(NAMES, JSON) | JSON, st.fixed_dictionaries({}, optional={"event_id": JSON}))
def test_every_frame_becomes_an_event_of_text(kind, body, header):
    made = agent_event({"schema": body, "header": {**header, "event_type": kind}, "event": body})
    assert type(made.schema) is str
    for part in (made.header, getattr(made.event, "sender", None), getattr(made.event, "message", None)):
        for name, value in vars(part).items() if part else ():
            assert type(value) is (dict if name == "content" else str)


@pytest.mark.parametrize("call", ["reply", "reply_started"])
async def test_an_event_that_came_through_no_agent_cannot_be_answered(call):
    made = read("im.message.receive", {"sender": {"user_id": "u1"}, "message": MESSAGE})
    with pytest.raises(RuntimeError, match="did not come through an agent"):
        await (made.reply("x") if call == "reply" else made.reply_started(run_id="r"))


def test_the_objects_may_be_made_by_position():
    assert HistoryMessage("user", {"text": "hi"}, "Ann").sender_name == "Ann"
    assert AssistantCancelEvent("r1").ask_msg_id == ""
