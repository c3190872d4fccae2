"""A frame that was read once, for many metrics: what they have in common is computed once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Prepared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A frame that was read once.

    Attributes:
        source: The whole frame, as an Arrow table.
        rows: All of it after de-duplication, with every column that any metric reads.
        names: Columns of the frame.
        made: What was computed from it, by name and parameters.
    """

    source: Any
    rows: Any
    names: tuple[str, ...]
    made: dict[tuple[Any, ...], Any] = field(default_factory=dict)
