"""One rule, in both of LangBot's spellings.

``event_handlers`` is that of the design documents, ``event_bindings`` that of 4.11
(protocols/langbot.md 8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from botbook._bus.filters import Filter
from botbook._errors import ConfigError
from botbook.messages._json import overlaid

__all__ = ["STYLES", "Rule", "Style", "items_of", "read_rule"]

Style = Literal["event_handlers", "event_bindings"]
STYLES: Final[tuple[Style, ...]] = ("event_handlers", "event_bindings")

#: LangBot's name of our `handler`.
_PLUGIN: Final = "plugin"
#: Where a target's id stands in its configuration; 4.11 has one key for all of them.
_IDS: Final = {"pipeline": "pipeline_uuid", "agent": "agent_uuid"}
_ID: Final = "target_uuid"
_HANDLERS_KEYS: Final = ("event_type", "handler_type", "handler_config")
_BINDINGS_KEYS: Final = ("event_pattern", "target_type", "target_uuid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        name: Unique in a router; LangBot's ``id`` of a binding.
        pattern: ``*``, ``namespace.*`` or an exact type.
        target: ``handler``, ``agent``, ``webhook``, ``pipeline``, ``discard``, or another that the
            router was told of.
        config: What the target needs, such as ``url`` or ``pipeline_uuid``.
        filters: Conditions that must all hold.
        priority: The highest wins.
        order: Among equals the lowest wins; default their place.
        enabled: Whether it counts.
        description: For people.
        given: The JSON it was read from, or None; not compared.
    """

    name: str
    pattern: str
    target: str
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    filters: tuple[Filter, ...] = ()
    priority: int = 0
    order: int | None = None
    enabled: bool = True
    description: str = ""
    given: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def to_json(self, style: Style) -> dict[str, Any]:
        """The rule in one of the spellings; keys that are not known are kept in both."""
        write = _SPELLINGS[style][1]
        if self.given is None:
            return write(self)
        if _style(self.given) == style:
            return overlaid(self.given, write(read_rule(self.given, self.name)), write(self))
        known = {*_HANDLERS_KEYS, *_BINDINGS_KEYS}
        return {key: value for key, value in self.given.items() if key not in known} | write(self)

    def __str__(self) -> str:
        return f"{self.name}: {self.pattern} → {self.target}"


def items_of(doc: Any) -> list[Mapping[str, Any]]:
    """The rules of a document: a list, or an object that has them under the name of their spelling.

    Raises:
        ConfigError: It holds none.
    """
    if isinstance(doc, Mapping):
        found = [style for style in STYLES if doc.get(style) is not None]
        if len(found) != 1:
            what = "no rules" if not found else "rules in two spellings"
            raise ConfigError(f"{what} in this document", hint=f"Have one of {' and '.join(STYLES)}.")
        doc = doc[found[0]]
    if isinstance(doc, str):
        try:
            doc = json.loads(doc)
        except (ValueError, RecursionError):
            raise ConfigError("these rules are no JSON") from None
    if not isinstance(doc, list | tuple) or not all(isinstance(item, Mapping) for item in doc):
        raise ConfigError("rules are a list of objects")
    return list(doc)


def _style(item: Mapping[str, Any]) -> Style:
    return "event_handlers" if "event_type" in item or "handler_type" in item else "event_bindings"


def read_rule(item: Mapping[str, Any], default_name: str) -> Rule:
    """Read one rule.

    Args:
        item: Its JSON, in either spelling.
        default_name: Its name, if it has none.

    Raises:
        ConfigError: It is no rule.
    """
    name = str(item.get("id") or item.get("name") or default_name)
    try:
        return _SPELLINGS[_style(item)][0](item, name)
    except ConfigError as error:
        raise ConfigError(f"rule {name!r}: {error.args[0]}", hint=error.hint) from None


def _common(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    filters = item.get("filters") or []
    if not isinstance(filters, list):
        raise ConfigError("filters that are no list")
    return {
        "name": name,
        "filters": tuple(Filter.from_json(one) for one in filters),
        "priority": _whole(item, "priority") or 0,
        "order": _whole(item, "order"),
        "enabled": item.get("enabled", True) is not False,
        "description": str(item.get("description") or ""),
        "given": dict(item),
    }


def _whole(item: Mapping[str, Any], key: str) -> int | None:
    value = item.get(key)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ConfigError(f"{key} is {value!r} and no whole number")
    return value


def _target(item: Mapping[str, Any], key: str) -> str:
    name = item.get(key)
    if not isinstance(name, str):
        raise ConfigError(
            f"{key} is missing", hint="Say who answers: handler, agent, webhook, pipeline or discard."
        )
    return "handler" if name == _PLUGIN else name


def _object(item: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = item.get(key) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key} is no object")
    return dict(value)


def _read_handler(item: Mapping[str, Any], name: str) -> Rule:
    target, config = _target(item, "handler_type"), _object(item, "handler_config")
    pattern = str(item.get("event_type") or "")
    return Rule(pattern=pattern, target=target, config=config, **_common(item, name))


def _read_binding(item: Mapping[str, Any], name: str) -> Rule:
    target = _target(item, "target_type")
    ident = str(item.get("target_uuid") or "")
    config = _object(item, "target_config") | ({_IDS.get(target, _ID): ident} if ident else {})
    pattern = str(item.get("event_pattern") or "")
    return Rule(pattern=pattern, target=target, config=config, **_common(item, name))


def _write_handler(rule: Rule) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": rule.name,
        "event_type": rule.pattern,
        "handler_type": _PLUGIN if rule.target == "handler" else rule.target,
        "handler_config": dict(rule.config),
        "enabled": rule.enabled,
        "priority": rule.priority,
        "description": rule.description,
    }
    if rule.filters:
        written["filters"] = [one.to_json() for one in rule.filters]
    return written | ({} if rule.order is None else {"order": rule.order})


def _write_binding(rule: Rule) -> dict[str, Any]:
    key = _IDS.get(rule.target, _ID)
    more = {name: value for name, value in rule.config.items() if name != key}
    written: dict[str, Any] = {
        "id": rule.name,
        "event_pattern": rule.pattern,
        "target_type": _PLUGIN if rule.target == "handler" else rule.target,
        "target_uuid": str(rule.config.get(key, "")),
        "filters": [one.to_json() for one in rule.filters],
        "priority": rule.priority,
        "enabled": rule.enabled,
        "description": rule.description,
    }
    written |= {} if rule.order is None else {"order": rule.order}
    return written | ({"target_config": more} if more else {})


_SPELLINGS: Final[
    dict[str, tuple[Callable[[Mapping[str, Any], str], Rule], Callable[[Rule], dict[str, Any]]]]
] = {
    "event_handlers": (_read_handler, _write_handler),
    "event_bindings": (_read_binding, _write_binding),
}
