"""Control groups of both versions: where a group can be made, and what is written into it."""

from __future__ import annotations

import contextlib
import os
from typing import Any

ROOT = "/sys/fs/cgroup"
_WANTED = ("memory", "pids", "cpu")
_PERIOD_US = 100_000


def parents(root: str = ROOT, own: str = "/proc/self/cgroup") -> dict[str, str]:
    """Controller → directory in which this process may make a group; empty where there is none."""
    try:
        with open(own, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return {}
    found: dict[str, str] = {}
    for _, controllers, path in lines:
        if controllers == "":
            found = {**_unified(root, path), **found}
        for name in controllers.split(","):
            place = os.path.join(root, controllers, path.lstrip("/"))
            place = place if os.path.isdir(place) else os.path.join(root, name, path.lstrip("/"))
            if name in _WANTED and _writable(place):
                found[name] = os.path.normpath(place)
    return found


def _unified(root: str, path: str) -> dict[str, str]:
    """Version 2: own group or the one above it, whichever hands the controllers down."""
    own = os.path.normpath(os.path.join(root, path.lstrip("/")))
    for place in (own, os.path.dirname(own)):
        if not place.startswith(root) or not _writable(place):
            continue
        with contextlib.suppress(OSError), open(f"{place}/cgroup.subtree_control", encoding="utf-8") as file:
            handed = file.read().split()
            if "memory" in handed and "pids" in handed:
                return {name: place for name in _WANTED if name in handed}
    return {}


def _writable(place: str) -> bool:
    return os.path.isdir(place) and os.access(place, os.W_OK) and os.access(f"{place}/cgroup.procs", os.W_OK)


def settings(controller: str, *, unified: bool, limits: dict[str, Any]) -> list[tuple[str, str]]:
    """Files of a group and what goes into them; all but the first of a controller may be missing."""
    memory, share = str(limits["memory_bytes"]), int(limits["cpus"] * _PERIOD_US)
    table = {
        ("memory", True): [("memory.max", memory), ("memory.swap.max", "0"), ("memory.oom.group", "0")],
        ("memory", False): [("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory)],
        ("cpu", True): [("cpu.max", f"{share} {_PERIOD_US}")],
        ("cpu", False): [("cpu.cfs_quota_us", str(share)), ("cpu.cfs_period_us", str(_PERIOD_US))],
    }
    return table.get((controller, unified), [("pids.max", str(limits["pids"]))])


class Group:
    """The groups of one session.

    Args:
        name: Of the directories.
        places: What `parents` found.
    """

    def __init__(self, name: str, places: dict[str, str]) -> None:
        self._paths = {controller: f"{place}/{name}" for controller, place in places.items()}
        self.controllers: list[str] = []

    def make(self, limits: dict[str, Any]) -> None:
        """Make the groups; a controller whose limit cannot be written is left out of `controllers`."""
        for controller, path in list(self._paths.items()):
            try:
                os.makedirs(path, exist_ok=True)
                self._limit(controller, path, limits)
            except OSError:
                continue
            self.controllers.append(controller)

    def _limit(self, controller: str, path: str, limits: dict[str, Any]) -> None:
        unified = os.path.exists(f"{path}/cgroup.controllers")
        first, *more = settings(controller, unified=unified, limits=limits)
        _write(f"{path}/{first[0]}", first[1])
        for name, value in more:
            with contextlib.suppress(OSError):
                _write(f"{path}/{name}", value)

    def join(self, pid: int = 0) -> None:
        """Put a process, and all that it will fork, into the groups.

        Args:
            pid: 0 for this one.
        """
        for path in {self._paths[controller] for controller in self.controllers}:
            _write(f"{path}/cgroup.procs", str(pid or os.getpid()))

    def oom_file(self) -> str:
        """Which file counts, in a line ``oom_kill N``, the kills for want of memory; "" if none does."""
        for name in ("memory.events", "memory.oom_control"):
            path = f"{self._paths.get('memory', '')}/{name}"
            if "memory" in self.controllers and os.path.exists(path):
                return path
        return ""

    def remove(self) -> bool:
        """Remove the groups; False while something still ends in them."""
        gone = True
        for path in set(self._paths.values()):
            try:
                os.rmdir(path)
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone


def _write(path: str, value: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(value)


def sweep(places: dict[str, str], prefix: str) -> None:
    """Remove groups that a keeper left which was killed: ``<prefix><pid>-<n>`` with no such process."""
    for place in set(places.values()):
        with contextlib.suppress(OSError):
            for name in os.listdir(place):
                pid = name.removeprefix(prefix).partition("-")[0]
                if name.startswith(prefix) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                    with contextlib.suppress(OSError):
                        os.rmdir(f"{place}/{name}")
