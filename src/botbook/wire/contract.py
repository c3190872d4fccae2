"""What a chat wire is: five pure methods, and the values that pass between it and the net."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, ClassVar, Protocol

from botbook._errors import BotbookError
from botbook.actions import Action
from botbook.events import Event

__all__ = [
    "Ack",
    "Closing",
    "Frame",
    "HttpRequest",
    "Opening",
    "Outgoing",
    "Ready",
    "Received",
    "Response",
    "Token",
    "Verdict",
    "Wire",
]

Frame = str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How to open the socket.

    Attributes:
        url: ``ws://`` or ``wss://``.
        headers: Sent with the upgrade.
        frames: Sent first.
        ready_within: The peer says `Ready` within so many seconds; None if open means ready.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    frames: Sequence[Frame] = field(default=(), repr=False)
    ready_within: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer, read whole.

    Attributes:
        status: HTTP status.
        body: Undecoded bytes.
        headers: Lower-case names.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One REST call, and how to read its answer.

    Attributes:
        method: ``GET``, ``POST``, …
        url: Whole address.
        json: Body as a JSON value; None for no body.
        body: Body as bytes, with its Content-Type among `headers`, instead of `json`.
        params: Query.
        headers: Besides the bearer token, which the net adds.
        read: Turns the answer into a value, or raises `ApiError`, `AuthError` or
            `RemoteProtocolError`.
        authorised: Whether the bearer token goes with it.
        repeatable: Whether it may be sent again when it is not known if the first one arrived.
    """

    method: str
    url: str
    json: Any = field(default=None, repr=False)
    body: bytes | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    read: Callable[[Response], Any] = field(repr=False)
    authorised: bool = True
    repeatable: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token.

    Attributes:
        value: The secret itself.
        expires_in: Life from now, in seconds; None if it does not end.
    """

    value: str = field(repr=False)
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class Ack:
    """The peer acknowledged a frame of ours.

    Attributes:
        id: The `Action.id` it speaks of.
        ok: Whether it took it.
        error: Why not.
    """

    id: str
    ok: bool = True
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ready:
    """The peer is ready; see `Opening.ready_within`."""


class Verdict(Enum):
    """What the end of a connection means."""

    RETRY = "retry"
    REAUTH = "reauth"
    FATAL = "fatal"


@dataclass(frozen=True, slots=True)
class Closing:
    """The peer said in words that this connection ends; the close code that follows says less.

    Attributes:
        verdict: What to do, instead of what the close code would say.
        error: What it means for whoever waits for this connection.
    """

    verdict: Verdict
    error: BotbookError


Received = Event | Ack | Ready | Closing

#: A frame for the socket, a request, or an event that is true once those before it were taken.
Outgoing = Frame | HttpRequest | Event


class Wire(Protocol):
    """A chat gateway's language, seen from the client.

    Attributes:
        gateway: Its name, as it stands in events.
        name: Name of the connection, as it stands in events.
        can: The actions that `send` takes; every other one is `NotSupported`.
    """

    gateway: str
    name: str
    can: ClassVar[frozenset[type[Action]]]

    def token_request(self) -> HttpRequest | None:
        """How to get a `Token`; None if the gateway has none, or it was given from outside.

        It reads as the token, or as the request for the next step on the way to it.
        """
        ...

    def opening(self, token: str | None) -> Opening:
        """How to open the socket."""
        ...

    def receive(self, frame: Frame, *, at: datetime) -> list[Received]:
        """Read one frame.

        Raises:
            RemoteProtocolError: The frame is malformed; the link counts it and lives on.
        """
        ...

    def send(self, action: Action, *, at: datetime) -> Sequence[Outgoing]:
        """Say an action in this language.

        The answer to an `Ask` comes as events whose `reply_to` is the id of the `Ask`:
        ``message.delta`` pieces (``message.edited`` replaces all text so far), ``agent.*``, and
        one ``message.received`` of the role ``assistant`` that ends it, with `error` set where
        it failed. The row of the question is an event in what is returned here, or the gateway
        echoes it.

        Raises:
            AgentBusy: Another answer is still coming on this connection.
            NotSupported: The gateway has no such action.
            LocalProtocolError: The action breaks a rule of the wire.
        """
        ...

    def ping(self) -> Frame | None:
        """An application heartbeat; None where WebSocket pings do."""
        ...

    def closing(self, code: int, reason: str) -> Verdict:
        """What to do after a close code, or after an upgrade refused with an HTTP status."""
        ...
