"""What comes of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botbook._notebook.render import View
from botbook._notebook.surface import Block

__all__ = ["Outcome"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a command.

    Attributes:
        view: What is shown, or None where the value shows itself.
        value: What ``x = %bot …`` and ``--out`` get.
        block: Where the view takes the place of "…", or None.
    """

    view: View | None = None
    value: Any = None
    block: Block | None = None
