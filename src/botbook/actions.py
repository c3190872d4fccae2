"""What a bot can do: plain values that a wire turns into frames or requests.

Each carries its own id, made by the caller and kept over retries, so that a peer can tell a
repeat from a second wish.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botbook._errors import LocalProtocolError, NotSupported

__all__ = [
    "PLATFORM_API",
    "Abandon",
    "Action",
    "AnswerCompleted",
    "AnswerDelta",
    "AnswerFailed",
    "AnswerStarted",
    "Ask",
    "History",
    "HistoryItem",
    "Native",
    "NotSupported",
    "PlatformCall",
    "Run",
    "Send",
    "Sent",
    "split_target",
]


def split_target(to: str) -> tuple[str, str]:
    """Split ``user:ID`` or ``group:ID``.

    Returns:
        ``("user" | "group", id)``.

    Raises:
        LocalProtocolError: It is neither.
    """
    kind, _, ident = to.partition(":")
    if kind not in ("user", "group") or not ident:
        raise LocalProtocolError(f"{to!r} is no address", hint="Write user:ID or group:ID.")
    return kind, ident


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Base of all actions.

    Attributes:
        id: Unique for this wish; the same on every retry.
    """

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(Action):
    """A whole message.

    Attributes:
        to: ``user:ID`` or ``group:ID``.
        text: Plain text or markdown.
        markdown: Which of the two.
        reply_to: Id of the message it answers, or "".
    """

    to: str
    text: str
    markdown: bool = False
    reply_to: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Native(Action):
    """Words in the gateway's own form, passed on as they are.

    Attributes:
        body: A message body where `to` is given, else a whole frame.
        to: ``user:ID``, ``group:ID`` or "".
    """

    body: Any
    to: str = ""


_CHAT: Final = ("chat_type", "chat_id")
_MEMBER: Final = ("group_id", "user_id")
#: LangBot's platform API (protocols/langbot.md 8): of each call the parameters that it needs, and those
#: that it may have.
PLATFORM_API: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "send_message": (("target_type", "target_id", "message"), ()),
    "reply_message": (("message",), ("quote_origin",)),
    "edit_message": ((*_CHAT, "message_id", "new_content"), ()),
    "delete_message": ((*_CHAT, "message_id"), ()),
    "forward_message": (("from_chat_type", "from_chat_id", "message_id", "to_chat_type", "to_chat_id"), ()),
    "get_message": ((*_CHAT, "message_id"), ()),
    "get_group_info": (("group_id",), ()),
    "get_group_list": ((), ()),
    "get_group_member_list": (("group_id",), ()),
    "get_group_member_info": (_MEMBER, ()),
    "set_group_name": (("group_id", "name"), ()),
    "mute_member": (_MEMBER, ("duration",)),
    "unmute_member": (_MEMBER, ()),
    "kick_member": (_MEMBER, ()),
    "leave_group": (("group_id",), ()),
    "get_user_info": (("user_id",), ()),
    "get_friend_list": ((), ()),
    "approve_friend_request": (("request_id",), ("approve", "remark")),
    "approve_group_invite": (("request_id",), ("approve",)),
    "upload_file": (("file_data", "filename"), ()),
    "get_file_url": (("file_id",), ()),
    "call_platform_api": (("action",), ("params",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformCall(Action):
    """A call of LangBot's platform API, for gateways that can.

    Attributes:
        api: One of `PLATFORM_API`; ``call_platform_api`` passes on what only one platform knows.
        params: Its parameters by name.

    Raises:
        LocalProtocolError: There is no such call, or its parameters are others.
    """

    api: str
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.api not in PLATFORM_API:
            near = difflib.get_close_matches(self.api, PLATFORM_API, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(PLATFORM_API)}."
            raise LocalProtocolError(f"there is no call {self.api!r}", hint=hint)
        needed, possible = PLATFORM_API[self.api]
        missing = [name for name in needed if name not in self.params]
        unknown = sorted(self.params.keys() - {*needed, *possible})
        if missing or unknown:
            wrong = f"needs {', '.join(missing)}" if missing else f"takes no {', '.join(map(str, unknown))}"
            raise LocalProtocolError(
                f"{self.api} {wrong}", hint=f"Its parameters: {', '.join((*needed, *possible)) or 'none'}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """The gateway took a message.

    Attributes:
        message_id: The gateway's id, "" if it gives none.
        server_time: When, by its clock, in epoch milliseconds; None if it does not tell.
    """

    message_id: str = ""
    server_time: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The identity of one streamed answer (protocols/miti.md 5).

    Attributes:
        run_id: Id of this answer.
        message_id: Id of the message it becomes.
        to: ``user:ID`` or ``group:ID``.
        asker: User id of who asked.
        chat_id: The conversation.
        question_id: Message id of the question.
    """

    run_id: str
    message_id: str
    to: str
    asker: str
    chat_id: str
    question_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerStarted(Action):
    """A streamed answer begins."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDelta(Action):
    """A piece of it.

    Attributes:
        seq: Grows over the run.
        text: The piece.
        reasoning: It is thinking, not the answer itself.
        show_type: How to draw it.
        is_completed: It is the last piece.
    """

    run: Run
    seq: int
    text: str
    reasoning: bool = False
    show_type: str = "markdown"
    is_completed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCompleted(Action):
    """The whole of it; acknowledged by the gateway."""

    run: Run
    seq: int
    text: str
    reasoning: str = ""
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFailed(Action):
    """It will not come; acknowledged by the gateway."""

    run: Run
    seq: int = 0
    error_code: str = "error"
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Action):
    """A question to an agent.

    Attributes:
        text: The question.
        attachments: Paths or ids that the gateway already holds.
    """

    text: str
    attachments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandon(Action):
    """Stop waiting for an answer; nothing is sent, but the wire keeps its rest apart from the next one.

    Attributes:
        ask_id: Id of the `Ask`.
        silent: Nothing of it came in time, so that it is not expected any more.
    """

    ask_id: str
    silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Action):
    """Ask for earlier messages of a chat.

    Attributes:
        chat_id: The conversation.
        limit: How many at the most.
        before: Only those before this message id, or "".
    """

    chat_id: str
    limit: int = 10
    before: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryItem:
    """One earlier message.

    Attributes:
        role: ``user`` or ``assistant``.
        text: What was said.
        sender_name: In groups, if the gateway tells.
        message_id: If the gateway tells, else "".
        user_id: Who wrote it, if the gateway tells.
        at_ms: Epoch milliseconds, if the gateway tells.
        own: This connection's own side wrote it, so that its row is ``message.sent``.
        raw: As it came.
    """

    role: str
    text: str
    sender_name: str = ""
    message_id: str = ""
    user_id: str = ""
    at_ms: int | None = None
    own: bool = False
    raw: Any = None
