"""`AgentApi` over botbook's core (protocols/agent.md)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

from botbook._asking import LONGEST, SILENCE, Asked
from botbook._config import checked_url
from botbook._errors import BotbookError, ConfigError
from botbook.bot import AsyncBot
from botbook.compat.agent.errors import AgentBusyException, AgentException, translated
from botbook.compat.agent.server import (
    MsgError,
    MsgEventEnd,
    MsgGracefulDisconnect,
    MsgStatus,
    ServerMessage,
    message_of,
)
from botbook.events import Event

__all__ = ["AgentApi", "AgentBusyException", "AgentException", "AgentStream"]

log = logging.getLogger("botbook")

_ADDRESS: Final = re.compile(r"(wss?|https?)://", re.I)


class AgentApi:
    """A chat with an agent.

    ``AgentApi(agent_id, base_url, …, chat_id=…)`` as in SDK 1.1; ``AgentApi(agent_id, url)`` or
    ``AgentApi(url)``, with a whole address that ends in ``ws`` or ``agent_ws/``, as in SDK 1.0.
    Without `on_disconnect` a connection that was lost comes back by itself; with it, the one who is
    told connects again, or makes a new client.

    Args:
        agent_id: What the client is called, also in the column ``bot``; or the address.
        base_url: Where the agent is.
        callback: Called on the loop of `connect` with what belongs to no answer that is being
            read: status, errors, and pieces of answers that were left early.
        on_disconnect: Called there with this client when the connection ended by itself, once.
        chat_id: Which chat.
        url: The whole address, by the name that SDK 1.0 gives it.
        **options: Options of `botbook.AsyncBot`, such as ``store``.

    Attributes:
        id: What the client is called.
        chat_id: Which chat.
        url: The address as it was given.

    Raises:
        ValueError: There is no address, or it would send in the clear to another machine.
    """

    def __init__(
        self,
        agent_id: str = "",
        base_url: str = "",
        callback: Callable[[ServerMessage], Any] | None = None,
        on_disconnect: Callable[[AgentApi], Any] | None = None,
        chat_id: int | str = 0,
        *,
        url: str = "",
        **options: Any,
    ) -> None:
        given = base_url or url
        if not given and _ADDRESS.match(agent_id):
            agent_id, given = "", agent_id
        self.id = agent_id or "agent"
        self.url = given
        self.chat_id = chat_id
        self.callback = callback
        self.on_disconnect = on_disconnect
        self._base = _checked(given)
        self._options = options
        self._bot: AsyncBot | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._was_lost = False
        self._ending: asyncio.Future[None] | None = None
        self._at_exit: weakref.finalize[..., AgentApi] | None = None
        self._stream: weakref.ref[AgentStream] | None = None

    def __repr__(self) -> str:
        return f"<AgentApi {self.id}, chat {self.chat_id}: {'connected' if self._bot else 'not connected'}>"

    async def __aenter__(self) -> AgentApi:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect; nothing if it is connected.

        Raises:
            AgentBusyException: The chat has another client.
            AgentException: Anything else; see its code.
        """
        if self._bot is not None:
            return
        self._loop = asyncio.get_running_loop()
        bot = AsyncBot(
            "agent",
            **{"name": self.id, "base_url": self._base, "chat_id": str(self.chat_id), **self._options},
        )
        self._listen(bot)
        try:
            await bot.start()
        except BotbookError as error:
            raise translated(error) from error
        self._bot, self._was_lost = bot, False
        self._at_exit = weakref.finalize(self, _end, bot)
        self._call(MsgStatus())

    def _listen(self, bot: AsyncBot) -> None:
        """Be told what comes besides answers; a client that nobody holds any more is not kept by it."""
        found = weakref.ref(self)

        def stray(event: Event) -> None:
            if (api := found()) is not None:
                api._stray(event)

        async def changed(event: Event) -> None:
            if (api := found()) is not None:
                api._changed(event)

        bot._connection.questions.strays = stray
        bot.on("connection.*", changed, name="AgentApi")

    async def close(self) -> None:
        """Close the connection; an answer that is coming fails. Harmless when closed."""
        if self._bot is not None:
            await self._forget().stop()
        elif self._ending is not None:
            await self._ending

    def _forget(self) -> AsyncBot:
        assert self._bot is not None
        assert self._at_exit is not None
        bot, self._bot = self._bot, None
        self._at_exit.detach()
        return bot

    def send_message(
        self,
        text: str,
        attachments: Sequence[str] | None = None,
        *,
        timeout: float = LONGEST,
        silence: float = SILENCE,
    ) -> AgentStream:
        """Ask: ``async for chunk in api.send_message("…")``, or ``await`` it first and then loop.

        The last chunk is a `MsgEventEnd`. Leaving the loop early stops the answer.

        Args:
            text: What to ask.
            attachments: Paths relative to ``/workspace``, uploaded already.
            timeout: Longest answer, in seconds.
            silence: Longest silence in it, in seconds.

        Returns:
            The answer, as it comes in. It raises, when it is awaited or looped over,
            `AgentBusyException` while another answer is coming, and `AgentException`.
        """
        options = {"attachments": tuple(attachments or ()), "timeout": timeout, "silence": silence}
        return AgentStream(self, text, options)

    # What comes besides answers

    def _stray(self, event: Event) -> None:
        """A row that belongs to no question; on the IO thread, so that all keep their order."""
        if event.gateway == "agent" and event.role != "user" and (message := message_of(event)):
            self._soon(message)

    def _left(self, asked: Asked) -> None:
        """An answer was left early: what nobody read of it is for the callback. On the IO thread."""
        if asked.error.startswith("cancelled"):
            for event in asked.rest():
                self._stray(event)

    def _soon(self, message: ServerMessage) -> None:
        if self._loop is not None and self.callback is not None:
            with contextlib.suppress(RuntimeError):  # that loop has ended
                self._loop.call_soon_threadsafe(self._call, message)

    def _call(self, message: ServerMessage) -> None:
        if self.callback is not None:
            try:
                self.callback(message)
            except Exception:
                log.exception("the callback of %s failed", self.id)

    def _changed(self, event: Event) -> None:
        """The link went down, or came back; on the handlers' loop."""
        if self._loop is None or self._bot is None:
            return
        with contextlib.suppress(RuntimeError):
            if event.type == "connection.closed":
                self._loop.call_soon_threadsafe(self._lost)
            elif self._was_lost:
                self._loop.call_soon_threadsafe(self._call, MsgStatus())

    def _lost(self) -> None:
        self._was_lost = True
        if self._bot is None or self.on_disconnect is None:
            return
        bot = self._forget()
        self._ending = asyncio.ensure_future(bot.stop())
        try:
            self.on_disconnect(self)
        except Exception:
            log.exception("on_disconnect of %s failed", self.id)


class AgentStream:
    """An answer as it comes in: an asynchronous iterator of messages.

    Attributes:
        tokens: Tokens used; 0 until the end.
        answer: All that has arrived (`botbook.Asked`), or None before it was asked.
    """

    def __init__(self, api: AgentApi, text: str, options: dict[str, Any]) -> None:
        self._api = api
        self._text = text
        self._options = options
        self._events: AsyncIterator[Event] | None = None
        self._over = False
        self.tokens = 0
        self.answer: Asked | None = None

    def __await__(self) -> Any:
        return self._begun().__await__()

    async def _begun(self) -> AgentStream:
        """Ask, if it was not asked yet.

        Raises:
            AgentException: There is no connection.
            AgentBusyException: An answer is coming.
        """
        if self._events is not None:
            return self
        bot = self._api._bot
        if bot is None:
            raise AgentException("NOT_CONNECTED", "connect first", hint="await api.connect()")
        running = self._api._stream() if self._api._stream is not None else None
        if running is not None and not running._over:
            raise AgentBusyException("an answer is coming on this connection", code="BUSY")
        self._api._stream = weakref.ref(self)
        self.answer = bot.ask(self._text, watch=self._api._left, **self._options)
        self._events = aiter(self.answer)
        return self

    def __aiter__(self) -> AgentStream:
        return self

    async def __anext__(self) -> ServerMessage:
        if self._over:
            raise StopAsyncIteration
        await self._begun()
        try:
            while (message := await self._next()) is None:
                pass
        except BaseException:
            self._over = True
            raise
        if isinstance(message, MsgEventEnd):
            self._over, self.tokens = True, message.tokens_used
        return message

    async def _next(self) -> ServerMessage | None:
        """The next message of the answer, or None for what is none of its own."""
        assert self._events is not None
        try:
            event = await anext(self._events)
        except BotbookError as error:
            raise translated(error, answer=self.answer) from error
        message = message_of(event)
        if isinstance(message, MsgError | MsgGracefulDisconnect):
            self._api._call(message)
            return None
        return message

    async def aclose(self) -> None:
        """Stop the answer; nothing if it is over."""
        self._over = True
        if self.answer is not None:
            await self.answer.stop()


def _checked(address: str) -> str:
    """The address as the core takes it."""
    scheme, rest = urlsplit(address).scheme, address.partition(":")[2]
    fit = {"http": "ws", "https": "wss"}.get(scheme.lower(), scheme) + ":" + rest
    try:
        checked_url(fit, schemes=("ws", "wss"))
    except ConfigError as error:
        raise ValueError(f"{error}. {error.hint}") from None
    return fit


def _end(bot: AsyncBot) -> None:
    """Let go of a connection that nobody closed."""
    with contextlib.suppress(Exception):
        bot.run(bot.stop(drain=0.0))
