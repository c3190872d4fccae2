"""Questions to an agent, and the answers that stream in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from botbook._clock import Clock
from botbook._data.frames import events_frame
from botbook._errors import AgentBusy, AnswerError
from botbook._lines import Line
from botbook.events import ASSISTANT, Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Asked", "Questions"]

#: Events of one answer that nobody has read, before the link is read more slowly.
UNREAD: Final = 2_000
#: Longest silence in an answer, and longest answer, in seconds.
SILENCE: Final = 60.0
LONGEST: Final = 600.0


class Asked:
    """A question, and its answer as it comes in.

    ``async for event in asked`` gives the events of the answer; awaiting it waits for the end. Both
    raise `AnswerError` if it failed, with this object on it. Leaving the loop early, or cancelling,
    stops the answer and leaves the link up.

    Attributes:
        id: Id of the question; `Event.reply_to` of what belongs to it.
        question: What was asked.
        text: The answer so far, markdown.
        tools: Tool calls: dicts with name, arguments, result and error.
        thinking: What was thought aloud, where the gateway tells it apart.
        progress: News from inside tools: (text, share done from 0 to 1, or None).
        files: Paths of files that the agent gave.
        tokens: Tokens used, None until the end or where the gateway does not tell.
        seconds: From the question to the end, None until then.
        error: Why it failed, or "".
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
        cancel: Callable[[Asked], Awaitable[None]],
        watch: Callable[[Asked], None] | None = None,
    ) -> None:
        self.id = ident
        self.question = question
        self.text = ""
        self.tools: list[dict[str, Any]] = []
        self.thinking = ""
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
        self._events: list[Event] = []
        self._read = 0
        self._problem: BaseException | None = None
        self._more = asyncio.Event()

    def __repr__(self) -> str:
        state = f"failed: {self.error}" if self.error else "done" if self.done else "coming"
        return f"<Asked {self.question[:40]!r}: {state}, {len(self.text)} characters>"

    def __str__(self) -> str:
        return self.text

    @property
    def events(self) -> pd.DataFrame:
        """The events of the answer, with the columns of `bot.events()`."""
        return events_frame(self._events)

    @property
    def unread(self) -> int:
        """Events that came and that no loop has taken; 0 where nobody iterates."""
        return len(self._events) - self._read if self._read else 0

    def __await__(self) -> Any:
        return self.whole().__await__()

    async def whole(self) -> Asked:
        """Wait for the end; the same as awaiting it."""
        async for _ in self:
            pass
        return self

    async def __aiter__(self) -> AsyncIterator[Event]:
        index = 0
        try:
            while events := await self._hop(self._after(index)):
                for event in events:
                    index += 1
                    self._read = max(self._read, index)
                    yield event
        finally:
            if not self.done:
                await self._cancel(self)
        if self._problem is not None:
            raise self._problem
        if self.error:
            raise self._failure()

    async def _after(self, index: int) -> Sequence[Event]:
        """What came behind an index; nothing once it is over."""
        while len(self._events) <= index and not self.done:
            await self._more.wait()
        return self._events[index:]

    def _failure(self) -> AnswerError:
        kind = AgentBusy if "busy" in self.error.lower() else AnswerError
        return kind(f"the answer failed: {self.error}", answer=self, code=self.error.partition(":")[0])

    def take(self, event: Event, now: float) -> None:
        """One more event of the answer."""
        self.heard_at = now
        self._events.append(event)
        self._note(event)
        if event.type == "message.received" and event.role == ASSISTANT:
            self.text = event.text or self.text
            self.tokens = event.tokens
            self._finish(event.error, now)
        self._tell()

    def refuse(self, problem: BaseException, now: float) -> None:
        """The question could not even be asked, or nobody waits any more."""
        if not self.done:
            self._problem = problem
            self._finish(f"{type(problem).__name__}: {problem}", now)
            self._tell()

    def _finish(self, error: str, now: float) -> None:
        self.error = error
        self.seconds = now - self.began
        self.done = True

    def _tell(self) -> None:
        more, self._more = self._more, asyncio.Event()
        more.set()
        if self._watch is not None:
            self._watch(self)

    def _note(self, event: Event) -> None:
        match event.type:
            case "message.delta":
                self.text += event.text
            case "message.edited":
                self.text = event.text
            case "agent.tool_call":
                call = {"id": event.message_id, "name": event.user_name, "arguments": _value(event.text)}
                self.tools.append(call | {"result": None, "error": ""})
            case "agent.tool_result":
                self._answered(event)
            case "agent.progress":
                self.progress.append((event.text, _share(event.raw)))
            case "agent.file" if not event.error:
                self.files.append(event.text)

    def _answered(self, event: Event) -> None:
        """Lay a tool's result beside its call; a result without a call stands alone."""
        found = next(
            (tool for tool in self.tools if event.message_id and tool["id"] == event.message_id), None
        )
        if found is None:
            found = {"id": event.message_id, "name": event.user_name, "arguments": None}
            self.tools.append(found)
        found |= {"result": _value(event.text), "error": event.error}


def _share(raw: Any) -> float | None:
    """How much of a tool's work is done, if its update tells: ``progress`` from 0 to 1, or per cent."""
    payload = raw.get("payload") if isinstance(raw, dict) else None
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

    def add(self, asked: Asked, line: Line) -> None:
        """A question is on its way, by a line."""
        self._open[asked.id] = asked, line

    def drop(self, asked: Asked) -> Line | None:
        """Nobody waits for it any more. Returns its line, if it was pending."""
        _, line = self._open.pop(asked.id, (None, None))
        return line

    @property
    def pending(self) -> int:
        """Questions whose answer is coming."""
        return len(self._open)

    def stamped(self, event: Event) -> Event:
        """The event that ends an answer, with the time it took."""
        found = self._open.get(event.reply_to)
        if found is None or event.type != "message.received" or event.latency_s is not None:
            return event
        return replace(event, latency_s=self._clock.monotonic() - found[0].began)

    def take(self, rows: Sequence[tuple[int, Event]]) -> None:
        """Rows that are on disk: give each to its question."""
        for _, event in rows:
            found = self._open.get(event.reply_to)
            if found is not None and event.role != "user":
                found[0].take(event, self._clock.monotonic())
                if found[0].done:
                    self.drop(found[0])

    async def room(self) -> None:
        """Wait until every reader has caught up; each has its own deadline, so this ends."""
        while any(asked.unread > UNREAD for asked, _ in self._open.values()):
            await self._clock.sleep(0.02)

    def fail(self, line: Line, error: BaseException) -> None:
        """A line went down: its answers will not come."""
        for asked, whose in list(self._open.values()):
            if whose is line:
                self.end(asked, f"{type(error).__name__}: {error}")

    def end(self, asked: Asked, error: str) -> None:
        """End an answer by a row of our own, with what had arrived."""
        self._publish([self._lost(asked, error)])

    async def expire(self, asked: Asked, *, silence: float, longest: float) -> str:
        """Wait until an answer is over, or has been silent or under way for too long.

        Returns:
            Why it was given up, or "" if it came to its end.
        """
        until = self._clock.monotonic() + longest
        while not asked.done:
            now = self._clock.monotonic()
            due = min(until, asked.heard_at + silence)
            if due <= now:
                return (
                    f"DeadlineExceeded: the answer took longer than {longest:g} s"
                    if due == until
                    else f"DeadlineExceeded: silence for {silence:g} s"
                )
            await self._clock.sleep(min(due - now, 1.0))
        return ""
