"""What the backends share that enclose each command by a helper program: a session is a directory.

Its commands share their files; each has processes and an empty network of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import shutil
import signal
import stat
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from botbook._errors import SandboxError
from botbook._local.backends import layout, pipes
from botbook._local.backends.base import CellPlan, Child, Command, Protection, Report, disk_mb
from botbook._local.backends.jail import cgroups, measure
from botbook.wire.box import Mount, Spec

__all__ = [
    "LIMITER",
    "UID",
    "DirectoryBackend",
    "DirectoryCell",
    "Memory",
    "can_reach",
    "is_long",
    "limits_of",
]

#: Who the sandbox's user is inside.
UID: Final = 1000
_FIRST_UID: Final = 1_990_000_000
_UIDS: Final = 9_000_000
_OWN_MB: Final = 16
_LONG: Final = 100_000
_MEASURE: Final = 0.2
#: Sets the limits inside, where they count for the namespace's own user, and becomes the command.
LIMITER: Final = (
    "for one in $LIMITS; do ulimit ${one%=*} ${one#*=}; done; unset LIMITS; "
    'mkdir -p "$0"; cd "$0" && exec "$@"'
)


class DirectoryBackend(ABC):
    """Sessions as directories.

    Attributes:
        program: The helper's name.
    """

    name = ""
    program = ""

    def __init__(self) -> None:
        self._base = ""
        self._places: dict[str, str] = {}
        self._cells: set[DirectoryCell] = set()
        self._turn = 0
        self._preparing = asyncio.Lock()

    @property
    def prefix(self) -> str:
        """How the names of its directories begin."""
        return f"botbook-{self.program}-"

    @abstractmethod
    def make_cell(self, plan: CellPlan, root: str, turn: int) -> DirectoryCell:
        """A session of this backend's own kind."""

    @abstractmethod
    def protections(self, groups: Sequence[str]) -> tuple[Protection, ...]:
        """What holds; `groups` are the control groups' controllers that work here."""

    async def probe(self) -> Report:
        """Run a command in it."""
        if not shutil.which(self.program):
            reason = f"there is no {self.program} program, so it was not tried here"
            return Report(backend=self.name, available=False, reason=reason)
        try:
            cell = await self.open(CellPlan(name="probe", spec=Spec(session_id="probe")))
            try:
                child = await cell.run(Command(argv=("/bin/true",), cwd="/"))
                words = (await child.stderr.read()).decode("utf-8", "replace").strip()
                code = await child.wait()
                child.close()
            finally:
                await cell.close()
        except (SandboxError, OSError) as error:
            return Report(backend=self.name, available=False, reason=str(error))
        if code:
            reason = words[-300:] or f"{self.program} ends with {code}"
            return Report(backend=self.name, available=False, reason=reason)
        return Report(backend=self.name, available=True, protections=self.protections(cell.controllers))

    async def open(self, plan: CellPlan) -> DirectoryCell:
        """Make the session's directories.

        Raises:
            SandboxError: A mount cannot be shown.
        """
        async with self._preparing:
            if not self._base:
                self._base, self._places = await asyncio.to_thread(_prepare, self.prefix)
        self._turn += 1
        cell = await asyncio.to_thread(
            self.make_cell, plan, f"{self._base}/{plan.name}-{self._turn}", self._turn
        )
        self._cells.add(cell)
        cell.forget = self._cells.discard
        return cell

    async def close(self) -> None:
        """End every session."""
        await asyncio.gather(*(cell.close() for cell in list(self._cells)))
        if self._base:
            await asyncio.to_thread(shutil.rmtree, self._base, True)
            self._base = ""


def _prepare(prefix: str) -> tuple[str, dict[str, str]]:
    sweep(tempfile.gettempdir(), prefix)
    base = tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-")
    os.chmod(base, 0o711)
    places = cgroups.parents()
    cgroups.sweep(places, prefix)
    return base, places


def sweep(place: str, prefix: str) -> None:
    """Remove what a runtime left that was killed."""
    for name in os.listdir(place):
        pid = name.removeprefix(prefix).partition("-")[0]
        if name.startswith(prefix) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(f"{place}/{name}", ignore_errors=True)


class DirectoryCell(ABC):
    """One session.

    Args:
        plan: What it is to be.
        root: Its own directory.
        places: Where control groups can be made.
        turn: Which session this is.
        prefix: How the names of its control groups begin.
    """

    def __init__(self, plan: CellPlan, root: str, places: dict[str, str], turn: int, *, prefix: str) -> None:
        self.id = f"{prefix.removeprefix('botbook-')}{plan.name}"
        self.ended = asyncio.Event()
        self.watched = (root,)
        self.uid = _FIRST_UID + secrets.randbelow(_UIDS) if os.geteuid() == 0 else None
        self.forget: Callable[[Any], None] = lambda _: None
        self._plan, self._root = plan, root
        self._mounts = [_reachable(one, self.uid) for one in plan.mounts]
        self._group = cgroups.Group(f"{prefix}{os.getpid()}-{turn}", places)
        spec = plan.spec
        self.limit_bytes = (spec.memory_mb + _OWN_MB) << 20
        self._group.make({"memory_bytes": self.limit_bytes, "pids": spec.pids_limit + 4, "cpus": spec.cpus})
        self.controllers = self._group.controllers
        self._cpu_set = [] if "cpu" in self.controllers else layout.cpu_set(spec.cpus, turn)
        self._children: set[Any] = set()
        for name in ("", "work", "tmp", "home"):
            self._make_directory(f"{self._root}/{name}")

    def _make_directory(self, place: str) -> None:
        os.makedirs(place, mode=0o700, exist_ok=True)
        if self.uid is not None:
            os.chown(place, self.uid, self.uid)

    @abstractmethod
    async def run(self, command: Command) -> Child:
        """Start a command.

        Raises:
            SandboxError: The session has ended, or the helper does not start.
        """

    def _check(self) -> None:
        if self.ended.is_set():
            raise SandboxError("the session has ended", code="BoxSessionNotFoundError")

    async def _start(
        self, argv: Sequence[str], streams: pipes.Streams, *, pass_fds: Sequence[int], env: Mapping[str, str]
    ) -> asyncio.subprocess.Process:
        """Start the helper, as the session's user."""
        who = {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}
        stdin, stdout, stderr = streams.theirs
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                env={"PATH": os.environ.get("PATH", os.defpath), **env},
                start_new_session=True,
                cwd="/",
                **who,  # type: ignore[arg-type]
            )
        except OSError as error:
            streams.drop()
            raise SandboxError(f"{argv[0]} does not start: {error.strerror}") from None
        finally:
            streams.started()

    def _hold(self, pid: int) -> None:
        """Put a process under the session's limits before it starts."""
        with contextlib.suppress(OSError):
            self._group.join(pid)
        if self._cpu_set and pid:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, self._cpu_set)

    def _memory(self, inner: Callable[[], int], kill: Callable[[], Coroutine[Any, Any, None]]) -> Memory:
        most = 0 if "memory" in self.controllers else self.limit_bytes
        return Memory(inner, kill, most=most, oom_file=self._group.oom_file())

    def _binds(self) -> list[dict[str, Any]]:
        """Directories of the machine that are shown, as far as the sandbox's user gets there."""
        binds = [*layout.system()[0], *layout.interpreter()]
        binds += layout.resolver() if self._plan.spec.network == "on" else []
        return [one for one in binds if can_reach(one["source"], self.uid)]

    def _writable(self) -> list[tuple[str, str]]:
        """The session's own directories, and where they stand inside."""
        spec = self._plan.spec
        own = [(f"{self._root}/tmp", "/tmp"), (f"{self._root}/home", layout.HOME)]
        if not any(one.mount_path == spec.mount_path for one in self._mounts):
            own.append((f"{self._root}/work", spec.mount_path))
        return own

    async def mount(self, mount: Mount) -> None:
        """Show one more directory to the commands that come.

        Raises:
            SandboxError: It cannot be shown.
        """
        self._mounts.append(await asyncio.to_thread(_reachable, mount, self.uid))

    async def close(self) -> None:
        """End what runs and forget the files. Never raises."""
        self.ended.set()
        await asyncio.gather(*(child.kill() for child in self._children))
        await asyncio.to_thread(self._remove)
        self.forget(self)

    def _remove(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)
        for _ in range(50):
            if self._group.remove():
                return
            time.sleep(0.02)


class Memory:
    """Sees when a command takes too much.

    Args:
        inner: Gives the process whose tree is measured, 0 for none.
        kill: Ends it.
        most: What it may take, in bytes; 0 where a control group holds it.
        oom_file: Counts the kills of that group, or "".
    """

    def __init__(
        self,
        inner: Callable[[], int],
        kill: Callable[[], Coroutine[Any, Any, None]],
        *,
        most: int,
        oom_file: str,
    ) -> None:
        self._over = False
        self._oom_file, self._kills = oom_file, _oom_kills(oom_file)
        self._watch = asyncio.ensure_future(self._look(inner, kill, most)) if most else None

    async def _look(
        self, inner: Callable[[], int], kill: Callable[[], Coroutine[Any, Any, None]], most: int
    ) -> None:
        for _ in itertools.count():
            await asyncio.sleep(_MEASURE)
            if (pid := inner()) and await asyncio.to_thread(measure.tree_bytes, pid) > most:
                self._over = True
                await kill()

    def ran_out(self, code: int) -> bool:
        """Whether a command that ended with this exit code took too much."""
        killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)
        return self._over or (killed and _oom_kills(self._oom_file) > self._kills)

    def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()


def limits_of(spec: Spec, controllers: Sequence[str], limit_bytes: int) -> str:
    """What `LIMITER` sets."""
    limits = {"-c": 0, "-n": 1024, "-f": disk_mb(spec) << 11}
    if "memory" not in controllers:
        limits["-d"] = limit_bytes >> 10
    if "pids" not in controllers:
        limits["-p"] = spec.pids_limit + 4
    return " ".join(f"{name}={value}" for name, value in limits.items())


def is_long(command: Command) -> bool:
    """Whether the shell's text is longer than one argument may be."""
    return command.argv[0] == "/bin/sh" and len(command.argv[-1].encode("utf-8", "surrogateescape")) >= _LONG


def can_reach(path: str, uid: int | None) -> bool:
    """Whether the sandbox's user gets to a path: from root's home it does not."""
    if uid is None:
        return os.access(path, os.R_OK)
    parts = [path, *itertools.takewhile(lambda one: one != "/", _above(path))]
    return all(os.stat(one).st_mode & stat.S_IXOTH for one in parts if os.path.isdir(one))


def _above(path: str) -> list[str]:
    places = []
    while path != "/":
        path = os.path.dirname(path)
        places.append(path)
    return places


def _reachable(mount: Mount, uid: int | None) -> Mount:
    if not os.path.exists(mount.host_path):
        raise SandboxError(f"host_path {mount.host_path} does not exist", code="BoxValidationError")
    mode = os.stat(mount.host_path).st_mode
    writable = mount.mode != "rw" or mode & 0o007 == 0o007
    if uid is not None and not (can_reach(mount.host_path, uid) and writable):
        raise SandboxError(
            f"host_path {mount.host_path} cannot be used by a sandbox's user under this backend",
            code="BoxValidationError",
            hint="Run as the directory's owner, or make it open to others.",
        )
    return mount


def _oom_kills(path: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0
