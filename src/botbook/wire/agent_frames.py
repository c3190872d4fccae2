"""Lambda agent frames: what they look like, and both ways between them and values (protocols/agent.md).

Neutral between the roles: the client reads here what an agent writes, and the other way round.
A frame is one JSON object with a `type`; what is absent takes its default; a field of the wrong
shape is malformed.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import Any, Final, NotRequired, TypedDict
from urllib.parse import quote, urlsplit, urlunsplit

from botbook._errors import LocalProtocolError, RemoteProtocolError
from botbook.wire.contract import Frame

__all__ = [
    "CUSTOM_UPDATE",
    "END",
    "ERROR",
    "GRACEFUL_DISCONNECT",
    "MAIN",
    "SEND_FILE",
    "STATUS",
    "TEXT_CHUNK",
    "TOOL_CALL_CHUNK",
    "TOOL_RESULT",
    "USER_MESSAGE",
    "WORKSPACE",
    "CustomUpdate",
    "End",
    "Error",
    "Question",
    "SendFile",
    "TextChunk",
    "ToolCallChunk",
    "ToolResult",
    "agent_url",
    "decode",
    "encode",
    "is_complete",
    "optional_text",
    "question",
    "read_question",
    "required_text",
    "result_error",
    "result_text",
    "source_of",
    "workspace_path",
]

USER_MESSAGE: Final = "USER_MESSAGE"
STATUS: Final = "STATUS"
ERROR: Final = "ERROR"
GRACEFUL_DISCONNECT: Final = "GRACEFUL_DISCONNECT"
TEXT_CHUNK: Final = "AGENT_EVENT_TEXT_CHUNK"
TOOL_CALL_CHUNK: Final = "AGENT_EVENT_TOOL_CALL_CHUNK"
TOOL_RESULT: Final = "AGENT_EVENT_TOOL_RESULT"
CUSTOM_UPDATE: Final = "AGENT_EVENT_CUSTOM_UPDATE"
SEND_FILE: Final = "AGENT_EVENT_SEND_FILE"
END: Final = "AGENT_EVENT_END"

#: The agent itself; a sub-agent is ``tools:…``.
MAIN: Final = "main"

#: What attachments and files are relative to.
WORKSPACE: Final = "/workspace"

#: Where a whole address of SDK 1.0 ends, with a slash and without; SDK 1.1 makes it from a base.
_SOCKET: Final = "agent_ws"
_BARE: Final = "ws"


class UserMessage(TypedDict):
    """``USER_MESSAGE``; ``attachments`` came with SDK 1.1."""

    type: str
    text: str
    attachments: NotRequired[list[str]]


class Error(TypedDict):
    """``ERROR``."""

    type: str
    code: str
    details: str


class TextChunk(TypedDict):
    """``AGENT_EVENT_TEXT_CHUNK``."""

    type: str
    text: str
    source: NotRequired[str]


class ToolCallChunk(TypedDict):
    """``AGENT_EVENT_TOOL_CALL_CHUNK``; the name usually stands in the first chunk alone."""

    type: str
    tool_name: NotRequired[str | None]
    args_chunk: NotRequired[str | None]
    source: NotRequired[str]


class ToolResult(TypedDict):
    """``AGENT_EVENT_TOOL_RESULT``."""

    type: str
    tool_name: str
    result: Any
    source: NotRequired[str]


class CustomUpdate(TypedDict):
    """``AGENT_EVENT_CUSTOM_UPDATE``."""

    type: str
    payload: dict[str, Any]
    source: NotRequired[str]


class SendFile(TypedDict):
    """``AGENT_EVENT_SEND_FILE``, since SDK 1.1."""

    type: str
    path: str


class End(TypedDict):
    """``AGENT_EVENT_END``."""

    type: str
    tokens_used: int


@dataclass(frozen=True, slots=True)
class Question:
    """What a client asks.

    Attributes:
        text: The question.
        attachments: Paths relative to ``/workspace``.
    """

    text: str
    attachments: tuple[str, ...] = ()


def agent_url(base_url: str, chat_id: str | int = "0") -> str:
    """The address of a chat.

    An address whose path ends in ``agent_ws`` or ``ws`` is whole already (SDK 1.0); anything else
    is a base, with or without its last slash (SDK 1.1).

    Args:
        base_url: ``ws://``, ``wss://``, ``http://`` or ``https://``.
        chat_id: Which chat.
    """
    parts = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/") + "/"
    if path.endswith(f"/{_BARE}/"):
        path = path[:-1]
    elif not path.endswith(f"/{_SOCKET}/"):
        path += f"v1/{_SOCKET}/{quote(str(chat_id), safe='')}/"
    return urlunsplit((scheme, parts.netloc, path, parts.query, ""))


def encode(kind: str, **fields: Any) -> str:
    """Write a frame."""
    return json.dumps({"type": kind, **fields}, ensure_ascii=False)


def decode(frame: Frame) -> dict[str, Any]:
    """Read a frame as an object whose ``type`` is text.

    Raises:
        RemoteProtocolError: It is not.
    """
    if not isinstance(frame, str):
        raise RemoteProtocolError("a frame that is not text", frame=frame)
    try:
        message = json.loads(frame)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a frame that is no JSON", frame=frame) from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise RemoteProtocolError("a frame without a type", frame=frame)
    return message


def required_text(message: dict[str, Any], key: str, frame: Frame) -> str:
    """A field that must be text.

    Raises:
        RemoteProtocolError: It is not.
    """
    value = message.get(key)
    if not isinstance(value, str):
        raise RemoteProtocolError(f"a {message['type']} whose {key} is no text", frame=frame)
    return value


def optional_text(message: dict[str, Any], key: str, frame: Frame) -> str | None:
    """A field that is text, null or absent.

    Raises:
        RemoteProtocolError: It is something else.
    """
    return None if message.get(key) is None else required_text(message, key, frame)


def source_of(message: dict[str, Any]) -> str:
    """Who speaks: ``main`` or ``tools:…``."""
    source = message.get("source", MAIN)
    return source if isinstance(source, str) and source else MAIN


def question(asked: Question) -> str:
    """Write a question; ``attachments`` stands only where there are some, so that 1.0 servers take it too.

    Raises:
        LocalProtocolError: An attachment lies outside ``/workspace``.
    """
    fields: dict[str, Any] = {"text": asked.text}
    if asked.attachments:
        fields["attachments"] = [_attachment(path) for path in asked.attachments]
    return encode(USER_MESSAGE, **fields)


def _attachment(path: str) -> str:
    inside = workspace_path(path)
    if inside is None:
        raise LocalProtocolError(
            f"the attachment {path!r} is not inside {WORKSPACE}",
            hint=f"Upload it there first, and name it relative to {WORKSPACE}.",
        )
    return inside


def read_question(frame: Frame) -> Question:
    """Read what a client sent.

    Raises:
        RemoteProtocolError: It is no question.
    """
    message = decode(frame)
    attachments = message.get("attachments", [])
    if message["type"] != USER_MESSAGE or not isinstance(attachments, list):
        raise RemoteProtocolError("a frame that is no question", frame=frame)
    if not all(isinstance(path, str) for path in attachments):
        raise RemoteProtocolError("a question whose attachments are no texts", frame=frame)
    return Question(required_text(message, "text", frame), tuple(attachments))


def workspace_path(path: str) -> str | None:
    """A path relative to ``/workspace``, without dots; None where it leads out of it or names no file."""
    if "\\" in path or any(ord(char) < 32 for char in path):
        return None
    inside = posixpath.normpath(posixpath.join(WORKSPACE, path))
    return inside.removeprefix(WORKSPACE + "/") if inside.startswith(WORKSPACE + "/") else None


def is_complete(arguments: str) -> bool:
    """Whether pieces of tool arguments make up one JSON value by now."""
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def result_text(result: Any) -> str:
    """What a tool gave, for reading."""
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def result_error(result: Any) -> str:
    """The failure that a tool's result reports, or ""; an object says so under ``error``."""
    error = result.get("error") if isinstance(result, dict) else None
    return result_text(error) if error else ""
