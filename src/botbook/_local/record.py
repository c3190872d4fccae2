"""What clients sent to the embedded world, in order and without their secrets."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from botbook._clock import Clock

__all__ = ["HIDDEN", "SentLog"]

HIDDEN: Final = "•••"
_SECRET_KEYS: Final = frozenset({"app_secret", "token", "access_token", "authorization", "password"})

#: Entries that are kept; older ones go.
KEPT: Final = 200_000


class SentLog:
    """A bounded list of what clients sent.

    Args:
        clock: Where its times come from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._count = 0

    def add(self, gateway: str, what: str, **details: Any) -> None:
        """Note one thing.

        Args:
            gateway: At which gateway.
            what: ``token``, ``upgrade``, ``frame``, ``send``, ``history``, ``http`` or ``closed``.
            details: JSON values; secrets among them are blacked out by their names.
        """
        self._count += 1
        at = self._clock.now().timestamp()
        entry = {"n": self._count, "at": at, "gateway": gateway, "what": what, **details}
        self._entries.append({key: _without_secrets(key, value) for key, value in entry.items()})

    def entries(self, *, after: int = 0) -> list[dict[str, Any]]:
        """A copy of the list.

        Args:
            after: Only entries with a greater ``n``.
        """
        return [dict(entry) for entry in self._entries if entry["n"] > after]

    def clear(self) -> None:
        """Forget everything; numbers go on."""
        self._entries.clear()


def _without_secrets(key: str, value: Any) -> Any:
    if key.lower() in _SECRET_KEYS:
        return HIDDEN
    if isinstance(value, dict):
        return {name: _without_secrets(str(name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets("", item) for item in value]
    return value
