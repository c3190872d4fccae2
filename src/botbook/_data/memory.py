"""How much memory is free, and a word before a frame eats it."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Final

__all__ = ["LargeFrame", "free_bytes", "warn_of_memory"]

#: Bytes of a row in a frame (bots.md 4b: 214 to 218 MB for a million rows).
ROW_BYTES: Final = 216
#: The part of the free memory that a frame may take unsaid.
SHARE: Final = 0.25
#: Below so many rows nothing is looked at.
FEW_ROWS: Final = 100_000

_SYSTEM: Final = Path("/")


class LargeFrame(UserWarning):
    """A frame takes a large part of the free memory; there is a way without it."""


def free_bytes(*, root: Path = _SYSTEM) -> int | None:
    """Memory that this process may still take, in bytes; None where the system does not tell.

    Args:
        root: Where the system's files are.
    """
    found = [value for value in (_available(root), _left_in_group(root)) if value is not None]
    return min(found, default=None)


def warn_of_memory(rows: int, *, free: int | None = None) -> None:
    """Warn if a frame of so many rows takes more than a quarter of the free memory.

    Args:
        rows: How many, at the most.
        free: Free memory, in bytes; default what the system says.

    Warns:
        LargeFrame: It does.
    """
    if rows < FEW_ROWS:
        return
    free = free_bytes() if free is None else free
    if free is not None and rows * ROW_BYTES > free * SHARE:
        warnings.warn(
            f"{rows:,} events as a frame take about {rows * ROW_BYTES / 1e9:.1f} GB of the "
            f"{free / 1e9:.1f} GB that are free: bot.events(lazy=True) reads them where they are",
            LargeFrame,
            stacklevel=2,
        )


def _available(root: Path) -> int | None:
    text = _text(root / "proc/meminfo")
    if found := re.search(r"^MemAvailable:\s+(\d{1,18}) kB", text, re.MULTILINE):
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _left_in_group(root: Path) -> int | None:
    """What a control group leaves, of version 2: in a container the machine's memory is not ours."""
    most = _text(root / "sys/fs/cgroup/memory.max").strip()
    used = _text(root / "sys/fs/cgroup/memory.current").strip()
    return max(0, int(most) - int(used)) if most.isdecimal() and used.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
