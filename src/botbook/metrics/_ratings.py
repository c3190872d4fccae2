"""Ratings: every click on an answer folded into the state it left behind (bots.md 3c)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import narwhals as nw

from botbook.events import CANCEL, DISLIKE, LIKE
from botbook.metrics._frame import MESSAGES, Rows, without_echoes

__all__ = ["NONE", "STATES", "WANTS", "Rating", "answers_of", "fold"]

#: No rating: never given, or taken back.
NONE: Final = 0
STATES: Final = {NONE: "none", LIKE: "like", DISLIKE: "dislike"}
#: What is read of a click; see `_rating`.
CLICK: Final = (
    *("gateway", "bot", "chat_id", "user_id", "feedback_id", "message_id"),
    *("at_us", "feedback_type", "feedback_reasons", "text"),
)
#: A click's values and group.
Click = tuple[tuple[Any, ...], tuple[str, ...]]
#: An answer's time and group.
Answer = tuple[int, tuple[str, ...]]
WANTS: Final = ("feedback_id", "feedback_reasons", "role", "text", "user_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """What became of one feedback id.

    Attributes:
        gateway: Of its rows.
        bot: The same.
        chat_id: The same.
        user_id: Who rated.
        feedback_id: Its id.
        message_id: The answer it is about.
        clicks: Types of all events, in order: 1 like, 2 dislike, 3 cancel.
        first_us: Time of the first, in microseconds since 1970.
        last_us: Time of the last.
        answered_us: Time of the answer; None if the frame does not hold it.
        reasons: What the last event names.
        text: What the last event says.
        group: Values of the columns to group by, of the answer, else of the rating.
    """

    gateway: str
    bot: str
    chat_id: str
    user_id: str
    feedback_id: str
    message_id: str
    clicks: tuple[int, ...]
    first_us: int
    last_us: int
    answered_us: int | None
    reasons: tuple[str, ...]
    text: str
    group: tuple[str, ...]

    @property
    def state(self) -> int:
        """Like, dislike or `NONE`: the last event decides."""
        return NONE if self.clicks[-1] == CANCEL else self.clicks[-1]

    @property
    def booked_us(self) -> int:
        """When it counts: at its answer, however late the click; without one, at the first click."""
        return self.first_us if self.answered_us is None else self.answered_us

    @property
    def changes(self) -> list[tuple[int, int]]:
        """State before and after each event."""
        states = [NONE, *(NONE if click == CANCEL else click for click in self.clicks)]
        return list(pairwise(states))


def answers_of(rows: Rows) -> nw.DataFrame[Any]:
    """Answers that can be rated: bot messages with an id, one row each."""
    said = rows.only(nw.col("type").is_in(MESSAGES), nw.col("role") == "assistant")
    return without_echoes(said).filter(nw.col("message_id") != "")


def fold(rows: Rows) -> list[Rating]:
    """Fold the clicks by feedback id, in the order of event time and then of arrival.

    A click without an id belongs to its user and answer.
    """
    return list(rows.once("ratings", rows.by, make=_fold))


def _fold(rows: Rows) -> list[Rating]:
    clicks = rows.only(
        nw.col("type") == "feedback.received", nw.col("feedback_type").is_in([LIKE, DISLIKE, CANCEL])
    )
    answers = _places(rows, clicks)
    clicks = clicks.sort("at_us", "order")
    folded: dict[tuple[str, ...], list[Click]] = {}
    for click in zip(clicks.select(*CLICK).iter_rows(), rows.keys(clicks), strict=True):
        gateway, bot, chat, user, ident, message = click[0][:6]
        key = (gateway, bot, ident) if ident else (gateway, bot, chat, user, message)
        folded.setdefault(key, []).append(click)
    return [_rating(found, answers) for found in folded.values()]


def _places(rows: Rows, clicks: nw.DataFrame[Any]) -> dict[tuple[str, ...], Answer]:
    """Rated answers by chat and id, and where that is not enough by id alone; the earliest counts."""
    places: dict[tuple[str, ...], Answer] = {}
    answers, same = answers_of(rows), ["gateway", "bot", "message_id"]
    rated = answers.select("order", *same).join(clicks.select(*same).unique(), on=same, how="semi")
    answers = answers.filter(nw.col("order").is_in(rated["order"])).sort("at_us", "order")
    columns = answers.select("gateway", "bot", "chat_id", "message_id", "at_us").iter_rows()
    for (gateway, bot, chat, message, at), group in zip(columns, rows.keys(answers), strict=True):
        places.setdefault((gateway, bot, chat, message), (at, group))
        places.setdefault((gateway, bot, message), (at, group))
    return places


def _rating(clicks: list[Click], answers: dict[tuple[str, ...], Answer]) -> Rating:
    (gateway, bot, chat, user, ident, message, at, _, reasons, text), group = clicks[-1]
    answer = answers.get((gateway, bot, chat, message)) or answers.get((gateway, bot, message))
    return Rating(
        gateway=gateway,
        bot=bot,
        chat_id=chat,
        user_id=user,
        feedback_id=ident,
        message_id=message,
        clicks=tuple(int(click[7]) for click, _ in clicks),
        first_us=clicks[0][0][6],
        last_us=at,
        answered_us=answer[0] if answer else None,
        reasons=_reasons(reasons),
        text=text,
        group=_group(answer, group),
    )


def _group(answer: Answer | None, own: tuple[str, ...]) -> tuple[str, ...]:
    """The answer's values, and where it has none, those of the rating."""
    if answer is None:
        return own
    return tuple(value or mine for value, mine in zip(answer[1], own, strict=True))


def _reasons(named: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason.strip() for reason in named or () if reason and reason.strip()))
