"""How much memory a tree of processes holds."""

from __future__ import annotations

import contextlib
import os

__all__ = ["children", "tree_bytes"]


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and all below it, in bytes."""
    total, todo = 0, [pid]
    while todo:
        one = todo.pop()
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{one}/statm", encoding="ascii") as file:
                _, resident, shared, *_ = map(int, file.read().split())
            total += (resident - shared) * os.sysconf("SC_PAGE_SIZE")
            todo += children(one)
    return total


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
            found += map(int, file.read().split())
    return found
