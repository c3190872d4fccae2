"""Questions of a bot: put on a line, seen to their end, given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from botbook._asking import Asked
from botbook._connection import Connection
from botbook._errors import AnswerError
from botbook._lines import Line
from botbook._speaking import new_id
from botbook.actions import Abandon, Ask

__all__ = ["Inquiry"]


class Inquiry:
    """Asks agents.

    Args:
        connection: What questions go through.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clock = connection.clock
        self._questions = connection.questions

    def ask(
        self,
        question: str,
        *,
        attachments: Sequence[str],
        chat: str | None,
        timeout: float,
        silence: float,
        watch: Callable[[Asked], None] | None,
    ) -> Asked:
        """Put a question; the answer comes into what is returned. Any thread."""
        io = self._connection.io
        asked = Asked(
            new_id(),
            question,
            began=self._clock.monotonic(),
            hop=io.call,
            cancel=lambda asked: io.call(self._give_up(asked)),
            watch=watch,
        )
        io.submit(self._ask(asked, tuple(attachments), chat, silence=silence, longest=timeout))
        return asked

    async def _ask(
        self, asked: Asked, attachments: tuple[str, ...], chat: str | None, *, silence: float, longest: float
    ) -> None:
        """Put a question, and see its answer to the end."""
        line: Line | None = None
        try:
            line = await self._connection.lines.get(chat)
            if asked.done:  # it was stopped before it could be asked
                return
            self._questions.add(asked, line)
            await self._connection.say(
                Ask(id=asked.id, text=asked.question, attachments=attachments), line=line
            )
        except Exception as error:
            self._questions.drop(asked)
            asked.refuse(error, self._clock.monotonic())
            return
        line.busy += 1
        try:
            if why := await self._questions.expire(asked, silence=silence, longest=longest):
                line.wire.send(
                    Abandon(id=new_id(), ask_id=asked.id, silent="silence" in why), at=self._clock.now()
                )
                self._questions.end(asked, why)
        finally:
            line.busy -= 1
            line.used_at = self._clock.monotonic()

    async def _give_up(self, asked: Asked) -> None:
        """The caller stopped an answer: its rest must not reach the next question."""
        line = self._questions.drop(asked)
        if line is not None:
            line.wire.send(Abandon(id=new_id(), ask_id=asked.id), at=self._clock.now())
        error = AnswerError("the answer was stopped", answer=asked, code="cancelled")
        asked.refuse(error, self._clock.monotonic())
        if line is not None:
            self._questions.end(asked, "cancelled: stopped by the caller")
