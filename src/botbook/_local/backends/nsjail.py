"""The nsjail backend: one ``nsjail`` a command, over directories that the session keeps.

Written from nsjail's documented command line and tried with a stand-in alone: no test has seen the real
program.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Final

from botbook._errors import SandboxError
from botbook._local.backends import layout, pipes
from botbook._local.backends.base import CellPlan, Command, Protection
from botbook._local.backends.directories import (
    UID,
    DirectoryBackend,
    DirectoryCell,
    Memory,
    is_long,
    limits_of,
)
from botbook._local.backends.jail import measure

__all__ = ["NsjailBackend"]

#: Waits until it stands under its limits, then becomes nsjail.
_START: Final = 'read -r go < "/dev/fd/$0" && exec "$@"'
#: The jail's first process, which must reap, and hand a signal on: nsjail itself puts none there. It sets
#: the limits inside, where they count for the namespace's own user. A shell without job control would give
#: a command in the background an empty input, whatever <&0 says; hence descriptor 3.
_FIRST: Final = (
    "for one in $LIMITS; do ulimit ${one%=*} ${one#*=}; done; unset LIMITS; "
    'trap \'kill -s TERM "$child"\' TERM; exec 3<&0; "$@" <&3 3<&- & child=$!; '
    'while wait "$child"; code=$?; kill -0 "$child" 2> /dev/null; do :; done; exit "$code"'
)
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS: Final = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "fd/0",
    "/dev/stdout": "fd/1",
    "/dev/stderr": "fd/2",
}
#: How long nsjail has to end when what it holds has ended, in seconds.
_GRACE: Final = 2.0


class NsjailBackend(DirectoryBackend):
    """Sessions as directories, commands by ``nsjail``."""

    name = "nsjail"
    program = "nsjail"

    def protections(self, groups: Sequence[str]) -> tuple[Protection, ...]:
        """What holds, by nsjail's documentation."""
        root = os.geteuid() == 0
        by = "control group"
        return (
            Protection("files", True, "mount namespace"),
            Protection("processes", True, "pid namespace"),
            Protection("network", True, "network namespace; when on, it is the machine's own network"),
            Protection("capabilities", True, "all dropped"),
            Protection("no_new_privs", True, "no_new_privs"),
            Protection("user", True, "user namespace" if root else "user namespace over your own user"),
            Protection(
                "uid_per_session",
                root,
                "one foreign user id each" if root else "needs root: all share your user id",
            ),
            Protection("seccomp", False, "no policy is set"),
            Protection("landlock", False, "nsjail sets none"),
            Protection("memory", True, by if "memory" in groups else "a limit a process, a watch on all"),
            Protection("pids", True, by if "pids" in groups else "a limit on the user's processes"),
            Protection("cpu", True, by if "cpu" in groups else "held to so many processors"),
            Protection("disk", False, "a limit a file, and a watch that a fast writer outruns for a moment"),
            Protection("kill", True, "pid namespace; a command's end is that of all that it started"),
        )

    def make_cell(self, plan: CellPlan, root: str, turn: int) -> NsjailCell:
        """A session."""
        return NsjailCell(plan, root, self._places, turn, prefix=self.prefix)


class NsjailCell(DirectoryCell):
    """One session; see `directories.DirectoryCell`."""

    async def run(self, command: Command) -> NsjailChild:
        """Start a command.

        Raises:
            SandboxError: The session has ended, a path has a colon, or nsjail does not start.
        """
        self._check()
        arguments = self._arguments(command)
        handed = layout.handed(
            {
                **layout.environment(self._binds()),
                **command.env,
                "LIMITS": limits_of(self._plan.spec, self.controllers, self.limit_bytes),
            }
        )
        flags = [part for name in handed for part in ("--env", name)]
        argv = ["/bin/sh", "-l", "/run/script"] if is_long(command) else list(command.argv)
        inside = ["/bin/sh", "-c", layout.BECOME, command.cwd, "/bin/sh", "-c", _FIRST, "sh", *argv]
        streams = pipes.Streams(stdin=command.stdin, owner=self.uid)
        waiting, go = os.pipe()
        try:
            if self.uid is not None:
                os.fchown(waiting, self.uid, self.uid)
            helper = ["/bin/sh", "-c", _START, str(waiting), NsjailBackend.program, *arguments, *flags, "--"]
            process = await self._start([*helper, *inside], streams, pass_fds=[waiting], env=handed)
            self._hold(process.pid)
            os.write(go, b"\n")
        finally:
            os.close(waiting)
            os.close(go)
        await streams.open()
        child = NsjailChild(process, streams)
        child.memory = self._memory(lambda: process.pid, child.kill)
        self._children.add(child)
        return child

    def _arguments(self, command: Command) -> list[str]:
        spec = self._plan.spec
        outside = os.geteuid() if self.uid is None else self.uid
        parts = ["--mode", "o", "--really_quiet", "--hostname", "box", "--cwd", "/", "--time_limit", "0"]
        parts += ["--user", f"{UID}:{outside}:1", "--group", f"{UID}:{outside}:1", "--disable_rlimits"]
        parts += ["--disable_clone_newnet"] if spec.network == "on" else []
        parts += [] if spec.read_only_rootfs else ["--rw"]
        for one in self._binds():
            parts += ["--bindmount_ro", _pair(one["source"], one["target"])]
        for target, source in {**layout.system()[1], **_LINKS}.items():
            parts += ["--symlink", _pair(source, target)]
        for target, size in (("/dev/shm", 64 << 20), ("/run", 1 << 20)):
            parts += ["--mount", f"none:{target}:tmpfs:size={size}"]
        parts += [part for name in _DEVICES for part in ("--bindmount", f"/dev/{name}")]
        for source, target in self._texts(command).items():
            parts += ["--bindmount_ro", _pair(source, target)]
        for source, target in self._writable():
            parts += ["--bindmount", _pair(source, target)]
        for mount in self._mounts:
            flag = "--bindmount" if mount.mode == "rw" else "--bindmount_ro"
            parts += [flag, _pair(mount.host_path, mount.mount_path)]
        return parts

    def _texts(self, command: Command) -> dict[str, str]:
        """Small files of the session's own: where they lie, where they stand inside."""
        texts = layout.etc_files()
        if is_long(command):
            texts["/run/script"] = command.argv[-1]
        self._make_directory(f"{self._root}/texts")
        places = {}
        for target, text in texts.items():
            place = f"{self._root}/texts/{target.replace('/', '_')}"
            with open(place, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
            os.chmod(place, 0o644)
            places[place] = target
        return places


def _pair(source: str, target: str) -> str:
    """A path that nsjail cannot tell from two is refused.

    Raises:
        SandboxError: There is a colon in it.
    """
    if ":" in source + target:
        raise SandboxError(f"nsjail takes no path with a colon: {source}", code="BoxValidationError")
    return f"{source}:{target}"


class NsjailChild:
    """One command; see `base.Child`."""

    memory: Memory

    def __init__(self, process: asyncio.subprocess.Process, streams: pipes.Streams) -> None:
        self.stdin, self.stdout, self.stderr = streams.stdin, streams.stdout, streams.stderr
        self.out_of_memory = False
        self._process, self._streams = process, streams

    async def wait(self) -> int:
        """Its exit code."""
        code = await self._process.wait()
        self.out_of_memory = self.memory.ran_out(code)
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to the jail's first process, which hands it on."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(OSError):
            for pid in measure.children(self._process.pid):
                os.kill(pid, number)

    async def kill(self) -> None:
        """End the jail's first process, and with it all of its namespace; nsjail ends when that is empty."""
        self._signal(signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def close(self) -> None:
        """Let go of its pipes and of the watch."""
        self._streams.close()
        self.memory.close()
