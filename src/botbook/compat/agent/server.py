"""What an agent says, as the SDK names it (protocols/agent.md, server to client)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal

from botbook.events import Event
from botbook.wire import agent_frames as frames

__all__ = [
    "OM",
    "AgentEventUnion",
    "EServerMessage",
    "MsgError",
    "MsgEventCustomUpdate",
    "MsgEventEnd",
    "MsgEventSendFile",
    "MsgEventTextChunk",
    "MsgEventToolCallChunk",
    "MsgEventToolResult",
    "MsgGracefulDisconnect",
    "MsgStatus",
    "ServerMessage",
    "message_of",
]


class EServerMessage(StrEnum):
    """Types of message."""

    STATUS = frames.STATUS
    ERROR = frames.ERROR
    GRACEFUL_DISCONNECT = frames.GRACEFUL_DISCONNECT
    AGENT_EVENT_TEXT_CHUNK = frames.TEXT_CHUNK
    AGENT_EVENT_TOOL_CALL_CHUNK = frames.TOOL_CALL_CHUNK
    AGENT_EVENT_TOOL_RESULT = frames.TOOL_RESULT
    AGENT_EVENT_CUSTOM_UPDATE = frames.CUSTOM_UPDATE
    AGENT_EVENT_SEND_FILE = frames.SEND_FILE
    AGENT_EVENT_END = frames.END


@dataclass(frozen=True, kw_only=True)
class ServerMessage:
    """Base of all messages.

    Attributes:
        type: Its type, as on the wire.
    """

    type: EServerMessage

    def model_dump(self) -> dict[str, Any]:
        """The fields as a dict."""
        return asdict(self)

    def model_dump_json(self) -> str:
        """The fields as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def _type(kind: EServerMessage) -> Any:
    return field(default=kind, repr=False)


@dataclass(frozen=True, kw_only=True)
class MsgStatus(ServerMessage):
    """The connection is ready."""

    type: Literal[EServerMessage.STATUS] = _type(EServerMessage.STATUS)


@dataclass(frozen=True, kw_only=True)
class MsgError(ServerMessage):
    """The running request, or something else, failed.

    Attributes:
        code: The agent's own.
        details: In words.
    """

    type: Literal[EServerMessage.ERROR] = _type(EServerMessage.ERROR)
    code: str
    details: str


@dataclass(frozen=True, kw_only=True)
class MsgGracefulDisconnect(ServerMessage):
    """The container is about to stop."""

    type: Literal[EServerMessage.GRACEFUL_DISCONNECT] = _type(EServerMessage.GRACEFUL_DISCONNECT)


@dataclass(frozen=True, kw_only=True)
class MsgEventTextChunk(ServerMessage):
    """A piece of the answer.

    Attributes:
        text: The piece.
        source: ``main``, or ``tools:…`` for a sub-agent.
    """

    type: Literal[EServerMessage.AGENT_EVENT_TEXT_CHUNK] = _type(EServerMessage.AGENT_EVENT_TEXT_CHUNK)
    text: str
    source: str = frames.MAIN


@dataclass(frozen=True, kw_only=True)
class MsgEventToolCallChunk(ServerMessage):
    """A tool call. Its pieces are put together: name and arguments come whole.

    Attributes:
        tool_name: Which tool.
        args_chunk: The arguments, JSON text.
        source: As for a piece of text.
    """

    type: Literal[EServerMessage.AGENT_EVENT_TOOL_CALL_CHUNK] = _type(
        EServerMessage.AGENT_EVENT_TOOL_CALL_CHUNK
    )
    tool_name: str | None = None
    args_chunk: str | None = None
    source: str = frames.MAIN


@dataclass(frozen=True, kw_only=True)
class MsgEventToolResult(ServerMessage):
    """A tool has run.

    Attributes:
        tool_name: Which tool.
        result: Text, object or list.
        source: As for a piece of text.
    """

    type: Literal[EServerMessage.AGENT_EVENT_TOOL_RESULT] = _type(EServerMessage.AGENT_EVENT_TOOL_RESULT)
    tool_name: str
    result: Any
    source: str = frames.MAIN


@dataclass(frozen=True, kw_only=True)
class MsgEventCustomUpdate(ServerMessage):
    """News from inside a tool.

    Attributes:
        payload: Whatever the tool tells: status, progress and so on.
        source: As for a piece of text.
    """

    type: Literal[EServerMessage.AGENT_EVENT_CUSTOM_UPDATE] = _type(EServerMessage.AGENT_EVENT_CUSTOM_UPDATE)
    payload: dict[str, Any]
    source: str = frames.MAIN


@dataclass(frozen=True, kw_only=True)
class MsgEventSendFile(ServerMessage):
    """The agent gives the user a file.

    Attributes:
        path: Relative to ``/workspace``; one that leads out of it never gets here.
    """

    type: Literal[EServerMessage.AGENT_EVENT_SEND_FILE] = _type(EServerMessage.AGENT_EVENT_SEND_FILE)
    path: str


@dataclass(frozen=True, kw_only=True)
class MsgEventEnd(ServerMessage):
    """The answer is complete.

    Attributes:
        tokens_used: How many tokens it took.
    """

    type: Literal[EServerMessage.AGENT_EVENT_END] = _type(EServerMessage.AGENT_EVENT_END)
    tokens_used: int


AgentEventUnion = (
    MsgEventTextChunk
    | MsgEventToolCallChunk
    | MsgEventToolResult
    | MsgEventCustomUpdate
    | MsgEventSendFile
    | MsgEventEnd
)


class OM:
    """The same messages under the names of SDK 1.0."""

    Status = MsgStatus
    Error = MsgError
    GracefulDisconnect = MsgGracefulDisconnect
    AgentEvent = AgentEventUnion
    EventTextChunk = MsgEventTextChunk
    EventToolCallChunk = MsgEventToolCallChunk
    EventToolResult = MsgEventToolResult
    EventCustomUpdate = MsgEventCustomUpdate
    EventEnd = MsgEventEnd


def message_of(event: Event) -> ServerMessage | None:
    """The message that an event came with, or None where the SDK has no name for it.

    A file that lies outside the workspace is none: it stays a row with an error.
    """
    raw = event.raw
    make = _MAKERS.get(raw.get("type", "")) if isinstance(raw, dict) else None
    if make is None or (event.type == "agent.file" and event.error):
        return None
    made = make(raw)
    return MsgEventSendFile(path=event.text) if isinstance(made, MsgEventSendFile) else made


def _call(raw: dict[str, Any]) -> MsgEventToolCallChunk:
    return MsgEventToolCallChunk(
        tool_name=raw.get("tool_name"), args_chunk=raw.get("arguments_text"), source=frames.source_of(raw)
    )


_MAKERS: Final[dict[str, Callable[[dict[str, Any]], ServerMessage]]] = {
    frames.STATUS: lambda raw: MsgStatus(),
    frames.ERROR: lambda raw: MsgError(code=raw["code"], details=raw["details"]),
    frames.GRACEFUL_DISCONNECT: lambda raw: MsgGracefulDisconnect(),
    frames.TEXT_CHUNK: lambda raw: MsgEventTextChunk(text=raw["text"], source=frames.source_of(raw)),
    frames.TOOL_CALL_CHUNK: _call,
    frames.TOOL_RESULT: lambda raw: MsgEventToolResult(
        tool_name=raw["tool_name"], result=raw.get("result"), source=frames.source_of(raw)
    ),
    frames.CUSTOM_UPDATE: lambda raw: MsgEventCustomUpdate(
        payload=raw["payload"], source=frames.source_of(raw)
    ),
    frames.SEND_FILE: lambda raw: MsgEventSendFile(path=raw["path"]),
    frames.END: lambda raw: MsgEventEnd(tokens_used=raw.get("tokens_used") or 0),
}
