"""Who answered what: messages paired into turns, and turns into sessions (bots.md 3b, 3c).

A turn is a run of messages by one user in one chat, up to the message that the bot answers. A bot
message answers the message it names in ``reply_to``; one that names none answers the last user
message before it. A run also ends where the user was silent for longer than `idle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import narwhals as nw
import numpy as np

from botbook.metrics._frame import MESSAGES, Rows, without_echoes
from botbook.metrics._kinds import codes, micros_of
from botbook.metrics._time import MICROS, NEVER, Ints

__all__ = ["IDLE_S", "PAIRING", "Turns", "find_turns", "grouped", "talk_of"]

#: A session ends after this silence, in seconds (bots.md 3b).
IDLE_S: Final = 1800.0
#: Columns that pairing needs, and those that make it sharper.
PAIRING: Final = ("role", "chat_id")
SHARPER: Final = ("user_id", "reply_to", "message_id")
DELTA: Final = "message.delta"
Flags = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """User turns, in the order of chats and time.

    Attributes:
        rows: The message that ends each turn, a row a turn, with all its columns.
        start_us: First message of the turn, in microseconds since 1970.
        asked_us: Last message of the turn.
        first_us: First output of the answer; meaningless where not `answered`.
        complete_us: Last output of the same answer.
        answered: Whether the bot answered at all.
        answer: Position of the first output in `talk`; -1 without one.
        anchor: For each row of `talk` the position of the question it answers, or -1.
        last: Position of the last message of the turn in `talk`.
        talk: The message rows, sorted by chat and time.
    """

    rows: nw.DataFrame[Any]
    start_us: Ints
    asked_us: Ints
    first_us: Ints
    complete_us: Ints
    answered: Flags
    answer: Ints
    anchor: Ints
    last: Ints
    talk: nw.DataFrame[Any]

    def of_question(self, position: Ints) -> Ints:
        """Number of the turn that holds a user message, given by its position in `talk`."""
        return np.searchsorted(self.last, position).astype(np.int64)

    def column(self, name: str) -> list[str]:
        """A column of the question, or where that is empty, of its answer."""
        asked = self.rows[name].to_list()
        answers = self.talk[name].to_list()
        return [own or (answers[k] if k >= 0 else "") for own, k in zip(asked, self.answer, strict=True)]


def talk_of(rows: Rows) -> nw.DataFrame[Any]:
    """User and bot messages with their pieces, sorted by chat and time, with ``chat`` a number.

    Where the gateway gives a chat no id, the other side's id stands for it.
    """
    spoken = nw.col("role").is_in(["user", "assistant"])
    whole = without_echoes(rows.only(nw.col("type").is_in(MESSAGES), spoken))
    pieces = rows.only(nw.col("type") == DELTA, nw.col("role") == "assistant")
    table = nw.concat([whole, pieces]) if len(pieces) else whole
    alone = nw.when(nw.col("chat_id") == "").then("user_id").otherwise(nw.lit(""))
    table = table.with_columns(alone=alone)
    table = table.with_columns(chat=codes(table, "gateway", "bot", "chat_id", "alone"))
    return table.sort("chat", "at_us", "order")


def find_turns(rows: Rows, *, idle: float = IDLE_S) -> Turns:
    """Pair messages and answers.

    Args:
        rows: With the columns `PAIRING` and `SHARPER`.
        idle: Longest silence within a turn, in seconds.
    """
    return rows.once("turns", idle, make=lambda rows: _find_turns(rows, idle))


def _find_turns(rows: Rows, idle: float) -> Turns:
    talk = talk_of(rows)
    at, chat = micros_of(talk), micros_of(talk, "chat")
    user = np.asarray(talk["role"].to_numpy() == "user", dtype=bool)
    anchor = _anchors(talk, chat, user)
    first, answer, complete = _answers(talk, at, anchor)
    last, begin = _runs(talk, at, chat, user, first, idle)
    return Turns(
        rows=talk[last.tolist()],
        start_us=at[begin],
        asked_us=at[last],
        first_us=first[last],
        complete_us=complete[last],
        answered=first[last] != NEVER,
        answer=answer[last],
        anchor=anchor,
        last=last,
        talk=talk,
    )


def grouped(
    rows: Rows, columns: Sequence[Sequence[str]], length: int
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The groups there are, sorted, and the group of each of `length` things.

    Args:
        rows: What says by what to group.
        columns: The values of each thing, a list for each name in ``rows.by``.
        length: How many things.
    """
    keys: list[tuple[str, ...]] = list(zip(*columns, strict=True)) if columns else [()] * length
    return (sorted(set(keys)) if rows.by else [()]), keys


def _anchors(talk: nw.DataFrame[Any], chat: Ints, user: Flags) -> Ints:
    """For each bot row the position of the user row it answers, else -1; -1 for user rows."""
    position = np.arange(len(chat), dtype=np.int64)
    before = np.maximum.accumulate(np.where(user, position, -1)) if len(chat) else position
    known = (before >= 0) & (chat[np.maximum(before, 0)] == chat)
    anchor = np.where(~user & known, before, -1)
    table = talk.select("chat", "role", "reply_to", "event_id", "message_id")
    table = table.with_columns(nw.new_series("position", position, nw.Int64, backend="pyarrow"))
    answers = table.filter(nw.col("role") == "assistant", nw.col("reply_to") != "")
    for name in ("event_id", "message_id"):  # a message id is the better word, so it comes last
        asked = table.filter(nw.col("role") == "user", nw.col(name) != "")
        asked = asked.group_by("chat", name).agg(nw.col("position").max().alias("asked"))
        found = answers.join(asked, left_on=["chat", "reply_to"], right_on=["chat", name], how="inner")
        anchor[micros_of(found, "position")] = micros_of(found, "asked")
    return anchor


def _answers(talk: nw.DataFrame[Any], at: Ints, anchor: Ints) -> tuple[Ints, Ints, Ints]:
    """Per row: time of the first output that answers it, its position, time of the last of the same.

    Outputs belong to one answer when they share its message id or name the question.
    """
    first, complete = np.full(len(at), NEVER, dtype=np.int64), np.full(len(at), -NEVER, dtype=np.int64)
    answer = np.full(len(at), -1, dtype=np.int64)
    outputs = np.flatnonzero(anchor >= 0)
    outputs = outputs[np.argsort(at[outputs], kind="stable")]
    asked = anchor[outputs]
    np.minimum.at(first, asked, at[outputs])
    answer[asked[::-1]] = outputs[::-1]  # the earliest is written last
    ids = codes(talk, "message_id").to_numpy()
    named = np.asarray(talk["message_id"].to_numpy() != "", dtype=bool)[outputs]
    explicit = np.asarray(talk["reply_to"].to_numpy() != "", dtype=bool)[outputs]
    opening = answer[asked]
    same = (outputs == opening) | explicit | (named & (ids[outputs] == ids[opening]))
    np.maximum.at(complete, asked[same], at[outputs[same]])
    return first, answer, complete


def _runs(
    talk: nw.DataFrame[Any], at: Ints, chat: Ints, user: Flags, first: Ints, idle: float
) -> tuple[Ints, Ints]:
    """Positions of the last and of the first message of every turn."""
    mine = np.flatnonzero(user)
    if not len(mine):
        return mine, mine
    who = codes(talk, "user_id").to_numpy()[mine]
    breaks = (chat[mine][1:] != chat[mine][:-1]) | (who[1:] != who[:-1])
    breaks |= (at[mine][1:] - at[mine][:-1]) > idle * MICROS
    breaks |= first[mine][:-1] != NEVER
    return mine[np.append(breaks, True)], mine[np.insert(breaks, 0, True)]
