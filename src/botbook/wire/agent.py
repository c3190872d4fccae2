"""The Lambda agent API, seen from the client (protocols/agent.md).

One socket is one chat, and frames carry no ids: an answer belongs to the question that has waited
longest. That, the pieces of a tool call and the text so far are all that is remembered.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

from botbook._errors import (
    AgentBusy,
    BotbookError,
    ConnectionLost,
    HandshakeError,
    NotSupported,
    RemoteProtocolError,
)
from botbook.actions import Abandon, Action, Ask
from botbook.events import ASSISTANT, SYSTEM, USER, Event, Role
from botbook.wire.agent_frames import (
    CUSTOM_UPDATE,
    END,
    ERROR,
    GRACEFUL_DISCONNECT,
    MAIN,
    SEND_FILE,
    STATUS,
    TEXT_CHUNK,
    TOOL_CALL_CHUNK,
    TOOL_RESULT,
    WORKSPACE,
    Question,
    agent_url,
    decode,
    is_complete,
    optional_text,
    question,
    required_text,
    result_error,
    result_text,
    source_of,
    workspace_path,
)
from botbook.wire.contract import Closing, Frame, HttpRequest, Opening, Outgoing, Ready, Received, Verdict

__all__ = ["MAX_ANSWER_CHARS", "READY_WITHIN", "AgentWire"]

#: The first ``STATUS`` comes within so many seconds (protocols/agent.md, opening).
READY_WITHIN: Final = 5.0

#: Longest text kept for one answer, in characters; pieces beyond it are still handed out.
MAX_ANSWER_CHARS: Final = 8 * 2**20

#: Statuses of a refused upgrade that another try may overcome. 403 is a busy chat, and so is close 1008.
_PASSING: Final = frozenset({403, 408, 409, 425, 429})

_STOPPING: Final = "the agent is about to stop"


@dataclass(slots=True)
class _Call:
    """A tool call that is being written."""

    name: str
    pieces: list[str] = field(default_factory=list)

    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class _Run:
    """An answer that is coming."""

    ask_id: str
    prefix: str
    answer_id: str = ""
    abandoned: bool = False
    frames: int = 0
    calls: int = 0
    chars: int = 0
    pieces: list[str] = field(default_factory=list)
    writing: dict[str, _Call] = field(default_factory=dict)
    called: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answer_id = f"{self.prefix}.answer"

    def next_id(self) -> str:
        self.frames += 1
        return f"{self.prefix}:{self.frames}"

    def add(self, text: str) -> None:
        if self.chars < MAX_ANSWER_CHARS:
            self.pieces.append(text)
        self.chars += len(text)

    def call_of(self, name: str) -> str:
        """Id of the oldest call of a tool that has no result yet."""
        for index, (called, ident) in enumerate(self.called):
            if called == name:
                del self.called[index]
                return ident
        return ""


_Reader = Callable[[_Run, dict[str, Any], str, datetime], list[Received]]


class AgentWire:
    """The five pure methods of `botbook.wire.contract.Wire` for one chat with an agent.

    Args:
        base_url: Base of SDK 1.1, or a whole address of SDK 1.0 (it ends in ``agent_ws/``).
        chat_id: Which chat.
        name: Name of the connection, as it stands in events.
        gateway: Name of the gateway, as it stands in events.
        user_id: Who asks, as it stands in events.
    """

    #: Frames carry no ids, so those of events are made here and never come twice.
    own_ids: Final = True

    can: ClassVar = frozenset({Ask, Abandon})

    def __init__(
        self,
        *,
        base_url: str,
        chat_id: str | int = "0",
        name: str = "agent",
        gateway: str = "agent",
        user_id: str = "me",
    ) -> None:
        self.gateway = gateway
        self.name = name
        self.url = agent_url(base_url, chat_id)
        self._chat_id = str(chat_id)
        self._user_id = user_id
        self._ready = False
        self._runs: deque[_Run] = deque()
        self._unasked: _Run | None = None
        self._times = 0
        self._readers: dict[str, _Reader] = {
            TEXT_CHUNK: self._text,
            TOOL_CALL_CHUNK: self._call_piece,
            TOOL_RESULT: self._result,
            CUSTOM_UPDATE: self._update,
            SEND_FILE: self._file,
            END: self._end,
            ERROR: self._error,
            GRACEFUL_DISCONNECT: self._stopping,
        }

    @property
    def asking(self) -> str:
        """Id of the `Ask` whose answer is coming, abandoned ones too; "" when the agent is idle."""
        return self._runs[0].ask_id if self._runs else ""

    # ------------------------------------------------------------------------ opening

    def token_request(self) -> HttpRequest | None:
        """The protocol knows no credentials."""
        return None

    def opening(self, token: str | None) -> Opening:
        """How to open the socket. What was still coming on the last one is forgotten."""
        self._ready = False
        self._runs.clear()
        self._unasked = None
        return Opening(url=self.url, ready_within=READY_WITHIN)

    def ping(self) -> Frame | None:
        """No heartbeat of its own: WebSocket pings do."""
        return None

    def closing(self, code: int, reason: str) -> Verdict:
        """An address that refuses for good is final; a busy chat and a lost link are not."""
        refused = 300 <= code < 500 and code not in _PASSING
        return Verdict.FATAL if refused else Verdict.RETRY

    # ------------------------------------------------------------------------ sending

    def send(self, action: Action, *, at: datetime) -> list[Outgoing]:
        """Say an action.

        Raises:
            AgentBusy: An answer is coming, and nobody has abandoned it.
            LocalProtocolError: An attachment lies outside ``/workspace``.
            NotSupported: The gateway has no such action.
        """
        match action:
            case Ask():
                return self._ask(action, at)
            case Abandon():
                self._abandon(action)
                return []
        raise NotSupported(type(action).__name__.lower(), self.gateway)

    def _ask(self, action: Ask, at: datetime) -> list[Outgoing]:
        if any(not run.abandoned for run in self._runs):
            raise AgentBusy(f"chat {self._chat_id} is answering already", code="BUSY")
        frame = question(Question(action.text, action.attachments))
        self._runs.append(_Run(ask_id=action.id, prefix=action.id))
        asked = self._event(
            action.id, "message.sent", at, role=USER, user_id=self._user_id, message_id=action.id,
            text=action.text, raw_json=frame,
        )  # fmt: skip
        return [frame, asked]

    def _abandon(self, action: Abandon) -> None:
        for run in self._runs:
            run.abandoned = run.abandoned or run.ask_id == action.ask_id

    # ------------------------------------------------------------------------ receiving

    def receive(self, frame: Frame, *, at: datetime) -> list[Received]:
        """Read one frame.

        Args:
            frame: As it came.
            at: When it came; frames bring no time of their own.

        Raises:
            RemoteProtocolError: It is malformed.
        """
        if not self._ready:
            return self._first(frame)
        message = decode(frame)
        assert isinstance(frame, str)
        reader = self._readers.get(message["type"], self._unknown)
        try:
            return reader(self._run(at), message, frame, at)
        except RecursionError:
            raise RemoteProtocolError("a frame that is nested too deeply", frame=frame) from None

    def _first(self, frame: Frame) -> list[Received]:
        """The first frame must be a status."""
        if not isinstance(frame, str):
            return _refused(HandshakeError("UNEXPECTED_MSG_TYPE: the first frame is not text"))
        try:
            kind = decode(frame)["type"]
        except RemoteProtocolError as error:
            return _refused(HandshakeError(f"INVALID_STATUS: {error}"))
        if kind != STATUS:
            return _refused(HandshakeError(f"INVALID_STATUS: the first frame is {frame[:200]}"))
        self._ready = True
        return [Ready()]

    def _run(self, at: datetime) -> _Run:
        """The answer that a frame belongs to; what nobody asked for makes up one of its own."""
        if self._runs:
            return self._runs[0]
        if self._unasked is None:
            self._times += 1
            self._unasked = _Run(ask_id="", prefix=f"{at.timestamp():.6f}-{self._times}")
        return self._unasked

    def _text(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        text, source = required_text(message, "text", frame), source_of(message)
        before = self._written(run, at, source)
        if source != MAIN:
            return [*before, self._step(run, "agent.progress", at, frame, text=text, user_name=source)]
        run.add(text)
        return [*before, self._said(run, "message.delta", at, frame, text=text)]

    def _call_piece(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        name, piece = optional_text(message, "tool_name", frame), optional_text(message, "args_chunk", frame)
        source = source_of(message)
        call, before = run.writing.get(source), []
        if call is None or (name and not (name == call.name and not is_complete(call.arguments()))):
            before = self._written(run, at, source)
            call = run.writing[source] = _Call(name or "")
        call.pieces.append(piece or "")
        return before

    def _written(self, run: _Run, at: datetime, source: str | None = None) -> list[Received]:
        """The calls of a source, or of all, that are written to their end now that something else came."""
        sources = [source] if source is not None else list(run.writing)
        return [
            self._called(run, at, name, call) for name in sources if (call := run.writing.pop(name, None))
        ]

    def _called(self, run: _Run, at: datetime, source: str, call: _Call) -> Event:
        """One event for all pieces of a call; arguments that are no JSON are kept as text."""
        run.calls += 1
        ident, arguments = f"{run.prefix}.call{run.calls}", call.arguments()
        run.called.append((call.name, ident))
        whole = {
            "type": TOOL_CALL_CHUNK,
            "tool_name": call.name,
            "source": source,
            "arguments": json.loads(arguments) if is_complete(arguments) else None,
            "arguments_text": arguments,
        }
        return self._step(
            run, "agent.tool_call", at, json.dumps(whole, ensure_ascii=False),
            text=arguments, user_name=call.name, message_id=ident,
        )  # fmt: skip

    def _result(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        name, result = required_text(message, "tool_name", frame), message.get("result")
        before = self._written(run, at)
        return [
            *before,
            self._step(
                run, "agent.tool_result", at, frame, text=result_text(result), user_name=name,
                message_id=run.call_of(name), error=result_error(result),
            ),
        ]  # fmt: skip

    def _update(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        payload = message.get("payload")
        if not isinstance(payload, dict):
            raise RemoteProtocolError("an update whose payload is no object", frame=frame)
        text = payload.get("status", payload.get("message", ""))
        source = source_of(message)
        name = "" if source == MAIN else source
        before = self._written(run, at)
        step = self._step(run, "agent.progress", at, frame, text=result_text(text), user_name=name)
        return [*before, step]

    def _file(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        path = required_text(message, "path", frame)
        inside = workspace_path(path)
        error = "" if inside else f"the path is not inside {WORKSPACE}"
        before = self._written(run, at)
        return [*before, self._step(run, "agent.file", at, frame, text=inside or path, error=error)]

    def _end(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        tokens = message.get("tokens_used")
        if isinstance(tokens, bool) or not isinstance(tokens, int | None):
            raise RemoteProtocolError("an end whose tokens_used is no number", frame=frame)
        cut = run.chars - len("".join(run.pieces))
        error = f"the answer is longer than {MAX_ANSWER_CHARS} characters; {cut} are missing" if cut else ""
        return self._finish(run, at, frame, error=error, tokens=tokens)

    def _error(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        code, details = required_text(message, "code", frame), required_text(message, "details", frame)
        error = f"{code}: {details}"
        if run is self._unasked:
            return [self._step(run, "platform.specific", at, frame, role=SYSTEM, text=details, error=error)]
        if "BUSY" in code.upper():
            run = self._runs[-1]
        return self._finish(run, at, frame, error=error)

    def _stopping(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """What was still coming will not come."""
        said = self._step(run, "platform.specific", at, frame, role=SYSTEM, text=_STOPPING)
        events: list[Received] = [said]
        for waiting in list(self._runs):
            events += self._finish(waiting, at, frame, error=f"{GRACEFUL_DISCONNECT}: {_STOPPING}")
        return [*events, Closing(Verdict.RETRY, ConnectionLost(1001, _STOPPING))]

    def _unknown(self, run: _Run, message: dict[str, Any], frame: str, at: datetime) -> list[Received]:
        """What this version does not know, and a status that comes again: kept whole."""
        return [self._step(run, "platform.specific", at, frame, role=SYSTEM, text=message["type"])]

    # ------------------------------------------------------------------------ events

    def _finish(
        self, run: _Run, at: datetime, frame: str, *, error: str = "", tokens: int | None = None
    ) -> list[Received]:
        """The whole answer, as one row, whether it came to its end or not."""
        before = self._written(run, at)
        if run is self._unasked:
            self._unasked = None
        else:
            self._runs.remove(run)
        kind = "message.received" if run.ask_id or run.pieces else "platform.specific"
        text = "".join(run.pieces)
        return [*before, self._said(run, kind, at, frame, text=text, error=error, tokens=tokens)]

    def _said(self, run: _Run, kind: str, at: datetime, frame: str, **fields: Any) -> Event:
        return self._step(run, kind, at, frame, message_id=run.answer_id, **fields)

    def _step(
        self, run: _Run, kind: str, at: datetime, frame: str, *, role: Role = ASSISTANT, **fields: Any
    ) -> Event:
        return self._event(run.next_id(), kind, at, role=role, reply_to=run.ask_id, raw_json=frame, **fields)

    def _event(self, event_id: str, kind: str, at: datetime, **fields: Any) -> Event:
        return Event(
            event_id=event_id,
            type=kind,
            at=at,
            received_at=at,
            gateway=self.gateway,
            bot=self.name,
            chat_type="private",
            chat_id=self._chat_id,
            **fields,
        )


def _refused(error: BotbookError) -> list[Received]:
    return [Closing(Verdict.RETRY, error)]
