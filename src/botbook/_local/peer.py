"""What every embedded gateway is: a server without sockets of its own, which misbehaves on demand."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from botbook._clock import Clock
from botbook._local.mischief import Fault, FaultKind, Mischief
from botbook._local.query import Query
from botbook._local.record import SentLog
from botbook._local.session import Socket
from botbook._net.transport import Transport
from botbook.wire.contract import Frame, Response

__all__ = ["Peer"]


class Peer(ABC):
    """The server side of a protocol. All calls come from one event loop; header names are lower case.

    Args:
        faults: What it may be told to do wrong.
        poison: Its malformed frames.
        clock: Where times and delays come from.
        log: Where to note what clients send; default a new one.

    Attributes:
        name: Of the gateway.
        log: What clients sent.
    """

    name: ClassVar[str]
    #: Code and reason with which it ends its sockets.
    goodbye: ClassVar[tuple[int, str]] = (1001, "the server stops")

    def __init__(
        self,
        *,
        faults: Mapping[str, FaultKind],
        poison: Sequence[Frame] = (),
        clock: Clock,
        log: SentLog | None = None,
    ) -> None:
        self.log = log or SentLog(clock)
        self._clock = clock
        self._mischief = Mischief(faults)
        self._poison = poison
        self._silent_until = clock.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    # ------------------------------------------------------------------------ the way in

    @abstractmethod
    def describe(self, base: str) -> dict[str, str]:
        """What a client needs to know.

        Args:
            base: Address of the server in front of it, such as ``http://127.0.0.1:5300``.
        """

    @abstractmethod
    def owns(self, path: str) -> bool:
        """Whether a path is one of this peer's."""

    @abstractmethod
    async def upgrade(self, path: str, query: Query, headers: Mapping[str, str]) -> Response | None:
        """Decide on a socket: the refusal, or None."""

    @abstractmethod
    async def serve(self, transport: Transport, path: str, query: Query) -> None:
        """Serve one socket until it ends."""

    @abstractmethod
    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], query: Query, body: bytes
    ) -> Response:
        """Answer one REST call.

        Args:
            method: Upper case.
            path: Whole.
            headers: Lower-case names.
            query: Decoded.
            body: Undecoded.
        """

    @abstractmethod
    def open_sockets(self) -> Iterable[Socket]:
        """The sockets that are open now."""

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return len(list(self.open_sockets()))

    def status(self) -> dict[str, int]:
        """Numbers for somebody who watches."""
        return {"sockets": self.sockets}

    async def close(self) -> None:
        """End every socket."""
        for socket in list(self.open_sockets()):
            await socket.close(*self.goodbye)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------------------ misbehaving

    def fault(self, kind: str, **options: Any) -> None:
        """Misbehave, at once or at the next occasion.

        Raises:
            LocalProtocolError: There is no such fault or option.
        """
        made = self._mischief.make(kind, options)
        if made is not None:
            self.strike(made)

    def strike(self, made: Fault) -> None:
        """A fault that strikes now: those that every peer has."""
        match made.kind:
            case "rst" | "fin":
                self._each(lambda socket: socket.cut(reset=made.kind == "rst"))
            case "close":
                self._each(lambda socket: socket.close(made["code"], made.options.get("reason", "")))
            case "poison":
                self._each(lambda socket: socket.push(self._poison))
            case "raw":
                self._each(lambda socket: socket.push([made["frame"]]))
            case "stall":
                self._silent_until = self._clock.monotonic() + made["seconds"]

    def _each(self, do: Callable[[Socket], Coroutine[Any, Any, None]]) -> None:
        for socket in list(self.open_sockets()):
            self._spawn(do(socket))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def awake(self) -> None:
        """Hold while the peer is stalled."""
        while (left := self._silent_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    def reset(self) -> None:
        """Behave again. Sockets and tokens stay."""
        self._mischief.clear()
        self._silent_until = self._clock.monotonic()
