"""The bubblewrap backend: one ``bwrap`` a command, over directories that the session keeps.

It serves where the native one is refused, for instance where only ``bwrap`` may make user namespaces.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence

from botbook._errors import SandboxError
from botbook._local.backends import layout, pipes
from botbook._local.backends.base import CellPlan, Command, Protection
from botbook._local.backends.directories import (
    LIMITER,
    UID,
    DirectoryBackend,
    DirectoryCell,
    Memory,
    is_long,
    limits_of,
)
from botbook._local.backends.jail import filters, measure

__all__ = ["BubblewrapBackend"]


class BubblewrapBackend(DirectoryBackend):
    """Sessions as directories, commands by ``bwrap``."""

    name = "bubblewrap"
    program = "bwrap"

    def protections(self, groups: Sequence[str]) -> tuple[Protection, ...]:
        """What holds."""
        root = os.geteuid() == 0
        filtered = bool(filters.seccomp_program(os.uname().machine))
        by = "control group"
        return (
            Protection("files", True, "mount namespace"),
            Protection("processes", True, "pid namespace"),
            Protection("network", True, "network namespace; when on, it is the machine's own network"),
            Protection("capabilities", True, "dropped"),
            Protection("no_new_privs", True, "no_new_privs and nosuid mounts"),
            Protection("user", True, "user namespace" if root else "user namespace over your own user"),
            Protection(
                "uid_per_session",
                root,
                "one foreign user id each" if root else "needs root: all share your user id",
            ),
            Protection("seccomp", filtered, "filter" if filtered else f"no filter for {os.uname().machine}"),
            Protection("landlock", False, "bwrap sets none"),
            Protection("memory", True, by if "memory" in groups else "a limit a process, a watch on all"),
            Protection("pids", True, by if "pids" in groups else "a limit on the user's processes"),
            Protection("cpu", True, by if "cpu" in groups else "held to so many processors"),
            Protection("disk", False, "a limit a file, and a watch that a fast writer outruns for a moment"),
            Protection("kill", True, "pid namespace, and its parent's death"),
        )

    def make_cell(self, plan: CellPlan, root: str, turn: int) -> BubblewrapCell:
        """A session."""
        return BubblewrapCell(plan, root, self._places, turn, prefix=self.prefix)


class BubblewrapCell(DirectoryCell):
    """One session; see `directories.DirectoryCell`."""

    async def run(self, command: Command) -> BubblewrapChild:
        """Start a command.

        Raises:
            SandboxError: The session has ended, or bwrap does not start.
        """
        self._check()
        data = _Data()
        streams = pipes.Streams(stdin=command.stdin, owner=self.uid)
        (info_r, info_w), (gone_r, gone_w), (block_r, block_w) = (os.pipe() for _ in range(3))
        arguments = self._arguments(command, data)
        fds = {"--info-fd": info_w, "--sync-fd": gone_w, "--block-fd": block_r}
        if program := filters.seccomp_program(os.uname().machine):
            fds["--seccomp"] = data.add(program)
        fds["--args"] = data.add("\0".join(arguments).encode("utf-8", "surrogateescape"))
        flags = [part for name, fd in fds.items() for part in (name, str(fd))]
        inside = ["/bin/sh", "-c", LIMITER, command.cwd, *self._argv(command)]
        try:
            process = await self._start(
                ["bwrap", *flags, *inside], streams, pass_fds=[*fds.values(), *data.fds], env={}
            )
        except SandboxError:
            for fd in (info_r, gone_r, block_w):
                os.close(fd)
            raise
        finally:
            for fd in (info_w, gone_w, block_r, *data.fds):
                os.close(fd)
        inner = await asyncio.to_thread(_inner_pid, info_r)
        self._hold(inner)
        os.close(block_w)
        await streams.open()
        child = BubblewrapChild(process, inner, gone_r, streams)
        child.memory = self._memory(lambda: inner, child.kill)
        self._children.add(child)
        return child

    @staticmethod
    def _argv(command: Command) -> tuple[str, ...]:
        return ("/bin/sh", "-l", "/run/script") if is_long(command) else command.argv

    def _arguments(self, command: Command, data: _Data) -> list[str]:
        spec, binds = self._plan.spec, self._binds()
        parts = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
        parts += ["--hostname", "box", "--cap-drop", "ALL", "--uid", str(UID), "--gid", str(UID)]
        parts += ["--share-net"] if spec.network == "on" else []
        for one in binds:
            parts += ["--ro-bind", one["source"], one["target"]]
        for target, source in layout.system()[1].items():
            parts += ["--symlink", source, target]
        parts += ["--proc", "/proc", "--dev", "/dev", "--size", str(64 << 20), "--tmpfs", "/dev/shm"]
        parts += ["--size", str(1 << 20), "--tmpfs", "/run", "--dir", "/sys"]
        for target, text in layout.etc_files().items():
            parts += ["--ro-bind-data", str(data.add(text.encode())), target]
        if is_long(command):
            script = command.argv[-1].encode("utf-8", "surrogateescape")
            parts += ["--ro-bind-data", str(data.add(script)), "/run/script"]
        for source, target in self._writable():
            parts += ["--bind", source, target]
        for mount in self._mounts:
            parts += ["--bind" if mount.mode == "rw" else "--ro-bind", mount.host_path, mount.mount_path]
        parts += ["--remount-ro", "/"] if spec.read_only_rootfs else []
        parts += ["--clearenv"]
        limits = limits_of(spec, self.controllers, self.limit_bytes)
        for key, value in {**layout.environment(binds), **command.env, "LIMITS": limits}.items():
            parts += ["--setenv", key, value]
        return parts


class BubblewrapChild:
    """One command; see `base.Child`."""

    memory: Memory

    def __init__(
        self, process: asyncio.subprocess.Process, inner: int, gone: int, streams: pipes.Streams
    ) -> None:
        self.stdin, self.stdout, self.stderr = streams.stdin, streams.stdout, streams.stderr
        self.out_of_memory = False
        self._process, self._inner, self._gone_fd, self._streams = process, inner, gone, streams
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(gone, self._on_gone)

    def _on_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._gone_fd)
        os.close(self._gone_fd)
        self._gone.set()

    async def wait(self) -> int:
        """Its exit code."""
        code = await self._process.wait()
        self.out_of_memory = self.memory.ran_out(code)
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to the command, which is the child of the sandbox's first process."""
        with contextlib.suppress(OSError):
            for pid in measure.children(self._inner):
                os.kill(pid, signal.SIGTERM)

    async def kill(self) -> None:
        """End the sandbox; returns when it is empty."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._gone.wait()

    def close(self) -> None:
        """Let go of its pipes and of the watch."""
        self._streams.close()
        self.memory.close()


class _Data:
    """Texts that are handed over as descriptors, so that they stand on no command line."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def add(self, data: bytes) -> int:
        fd = os.memfd_create("data")
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        self.fds.append(fd)
        return fd


def _inner_pid(fd: int) -> int:
    """The sandbox's first process, as bwrap tells it; 0 if bwrap failed, which then says why itself."""
    with open(fd, encoding="utf-8") as file:
        text = ""
        while "}" not in text and (more := file.read(1)):
            text += more
    return int(json.loads(text)["child-pid"]) if text else 0
