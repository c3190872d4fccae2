"""Miti frames: what they look like, and both ways between them and values (protocols/miti.md 4, 5).

Neutral between the roles: the client reads what a gateway writes here, and the other way round.
What is absent reads as ""; what has the wrong shape is malformed; nothing else raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NotRequired, TypedDict

from botbook._errors import RemoteProtocolError
from botbook.wire.contract import Frame

__all__ = [
    "ACK",
    "CANCEL",
    "COMPLETED",
    "DELTA",
    "FAILED",
    "GROUP_AT",
    "RECEIVE",
    "STARTED",
    "AckEvent",
    "AnswerEvent",
    "CancelEvent",
    "Envelope",
    "GroupAtEvent",
    "Header",
    "Message",
    "MessageEvent",
    "Sender",
    "decode",
    "encode",
    "epoch_ms",
    "from_epoch_ms",
    "items_of",
    "object_of",
    "text_of",
]

SCHEMA: Final = "1.0"

RECEIVE: Final = "im.message.receive"
GROUP_AT: Final = "im.message.group_at"
CANCEL: Final = "assistant.cancel"
ACK: Final = "assistant.ack"
STARTED: Final = "assistant.started"
DELTA: Final = "assistant.delta"
COMPLETED: Final = "assistant.completed"
FAILED: Final = "assistant.failed"


class Header(TypedDict):
    """``create_time`` is a string of epoch milliseconds."""

    event_id: str
    event_type: str
    app_id: str
    create_time: str


class Sender(TypedDict):
    """``name`` came with 0.1.4, in groups."""

    user_id: str
    name: NotRequired[str | None]


class Message(TypedDict):
    """``session_type`` is ``single`` or ``group``; ``send_time`` a string of epoch milliseconds."""

    message_id: str
    conversation_id: str
    session_type: str
    msg_type: str
    content: dict[str, Any]
    send_time: str


class MessageEvent(TypedDict):
    """Body of ``im.message.receive``."""

    sender: Sender
    message: Message


class GroupAtEvent(MessageEvent):
    """Body of ``im.message.group_at``."""

    group_id: str
    at_user_id: str


class CancelEvent(TypedDict):
    """Body of ``assistant.cancel``."""

    run_id: str
    ask_msg_id: str
    conversation_id: str


class AckEvent(TypedDict):
    """Body of ``assistant.ack``; ``error`` when not ``ok``."""

    reply_to_event_id: str
    run_id: str
    seq: int
    ok: bool
    error: NotRequired[str]


class AnswerEvent(TypedDict):
    """Body of the four answer frames; the optional fields belong to some of them."""

    event_type: str
    agent_id: str
    user_id: str
    conversation_id: str
    ask_msg_id: str
    assistant_msg_id: str
    run_id: str
    to_user_id: str
    to_group_id: str
    created_at: int
    seq: NotRequired[int]
    event: NotRequired[str]
    show_type: NotRequired[str]
    delta: NotRequired[str]
    is_completed: NotRequired[bool]
    markdown: NotRequired[str]
    reasoning: NotRequired[str]
    finish_reason: NotRequired[str]
    error_code: NotRequired[str]
    message: NotRequired[str]


class Envelope(TypedDict):
    """Every frame, in both directions."""

    schema: str
    header: Header
    event: Mapping[str, Any]


# ---------------------------------------------------------------------------- whole frames

_raw_decode = json.JSONDecoder().raw_decode
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def encode(event_type: str, event: Mapping[str, Any], *, event_id: str, app_id: str, at: datetime) -> str:
    """Write a frame.

    Args:
        event_type: Name of the event.
        event: Its body.
        event_id: Its id.
        app_id: The agent it belongs to.
        at: When it was made.
    """
    header: Header = {
        "event_id": event_id,
        "event_type": event_type,
        "app_id": app_id,
        "create_time": str(epoch_ms(at)),
    }
    envelope: Envelope = {"schema": SCHEMA, "header": header, "event": event}
    return json.dumps(envelope, separators=(",", ":"))


def decode(frame: Frame) -> dict[str, Any]:
    """Read a frame as a JSON object.

    Raises:
        RemoteProtocolError: It is binary, no JSON, nested too deep, or no object.
    """
    if not isinstance(frame, str):
        raise RemoteProtocolError("a binary frame", frame=frame)
    try:
        value = _loads(frame)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a frame that is no JSON ({type(error).__name__})", frame=frame) from None
    if type(value) is not dict:
        raise RemoteProtocolError("a frame that is no JSON object", frame=frame)
    return value


def _loads(text: str) -> Any:
    """``json.loads`` without its whitespace searches, and with text that can be stored as UTF-8."""
    try:
        value, end = _raw_decode(text)
    except ValueError:
        end = -1
    if end != len(text):
        value = json.loads(text)
    return _mended(value) if "\\ud" in text or "\\uD" in text else value


def _mended(value: Any) -> Any:
    """The same value with lone surrogates replaced: no file and no socket takes them."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


# ---------------------------------------------------------------------------- single fields


def text_of(value: Any) -> str:
    """A field as text: numbers are written out, what is absent or of another shape is ""."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def object_of(value: Any, name: str, frame: object = "") -> dict[str, Any]:
    """A field as an object; absent reads as empty.

    Raises:
        RemoteProtocolError: It is something else.
    """
    if type(value) is dict:
        return value
    if value is None:
        return {}
    raise RemoteProtocolError(f"{name} is no object", frame=frame)


def items_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def epoch_ms(at: datetime) -> int:
    """A time in epoch milliseconds."""
    return round(at.timestamp() * 1000)


#: What lies outside is no time in milliseconds: seconds and zeros fall into 1970.
_EARLIEST_MS: Final = epoch_ms(datetime(2000, 1, 1, tzinfo=UTC))
_LATEST_MS: Final = epoch_ms(datetime(2100, 1, 1, tzinfo=UTC))


def from_epoch_ms(value: Any) -> datetime | None:
    """Read epoch milliseconds, a string or a number; None if that is no time of this century."""
    try:
        ms = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return datetime.fromtimestamp(ms / 1000, UTC) if _EARLIEST_MS <= ms < _LATEST_MS else None
