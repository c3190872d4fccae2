"""Rules that say who answers an event: one winner, and why (protocols/langbot.md 8)."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from botbook._bus.fields import Facts
from botbook._bus.patterns import PATTERN, matches
from botbook._bus.plan import Plan
from botbook._bus.rule import Rule, Style, items_of, read_rule
from botbook._errors import ConfigError
from botbook.events import ASSISTANT, Event

__all__ = ["TARGETS", "Explanation", "Reason", "Router", "Rule", "Verdict"]

#: Who may answer. `Router` takes more of them.
TARGETS: Final = frozenset({"handler", "agent", "webhook", "pipeline", "discard"})
Verdict = Literal["won", "outranked", "filtered", "other type", "own words", "disabled"]


@dataclass(frozen=True, slots=True)
class Reason:
    """What one rule said to an event.

    Attributes:
        rule: Which.
        verdict: ``won``, ``outranked``, ``filtered``, ``other type``, ``own words`` or ``disabled``.
        text: The same for people.
    """

    rule: Rule
    verdict: Verdict
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which rule wins an event, and why.

    Attributes:
        winner: The rule, or None.
        reasons: One for each rule, in their order.
    """

    winner: Rule | None
    reasons: tuple[Reason, ...]

    def __str__(self) -> str:
        first = f"{self.winner.name} wins" if self.winner else "no rule wins"
        return "\n".join([first, *(f"  {reason}" for reason in self.reasons)])


class Router:
    """Rules, in the order in which they were written. It does not change: editing gives a new one.

    Args:
        rules: The rules.
        targets: Who may answer.
        own_ids: Ids of the bot itself, for the field ``is_at_bot``; where none is given, any mention
            counts.

    Raises:
        ConfigError: Two rules of one name, or a pattern, target or value that cannot be.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        targets: Collection[str] = TARGETS,
        own_ids: Collection[str] = (),
    ) -> None:
        self.rules = tuple(rules)
        self._targets = frozenset(targets)
        self._own_ids = frozenset(own_ids)
        names: set[str] = set()
        for rule in self.rules:
            _check(rule, names, self._targets)
            names.add(rule.name)
        self._ranked = sorted(
            (rule for rule in self.rules if rule.enabled),
            key=_Rank({id(r): i for i, r in enumerate(self.rules)}),
        )
        self._plans: dict[tuple[str, bool], tuple[Plan, Sequence[Rule]]] = {}

    @classmethod
    def from_json(
        cls, doc: Any, *, targets: Collection[str] = TARGETS, own_ids: Collection[str] = ()
    ) -> Router:
        """Read rules in either spelling.

        Args:
            doc: A list of rules, or an object such as LangBot's bot that has them under
                ``event_handlers`` or ``event_bindings``.
            targets: Who may answer.
            own_ids: Ids of the bot itself.

        Raises:
            ConfigError: It holds no rules, or one of them is wrong.
        """
        fresh = (f"rule-{number}" for number in itertools.count(1))
        items = items_of(doc)
        taken = {item.get("id", item.get("name")) for item in items}
        rules = [read_rule(item, next(name for name in fresh if name not in taken)) for item in items]
        return cls(rules, targets=targets, own_ids=own_ids)

    def to_json(self, *, style: Style = "event_bindings") -> dict[str, list[dict[str, Any]]]:
        """The rules under the name of their spelling; `from_json` reads it back.

        Args:
            style: ``event_bindings`` or ``event_handlers``.
        """
        return {style: [rule.to_json(style) for rule in self.rules]}

    def match(self, event: Event) -> Rule | None:
        """The rule that wins an event, or None.

        The highest priority wins, then the lowest order. A pattern with a star never wins what a
        bot said itself.
        """
        key = (event.type, event.role == ASSISTANT)
        planned = self._plans.get(key)
        if planned is None:
            planned = self._plans[key] = self._plan(*key)
        plan, rules = planned
        rank = plan.decide(Facts(event, self._own_ids)) if rules else None
        return None if rank is None else rules[rank]

    def _plan(self, type: str, own: bool) -> tuple[Plan, Sequence[Rule]]:
        rules = [rule for rule in self._ranked if matches(rule.pattern, type, own=own)]
        return Plan([rule.filters for rule in rules]), rules

    def explain(self, event: Event) -> Explanation:
        """Which rule wins an event, and what every other says to it. Nothing is done."""
        facts = Facts(event, self._own_ids)
        winner = self.match(event)
        return Explanation(winner, tuple(_reason(rule, event, facts, winner) for rule in self.rules))

    def with_rule(self, rule: Rule) -> Router:
        """The same with one rule more, or with another in place of the one of that name.

        Raises:
            ConfigError: The rule is wrong.
        """
        if rule.name in self:
            return self._like(rule if old.name == rule.name else old for old in self.rules)
        return self._like([*self.rules, rule])

    def without(self, name: str) -> Router:
        """The same without a rule.

        Raises:
            ConfigError: There is none of that name.
        """
        if name not in self:
            near = difflib.get_close_matches(name, [rule.name for rule in self.rules], 1)
            raise ConfigError(
                f"there is no rule {name!r}", hint=f"Did you mean {near[0]}?" if near else "See `%bot route`."
            )
        return self._like(rule for rule in self.rules if rule.name != name)

    def _like(self, rules: Iterable[Rule]) -> Router:
        return Router(rules, targets=self._targets, own_ids=self._own_ids)

    def __contains__(self, name: object) -> bool:
        return any(rule.name == name for rule in self.rules)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __repr__(self) -> str:
        return f"<Router of {len(self.rules)} rules>"


class _Rank:
    """Sorts rules into the order in which they win."""

    def __init__(self, places: Mapping[int, int]) -> None:
        self._places = places

    def __call__(self, rule: Rule) -> tuple[int, int, int]:
        place = self._places[id(rule)]
        return -rule.priority, place if rule.order is None else rule.order, place


def _reason(rule: Rule, event: Event, facts: Facts, winner: Rule | None) -> Reason:
    own = event.role == ASSISTANT
    if not rule.enabled:
        return Reason(rule, "disabled", "it is switched off")
    if not matches(rule.pattern, event.type, own=own):
        if own and matches(rule.pattern, event.type):
            return Reason(rule, "own words", "a star never takes what the bot said itself")
        return Reason(rule, "other type", f"{rule.pattern} does not match {event.type}")
    for condition in rule.filters:
        if not condition.holds(facts):
            return Reason(rule, "filtered", f"{condition}: no, it is {facts.get(condition.field)!r}")
    if rule is winner:
        return Reason(rule, "won", "it matches, and no other stands before it")
    assert winner is not None  # this one matches, so there is one
    above = "has a higher priority" if winner.priority > rule.priority else "stands before it"
    return Reason(rule, "outranked", f"it matches, but {winner.name} {above}")


def _check(rule: Rule, names: Collection[str], targets: Collection[str]) -> None:
    if rule.name in names:
        raise ConfigError(f"two rules are called {rule.name!r}", hint="Give each a name of its own.")
    if not PATTERN.fullmatch(rule.pattern):
        raise ConfigError(
            f"rule {rule.name!r}: {rule.pattern!r} is no pattern",
            hint="Write a type such as message.received, or message.*, or *.",
        )
    if rule.target not in targets:
        near = difflib.get_close_matches(rule.target, targets, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(targets))}."
        raise ConfigError(f"rule {rule.name!r}: there is no target {rule.target!r}", hint=hint)
    if rule.target == "pipeline" and rule.pattern != "message.received":
        raise ConfigError(
            f"rule {rule.name!r}: a pipeline takes message.received alone, not {rule.pattern}",
            hint="Choose another target for the other events.",
        )
    for condition in rule.filters:
        try:
            condition.test()
        except ConfigError as error:
            raise ConfigError(f"rule {rule.name!r}: {error.args[0]}", hint=error.hint) from None
