"""Patterns of event types: ``*``, ``namespace.*`` or an exact type."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["PATTERN", "matches"]

PATTERN: Final = re.compile(r"\*|[\w-]+(\.[\w-]+)*(\.\*)?")


def matches(pattern: str, type: str, *, own: bool = False) -> bool:
    """Whether a pattern matches a type.

    Args:
        pattern: One that `PATTERN` accepts.
        type: The event's type.
        own: The event is what a bot said itself. A pattern with a star never matches that: a
            handler that answers its own answers would never end.
    """
    if not pattern.endswith("*"):
        return type == pattern
    return not own and type.startswith(pattern[:-1])
