"""Sessions: what is said in one chat until it is silent for a while (bots.md 3b)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import narwhals as nw
import numpy as np

from botbook.metrics._frame import Rows
from botbook.metrics._kinds import micros_of, where
from botbook.metrics._time import MICROS, NEVER, Ints
from botbook.metrics._turns import DELTA, Flags, Turns, find_turns

__all__ = ["Sessions", "find_sessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions with a user in them, in the order of chats and time.

    Attributes:
        rows: The first message of each, with all its columns.
        start_us: Its time, in microseconds since 1970.
        end_us: Time of the last message.
        first_user_us: First user message.
        reply_us: First bot message behind it; `NEVER` without one.
        messages: How many messages.
        turns: How many user turns.
        answered: Whether the last user turn was answered before the session ended.
        closed: Whether the silence after it is over.
        bounds: Number of each session among all, and of each row of `talk`.
        talk: All message rows, sorted by chat and time.
        bot_only: Sessions that were left out because no user spoke.
    """

    rows: nw.DataFrame[Any]
    start_us: Ints
    end_us: Ints
    first_user_us: Ints
    reply_us: Ints
    messages: Ints
    turns: Ints
    answered: Flags
    closed: Flags
    bounds: tuple[Ints, Ints]
    talk: nw.DataFrame[Any]
    bot_only: int

    def __len__(self) -> int:
        return len(self.start_us)


def find_sessions(rows: Rows, *, idle: float) -> Sessions:
    """Cut chats where nobody says anything for longer than `idle`.

    Args:
        rows: With the columns of `find_turns`.
        idle: In seconds.
    """
    return rows.once("sessions", idle, make=lambda rows: _find_sessions(rows, idle))


def _find_sessions(rows: Rows, idle: float) -> Sessions:
    turns = find_turns(rows, idle=idle)
    whole = np.asarray(turns.talk["type"].to_numpy() != DELTA, dtype=bool)
    talk = where(turns.talk, whole)
    at, chat = micros_of(talk), micros_of(talk, "chat")
    user = np.asarray(talk["role"].to_numpy() == "user", dtype=bool)
    begin = np.append(True, (chat[1:] != chat[:-1]) | (at[1:] - at[:-1] > idle * MICROS))[: len(at)]
    number = np.cumsum(begin) - 1
    count = int(begin.sum())
    first_user = _least(count, number[user], at[user])
    replies = ~user & (at >= first_user[number]) & _behind(number, user)
    reply = _least(count, number[replies], at[replies])
    end = -_least(count, number, -at)
    per_turn, answered = _turns_of(turns, whole, number, end)
    kept = np.flatnonzero(first_user != NEVER)
    return Sessions(
        rows=talk[np.flatnonzero(begin)[kept].tolist()],
        start_us=at[begin][kept],
        end_us=end[kept],
        first_user_us=first_user[kept],
        reply_us=reply[kept],
        messages=np.bincount(number, minlength=count)[kept].astype(np.int64),
        turns=per_turn[kept],
        answered=answered[kept],
        closed=((rows.as_of_us or 0) - end > idle * MICROS)[kept],
        bounds=(kept, number),
        talk=talk,
        bot_only=count - len(kept),
    )


def _least(count: int, number: Ints, values: Ints) -> Ints:
    least = np.full(count, NEVER, dtype=np.int64)
    np.minimum.at(least, number, values)
    return least


def _behind(number: Ints, user: Flags) -> Flags:
    """Whether a user spoke before, in the same session."""
    position = np.arange(len(number))
    last = np.maximum.accumulate(np.where(user, position, -1)) if len(number) else position
    behind: Flags = (last >= 0) & (number[np.maximum(last, 0)] == number)
    return behind


def _turns_of(turns: Turns, whole: Flags, number: Ints, end: Ints) -> tuple[Ints, Flags]:
    """Per session: how many turns, and whether the last one was answered in it."""
    place = np.cumsum(whole) - 1  # of each row of turns.talk among whole messages
    mine = number[place[turns.last]]
    counts = np.bincount(mine, minlength=len(end)).astype(np.int64)
    answered = np.zeros(len(end), dtype=bool)
    answered[mine] = turns.answered & (turns.first_us <= end[mine])  # the last one is written last
    return counts, answered
