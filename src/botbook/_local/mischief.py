"""Faults of one embedded peer: a table of kinds, checked options, and what is armed at the moment."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from botbook._errors import LocalProtocolError
from botbook._local.faults import Fault, FaultKind, Faults

__all__ = ["Mischief"]

_TIMES: Final = "times"


class Mischief:
    """What a peer may be told to do wrong.

    Args:
        kinds: Its faults, by name.
    """

    def __init__(self, kinds: Mapping[str, FaultKind]) -> None:
        self._kinds = kinds
        self._faults = Faults()

    def make(self, kind: str, options: Mapping[str, Any]) -> Fault | None:
        """Arm a fault, or give back one that strikes now.

        Args:
            kind: Its name.
            options: Its options; text is converted.

        Raises:
            LocalProtocolError: There is no such fault or option, or a value is of the wrong type.
        """
        if kind not in self._kinds:
            raise LocalProtocolError(f"there is no fault {kind!r}", hint=_hint(kind, self._kinds))
        defaults = self._kinds[kind].options
        for name in options:
            if name not in defaults:
                raise LocalProtocolError(f"fault {kind} has no option {name!r}", hint=_hint(name, defaults))
        given = {name: _converted(kind, name, value, defaults[name]) for name, value in options.items()}
        made = Fault(kind, {**defaults, **given})
        if self._kinds[kind].now:
            return made
        self._faults.arm(made)
        return None

    def take(self, kind: str) -> Fault | None:
        """Use up one time of a fault, if it is armed."""
        return self._faults.take(kind)

    def clear(self) -> None:
        """Behave again."""
        self._faults.clear()


def _converted(kind: str, name: str, value: Any, default: Any) -> Any:
    try:
        return type(default)(value)
    except (TypeError, ValueError):
        raise LocalProtocolError(
            f"option {name!r} of fault {kind} is no {type(default).__name__}: {value!r}",
            hint=f"Its default is {default!r}.",
        ) from None


def _hint(name: str, known: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known) or 'none'}."
