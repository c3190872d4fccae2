"""Streamed answers: one object that carries its run, and the frames that wait to be acknowledged."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final

from botbook._clock import SYSTEM, Clock
from botbook._errors import AnswerError, ApiError, ConnectionLost, DeadlineExceeded, NotSupported
from botbook.actions import Action, AnswerCompleted, AnswerDelta, AnswerFailed, AnswerStarted, Run

__all__ = ["Answer", "BlockingAnswer", "Outbox"]

#: A piece shorter than `PIECE_CHARS` waits for more, for as long as `PIECE_SECONDS`: a frame
#: carries about 500 bytes of envelope (protocols/miti.md 10, row 32).
PIECE_CHARS: Final = 80
PIECE_SECONDS: Final = 0.05
#: Wait for an acknowledgement, then say the same again, so many times (protocols/miti.md 5).
ACK_SECONDS: Final = 10.0
ACK_REPEATS: Final = 2

Say = Callable[[Action], Awaitable[Any]]


class Outbox:
    """Frames under way that the gateway has not acknowledged, and the answers that run.

    Args:
        say: Puts an action on the wire; raises `ConnectionLost` while the link is down.
        opened: Waits until the link is open.
        clock: Time.
        ack_seconds: Wait for an acknowledgement, in seconds.
        ack_repeats: How often a frame is said again.
    """

    def __init__(
        self,
        say: Say,
        *,
        opened: Callable[[], Awaitable[None]],
        clock: Clock = SYSTEM,
        ack_seconds: float = ACK_SECONDS,
        ack_repeats: int = ACK_REPEATS,
    ) -> None:
        self._say = say
        self._opened = opened
        self._clock = clock
        self._ack_seconds = ack_seconds
        self._ack_repeats = ack_repeats
        self._waiting: dict[str, tuple[Action, asyncio.Future[None]]] = {}
        self._runs: dict[str, Answer] = {}

    async def say(self, action: Action) -> None:
        """Put a frame on the wire that nobody acknowledges.

        With the link down it is lost, which harms nothing: the last frame holds the whole answer.
        """
        try:
            await self._say(action)
        except ConnectionLost:
            return

    async def deliver(self, action: Action) -> None:
        """Put a frame on the wire until it is acknowledged, always under the same id.

        Raises:
            ApiError: The gateway refused it.
            DeadlineExceeded: No acknowledgement after all repeats.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            for _ in range(1 + self._ack_repeats):
                self._waiting.pop(action.id, None)
                await self._opened()
                self._waiting[action.id] = action, future
                await self.say(action)
                if await self._acknowledged(future):
                    return
        finally:
            self._waiting.pop(action.id, None)
        raise DeadlineExceeded(f"no acknowledgement after saying it {1 + self._ack_repeats} times")

    async def _acknowledged(self, future: asyncio.Future[None]) -> bool:
        timer = asyncio.ensure_future(self._clock.sleep(self._ack_seconds))
        try:
            await asyncio.wait({future, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        if future.done():
            future.result()
        return future.done()

    def under_way(self) -> list[Action]:
        """What was said and not acknowledged. To be asked at the moment when the link comes back."""
        return [action for action, _ in self._waiting.values()]

    async def say_again(self, actions: Sequence[Action]) -> None:
        """The link is back: what was under way when it broke is said on the new one."""
        for action in actions:
            await self.say(action)

    def acknowledge(self, ident: str, *, ok: bool = True, error: str = "") -> bool:
        """The gateway spoke of a frame. Returns whether anybody waited for that."""
        _, future = self._waiting.get(ident, (None, None))
        if future is None or future.done():
            return False
        if ok:
            future.set_result(None)
        else:
            future.set_exception(ApiError(f"the gateway refused the answer: {error}", code="refused"))
        return True

    def close(self) -> None:
        """The bot ends: nothing will be acknowledged any more."""
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionLost(1001, "the bot was stopped"))

    def began(self, answer: Answer) -> None:
        """Let a cancel find this answer."""
        self._runs[answer.run.run_id] = answer

    def ended(self, answer: Answer) -> None:
        """It is over."""
        self._runs.pop(answer.run.run_id, None)

    def cancel(self, *, run_id: str, question_id: str) -> bool:
        """The asker stopped an answer, named by its run or by the question.

        Returns:
            Whether such an answer was running.
        """
        answer = self._runs.get(run_id)
        if answer is None and not run_id:
            answer = next((a for a in list(self._runs.values()) if a.run.question_id == question_id), None)
        if answer is not None:
            answer.cancelled = True
        return answer is not None


class Answer:
    """A streamed answer: ``async with event.answer() as a: await a.write("…")``.

    It opens with the block and is completed at its end; if the block raises, it is marked as
    failed. When the asker stops it, the next `write` raises `AnswerError` with the code
    ``cancelled``, which the block's end swallows.

    Args:
        run: Its identity.
        say: Puts a frame on the wire, best effort.
        deliver: Puts a frame on the wire until acknowledged.
        instead: Sends a whole text, where the gateway has no streaming.
        began: Called with the answer when it opens.
        finished: Called with (answer, error) at the end, error "" when all went well.

    Attributes:
        cancelled: The asker stopped it.
        text: What was written so far.
        reasoning: What was thought so far.
        streams: Whether the gateway takes pieces; else the whole text is sent at the end.
    """

    def __init__(
        self,
        run: Run,
        *,
        say: Say,
        deliver: Say,
        instead: Callable[[str], Awaitable[Any]],
        began: Callable[[Answer], None],
        finished: Callable[[Answer, str], Awaitable[None]],
    ) -> None:
        self.run = run
        self.cancelled = False
        self._say, self._deliver, self._instead = say, deliver, instead
        self._began, self._finished = began, finished
        self._texts: list[str] = []
        self._thoughts: list[str] = []
        self._buffer: list[str] = []
        self._buffered_reasoning = False
        self._seq = 0
        self.streams = True
        self._timer: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    @property
    def text(self) -> str:
        return "".join(self._texts)

    @property
    def reasoning(self) -> str:
        return "".join(self._thoughts)

    async def __aenter__(self) -> Answer:
        self._began(self)
        try:
            await self._say(AnswerStarted(id=_new_id(), run=self.run))
        except NotSupported:
            self.streams = False
        return self

    async def write(self, text: str, *, reasoning: bool = False) -> None:
        """Add a piece.

        Args:
            text: The piece, markdown.
            reasoning: It is thinking, shown folded, and no part of the answer itself.

        Raises:
            AnswerError: The asker stopped the answer (code ``cancelled``).
        """
        if self.cancelled:
            raise AnswerError("the asker stopped this answer", answer=self, code="cancelled")
        if not text:
            return
        (self._thoughts if reasoning else self._texts).append(text)
        if not self.streams:
            return
        if self._buffer and reasoning != self._buffered_reasoning:
            await self._flush()
        self._buffer.append(text)
        self._buffered_reasoning = reasoning
        if sum(map(len, self._buffer)) >= PIECE_CHARS or self._seq == 0:  # the first piece goes at once
            await self._flush()
        elif self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(PIECE_SECONDS)
        await self._flush()

    async def _flush(self) -> None:
        async with self._turn:
            text, reasoning = "".join(self._buffer), self._buffered_reasoning
            self._buffer.clear()
            if text:
                self._seq += 1
                await self._say(
                    AnswerDelta(id=_new_id(), run=self.run, seq=self._seq, text=text, reasoning=reasoning)
                )

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool:
        stopped = isinstance(problem, AnswerError) and problem.code == "cancelled" and problem.answer is self
        if self._timer is not None:
            self._timer.cancel()
        error = ""
        try:
            if problem is not None and not stopped:
                error = type(problem).__name__
                await self._fail(error)
            else:
                await self._complete("cancelled" if self.cancelled else "stop")
        except Exception as failure:
            error = error or f"{type(failure).__name__}: {failure}"
            if problem is None:
                raise
        finally:
            await self._finished(self, error)
        return stopped

    async def _complete(self, finish_reason: str) -> None:
        if not self.streams:
            await self._instead(self.text)
            return
        await self._flush()
        await self._deliver(
            AnswerCompleted(
                id=_new_id(),
                run=self.run,
                seq=self._seq + 1,
                text=self.text,
                reasoning=self.reasoning,
                finish_reason=finish_reason,
            )
        )

    async def _fail(self, error: str) -> None:
        if self.streams:
            # The type of the error and no more: its text may hold what the asker must not see.
            await self._deliver(AnswerFailed(id=_new_id(), run=self.run, seq=self._seq + 1, message=error))


class BlockingAnswer:
    """An `Answer` for a plain ``def`` handler: ``with event.answer() as a: a.write("…")``.

    Args:
        answer: The answer itself.
        run: Waits for a coroutine on the answer's own loop.
    """

    def __init__(self, answer: Answer, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._answer = answer
        self._run = run

    @property
    def cancelled(self) -> bool:
        """Whether the asker stopped it."""
        return self._answer.cancelled

    @property
    def text(self) -> str:
        """What was written so far."""
        return self._answer.text

    def __enter__(self) -> BlockingAnswer:
        self._run(self._answer.__aenter__())
        return self

    def write(self, text: str, *, reasoning: bool = False) -> None:
        """See `Answer.write`."""
        self._run(self._answer.write(text, reasoning=reasoning))

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return bool(self._run(self._answer.__aexit__(kind, problem, trace)))


def _new_id() -> str:
    return str(uuid.uuid4())
