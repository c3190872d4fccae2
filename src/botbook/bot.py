"""The bot: `AsyncBot` is the core, written once; `Bot` is its blocking face, one line a method."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import logging
import os
import uuid
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast

from botbook._asking import LONGEST, SILENCE, Asked, Questions
from botbook._bus.bus import Bus, Row
from botbook._bus.handler import Call, Handler, condition
from botbook._bus.outbox import Answer, BlockingAnswer, Outbox
from botbook._bus.own import connection_event, failed_event, sent_event
from botbook._bus.router import Router
from botbook._clock import SYSTEM, Clock
from botbook._config import Settings, settings
from botbook._data.store import Mark
from botbook._errors import AnswerError, BotInterrupted, ConnectionLost, LocalProtocolError, NotSupported
from botbook._gaps import GapRepair
from botbook._gateways import open_gateway
from botbook._journal import Journal
from botbook._lines import Line, Lines
from botbook._net.auth import TokenSource
from botbook._net.http import Rest
from botbook._net.link import Link, LinkState
from botbook._net.loop import Lag, handler_loop, io_loop
from botbook._tables import error_table, handler_table, history_table, interrupted_table
from botbook.actions import Abandon, Action, Ask, History, HistoryItem, Native, Run, Send, Sent
from botbook.events import Event
from botbook.wire.contract import Ack, HttpRequest, Received, Wire

if TYPE_CHECKING:
    import pandas as pd

    from botbook._local.world import World

__all__ = ["AsyncBot", "Bot", "Registration", "Status", "connect"]

log = logging.getLogger("botbook")

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a connection is.

    Attributes:
        name: Its name.
        gateway: Which gateway.
        base_url: Where, "" for the embedded world.
        state: ``idle``, ``authenticating``, ``connecting``, ``open``, ``waiting``, ``stopping``,
            ``stopped`` or ``failed``.
        since: When that state began, in UTC.
        events: Events received.
        handled: Events that went through handlers.
        duplicates: Events that came again and were left out.
        malformed: Frames that could not be read.
        reconnects: How often the link came back.
        gaps: How often events may have been missed.
        queued: Events in memory that no handler has begun.
        spilled: Events that waited in the journal because their chat's queue was full.
        backlog: Events that wait for the disk.
        lag_s: Last hold of the handlers' loop that was too long, in seconds.
        error: The last trouble, one line, or "".
        store: The journal's file.
    """

    name: str
    gateway: str
    base_url: str
    state: str
    since: datetime
    events: int
    handled: int
    duplicates: int
    malformed: int
    reconnects: int
    gaps: int
    queued: int
    spilled: int
    backlog: int
    lag_s: float
    error: str
    store: str


#: States in which a link is on its way up, or up.
_COMING_UP: Final = frozenset({"idle", "authenticating", "connecting", "open"})


class Registration:
    """A registered handler; also what ``@bot.on(...)`` leaves behind.

    Attributes:
        name: Its name.
        pattern: What it is for.
    """

    def __init__(self, handler: Handler, off: Callable[[str], bool]) -> None:
        self.name = handler.name
        self.pattern = handler.pattern
        self._off = off

    def off(self) -> bool:
        """Take the handler away. Returns whether it was still there."""
        return self._off(self.name)

    def __repr__(self) -> str:
        return f"<{self.name} handles {self.pattern}>"


def _on_io(
    method: Callable[Concatenate[AsyncBot, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[AsyncBot, P], Coroutine[Any, Any, T]]:
    """Run a coroutine method on the IO loop, whatever loop it is awaited on."""

    @functools.wraps(method)
    async def call(self: AsyncBot, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._io.call(method(self, *args, **kwargs))

    return call


class AsyncBot:
    """One connection to one gateway: a link, a journal, a frame and the handlers.

    Its link lives on a thread of its own, so it stays up while a cell or a handler is busy, and
    its methods may be awaited on any loop.

    Args:
        gateway: ``sim`` or ``miti``.
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
        self._clock = clock
        self._parts = open_gateway(self.settings, clock=clock)
        self._io, self._loop = io_loop(), handler_loop()
        self._tokens = TokenSource(self._parts.wire.token_request, self._parts.http, clock=clock)
        self._rest = Rest(self._parts.http, self._tokens, clock=clock)
        first = self._line(self._parts.wire, self._on_state)
        self._link = first.link
        self._lines = Lines(first, open_chat=self._open_chat(), gateway=gateway, clock=clock)
        self._questions = Questions(clock=clock, lost=self._lost, publish=self._keep_all)
        self._outbox = Outbox(self._say, opened=self._link.wait_open, clock=clock)
        self._router = Router()
        self._bus = Bus(
            self._router,
            start=self._claim,
            finish=self._finished,
            fetch=self._waiting_in_journal,
            actor=_Actor(self),
            extra={"bot": self},
            clock=clock,
        )
        self._store_path = store
        self._journal: Journal | None = None
        self._private: dict[str, str] = {}
        self._problems: deque[Call] = deque(maxlen=200)
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_at: datetime | None = None
        self._gaps: GapRepair | None = None
        self._slow: tuple[float, str] = 0.0, ""

    def _line(self, wire: Wire, on_state: Callable[[Line, str], None]) -> Line:
        """A link for a wire, with everything that all links of this bot share."""
        line: Line

        def changed(state: LinkState) -> None:
            on_state(line, state)

        line = Line(
            wire,
            Link(
                wire,
                dial=self._parts.dial,
                tokens=self._tokens,
                deliver=self._deliver,
                on_state=changed,
                clock=self._clock,
            ),
        )
        return line

    def _open_chat(self) -> Callable[[str], Line] | None:
        wire_for = self._parts.open_chat
        if wire_for is None:
            return None
        return lambda chat: self._line(wire_for(chat), self._on_chat_state)

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
        if self._parts.world is None:
            raise NotSupported("embedded world", self.gateway, hint="Connect to `sim` for that.")
        return self._parts.world

    async def __aenter__(self) -> AsyncBot:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @_on_io
    async def start(self) -> AsyncBot:
        """Open the journal and the link.

        Returns:
            This bot, connected.

        Raises:
            StoreError: The journal cannot be opened.
            AuthError: The credentials were refused.
            TransportError: Nobody answers, or it is no gateway; within 10 s.
        """
        _BOTS.add(self)
        self._loop.watch(_on_lag)
        self._journal = await asyncio.to_thread(
            Journal, self._store_path, gateway=self.gateway, bot=self.name, clock=self._clock
        )
        self._journal.watch(self._kept)
        self._gaps = GapRepair(
            self._journal, history=self._history, gateway=self.gateway, bot=self.name, clock=self._clock
        )
        try:
            if self._parts.world is not None:
                await self._parts.world.start()
            await self._link.start()
        except BaseException:
            await self.stop(drain=0.0)
            raise
        return self

    @_on_io
    async def stop(self, *, drain: float = 1.0) -> None:
        """Let handlers finish, close the link, then the journal. Harmless when stopped already.

        Args:
            drain: Longest wait for handlers that run, in seconds; none is waited for when none runs.
        """
        _BOTS.discard(self)
        await self._loop.call(self._bus.stop(drain=drain))
        for task in list(self._tasks):
            task.cancel()
        await self._link.stop()
        self._outbox.close()
        await self._tokens.close()
        if self._parts.world is not None:
            await self._parts.world.stop()
        await self._parts.http.close()
        if self._journal is not None:
            await asyncio.to_thread(self._journal.close)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for one of this bot's coroutines from a thread without a loop of its own.

        Raises:
            KeyboardInterrupt: The stop button; the coroutine is cancelled, the link stays up.
        """
        try:
            return self._io.run(work)
        except KeyboardInterrupt:
            raise BotInterrupted from None

    def status(self) -> Status:
        """How the connection is now."""
        link, journal = self._link, self._journal
        store = journal.store if journal else None
        trouble = (journal and journal.trouble) or link.last_error
        return Status(
            name=self.name,
            gateway=self.gateway,
            base_url=self.settings.base_url,
            state=link.state,
            since=link.since,
            events=link.counters.events,
            handled=self._bus.handled,
            duplicates=link.counters.duplicates + (store.duplicates if store else 0),
            malformed=link.counters.malformed,
            reconnects=link.counters.reconnects,
            gaps=self._gaps.gaps if self._gaps else 0,
            queued=self._bus.queued,
            spilled=self._bus.spilled,
            backlog=store.backlog if store else 0,
            lag_s=self._slow[0],
            error=str(trouble) if trouble else self._slow[1],
            store=str(store.path) if store else "",
        )

    def _on_chat_state(self, line: Line, state: str) -> None:
        """The line of one chat went down: its answers will not come."""
        if state not in _COMING_UP:
            self._questions.fail(line, line.link.last_error or ConnectionLost(1001, "closed"))

    def _on_state(self, line: Line, state: str) -> None:
        """The link came up or went down: leave a row, and see to what was missed."""
        self._on_chat_state(line, state)
        now = self._clock.now()
        log.info("%s: %s", self.name, state)
        if state == "open":
            self._keep("opened", now)
            if self._down_at is not None:
                self._spawn(self._reopened(self._outbox.under_way(), self._down_at, now))
            self._down_at = None
        elif self._down_at is None and self._link.counters.handshakes and state in ("waiting", "failed"):
            self._down_at = now
            self._keep("closed", now, error=str(self._link.last_error or ""))

    async def _reopened(self, under_way: Sequence[Action], down_at: datetime, up_at: datetime) -> None:
        await self._outbox.say_again(under_way)
        if self._gaps is not None:
            await self._gaps.repair(down_at, up_at)

    def _keep(self, kind: str, now: datetime, *, error: str = "") -> None:
        event = connection_event(kind, gateway=self.gateway, bot=self.name, now=now, error=error)
        self._kept_by().keep([event])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Events in: link → journal → frame → handlers

    async def _deliver(self, received: Sequence[Received]) -> None:
        events = [item for item in received if isinstance(item, Event)]
        for item in received:
            if isinstance(item, Ack):
                self._outbox.acknowledge(item.id, ok=item.ok, error=item.error)
            elif isinstance(item, Event) and item.type == "answer.cancelled":
                self._outbox.cancel(run_id=item.reply_to, question_id=item.message_id)
        if self._questions.pending:
            events = [self._questions.stamped(event) for event in events]
            await self._questions.room()
        await self._kept_by().publish(events)

    def _kept(self, rows: Sequence[Row]) -> None:
        """The rows are on disk: have them handled. Runs on the writer's thread."""
        for _, event in rows:
            if event.chat_type == "private" and event.user_id:
                self._private[event.user_id] = event.chat_id
        if self._questions.pending:
            self._io.call_soon(self._questions.take, rows)
        self._loop.call_soon(self._bus.dispatch, rows)

    def _kept_by(self) -> Journal:
        if self._journal is None:
            raise LocalProtocolError(
                "this bot is not connected", hint="Use `botbook.connect`, or await bot.start()."
            )
        return self._journal

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
        made = Handler(
            handler,
            pattern=pattern,
            name=name,
            when=condition(when) if isinstance(when, str) else when,
            timeout=self.settings.handler_timeout if timeout is None else timeout,
        )
        self._router.add(made)
        if self._journal is not None:
            self._journal.look_ahead()
        return Registration(made, self.off)

    def off(self, name: str) -> bool:
        """Take a handler away. Returns whether there was one of that name."""
        return self._router.remove(name) is not None

    def handlers(self) -> pd.DataFrame:
        """The handlers, one a row.

        Returns:
            Columns name, pattern, calls, failures, running, p50_ms, p95_ms, last_error, last_at.
        """
        return handler_table(self._router)

    def errors(self) -> pd.DataFrame:
        """The last 200 failed calls, newest last.

        Returns:
            Columns at, handler, event_id, error, traceback.
        """
        return error_table(self._problems)

    def interrupted(self) -> pd.DataFrame:
        """Calls that were cut off by the end of their process, or were about to begin then.

        Returns:
            Columns seq, handler, event_id, type, text.
        """
        return interrupted_table(self._kept_by().store.interrupted())

    def _lagged(self, lag: Lag) -> None:
        """Something holds the handlers' loop: say which handler, if it is one of this bot's."""
        for frame in reversed(lag.stack):
            for handler in self._router:
                code = getattr(handler.function, "__code__", None)
                if code and (code.co_filename, code.co_name) == (frame.filename, frame.name):
                    text = f"{handler.name} held its loop for {lag.seconds:.2f} s at line {frame.lineno}"
                    self._slow = lag.seconds, text
                    log.warning("%s: use await, or a plain def", text)
                    return

    async def _claim(self, pairs: Sequence[tuple[int, Handler]]) -> None:
        """Keep on disk that handlers are about to start."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[None] = loop.create_future()
        now = self._clock.now()
        self._kept_by().store.mark(
            [
                Mark(seq=seq, handler=handler.name, version=handler.version, state="started", at=now)
                for seq, handler in pairs
            ],
            functools.partial(_resolve_soon, loop, kept),
        )
        await kept

    def _finished(self, calls: Sequence[Call]) -> None:
        """Keep on disk how calls ended, and leave a row for each that failed."""
        journal, now = self._kept_by(), self._clock.now()
        journal.store.mark(
            [
                Mark(
                    seq=call.seq,
                    handler=call.handler,
                    version=call.version,
                    state=call.state,
                    at=now,
                    seconds=call.seconds,
                    error=call.error,
                )
                for call in calls
            ]
        )
        failed = [call for call in calls if call.error]
        self._problems.extend(failed)
        # A handler of failures that fails must not feed itself.
        shown = [call for call in failed if call.event.type != "handler.failed"]
        journal.keep([failed_event(call, gateway=self.gateway, bot=self.name, now=now) for call in shown])

    async def _waiting_in_journal(self, event: Event, after_seq: int, limit: int) -> list[Row]:
        return await asyncio.to_thread(
            self._kept_by().store.pending,
            gateway=event.gateway,
            bot=event.bot,
            chat_id=event.chat_id,
            after_seq=after_seq,
            limit=limit,
        )

    # Actions out

    @_on_io
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
        return await self._send(Send(id=_new_id(), to=to, text=text, markdown=markdown))

    @_on_io
    async def reply(self, event: Event, text: str, *, markdown: bool = True) -> Sent:
        """Answer an event in its chat.

        Args:
            event: What to answer.
            text: What to say.
            markdown: Whether it is markdown.

        Raises:
            ApiError: The gateway refused it.
        """
        action = Send(id=_new_id(), to=event.target, text=text, markdown=markdown, reply_to=event.message_id)
        return await self._send(action, question=event)

    @_on_io
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
        ident = body.get("header", {}).get("event_id", "") if acknowledged else ""
        action = Native(id=ident or _new_id(), body=body, to=to)
        if acknowledged:
            await self._outbox.deliver(action)
            return Sent()
        return cast(Sent, await self._say(action))

    def answer(self, event: Event) -> Answer:
        """Open a streamed answer: ``async with bot.answer(event) as a: await a.write("…")``."""
        run = Run(
            run_id=_new_id(),
            message_id=_new_id(),
            to=event.target,
            asker=event.user_id,
            chat_id=event.chat_id,
            question_id=event.message_id,
        )
        return Answer(
            run,
            say=self._hop(self._outbox.say),
            deliver=self._hop(self._outbox.deliver),
            instead=lambda text: self.reply(event, text),
            began=self._outbox.began,
            finished=functools.partial(self._answered, event),
        )

    @_on_io
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
        return history_table(await self._history(chat_id, limit, before), raw=raw)

    async def _history(self, chat_id: str, limit: int, before: str = "") -> list[HistoryItem]:
        action = History(id=_new_id(), chat_id=chat_id, limit=limit, before=before)
        return cast(list[HistoryItem], await self._say(action))

    async def _send(self, action: Send, *, question: Event | None = None) -> Sent:
        sent = cast(Sent, await self._say(action))
        self._sent(action.to, action.text, sent, action.id, question=question)
        return sent

    async def _say(self, action: Action, *, line: Line | None = None) -> Any:
        """Put an action on the wire. Returns what the gateway's REST answer says, if that is its way."""
        line = line or self._lines.first
        answer: Any = Sent()
        for part in line.wire.send(action, at=self._clock.now()):
            if isinstance(part, HttpRequest):
                answer = await self._rest.call(part)
            elif isinstance(part, Event):
                self._kept_by().keep([part])
            else:
                await line.link.send(part)
        return answer

    async def _answered(self, question: Event, answer: Answer, error: str) -> None:
        self._outbox.ended(answer)
        if answer.text and not error and answer.streams:
            run = answer.run
            self._sent(run.to, answer.text, Sent(message_id=run.message_id), run.run_id, question=question)

    def _sent(self, to: str, text: str, sent: Sent, ident: str, *, question: Event | None) -> None:
        event = sent_event(
            gateway=self.gateway,
            bot=self.name,
            to=to,
            text=text,
            sent=sent,
            ident=ident,
            now=self._clock.now(),
            question=question,
            chat_id=self._private.get(to.removeprefix("user:"), ""),
            own_id=self._parts.own_id,
        )
        self._kept_by().keep([event])

    def _hop(
        self, method: Callable[[Action], Coroutine[Any, Any, None]]
    ) -> Callable[[Action], Awaitable[None]]:
        async def on_io(action: Action) -> None:
            await self._io.call(method(action))

        return on_io

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
        asked = Asked(
            _new_id(),
            question,
            began=self._clock.monotonic(),
            hop=self._io.call,
            cancel=self._give_up,
            watch=watch,
        )
        self._io.submit(self._ask(asked, tuple(attachments), chat, silence=silence, longest=timeout))
        return asked

    async def _ask(
        self, asked: Asked, attachments: tuple[str, ...], chat: str | None, *, silence: float, longest: float
    ) -> None:
        """Put a question, and see its answer to the end."""
        line: Line | None = None
        try:
            line = await self._lines.get(chat)
            self._questions.add(asked, line)
            await self._say(Ask(id=asked.id, text=asked.question, attachments=attachments), line=line)
        except Exception as error:
            self._questions.drop(asked)
            asked.refuse(error, self._clock.monotonic())
            return
        line.busy += 1
        try:
            if why := await self._questions.expire(asked, silence=silence, longest=longest):
                line.wire.send(
                    Abandon(id=_new_id(), ask_id=asked.id, silent="silence" in why), at=self._clock.now()
                )
                self._questions.end(asked, why)
        finally:
            line.busy -= 1
            line.used_at = self._clock.monotonic()

    @_on_io
    async def _give_up(self, asked: Asked) -> None:
        """The caller stopped an answer: its rest must not reach the next question."""
        line = self._questions.drop(asked)
        if line is not None:
            line.wire.send(Abandon(id=_new_id(), ask_id=asked.id), at=self._clock.now())
        error = AnswerError("the answer was stopped", answer=asked, code="cancelled")
        asked.refuse(error, self._clock.monotonic())
        self._keep_all([self._lost(asked, "cancelled: stopped by the caller")])

    def _lost(self, asked: Asked, error: str) -> Event:
        """The row that ends an answer which did not come to its end by itself."""
        now = self._clock.now()
        return Event(
            event_id=f"{asked.id}.lost",
            type="message.received",
            at=now,
            received_at=now,
            gateway=self.gateway,
            bot=self.name,
            chat_type="private",
            role="assistant",
            reply_to=asked.id,
            text=asked.text,
            error=error,
        )

    def _keep_all(self, events: Sequence[Event]) -> None:
        self._kept_by().keep(events)

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
    ) -> pd.DataFrame:
        """The journal and the live tail as one frame, in the order of arrival.

        Args:
            type: A type, or a pattern such as ``message.*``.
            since: A time with zone, or an age such as ``"90s"``, ``"15m"``, ``"1h"``, ``"2d"``.
            until: The same.
            bot: Only this connection; default all that share the journal.
            limit: Only the newest so many.
            raw: Add the column ``raw``: the frame as it came, JSON text.

        Returns:
            The columns of `Event`, in order; a copy that is yours.
        """
        filters = {"type": type, "since": since, "until": until, "bot": bot, "limit": limit, "raw": raw}
        return self._kept_by().frame(**filters)

    @_on_io
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
        found = await self._kept_by().wait(type, count=count, timeout=timeout)
        frame = self.events(type=type, bot=self.name)
        return frame[frame["event_id"].isin([event.event_id for event in found])].reset_index(drop=True)

    def record(self, path: str | os.PathLike[str] | None) -> None:
        """Write every event from now on to a file, one JSON object a line; None ends that.

        Raises:
            StoreError: The file cannot be written.
        """
        self._kept_by().record(path)


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
        gateway: ``sim`` or ``miti``.
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

    def events(self, **filters: Any) -> pd.DataFrame:
        """See `AsyncBot.events`."""
        return self.aio.events(**filters)

    def record(self, path: str | os.PathLike[str] | None) -> None:
        """See `AsyncBot.record`."""
        self.aio.record(path)

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


#: The bots that run, for the watchdog of the loop that they share.
_BOTS: weakref.WeakSet[AsyncBot] = weakref.WeakSet()


def _on_lag(lag: Lag) -> None:
    for bot in tuple(_BOTS):
        bot._lagged(lag)


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
        gateway: ``sim`` (the embedded world, needs nothing) or ``miti``.
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


def _resolve_soon(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
    """Resolve a future of another thread's loop; the loop may have ended meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None if future.done() else future.set_result(None))


def _new_id() -> str:
    return str(uuid.uuid4())
