"""Events to handlers: order inside a chat, chats side by side, nothing dropped.

A chat's queue holds up to `PER_CHAT` events in memory. What comes beyond stays in the journal,
where it stands already, and is fetched from there when there is room again ("spilled", counted).
So a slow handler costs bounded memory, loses nothing, and never holds up the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

from botbook._bus.capture import Deed, deeds_json, keeping
from botbook._bus.handler import Call, Handler, State
from botbook._bus.outcome import carry_out
from botbook._bus.table import HandlerTable
from botbook._clock import SYSTEM, Clock
from botbook.actions import Action
from botbook.events import Actor, Event

__all__ = ["Bus", "Row"]

T = TypeVar("T")

Row = tuple[int, Event]
#: Gateway, bot, chat, and whether it is the lane of those who stop an answer.
Lane = tuple[str, str, str, bool]

#: Events a chat may hold in memory.
PER_CHAT: Final = 256
#: Handlers that may run at once. 64 and not the 32 of the first design: with 32, fifty events at
#: once took two waves of the handler's own time (docs/benchmarks.md, "50 at once").
CONCURRENCY: Final = 64
#: Events of one chat that are marked as started in one commit.
CLAIM: Final = 64
#: Threads for handlers that are a plain ``def``.
THREADS: Final = 8


@dataclass(slots=True)
class _Chat:
    """What waits in one chat.

    Attributes:
        waiting: Events in memory.
        newest: Highest number that was ever in `waiting`.
        left: Highest number that was left in the journal for want of room.
        running: Whether a task drains it.
    """

    waiting: deque[Row] = field(default_factory=deque)
    newest: int = 0
    left: int = 0
    running: bool = False

    @property
    def spilled(self) -> bool:
        return self.left > self.newest


class Bus:
    """Runs handlers. All of it lives on one loop, the handlers' own.

    Args:
        router: Says which handlers an event goes to.
        start: Keeps on disk that handlers start, before they do. Called with (seq, handler) pairs.
        finish: Keeps on disk how calls ended.
        fetch: Reads more of a chat from the journal: (event, after_seq, limit) → rows.
        actor: What events act with.
        do: Puts an action on the wire that a handler gave back.
        extra: What handlers may ask for besides the event's own columns.
        clock: Time.
    """

    def __init__(
        self,
        router: HandlerTable,
        *,
        start: Callable[[Sequence[tuple[int, Handler]]], Awaitable[None]],
        finish: Callable[[Sequence[Call]], None],
        fetch: Callable[[Event, int, int], Awaitable[list[Row]]],
        actor: Actor,
        extra: dict[str, Any],
        do: Callable[[Action], Awaitable[Any]],
        clock: Clock = SYSTEM,
        concurrency: int = CONCURRENCY,
        per_chat: int = PER_CHAT,
    ) -> None:
        self._router = router
        self._start, self._finish, self._fetch, self._actor = start, finish, fetch, actor
        self._extra = extra
        self._do = do
        self._clock = clock
        self._per_chat = per_chat
        self._slots = asyncio.Semaphore(concurrency)
        self._chats: dict[Lane, _Chat] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="botbook-def")
        self._stopping = False
        self._ended: list[Call] = []
        self._claims: list[tuple[int, Handler]] = []
        self._claimed: asyncio.Task[None] | None = None
        self.handled = 0
        self.spilled = 0

    @property
    def queued(self) -> int:
        """Events in memory that no handler has begun."""
        return sum(len(chat.waiting) for chat in list(self._chats.values()))

    def dispatch(self, rows: Sequence[Row]) -> None:
        """Take rows that are in the journal, in its order. Never blocks."""
        for seq, event in rows:
            if event.recovered or self._stopping or not self._router.match(event):
                continue
            lane = _lane(event)
            chat = self._chats.get(lane)
            if chat is None:
                chat = self._chats[lane] = _Chat()
            self._put(chat, seq, event)
            if not chat.running:
                chat.running = True
                self._spawn(self._drain(lane, chat))

    def _put(self, chat: _Chat, seq: int, event: Event) -> None:
        if seq <= chat.newest:  # it came from the journal before
            return
        if chat.spilled or len(chat.waiting) >= self._per_chat:
            chat.left = seq
            self.spilled += 1
            return
        chat.newest = seq
        chat.waiting.append((seq, event))

    async def _drain(self, lane: Lane, chat: _Chat) -> None:
        """Run a chat's events one after the other, until none is left."""
        overtakes = lane[3]
        while chat.waiting and not self._stopping:
            batch = [chat.waiting.popleft() for _ in range(min(CLAIM, len(chat.waiting)))]
            for seq, event, names in await self._claim(batch):
                async with contextlib.nullcontext() if overtakes else self._slots:
                    await self._handle(seq, event, names)
            if chat.spilled and not chat.waiting:
                await self._refill(chat, batch[-1][1])
        chat.running = False
        self._chats.pop(lane, None)

    async def _claim(self, batch: Sequence[Row]) -> list[tuple[int, Event, list[str]]]:
        """Keep on disk that these events are about to be handled, all in one commit.

        So at most `CLAIM` events of a chat that had not begun are listed as interrupted after a
        crash, beside the one that had: rather listed once too often than answered twice.
        """
        claims = [
            (seq, event, [h for h in self._router.match(event) if self._wants(h, seq, event)])
            for seq, event in batch
        ]
        pairs = [(seq, handler) for seq, _, handlers in claims for handler in handlers]
        if pairs:
            await self._started(pairs)
        return [(seq, event, [h.name for h in handlers]) for seq, event, handlers in claims if handlers]

    async def _started(self, pairs: Sequence[tuple[int, Handler]]) -> None:
        """One commit for all chats that claim in the same turn of the loop."""
        self._claims += pairs
        if self._claimed is None:
            self._claimed = asyncio.ensure_future(self._keep_claims())
        await asyncio.shield(self._claimed)

    async def _keep_claims(self) -> None:
        claims, self._claims, self._claimed = self._claims, [], None
        await self._start(claims)

    async def _refill(self, chat: _Chat, event: Event) -> None:
        """Fetch from the journal what had no room."""
        while chat.spilled and not chat.waiting:
            rows = await self._fetch(event, chat.newest, self._per_chat)
            chat.newest = rows[-1][0] if rows else chat.left
            chat.waiting.extend(
                (seq, row)
                for seq, row in rows
                if not row.recovered and _lane(row) == _lane(event) and self._router.match(row)
            )

    async def _handle(self, seq: int, event: Event, names: Sequence[str]) -> None:
        for name in names:
            handler = self._router.get(name)  # by name: the cell may have been run again meanwhile
            if handler is not None:
                await self._call(seq, event, handler)
        self.handled += 1

    def _wants(self, handler: Handler, seq: int, event: Event) -> bool:
        """Ask the handler's condition; one that raises is the handler's failure."""
        if handler.when is None:
            return True
        try:
            return bool(handler.when(event))
        except Exception as error:
            self._note(seq, event, handler, 0.0, "failed", error)
            return False

    async def _call(self, seq: int, event: Event, handler: Handler) -> None:
        handler.stats.running += 1
        began = time.perf_counter()
        state: State = "cancelled"
        problem: BaseException | None = None
        limit = asyncio.timeout(handler.timeout)
        deeds: list[Deed] = []
        try:
            with keeping() as deeds:
                async with limit:
                    await self._run(event, handler)
            state = "done"
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # a task runs this
                raise
            state, problem = "failed", error  # the handler's own doing, not ours
        except _Escaped as error:
            state, problem = "failed", error.__cause__
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # none may end the loop
            state, problem = ("timeout" if limit.expired() else "failed"), error
        finally:
            handler.stats.running -= 1
            self._note(seq, event, handler, time.perf_counter() - began, state, problem, deeds)

    async def _run(self, event: Event, handler: Handler) -> None:
        event.bind(self._actor)
        args, kwargs = handler.bind(event, self._extra)
        if handler.is_async:
            result = await handler.function(*args, **kwargs)
        else:
            result = await self._in_thread(lambda: handler.function(*args, **kwargs))
        if result is not None:
            await carry_out(result, event, do=self._do, step=self._in_thread)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        """Run a function where plain ``def`` handlers run."""
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: context.run(_guarded, function))

    def _note(
        self,
        seq: int,
        event: Event,
        handler: Handler,
        seconds: float,
        state: State,
        problem: BaseException | None,
        deeds: Sequence[Deed] = (),
    ) -> None:
        error = ""
        if state == "timeout":
            error = f"ran longer than {handler.timeout:g} s"
        elif problem is not None:
            error = f"{type(problem).__name__}: {problem}".rstrip(": ")
        now = self._clock.now()
        handler.stats.note(seconds, error, now)
        self._ended.append(
            Call(
                seq=seq,
                event=event,
                handler=handler.name,
                version=handler.version,
                state=state,
                started_at=now - timedelta(seconds=seconds),
                seconds=seconds,
                error=error,
                traceback=_users_part(problem) if problem is not None else "",
                calls_json=deeds_json(deeds),
            )
        )
        if len(self._ended) == 1:  # those that end in the same turn of the loop are kept together
            asyncio.get_running_loop().call_soon(self._keep_ended)

    def _keep_ended(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._finish(ended)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self, *, drain: float = 0.0) -> None:
        """End. What runs may go on for `drain` seconds, then it is cancelled.

        Events that no handler has begun stay in the journal, unhandled.
        """
        self._stopping = True
        if self._tasks and drain > 0:
            await asyncio.wait(self._tasks, timeout=drain)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=0.1)
        self._keep_ended()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _lane(event: Event) -> Lane:
    """What an event waits behind: the others of its chat.

    A wish to stop an answer overtakes them, for the answer it is about is what they wait for; and it
    needs no free slot, for such answers may hold them all.
    """
    chat = event.chat_id or event.user_id
    return event.gateway, event.bot, chat, event.type == "answer.cancelled"


class _Escaped(Exception):
    """Carries what neither a thread pool nor a future can."""


def _guarded(function: Callable[[], T]) -> T:
    """Call a plain ``def``."""
    try:
        return function()
    except (SystemExit, KeyboardInterrupt, StopIteration, asyncio.CancelledError) as error:
        raise _Escaped from error


#: Files whose lines are left out of what a handler's failure shows.
_OWN_FILES: Final = frozenset({__file__, carry_out.__code__.co_filename})


def _users_part(problem: BaseException) -> str:
    """The traceback from the user's first line on."""
    frames = traceback.extract_tb(problem.__traceback__)
    ours = [index for index, frame in enumerate(frames) if frame.filename in _OWN_FILES]
    theirs = frames[ours[-1] + 1 :] if ours else frames
    return "".join(traceback.format_list(theirs) + traceback.format_exception_only(problem))
