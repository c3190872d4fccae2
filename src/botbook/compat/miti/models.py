"""What an agent's handlers get: the frames as objects (protocols/miti.md 4 and 8)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from botbook.compat.miti.builders import (
    build_assistant_completed_event,
    build_assistant_delta_event,
    build_assistant_failed_event,
    build_assistant_started_event,
)

__all__ = [
    "AgentEvent",
    "AssistantCancelEvent",
    "EventHeader",
    "EventMessage",
    "EventSender",
    "GroupAtEvent",
    "HistoryMessage",
    "MessageEvent",
    "agent_event",
]

T = TypeVar("T")


class Agent(Protocol):
    """What an event needs of its agent."""

    app_id: str

    @property
    def send_message(self) -> Callable[..., Awaitable[dict[str, Any]]]: ...
    @property
    def send_markdown_reply(self) -> Callable[..., Awaitable[dict[str, Any]]]: ...
    @property
    def send_gateway_event(self) -> Callable[..., Awaitable[None]]: ...


@dataclass
class EventHeader:
    """Head of a frame; `create_time` is epoch milliseconds as text."""

    event_id: str = ""
    event_type: str = ""
    app_id: str = ""
    create_time: str = ""


@dataclass
class EventSender:
    """Who wrote."""

    user_id: str = ""
    name: str = ""


@dataclass
class EventMessage:
    """The message itself."""

    message_id: str = ""
    conversation_id: str = ""
    session_type: str = ""
    msg_type: str = ""
    content: dict[str, Any] = field(default_factory=dict)
    send_time: str = ""


@dataclass
class MessageEvent:
    """Body of ``im.message.receive``."""

    sender: EventSender = field(default_factory=EventSender)
    message: EventMessage = field(default_factory=EventMessage)


@dataclass
class GroupAtEvent:
    """Body of ``im.message.group_at``."""

    group_id: str = ""
    at_user_id: str = ""
    sender: EventSender = field(default_factory=EventSender)
    message: EventMessage = field(default_factory=EventMessage)


@dataclass
class AssistantCancelEvent:
    """Body of ``assistant.cancel``: the asker stopped an answer."""

    run_id: str = ""
    ask_msg_id: str = ""
    conversation_id: str = ""


@dataclass
class HistoryMessage:
    """One earlier message; `content` as the gateway gives it, such as ``{"text": "…"}``.

    The id and the time (epoch milliseconds as text) stand here too where the gateway tells them.
    """

    role: str = ""
    content: Any = None
    sender_name: str = ""
    message_id: str = ""
    send_time: str = ""


@dataclass
class AgentEvent:
    """One frame.

    Called in an ``async def`` handler, the ``reply…`` methods are awaited; called in a plain
    ``def``, they have acted when they return.

    Attributes:
        schema: Version of the envelope.
        header: Its head.
        event: Its body; that of an unknown type is read as a `MessageEvent` as far as it goes.
        raw: The whole frame.
    """

    schema: str = "1.0"
    header: EventHeader = field(default_factory=EventHeader)
    event: Any = None
    _agent: Agent | None = field(default=None, repr=False, compare=False)
    raw: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_single(self) -> bool:
        """Whether it is a message of a direct chat."""
        return self.header.event_type == "im.message.receive"

    @property
    def is_group_at(self) -> bool:
        """Whether it is a mention in a group."""
        return self.header.event_type == "im.message.group_at"

    def reply(self, text: str, *, use_markdown: bool = True) -> Any:
        """Answer in the same chat.

        Returns:
            ``{"message_id": …, "server_time": …}``, as far as the gateway tells.

        Raises:
            ValueError: The event names nobody to answer.
            ApiError: The gateway refused it.
        """
        return _acted(self._reply(text, use_markdown))

    async def _reply(self, text: str, use_markdown: bool) -> dict[str, Any]:
        to, question = self._address()
        if use_markdown:
            return await self._its_agent().send_markdown_reply(text, **to, ask_msg_id=question)
        return await self._its_agent().send_message(**to, content={"text": text})

    def reply_started(self, *, run_id: str, assistant_msg_id: str = "") -> Any:
        """Begin a streamed answer.

        Returns:
            The `assistant_msg_id` to carry through the answer: the given one, or a new one.
        """
        return _acted(
            self._stream(build_assistant_started_event, run_id=run_id, assistant_msg_id=assistant_msg_id)
        )

    def reply_delta(
        self,
        delta: str,
        *,
        seq: int,
        run_id: str,
        assistant_msg_id: str,
        show_type: str = "markdown",
        event: str = "delta",
        is_completed: bool = False,
    ) -> Any:
        """Send a piece of a streamed answer. Nobody waits for it; the last frame says it all again."""
        return _acted(
            self._stream(
                build_assistant_delta_event,
                delta=delta,
                seq=seq,
                run_id=run_id,
                assistant_msg_id=assistant_msg_id,
                show_type=show_type,
                event=event,
                is_completed=is_completed,
            )
        )

    def reply_completed(
        self,
        markdown: str,
        *,
        seq: int,
        run_id: str,
        assistant_msg_id: str,
        reasoning: str = "",
        finish_reason: str = "stop",
    ) -> Any:
        """End a streamed answer with its whole text; waits for the acknowledgement.

        Raises:
            FrameRefused: The gateway refused it; also an `ApiError` and a RuntimeError.
            AckTimeout: It was never acknowledged; also a `DeadlineExceeded` and a TimeoutError.
        """
        return _acted(
            self._stream(
                build_assistant_completed_event,
                markdown=markdown,
                seq=seq,
                run_id=run_id,
                assistant_msg_id=assistant_msg_id,
                reasoning=reasoning,
                finish_reason=finish_reason,
            )
        )

    def reply_failed(
        self,
        *,
        run_id: str,
        seq: int = 0,
        error_code: str = "error",
        message: str = "",
        assistant_msg_id: str = "",
    ) -> Any:
        """End a streamed answer that failed; waits for the acknowledgement, as `reply_completed`.

        Returns:
            The `assistant_msg_id` that was used.
        """
        return _acted(
            self._stream(
                build_assistant_failed_event,
                run_id=run_id,
                seq=seq,
                error_code=error_code,
                message=message,
                assistant_msg_id=assistant_msg_id,
            )
        )

    async def _stream(
        self, build: Callable[..., dict[str, Any]], *, assistant_msg_id: str, **fields: Any
    ) -> str:
        to, question = self._address()
        agent = self._its_agent()
        assistant_msg_id = assistant_msg_id or str(uuid.uuid4())
        frame = build(
            agent_id=agent.app_id,
            user_id=self.event.sender.user_id,
            conversation_id=self.event.message.conversation_id,
            ask_msg_id=question,
            assistant_msg_id=assistant_msg_id,
            to_group_id=to.get("to_group_id", ""),
            **fields,
        )
        acknowledged = frame["header"]["event_type"] in ("assistant.completed", "assistant.failed")
        await agent.send_gateway_event(frame, wait_for_ack=acknowledged)
        return assistant_msg_id

    def _address(self) -> tuple[dict[str, str], str]:
        """Whom to answer, and which message."""
        if not isinstance(self.event, MessageEvent | GroupAtEvent):
            raise ValueError(f"{self.header.event_type} is no message, so it cannot be answered")
        question = self.event.message.message_id
        if isinstance(self.event, GroupAtEvent):
            return {"to_group_id": self.event.group_id}, question
        if not self.event.sender.user_id:
            raise ValueError(f"this {self.header.event_type} names nobody, so it cannot be answered")
        return {"to_user_id": self.event.sender.user_id}, question

    def _its_agent(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("this event did not come through an agent")
        return self._agent


def _acted(work: Coroutine[Any, Any, T]) -> Any:
    """What a handler gets: an awaitable where a loop runs, else the result."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    return work


def agent_event(envelope: dict[str, Any], agent: Agent | None = None) -> AgentEvent:
    """Build the object for a frame. Missing fields become ""."""
    header = _filled(EventHeader, envelope.get("header"))
    body = envelope.get("event")
    body = body if isinstance(body, dict) else {}
    return AgentEvent(
        schema=_text(envelope.get("schema")) or "1.0",
        header=header,
        event=_body(header.event_type, body),
        _agent=agent,
        raw=envelope,
    )


def _body(event_type: str, body: dict[str, Any]) -> MessageEvent | GroupAtEvent | AssistantCancelEvent:
    if event_type == "assistant.cancel":
        cancel: AssistantCancelEvent = _filled(AssistantCancelEvent, body)
        return cancel
    sender, message = _filled(EventSender, body.get("sender")), _filled(EventMessage, body.get("message"))
    if not isinstance(message.content, dict):
        message.content = {}
    if event_type == "im.message.group_at" or (body.get("group_id") and event_type != "im.message.receive"):
        return GroupAtEvent(_text(body.get("group_id")), _text(body.get("at_user_id")), sender, message)
    return MessageEvent(sender, message)


def _filled(kind: type[Any], given: Any) -> Any:
    given = given if isinstance(given, dict) else {}
    names = kind.__dataclass_fields__
    return kind(
        **{name: given[name] if name == "content" else _text(given[name]) for name in names if name in given}
    )


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
