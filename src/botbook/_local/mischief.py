"""How an embedded peer misbehaves: a table of kinds, checked options, and what is armed at the moment."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botbook._errors import LocalProtocolError

__all__ = ["EVER", "Fault", "FaultKind", "Mischief", "nearest"]

#: As `times`: until it is cleared.
EVER: Final = -1


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One way to misbehave.

    Attributes:
        about: What it does.
        options: Its details and their defaults; a default's type is the option's type.
        now: It strikes the open sockets at once, unless its option `when` says otherwise; any other
            is armed and waits.
    """

    about: str
    options: dict[str, Any] = field(default_factory=dict)
    now: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault with all its options filled in."""

    kind: str
    options: dict[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]


class Mischief:
    """What a peer may be told to do wrong. A newer fault of a kind takes the place of the older one.

    Args:
        kinds: Its faults, by name.
    """

    def __init__(self, kinds: Mapping[str, FaultKind]) -> None:
        self._kinds = kinds
        self._armed: dict[str, Fault] = {}
        self._left: dict[str, int] = {}

    def make(self, kind: str, options: Mapping[str, Any]) -> Fault | None:
        """Arm a fault, or give back one that strikes now.

        Args:
            kind: Its name.
            options: Its options; text is converted, as ``seconds=2`` on a command line; bytes are
                written in hex digits.

        Raises:
            LocalProtocolError: There is no such fault or option, or a value is of the wrong type.
        """
        made = self._checked(kind, options)
        if self._kinds[kind].now and made.options.get("when", "now") == "now":
            return made
        self._armed[kind] = made
        self._left[kind] = made.options.get("times", 1)
        if not self._left[kind]:
            del self._armed[kind]
        return None

    def _checked(self, kind: str, options: Mapping[str, Any]) -> Fault:
        if kind not in self._kinds:
            raise LocalProtocolError(f"there is no fault {kind!r}", hint=nearest(kind, self._kinds))
        defaults = self._kinds[kind].options
        for name in options:
            if name not in defaults:
                raise LocalProtocolError(f"fault {kind} has no option {name!r}", hint=nearest(name, defaults))
        given = {name: _converted(kind, name, value, defaults[name]) for name, value in options.items()}
        return Fault(kind, {**defaults, **given})

    def take(self, kind: str, *, where: str = "") -> Fault | None:
        """Use up one time of a fault, if it is armed.

        Args:
            kind: Which.
            where: The place that asks; a fault that names another place is left alone.
        """
        armed = self._armed.get(kind)
        if armed is None or armed.options.get("where", "") not in ("", where):
            return None
        if self._left[kind] > 0:
            self._left[kind] -= 1
        if not self._left[kind]:
            del self._armed[kind]
        return armed

    def clear(self) -> None:
        """Behave again."""
        self._armed.clear()


def _converted(kind: str, name: str, value: Any, default: Any) -> Any:
    try:
        return bytes.fromhex(value) if isinstance(default, bytes) else type(default)(value)
    except (TypeError, ValueError):
        raise LocalProtocolError(
            f"option {name!r} of fault {kind} is no {type(default).__name__}: {value!r}",
            hint=f"Its default is {default!r}.",
        ) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is none: what is most like it, else all there are."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names) or 'none'}."
