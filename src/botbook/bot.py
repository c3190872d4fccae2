"""The bot: `AsyncBot` is the core, written once; `Bot` is its blocking face, one line a method."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botbook._asking import LONGEST, SILENCE, Asked
from botbook._bus.outbox import Answer, BlockingAnswer
from botbook._bus.own import exec_event
from botbook._clock import SYSTEM, Clock
from botbook._config import Settings, settings
from botbook._connection import Connection, Row, Status
from botbook._data.archive import Archived
from botbook._data.erase import Forgotten
from botbook._data.exporting import Exported, export_events
from botbook._data.lazy import Engine
from botbook._errors import BotInterrupted, NotSupported
from botbook._handling import Handling, Registration
from botbook._inquiry import Inquiry
from botbook._net.loop import handler_loop
from botbook._speaking import Speaking, new_id
from botbook._tables import error_table, handler_table, history_table, interrupted_table
from botbook._transfer import Loaded, forget_user, load_file
from botbook.actions import Action, AnswerCompleted, Ask, History, HistoryItem, Native, Send, Sent
from botbook.events import Event

if TYPE_CHECKING:
    import pandas as pd

    from botbook._langbot import LangBot
    from botbook._local.world import World
    from botbook._monitoring import FeedbackWatch, Monitoring

__all__ = ["AsyncBot", "Bot", "Registration", "Status", "connect"]

T = TypeVar("T")

#: What can be asked of `AsyncBot.capabilities`, and the action behind it.
CAPABILITIES: Final[dict[str, type[Action]]] = {
    "answer": AnswerCompleted,
    "ask": Ask,
    "history": History,
    "native": Native,
    "send": Send,
}


class AsyncBot:
    """One connection to one gateway: a link, a journal, a frame and the handlers.

    Its link lives on a thread of its own, so it stays up while a cell or a handler is busy, and
    its methods may be awaited on any loop.

    Args:
        gateway: ``sim``, ``miti``, ``agent`` or ``langbot``.
        profile: Name of a profile.
        store: The journal's file; default ``BOTBOOK_STORE``, else ``.botbook/journal.sqlite``.
        clock: Time.
        **given: Fields of `Settings`, such as ``base_url``, ``app_id``, ``app_secret``, ``name``.

    Raises:
        ConfigError: A setting is missing or wrong.
    """

    def __init__(
        self,
        gateway: str = "sim",
        *,
        profile: str = "",
        store: str | os.PathLike[str] | None = None,
        clock: Clock = SYSTEM,
        **given: Any,
    ) -> None:
        self.settings: Settings = settings(gateway, profile=profile, **given)
        self._connection = Connection(
            self.settings, store=store, clock=clock, history=self._history, kept=self._kept
        )
        self._speaking = Speaking(self._connection)
        self._inquiry = Inquiry(self._connection)
        self._handling = Handling(self._connection, actor=_Actor(self), bot=self)
        self._on_io = self._connection.io.call

    def _kept(self, rows: Sequence[Row]) -> None:
        """Rows are on disk: have them handled. Runs on the writer's thread."""
        self._speaking.learn(rows)
        self._handling.dispatch(rows)

    async def _history(self, chat_id: str, limit: int) -> list[HistoryItem]:
        return await self._speaking.history(chat_id, limit)

    # The connection

    @property
    def name(self) -> str:
        """Name of the connection, as in the column ``bot``."""
        return self.settings.name

    @property
    def gateway(self) -> str:
        """Which gateway, as in the column ``gateway``."""
        return self.settings.gateway

    @property
    def sim(self) -> World:
        """The embedded world behind this connection.

        Raises:
            NotSupported: The gateway is a real one.
        """
        if self._connection.parts.world is None:
            raise NotSupported("embedded world", self.gateway, hint="Connect to `sim` for that.")
        return self._connection.parts.world

    def capabilities(self) -> list[str]:
        """What this gateway can do: some of ``answer``, ``ask``, ``history``, ``native``, ``send``."""
        can = self._connection.parts.wire.can
        asks = {Ask} if self._connection.parts.ask_chat is not None else set()
        return sorted(name for name, action in CAPABILITIES.items() if action in can | asks)

    @functools.cached_property
    def langbot(self) -> LangBot:
        """What a LangBot connection can do besides chatting.

        Raises:
            NotSupported: It is a connection to another gateway.
        """
        return self._sides(self._on_io)[0]

    @functools.cached_property
    def monitoring(self) -> Monitoring:
        """LangBot's lists as frames.

        Raises:
            NotSupported: It is a connection to another gateway.
        """
        return self._sides(self._on_io)[1]

    def _sides(self, do: Callable[[Coroutine[Any, Any, Any]], Any]) -> tuple[LangBot, Monitoring]:
        """Both, awaitable or blocking, as `do` says."""
        from botbook._monitoring import langbot_side  # no other gateway pays for it

        connection = self._connection
        return langbot_side(
            connection.parts.wire,
            connection.rest,
            api_key=connection.parts.api_key,
            do=do,
            clock=connection.clock,
        )

    def watch_feedback(self, *, every: float = 30.0) -> FeedbackWatch:
        """Poll LangBot's ratings, and keep what is new, changed or taken back as ``feedback.received``.

        Args:
            every: Seconds between polls.

        Raises:
            NotSupported: It is a connection to another gateway.
        """
        from botbook._monitoring import FeedbackWatch

        connection = self._connection
        watch = FeedbackWatch(
            self._sides(self._on_io)[1],
            connection.journal.publish,
            gateway=self.gateway,
            bot=self.name,
            clock=connection.clock,
            every=every,
        )
        connection.io.call_soon(connection.spawn, watch.run())
        return watch

    async def __aenter__(self) -> AsyncBot:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def start(self) -> AsyncBot:
        """Open the journal and the link.

        Returns:
            This bot, connected.

        Raises:
            StoreError: The journal cannot be opened.
            AuthError: The credentials were refused.
            TransportError: Nobody answers, or it is no gateway; within 10 s.
        """
        self._handling.open()
        try:
            await self._on_io(self._connection.open())
        except BaseException:
            await self.stop(drain=0.0)
            raise
        return self

    async def stop(self, *, drain: float = 1.0) -> None:
        """Let handlers finish, close the link, then the journal. Harmless when stopped already.

        Args:
            drain: Longest wait for handlers that run, in seconds; none is waited for when none runs.
        """
        await self._handling.close(drain=drain)
        await self._on_io(self._connection.close())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for one of this bot's coroutines from a thread without a loop of its own.

        Raises:
            KeyboardInterrupt: The stop button; the coroutine is cancelled, the link stays up.
        """
        try:
            return self._connection.io.run(work)
        except KeyboardInterrupt:
            raise BotInterrupted from None

    def status(self) -> Status:
        """How the connection is now."""
        bus, (lag_s, trouble) = self._handling.bus, self._handling.slow
        return self._connection.status(
            handled=bus.handled, queued=bus.queued, spilled=bus.spilled, lag_s=lag_s, trouble=trouble
        )

    # Handlers

    def on(
        self,
        pattern: str,
        handler: Callable[..., Any] | None = None,
        *,
        name: str = "",
        when: str | Callable[[Event], Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Register a handler; one of the same name is replaced at once.

        Args:
            pattern: ``message.received``, ``message.*`` or ``*``.
            handler: ``async def`` or ``def``; without it a decorator is returned.
            name: Default the function's own.
            when: A condition: an expression over the event's columns, or a function of the event.
            timeout: Longest run, in seconds; default the setting ``handler_timeout``, 60 s.

        Returns:
            The `Registration`.

        Raises:
            HandlerError: A wrong pattern, condition or signature.
        """
        if handler is None:
            return functools.partial(self.on, pattern, name=name, when=when, timeout=timeout)
        return self._handling.add(pattern, handler, name=name, when=when, timeout=timeout)

    def off(self, name: str) -> bool:
        """Take a handler away. Returns whether there was one of that name."""
        return self._handling.remove(name)

    def handlers(self) -> pd.DataFrame:
        """The handlers, one a row.

        Returns:
            Columns name, pattern, calls, failures, running, p50_ms, p95_ms, last_error, last_at.
        """
        return handler_table(self._handling.router)

    def errors(self) -> pd.DataFrame:
        """The last 200 failed calls, newest last.

        Returns:
            Columns at, handler, event_id, error, traceback.
        """
        return error_table(self._handling.problems)

    def interrupted(self) -> pd.DataFrame:
        """Calls that were cut off by the end of their process, or were about to begin then.

        Returns:
            Columns seq, handler, event_id, type, text.
        """
        return interrupted_table(self._connection.journal.store.interrupted())

    # Actions out

    async def send(self, to: str, text: str, *, markdown: bool = False) -> Sent:
        """Send a message.

        Args:
            to: ``user:ID`` or ``group:ID``.
            text: What to say.
            markdown: Whether it is markdown.

        Raises:
            ApiError: The gateway refused it.
            LocalProtocolError: `to` is no address.
        """
        action = Send(id=new_id(), to=to, text=text, markdown=markdown)
        return await self._on_io(self._speaking.send(action))

    async def reply(self, event: Event, text: str, *, markdown: bool = True) -> Sent:
        """Answer an event in its chat.

        Args:
            event: What to answer.
            text: What to say.
            markdown: Whether it is markdown.

        Raises:
            ApiError: The gateway refused it.
        """
        return await self._on_io(self._speaking.reply(event, text, markdown=markdown))

    async def send_native(self, body: Any, *, to: str = "", acknowledged: bool = False) -> Sent:
        """Pass something on in the gateway's own form; it leaves no row.

        Args:
            body: A message body where `to` is given, else a whole frame.
            to: ``user:ID``, ``group:ID`` or "".
            acknowledged: Say a frame again, also after a reconnect, until it is acknowledged; its
                id is ``header.event_id``.

        Raises:
            ApiError: The gateway refused it.
            NotSupported: The gateway has no such form.
        """
        return await self._on_io(self._speaking.native(body, to=to, acknowledged=acknowledged))

    def answer(self, event: Event) -> Answer:
        """Open a streamed answer: ``async with bot.answer(event) as a: await a.write("…")``."""
        return self._speaking.answer(event)

    async def history(
        self, chat_id: str, *, limit: int = 10, before: str = "", raw: bool = False
    ) -> pd.DataFrame:
        """Earlier messages of a chat, oldest first.

        Args:
            chat_id: The conversation.
            limit: How many at the most; Miti's own cap is 50.
            before: Only those before this message id.
            raw: Add the column ``raw``: each message as it came, JSON text.

        Returns:
            Columns role, text, sender_name, message_id, at (UTC, NaT where the gateway does not tell).

        Raises:
            ApiError: The gateway refused.
            NotSupported: The gateway keeps no history.
        """
        items = await self._on_io(self._speaking.history(chat_id, limit, before))
        return history_table(items, raw=raw)

    # Questions

    def ask(
        self,
        question: str,
        *,
        attachments: Sequence[str] = (),
        chat: str | None = None,
        timeout: float = LONGEST,
        silence: float = SILENCE,
        watch: Callable[[Asked], None] | None = None,
    ) -> Asked:
        """Ask an agent: ``async for event in bot.ask("…")``, or ``answer = await bot.ask("…")``.

        Args:
            question: What to ask.
            attachments: Paths or keys that the gateway holds already.
            chat: In this chat, opened on first use; default the connection's own.
            timeout: Longest answer, in seconds.
            silence: Longest silence in it, in seconds.
            watch: Called with the answer at each change, on the IO thread; must be quick.

        Returns:
            The answer, as it comes in; see `Asked` for what it raises.
        """
        return self._inquiry.ask(
            question, attachments=attachments, chat=chat, timeout=timeout, silence=silence, watch=watch
        )

    # What was seen

    def events(
        self,
        *,
        type: str | None = None,
        since: str | datetime | None = None,
        until: str | datetime | None = None,
        bot: str | None = None,
        limit: int | None = None,
        raw: bool = False,
        lazy: bool | Engine = False,
    ) -> Any:
        """The journal, its archive and the live tail as one frame, in the order of arrival.

        Args:
            type: A type, or a pattern such as ``message.*``.
            since: A time with zone, or an age such as ``"90s"``, ``"15m"``, ``"1h"``, ``"2d"``.
            until: The same.
            bot: Only this connection; default all that share the journal.
            limit: Only the newest so many.
            raw: Add the column ``raw``: the frame as it came, JSON text.
            lazy: Leave the events on the disk: a DuckDB relation, which metrics take too, or without
                DuckDB a `pyarrow.dataset.Dataset`; ``"duckdb"`` or ``"arrow"`` for one of them.

        Returns:
            A pandas frame with the columns of `Event`, in order; a copy that is yours.

        Warns:
            LargeFrame: It takes more than a quarter of the free memory.
        """
        filters = {"type": type, "since": since, "until": until, "bot": bot, "limit": limit, "raw": raw}
        if lazy:
            return self._connection.journal.lazy("auto" if lazy is True else lazy, **filters)
        return self._connection.journal.frame(**filters)

    async def wait(
        self,
        type: str = "message.received",
        *,
        count: int = 1,
        timeout: float = 30.0,
    ) -> pd.DataFrame:
        """Wait for the next events that no earlier call has returned.

        It looks back to the connection, or to where a handler was last defined: after that one
        waits for what the new handler does.

        Args:
            type: A type or a pattern.
            count: How many.
            timeout: Longest wait, in seconds.

        Returns:
            Those events, as `events` would give them.

        Raises:
            DeadlineExceeded: Fewer came in time.
        """
        waiting = self._connection.journal.wait(type, count=count, timeout=timeout)
        found = await self._on_io(waiting)
        frame: pd.DataFrame = self.events(type=type, bot=self.name)
        return frame[frame["event_id"].isin([event.event_id for event in found])].reset_index(drop=True)

    def audit(self, row: Mapping[str, Any]) -> None:
        """Keep a command of a sandbox as a ``box.exec`` row: for ``Box(audit=bot.audit)``.

        Args:
            row: What `botbook.sandbox.AsyncBox` tells of it. The columns are text (the command),
                chat_id (the session), latency_s (how long it took), error and raw (the whole row).

        Raises:
            StoreError: The journal is closed.
        """
        made = self.settings
        now = self._connection.clock.now()
        self._connection.keep([exec_event(row, gateway=made.gateway, bot=made.name, now=now)])

    def record(self, path: str | os.PathLike[str] | None) -> None:
        """Write every event from now on to a file, one JSON object a line; None ends that.

        Raises:
            StoreError: The file cannot be written.
        """
        self._connection.journal.record(path)

    # What is kept

    async def archive(self, *, before: str | datetime = "30d") -> Archived:
        """Move events that arrived before a time into Parquet files; see `Store.archive`."""
        return await asyncio.to_thread(self._connection.journal.store.archive, before=before)

    async def discard(self, *, before: str | datetime) -> int:
        """Delete archived files with nothing younger than a time; returns how many events are gone."""
        return await asyncio.to_thread(self._connection.journal.store.discard, before=before)

    async def export(self, path: str | os.PathLike[str], **options: Any) -> Exported:
        """Write events to a file: Parquet, CSV, JSON lines or Delta; see `export_events` for the options."""
        return await asyncio.to_thread(export_events, self._connection.journal.store, path, **options)

    async def load(self, path: str | os.PathLike[str], **options: Any) -> Loaded:
        """Bring the events of a file into the journal; no handler runs; see `load_file` for the options."""
        return await asyncio.to_thread(load_file, self._connection.journal.store, path, **options)

    async def forget(self, who: str) -> Forgotten:
        """Erase a user, ``user:ID``, from journal, archive and handler records; see `erase.forget`."""
        return await asyncio.to_thread(forget_user, self._connection.journal.store, who)


class _Actor:
    """What a handler's event acts with: awaitables where a loop runs, else deeds."""

    def __init__(self, bot: AsyncBot) -> None:
        self._bot = bot

    def reply(self, event: Event, text: str, *, markdown: bool = True) -> Any:
        work = self._bot.reply(event, text, markdown=markdown)
        return work if _on_a_loop() else self._bot.run(work)

    def answer(self, event: Event) -> Answer | BlockingAnswer:
        answer = self._bot.answer(event)
        return answer if _on_a_loop() else BlockingAnswer(answer, handler_loop().run)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Bot:
    """A connection for cells and scripts: every method has acted when it returns.

    The stop button ends a waiting call and leaves the link up. `aio` is the same bot for ``await``.

    Args:
        gateway: ``sim``, ``miti``, ``agent`` or ``langbot``.
        **given: As for `AsyncBot`.

    Raises:
        BotbookError: As `AsyncBot` and `AsyncBot.start`.
    """

    def __init__(self, gateway: str = "sim", **given: Any) -> None:
        self.aio = AsyncBot(gateway, **given)
        self._run = self.aio.run
        self._run(self.aio.start())
        self._end = weakref.finalize(self, _end, self.aio)
        # By itself too: the loops, registered before, must not end before the bots do.
        atexit.register(self._end)

    def __enter__(self) -> Bot:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        status = self.status()
        return f"<Bot {status.name} on {status.gateway}: {status.state}, {status.events} events>"

    @property
    def name(self) -> str:
        """Name of the connection."""
        return self.aio.name

    @property
    def gateway(self) -> str:
        """Which gateway."""
        return self.aio.gateway

    @property
    def settings(self) -> Settings:
        """Its settings; secrets are masked."""
        return self.aio.settings

    @property
    def sim(self) -> World:
        """See `AsyncBot.sim`."""
        return self.aio.sim

    def capabilities(self) -> list[str]:
        """See `AsyncBot.capabilities`."""
        return self.aio.capabilities()

    @functools.cached_property
    def langbot(self) -> LangBot:
        """See `AsyncBot.langbot`; every call waits."""
        return self.aio._sides(self._run)[0]

    @functools.cached_property
    def monitoring(self) -> Monitoring:
        """See `AsyncBot.monitoring`; every call waits."""
        return self.aio._sides(self._run)[1]

    def watch_feedback(self, *, every: float = 30.0) -> FeedbackWatch:
        """See `AsyncBot.watch_feedback`."""
        return self.aio.watch_feedback(every=every)

    def status(self) -> Status:
        """See `AsyncBot.status`."""
        return self.aio.status()

    def on(self, pattern: str, handler: Callable[..., Any] | None = None, **options: Any) -> Any:
        """See `AsyncBot.on`."""
        return self.aio.on(pattern, handler, **options)

    def off(self, name: str) -> bool:
        """See `AsyncBot.off`."""
        return self.aio.off(name)

    def handlers(self) -> pd.DataFrame:
        """See `AsyncBot.handlers`."""
        return self.aio.handlers()

    def errors(self) -> pd.DataFrame:
        """See `AsyncBot.errors`."""
        return self.aio.errors()

    def interrupted(self) -> pd.DataFrame:
        """See `AsyncBot.interrupted`."""
        return self.aio.interrupted()

    def events(self, **filters: Any) -> Any:
        """See `AsyncBot.events`."""
        return self.aio.events(**filters)

    def audit(self, row: Mapping[str, Any]) -> None:
        """See `AsyncBot.audit`."""
        self.aio.audit(row)

    def record(self, path: str | os.PathLike[str] | None) -> None:
        """See `AsyncBot.record`."""
        self.aio.record(path)

    def archive(self, *, before: str | datetime = "30d") -> Archived:
        """See `AsyncBot.archive`."""
        return self._run(self.aio.archive(before=before))

    def discard(self, *, before: str | datetime) -> int:
        """See `AsyncBot.discard`."""
        return self._run(self.aio.discard(before=before))

    def export(self, path: str | os.PathLike[str], **options: Any) -> Exported:
        """See `AsyncBot.export`."""
        return self._run(self.aio.export(path, **options))

    def load(self, path: str | os.PathLike[str], **options: Any) -> Loaded:
        """See `AsyncBot.load`."""
        return self._run(self.aio.load(path, **options))

    def forget(self, who: str) -> Forgotten:
        """See `AsyncBot.forget`."""
        return self._run(self.aio.forget(who))

    def send_native(self, body: Any, *, to: str = "", acknowledged: bool = False) -> Sent:
        """See `AsyncBot.send_native`."""
        return self._run(self.aio.send_native(body, to=to, acknowledged=acknowledged))

    def send(self, to: str, text: str, *, markdown: bool = False) -> Sent:
        """See `AsyncBot.send`."""
        return self._run(self.aio.send(to, text, markdown=markdown))

    def reply(self, event: Event, text: str, *, markdown: bool = True) -> Sent:
        """See `AsyncBot.reply`."""
        return self._run(self.aio.reply(event, text, markdown=markdown))

    def history(self, chat_id: str, *, limit: int = 10, before: str = "", raw: bool = False) -> pd.DataFrame:
        """See `AsyncBot.history`."""
        return self._run(self.aio.history(chat_id, limit=limit, before=before, raw=raw))

    def wait(self, type: str = "message.received", *, count: int = 1, timeout: float = 30.0) -> pd.DataFrame:
        """See `AsyncBot.wait`."""
        return self._run(self.aio.wait(type, count=count, timeout=timeout))

    def ask(self, question: str, **options: Any) -> Asked:
        """Ask, and wait for the whole answer; see `AsyncBot.ask`. The stop button stops the answer."""
        return self._run(self.aio.ask(question, **options).whole())

    def stop(self, *, drain: float = 1.0) -> None:
        """See `AsyncBot.stop`."""
        self._run(self.aio.stop(drain=drain))
        self._end.detach()
        atexit.unregister(self._end)


def _end(aio: AsyncBot) -> None:
    """Close the link of a bot that nobody holds any more, or at the end of the process."""

    async def end() -> None:
        async with asyncio.timeout(1.0):
            await aio.stop(drain=0.0)

    with contextlib.suppress(Exception):
        aio.run(end())


def connect(gateway: str = "sim", **given: Any) -> Bot:
    """Connect to a gateway.

    Args:
        gateway: ``sim`` (the embedded world, needs nothing), ``miti``, ``agent`` or ``langbot``.
        **given: Fields of `Settings`, and ``profile``, ``store``.

    Returns:
        A `Bot`, connected.

    Raises:
        ConfigError: A setting is missing or wrong.
        AuthError: The credentials were refused.
        TransportError: Nobody answers, or it is no gateway; within 10 s.
        StoreError: The journal cannot be opened.
    """
    return Bot(gateway, **given)
