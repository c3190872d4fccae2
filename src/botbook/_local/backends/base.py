"""What the runtime asks of a backend: a cell for each session, a child for each command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from botbook.wire.box import Mount, Spec

__all__ = [
    "PROTECTIONS",
    "Backend",
    "Cell",
    "CellPlan",
    "Child",
    "Command",
    "Protection",
    "Report",
    "Writer",
    "disk_mb",
]

#: What a backend may protect from, in the order in which `doctor` shows it.
PROTECTIONS: Final = {
    "files": "cannot read or write the machine's files outside the mounts",
    "processes": "cannot see the machine's processes",
    "network": "cannot reach any network when it is off",
    "capabilities": "has no capability and cannot gain one",
    "no_new_privs": "set-user-id programs give it nothing",
    "user": "is not root outside",
    "uid_per_session": "shares its user id with no other session",
    "seccomp": "cannot make dangerous system calls",
    "landlock": "is held to its files a second time",
    "memory": "cannot take more memory than it was given",
    "pids": "cannot start more processes than it was given",
    "cpu": "cannot take more processor time than it was given",
    "disk": "cannot write more than its quota, while it runs",
    "kill": "is wholly gone when it is ended",
}


@dataclass(frozen=True, slots=True)
class Protection:
    """One line of `doctor`.

    Attributes:
        name: Of `PROTECTIONS`.
        on: Whether it is in force.
        how: By which means, or why not.
    """

    name: str
    on: bool
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a backend can do on this machine; found by trying.

    Attributes:
        backend: Its name.
        available: Whether a command ran in it.
        reason: Why not, else "".
        protections: One for each of `PROTECTIONS`.
    """

    backend: str
    available: bool
    reason: str = ""
    protections: tuple[Protection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CellPlan:
    """A session to be.

    Attributes:
        name: Unique in this runtime; letters, digits and dashes.
        spec: What was asked for, checked.
        mounts: Every directory to show, checked and resolved; the main one first if there is one.
    """

    name: str
    spec: Spec
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run.

    Attributes:
        argv: Program and arguments.
        env: Its variables, besides a few of the backend's.
        cwd: Absolute; made if it is missing.
        stdin: Whether there will be input; otherwise it is empty.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = "/workspace"
    stdin: bool = False


def disk_mb(spec: Spec) -> int:
    """Room that a session's own files have, in MiB: its quota, else half as much as its memory."""
    return spec.workspace_quota_mb or max(16, spec.memory_mb // 2)


class Writer(Protocol):
    """A command's input."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class Child(Protocol):
    """A running command.

    Attributes:
        stdin: Its input, or None.
        stdout: Its output.
        stderr: Its other output.
        out_of_memory: Whether it was killed for taking too much; known when it has ended.
    """

    @property
    def stdin(self) -> Writer | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader: ...

    @property
    def stderr(self) -> asyncio.StreamReader: ...

    @property
    def out_of_memory(self) -> bool: ...

    async def wait(self) -> int:
        """Its exit code; 128+n for death by signal n. What it left in the background lives on.

        Raises:
            SandboxError: It could not be started.
        """
        ...

    def terminate(self) -> None:
        """Ask it to end (SIGTERM)."""
        ...

    async def kill(self) -> None:
        """End it and everything that it started; returns when nothing is left."""
        ...

    def close(self) -> None:
        """Let go of its pipes."""
        ...


class Cell(Protocol):
    """A session's enclosure.

    Attributes:
        id: Its name in the backend.
        ended: Set when it is gone, whoever ended it.
        watched: Directories of the machine that hold its files and that nothing limits but a watch.
    """

    @property
    def id(self) -> str: ...

    @property
    def ended(self) -> asyncio.Event: ...

    @property
    def watched(self) -> tuple[str, ...]: ...

    async def run(self, command: Command) -> Child:
        """Start a command.

        Raises:
            SandboxError: The cell is gone, or refuses.
        """
        ...

    async def mount(self, mount: Mount) -> None:
        """Show one more directory to the commands that come.

        Raises:
            SandboxError: This backend cannot, or the directory cannot be shown.
        """
        ...

    async def close(self) -> None:
        """End all that runs in it and forget its files. Never raises."""
        ...


class Backend(Protocol):
    """A way to enclose.

    Attributes:
        name: As it stands in ``backend_name``.
    """

    @property
    def name(self) -> str: ...

    async def probe(self) -> Report:
        """Try it out. Never raises."""
        ...

    async def open(self, plan: CellPlan) -> Cell:
        """Make a cell.

        Raises:
            SandboxError: It cannot be made.
        """
        ...

    async def close(self) -> None:
        """End everything. Never raises."""
        ...
