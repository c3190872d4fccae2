"""The conditions of a rule: one field, one operator, one value (protocols/langbot.md 8)."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from botbook._bus.fields import Facts, check
from botbook._errors import ConfigError

__all__ = ["OPERATORS", "Filter", "Test"]

Test = Callable[[Any], bool]

#: Operators, and what each says of the event's value.
OPERATORS: Final[dict[str, str]] = {
    "eq": "is",
    "neq": "is not",
    "contains": "contains",
    "not_contains": "does not contain",
    "starts_with": "starts with",
    "regex": "matches",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One condition.

    Attributes:
        field: A column of the event, a key of its JSON such as ``group.id``, or ``message_text``,
            ``message_element_types``, ``is_at_bot``, ``chat_type`` (``person`` or ``group``).
        operator: One of `OPERATORS`.
        value: What it is held against. Lists contain it as an element, anything else as text.
        given: The JSON it was read from, or None; not compared.

    Raises:
        ConfigError: An unknown field or operator, or a value that can never match.
    """

    field: str
    operator: str = "eq"
    value: Any = dataclasses.field(default=None, hash=False)
    given: Mapping[str, Any] | None = dataclasses.field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check(self.field)
        if self.operator not in OPERATORS:
            near = difflib.get_close_matches(self.operator, OPERATORS, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(OPERATORS)}."
            raise ConfigError(f"there is no operator {self.operator!r}", hint=hint)
        if self.field == "chat_type" and self.value == "private" and self.operator in ("eq", "neq"):
            raise ConfigError("chat_type is never 'private' in a rule", hint="Write person, or group.")

    @classmethod
    def from_json(cls, item: Any) -> Filter:
        """Read one.

        Raises:
            ConfigError: It is no filter.
        """
        if not isinstance(item, Mapping) or not isinstance(
            name := item.get("field") or item.get("path"), str
        ):
            raise ConfigError(
                "a filter that names no field", hint='Write {"field": …, "operator": …, "value": …}.'
            )
        return cls(
            field=name.strip(),
            operator=str(item.get("operator") or "eq"),
            value=item.get("value"),
            given=dict(item),
        )

    def to_json(self) -> dict[str, Any]:
        """The filter as it was read, or as LangBot writes it."""
        if self.given is not None and Filter.from_json(self.given) == self:
            return dict(self.given)
        return {"field": self.field, "operator": self.operator, "value": self.value}

    def test(self) -> Test:
        """The condition as a function of the field's value.

        Raises:
            ConfigError: The value is no regular expression.
        """
        return _TESTS[self.operator](self.wanted())

    def wanted(self) -> Any:
        """The value that is held against the event's."""
        if self.field == "is_at_bot" and isinstance(self.value, str):
            return self.value.strip().lower() == "true"
        return self.value

    def holds(self, facts: Facts) -> bool:
        """Whether it holds for an event. For rows of events `test` is faster."""
        return self.test()(facts.get(self.field))

    def __str__(self) -> str:
        return f"{self.field} {OPERATORS[self.operator]} {self.value!r}"


def _eq(wanted: Any) -> Test:
    return lambda actual: bool(actual == wanted)


def _neq(wanted: Any) -> Test:
    return lambda actual: bool(actual != wanted)


def _contains(wanted: Any) -> Test:
    text = str(wanted)

    def test(actual: Any) -> bool:
        if isinstance(actual, list | tuple):
            return wanted in actual
        return text in str(actual or "")

    return test


def _not_contains(wanted: Any) -> Test:
    contains = _contains(wanted)
    return lambda actual: not contains(actual)


def _starts_with(wanted: Any) -> Test:
    text = str(wanted)
    return lambda actual: str(actual or "").startswith(text)


def _regex(wanted: Any) -> Test:
    try:
        search = re.compile(str(wanted)).search
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"{wanted!r} is no regular expression: {error}", hint="Python's syntax; try it with re.search."
        ) from None
    return lambda actual: search(str(actual or "")) is not None


_TESTS: Final[dict[str, Callable[[Any], Test]]] = {
    "eq": _eq,
    "neq": _neq,
    "contains": _contains,
    "not_contains": _not_contains,
    "starts_with": _starts_with,
    "regex": _regex,
}
