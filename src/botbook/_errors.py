"""Every error that botbook raises.

The type says whose fault it is, ``.hint`` says the one next step.

    BotbookError
    ├─ ConfigError              a setting is missing or wrong
    ├─ CommandError             a magic or command line that cannot be understood
    ├─ LocalProtocolError       this program asked for something the wire forbids
    ├─ NotSupported             the gateway cannot do this
    ├─ HandlerError             a handler has a wrong signature, failed or ran out of time
    ├─ AnswerError              an answer failed; what had arrived is kept on it
    │  └─ AgentBusy             the chat, or the connection, is answering already
    ├─ TransportError           the connection, not the words on it
    │  ├─ ConnectError          nobody answers there
    │  ├─ HandshakeError        somebody answers, but it is no gateway or it refuses
    │  ├─ ConnectionLost        an open connection ended
    │  └─ DeadlineExceeded      no answer in time
    ├─ RemoteProtocolError      the peer sent what the wire forbids
    ├─ ApiError                 the peer answered with an error
    │  └─ AuthError             the credentials were refused
    ├─ SandboxError             the sandbox refused or broke
    │  └─ CommandFailed         a command in it ended with an error, or its time was up
    └─ StoreError               the journal cannot be read or written
       ├─ StoreFull             no room, or no right to write
       └─ StoreTooNew           written by a newer version; left untouched

`BotInterrupted` is none of them: it is the KeyboardInterrupt of the stop button.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AgentBusy",
    "AnswerError",
    "ApiError",
    "AuthError",
    "BotInterrupted",
    "BotbookError",
    "CommandError",
    "CommandFailed",
    "ConfigError",
    "ConnectError",
    "ConnectionLost",
    "DeadlineExceeded",
    "HandlerError",
    "HandshakeError",
    "LocalProtocolError",
    "NotSupported",
    "RemoteProtocolError",
    "SandboxError",
    "StoreError",
    "StoreFull",
    "StoreTooNew",
    "TransportError",
    "excerpt",
]

EXCERPT_CHARS = 200


def excerpt(value: object, limit: int = EXCERPT_CHARS) -> str:
    """Cut foreign data so that it fits an error message.

    Args:
        value: Text, bytes or anything with a repr.
        limit: Longest result, in characters.
    """
    if isinstance(value, bytes | bytearray):
        text = repr(bytes(value[: limit * 4]))
    else:
        text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class BotInterrupted(KeyboardInterrupt):
    """The stop button ended a wait. The connection is kept."""

    def __init__(self, message: str = "stopped; the connection is kept") -> None:
        super().__init__(message)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: nothing went wrong, so there is no traceback to read."""
        return [f"BotInterrupted: {self}"]


class BotbookError(Exception):
    """Base of all errors.

    Attributes:
        hint: One next step for the person who reads the message, or "".
    """

    default_hint = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = self.default_hint if hint is None else hint


class ConfigError(BotbookError):
    """A setting is missing or wrong."""

    default_hint = "See `%bot connect -h` for the settings of each gateway."


class CommandError(BotbookError):
    """A magic line or a command line cannot be understood."""

    default_hint = "`%bot -h` lists the verbs; every verb takes -h."


class LocalProtocolError(BotbookError):
    """This program asked for something the wire forbids."""


class NotSupported(BotbookError):
    """The gateway cannot do what was asked.

    Attributes:
        call: Name of the call.
        gateway: Name of the gateway.
    """

    default_hint = "`bot.capabilities()` lists what this gateway can do."

    def __init__(self, call: str, gateway: str, *, hint: str | None = None) -> None:
        super().__init__(f"{gateway} has no {call}", hint=hint)
        self.call = call
        self.gateway = gateway


class HandlerError(BotbookError):
    """A handler has a wrong signature, failed, or ran out of time."""

    default_hint = "`%bot errors` shows the traceback."


class AnswerError(BotbookError):
    """An answer failed.

    Attributes:
        answer: What had arrived of it, or None.
        code: The peer's own error code, or "".
    """

    def __init__(self, message: str, *, answer: Any = None, code: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.answer = answer
        self.code = code


class AgentBusy(AnswerError):
    """The chat, or the connection, is answering already."""

    default_hint = "Wait for the running answer, or stop it first."


class TransportError(BotbookError):
    """The connection failed, not the words on it."""


class ConnectError(TransportError):
    """Nobody answers at the address."""

    default_hint = "Check the address and that the server is running."


class HandshakeError(TransportError):
    """Somebody answers, but it is no gateway, or it refuses.

    Attributes:
        status: HTTP status of the refusal, or None if it was no HTTP at all.
        retry_after: What the peer asked for, in seconds, or None.
    """

    default_hint = "Check that the base URL names the gateway and not another service."

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after = retry_after


class ConnectionLost(TransportError):
    """An open connection ended.

    Attributes:
        code: WebSocket close code; 1006 when the peer vanished without one.
        reason: The peer's words, cut to 200 characters.
    """

    def __init__(self, code: int = 1006, reason: str = "", *, hint: str | None = None) -> None:
        reason = excerpt(reason)
        super().__init__(f"connection lost ({code}{': ' + reason if reason else ''})", hint=hint)
        self.code = code
        self.reason = reason


class DeadlineExceeded(TransportError):
    """No answer in time."""

    default_hint = "Raise the timeout, or check the peer's load."


class RemoteProtocolError(BotbookError):
    """The peer sent what the wire forbids.

    Attributes:
        frame: What it sent, cut to 200 characters.
    """

    def __init__(self, message: str, *, frame: object = "", hint: str | None = None) -> None:
        self.frame = excerpt(frame)
        super().__init__(f"{message}: {self.frame}" if self.frame else message, hint=hint)


class ApiError(BotbookError):
    """The peer answered with an error.

    Attributes:
        code: The peer's own code if it gave one, else the HTTP status.
        status: HTTP status.
    """

    def __init__(self, message: str, *, code: int | str, status: int = 200, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.status = status


class AuthError(ApiError):
    """The credentials were refused."""

    default_hint = "Check the app id and the secret, or the token, of this profile."


class SandboxError(BotbookError):
    """The sandbox refused or broke.

    Attributes:
        code: The runtime's own error name, or "".
    """

    default_hint = "`%bot box doctor` says what this machine can do."

    def __init__(self, message: str, *, code: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class CommandFailed(SandboxError):
    """A command in the sandbox ended with an error, or its time was up.

    Attributes:
        result: All that came of it: a `botbook.sandbox.ExecResult`.
    """

    default_hint = "What it wrote stands above."

    def __init__(self, message: str, *, result: Any = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.result = result


class StoreError(BotbookError):
    """The journal cannot be read or written."""

    default_hint = "Name another file with `store=` or BOTBOOK_STORE."


class StoreFull(StoreError):
    """No room on the disk, or no right to write there."""

    default_hint = (
        "Free some space, or make the folder writable: waiting events are kept and go on by themselves."
    )


class StoreTooNew(StoreError):
    """The journal was written by a newer botbook. It was left untouched."""

    default_hint = "Upgrade botbook, or name another file with `store=`."
