"""Conversations that come with botbook, as a frame of events."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from botbook._errors import ConfigError
from botbook._local.sample import Conversation, Turn, conversations
from botbook.events import ASSISTANT, DISLIKE, LIKE, Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["topical_chat"]

#: How many people begin a conversation in each hour of a day, by weight: nights are quiet.
_RHYTHM: Final = (1, 1, 1, 1, 1, 2, 3, 5, 7, 8, 8, 7, 8, 7, 6, 7, 8, 9, 10, 11, 11, 9, 5, 2)
#: A Monday; the second Sunday after it has 23 hours in most of Europe.
_START: Final = datetime(2026, 3, 16, tzinfo=UTC)
#: Median seconds until a user writes again, and the longest.
_USER_GAP: Final = (8.0, 60.0)
#: Median seconds until the bot answers, and the longest.
_BOT_DELAY: Final = (2.0, 20.0)
#: Median seconds until a message is rated, and the longest.
_RATING: Final = (3.0, 30.0)
#: Spread of all three, as the sigma of a log-normal.
_SPREAD: Final = 0.6
_AGENTS: Final = ("agent_1", "agent_2")


def topical_chat(
    path: str | os.PathLike[str] | None = None,
    *,
    bot: Literal["agent_1", "agent_2"] = "agent_2",
    likes: Collection[str] = ("Excellent", "Good"),
    days: float = 28.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Real conversations between two people who rated each other's messages, as if one were a bot.

    Words and ratings are those of the corpus, Topical-Chat (see ``notebooks/data/README.md``). **It has no
    clock times: those here are made up**, by a seeded scenario with a daily rhythm, log-normal pauses and
    one person a conversation; so figures about hours, days and waiting say nothing about people.

    Args:
        path: A file of the same fields, gzipped JSON lines; default the shipped sample of 60 conversations.
        bot: The side that stands for the bot; its partner is the user. Only messages of the bot are rated
            here; both sides together hold every rating.
        likes: Rating words that are a like; the other ones are dislikes. The word stands in
            ``feedback_reasons``.
        days: Over how many days, from Monday 2026-03-16, the conversations begin.
        seed: Of the clock times.

    Returns:
        The columns of `bot.events()`, in the order of time.

    Raises:
        ConfigError: The file is missing or holds something else, or a parameter is wrong.
    """
    from botbook._data.frames import events_frame

    if bot not in _AGENTS:
        raise ConfigError(f"there is no side {bot!r}", hint=f"One of {', '.join(_AGENTS)}.")
    if not 0 < days < math.inf:
        raise ConfigError(f"days={days!r} is no number of days above 0", hint="For example 28.")
    made: list[Event] = []
    for talk in conversations(path):
        chance = random.Random(f"{seed}:{talk.conversation_id}")
        made += _events(talk, _start(chance, days), chance, bot=bot, likes=likes)
    return events_frame(sorted(made, key=lambda event: event.at))


def _start(chance: random.Random, days: float) -> datetime:
    hour = chance.choices(range(24), _RHYTHM)[0] + chance.random()
    whole = max(1, math.floor(days))
    return _START + timedelta(days=chance.randrange(whole) * days / whole, hours=hour)


def _events(
    talk: Conversation, at: datetime, chance: random.Random, *, bot: str, likes: Collection[str]
) -> Iterator[Event]:
    """Messages of one conversation, and the ratings of what the bot said."""
    for number, turn in enumerate(talk.turns):
        by_bot = turn.by_bot is (bot == _AGENTS[1])
        at += timedelta(seconds=_pause(chance, *(_BOT_DELAY if by_bot else _USER_GAP)))
        rated_at = at + timedelta(seconds=_pause(chance, *_RATING))
        said = _message(talk, number, turn, at, by_bot=by_bot, bot=bot)
        yield said
        if by_bot and turn.rating:
            yield _rating(said, turn, rated_at, user=_user(talk), likes=likes)


def _user(talk: Conversation) -> str:
    return f"user-{talk.conversation_id.removeprefix('t_')[:8]}"


def _message(talk: Conversation, number: int, turn: Turn, at: datetime, *, by_bot: bool, bot: str) -> Event:
    ident = f"{talk.conversation_id}:{number}"
    return Event(
        event_id=ident,
        type="message.sent" if by_bot else "message.received",
        at=at,
        received_at=at,
        gateway="topical",
        bot=bot,
        chat_type="private",
        chat_id=talk.conversation_id,
        user_id="" if by_bot else _user(talk),
        role=ASSISTANT if by_bot else "user",
        message_id=ident,
        text=turn.text,
    )


def _rating(said: Event, turn: Turn, at: datetime, *, user: str, likes: Collection[str]) -> Event:
    return Event(
        event_id=f"rating:{said.message_id}",
        type="feedback.received",
        at=at,
        received_at=at,
        gateway=said.gateway,
        bot=said.bot,
        chat_type=said.chat_type,
        chat_id=said.chat_id,
        user_id=user,
        role="user",
        message_id=said.message_id,
        feedback_id=said.message_id,
        feedback_type=LIKE if turn.rating in likes else DISLIKE,
        feedback_reasons=(turn.rating,),
    )


def _pause(chance: random.Random, median: float, longest: float) -> float:
    return min(chance.lognormvariate(math.log(median), _SPREAD), longest)
