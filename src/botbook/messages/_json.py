"""What LangBot's JSON leaves open: ids as numbers or text, times in two spellings, and the like."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["ident", "mime_type", "moment", "number", "overlaid", "text", "without"]


def overlaid(
    given: Mapping[str, Any],
    before: Mapping[str, Any],
    written: Mapping[str, Any],
    same: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """What was read, with those fields that were changed since.

    Args:
        given: What was read.
        before: What its fields would be written as.
        written: What the fields are written as now.
        same: Keys that say the same thing: when one is written anew, the others go.
    """
    changes = {key: value for key, value in written.items() if before.get(key) != value}
    gone = before.keys() - written.keys()
    if same & (gone | changes.keys()):
        gone |= same
    return copy.deepcopy({key: value for key, value in given.items() if key not in gone}) | changes


def without(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != name}


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def ident(value: Any) -> str:
    """An id as text; LangBot's may be numbers."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def moment(value: Any) -> datetime | None:
    """A time: epoch seconds in some dumps, ISO text in others (protocols/langbot.md 8)."""
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value)
        return None if number(value) is None else datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def mime_type(where: str) -> str:
    if where.startswith("data:"):
        return where[5:].partition(";")[0].partition(",")[0] or "image/jpeg"
    kind = where.rpartition(".")[2].lower()
    return f"image/{kind}" if kind in ("png", "gif", "webp") else "image/jpeg"
