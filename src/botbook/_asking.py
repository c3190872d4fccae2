"""Questions to an agent, and the answers that stream in."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from botbook._clock import Clock
from botbook._data.frames import events_frame
from botbook._errors import AgentBusy, AnswerError
from botbook._lines import Line
from botbook._net.loop import io_loop
from botbook.events import ASSISTANT, Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Asked", "Questions"]

#: Events of one answer that nobody has read, before its line is read more slowly.
UNREAD: Final = 2_000
#: Longest silence in an answer, and longest answer, in seconds.
SILENCE: Final = 60.0
LONGEST: Final = 600.0
#: Who waits is told so many seconds after the end of an answer, even if the disk takes no rows.
GRACE: Final = 2.0


class Asked:
    """A question, and its answer as it comes in.

    ``async for event in asked`` gives the events of the answer; awaiting it waits for the end. Both
    raise `AnswerError` if it failed, with this object on it, and the trouble itself if the question
    could not be asked. Leaving the loop early, cancelling, or `stop` stops the answer and leaves
    the link up. What is left alone goes on by itself.

    Attributes:
        id: Id of the question; `Event.reply_to` of what belongs to it.
        question: What was asked.
        tools: Tool calls: dicts with id, name, arguments (a value, or text if it is no JSON), result
            (None until it came) and error.
        places: For each tool call, how much of the text stood before it, in characters.
        progress: News from inside tools: (text, share done from 0 to 1, or None).
        voices: What sub-agents said on the way: name → text.
        files: Paths of files that the agent gave, relative to its workspace.
        tokens: Tokens used, None until the end or where the gateway does not tell.
        seconds: From the question to the end, None until then.
        error: Why it failed, code first, or "".
        done: Whether it is over.
        began: When it was asked, on the monotonic clock.
        heard_at: When something of it came last, on the same clock.
    """

    def __init__(
        self,
        ident: str,
        question: str,
        *,
        began: float,
        hop: Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]],
        cancel: Callable[[Asked], Coroutine[Any, Any, None]],
        watch: Callable[[Asked], None] | None = None,
    ) -> None:
        self.id = ident
        self.question = question
        self.tools: list[dict[str, Any]] = []
        self.places: list[int] = []
        self.voices: dict[str, str] = {}
        self.progress: list[tuple[str, float | None]] = []
        self.files: list[str] = []
        self.tokens: int | None = None
        self.seconds: float | None = None
        self.error = ""
        self.done = False
        self.heard_at = began
        self.began = began
        self._hop = hop
        self._cancel = cancel
        self._watch = watch
        self._pieces: list[str] = []
        self._arrived: list[str] = []
        self._length = 0
        self._came = 0
        self._ending = False
        self._events: list[Event] = []
        self._read = 0
        self._problem: BaseException | None = None
        self._more = asyncio.Event()
        self._over = asyncio.Event()

    def __repr__(self) -> str:
        state = f"failed: {self.error}" if self.error else "done" if self.done else "coming"
        return f"<Asked {self.question[:40]!r}: {state}, {len(self.text)} characters>"

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The answer so far, markdown."""
        return "".join(self._pieces)

    @property
    def events(self) -> pd.DataFrame:
        """The events of the answer, with the columns of `bot.events()`."""
        return events_frame(self._events)

    @property
    def unread(self) -> int:
        """Events that came, on their way to the disk or behind it, and that no loop has taken; 0 where
        nobody iterates."""
        return self._came - self._read if self._read else 0

    def rest(self) -> list[Event]:
        """Events that came and that no loop has taken."""
        return self._events[self._read :]

    def __await__(self) -> Any:
        return self.whole().__await__()

    async def whole(self) -> Asked:
        """Wait for the end; the same as awaiting it."""
        try:
            await self._hop(self._over.wait())
        finally:
            await self.stop()
        self.check()
        return self

    async def stop(self) -> None:
        """Stop the answer; nothing if it is over. The link stays up."""
        if not self.done:
            await self._hop(self._cancel(self))

    #: So that ``contextlib.aclosing(bot.ask(…))`` works.
    aclose = stop

    def check(self) -> None:
        """Raise what it failed with, if it is over and did."""
        if self._problem is not None:
            raise self._problem
        if self.error:
            code = self.error.partition(":")[0]
            kind = AgentBusy if "BUSY" in code.upper() else AnswerError
            hint = None if kind is AgentBusy else "What had arrived of it is kept: `error.answer.text`."
            raise kind(f"the answer failed: {self.error}", answer=self, code=code, hint=hint)

    def __aiter__(self) -> AsyncIterator[Event]:
        return _Reader(self)

    async def _after(self, index: int) -> Sequence[Event]:
        """What came behind an index; nothing once it is over."""
        while len(self._events) <= index and not self.done:
            await self._more.wait()
        return self._events[index:]

    def arrive(self, event: Event) -> None:
        """An event of the answer is on its way to the disk: what had arrived outlives a lost link."""
        self._came += 1
        match event.type:
            case "message.delta":
                self._arrived.append(event.text)
            case "message.edited":
                self._arrived = [event.text]

    def take(self, event: Event, now: float) -> None:
        """One more event of the answer."""
        self.heard_at = now
        self._events.append(event)
        self._note(event)
        if event.type == "message.received" and event.role == ASSISTANT:
            self._pieces = [event.text] if event.text else self._pieces
            self.tokens = event.tokens
            self._finish(event.error, now)
        self._tell()

    def refuse(self, problem: BaseException, now: float) -> None:
        """The question could not even be asked, or nobody waits any more."""
        if self.done:
            return
        code = type(problem).__name__
        if isinstance(problem, AnswerError):
            problem.answer = self
            code = problem.code or code
        self._problem = problem
        self._finish(f"{code}: {problem}", now)
        self._tell()

    def _finish(self, error: str, now: float) -> None:
        self.error = error
        self.seconds = now - self.began
        self.done = True
        self._over.set()

    def _tell(self) -> None:
        more, self._more = self._more, asyncio.Event()
        more.set()
        if self._watch is not None:
            self._watch(self)

    def _note(self, event: Event) -> None:
        match event.type:
            case "message.delta":
                self._pieces.append(event.text)
                self._length += len(event.text)
            case "message.edited":
                self._pieces, self._length = [event.text], len(event.text)
            case "agent.tool_call":
                self._called(event, _value(event.text))
            case "agent.tool_result":
                self._answered(event)
            case "agent.progress":
                self._went_on(event)
            case "agent.file" if not event.error:
                self.files.append(event.text)

    def _called(self, event: Event, arguments: Any) -> dict[str, Any]:
        call = {"id": event.message_id, "name": event.user_name, "arguments": arguments}
        self.tools.append(call | {"result": None, "error": ""})
        self.places.append(self._length)
        return self.tools[-1]

    def _answered(self, event: Event) -> None:
        """Lay a tool's result beside its call; a result without a call stands alone."""
        calls = (tool for tool in self.tools if event.message_id and tool["id"] == event.message_id)
        found = next(calls, None) or self._called(event, None)
        found |= {"result": _value(event.text), "error": event.error}

    def _went_on(self, event: Event) -> None:
        """News from inside a tool: what a sub-agent says, or how far the work is."""
        payload = event.raw.get("payload") if isinstance(event.raw, dict) else None
        if isinstance(payload, dict) or not event.user_name:
            self.progress.append((event.text, _share(payload)))
        else:
            self.voices[event.user_name] = self.voices.get(event.user_name, "") + event.text


class _Reader:
    """One loop over the events of an answer.

    An iterator and no generator: dropping it, as a ``break`` does, stops the answer at once and
    not one turn of the loop later, when the next question may be under way already.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._taken = 0
        self._waiting: deque[Event] = deque()
        self._closed = False

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Event:
        asked = self._asked
        if self._closed:
            raise StopAsyncIteration
        if not self._waiting:
            try:
                self._waiting.extend(await asked._hop(asked._after(self._taken)))
            except asyncio.CancelledError:
                await asked.stop()
                raise
        if not self._waiting:
            asked.check()
            raise StopAsyncIteration
        self._taken += 1
        asked._read = max(asked._read, self._taken)
        return self._waiting.popleft()

    async def aclose(self) -> None:
        """Stop the answer."""
        self._closed = True
        await self._asked.stop()

    def __del__(self) -> None:
        if not self._asked.done:
            work = self._asked._cancel(self._asked)
            with contextlib.suppress(Exception):  # the loop has ended, and the answer with it
                io_loop().submit(work)


def _share(payload: Any) -> float | None:
    """How much of a tool's work is done, if its update tells: ``progress`` from 0 to 1, or per cent."""
    value = payload.get("progress") if isinstance(payload, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return float(value) / 100 if value > 1 else float(value)


def _value(text: str) -> Any:
    """JSON as a value, anything else as the text it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class Questions:
    """The questions of one connection whose answers are coming. Lives on the IO loop.

    Args:
        clock: Time.
        lost: Makes the row that ends an answer which will not come: (asked, error) → event.
        publish: Keeps such a row.

    Attributes:
        strays: Gets the rows that belong to no pending question; None where nobody wants them.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        lost: Callable[[Asked, str], Event],
        publish: Callable[[Sequence[Event]], None],
    ) -> None:
        self._clock = clock
        self._lost = lost
        self._publish = publish
        self._open: dict[str, tuple[Asked, Line]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.strays: Callable[[Event], None] | None = None

    def add(self, asked: Asked, line: Line) -> None:
        """A question is on its way, by a line."""
        self._open[asked.id] = asked, line

    def drop(self, asked: Asked) -> Line | None:
        """Nobody waits for it any more. Returns its line, if it was pending."""
        _, line = self._open.pop(asked.id, (None, None))
        return line

    @property
    def pending(self) -> bool:
        """Whether there is anybody to give events to."""
        return bool(self._open) or self.strays is not None

    def stamped(self, event: Event) -> Event:
        """An event that has arrived; the one that ends an answer with the time it took."""
        found = self._open.get(event.reply_to)
        if found is None:
            return event
        asked = found[0]
        asked.arrive(event)
        if event.type != "message.received":
            return event
        if event.latency_s is None:
            event = replace(event, latency_s=self._clock.monotonic() - asked.began)
        self._ends(asked, event)
        return event

    def take(self, rows: Sequence[tuple[int, Event]]) -> None:
        """Rows that are on disk: give each to its question."""
        for _, event in rows:
            found = self._open.get(event.reply_to)
            if found is not None and event.role != "user":
                found[0].take(event, self._clock.monotonic())
                if found[0].done:
                    self.drop(found[0])
            elif self.strays is not None:
                self.strays(event)

    async def room(self, events: Sequence[Event]) -> None:
        """Wait until the readers of these answers have caught up; each answer has its deadline, so this ends.

        Args:
            events: What came on one line; a slow reader holds up its own line alone.
        """
        ids = {event.reply_to for event in events}
        while any(self._open[ident][0].unread > UNREAD for ident in ids & self._open.keys()):
            await self._clock.sleep(0.02)

    def fail(self, line: Line, error: BaseException) -> None:
        """A line went down: its answers will not come."""
        for asked, whose in list(self._open.values()):
            if whose is line:
                self.end(asked, f"{type(error).__name__}: {error}")

    def end(self, asked: Asked, error: str) -> None:
        """End an answer by a row of our own, with what had arrived. The first reason counts."""
        if asked._ending:
            return
        row = replace(self._lost(asked, error), text="".join(asked._arrived))
        self._publish([row])
        self._ends(asked, row)

    def _ends(self, asked: Asked, row: Event) -> None:
        """The row that ends an answer is on its way to the disk."""
        asked._ending = True
        task = asyncio.get_running_loop().create_task(self._insist(asked, row))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _insist(self, asked: Asked, row: Event) -> None:
        """The disk may take nothing at the moment: who waits is told all the same."""
        await self._wait(asked, GRACE)
        if not asked.done:
            self.drop(asked)
            asked.take(row, self._clock.monotonic())

    async def _wait(self, asked: Asked, seconds: float) -> None:
        """Wait for the end of an answer, or for a time."""
        tasks = {asyncio.ensure_future(asked._over.wait()), asyncio.ensure_future(self._clock.sleep(seconds))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def expire(self, asked: Asked, *, silence: float, longest: float) -> str:
        """Wait until an answer is over, or has been silent or under way for too long.

        Where a socket is a chat, the rest of an answer that was given up would stand before the
        next one: such a line is opened anew.

        Returns:
            Why it was given up, or "" if it came to its end.
        """
        until = self._clock.monotonic() + longest
        while not asked.done:
            due = min(until, asked.heard_at + silence)
            left = due - self._clock.monotonic()
            if left <= 0:
                why = f"longer than {longest:g} s" if due == until else f"silence for {silence:g} s"
                return await self._given_up(asked, f"DeadlineExceeded: {why}")
            await self._wait(asked, left)
        return ""

    async def _given_up(self, asked: Asked, why: str) -> str:
        _, line = self._open.get(asked.id, (None, None))
        self.end(asked, why)
        if line is not None and line.alone:
            await line.link.renew("an answer was given up")
        return why
