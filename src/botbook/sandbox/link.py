"""The control connection to a Box runtime: questions out, answers in, opened again when it is needed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

from botbook._errors import AuthError, ConnectionLost, DeadlineExceeded, HandshakeError, RemoteProtocolError
from botbook._net.loop import LoopThread
from botbook._net.transport import Transport, open_websocket
from botbook.wire.box import Chunk, Context, Dialect, Reply, Request, decode, encode_request, probe
from botbook.wire.contract import Opening

__all__ = ["BoxLink", "OnOutput", "at_home", "open_box_socket"]

P = ParamSpec("P")
T = TypeVar("T")

#: Longest message that a runtime sends, in bytes (protocols/box.md 4).
_LONGEST: Final = 16 * 1024 * 1024
_PROBE_SECONDS: Final = 15.0

#: Called with ``stdout`` or ``stderr`` and a piece of text, on the thread of the IO loop.
OnOutput = Callable[[str, str], object]


def at_home(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a method be awaited from any loop: its work is done on ``home``, where the sockets are."""

    @functools.wraps(method)
    async def from_anywhere(*args: P.args, **kwargs: P.kwargs) -> T:
        home: LoopThread = args[0].home  # type: ignore[attr-defined]
        return await home.call(method(*args, **kwargs))

    return from_anywhere


async def open_box_socket(opening: Opening) -> Transport:
    """Open either socket of a runtime.

    Raises:
        AuthError: The token or the identity was refused, which is final (protocols/box.md 14).
        ConnectError: Nobody answers.
        HandshakeError: Somebody answers, but it is no runtime.
    """
    try:
        return await open_websocket(opening, max_bytes=_LONGEST)
    except HandshakeError as error:
        if error.status in (401, 403):
            raise AuthError(
                "the sandbox runtime refused the token or the identity",
                code=error.status,
                status=error.status,
                hint="Check the token; a runtime also keeps the first instance name that it saw.",
            ) from None
        raise


@dataclass(slots=True)
class _Waiting:
    answer: asyncio.Future[Reply]
    on_output: OnOutput | None


class BoxLink:
    """One control connection at a time; what is asked while there is none opens it.

    Args:
        locate: Gives the address and headers.
        context: Who asks.
        dial: Opens a socket.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Opening]],
        context: Context,
        *,
        dial: Callable[[Opening], Awaitable[Transport]] = open_box_socket,
    ) -> None:
        self._locate, self._context, self._dial = locate, context, dial
        self._transport: Transport | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, _Waiting] = {}
        self._seq = itertools.count(1)
        self._opening = asyncio.Lock()
        self.dialect: Dialect | None = None
        self.strays = 0

    async def call(
        self,
        action: str,
        data: dict[str, Any] | None = None,
        *,
        timeout: float = 30.0,
        on_output: OnOutput | None = None,
    ) -> dict[str, Any]:
        """Ask, and give the answer.

        Args:
            action: Its name.
            data: Its arguments.
            timeout: In seconds.
            on_output: Gets output of a command while it runs, where the runtime streams it.

        Raises:
            SandboxError: The runtime refused; `code` is its name for it.
            TransportError: It cannot be reached, went away, or does not answer in time.
            AuthError: The token was refused.
        """
        dialect = await self.ready()
        context = self._context if dialect.context else None
        request = Request(seq_id=next(self._seq), action=action, data=data or {}, context=context)
        return (await self._ask(request, timeout=timeout, on_output=on_output)).result()

    async def ready(self) -> Dialect:
        """Open the connection if it is not, and find out what the runtime speaks."""
        async with self._opening:
            if self._transport is None:
                self._transport = await self._dial(await self._locate())
                self._reader = asyncio.ensure_future(self._read(self._transport))
                self.dialect = None
            if self.dialect is None:
                self.dialect = await self._probe()
            return self.dialect

    async def _probe(self) -> Dialect:
        questions = probe(self._context)
        question = next(questions)
        while True:
            numbered = Request(
                seq_id=next(self._seq), action=question.action, data=question.data, context=question.context
            )
            reply = await self._ask(numbered, timeout=_PROBE_SECONDS)
            try:
                question = questions.send(reply)
            except StopIteration as end:
                found: Dialect = end.value
                return found

    async def _ask(self, request: Request, *, timeout: float, on_output: OnOutput | None = None) -> Reply:
        if (transport := self._transport) is None:
            raise ConnectionLost(1006, "the connection ended before the question was sent")
        waiting = _Waiting(asyncio.get_running_loop().create_future(), on_output)
        self._waiting[request.seq_id] = waiting
        try:
            await transport.send(encode_request(request))
            async with asyncio.timeout(timeout):
                return await waiting.answer
        except TimeoutError:
            await self._cancel(transport, request)
            raise DeadlineExceeded(f"{request.action} was not answered within {timeout:g} s") from None
        except asyncio.CancelledError:
            await self._cancel(transport, request)
            raise
        finally:
            self._waiting.pop(request.seq_id, None)

    async def _cancel(self, transport: Transport, request: Request) -> None:
        """Nobody waits any more: what runs is to be ended, where the runtime can."""
        bare = Request(
            seq_id=next(self._seq),
            action="__cancel_action",
            data={"seq_id": request.seq_id},
            context=request.context,
        )
        with contextlib.suppress(ConnectionLost):
            await transport.send(encode_request(bare))

    async def _read(self, transport: Transport) -> None:
        try:
            while True:
                for frame in await transport.receive():
                    self._take(frame)
        except ConnectionLost as error:
            if self._transport is transport:
                self._transport = None
            for waiting in self._waiting.values():
                if not waiting.answer.done():
                    waiting.answer.set_exception(ConnectionLost(error.code, error.reason))
                    waiting.answer.exception()

    def _take(self, frame: str | bytes) -> None:
        try:
            message = decode(frame)
        except RemoteProtocolError:
            self.strays += 1
            return
        waiting = None if isinstance(message, Request) else self._waiting.get(message.seq_id)
        if waiting is None:
            self.strays += 1
        elif isinstance(message, Chunk):
            if waiting.on_output is not None:
                waiting.on_output(message.stream, message.text)
        elif isinstance(message, Reply) and not waiting.answer.done():
            waiting.answer.set_result(message)

    async def close(self) -> None:
        """Close the connection; commands that run over it are ended by a runtime that notices."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=0.5)
            self._reader.cancel()
            self._reader = None
