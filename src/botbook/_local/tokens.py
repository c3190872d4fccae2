"""Bearer tokens that the embedded gateway has given."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from botbook._clock import Clock

__all__ = ["Tokens"]


class Tokens:
    """Tokens and their ends.

    Args:
        clock: Where time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def issue(self, life: float) -> str:
        """A new token.

        Args:
            life: In seconds.
        """
        now = self._clock.monotonic()
        self._ends = {token: end for token, end in self._ends.items() if end > now}
        token = secrets.token_urlsafe(24)
        self._ends[token] = now + life
        return token

    def accepts(self, headers: Mapping[str, str]) -> bool:
        """Whether a request carries a token that is good now; header names in lower case."""
        kind, _, token = headers.get("authorization", "").partition(" ")
        end = self._ends.get(token, float("-inf"))
        return kind.lower() == "bearer" and end > self._clock.monotonic()

    def revoke(self) -> None:
        """Forget all of them."""
        self._ends.clear()
