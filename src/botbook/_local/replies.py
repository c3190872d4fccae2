"""What the embedded assistants say to an ordinary question: deterministic, and plausible enough to look at.

No model is behind it. The same words get the same answer, so that a lesson or a test can name it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final

__all__ = ["LONG_WORDS", "pieces", "reply", "tokens"]

#: Words of the answer to a question that asks for a long one.
LONG_WORDS: Final = 120

_GREETINGS: Final = re.compile(
    r"\s*(hi|hello|hey|good (morning|day|evening)|你好|大家好|привет|здравствуй)", re.I
)
_THANKS: Final = re.compile(r"\b(thanks?|thank you|bye)\b|谢谢|спасибо", re.I)
_WHO: Final = re.compile(r"\b(who|what) (are|can) you\b|你是谁|кто ты", re.I)
_JOKE: Final = re.compile(r"\bjoke\b|笑话|шутк", re.I)
_SUM: Final = re.compile(r"(-?\d{1,9}(?:\.\d{1,6})?)\s*([-+*/×x])\s*(-?\d{1,9}(?:\.\d{1,6})?)")
_LONG: Final = re.compile(r"\blong\b", re.I)
_THINK: Final = re.compile(r"\bthink\b", re.I)
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_PIECE: Final = re.compile(r"\S+\s*|\s+")

_SIGNS: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "×": operator.mul,
    "x": operator.mul,
    "/": operator.truediv,
}
_COMMON: Final = re.compile(
    r"about|after|again|also|been|could|does|from|have|here|into|just|know|like|make|many|more|much|need|"
    r"please|should|some|tell|than|that|their|them|then|there|these|they|this|want|what|when|where|which|"
    r"while|will|with|would|your",
    re.IGNORECASE,
)
_THOUGHT: Final = "<think>The question is short, so the answer can be short too.</think>"
_JOKES: Final = (
    "Why do programmers mix up Halloween and Christmas? Because Oct 31 is Dec 25.",
    "A notebook walks into a bar and asks for its output. The bartender says: run me first.",
    "I told my sandbox a secret. It was gone at the end of the session.",
)
_OPENINGS: Final = (
    "Here is what matters about {topic}.",
    "A short answer about {topic}:",
    "Three things about {topic}:",
)
_POINTS: Final = (
    "Start with a small example and look at what it does before you change it.",
    "Write down what you expect, then compare it with what you see.",
    "Look at the numbers over a whole week; one day says little.",
    "Ask two or three people who use it every day.",
    "Keep the simplest version that works, and note why you kept it.",
    "Check the unusual cases first: nothing at all, one of it, far too many.",
    "Measure once before and once after, with the same data.",
    "If it has to be repeated, let the machine repeat it.",
)


def reply(question: str) -> str:
    """The answer to a question.

    Numbers are reckoned with, greetings returned; ``think`` brings a thought before the answer,
    ``long`` a long one.
    """
    said = question.strip()
    thought = (
        "<think>The question is short, so the answer can be short too.</think>" if _THINK.search(said) else ""
    )
    return thought + _answer(said)


def _answer(said: str) -> str:
    if not said:
        return "You have not said anything yet. What would you like to know?"
    if _LONG.search(said):
        return " ".join(f"word{number}" for number in range(LONG_WORDS))
    if result := _reckon(said):
        return result
    for pattern, answer in (
        (_THANKS, "You are welcome. Come back any time."),
        (
            _WHO,
            "I am the assistant of the embedded world: I answer, reckon a little and tell jokes.",
        ),
        (_JOKE, _pick(_JOKES, said)),
        (_GREETINGS, "Hello! How can I help you today?"),
    ):
        if pattern.search(said):
            return answer
    return _about(said)


def _reckon(said: str) -> str:
    """A sum, if there is one."""
    found = _SUM.search(said)
    if found is None:
        return ""
    left, sign, right = float(found[1]), found[2], float(found[3])
    if sign == "/" and right == 0:
        return "Nothing can be divided by zero."
    return f"{found[1]} {sign} {found[3]} = **{_SIGNS[sign](left, right):.10g}**"


def _about(said: str) -> str:
    """Some advice about the words of a question; which, their digest decides."""
    words = [word.lower() for word in _WORD.findall(said) if not _COMMON.fullmatch(word)]
    topic = " and ".join(f"**{word}**" for word in dict.fromkeys(words[:2])) or "that"
    start = _digest(said)
    points = [_POINTS[(start + step * 3) % len(_POINTS)] for step in range(3)]
    lines = [_pick(_OPENINGS, said).format(topic=topic), "", *(f"- {point}" for point in points)]
    return "\n".join(lines)


def _pick(choices: tuple[str, ...], said: str) -> str:
    return choices[_digest(said) % len(choices)]


def _digest(said: str) -> int:
    return int.from_bytes(sha256(said.casefold().encode("utf-8", "replace")).digest()[:4], "big")


def pieces(text: str) -> Iterator[str]:
    """A text as a model would stream it: word by word, blanks with the word before."""
    return iter(_PIECE.findall(text))


def tokens(text: str) -> int:
    """How many tokens a text counts as: its words, one at least."""
    return max(1, len(text.split()))
