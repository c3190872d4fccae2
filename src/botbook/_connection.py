"""The parts of one connection put together: lines, token, REST, journal, acknowledgements, gaps."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from botbook._asking import Asked, Questions
from botbook._bus.capture import capturing
from botbook._bus.outbox import Outbox
from botbook._bus.own import connection_event
from botbook._clock import Clock
from botbook._config import Settings
from botbook._errors import ConnectionLost, LocalProtocolError
from botbook._gaps import GapRepair
from botbook._gateways import open_gateway
from botbook._journal import Journal
from botbook._lines import Line, Lines
from botbook._net.auth import TokenSource
from botbook._net.dedupe import Dedupe
from botbook._net.http import Rest
from botbook._net.link import Link, LinkState
from botbook._net.loop import io_loop
from botbook.actions import Action, HistoryItem, Sent
from botbook.events import Event
from botbook.wire.contract import Ack, HttpRequest, Received, Wire

__all__ = ["Connection", "Row", "Status"]

log = logging.getLogger("botbook")

Row = tuple[int, Event]

#: States in which a link is on its way up, or up.
_COMING_UP: Final = frozenset({"idle", "authenticating", "connecting", "open"})


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


class Connection:
    """One connection, without handlers: events in, to the journal; actions out, to the wire.

    Its coroutines belong on the IO loop.

    Args:
        made: The settings.
        store: The journal's file, or None for the default place.
        clock: Time.
        history: Asks the gateway for a chat's history: (chat_id, limit) → messages, oldest first.
        kept: Called with rows that are on disk, on the writer's thread.

    Raises:
        ConfigError: A setting is missing or wrong.
    """

    def __init__(
        self,
        made: Settings,
        *,
        store: str | os.PathLike[str] | None,
        clock: Clock,
        history: Callable[[str, int], Coroutine[Any, Any, list[HistoryItem]]],
        kept: Callable[[Sequence[Row]], None],
    ) -> None:
        self.made = made
        self.clock = clock
        self.parts = open_gateway(made, clock=clock)
        self.io = io_loop()
        self._tokens = TokenSource(self.parts.wire.token_request, self.parts.http, clock=clock)
        self.rest = Rest(self.parts.http, self._tokens, clock=clock)
        first = self._line(self.parts.wire, self._on_state)
        self.link = first.link
        self.lines = Lines(
            first,
            open_chat=self._open_chat(),
            gateway=made.gateway,
            clock=clock,
            ask_chat=self.parts.ask_chat,
        )
        self.questions = Questions(clock=clock, lost=self._lost, publish=self.keep)
        self.outbox = Outbox(self.say, opened=self.link.wait_open, clock=clock)
        self._store = store
        self._history = history
        self._kept = kept
        self._journal: Journal | None = None
        self._gaps: GapRepair | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_at: datetime | None = None

    def _line(self, wire: Wire, on_state: Callable[[Line, str], None]) -> Line:
        """A link for a wire, with everything that all links of this bot share."""
        line: Line

        def changed(state: LinkState) -> None:
            on_state(line, state)

        line = Line(
            wire,
            Link(
                wire,
                dial=self.parts.dial,
                tokens=self._tokens,
                deliver=self._deliver,
                on_state=changed,
                clock=self.clock,
                dedupe=Dedupe(count=1) if getattr(wire, "own_ids", False) else None,
            ),
        )
        return line

    def _open_chat(self) -> Callable[[str], Line] | None:
        wire_for = self.parts.open_chat
        if wire_for is None:
            return None
        return lambda chat: self._line(wire_for(chat), self._on_chat_state)

    # Its life

    async def open(self) -> None:
        """Open the journal and the first link.

        Raises:
            BotbookError: The journal cannot be opened, or the gateway cannot be reached.
        """
        made = self.made
        self._journal = await asyncio.to_thread(
            Journal,
            self._store,
            gateway=made.gateway,
            bot=made.name,
            clock=self.clock,
            archive_days=made.archive_days,
            keep_days=made.keep_days,
        )
        self._journal.watch(self._on_disk)
        self._gaps = GapRepair(
            self._journal, history=self._history, gateway=made.gateway, bot=made.name, clock=self.clock
        )
        if self.parts.world is not None:
            await self.parts.world.start()
        await self.link.start()

    async def close(self) -> None:
        """Close the links, then the journal. Harmless when closed already."""
        for task in list(self._tasks):
            task.cancel()
        await self.lines.stop()
        self.outbox.close()
        await self._tokens.close()
        if self.parts.world is not None:
            await self.parts.world.stop()
        await self.parts.http.close()
        if self._journal is not None:
            await asyncio.to_thread(self._journal.close)

    @property
    def journal(self) -> Journal:
        """The journal.

        Raises:
            LocalProtocolError: The bot is not connected.
        """
        if self._journal is None:
            raise LocalProtocolError(
                "this bot is not connected", hint="Use `botbook.connect`, or await bot.start()."
            )
        return self._journal

    @property
    def opened(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    def status(self, *, handled: int, queued: int, spilled: int, lag_s: float, trouble: str) -> Status:
        """How it is now; the arguments are what the handlers' side knows."""
        link, journal = self.link, self._journal
        store = journal.store if journal else None
        error = (journal and journal.trouble) or link.last_error
        return Status(
            name=self.made.name,
            gateway=self.made.gateway,
            base_url=self.made.base_url,
            state=link.state,
            since=link.since,
            events=link.counters.events,
            handled=handled,
            duplicates=link.counters.duplicates + (store.duplicates if store else 0),
            malformed=link.counters.malformed,
            reconnects=link.counters.reconnects,
            gaps=self._gaps.gaps if self._gaps else 0,
            queued=queued,
            spilled=spilled,
            backlog=store.backlog if store else 0,
            lag_s=lag_s,
            error=str(error) if error else trouble,
            store=str(store.path) if store else "",
        )

    # Up and down

    def _on_chat_state(self, line: Line, state: str) -> None:
        """The line of one chat went down: its answers will not come."""
        if state not in _COMING_UP:
            self.questions.fail(line, line.link.last_error or ConnectionLost(1001, "closed"))

    def _on_state(self, line: Line, state: str) -> None:
        """The link came up or went down: leave a row, and see to what was missed."""
        self._on_chat_state(line, state)
        now = self.clock.now()
        log.info("%s: %s", self.made.name, state)
        if state == "open":
            self._note("opened", now)
            if self._down_at is not None:
                self.spawn(self._reopened(self.outbox.under_way(), self._down_at, now))
            self._down_at = None
        elif self._down_at is None and self.link.counters.handshakes and state in ("waiting", "failed"):
            self._down_at = now
            self._note("closed", now, error=str(self.link.last_error or ""))

    async def _reopened(self, under_way: Sequence[Action], down_at: datetime, up_at: datetime) -> None:
        await self.outbox.say_again(under_way)
        if self._gaps is not None:
            await self._gaps.repair(down_at, up_at)

    def _note(self, kind: str, now: datetime, *, error: str = "") -> None:
        made = self.made
        self.keep([connection_event(kind, gateway=made.gateway, bot=made.name, now=now, error=error)])

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something until it ends or the connection is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # In

    async def _deliver(self, received: Sequence[Received]) -> None:
        """What the link read: acknowledgements to the outbox, events to the journal."""
        events = [item for item in received if isinstance(item, Event)]
        for item in received:
            if isinstance(item, Ack):
                self.outbox.acknowledge(item.id, ok=item.ok, error=item.error)
            elif isinstance(item, Event) and item.type == "answer.cancelled":
                self.outbox.cancel(run_id=item.reply_to, question_id=item.message_id)
        if self.questions.pending:
            events = [self.questions.stamped(event) for event in events]
            await self.questions.room(events)
        await self.journal.publish(events)

    def _on_disk(self, rows: Sequence[Row]) -> None:
        if self.questions.pending:
            self.io.call_soon(self.questions.take, rows)
        self._kept(rows)

    def keep(self, events: Sequence[Event]) -> None:
        """Keep events of our own."""
        self.journal.keep(events)

    # Out

    async def say(self, action: Action, *, line: Line | None = None) -> Any:
        """Put an action on the wire. Returns what the gateway's REST answer says, if that is its way."""
        if (capture := capturing()) is not None:
            return capture.take(action)
        line = line or self.lines.first
        answer: Any = Sent()
        for part in line.wire.send(action, at=self.clock.now()):
            if isinstance(part, HttpRequest):
                answer = await self.rest.call(part)
            elif isinstance(part, Event):
                self.keep([part])
            else:
                await line.link.send(part)
        return answer

    def _lost(self, asked: Asked, error: str) -> Event:
        """The row that ends an answer which did not come to its end by itself."""
        now = self.clock.now()
        return Event(
            event_id=f"{asked.id}.lost",
            type="message.received",
            at=now,
            received_at=now,
            gateway=self.made.gateway,
            bot=self.made.name,
            chat_type="private",
            role="assistant",
            reply_to=asked.id,
            text=asked.text,
            error=error,
        )
