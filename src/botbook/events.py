"""One model for what happens in a chat, whatever the gateway."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from botbook._errors import LocalProtocolError
from botbook.messages import MessageChain, Plain

__all__ = [
    "ASSISTANT",
    "CANCEL",
    "DISLIKE",
    "EVENT_TYPES",
    "LIKE",
    "SYSTEM",
    "USER",
    "Actor",
    "ChatType",
    "Event",
    "Role",
]

Role = Literal["user", "assistant", "system"]
ChatType = Literal["private", "group", ""]

USER: Final = "user"
ASSISTANT: Final = "assistant"
SYSTEM: Final = "system"

LIKE: Final = 1
DISLIKE: Final = 2
CANCEL: Final = 3

#: Every type that botbook itself makes, and what it says.
EVENT_TYPES: Final[dict[str, str]] = {
    "message.received": "somebody wrote",
    "message.sent": "this bot wrote, or its message came back as an echo",
    "message.delta": "a piece of an answer that is being streamed",
    "message.edited": "a message, or what has come of an answer, was replaced",
    "answer.cancelled": "the asker stopped an answer",
    "feedback.received": "somebody rated an answer",
    "agent.tool_call": "an agent called a tool",
    "agent.tool_result": "a tool answered",
    "agent.progress": "news from inside a tool",
    "agent.file": "an agent gave a file",
    "handler.failed": "a handler raised or ran out of time",
    "connection.opened": "a link is up",
    "connection.closed": "a link is down",
    "connection.gap": "time in which events may have been missed",
    "box.exec": "a command ran in a sandbox",
    "platform.specific": "what botbook does not know, kept whole in raw",
}


class Actor(Protocol):
    """What an event needs to act: a bot, as the handler's side sees it.

    Called where a loop runs, as in an ``async def`` handler, each method returns an awaitable;
    called elsewhere, as in a plain ``def``, it has acted when it returns.
    """

    def reply(self, event: Event, text: str, *, markdown: bool = True) -> Any:
        """Answer an event."""
        ...

    def answer(self, event: Event) -> Any:
        """Open a streamed answer to an event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.

    The attributes are the columns of `bot.events()`, in the same order. What does not apply is
    "" for text and None for numbers.

    Attributes:
        event_id: The gateway's id; unique for one gateway and bot.
        type: Dotted name, one of `EVENT_TYPES` or a gateway's own.
        at: When it happened, by the server's clock, in UTC.
        received_at: When it arrived here, in UTC.
        gateway: ``miti``, ``agent``, ``langbot``, ``box`` or ``sim``.
        bot: Name of the connection.
        chat_type: ``private``, ``group`` or "".
        chat_id: The conversation.
        user_id: Who did it.
        user_name: Their name, if the gateway tells.
        role: ``user``, ``assistant`` or ``system``.
        message_id: The message it is about.
        reply_to: The message or event it answers.
        text: Plain text.
        latency_s: From the question to this, in seconds.
        feedback_id: The rating it belongs to.
        feedback_type: 1 like, 2 dislike, 3 cancel.
        feedback_reasons: Reasons the user ticked.
        tokens: Tokens used.
        error: Error text.
        recovered: It was fetched after a gap and did not arrive by itself.
        raw_json: The frame as it came, JSON text.
    """

    event_id: str
    type: str
    at: datetime
    received_at: datetime
    gateway: str
    bot: str = ""
    chat_type: ChatType = ""
    chat_id: str = ""
    user_id: str = ""
    user_name: str = ""
    role: Role = "system"
    message_id: str = ""
    reply_to: str = ""
    text: str = ""
    latency_s: float | None = None
    feedback_id: str = ""
    feedback_type: int | None = None
    feedback_reasons: tuple[str, ...] = ()
    tokens: int | None = None
    error: str = ""
    recovered: bool = False
    raw_json: str = field(default="", repr=False)
    parts: MessageChain | None = field(default=None, repr=False)
    actor: Actor | None = field(default=None, repr=False, compare=False)

    @property
    def raw(self) -> Any:
        """The frame as it came, parsed anew at each call; None if there was none."""
        return json.loads(self.raw_json) if self.raw_json else None

    @property
    def chain(self) -> MessageChain:
        """The message as components."""
        if self.parts is not None:
            return self.parts
        return MessageChain([Plain(text=self.text)] if self.text else [])

    @property
    def target(self) -> str:
        """Where an answer goes: ``user:ID`` or ``group:ID``."""
        return f"group:{self.chat_id}" if self.chat_type == "group" else f"user:{self.user_id}"

    def reply(self, text: str, *, markdown: bool = True) -> Any:
        """Answer in the same chat. Await it in an ``async def`` handler.

        Args:
            text: What to say.
            markdown: Whether `text` is markdown.

        Raises:
            LocalProtocolError: The event did not come through a handler.
        """
        return self._actor().reply(self, text, markdown=markdown)

    def answer(self) -> Any:
        """Open a streamed answer: ``async with event.answer() as a: await a.write("…")``.

        Raises:
            LocalProtocolError: The event did not come through a handler.
        """
        return self._actor().answer(self)

    def bind(self, actor: Actor) -> None:
        """Make this event able to act. The one thing about it that is not frozen."""
        object.__setattr__(self, "actor", actor)

    def _actor(self) -> Actor:
        if self.actor is None:
            raise LocalProtocolError(
                "this event has no bot to answer with", hint="Use `bot.reply(event, text)` outside a handler."
            )
        return self.actor
