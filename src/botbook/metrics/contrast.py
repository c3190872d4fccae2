"""Versions against each other, and words against ratings."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np

from botbook._errors import ConfigError
from botbook.events import DISLIKE, LIKE
from botbook.metrics._columns import Columns
from botbook.metrics._contrast import Contrast, Sample, contrast_of_percentile, contrast_of_shares, holm
from botbook.metrics._frame import Rows, read
from botbook.metrics._kinds import codes
from botbook.metrics._ratings import WANTS, fold
from botbook.metrics._statistics import NAN
from botbook.metrics._time import MICROS, positive
from botbook.metrics._turns import IDLE_S, PAIRING, SHARPER, Turns, find_turns

__all__ = ["compare", "terms"]

MIN_N: Final = 30
#: An arm with too little data.
HIDDEN: Final = Contrast(value=NAN, base_value=NAN, difference=NAN, low=NAN, high=NAN, p=NAN)
DRAWS: Final = 1_000
MEASURES: Final = ("like_rate", "response_latency")
#: Users who must have said a term before it is shown (bots.md 3c).
MIN_USERS: Final = 3
#: Weight of the prior of the log-odds, in messages.
PRIOR: Final = 10.0
#: Chinese and Japanese are written without spaces; Korean has them.
_HAN: Final = "㐀-䶿一-鿿豈-\ufaff぀-ヿ々"
_WORD: Final = f"(?:(?![{_HAN}])[^\\W_])+"
_WORDS: Final = re.compile(f"[{_HAN}]+|{_WORD}(?:['’-]{_WORD})*")
_CJK: Final = re.compile(f"[{_HAN}]")


def compare(
    frame: Any,
    *,
    by: str = "bot",
    measure: Literal["like_rate", "response_latency"] = "like_rate",
    base: str | None = None,
    tz: str = "UTC",
    as_of: datetime | None = None,
    min_n: int = MIN_N,
    idle: float = IDLE_S,
    draws: int = DRAWS,
    seed: int = 0,
    randomized: bool = False,
) -> Any:
    """Arms against a base: difference of like rates, or of p50 and p95 of the first response.

    Like rates get Newcombe's interval; percentiles one from a bootstrap over users, since the turns of
    one user are not independent. P values are corrected by Holm over the arms. Unless users were assigned
    by chance it is an observed difference, not an effect, and the figure says so (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        by: The column that tells arms apart: ``bot``, or ``model`` or ``pipeline`` where you have one.
        measure: ``like_rate`` or ``response_latency``.
        base: The arm to compare with; default the one with most data.
        tz: Zone, for the facts.
        as_of: Leave out what happened later; default the time of the last row.
        min_n: With fewer ratings or turns in an arm there is no difference; 0 shows every one.
        idle: Longest silence within a turn, in seconds.
        draws: Of the bootstrap.
        seed: Of its chance; the same seed gives the same interval.
        randomized: Whether users were assigned to arms by chance.

    Returns:
        One row per arm but the base, and percentile: arm, base, measure (``like_rate``, ``p50_s``,
        ``p95_s``), n, base_n, users, base_users, value, base_value, difference, low, high (95 %), p,
        p_holm.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if measure not in MEASURES:
        raise ConfigError(f"there is no measure {measure!r}", hint=f"One of {', '.join(MEASURES)}.")
    wants = (*WANTS, *SHARPER, "chat_type")
    needs = ["feedback_type"] if measure == "like_rate" else list(PAIRING)
    rows = read(frame, metric="compare", needs=needs, wants=wants, tz=tz, by=by, as_of=as_of)
    arms = _rated(rows) if measure == "like_rate" else _timed(rows, positive("idle", idle))
    named = _base(arms, base)
    rng = np.random.default_rng(seed)
    found: list[tuple[str, str, Contrast]] = []
    for arm in sorted(set(arms) - {named}):
        pair = (arms[arm], arms[named])
        enough = all(len(sample.values) >= min_n for sample in pair)
        for name, made in _contrasts(measure, *pair, draws=draws if enough else 0, rng=rng):
            found.append((arm, name, made if enough else HIDDEN))
    columns = _table(found, arms, named)
    notes = ["users assigned by chance" if randomized else "observed difference, not an effect"]
    return rows.give(columns, used=sum(len(sample.values) for sample in arms.values()), notes=notes)


def _rated(rows: Rows) -> dict[str, Sample]:
    """Per arm 1 for a like and 0 for a dislike, with the user."""
    ratings = [rating for rating in fold(rows) if rating.state in (LIKE, DISLIKE)]
    users = {key: k for k, key in enumerate(sorted({(r.gateway, r.user_id) for r in ratings}))}
    arms: dict[str, list[tuple[float, int]]] = {}
    for rating in ratings:
        like = float(rating.state == LIKE)
        arms.setdefault(rating.group[0], []).append((like, users[rating.gateway, rating.user_id]))
    return {arm: _sample(pairs) for arm, pairs in arms.items()}


def _timed(rows: Rows, idle: float) -> dict[str, Sample]:
    """Per arm the seconds to the first output of every answered turn, with the user."""
    turns = find_turns(rows, idle=idle)
    users = codes(turns.rows, "gateway", "user_id").to_list()
    arms: dict[str, list[tuple[float, int]]] = {}
    columns = zip(
        turns.column(rows.by[0]), turns.answered, turns.first_us, turns.asked_us, users, strict=True
    )
    for arm, answered, first, asked, user in columns:
        if answered and first >= asked:
            arms.setdefault(arm, []).append((float(first - asked) / MICROS, user))
    return {arm: _sample(pairs) for arm, pairs in arms.items()}


def _sample(pairs: list[tuple[float, int]]) -> Sample:
    values, users = zip(*pairs, strict=True)
    return Sample(values=np.array(values), users=np.array(users, dtype=np.int64))


def _base(arms: dict[str, Sample], base: str | None) -> str:
    """The arm that was named, or the largest; "" without arms."""
    if base is not None and base not in arms:
        raise ConfigError(
            f"there is no arm {base!r}", hint=f"There are: {', '.join(sorted(arms)) or 'none'}."
        )
    return base if base is not None else max(sorted(arms), key=lambda arm: len(arms[arm].values), default="")


def _contrasts(
    measure: str, arm: Sample, base: Sample, *, draws: int, rng: np.random.Generator
) -> Iterator[tuple[str, Contrast]]:
    if measure == "like_rate":
        one, two = ((int(sample.values.sum()), len(sample.values)) for sample in (arm, base))
        yield measure, contrast_of_shares(one, two)
        return
    for percent in (50.0, 95.0):
        yield f"p{percent:.0f}_s", contrast_of_percentile(arm, base, percent, draws=draws, rng=rng)


def _table(found: list[tuple[str, str, Contrast]], arms: dict[str, Sample], base: str) -> Columns:
    made = Columns().text("arm", [arm for arm, _, _ in found]).text("base", [base for _ in found])
    made.text("measure", [name for _, name, _ in found])
    made.count("n", [len(arms[arm].values) for arm, _, _ in found])
    made.count("base_n", [len(arms[base].values) for _ in found])
    made.count("users", [len(np.unique(arms[arm].users)) for arm, _, _ in found])
    made.count("base_users", [len(np.unique(arms[base].users)) for _ in found])
    for name in ("value", "base_value", "difference", "low", "high", "p"):
        made.number(name, [getattr(contrast, name) for _, _, contrast in found])
    corrected = [NAN] * len(found)
    for measure in {name for _, name, _ in found}:
        mine = [k for k, (_, name, _) in enumerate(found) if name == measure]
        for k, value in zip(mine, holm([found[k][2].p for k in mine]), strict=True):
            corrected[k] = value
    return made.number("p_holm", corrected)


def terms(
    frame: Any,
    *,
    tz: str = "UTC",
    as_of: datetime | None = None,
    min_n: int = MIN_USERS,
    idle: float = IDLE_S,
    words: Callable[[str], Iterable[str]] | None = None,
) -> Any:
    """What users talk about, and which words go with likes and with dislikes.

    A term counts the distinct users who said it; bots do not count. Chinese and Japanese are cut into
    pairs of characters unless you give a word cutter. Log-odds compare the messages whose answer was
    liked with those whose answer was disliked, with a prior that keeps rare words near 0 (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone, for the facts.
        as_of: Leave out what happened later; default the time of the last row.
        min_n: Fewer users than this keep a term unseen.
        idle: Longest silence within a turn, in seconds.
        words: A word cutter: text → terms.

    Returns:
        One row per term, most users first: term, users, messages, liked, disliked (messages with such
        an answer), log_odds (above 0: more among liked ones; NaN without ratings), z (log_odds by its
        standard error).

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if isinstance(min_n, bool) or not isinstance(min_n, int) or min_n < 1:
        raise ConfigError(f"min_n={min_n!r} is no number of users", hint="For example 3.")
    needs = [*PAIRING, "text", "user_id"]
    wants = (*WANTS, *SHARPER, "feedback_type")
    rows = read(frame, metric="terms", needs=needs, wants=wants, tz=tz, as_of=as_of)
    turns = find_turns(rows, idle=positive("idle", idle))
    states = _states_of_questions(rows, turns)
    said, users = Counter[str](), dict[str, set[tuple[str, str]]]()
    rated: dict[int, Counter[str]] = {LIKE: Counter(), DISLIKE: Counter()}
    texts = 0
    names = ("role", "text", "gateway", "user_id")
    for position, (role, text, gateway, user) in enumerate(turns.talk.select(*names).iter_rows()):
        if role != "user" or not user:
            continue
        texts += 1
        found = set(words(text)) if words else set(cut(text))
        said.update(found)
        for term in found:
            users.setdefault(term, set()).add((gateway, user))
        for state in states.get(position, ()):
            rated[state].update(found)
    kept = [term for term in said if len(users[term]) >= min_n]
    kept.sort(key=lambda term: (-len(users[term]), -said[term], term))
    totals = (said.total(), rated[LIKE].total(), rated[DISLIKE].total())
    odds = [_log_odds((said[term], rated[LIKE][term], rated[DISLIKE][term]), totals) for term in kept]
    made = Columns().text("term", kept).count("users", [len(users[term]) for term in kept])
    made.count("messages", [said[term] for term in kept])
    made.count("liked", [rated[LIKE][term] for term in kept])
    made.count("disliked", [rated[DISLIKE][term] for term in kept])
    made.number("log_odds", [value for value, _ in odds]).number("z", [z for _, z in odds])
    numbers = {"unseen": len(said) - len(kept)}
    return rows.give(made, used=texts, notes=[f"terms of {min_n} users or more"], numbers=numbers)


def cut(text: str) -> Iterator[str]:
    """Words in lower case; Chinese and Japanese as pairs of characters. Numbers are left out."""
    for match in _WORDS.finditer(text.casefold()):
        word = match.group()
        if not _CJK.match(word):
            if len(word) > 1 and not word.isdecimal():
                yield word
        elif len(word) == 1:
            yield word
        else:
            yield from (a + b for a, b in pairwise(word))


def _states_of_questions(rows: Rows, turns: Turns) -> dict[int, set[int]]:
    """Position of a user message → what its answer was rated."""
    ratings = {
        (rating.gateway, rating.bot, rating.message_id): rating.state
        for rating in fold(rows)
        if rating.message_id and rating.state in (LIKE, DISLIKE)
    }
    if not ratings:
        return {}
    found: dict[int, set[int]] = {}
    answers = turns.talk.select("gateway", "bot", "message_id").iter_rows()
    for anchor, answer in zip(turns.anchor.tolist(), answers, strict=True):
        if anchor >= 0 and answer in ratings:
            found.setdefault(anchor, set()).add(ratings[answer])
    return found


def _log_odds(counts: tuple[int, int, int], totals: tuple[int, int, int]) -> tuple[float, float]:
    """Weighted log-odds with an informative prior (Monroe, Colaresi, Quinn, 2008), and its z.

    Args:
        counts: Messages with the term: all, liked, disliked.
        totals: The same of all terms together.
    """
    if not all(totals):
        return NAN, NAN
    if counts[0] == totals[0]:  # the only word there is leans nowhere
        return 0.0, 0.0
    prior = PRIOR * counts[0] / totals[0]
    liked, disliked = (
        math.log((count + prior) / (total + PRIOR - count - prior))
        for count, total in zip(counts[1:], totals[1:], strict=True)
    )
    spread = math.sqrt(1 / (counts[1] + prior) + 1 / (counts[2] + prior))
    return liked - disliked, (liked - disliked) / spread
