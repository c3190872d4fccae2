"""A decoded query, whose keys may stand more than once."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Query"]


class Query(dict[str, str]):
    """Key → last value; `all` gives every value of a key.

    Args:
        pairs: In the order they came.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)
        super().__init__(self._pairs)

    def all(self, key: str) -> list[str]:
        """Every value of a key."""
        return [value for name, value in self._pairs if name == key]
