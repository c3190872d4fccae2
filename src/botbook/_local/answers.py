"""Streamed answers as the embedded gateway keeps them: each frame counts once (protocols/miti.md 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from botbook._errors import LocalProtocolError
from botbook.actions import AnswerCompleted, AnswerDelta, AnswerFailed, Run
from botbook.wire.miti_answers import Answer

__all__ = ["Answers", "News"]

#: Event ids remembered, so that a repeated frame is known.
SEEN: Final = 10_000


@dataclass(frozen=True, slots=True)
class News:
    """What a frame changed.

    Attributes:
        begun: It is the first of its run.
        text: The whole answer, when it is complete.
    """

    begun: bool = False
    text: str | None = None


class Answers:
    """The answers of one agent that are being streamed."""

    def __init__(self) -> None:
        self._seen: dict[str, None] = {}
        self._open: dict[str, tuple[Run, list[str]]] = {}

    def take(self, answer: Answer) -> News:
        """Apply a frame; one that came before changes nothing."""
        if answer.id in self._seen:
            return News()
        self._remember(answer.id)
        run = answer.run
        begun = run.run_id not in self._open
        _, pieces = self._open.setdefault(run.run_id, (run, []))
        match answer:
            case AnswerDelta() if not answer.reasoning:
                pieces.append(answer.text)
            case AnswerCompleted():
                del self._open[run.run_id]
                return News(begun, answer.text)
            case AnswerFailed():
                del self._open[run.run_id]
        return News(begun)

    def _remember(self, event_id: str) -> None:
        self._seen[event_id] = None
        if len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]

    def find(self, run_id: str = "") -> Run:
        """A run that is being streamed.

        Args:
            run_id: Which; default the newest.

        Raises:
            LocalProtocolError: There is no such run.
        """
        wanted = run_id or next(reversed(self._open), "")
        if wanted not in self._open:
            raise LocalProtocolError(
                "no such answer is being streamed", hint="Begin one with `event.answer()` and try again."
            )
        return self._open[wanted][0]

    def written(self, run_id: str) -> str:
        """What has come of an answer that is being streamed."""
        return "".join(self._open[run_id][1]) if run_id in self._open else ""

    def clear(self) -> None:
        """Forget all runs."""
        self._seen.clear()
        self._open.clear()
