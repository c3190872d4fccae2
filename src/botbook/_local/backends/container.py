"""The docker and podman backends: one container a session, by the engine's command line.

For machines where only an engine may make namespaces, and for sessions that need an image of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import signal
from typing import Final

from botbook._errors import SandboxError
from botbook._local.backends import layout
from botbook._local.backends.base import CellPlan, Command, Protection, Report, disk_mb
from botbook.wire.box import IMAGE, Mount, Spec

__all__ = ["ContainerBackend", "DockerBackend", "PodmanBackend"]

_LABEL: Final = "botbook.box"
_UID: Final = 1000
_PROBE_SECONDS: Final = 10.0
_RUN_SECONDS: Final = 60.0
#: The container's first process: sleeps, and buries whatever is left behind.
_IDLE: Final = 'trap "exit 0" TERM; while :; do sleep 3600 & wait "$!"; done'
#: Ends whatever still carries the mark of a run.
_END: Final = (
    "for round in 1 2 3 4 5; do found=; for p in /proc/[0-9]*; do "
    'grep -aqs "BOTBOOK_RUN=$0" "$p/environ" && kill -"$1" "${p#/proc/}" 2> /dev/null && found=1; done; '
    '[ -n "$found" ] && [ "$1" = 9 ] || break; done'
)


class ContainerBackend:
    """Sessions as containers.

    Args:
        image: What to run where a session names none of its own.
    """

    name = ""

    def __init__(self, *, image: str = IMAGE) -> None:
        self._image = image
        self._cells: set[ContainerCell] = set()

    async def probe(self) -> Report:
        """Ask the engine, and run a container of the image if it is there; nothing is downloaded."""
        if not shutil.which(self.name):
            return Report(backend=self.name, available=False, reason=f"there is no {self.name} program")
        try:
            await self.engine("version", timeout=_PROBE_SECONDS)
            await self.engine("image", "inspect", self._image, timeout=_PROBE_SECONDS)
            await self._sweep()
            cell = await self.open(CellPlan(name="probe", spec=Spec(session_id="probe", image=self._image)))
            await cell.close()
        except SandboxError as error:
            return Report(backend=self.name, available=False, reason=str(error))
        return Report(backend=self.name, available=True, protections=self._protections())

    def _protections(self) -> tuple[Protection, ...]:
        return (
            Protection("files", True, "the image's own root, read-only"),
            Protection("processes", True, "pid namespace"),
            Protection("network", True, "no network; when on, the engine's bridge"),
            Protection("capabilities", True, "all dropped"),
            Protection("no_new_privs", True, "no-new-privileges"),
            Protection("user", False, f"user {_UID} outside as well, unless the engine maps users"),
            Protection("uid_per_session", False, "all containers share one user"),
            Protection("seccomp", False, "the engine's own filter, which lets more pass than ours"),
            Protection("landlock", False, "the engine sets none"),
            Protection("memory", True, "control group of the engine"),
            Protection("pids", True, "control group of the engine"),
            Protection("cpu", True, "control group of the engine"),
            Protection("disk", True, "tmpfs of that size; a mounted directory is watched"),
            Protection("kill", True, "the container; a single command by its mark"),
        )

    async def _sweep(self) -> None:
        """Remove containers of runtimes that were killed; those of living ones carry their process id."""
        form = '{{.ID}} {{.Label "' + _LABEL + '"}}'
        for line in (await self.engine("ps", "--filter", f"label={_LABEL}", "--format", form)).splitlines():
            container, _, pid = line.partition(" ")
            if pid.isdigit() and not _alive(pid):
                await self.engine("rm", "--force", container)

    async def engine(self, *arguments: str, timeout: float = _RUN_SECONDS) -> str:
        """Run the engine's program, and give what it says.

        Raises:
            SandboxError: It fails, in its own words, or takes too long.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                self.name,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{self.name} does not start: {error.strerror}") from None
        try:
            out, err = await asyncio.wait_for(process.communicate(), timeout)
        except (TimeoutError, asyncio.CancelledError) as error:
            process.kill()
            await process.wait()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise SandboxError(f"{self.name} {arguments[0]} took more than {timeout:g} s") from None
        if process.returncode:
            words = err.decode("utf-8", "replace").strip()[-300:]
            raise SandboxError(f"{self.name} backend error: {words or process.returncode}")
        return out.decode("utf-8", "replace").strip()

    async def open(self, plan: CellPlan) -> ContainerCell:
        """Start the container.

        Raises:
            SandboxError: The engine refuses.
        """
        name = f"botbook-box-{plan.name}-{secrets.token_hex(3)}"
        cell = ContainerCell(self, name, plan)
        self._cells.add(cell)
        try:
            await self.engine(*_run_arguments(name, plan))
        except BaseException:
            await cell.close()
            raise
        return cell

    def forget(self, cell: ContainerCell) -> None:
        """A cell is gone."""
        self._cells.discard(cell)

    async def close(self) -> None:
        """End every session."""
        await asyncio.gather(*(cell.close() for cell in list(self._cells)))


class DockerBackend(ContainerBackend):
    """By ``docker``."""

    name = "docker"


class PodmanBackend(ContainerBackend):
    """By ``podman``."""

    name = "podman"


def _alive(pid: str) -> bool:
    return os.path.exists(f"/proc/{pid}")


def _run_arguments(name: str, plan: CellPlan) -> list[str]:
    spec = plan.spec
    disk, owner = disk_mb(spec), f"uid={_UID},gid={_UID}"
    parts = ["run", "--detach", "--rm", "--name", name, "--label", f"{_LABEL}={os.getpid()}"]
    parts += ["--hostname", "box", "--user", f"{_UID}:{_UID}", "--cap-drop", "ALL"]
    parts += ["--security-opt", "no-new-privileges", "--pids-limit", str(spec.pids_limit + 4)]
    memory = f"{spec.memory_mb + spec.workspace_quota_mb}m"  # what lies in a tmpfs counts
    parts += ["--memory", memory, "--memory-swap", memory]
    parts += ["--cpus", f"{spec.cpus:g}", "--ulimit", "core=0", "--ulimit", "nofile=1024:1024"]
    parts += ["--network", "none"] if spec.network == "off" else []
    parts += ["--read-only"] if spec.read_only_rootfs else []
    if spec.workspace_quota_mb:
        parts += ["--ulimit", f"fsize={spec.workspace_quota_mb << 20}"]
    places = ["/tmp", layout.HOME]
    if not any(one.mount_path == spec.mount_path for one in plan.mounts):
        places.append(spec.mount_path)
    for place in places:
        inodes = max(1024, disk * 256)
        parts += ["--tmpfs", f"{place}:rw,exec,nosuid,nodev,size={disk}m,nr_inodes={inodes},{owner},mode=755"]
    for mount in plan.mounts:
        source, target = _quoted("src", mount.host_path), _quoted("dst", mount.mount_path)
        parts += ["--mount", f"type=bind,{source},{target}{'' if mount.mode == 'rw' else ',readonly'}"]
    return [*parts, "--", spec.image, "/bin/sh", "-c", _IDLE]


def _quoted(key: str, value: str) -> str:
    """A path with a comma or a quote must not become another option."""
    return '"' + f"{key}={value}".replace('"', '""') + '"'


class ContainerCell:
    """One session.

    Args:
        backend: The engine.
        name: Of the container.
        plan: What it is.
    """

    def __init__(self, backend: ContainerBackend, name: str, plan: CellPlan) -> None:
        self.id, self.ended = name, asyncio.Event()
        self.watched: tuple[str, ...] = ()
        self._backend, self._plan = backend, plan

    async def run(self, command: Command) -> ContainerChild:
        """Start a command.

        Raises:
            SandboxError: The session has ended, or the engine does not start.
        """
        if self.ended.is_set():
            raise SandboxError("the session has ended", code="BoxSessionNotFoundError")
        mark = secrets.token_hex(8)
        usual = {"HOME": layout.HOME, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        inside = {**usual, **command.env, "BOTBOOK_RUN": mark}
        handed = layout.handed(inside)
        flags = [part for name in handed for part in ("--env", name)]
        try:
            process = await asyncio.create_subprocess_exec(
                self._backend.name,
                "exec",
                "--interactive",
                *flags,
                self.id,
                "/bin/sh",
                "-c",
                layout.BECOME,
                command.cwd,
                *command.argv,
                stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, **handed},
                start_new_session=True,
            )
        except OSError as error:
            raise SandboxError(f"{self._backend.name}: {error.strerror}", code="BoxValidationError") from None
        return ContainerChild(self, process, mark)

    async def end_run(self, mark: str, number: int) -> None:
        """Send a signal to whatever carries a mark."""
        if not self.ended.is_set():
            with contextlib.suppress(SandboxError):
                await self._backend.engine("exec", self.id, "/bin/sh", "-c", _END, mark, str(number))

    async def out_of_memory(self) -> bool:
        """Whether the engine has seen a kill for want of memory."""
        with contextlib.suppress(SandboxError, ValueError):
            said = await self._backend.engine("inspect", "--format", "{{json .State.OOMKilled}}", self.id)
            return bool(json.loads(said))
        return False

    async def mount(self, mount: Mount) -> None:
        """A container takes no more mounts.

        Raises:
            SandboxError: Always.
        """
        raise SandboxError(
            f"a running container cannot be shown {mount.mount_path}",
            code="BoxSessionConflictError",
            hint="Delete the session and make it with all its mounts.",
        )

    async def close(self) -> None:
        """Remove the container. Never raises."""
        if not self.ended.is_set():
            self.ended.set()
            with contextlib.suppress(SandboxError):
                await self._backend.engine("rm", "--force", self.id)
        self._backend.forget(self)


class ContainerChild:
    """One command; see `base.Child`."""

    def __init__(self, cell: ContainerCell, process: asyncio.subprocess.Process, mark: str) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self.out_of_memory = False
        self._cell, self._process, self._mark = cell, process, mark
        self._asking: asyncio.Task[None] | None = None

    async def wait(self) -> int:
        """Its exit code."""
        code = await self._process.wait()
        if code == 128 + signal.SIGKILL:
            self.out_of_memory = await self._cell.out_of_memory()
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to it and what it started."""
        self._asking = asyncio.ensure_future(self._cell.end_run(self._mark, signal.SIGTERM))

    async def kill(self) -> None:
        """End it and what it started, as far as that kept the mark; the session's end takes the rest."""
        await self._cell.end_run(self._mark, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def close(self) -> None:
        """Let go of its input."""
        if self.stdin is not None:
            self.stdin.close()
