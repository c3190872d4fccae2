"""No protection at all: a plain subprocess. Only for a machine where nothing works and its owner says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile

from botbook._errors import SandboxError
from botbook._local.backends.base import PROTECTIONS, CellPlan, Command, Protection, Report
from botbook.wire.box import Mount

__all__ = ["UnsafeBackend"]


class UnsafeBackend:
    """Commands of a session run as you, in a temporary directory."""

    name = "unsafe"

    def __init__(self) -> None:
        self._cells: set[UnsafeCell] = set()

    async def probe(self) -> Report:
        """It always works, and holds nothing back."""
        off = tuple(
            Protection(name, False, "UNSAFE was chosen: nothing is held back") for name in PROTECTIONS
        )
        return Report(backend=self.name, available=True, protections=off)

    async def open(self, plan: CellPlan) -> UnsafeCell:
        """Make the directory.

        Raises:
            SandboxError: Mounts were asked for.
        """
        if plan.mounts:
            raise SandboxError("without a sandbox there are no mounts", code="BoxValidationError")
        root = await asyncio.to_thread(tempfile.mkdtemp, prefix="botbook-unsafe-")
        cell = UnsafeCell(plan.name, root)
        self._cells.add(cell)
        return cell

    async def close(self) -> None:
        """End every session."""
        await asyncio.gather(*(cell.close() for cell in self._cells))


class UnsafeCell:
    """A directory."""

    def __init__(self, name: str, root: str) -> None:
        self.id = f"unsafe-{name}"
        self.ended = asyncio.Event()
        self.watched = (root,)
        self._root = root
        self._children: set[UnsafeChild] = set()

    async def run(self, command: Command) -> UnsafeChild:
        """Start a command."""
        if self.ended.is_set():
            raise SandboxError("the session has ended", code="BoxSessionNotFoundError")
        try:
            process = await asyncio.create_subprocess_exec(
                *command.argv,
                stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self._root,
                env={"PATH": os.environ.get("PATH", os.defpath), "HOME": self._root, **command.env},
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{command.argv[0]}: {error.strerror}") from None
        child = UnsafeChild(process)
        self._children.add(child)
        return child

    async def mount(self, mount: Mount) -> None:
        """There are none."""
        raise SandboxError("without a sandbox there are no mounts", code="BoxValidationError")

    async def close(self) -> None:
        """End what runs, as far as it stayed in its process group."""
        self.ended.set()
        await asyncio.gather(*(child.kill() for child in self._children))
        await asyncio.to_thread(shutil.rmtree, self._root, True)


class UnsafeChild:
    """A subprocess."""

    out_of_memory = False

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self._process = process

    async def wait(self) -> int:
        """Its exit code."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL to its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def close(self) -> None:
        """Let go of its input."""
        if self.stdin is not None:
            self.stdin.close()
