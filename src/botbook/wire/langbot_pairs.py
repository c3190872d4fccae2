"""Which question a LangBot answer belongs to (protocols/langbot.md 4).

Frames carry no request id, all clients of a pipeline hear each other, and answers of connections
that are gone still come. What is known: numbers of questions and answers grow in one sequence, a
session works in order, and in a group an answer names its asker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from botbook.wire.langbot_frames import BOT_TARGET, Said, leading_at

__all__ = ["MEMORY", "Answer", "Asked", "Pairs", "ident_of", "text_of", "user_of"]

#: A question of somebody else that has no answer after so long will get none.
PATIENCE: Final = timedelta(minutes=5)

#: Questions without an answer, and answers, that are remembered.
MEMORY: Final = 256


@dataclass(slots=True, kw_only=True)
class Asked:
    """A question that has no answer yet.

    Attributes:
        ask_id: Id of the action; "" for what others asked.
        text: What was asked.
        at: When it was sent, then when it was heard.
        number: The server's; 0 until it was heard.
        user_id: Who asked, as the server names them.
        message_id: What answers reply to.
        expected: Whether the pipeline is likely to answer.
    """

    ask_id: str
    text: str
    at: datetime
    number: int = 0
    user_id: str = ""
    message_id: str = ""
    expected: bool = True


@dataclass(slots=True, kw_only=True)
class Answer:
    """An answer that is coming, or came.

    Attributes:
        reply_to: Message id of its question, or "".
        text: So far.
        frames: How many have come.
        done: Its last frame came.
    """

    reply_to: str
    text: str = ""
    frames: int = 0
    done: bool = False


class Pairs:
    """The questions without an answer, and the answers that are coming, of one session type.

    Args:
        group: Whether it is the group session, where not every message gets an answer.
    """

    def __init__(self, *, group: bool) -> None:
        self._group = group
        self._sent: deque[Asked] = deque(maxlen=MEMORY)
        self._open: deque[Asked] = deque(maxlen=MEMORY)
        self._answers: dict[tuple[int, str], Answer] = {}
        self._last: tuple[int, str, Asked | None] = (0, "", None)

    def reopened(self) -> None:
        """A new connection: what was sent and not heard may be lost; what was heard is still worked on."""
        self._sent.clear()

    def asked(self, ask_id: str, text: str, at: datetime) -> None:
        """A question of ours goes out."""
        self._sent.append(Asked(ask_id=ask_id, text=text, at=at))

    def heard(self, said: Said, at: datetime, *, ident: str, own: bool) -> Asked:
        """A question came by; numbers that start anew mean a reset or a restart."""
        number, known, before = self._last
        if before is not None and ident == known:
            return before
        if said.number <= number:
            self._open.clear()
            self._answers.clear()
        asked = (self._own(said) if own else None) or Asked(ask_id="", text=said.content, at=at)
        asked.number, asked.at, asked.user_id = said.number, at, user_of(said.connection_id)
        asked.message_id = asked.ask_id or ident
        asked.expected = not self._group or _is_for_bot(said)
        self._open.append(asked)
        self._last = (said.number, ident, asked)
        return asked

    def _own(self, said: Said) -> Asked | None:
        """Which of ours came back: the first of the same text, else the first."""
        if not self._sent:
            return None
        asked = next((asked for asked in self._sent if said.content.endswith(asked.text)), self._sent[0])
        self._sent.remove(asked)
        return asked

    def abandoned(self, ask_id: str) -> None:
        """A question gets no answer, so that it must not take the next one."""
        for waiting in (self._sent, self._open):
            for asked in [asked for asked in waiting if asked.ask_id == ask_id]:
                waiting.remove(asked)

    def answer(self, said: Said, at: datetime) -> Answer:
        """The memory of an answer; its first frame finds the question."""
        key = (said.number, said.timestamp)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._answers[key] = Answer(reply_to=self._question_of(said, at))
            if len(self._answers) > MEMORY:
                del self._answers[next(iter(self._answers))]
        answer.frames += 1
        return answer

    def _question_of(self, said: Said, at: datetime) -> str:
        """The question that has waited longest among those that fit, or ""."""
        asker = leading_at(said.components)
        fit = [
            asked
            for asked in self._open
            if asked.number < said.number
            and asker in ("", asked.user_id)
            and (asked.ask_id or at - asked.at < PATIENCE)
        ]
        chosen = [asked for asked in fit if asked.expected][:1] or fit[-1:]
        for asked in chosen:
            self._open.remove(asked)
        return chosen[0].message_id if chosen else ""


def ident_of(session: str, said: Said) -> str:
    """An id that is unique: numbers start anew after a reset, times do not."""
    return f"{session}:{said.number}@{said.timestamp}"


def user_of(connection: str) -> str:
    """The user that a connection is to the pipeline, and in monitoring rows."""
    return f"websocket_{connection}" if connection else ""


def text_of(said: Said) -> str:
    """The text, without the mention that is glued before it in groups."""
    mentioned = leading_at(said.components)
    return said.content.removeprefix(f"@{mentioned}") if mentioned else said.content


def _is_for_bot(said: Said) -> bool:
    """What the default group rule answers."""
    return said.content.lower().startswith("ai") or _mentions_bot(said.components)


def _mentions_bot(components: Sequence[Any]) -> bool:
    return any(isinstance(item, dict) and item.get("target") == BOT_TARGET for item in components)
