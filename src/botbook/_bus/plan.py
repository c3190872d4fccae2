"""The rules for one type of event, laid out so that a hundred cost little more than one.

Rules stand in the order in which they win. A rule is looked up by its first ``eq`` filter where it
has one, and rules that ask whether the same field contains or starts with something are asked in one
go. Regular expressions over the same field are first tried as one: where that finds nothing, none of
them would. The rest is asked one by one, until one holds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from botbook._bus.fields import Facts
from botbook._bus.filters import Filter, Test

__all__ = ["Plan"]

#: Regular expressions that mean something else beside others: groups by name or number, and flags.
_APART: Final = re.compile(r"\(\?|\\[0-9]")
#: The ranks of the rules whose key filter holds for a value; for regular expressions, may hold.
Find = Callable[[Any], Sequence[int]]


class Plan:
    """Decides for events of one type.

    Args:
        rules: The filters of each rule, in the order in which they win.
    """

    __slots__ = ("_always", "_finds", "_rest", "_slow")

    def __init__(self, rules: Sequence[Sequence[Filter]]) -> None:
        self._always: int | None = next((rank for rank, filters in enumerate(rules) if not filters), None)
        self._rest: list[list[tuple[str, Test]]] = []
        self._slow: list[int] = []
        keyed: dict[tuple[str, str], list[tuple[Any, int]]] = {}
        shared = Counter(str(one) for filters in rules for one in filters)
        for rank, filters in enumerate(rules[: self._always]):
            key = _key(filters, shared)
            if key is None:
                self._slow.append(rank)
            else:
                keyed.setdefault((key.field, key.operator), []).append((key.wanted(), rank))
            sure = key is not None and key.operator != "regex"
            self._rest.append([(f.field, f.test()) for f in filters if not sure or f is not key])
        self._finds = [(name, _FINDS[operator](pairs)) for (name, operator), pairs in keyed.items()]

    def decide(self, facts: Facts) -> int | None:
        """The rank of the rule that wins, or None."""
        ranks = self._slow
        for name, find in self._finds:
            if found := find(facts.get(name)):
                ranks = [*ranks, *found]
        for rank in sorted(ranks) if ranks is not self._slow else ranks:
            for name, test in self._rest[rank]:
                if not test(facts.get(name)):
                    break
            else:
                return rank
        return self._always


def _key(filters: Sequence[Filter], shared: Counter[str]) -> Filter | None:
    """The filter that a rule is looked up by: the one it shares with the fewest others."""
    fit = [one for one in filters if one.operator in _FINDS and _is_fit(one.operator, one.value)]
    return min(fit, key=lambda one: (shared[str(one)], _ORDER.index(one.operator)), default=None)


def _is_fit(operator: str, value: Any) -> bool:
    if operator == "regex":
        return _APART.search(str(value)) is None
    return operator != "eq" or _is_hashable(value)


def _is_hashable(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | None)


def _equal(pairs: list[tuple[Any, int]]) -> Find:
    table: dict[Any, list[int]] = {}
    for wanted, rank in pairs:
        table.setdefault(wanted, []).append(rank)
    return lambda actual: table.get(actual, ()) if _is_hashable(actual) else ()


def _containing(pairs: list[tuple[Any, int]]) -> Find:
    texts = [(str(wanted), rank) for wanted, rank in pairs]

    def find(actual: Any) -> Sequence[int]:
        if isinstance(actual, list | tuple):
            return [rank for wanted, rank in pairs if wanted in actual]
        text = str(actual or "")
        return [rank for wanted, rank in texts if wanted in text]

    return find


def _starting(pairs: list[tuple[Any, int]]) -> Find:
    table: dict[str, list[int]] = {}
    for wanted, rank in pairs:
        table.setdefault(str(wanted), []).append(rank)
    lengths = sorted({len(wanted) for wanted in table})

    def find(actual: Any) -> Sequence[int]:
        text = str(actual or "")
        fronts = [text[:length] for length in lengths if length <= len(text)]
        return [rank for front in fronts for rank in table.get(front, ())]

    return find


def _possible(pairs: list[tuple[Any, int]]) -> Find:
    search = re.compile("|".join(f"(?:{wanted})" for wanted, _ in pairs)).search
    ranks = [rank for _, rank in pairs]
    return lambda actual: ranks if search(str(actual or "")) else ()


_FINDS: Final[dict[str, Callable[[list[tuple[Any, int]]], Find]]] = {
    "eq": _equal,
    "starts_with": _starting,
    "contains": _containing,
    "regex": _possible,
}

_ORDER: Final = tuple(_FINDS)
