"""`MitiAgent` over botbook's core (protocols/miti.md 8)."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import json
import logging
import math
import signal
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final, TypeVar

from botbook._config import Secret, checked_url, settings
from botbook._errors import ApiError, ConfigError, ConnectionLost, DeadlineExceeded
from botbook.bot import AsyncBot
from botbook.compat.miti.builders import build_stream_full_markdown
from botbook.compat.miti.errors import AckTimeout, FrameRefused
from botbook.compat.miti.models import HistoryMessage, agent_event
from botbook.events import Event

__all__ = ["MitiAgent", "enable_logging"]

log = logging.getLogger("botbook")

F = TypeVar("F", bound=Callable[..., Any])

RECEIVE: Final = "im.message.receive"
GROUP_AT: Final = "im.message.group_at"
CANCEL: Final = "assistant.cancel"


class MitiAgent:
    """An agent of the Miti platform.

    Handlers are ``async def`` or ``def`` and get an `AgentEvent`. Events of one chat are handled
    in order, chats side by side, and none is dropped. Handlers of one type run one after the
    other; a second one of the same name replaces the first, as when a cell is run again.

    Args:
        app_id: The agent's id.
        app_secret: Its secret.
        base_url: Default the environment's ``MITI_API_BASE_URL``, else the public gateway.
        **options: Options of `botbook.AsyncBot`, such as ``store`` or ``handler_timeout`` (in
            seconds; here handlers may run for ever by default).

    Raises:
        ValueError: The address is none, or would send the secret in the clear; or no such option.
    """

    def __init__(self, app_id: str, app_secret: str, base_url: str | None = None, **options: Any) -> None:
        given = {"app_id": app_id, "app_secret": Secret(app_secret), "base_url": base_url or "", **options}
        try:
            made = settings("miti", **{key: given[key] for key in given if key not in ("store", "clock")})
            checked_url(made.base_url)
        except ConfigError as error:
            raise ValueError(f"{error}. {error.hint}") from None
        self.app_id = made.app_id
        self._given = given
        self._timeout = made.handler_timeout if "handler_timeout" in options else math.inf
        self._handlers: dict[str, tuple[str, Callable[..., Any]]] = {}
        self._bot: AsyncBot | None = None
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<MitiAgent {self.app_id}: {'runs' if self._stop else 'does not run'}>"

    # Handlers

    def on(self, event_type: str) -> Callable[[F], F]:
        """Decorator: handle one type of frame, or ``*`` for those that nothing else handles."""
        return functools.partial(self._register, event_type)

    def on_message(self, function: F) -> F:
        """Decorator: handle messages of direct chats."""
        return self._register(RECEIVE, function)

    def on_group_at(self, function: F) -> F:
        """Decorator: handle mentions in groups."""
        return self._register(GROUP_AT, function)

    def on_cancel(self, function: F) -> F:
        """Decorator: handle the asker's wish to stop an answer. It overtakes the messages of its chat."""
        return self._register(CANCEL, function)

    def on_overload(self, function: F) -> F:
        """Decorator, kept for its callers: nothing is dropped here, so `function` is never called."""
        return function

    def off(self, function: Callable[..., Any]) -> bool:
        """Take a handler away. Returns whether it was there."""
        names = [name for name, (_, known) in self._handlers.items() if known is function]
        for name in names:
            del self._handlers[name]
            if self._stop is not None and self._bot is not None:
                self._bot.off(name)
        return bool(names)

    def _register(self, event_type: str, function: F) -> F:
        name = f"{event_type} {getattr(function, '__name__', type(function).__name__)}"
        self._handlers[name] = event_type, function
        if self._stop is not None and self._bot is not None:
            self._attach(self._bot, name)
        return function

    def _attach(self, bot: AsyncBot, name: str) -> None:
        event_type, function = self._handlers[name]

        async def handle(event: Event) -> None:
            await self._call(function, event)

        def wants(event: Event) -> bool:
            kind = _event_type(event.raw)
            return kind == event_type or (event_type == "*" and kind != "" and not self._handles(kind))

        bot.on("*", handle, name=name, when=wants, timeout=self._timeout)

    def _handles(self, event_type: str) -> bool:
        return any(known == event_type for known, _ in self._handlers.values())

    async def _call(self, function: Callable[..., Any], event: Event) -> None:
        """Give a frame to a handler."""
        made = agent_event(event.raw, self)
        try:
            if inspect.iscoroutinefunction(function):
                await self._at_home(function(made))
            elif inspect.isawaitable(result := await asyncio.to_thread(function, made)):
                await self._at_home(result)
        except Exception:
            log.exception("a handler of %s failed, event %s", made.header.event_type, event.event_id)
            raise

    async def _at_home(self, work: Awaitable[Any]) -> None:
        """Await on the program's own loop: what a handler holds may be bound to that."""
        if self._loop is None or self._loop is asyncio.get_running_loop():
            await work
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_awaited(work), self._loop))

    # Running

    def run(self) -> None:
        """Connect and serve until SIGINT, SIGTERM, `close` or the notebook's stop button.

        Raises:
            AuthError: The credentials were refused.
            TransportError: Nobody answers, or it is no gateway.
        """
        with contextlib.suppress(KeyboardInterrupt):
            _wait(self.run_async())

    async def run_async(self, *, register_signals: bool = True) -> None:
        """The same, to be awaited. Cancelling it closes the link and is not swallowed.

        Args:
            register_signals: End on SIGINT and SIGTERM too, where this runs on the main thread.

        Raises:
            AuthError: The credentials were refused.
            TransportError: Nobody answers, or it is no gateway.
            RuntimeError: It runs already.
        """
        if self._stop is not None:
            raise RuntimeError("this agent runs already")
        bot = self._core()
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            for name in self._handlers:
                self._attach(bot, name)
            with _on_signals(self._loop, self._stop.set) if register_signals else contextlib.nullcontext():
                await _until(self._stop, bot.start())
                await self._stop.wait()
        finally:
            if self._bot is bot:  # else `close` has stopped it, because this loop had gone
                try:
                    await bot.stop()
                finally:
                    self._forget()

    async def close(self) -> None:
        """End `run` or `run_async`, from any loop, and let go of connections; running handlers may finish."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        elif self._bot is not None:
            bot = self._bot
            self._forget()
            await bot.stop()

    def _core(self) -> AsyncBot:
        """The bot beneath; one that does not run is good for REST."""
        if self._bot is None:
            self._bot = AsyncBot("miti", **self._given)
            self._at_exit = weakref.finalize(self, _end, self._bot)
            atexit.register(self._at_exit)  # by itself too: before the loops end
        return self._bot

    def _forget(self) -> None:
        self._at_exit.detach()
        atexit.unregister(self._at_exit)
        self._bot = self._loop = self._stop = None

    # Calls

    async def send_message(
        self,
        *,
        to_user_id: str | None = None,
        to_group_id: str | None = None,
        msg_type: str = "text",
        content: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a message of any type; the agent need not run.

        Returns:
            ``{"message_id": …, "server_time": …}``, as far as the gateway tells.

        Raises:
            ValueError: Not exactly one of `to_user_id` and `to_group_id`.
            ApiError: The gateway refused it.
        """
        if bool(to_user_id) == bool(to_group_id):
            raise ValueError("give either to_user_id or to_group_id")
        to = f"user:{to_user_id}" if to_user_id else f"group:{to_group_id}"
        sent = await self._core().send_native({"msg_type": msg_type, "content": content or {}}, to=to)
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
            wait_for_ack: Say it again, also after a reconnect, until it is acknowledged. Without, a
                frame that finds the link down is lost.

        Raises:
            ValueError: A frame without ``header.event_id`` cannot be acknowledged.
            RuntimeError: The agent does not run.
            FrameRefused: The gateway refused it; also an `ApiError` and a RuntimeError.
            AckTimeout: It was never acknowledged; also a `DeadlineExceeded` and a TimeoutError.
        """
        if self._stop is None or self._bot is None:
            raise RuntimeError("the agent does not run: call run() or await run_async()")
        if wait_for_ack and not payload.get("header", {}).get("event_id"):
            raise ValueError("a frame without header.event_id cannot be acknowledged")
        try:
            await self._bot.send_native(payload, acknowledged=wait_for_ack)
        except ApiError as error:
            raise FrameRefused(str(error), code=error.code, hint=error.hint) from None
        except DeadlineExceeded as error:
            raise AckTimeout(str(error), hint=error.hint) from None
        except ConnectionLost:
            if wait_for_ack:
                raise

    async def get_history(
        self, conversation_id: str, limit: int = 10, before_message_id: str = ""
    ) -> list[HistoryMessage]:
        """Earlier messages of a conversation, as the gateway orders them; it gives 50 at the most.

        Raises:
            ApiError: The gateway refused.
        """
        frame = await self._core().history(conversation_id, limit=limit, before=before_message_id, raw=True)
        return [_history_message(row) for row in frame.to_dict("records")]


def _history_message(row: dict[Any, Any]) -> HistoryMessage:
    known = row["at"] == row["at"]  # NaT is not
    return HistoryMessage(
        role=row["role"],
        content=json.loads(row["raw"]).get("content", {}),
        sender_name=row["sender_name"],
        message_id=row["message_id"],
        send_time=str(int(row["at"].timestamp() * 1000)) if known else "",
    )


def enable_logging(
    level: int = logging.INFO, fmt: str = "%(asctime)s [%(name)s] %(levelname)s %(message)s"
) -> None:
    """Show botbook's log on stderr; calling it again changes level and form. No secret is ever in it."""
    logger = logging.getLogger("botbook")
    logger.setLevel(level)
    ours = [handler for handler in logger.handlers if getattr(handler, "botbook_shown", False)]
    handler = ours[0] if ours else logging.StreamHandler()
    handler.setFormatter(logging.Formatter(fmt))
    if not ours:
        handler.botbook_shown = True  # type: ignore[attr-defined]
        logger.addHandler(handler)


def _event_type(raw: Any) -> str:
    header = raw.get("header") if isinstance(raw, dict) else None
    kind = header.get("event_type") if isinstance(header, dict) else ""
    return kind if isinstance(kind, str) else ""


async def _awaited(work: Awaitable[Any]) -> None:
    await work


async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Do some work, or leave it when the stop is asked for."""
    tasks = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
def _on_signals(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> Iterator[None]:
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


def _end(bot: AsyncBot) -> None:
    """Let go of the connections of an agent that nobody holds any more."""

    async def end() -> None:
        async with asyncio.timeout(1.0):
            await bot.stop(drain=0.0)

    with contextlib.suppress(Exception):
        bot.run(end())
