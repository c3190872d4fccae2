"""LangBot chat frames: what they look like, and both ways between them and values (protocols/langbot.md 4).

Neutral between the roles: the client reads here what a server writes, and the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NotRequired, TypedDict

from botbook._errors import RemoteProtocolError
from botbook.messages import At, AtAll, Component, Image, MessageChain, Plain, Unknown
from botbook.wire.contract import Frame

__all__ = [
    "AUTHENTICATE",
    "BOT_TARGET",
    "BROADCAST",
    "CONNECTED",
    "DISCONNECT",
    "ERROR",
    "MESSAGE",
    "PERSON",
    "PING",
    "PONG",
    "RESPONSE",
    "USER_MESSAGE",
    "Authenticate",
    "Connected",
    "MessageData",
    "Said",
    "authenticate",
    "chain_text",
    "decode",
    "encode",
    "leading_at",
    "local_time",
    "message",
    "read_chain",
    "read_message",
    "read_said",
    "said",
    "write_chain",
]

AUTHENTICATE: Final = "authenticate"
MESSAGE: Final = "message"
PING: Final = "ping"
DISCONNECT: Final = "disconnect"
CONNECTED: Final = "connected"
USER_MESSAGE: Final = "user_message"
RESPONSE: Final = "response"
PONG: Final = "pong"
BROADCAST: Final = "broadcast"
ERROR: Final = "error"

PERSON: Final = "person"

#: Whom to mention in a group so that the pipeline answers.
BOT_TARGET: Final = "websocketbot"


class Authenticate(TypedDict):
    """First frame of a client since 4.10.7; older servers ignore it."""

    type: str
    token: str
    workspace_uuid: NotRequired[str]


class Connected(TypedDict):
    """First frame of a server; ``bot_uuid`` in place of ``pipeline_uuid`` on the embed socket."""

    type: str
    connection_id: str
    pipeline_uuid: NotRequired[str]
    bot_uuid: NotRequired[str]
    session_type: str
    timestamp: str


class MessageData(TypedDict):
    """``data`` of ``user_message`` and ``response``, and a row of the history.

    ``content`` and ``message_chain`` are cumulative; ``timestamp`` is the server's local time.
    """

    id: int
    role: str
    content: str
    message_chain: list[dict[str, Any]]
    timestamp: str
    is_final: bool
    connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message as the server tells it.

    Attributes:
        number: Counts per pipeline and session type; starts anew after a reset.
        role: ``user`` or ``assistant``.
        content: The text so far, a leading mention included.
        components: The chain so far, as JSON.
        timestamp: Server's local time of its first frame, as text.
        is_final: Nothing follows.
        connection_id: Who asked; "" for answers.
    """

    number: int
    role: str
    content: str
    components: tuple[Any, ...] = ()
    timestamp: str = ""
    is_final: bool = True
    connection_id: str = ""


def encode(kind: str, **fields: Any) -> str:
    """Write a frame."""
    return json.dumps({"type": kind, **fields}, ensure_ascii=False)


def decode(frame: Frame) -> dict[str, Any]:
    """Read a frame as an object; one without a ``type`` is a ``message``.

    Raises:
        RemoteProtocolError: It is no JSON object, or its ``type`` is no text.
    """
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("a frame that is no JSON", frame=frame) from None
    if not isinstance(value, dict):
        raise RemoteProtocolError("a frame that is no object", frame=frame)
    if not isinstance(value.setdefault("type", MESSAGE), str):
        raise RemoteProtocolError("a frame whose type is no text", frame=frame)
    return value


def authenticate(token: str, workspace: str = "") -> str:
    """Write the first frame of a client."""
    return encode(AUTHENTICATE, token=token, workspace_uuid=workspace)


def message(components: Iterable[dict[str, Any]], *, stream: bool = True) -> str:
    """Write what a client says."""
    more = {} if stream else {"stream": False}
    return encode(MESSAGE, message=list(components), **more)


def read_message(value: dict[str, Any], frame: Frame) -> tuple[list[dict[str, Any]], bool]:
    """Read what a client says: its components, and whether it wants a stream.

    Raises:
        RemoteProtocolError: They are no list of objects with a type.
    """
    components = value.get("message")
    if not isinstance(components, list) or not all(_is_component(item) for item in components):
        raise RemoteProtocolError("a message that is no list of components", frame=frame)
    return components, value.get("stream") is not False


def said(what: Said) -> MessageData:
    """Write a message for ``user_message``, ``response`` and the history."""
    return {
        "id": what.number,
        "role": what.role,
        "content": what.content,
        "message_chain": list(what.components),
        "timestamp": what.timestamp,
        "is_final": what.is_final,
        "connection_id": what.connection_id,
    }


def read_said(data: Any, frame: object) -> Said:
    """Read a message of the server.

    Raises:
        RemoteProtocolError: It has no number, or a field has the wrong shape.
    """
    if not isinstance(data, dict):
        raise RemoteProtocolError("a message that is no object", frame=frame)
    number, content = data.get("id"), data.get("content", "")
    chain, final = data.get("message_chain") or [], data.get("is_final", True)
    if isinstance(number, bool) or not isinstance(number, int) or not isinstance(content, str):
        raise RemoteProtocolError("a message without a number or text", frame=frame)
    if not isinstance(chain, list) or not isinstance(final, bool):
        raise RemoteProtocolError("a message whose chain or is_final has the wrong shape", frame=frame)
    return Said(
        number=number,
        role=_text(data.get("role")),
        content=content,
        components=tuple(chain),
        timestamp=_text(data.get("timestamp")),
        is_final=final,
        connection_id=_text(data.get("connection_id")),
    )


# ---------------------------------------------------------------------------- components


def read_chain(components: Iterable[Any]) -> MessageChain:
    """Components from their JSON; what is not known is kept as it came."""
    return MessageChain(_component(item) for item in components)


def _component(item: Any) -> Component:
    kind = item.get("type") if isinstance(item, dict) else None
    if kind == "Plain" and isinstance(item.get("text"), str):
        return Plain(text=item["text"])
    if kind == "At" and isinstance(item.get("target"), str | int):
        return At(target=str(item["target"]), display=_text(item.get("display")))
    if kind == "AtAll":
        return AtAll()
    if kind == "Image":
        where = _where(item)
        return Image(url=where, mime_type=_mime_type(where))
    return Unknown(raw=item)


def _where(item: dict[str, Any]) -> str:
    """Where a picture is: an address, a key of the file store, a data address; 4.10.11 echoes none."""
    return next((text for key in ("url", "path", "base64") if (text := _text(item.get(key)))), "")


def _mime_type(where: str) -> str:
    if where.startswith("data:"):
        return where[5:].partition(";")[0].partition(",")[0] or "image/jpeg"
    kind = where.rpartition(".")[2].lower()
    return f"image/{kind}" if kind in ("png", "gif", "webp") else "image/jpeg"


def write_chain(chain: Iterable[Component]) -> list[dict[str, Any]]:
    """Components as JSON; a picture goes by the key under which the server holds it."""
    return [_written(part) for part in chain]


def _written(part: Component) -> dict[str, Any]:
    match part:
        case Plain():
            return {"type": "Plain", "text": part.text}
        case At():
            return {"type": "At", "target": part.target, "display": part.display}
        case Image():
            return {"type": "Image", "path": part.url}
        case Unknown(raw=dict() as raw):
            return raw
    return {"type": part.type}


def leading_at(components: Sequence[Any]) -> str:
    """Whom the first component mentions, or ""."""
    first = components[0] if components else None
    return _text(first.get("target")) if isinstance(first, dict) and first.get("type") == "At" else ""


def chain_text(components: Iterable[Any]) -> str:
    """How the server shows components as ``content`` (seen on 4.10.1 to 4.11.2)."""
    return "".join(_shown(item) for item in components)


def _shown(item: dict[str, Any]) -> str:
    match item:
        case {"type": "Plain", "text": str(text)}:
            return text
        case {"type": "At", "target": target}:
            return f"@{target}"
        case {"type": "AtAll"}:
            return "@all"
    return f"[{item['type']}]"


def local_time(text: str) -> datetime | None:
    """A time of the server, with the zone it came with or none; None if it cannot be read."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _is_component(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("type"), str)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
