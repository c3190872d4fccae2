"""Which keys were seen lately: bounded by count and by age."""

from __future__ import annotations

from typing import Final

__all__ = ["AGE", "COUNT", "Dedupe"]

#: Keys remembered at least.
COUNT: Final = 50_000
#: How long they are remembered at least, in seconds: a redelivery after 368 s has been seen (bots.md 1c).
AGE: Final = 86_400.0


class Dedupe:
    """A memory of keys in two generations, so that forgetting costs nothing per key.

    A key is forgotten when `count` newer ones came or `age` seconds went by, and at the latest at
    twice either of them.

    Args:
        count: Keys in a generation.
        age: Life of a generation, in seconds.
    """

    def __init__(self, *, count: int = COUNT, age: float = AGE) -> None:
        self._count = count
        self._age = age
        self._young: set[str] = set()
        self._old: set[str] = set()
        self._born = self._now = 0.0

    def __len__(self) -> int:
        return len(self._young | self._old)

    def tick(self, now: float) -> None:
        """Let time pass; called once for a batch of keys.

        Args:
            now: A monotonic time, in seconds.
        """
        self._now = now
        if now - self._born >= 2 * self._age:
            self._young = set()
        if now - self._born >= self._age:
            self._turn()

    def first(self, key: str) -> bool:
        """Remember a key.

        Returns:
            Whether it is new. The empty key always is: it names nothing.
        """
        if key in self._young:
            return False
        if not key:
            return True
        known = key in self._old
        self._young.add(key)
        if len(self._young) >= self._count:
            self._turn()
        return not known

    def forget(self, key: str) -> None:
        """Take a key as never seen."""
        self._young.discard(key)
        self._old.discard(key)

    def _turn(self) -> None:
        self._old, self._young, self._born = self._young, set(), self._now
