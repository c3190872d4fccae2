"""The two errors of the SDK, and how botbook's own become them."""

from __future__ import annotations

from typing import Any, Final

from botbook._errors import (
    AgentBusy,
    AnswerError,
    BotbookError,
    ConfigError,
    DeadlineExceeded,
    HandshakeError,
    LocalProtocolError,
)

__all__ = ["AgentBusyException", "AgentException", "translated"]

#: Codes of a first frame that is no status (protocols/agent.md, opening).
_OPENING: Final = ("INVALID_STATUS", "UNEXPECTED_MSG_TYPE")


class AgentException(AnswerError, RuntimeError):
    """Something failed; a RuntimeError too, as in SDK 1.0.

    Attributes:
        code: ``TIMEOUT``, ``CONNECTION_ERROR``, ``NOT_CONNECTED``, ``INVALID_STATUS``,
            ``UNEXPECTED_MSG_TYPE``, ``GRACEFUL_DISCONNECT``, or the agent's own.
        details: In words.
        answer: What had arrived of the answer (`botbook.Asked`), or None.
    """

    def __init__(self, code: str, details: str = "", *, answer: Any = None, hint: str | None = None) -> None:
        super().__init__(f"Agent error ({code}): {details}", answer=answer, code=code, hint=hint)
        self.details = details


class AgentBusyException(AgentBusy):
    """The chat has another client, or the connection is answering."""


def translated(error: BotbookError, *, answer: Any = None) -> AgentException | AgentBusyException:
    """The SDK's error for one of ours."""
    status = error.status if isinstance(error, HandshakeError) else None
    if isinstance(error, AgentBusy) or status == 403:
        return AgentBusyException(str(error), answer=answer, code="BUSY")
    code, details = _code(error)
    return AgentException(code, details, answer=answer, hint=error.hint)


def _code(error: BotbookError) -> tuple[str, str]:
    words = str(error)
    first, _, rest = words.partition(": ")
    match error:
        case HandshakeError() if first in _OPENING:
            return first, rest
        case DeadlineExceeded():
            return "TIMEOUT", words
        case ConfigError() | LocalProtocolError():
            return "INVALID_REQUEST", words
        case AnswerError(code="DeadlineExceeded"):
            return "TIMEOUT", words
        case AnswerError(code="cancelled"):
            return "CANCELLED", words
        case AnswerError(code=code) if code and not code.endswith(("Lost", "Error")):
            return code, words.removeprefix("the answer failed: ").removeprefix(f"{code}: ")
    return "CONNECTION_ERROR", words
