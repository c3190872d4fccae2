"""The bubblewrap backend: one ``bwrap`` a command, over directories that the session keeps.

It serves where the native one is refused, for instance where only ``bwrap`` may make user namespaces.
Commands of a session share their files; each has its own processes and its own empty network.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Sequence
from typing import Any, Final

from botbook._errors import SandboxError
from botbook._local.backends import layout, pipes
from botbook._local.backends.base import CellPlan, Command, Protection, Report, disk_mb
from botbook._local.backends.jail import cgroups, filters, measure
from botbook.wire.box import Mount, Spec

__all__ = ["BubblewrapBackend"]

_PREFIX: Final = "botbook-bwrap-"
_UID: Final = 1000
_FIRST_UID: Final = 1_990_000_000
_UIDS: Final = 9_000_000
_OWN_MB: Final = 16
_LONG: Final = 100_000
_MEASURE: Final = 0.2
#: Sets the limits inside, where they count for the namespace's own user, and becomes the command.
_LIMITER: Final = (
    "for one in $LIMITS; do ulimit ${one%=*} ${one#*=}; done; unset LIMITS; "
    'mkdir -p "$0"; cd "$0" && exec "$@"'
)


class BubblewrapBackend:
    """Sessions as directories, commands by ``bwrap``."""

    name = "bubblewrap"

    def __init__(self) -> None:
        self._base = ""
        self._places: dict[str, str] = {}
        self._cells: set[BubblewrapCell] = set()
        self._turn = 0
        self._preparing = asyncio.Lock()

    async def probe(self) -> Report:
        """Run a command in it."""
        if not shutil.which("bwrap"):
            return Report(backend=self.name, available=False, reason="there is no bwrap program")
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
            return Report(backend=self.name, available=False, reason=words or f"bwrap ends with {code}")
        return Report(backend=self.name, available=True, protections=self._protections(cell.controllers))

    def _protections(self, groups: Sequence[str]) -> tuple[Protection, ...]:
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

    async def open(self, plan: CellPlan) -> BubblewrapCell:
        """Make the session's directories.

        Raises:
            SandboxError: A mount cannot be shown.
        """
        async with self._preparing:
            if not self._base:
                self._base, self._places = await asyncio.to_thread(_prepare)
        self._turn += 1
        cell = await asyncio.to_thread(
            BubblewrapCell, plan, f"{self._base}/{plan.name}-{self._turn}", self._places, self._turn
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


def _prepare() -> tuple[str, dict[str, str]]:
    _sweep(tempfile.gettempdir())
    base = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-")
    os.chmod(base, 0o711)
    places = cgroups.parents()
    cgroups.sweep(places, _PREFIX)
    return base, places


def _sweep(place: str) -> None:
    """Remove what a runtime left that was killed."""
    for name in os.listdir(place):
        pid = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(f"{place}/{name}", ignore_errors=True)


class BubblewrapCell:
    """One session.

    Args:
        plan: What it is to be.
        root: Its own directory.
        places: Where control groups can be made.
        turn: Which session this is.
    """

    def __init__(self, plan: CellPlan, root: str, places: dict[str, str], turn: int) -> None:
        self.id = f"bwrap-{plan.name}"
        self.ended = asyncio.Event()
        self.watched = (root,)
        self.uid = _FIRST_UID + secrets.randbelow(_UIDS) if os.geteuid() == 0 else None
        self.forget: Any = lambda _: None
        self._plan, self._root = plan, root
        self._mounts = [_reachable(one, self.uid) for one in plan.mounts]
        self._group = cgroups.Group(f"{_PREFIX}{os.getpid()}-{turn}", places)
        spec = plan.spec
        self.limit_bytes = (spec.memory_mb + _OWN_MB) << 20
        self._group.make({"memory_bytes": self.limit_bytes, "pids": spec.pids_limit + 4, "cpus": spec.cpus})
        self.controllers = self._group.controllers
        self._cpu_set = [] if "cpu" in self.controllers else layout.cpu_set(spec.cpus, turn)
        self._children: set[BubblewrapChild] = set()
        self._make_directories()

    def _make_directories(self) -> None:
        for name in ("", "work", "tmp", "home"):
            place = f"{self._root}/{name}"
            os.makedirs(place, mode=0o700, exist_ok=True)
            if self.uid is not None:
                os.chown(place, self.uid, self.uid)

    async def run(self, command: Command) -> BubblewrapChild:
        """Start a command.

        Raises:
            SandboxError: The session has ended, or bwrap does not start.
        """
        if self.ended.is_set():
            raise SandboxError("the session has ended", code="BoxSessionNotFoundError")
        data = _Data()
        ends = [os.pipe() for _ in range(5)]
        (info_r, info_w), (gone_r, gone_w), (block_r, block_w), (out_r, out_w), (err_r, err_w) = ends
        stdin_r, stdin_w = os.pipe() if command.stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        if self.uid is not None:  # or /dev/stdout could not be opened inside
            for fd in (out_w, err_w, *([stdin_r] if command.stdin else [])):
                os.fchown(fd, self.uid, self.uid)
        arguments = self._arguments(command, data)
        fds = {"--info-fd": info_w, "--sync-fd": gone_w, "--block-fd": block_r}
        if program := filters.seccomp_program(os.uname().machine):
            fds["--seccomp"] = data.add(program)
        fds["--args"] = data.add("\0".join(arguments).encode("utf-8", "surrogateescape"))
        flags = [part for name, fd in fds.items() for part in (name, str(fd))]
        inside = ["/bin/sh", "-c", _LIMITER, command.cwd, *self._argv(command)]
        who = {} if self.uid is None else {"user": self.uid, "group": self.uid, "extra_groups": []}
        try:
            process = await asyncio.create_subprocess_exec(
                "bwrap",
                *flags,
                *inside,
                stdin=stdin_r,
                stdout=out_w,
                stderr=err_w,
                pass_fds=[*fds.values(), *data.fds],
                env={"PATH": os.environ.get("PATH", os.defpath)},
                start_new_session=True,
                cwd="/",
                **who,  # type: ignore[arg-type]
            )
        except OSError as error:
            for fd in (info_r, gone_r, block_w, out_r, err_r, *([stdin_w] if command.stdin else [])):
                os.close(fd)
            raise SandboxError(f"bwrap does not start: {error.strerror}") from None
        finally:
            for fd in (info_w, gone_w, block_r, stdin_r, out_w, err_w, *data.fds):
                os.close(fd)
        inner = await asyncio.to_thread(_inner_pid, info_r)
        self._hold(inner)
        os.close(block_w)
        watch = 0 if "memory" in self.controllers else self.limit_bytes
        child = BubblewrapChild(process, inner, gone_r, watch=watch, oom_file=self._group.oom_file())
        await child.connect(stdin_w, out_r, err_r)
        self._children.add(child)
        return child

    def _hold(self, pid: int) -> None:
        """Put the sandbox under its limits before it starts."""
        with contextlib.suppress(OSError):
            self._group.join(pid)
        if self._cpu_set and pid:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(pid, self._cpu_set)

    @staticmethod
    def _argv(command: Command) -> tuple[str, ...]:
        return ("/bin/sh", "-l", "/run/script") if _is_long(command) else command.argv

    def _arguments(self, command: Command, data: _Data) -> list[str]:
        spec = self._plan.spec
        binds, links = layout.system()
        binds = [*binds, *layout.interpreter(), *(layout.resolver() if spec.network == "on" else [])]
        binds = [one for one in binds if _can_reach(one["source"], self.uid)]
        parts = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
        parts += ["--hostname", "box", "--cap-drop", "ALL", "--uid", str(_UID), "--gid", str(_UID)]
        parts += ["--share-net"] if spec.network == "on" else []
        for one in binds:
            parts += ["--ro-bind", one["source"], one["target"]]
        for target, source in links.items():
            parts += ["--symlink", source, target]
        parts += ["--proc", "/proc", "--dev", "/dev", "--size", str(64 << 20), "--tmpfs", "/dev/shm"]
        parts += ["--size", str(1 << 20), "--tmpfs", "/run", "--dir", "/sys"]
        for target, text in layout.etc_files().items():
            parts += ["--ro-bind-data", str(data.add(text.encode())), target]
        if _is_long(command):
            script = command.argv[-1].encode("utf-8", "surrogateescape")
            parts += ["--ro-bind-data", str(data.add(script)), "/run/script"]
        for name, target in (("tmp", "/tmp"), ("home", layout.HOME)):
            parts += ["--bind", f"{self._root}/{name}", target]
        if not any(one.mount_path == spec.mount_path for one in self._mounts):
            parts += ["--bind", f"{self._root}/work", spec.mount_path]
        for mount in self._mounts:
            parts += ["--bind" if mount.mode == "rw" else "--ro-bind", mount.host_path, mount.mount_path]
        parts += ["--remount-ro", "/"] if spec.read_only_rootfs else []
        parts += ["--clearenv"]
        for key, value in {**layout.environment(binds), **command.env, "LIMITS": self._limits()}.items():
            parts += ["--setenv", key, value]
        return parts

    def _limits(self) -> str:
        spec = self._plan.spec
        limits = {"-c": 0, "-n": 1024, "-f": disk_mb(spec) << 11}
        if "memory" not in self.controllers:
            limits["-d"] = self.limit_bytes >> 10
        if "pids" not in self.controllers:
            limits["-p"] = spec.pids_limit + 4
        return " ".join(f"{name}={value}" for name, value in limits.items())

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


class BubblewrapChild:
    """One command; see `base.Child`."""

    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(
        self, process: asyncio.subprocess.Process, inner: int, gone: int, *, watch: int, oom_file: str
    ) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self.out_of_memory = False
        self._transports: list[asyncio.BaseTransport] = []
        self._process, self._inner, self._gone_fd = process, inner, gone
        self._gone = asyncio.Event()
        self._oom_file, self._kills = oom_file, _oom_kills(oom_file)
        asyncio.get_running_loop().add_reader(gone, self._on_gone)
        self._watch = asyncio.ensure_future(self._watch_memory(watch)) if watch else None

    async def connect(self, stdin: int, stdout: int, stderr: int) -> None:
        """Make streams of the pipes."""
        self.stdout, out = await pipes.reader_of(stdout)
        self.stderr, err = await pipes.reader_of(stderr)
        self._transports += [out, err]
        if stdin >= 0:
            self.stdin = await pipes.writer_of(stdin)

    def _on_gone(self) -> None:
        asyncio.get_running_loop().remove_reader(self._gone_fd)
        os.close(self._gone_fd)
        self._gone.set()

    async def _watch_memory(self, most: int) -> None:
        for _ in itertools.count():
            await asyncio.sleep(_MEASURE)
            if await asyncio.to_thread(measure.tree_bytes, self._inner) > most:
                self.out_of_memory = True
                await self.kill()

    async def wait(self) -> int:
        """Its exit code."""
        code = await self._process.wait()
        if code in (-9, 137) and _oom_kills(self._oom_file) > self._kills:
            self.out_of_memory = True
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
        for transport in self._transports:
            transport.close()
        if self.stdin is not None:
            self.stdin.close()
        if self._watch is not None:
            self._watch.cancel()


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


def _is_long(command: Command) -> bool:
    """Whether the shell's text is longer than one argument may be."""
    return command.argv[0] == "/bin/sh" and len(command.argv[-1].encode("utf-8", "surrogateescape")) >= _LONG


def _inner_pid(fd: int) -> int:
    """The sandbox's first process, as bwrap tells it; 0 if bwrap failed, which then says why itself."""
    with open(fd, encoding="utf-8") as file:
        text = ""
        while "}" not in text and (more := file.read(1)):
            text += more
    return int(json.loads(text)["child-pid"]) if text else 0


def _can_reach(path: str, uid: int | None) -> bool:
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
    if uid is not None and not (_can_reach(mount.host_path, uid) and writable):
        raise SandboxError(
            f"host_path {mount.host_path} cannot be used by a sandbox's user under bubblewrap",
            code="BoxValidationError",
            hint="Run as the directory's owner, or make it open to others.",
        )
    return mount


def _oom_kills(path: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0
