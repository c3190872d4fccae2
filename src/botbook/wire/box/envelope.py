"""Questions, answers and what stands around them (protocols/box.md 1, 3, 4, 11)."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlsplit, urlunsplit

from botbook._errors import RemoteProtocolError, SandboxError
from botbook.wire.box.text import parses
from botbook.wire.box.values import Context

__all__ = [
    "ERROR_NAMES",
    "EXTENSIONS",
    "SKILL_ACTIONS",
    "Chunk",
    "Dialect",
    "Reply",
    "Request",
    "RequestJoiner",
    "decode",
    "encode_chunk",
    "encode_error",
    "encode_reply",
    "encode_request",
    "error_of",
    "identity_headers",
    "probe",
    "relay_url",
]

#: A vendor client cuts what it sends into separate messages of this size (protocols/box.md 4).
SPLIT_BYTES: Final = 65_536
ERROR_CHARS: Final = 4096
#: Error names in the order in which the vendor client looks for them (protocols/box.md 11).
ERROR_NAMES: Final = (
    "BoxAdmissionError",
    "BoxReadinessError",
    "BoxCapacityExceededError",
    "BoxValidationError",
    "BoxSessionNotFoundError",
    "BoxSessionConflictError",
    "BoxManagedProcessNotFoundError",
    "BoxManagedProcessConflictError",
    "BoxBackendUnavailableError",
)
SKILL_ACTIONS: Final = (
    "box_list_skills",
    "box_get_skill",
    "box_create_skill",
    "box_update_skill",
    "box_delete_skill",
    "box_scan_skill_directory",
    "box_list_skill_files",
    "box_read_skill_file",
    "box_write_skill_file",
    "box_preview_skill_zip",
    "box_install_skill_zip",
)
#: What the embedded runtime adds. It says so in ``box_health``, and a client uses only what was said.
EXTENSIONS: Final = ("keep_after_timeout", "stdin", "stream", "whole_output")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A question.

    Attributes:
        seq_id: Comes back with the reply, whatever it is.
        action: Its name.
        data: Its arguments; None if the peer forgot them.
        context: Who it is for, or None.
    """

    seq_id: Any
    action: str
    data: dict[str, Any] | None = field(repr=False)
    context: Context | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer.

    Attributes:
        seq_id: Of the question.
        code: 0, or 1 for an error.
        message: ``success``, or the error as ``Name: text``.
        data: The answer; empty on an error.
        final: False where more of a stream follows.
    """

    seq_id: Any
    code: int
    message: str = "success"
    data: dict[str, Any] = field(default_factory=dict, repr=False)
    final: bool = False

    def result(self) -> dict[str, Any]:
        """The answer.

        Raises:
            SandboxError: It is an error; `code` is the runtime's name for it.
        """
        if not self.code:
            return self.data
        name, text = error_of(self.message)
        raise SandboxError(text, code=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Output of a command that still runs (an extension; a frame that other peers drop).

    Attributes:
        seq_id: Of the request that runs it.
        stream: ``stdout`` or ``stderr``.
        text: Next piece of it.
    """

    seq_id: Any
    stream: str
    text: str


def encode_request(request: Request) -> str:
    """A question as text."""
    body: dict[str, Any] = {"seq_id": request.seq_id, "action": request.action, "data": request.data or {}}
    if request.context is not None:
        body["context"] = request.context.to_json()
    return _text(body)


def _text(body: Any) -> str:
    """JSON that a socket takes: escaped only where a lone surrogate would not be UTF-8."""
    text = json.dumps(body, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(body)
    return text


def encode_reply(seq_id: Any, data: Mapping[str, Any]) -> str:
    """A good answer as text.

    Not ASCII-escaped: a control character takes six bytes either way, everything else at most four.
    """
    return _text(
        {"seq_id": seq_id, "code": 0, "message": "success", "data": data, "chunk_status": "continue"}
    )


def encode_error(seq_id: Any, name: str, text: str) -> str:
    """A refusal as text. No other error's name with a colon can reach a vendor client in it."""
    words = re.sub(rf"\b({'|'.join(ERROR_NAMES)}):", r"\1 :", text)
    message = f"{name}: {words}"[:ERROR_CHARS]
    return json.dumps(
        {"seq_id": seq_id, "code": 1, "message": message, "data": {}, "chunk_status": "continue"}
    )


def encode_chunk(chunk: Chunk) -> str:
    """Output so far as text."""
    return _text({"output": {"seq_id": chunk.seq_id, "stream": chunk.stream, "text": chunk.text}})


def decode(frame: str | bytes) -> Request | Reply | Chunk:
    """Read one message of either side.

    Raises:
        RemoteProtocolError: Not text, not JSON, no object, or neither question nor answer.
        SandboxError: A question whose context names nobody.
    """
    if isinstance(frame, bytes):
        raise RemoteProtocolError("a binary frame on the control socket", frame=frame)
    try:
        body = json.loads(frame)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("not JSON", frame=frame) from None
    if not isinstance(body, dict):
        raise RemoteProtocolError("not an object", frame=frame)
    if "code" in body:
        return _reply(body, frame)
    if isinstance(body.get("action"), str):
        return _request(body)
    if isinstance(said := body.get("output"), dict):
        return Chunk(seq_id=said.get("seq_id"), stream=str(said.get("stream")), text=str(said.get("text")))
    raise RemoteProtocolError("neither a request nor a reply", frame=frame)


def _reply(body: dict[str, Any], frame: str) -> Reply:
    data, code = body.get("data"), body["code"]
    if not isinstance(code, int) or not (data is None or isinstance(data, dict)):
        raise RemoteProtocolError("a reply of the wrong form", frame=frame)
    return Reply(
        seq_id=body.get("seq_id"),
        code=code,
        message=str(body.get("message", "")),
        data=data or {},
        final=body.get("chunk_status") == "end",
    )


def _request(body: dict[str, Any]) -> Request:
    data, context = body.get("data"), body.get("context")
    return Request(
        seq_id=body.get("seq_id", -1),
        action=body["action"],
        data=data if isinstance(data, dict) else None,
        context=None if context is None else Context.from_json(context),
    )


def error_of(message: str) -> tuple[str, str]:
    """Split an error text into name and words, as the vendor client does: by search (box.md 11)."""
    for name in ERROR_NAMES:
        if f"{name}:" in message:
            return name, message.split(f"{name}:", 1)[1].strip()
    name, colon, text = message.partition(": ")
    return (name, text) if colon and name.isidentifier() else ("BoxError", message)


class RequestJoiner:
    """Mends requests that an old client cut into several messages (box.md 4).

    Args:
        limit: Longest request, in characters.
    """

    def __init__(self, *, limit: int = 4 * 1024 * 1024) -> None:
        self._limit = limit
        self._parts: list[str] = []
        self._size = 0

    def feed(self, text: str) -> str | None:
        """Take one message; gives a whole request, or None while parts are missing."""
        if not self._parts and not _is_cut(text):
            return text
        self._parts.append(text)
        self._size += len(text)
        if self._size > self._limit:
            self._reset()
            return None
        whole = "".join(self._parts) if text.endswith("}") else ""
        done = parses(whole)
        if done or len(text.encode()) != SPLIT_BYTES:
            self._reset()
        return whole if done else None

    def _reset(self) -> None:
        self._parts, self._size = [], 0


def _is_cut(text: str) -> bool:
    return len(text) <= SPLIT_BYTES and len(text.encode()) == SPLIT_BYTES and not parses(text)


def identity_headers(context: Context, token: str | None = None) -> dict[str, str]:
    """Headers for the upgrade of both sockets; old runtimes ignore them."""
    headers = {
        "X-LangBot-Instance-Id": context.instance,
        "X-LangBot-Workspace-Id": context.workspace,
        "X-LangBot-Placement-Generation": str(context.generation),
    }
    return headers | ({"X-LangBot-Box-Control-Token": token} if token else {})


def relay_url(rpc_url: str, session: str, process: str) -> str:
    """Where the relay of a managed process is, beside the control socket."""
    parts = urlsplit(rpc_url)
    prefix = parts.path.removesuffix("/").removesuffix("/rpc/ws")
    path = f"{prefix}/v1/sessions/{quote(session, safe='')}/managed-process/{quote(process, safe='')}/ws"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a runtime was found to speak (box.md 1).

    Attributes:
        name: ``legacy``, ``tenant`` or ``tenant+skills``, or ``botbook`` for the embedded one.
        context: Whether requests carry who they are for.
        skills: Whether the skill actions are there.
        extensions: Which of `EXTENSIONS`.
    """

    name: str
    context: bool
    skills: bool
    extensions: frozenset[str] = frozenset()


def probe(context: Context) -> Generator[Request, Reply, Dialect]:
    """Harmless questions, one after the other; the caller sends each reply in, the dialect comes out."""
    health = yield Request(seq_id=0, action="box_health", data={})
    said = health.data.get("extensions")
    extensions = frozenset(EXTENSIONS).intersection(said) if isinstance(said, list) else frozenset()
    bare = yield Request(seq_id=0, action="box_status", data={})
    tenant = bool(bare.code) and error_of(bare.message)[0] == "PermissionError"
    skill = yield Request(
        seq_id=0, action="box_list_skills", data={}, context=context if tenant or extensions else None
    )
    skills = not (skill.code and skill.message.endswith("not found"))
    if extensions:
        return Dialect("botbook", True, skills, extensions)
    if not tenant:
        return Dialect("legacy", False, skills)
    return Dialect("tenant+skills" if skills else "tenant", True, skills)
