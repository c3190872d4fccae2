"""What an agent's handlers get: the frames as objects (protocols/miti.md 4 and 8)."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

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
    """One earlier message. The ids and times stand here too where the gateway tells them."""

    role: str = ""
    content: str = ""
    sender_name: str = ""
    message_id: str = ""
    send_time: str = ""


@dataclass
class AgentEvent:
    """One frame. An unknown type keeps its whole body in `event`, as a dict."""

    schema: str = "1.0"
    header: EventHeader = field(default_factory=EventHeader)
    event: Any = None
    _agent: Agent | None = field(default=None, repr=False, compare=False)

    @property
    def is_single(self) -> bool:
        """Whether it is a message of a direct chat."""
        return isinstance(self.event, MessageEvent)

    @property
    def is_group_at(self) -> bool:
        """Whether it is a mention in a group."""
        return isinstance(self.event, GroupAtEvent)

    async def reply(self, text: str, *, use_markdown: bool = True) -> dict[str, Any]:
        """Answer in the same chat.

        Raises:
            ValueError: The event is no message.
        """
        to, question = self._address()
        if use_markdown:
            return await self._its_agent().send_markdown_reply(text, **to, ask_msg_id=question)
        return await self._its_agent().send_message(**to, content={"text": text})

    async def reply_started(self, *, run_id: str, assistant_msg_id: str = "") -> str:
        """Begin a streamed answer.

        Returns:
            The `assistant_msg_id` to carry through the answer: the given one, or a new one.
        """
        assistant_msg_id = assistant_msg_id or str(uuid.uuid4())
        await self._stream(build_assistant_started_event, run_id=run_id, assistant_msg_id=assistant_msg_id)
        return assistant_msg_id

    async def reply_delta(
        self,
        delta: str,
        *,
        seq: int,
        run_id: str,
        assistant_msg_id: str,
        show_type: str = "markdown",
        event: str = "delta",
        is_completed: bool = False,
    ) -> None:
        """Send a piece of a streamed answer."""
        await self._stream(
            build_assistant_delta_event,
            delta=delta,
            seq=seq,
            run_id=run_id,
            assistant_msg_id=assistant_msg_id,
            show_type=show_type,
            event=event,
            is_completed=is_completed,
        )

    async def reply_completed(
        self,
        markdown: str,
        *,
        seq: int,
        run_id: str,
        assistant_msg_id: str,
        reasoning: str = "",
        finish_reason: str = "stop",
    ) -> None:
        """End a streamed answer with its whole text; waits for the acknowledgement."""
        await self._stream(
            build_assistant_completed_event,
            markdown=markdown,
            seq=seq,
            run_id=run_id,
            assistant_msg_id=assistant_msg_id,
            reasoning=reasoning,
            finish_reason=finish_reason,
        )

    async def reply_failed(
        self,
        *,
        run_id: str,
        seq: int = 0,
        error_code: str = "error",
        message: str = "",
        assistant_msg_id: str = "",
    ) -> str:
        """End a streamed answer that failed; waits for the acknowledgement.

        Returns:
            The `assistant_msg_id` that was used.
        """
        assistant_msg_id = assistant_msg_id or str(uuid.uuid4())
        await self._stream(
            build_assistant_failed_event,
            run_id=run_id,
            seq=seq,
            error_code=error_code,
            message=message,
            assistant_msg_id=assistant_msg_id,
        )
        return assistant_msg_id

    async def _stream(self, build: Callable[..., dict[str, Any]], **fields: Any) -> None:
        to, question = self._address()
        message = self.event.message
        agent = self._its_agent()
        frame = build(
            app_id=agent.app_id,
            user_id=self.event.sender.user_id,
            conversation_id=message.conversation_id,
            ask_msg_id=question,
            to_user_id=self.event.sender.user_id,
            to_group_id=to.get("to_group_id", ""),
            **fields,
        )
        acknowledged = frame["header"]["event_type"] in ("assistant.completed", "assistant.failed")
        await agent.send_gateway_event(frame, wait_for_ack=acknowledged)

    def _address(self) -> tuple[dict[str, str], str]:
        if isinstance(self.event, GroupAtEvent):
            return {"to_group_id": self.event.group_id}, self.event.message.message_id
        if isinstance(self.event, MessageEvent):
            return {"to_user_id": self.event.sender.user_id}, self.event.message.message_id
        raise ValueError(f"{self.header.event_type} is no message, so it cannot be answered")

    def _its_agent(self) -> Agent:
        if self._agent is None:
            raise RuntimeError("this event did not come through an agent")
        return self._agent


def agent_event(envelope: dict[str, Any], agent: Agent) -> AgentEvent:
    """Build the object for a frame. Missing fields become ""."""
    header = _filled(EventHeader, envelope.get("header"))
    body = envelope.get("event")
    body = body if isinstance(body, dict) else {}
    event: Any = body
    if header.event_type == "im.message.receive":
        event = MessageEvent(**_message(body))
    elif header.event_type == "im.message.group_at":
        group, asked = _text(body.get("group_id")), _text(body.get("at_user_id"))
        event = GroupAtEvent(group_id=group, at_user_id=asked, **_message(body))
    elif header.event_type == "assistant.cancel":
        event = _filled(AssistantCancelEvent, body)
    return AgentEvent(schema=_text(envelope.get("schema")) or "1.0", header=header, event=event, _agent=agent)


def _message(body: dict[str, Any]) -> dict[str, Any]:
    message = _filled(EventMessage, body.get("message"))
    if not isinstance(message.content, dict):
        message.content = {}
    return {"sender": _filled(EventSender, body.get("sender")), "message": message}


def _filled(kind: type[Any], given: Any) -> Any:
    given = given if isinstance(given, dict) else {}
    names = kind.__dataclass_fields__
    return kind(
        **{name: given[name] if name == "content" else _text(given[name]) for name in names if name in given}
    )


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else str(value)
