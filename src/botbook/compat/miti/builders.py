"""Frames and contents built by hand (protocols/miti.md 5, 6 and 8)."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final

__all__ = [
    "build_assistant_completed_event",
    "build_assistant_delta_event",
    "build_assistant_failed_event",
    "build_assistant_started_event",
    "build_stream_delta_content",
    "build_stream_full_markdown",
]

#: What every frame of an answer says.
_FIELDS: Final = (
    "agent_id",
    "user_id",
    "conversation_id",
    "ask_msg_id",
    "assistant_msg_id",
    "run_id",
    "to_user_id",
    "to_group_id",
)


def build_stream_full_markdown(markdown: str, ask_msg_id: str = "", *, seq: int = 1) -> dict[str, Any]:
    """Content of a ``stream_full`` message that holds a whole markdown text."""
    item = {
        "event": "delta",
        "seq": seq,
        "content": json.dumps({"markdown": {"delta": markdown}}, ensure_ascii=False),
        "desc": {
            "isIncrease": False,
            "isCompleted": True,
            "isShow": True,
            "history": True,
            "showType": "markdown",
        },
    }
    content: dict[str, Any] = {"content_list": [item]}
    if ask_msg_id:
        content["ask_msg_id"] = ask_msg_id
    return content


def build_stream_delta_content(
    delta: str, *, event: str = "delta", show_type: str = "markdown", is_completed: bool = False
) -> dict[str, Any]:
    """An incremental item of a content list."""
    return {
        "event": event,
        "content": json.dumps({show_type: {"delta": delta}}, ensure_ascii=False),
        "desc": {
            "isIncrease": True,
            "isCompleted": is_completed,
            "isShow": True,
            "history": False,
            "showType": show_type,
        },
    }


def build_assistant_started_event(**fields: Any) -> dict[str, Any]:
    """Frame ``assistant.started``; for the fields see `build_assistant_delta_event`, without its own."""
    return _frame("assistant.started", fields)


def build_assistant_delta_event(
    *,
    seq: int,
    delta: str,
    event: str = "delta",
    show_type: str = "markdown",
    is_completed: bool = False,
    **fields: Any,
) -> dict[str, Any]:
    """Frame ``assistant.delta``.

    Args:
        seq: Grows over the answer.
        delta: The piece.
        event: ``delta`` or ``reasoning_delta``.
        show_type: How to draw it.
        is_completed: It is the last piece.
        **fields: agent_id (the app id), user_id, conversation_id, ask_msg_id, assistant_msg_id, run_id,
            to_user_id (default user_id), to_group_id; "" where left out.
    """
    own = {"seq": seq, "event": event, "show_type": show_type, "delta": delta, "is_completed": is_completed}
    return _frame("assistant.delta", fields, own)


def build_assistant_completed_event(
    *, seq: int, markdown: str, finish_reason: str = "stop", reasoning: str = "", **fields: Any
) -> dict[str, Any]:
    """Frame ``assistant.completed``: the whole text; `reasoning` is left out when empty."""
    own: dict[str, Any] = {"seq": seq, "markdown": markdown, "finish_reason": finish_reason}
    if reasoning:
        own["reasoning"] = reasoning
    return _frame("assistant.completed", fields, own)


def build_assistant_failed_event(
    *, seq: int = 0, error_code: str = "error", message: str = "", **fields: Any
) -> dict[str, Any]:
    """Frame ``assistant.failed``."""
    return _frame("assistant.failed", fields, {"seq": seq, "error_code": error_code, "message": message})


def _frame(kind: str, fields: dict[str, Any], own: dict[str, Any] | None = None) -> dict[str, Any]:
    if unknown := sorted(set(fields) - set(_FIELDS)):
        raise TypeError(f"{kind} has no field {', '.join(unknown)}")
    now = int(time.time() * 1000)
    common = {name: fields.get(name, "") for name in _FIELDS}
    common["to_user_id"] = common["to_user_id"] or common["user_id"]
    return {
        "schema": "1.0",
        "header": {
            "event_id": str(uuid.uuid4()),
            "event_type": kind,
            "app_id": common["agent_id"],
            "create_time": str(now),
        },
        "event": {"event_type": kind, **common, "created_at": now, **(own or {})},
    }
