"""Which process wrote a handler's record, and whether it still runs."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

__all__ = ["UNSEEN_AFTER", "is_gone", "this_process"]

#: A process that cannot be looked at (another container, a system without /proc) counts as gone
#: when what it began is older than this: sixty times the longest default run of a handler.
UNSEEN_AFTER: Final = timedelta(hours=1)

_PROC: Final = Path("/proc")


def this_process(*, proc: Path = _PROC) -> str:
    """This process by boot, process namespace, id and start time, so that a reused id is another."""
    pid = os.getpid()
    return f"{_view(proc)}|{pid}|{_started(pid, proc)}"


def is_gone(owner: str, since: datetime, *, now: datetime, proc: Path = _PROC) -> bool:
    """Whether the process that `this_process` named has ended.

    Args:
        owner: What `this_process` gave there.
        since: When it began what is asked about.
        now: The time now.
        proc: The system's process folder.
    """
    view, _, rest = owner.partition("|")
    pid, _, started = rest.partition("|")
    boot, space = view.partition("/")[::2]
    own_boot, own_space = _view(proc).partition("/")[::2]
    if boot and own_boot and boot != own_boot:
        return True
    if not (boot and started and pid.isdecimal()) or space != own_space:
        return now - since > UNSEEN_AFTER
    return _started(int(pid), proc) != started


def _view(proc: Path) -> str:
    """Boot and process namespace: within both, a process id means one thing."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink(proc / 'self/ns/pid')}"
    except OSError:
        return ""


def _started(pid: int, proc: Path) -> str:
    """Start of a process in ticks since boot (field 22 of proc(5) stat); "" if there is none."""
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if len(fields) < 20 or fields[0] in ("Z", "X") else fields[19]
