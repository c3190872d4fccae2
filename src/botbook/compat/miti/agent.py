"""`MitiAgent` over botbook's core (protocols/miti.md 8)."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from botbook._config import checked_url, settings
from botbook._errors import ConfigError
from botbook.bot import AsyncBot
from botbook.compat.miti.builders import build_stream_full_markdown
from botbook.compat.miti.models import HistoryMessage, agent_event
from botbook.events import Event

__all__ = ["BackpressureError", "MitiAgent", "enable_logging"]

F = TypeVar("F", bound=Callable[..., Any])

RECEIVE: Final = "im.message.receive"
GROUP_AT: Final = "im.message.group_at"
CANCEL: Final = "assistant.cancel"


class BackpressureError(RuntimeError):
    """Kept for programs that catch it; never raised, since nothing is turned away here."""


class MitiAgent:
    """An agent of the Miti platform.

    Handlers are ``async def`` or ``def`` and get an `AgentEvent`. Events of one chat are handled
    in order, chats side by side, and none is dropped.

    Args:
        app_id: The agent's id.
        app_secret: Its secret.
        base_url: Default the environment's ``MITI_API_BASE_URL``, else the public gateway.
        **options: Options of `botbook.AsyncBot`, such as ``store``.

    Raises:
        ValueError: The address is none, or would send the secret in the clear.
    """

    def __init__(self, app_id: str, app_secret: str, base_url: str | None = None, **options: Any) -> None:
        self._given = {"app_id": app_id, "app_secret": app_secret, "base_url": base_url or "", **options}
        try:
            checked_url(
                settings("miti", app_id=app_id, app_secret=app_secret, base_url=base_url or "").base_url
            )
        except ConfigError as error:
            raise ValueError(str(error)) from None
        self.app_id = app_id
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._bot: AsyncBot | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # Handlers

    def on(self, event_type: str) -> Callable[[F], F]:
        """Decorator: handle one type of frame, or ``*`` for those that nothing else handles."""

        def register(function: F) -> F:
            self._handlers[event_type] = function
            return function

        return register

    def on_message(self, function: F) -> F:
        """Decorator: handle messages of direct chats."""
        return self.on(RECEIVE)(function)

    def on_group_at(self, function: F) -> F:
        """Decorator: handle mentions in groups."""
        return self.on(GROUP_AT)(function)

    def on_cancel(self, function: F) -> F:
        """Decorator: handle the asker's wish to stop an answer."""
        return self.on(CANCEL)(function)

    def on_overload(self, function: F) -> F:
        """Decorator, kept for its callers: nothing is dropped here, so `function` is never called."""
        return function

    async def _handle(self, event: Event) -> None:
        """Give a frame to its handler."""
        made = agent_event(event.raw, self)
        function = self._handler_for(made.header.event_type)
        if function is None:
            return
        if not inspect.iscoroutinefunction(function):
            await asyncio.to_thread(function, made)
        elif self._loop is None or self._loop is asyncio.get_running_loop():
            await function(made)
        else:  # the program's own loop: what its handlers hold may be bound to it
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(made), self._loop))

    def _wants(self, event: Event) -> bool:
        raw = event.raw
        return isinstance(raw, dict) and self._handler_for(_event_type(raw)) is not None

    def _handler_for(self, event_type: str) -> Callable[..., Any] | None:
        return self._handlers.get(event_type) or (self._handlers.get("*") if event_type else None)

    # Running

    def run(self) -> None:
        """Connect and serve until SIGINT, SIGTERM, `close` or the notebook's stop button."""
        with contextlib.suppress(KeyboardInterrupt):
            _wait(self.run_async())

    async def run_async(self, *, register_signals: bool = True) -> None:
        """The same, to be awaited. Cancelling it closes the link and is not swallowed.

        Args:
            register_signals: End on SIGINT and SIGTERM too, where this runs on the main thread.

        Raises:
            AuthError: The credentials were refused.
            TransportError: Nobody answers, or it is no gateway.
        """
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        bot = AsyncBot("miti", **self._given)
        bot.on("*", self._handle, name="miti_agent", when=self._wants)
        undo = _on_signals(self._loop, self._stop.set) if register_signals else contextlib.nullcontext()
        with undo:
            try:
                async with bot:
                    self._bot = bot
                    await self._stop.wait()
            finally:
                self._bot = None

    async def close(self) -> None:
        """End `run` or `run_async`, from any loop; handlers that run may finish."""
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # that loop is gone, and the link with it
                self._loop.call_soon_threadsafe(self._stop.set)

    # Calls

    async def send_message(
        self,
        *,
        to_user_id: str | None = None,
        to_group_id: str | None = None,
        msg_type: str = "text",
        content: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a message of any type.

        Returns:
            ``{"message_id": …, "server_time": …}``, as far as the gateway tells.

        Raises:
            ValueError: Not exactly one of `to_user_id` and `to_group_id`.
            ApiError: The gateway refused it.
        """
        if bool(to_user_id) == bool(to_group_id):
            raise ValueError("give either to_user_id or to_group_id")
        to = f"user:{to_user_id}" if to_user_id else f"group:{to_group_id}"
        body = {"msg_type": msg_type, "content": content or {}}
        sent = await self._connected().send_native(body, to=to)
        told = {"message_id": sent.message_id, "server_time": str(sent.server_time or "")}
        return {key: value for key, value in told.items() if value}

    async def send_markdown_reply(
        self,
        markdown: str,
        *,
        to_user_id: str | None = None,
        to_group_id: str | None = None,
        ask_msg_id: str = "",
    ) -> dict[str, Any]:
        """Send markdown; see `send_message`."""
        content = build_stream_full_markdown(markdown, ask_msg_id)
        return await self.send_message(
            to_user_id=to_user_id, to_group_id=to_group_id, msg_type="stream_full", content=content
        )

    async def send_gateway_event(self, payload: dict[str, Any], *, wait_for_ack: bool = True) -> None:
        """Put a frame on the socket.

        Args:
            payload: The whole frame; see the ``build_assistant_…`` functions.
            wait_for_ack: Say it again, also after a reconnect, until it is acknowledged.

        Raises:
            ApiError: The gateway refused it.
            DeadlineExceeded: It was never acknowledged.
        """
        await self._connected().send_native(payload, acknowledged=wait_for_ack)

    async def get_history(
        self, conversation_id: str, limit: int = 10, before_message_id: str = ""
    ) -> list[HistoryMessage]:
        """Earlier messages of a conversation, oldest first; the gateway gives 50 at the most."""
        frame = await self._connected().history(conversation_id, limit=limit, before=before_message_id)
        return [
            HistoryMessage(
                role=row["role"],
                content=row["text"],
                sender_name=row["sender_name"],
                message_id=row["message_id"],
                send_time="" if row["at"] != row["at"] else str(int(row["at"].timestamp() * 1000)),
            )
            for row in frame.to_dict("records")
        ]

    def _connected(self) -> AsyncBot:
        if self._bot is None:
            raise RuntimeError("the agent is not running: call run() or await run_async()")
        return self._bot


def enable_logging(
    level: int = logging.INFO, fmt: str = "%(asctime)s [%(name)s] %(levelname)s %(message)s"
) -> None:
    """Show botbook's log on stderr; calling it again changes the level. No secret is ever in it."""
    logger = logging.getLogger("botbook")
    logger.setLevel(level)
    ours = [handler for handler in logger.handlers if getattr(handler, "botbook_shown", False)]
    handler = ours[0] if ours else logging.StreamHandler()
    handler.setFormatter(logging.Formatter(fmt))
    if not ours:
        handler.botbook_shown = True  # type: ignore[attr-defined]
        logger.addHandler(handler)


def _event_type(raw: dict[str, Any]) -> str:
    header = raw.get("header")
    kind = header.get("event_type") if isinstance(header, dict) else ""
    return kind if isinstance(kind, str) else ""


def _wait(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end: on a loop of our own in a script, on another thread's where a loop runs already."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    from botbook._net.loop import handler_loop

    handler_loop().run(work)


@contextlib.contextmanager
def _on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Any:
    """End on SIGINT and SIGTERM, where that can be had: on the main thread, and not on Windows."""
    caught = []
    for name in ("SIGINT", "SIGTERM"):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(getattr(signal, name), stop)
            caught.append(getattr(signal, name))
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
