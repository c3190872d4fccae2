"""Frames as the SDK 0.1.4 builds them, written out by hand from protocols/miti.md 5 and 6."""

from __future__ import annotations

import json
import time
import uuid

import pytest

from botbook.compat.miti import (
    build_assistant_completed_event,
    build_assistant_delta_event,
    build_assistant_failed_event,
    build_assistant_started_event,
    build_stream_delta_content,
    build_stream_full_markdown,
)

COMMON = {
    "agent_id": "cli_a",
    "user_id": "u1",
    "conversation_id": "si_u1_cli_a",
    "ask_msg_id": "m1",
    "assistant_msg_id": "am1",
    "run_id": "r1",
}


def unstamped(frame, kind):
    """Check what differs from call to call, and give the body without it."""
    assert list(frame) == ["schema", "header", "event"]
    header, event = frame["header"], dict(frame["event"])
    assert frame["schema"] == "1.0"
    assert str(uuid.UUID(header["event_id"], version=4)) == header["event_id"]
    now = time.time() * 1000
    assert type(header["create_time"]) is str
    assert type(event["created_at"]) is int
    assert abs(int(header["create_time"]) - now) < 60_000
    assert abs(event.pop("created_at") - now) < 60_000
    assert {name: header[name] for name in header if name not in ("event_id", "create_time")} == {
        "event_type": kind,
        "app_id": "cli_a",
    }
    assert event.pop("event_type") == kind
    return event


def test_started_in_a_direct_chat():
    event = unstamped(build_assistant_started_event(**COMMON, to_user_id="u1"), "assistant.started")
    assert event == {**COMMON, "to_user_id": "u1", "to_group_id": ""}


def test_to_a_group_goes_the_asker_too():
    event = unstamped(build_assistant_started_event(**COMMON, to_group_id="g1"), "assistant.started")
    assert event == {**COMMON, "to_user_id": "u1", "to_group_id": "g1"}


def test_delta():
    event = unstamped(build_assistant_delta_event(**COMMON, seq=3, delta="Hal"), "assistant.delta")
    assert event == {
        **COMMON,
        "to_user_id": "u1",
        "to_group_id": "",
        "seq": 3,
        "event": "delta",
        "show_type": "markdown",
        "delta": "Hal",
        "is_completed": False,
    }


def test_delta_with_everything_said():
    made = build_assistant_delta_event(
        **COMMON, seq=4, delta="so", event="reasoning_delta", show_type="text", is_completed=True
    )
    event = unstamped(made, "assistant.delta")
    assert {name: event[name] for name in ("event", "show_type", "is_completed")} == {
        "event": "reasoning_delta",
        "show_type": "text",
        "is_completed": True,
    }


def test_completed():
    event = unstamped(
        build_assistant_completed_event(**COMMON, seq=7, markdown="**a**"), "assistant.completed"
    )
    assert event == {
        **COMMON,
        "to_user_id": "u1",
        "to_group_id": "",
        "seq": 7,
        "markdown": "**a**",
        "finish_reason": "stop",
    }


def test_completed_holds_reasoning_only_where_there_is_some():
    made = build_assistant_completed_event(
        **COMMON, seq=7, markdown="a", reasoning="because", finish_reason="length"
    )
    event = unstamped(made, "assistant.completed")
    assert (event["reasoning"], event["finish_reason"]) == ("because", "length")


def test_failed():
    event = unstamped(build_assistant_failed_event(**COMMON), "assistant.failed")
    assert event == {
        **COMMON,
        "to_user_id": "u1",
        "to_group_id": "",
        "seq": 0,
        "error_code": "error",
        "message": "",
    }
    made = build_assistant_failed_event(**COMMON, seq=9, error_code="timeout", message="too slow")
    event = unstamped(made, "assistant.failed")
    assert (event["seq"], event["error_code"], event["message"]) == (9, "timeout", "too slow")


def test_an_unknown_field_is_refused():
    with pytest.raises(TypeError, match=r"assistant\.started has no field user"):
        build_assistant_started_event(**COMMON, user="u1")


def test_each_frame_has_an_id_of_its_own():
    ids = {build_assistant_started_event(**COMMON)["header"]["event_id"] for _ in range(20)}
    assert len(ids) == 20


def test_a_whole_markdown_message():
    made = build_stream_full_markdown("**hé**", "m1")
    assert made == {
        "ask_msg_id": "m1",
        "content_list": [
            {
                "event": "delta",
                "seq": 1,
                "content": '{"markdown": {"delta": "**hé**"}}',
                "desc": {
                    "isIncrease": False,
                    "isCompleted": True,
                    "isShow": True,
                    "history": True,
                    "showType": "markdown",
                },
            }
        ],
    }
    assert "ask_msg_id" not in build_stream_full_markdown("x")
    assert build_stream_full_markdown("x", seq=5)["content_list"][0]["seq"] == 5


def test_an_item_of_a_content_list():
    assert build_stream_delta_content("x") == {
        "event": "delta",
        "content": '{"markdown": {"delta": "x"}}',
        "desc": {
            "isIncrease": True,
            "isCompleted": False,
            "isShow": True,
            "history": False,
            "showType": "markdown",
        },
    }
    made = build_stream_delta_content("x", event="reasoning_delta", show_type="text", is_completed=True)
    assert json.loads(made["content"]) == {"text": {"delta": "x"}}
    assert (made["event"], made["desc"]["isCompleted"], made["desc"]["showType"]) == (
        "reasoning_delta",
        True,
        "text",
    )
