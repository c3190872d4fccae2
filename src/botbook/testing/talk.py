"""A conversation with handlers: a user speaks, and what they answer is read."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from botbook._bus.capture import Deed
from botbook._bus.handler import Handler
from botbook._bus.rehearsal import Outcome, Rehearsal
from botbook._bus.replay import PATIENCE, Record, Replay
from botbook._bus.replay import replay as run_replay
from botbook._data.record import event_from_line
from botbook._errors import HandlerError
from botbook.events import CANCEL, DISLIKE, LIKE, USER, Event, from_json
from botbook.messages import At, MessageChain, Plain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Conversation", "Turn", "conversation", "replay"]

#: When a conversation begins, and how long it takes until the user speaks again, in seconds.
START: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)
PAUSE: Final = 1.0
BOT: Final = "bot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One thing that happened, and what came of it.

    Attributes:
        event: What happened.
        outcomes: What came of each handler that it was for.
        recorded: The answers of the record, when it was played again; else empty.
    """

    event: Event
    outcomes: tuple[Outcome, ...]
    recorded: tuple[str, ...] = ()

    @property
    def replies(self) -> tuple[str, ...]:
        """The answers, in order."""
        return tuple(text for outcome in self.outcomes for text in outcome.replies)

    @property
    def actions(self) -> tuple[Deed, ...]:
        """What else would have been sent."""
        return tuple(deed for outcome in self.outcomes for deed in outcome.actions)

    @property
    def changed(self) -> bool:
        """Whether the answers are other ones than in the record."""
        return self.replies != self.recorded


class Conversation:
    """A user on one side, handlers on the other.

    What handlers keep in their own names lasts as long as the conversation.

    Args:
        handlers: Functions, as for `bot.on`, or `Handler` objects.
        pattern: What the functions among them are for.
        seed: Of chance.
        extra: What handlers may ask for by name, besides the event's own columns.
        patience: Longest single call, in real seconds; what holds its thread longer is broken off.

    Attributes:
        turns: What happened so far.
        now: The time in the conversation, UTC.

    Raises:
        HandlerError: A handler asks for what no event has.
    """

    def __init__(
        self,
        *handlers: Any,
        pattern: str = "message.received",
        seed: int = 0,
        extra: Mapping[str, Any] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        if not handlers:
            raise HandlerError("a conversation needs a handler", hint="Write conversation(handler).")
        self._handlers = [_handler(one, pattern) for one in handlers]
        self._options: dict[str, Any] = {"seed": seed, "extra": extra, "patience": patience}
        self._stage = Rehearsal(seed=seed, extra=extra)
        self._numbers = itertools.count(1)
        self._read = 0
        self._said: list[str] = []
        self.turns: list[Turn] = []
        self.now = START

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End it. Harmless when it has ended."""
        ending = threading.Thread(target=self._stage.close, name="botbook-testing")  # a loop may run here
        ending.start()
        ending.join()

    def user(
        self,
        text: str,
        *,
        user: str = "you",
        name: str = "",
        group: str = "",
        check: bool = True,
        **columns: Any,
    ) -> Turn:
        """Let a user write, and wait until the handlers are done.

        Args:
            text: What they write.
            user: Their id.
            name: What they are called.
            group: In this group, mentioning the bot; default in private.
            check: Raise what a handler raises.
            **columns: Other columns of the event, by name.

        Returns:
            What came of it.

        Raises:
            Exception: What a handler raises.
            HandlerError: A handler ran out of time.
        """
        parts = MessageChain([At(target=BOT), Plain(text=text)]) if group else None
        given = {"text": text, "user_id": user, "user_name": name, "parts": parts} | columns
        chat = (
            {"chat_type": "group", "chat_id": group}
            if group
            else {"chat_type": "private", "chat_id": f"{user}:{BOT}"}
        )
        return self.event(self._event("message.received", **(chat | given)), check=check)

    def rate(
        self,
        rating: int,
        *,
        text: str = "",
        reasons: Sequence[str] = (),
        user: str = "you",
        check: bool = True,
    ) -> Turn:
        """Let a user rate the last answer.

        Args:
            rating: 1 like, 2 dislike, 3 cancel.
            text: What they say about it.
            reasons: Reasons they tick.
            user: Their id.
            check: Raise what a handler raises.

        Raises:
            Exception: What a handler raises.
        """
        assert rating in (LIKE, DISLIKE, CANCEL), "a rating is 1, 2 or 3"
        about = self.turns[-1].event if self.turns else None
        event = self._event(
            "feedback.received",
            text=text,
            user_id=user,
            chat_type=about.chat_type if about else "private",
            chat_id=about.chat_id if about else f"{user}:{BOT}",
            feedback_id=f"f-{about.message_id if about else 'none'}",
            feedback_type=rating,
            feedback_reasons=tuple(reasons),
            reply_to=about.message_id if about else "",
        )
        return self.event(event, check=check)

    def event(self, event: Event | Mapping[str, Any], *, check: bool = True) -> Turn:
        """Let anything happen, and wait until the handlers are done.

        Args:
            event: An event, or the JSON of a unified event of LangBot.
            check: Raise what a handler raises.

        Raises:
            Exception: What a handler raises.
            HandlerError: A handler ran out of time.
        """
        if not isinstance(event, Event):
            event = from_json(event, received_at=self.now)
        run = run_replay([event], self._handlers, stage=self._stage, **self._options)
        self._stage = run.stage
        turn = Turn(event=event, outcomes=tuple(row.outcome for row in run.rows))
        self.turns.append(turn)
        self._said += turn.replies
        self.now = max(self.now, event.received_at) + timedelta(seconds=PAUSE)
        if check:
            _raise_first(turn)
        return turn

    def wait(self, seconds: float) -> None:
        """Let time pass until the user speaks again, in seconds. Nobody waits for it."""
        self.now += timedelta(seconds=seconds)

    def reply(self) -> str:
        """The next answer that was not read yet.

        Raises:
            HandlerError: There is none.
        """
        if self.silent:
            said = f"after {self.turns[-1].event.text!r}" if self.turns else "before anybody spoke"
            raise HandlerError(f"no more answer {said}", hint="`c.turns` has all that was said and sent.")
        self._read += 1
        return self._said[self._read - 1]

    @property
    def silent(self) -> bool:
        """Whether every answer was read."""
        return self._read == len(self._said)

    @property
    def replies(self) -> tuple[str, ...]:
        """All answers so far."""
        return tuple(self._said)

    @property
    def actions(self) -> tuple[Deed, ...]:
        """All else that would have been sent."""
        return tuple(deed for turn in self.turns for deed in turn.actions)

    def play(
        self, recorded: str | os.PathLike[str] | Iterable[Event | str], *, check: bool = False
    ) -> list[Turn]:
        """Play the users' side of a conversation again, waiting for each answer.

        Args:
            recorded: A record file, its events, or just what the user says, as texts.
            check: Raise what a handler raises.

        Returns:
            A turn for each message of a user, with the answers of the record beside the new ones.

        Raises:
            StoreError: The file is no record.
            Exception: What a handler raises, where `check` says so.
        """
        rows = _events(recorded) if isinstance(recorded, str | os.PathLike) else list(recorded)
        record = Record(row for row in rows if isinstance(row, Event))
        turns = []
        for row in rows:
            if isinstance(row, str):
                turns.append(self.user(row, check=check))
            elif row.role == USER and row.type == "message.received":
                turns.append(self._again(row, record, check))
        return turns

    def _again(self, event: Event, record: Record, check: bool) -> Turn:
        turn = self.event(event, check=check)
        before = record.of(event, "")
        self.turns[-1] = Turn(
            event=turn.event, outcomes=turn.outcomes, recorded=before.replies if before else ()
        )
        return self.turns[-1]

    def _event(self, type: str, **columns: Any) -> Event:
        number = next(self._numbers)
        given: dict[str, Any] = {
            "event_id": f"e-{number}",
            "type": type,
            "at": self.now,
            "received_at": self.now,
            "gateway": "sim",
            "bot": BOT,
            "role": USER,
            "message_id": f"m-{number}",
        }
        return Event(**(given | columns))


def conversation(*handlers: Any, **options: Any) -> Conversation:
    """Begin a conversation: ``with botbook.testing.conversation(handler) as c: c.user("hi")``.

    Args:
        *handlers: Functions, as for `bot.on`, or what `notebook_handlers` found.
        **options: As for `Conversation`.

    Raises:
        HandlerError: A handler asks for what no event has.
    """
    return Conversation(*handlers, **options)


def replay(
    recorded: str | os.PathLike[str] | Iterable[Event],
    *handlers: Any,
    pattern: str = "message.received",
    watch: Callable[[Replay], None] | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Play recorded events through one or more handlers; nothing is sent.

    Args:
        recorded: A record file, or its events, oldest first.
        *handlers: Functions, or what `notebook_handlers` found. One is held against the record, the
            first of several against the second and the rest against the first.
        pattern: What the functions among them are for.
        watch: Called some ten times a second with ``done`` and ``total`` on what it gets.
        **options: ``seed``, ``extra``, ``patience``, ``stands_for``, as for `Replay`.

    Returns:
        One row for each event and handler: event_id, handler, replies, actions, error, seconds, changed.

    Raises:
        StoreError: The file is no record.
        HandlerError: A handler asks for what no event has.
        KeyboardInterrupt: The stop button.
    """
    rows = _events(recorded) if isinstance(recorded, str | os.PathLike) else list(recorded)
    made = [_handler(one, pattern) for one in handlers]
    return run_replay(rows, made, record=Record(rows), watch=watch, **options).frame()


def _handler(one: Any, pattern: str) -> Handler:
    return one if isinstance(one, Handler) else Handler(one, pattern=pattern)


def _raise_first(turn: Turn) -> None:
    for outcome in turn.outcomes:
        if outcome.problem is not None:
            raise outcome.problem
        if outcome.error:
            raise HandlerError(f"{outcome.handler}: {outcome.error}")


def _events(path: str | os.PathLike[str]) -> list[Event]:
    with open(path, encoding="utf-8") as file:
        return [event_from_line(line) for line in file if line.strip()]
