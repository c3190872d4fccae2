"""The native backend: Linux namespaces, Landlock, seccomp, control groups; no helper program.

The work is done in `jail`, a launcher process of its own. What holds is tried at start and told by `probe`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from botbook._errors import SandboxError
from botbook._local.backends import pipes
from botbook._local.backends.base import CellPlan, Command, Protection, Report, disk_mb
from botbook._local.backends.jail import channel, filters
from botbook.wire.box import Mount, Spec

__all__ = ["NativeBackend"]

_BOOT: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from jail.keeper import main; main()"
_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_ETC: Final = (
    "alternatives",
    "ca-certificates",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "pki/ca-trust",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
)
_PREFIX_PARTS: Final = ("bin", "include", "lib", "lib64", "pyvenv.cfg", "share", "ssl")
_HOME: Final = "/home/box"
#: Places that can always be written, besides the workspace.
_WRITABLE: Final = ("/tmp", "/var/tmp", "/run", _HOME, "/dev/shm")
_OPEN_SECONDS: Final = 10.0
_SHM_MB: Final = 64
#: What the session's own few processes need, besides what the command may take.
_OWN_MB: Final = 16
#: Longest argument that goes through as it is; the kernel's limit is 128 KiB.
_LONG: Final = 100_000
#: One foreign user id for each session, far from those of people, services and container engines.
_FIRST_UID: Final = 1_900_000_000
_UIDS: Final = 90_000_000


class NativeBackend:
    """Sessions in namespaces of their own.

    Args:
        python: Whether the interpreter that runs this, and its packages, can be read inside.
    """

    name = "native"

    def __init__(self, *, python: bool = True) -> None:
        self._python = python
        self._keeper: subprocess.Popen[bytes] | None = None
        self._sock: socket.socket | None = None
        self._facts: dict[str, Any] = {}
        self._base = ""
        self._cells: set[NativeCell] = set()
        self._turn = 0
        self._starting = asyncio.Lock()

    # ------------------------------------------------------------ probing

    async def probe(self) -> Report:
        """Run a command in it."""
        if sys.platform != "linux":
            return Report(backend=self.name, available=False, reason="needs Linux")
        plan = CellPlan(name=f"probe-{secrets.token_hex(3)}", spec=Spec(session_id="probe"))
        try:
            cell = await self.open(plan)
            try:
                child = await cell.run(Command(argv=("/bin/sh", "-c", "test -e /proc/self")))
                code = await child.wait()
                child.close()
            finally:
                await cell.close()
        except (SandboxError, OSError) as error:
            return Report(backend=self.name, available=False, reason=_reason(str(error)))
        return Report(backend=self.name, available=True, protections=self._protections(proc=code == 0))

    def _protections(self, *, proc: bool) -> tuple[Protection, ...]:
        groups, root = self._facts["controllers"], os.geteuid() == 0
        abi, version = self._facts["landlock"], self._facts["version"]
        filtered = bool(filters.seccomp_program(os.uname().machine))
        grouped = f"control group {version}"
        return (
            Protection("files", True, "mount namespace"),
            Protection("processes", True, "pid namespace" if proc else "pid namespace, no /proc inside"),
            Protection("network", True, "network namespace; when on, it is the machine's own network"),
            Protection("capabilities", True, "every set empty and locked"),
            Protection("no_new_privs", True, "no_new_privs and nosuid mounts"),
            Protection("user", True, "user namespace" if root else "user namespace over your own user"),
            Protection(
                "uid_per_session",
                root,
                "one foreign user id each" if root else "needs root: all share your user id",
            ),
            Protection("seccomp", filtered, "filter" if filtered else f"no filter for {os.uname().machine}"),
            Protection("landlock", abi > 0, f"version {abi}" if abi else "this kernel has none"),
            Protection(
                "memory", True, grouped if "memory" in groups else "a limit a process, a watch on all"
            ),
            Protection("pids", True, grouped if "pids" in groups else "a limit on the user's processes"),
            Protection("cpu", True, grouped if "cpu" in groups else "held to so many processors"),
            Protection("disk", True, "tmpfs of that size; a mounted directory is watched"),
            Protection("kill", True, "pid namespace, and each parent's death"),
        )

    # ------------------------------------------------------------ cells

    async def open(self, plan: CellPlan) -> NativeCell:
        """Make a session's namespaces and file system.

        Raises:
            SandboxError: The kernel refuses, or a mount cannot be shown.
        """
        await self._start()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        wanted = self._plan(plan)
        try:
            self.ask({"op": "open", **wanted}, [theirs.fileno()])
        finally:
            theirs.close()
        cell = NativeCell(plan.name, ours, wanted, self)
        try:
            await asyncio.wait_for(cell.ready(), _OPEN_SECONDS)
        except (SandboxError, TimeoutError, asyncio.CancelledError) as error:
            await cell.close()
            if isinstance(error, TimeoutError):
                raise SandboxError(f"the sandbox was not ready in {_OPEN_SECONDS:.0f} s") from None
            raise
        self._cells.add(cell)
        return cell

    def forget(self, cell: NativeCell) -> None:
        """A cell is gone."""
        self._cells.discard(cell)

    def _plan(self, plan: CellPlan) -> dict[str, Any]:
        spec, groups = plan.spec, self._facts["controllers"]
        root = os.geteuid() == 0
        most = (spec.memory_mb + spec.workspace_quota_mb + _OWN_MB) << 20
        self._turn += 1
        own_workspace = not any(mount.mount_path == spec.mount_path for mount in plan.mounts)
        system, links = _system()
        return {
            "name": plan.name,
            "base": self._base,
            "uid": _FIRST_UID + secrets.randbelow(_UIDS) if root else None,
            "network": spec.network == "on",
            "read_only": spec.read_only_rootfs,
            "disk_mb": disk_mb(spec),
            "shm_mb": min(_SHM_MB, spec.memory_mb // 4),
            "workspace": spec.mount_path if own_workspace else "",
            "binds": [
                *system,
                *(_interpreter() if self._python else []),
                *(_resolver() if spec.network == "on" else []),
                *(_bind(mount) for mount in plan.mounts if mount.mode != "none"),
            ],
            "links": links,
            "files": _etc_files(),
            "writable": [
                *_WRITABLE,
                spec.mount_path if own_workspace else "",
                *(mount.mount_path for mount in plan.mounts if mount.mode == "rw"),
            ],
            "limits": {"memory_bytes": most, "pids": spec.pids_limit + 4, "cpus": spec.cpus},
            "rlimits": _rlimits(spec, groups),
            "cpu_set": [] if "cpu" in groups else _cpu_set(spec.cpus, self._turn),
            "watch_bytes": 0 if "memory" in groups else most,
        }

    # ------------------------------------------------------------ the keeper

    async def _start(self) -> None:
        async with self._starting:
            if self._keeper is not None and self._keeper.poll() is None:
                return
            self._release()
            self._base = await asyncio.to_thread(_make_base)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            with theirs:
                self._keeper = await asyncio.to_thread(_launch, theirs.fileno())
            self._sock = ours
            self.ask({"op": "hello", "base": self._base}, [])
            try:
                answer = await asyncio.wait_for(_receive(ours), _OPEN_SECONDS)
            except TimeoutError:
                answer = None
            if answer is None:
                raise SandboxError("the launcher of the sandbox does not start")
            self._facts = answer[0]

    def ask(self, body: dict[str, Any], fds: list[int]) -> None:
        """Tell the launcher something."""
        assert self._sock is not None
        try:
            channel.send(self._sock, body, fds)
        except OSError as error:
            raise SandboxError(f"the launcher of the sandbox is gone: {error}") from None

    async def close(self) -> None:
        """End every session and the launcher. Never raises."""
        await asyncio.gather(*(cell.close() for cell in list(self._cells)))
        self._release()
        if (keeper := self._keeper) is not None:
            self._keeper = None
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(keeper.wait, 3.0)
                return
            keeper.kill()
            await asyncio.to_thread(keeper.wait)

    def _release(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class NativeCell:
    """One session.

    Args:
        name: As the runtime calls it.
        sock: To the session's first process.
        plan: What it was asked to be.
        backend: Whose it is.
    """

    def __init__(self, name: str, sock: socket.socket, plan: dict[str, Any], backend: NativeBackend) -> None:
        self.id = f"native-{name}"
        self.ended = asyncio.Event()
        self.watched: tuple[str, ...] = ()  # a tmpfs of that size
        self._sock, self._plan, self._backend = sock, plan, backend
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._asking = asyncio.Lock()
        self._oom_file = ""
        self._kills = 0
        self._count = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    async def ready(self) -> None:
        """Wait until it stands.

        Raises:
            SandboxError: It does not.
        """
        said = await self._answers.get()
        if "error" in said:
            raise SandboxError(said["error"], hint=_reason(said["error"]))
        self._oom_file = said["oom_file"]

    def _readable(self) -> None:
        try:
            message = channel.receive(self._sock)
        except BlockingIOError:
            return
        if message is None:
            self._end()
        else:
            self._answers.put_nowait(message[0])

    def _end(self) -> None:
        if not self.ended.is_set():
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self.ended.set()
            self._answers.put_nowait({"error": "the sandbox session has ended"})
            self._backend.forget(self)

    def _tell(self, body: dict[str, Any], fds: Sequence[int] = ()) -> None:
        try:
            channel.send(self._sock, body, list(fds))
        except OSError:
            raise SandboxError("the sandbox session has ended", code="BoxSessionNotFoundError") from None

    async def run(self, command: Command) -> NativeChild:
        """Start a command in a nest of its own.

        Raises:
            SandboxError: The session has ended.
        """
        self._count += 1
        argv, script = _with_script(command.argv)
        body = {
            "op": "run",
            "id": self._count,
            "argv": argv,
            "env": {**_environment(self._plan), **command.env},
            "cwd": command.cwd,
        }
        stdin_r, stdin_w = os.pipe() if command.stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        (out_r, out_w), (err_r, err_w), (status_r, status_w) = os.pipe(), os.pipe(), os.pipe()
        theirs = [stdin_r, out_w, err_w, status_w, *([script] if script >= 0 else [])]
        if (uid := self._plan["uid"]) is not None:  # or /dev/stdout could not be opened inside
            for fd in (*theirs[:3][not command.stdin :], *theirs[4:]):
                os.fchown(fd, uid, uid)
        try:
            self._tell(body, theirs)
        except SandboxError:
            for fd in (out_r, err_r, status_r, *([stdin_w] if stdin_w >= 0 else [])):
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        child = NativeChild(self, self._count, status_r)
        await child.connect(stdin_w, out_r, err_r)
        return child

    def signal(self, number: int, *, soft: bool) -> None:
        """End a nest, or ask its command to end."""
        with contextlib.suppress(SandboxError):
            self._tell({"op": "signal", "id": number, "soft": soft})

    def memory_ran_out(self) -> bool:
        """Whether the kernel has killed for want of memory since the last question."""
        count = _oom_kills(self._oom_file)
        more, self._kills = count > self._kills, count
        return more

    async def mount(self, mount: Mount) -> None:
        """Show one more directory to the commands that come.

        Raises:
            SandboxError: It cannot be shown.
        """
        bind = {**_bind(mount), "there": True, "dir": _is_dir(mount)}
        fds = [] if self._plan["uid"] is None else [await self._reach(bind)]
        try:
            async with self._asking:
                self._tell({"op": "mount", "bind": bind}, fds)
                said = await asyncio.wait_for(self._answers.get(), _OPEN_SECONDS)
        finally:
            for fd in fds:
                os.close(fd)
        if "error" in said:
            raise SandboxError(said["error"], code="BoxValidationError")

    async def _reach(self, bind: dict[str, Any]) -> int:
        """The directory as the launcher, which is root, sees it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with ours:
            with theirs:
                self._backend.ask({"op": "tree", "bind": bind, "uid": self._plan["uid"]}, [theirs.fileno()])
            message = await asyncio.wait_for(_receive(ours), _OPEN_SECONDS)
        if message is None or "error" in message[0]:
            raise SandboxError((message or ({"error": "no answer"},))[0]["error"], code="BoxValidationError")
        return message[1][0]

    async def close(self) -> None:
        """End all that runs in it and forget its files. Never raises."""
        if not self.ended.is_set():
            self._sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), _OPEN_SECONDS)
        self._end()


class NativeChild:
    """One command; see `base.Child`."""

    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, cell: NativeCell, number: int, status: int) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self.out_of_memory = False
        self._cell, self._number, self._status = cell, number, status
        self._transports: list[asyncio.BaseTransport] = []
        self._loop = asyncio.get_running_loop()
        self._code: asyncio.Future[int] = self._loop.create_future()
        self._gone = asyncio.Event()
        self._said = b""
        os.set_blocking(status, False)
        self._loop.add_reader(status, self._on_status)

    async def connect(self, stdin: int, stdout: int, stderr: int) -> None:
        """Make streams of the pipes."""
        self.stdout, out = await pipes.reader_of(stdout)
        self.stderr, err = await pipes.reader_of(stderr)
        self._transports += [out, err]
        if stdin >= 0:
            self.stdin = await pipes.writer_of(stdin)

    def _on_status(self) -> None:
        data = os.read(self._status, 4096)
        self._said += data
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            self._hear(line[:1], line[1:].decode("utf-8", "replace"))
        if not data:
            self._loop.remove_reader(self._status)
            os.close(self._status)
            self._gone.set()
            self._finish(128 + 9)

    def _hear(self, kind: bytes, text: str) -> None:
        if kind == b"X":
            self._finish(int(text))
        elif kind == b"M":
            self.out_of_memory = True
        elif not self._code.done():
            self._code.set_exception(SandboxError(f"the command could not be enclosed: {text}"))

    def _finish(self, code: int) -> None:
        if not self._code.done():
            if code == 128 + 9 and self._cell.memory_ran_out():
                self.out_of_memory = True
            self._code.set_result(code)

    async def wait(self) -> int:
        """Its exit code."""
        return await asyncio.shield(self._code)

    def terminate(self) -> None:
        """SIGTERM to it and its group."""
        self._cell.signal(self._number, soft=True)

    async def kill(self) -> None:
        """End it and everything that it started."""
        if not self._gone.is_set():
            self._cell.signal(self._number, soft=False)
            await self._gone.wait()

    def close(self) -> None:
        """Let go of its pipes."""
        for transport in self._transports:
            transport.close()
        if self.stdin is not None:
            self.stdin.close()
        if self._code.done() and not self._code.cancelled():
            self._code.exception()  # nobody may have asked


# ---------------------------------------------------------------- what a session is built of


def _launch(fd: int) -> subprocess.Popen[bytes]:
    kept = {key: value for key in ("LD_LIBRARY_PATH", "PATH") if (value := os.environ.get(key))}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, str(Path(__file__).parent), str(fd)],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=kept,  # nothing else of this process may be found in a sandbox's memory
        cwd="/",
    )


def _make_base() -> str:
    """A directory that every user can reach: mount point of each session's root."""
    place = "/run" if os.geteuid() == 0 and os.access("/run", os.W_OK) else None
    base = tempfile.mkdtemp(prefix="botbook-box-", dir=place)
    os.chmod(base, 0o711)
    return base


async def _receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())
    return channel.receive(sock)


def _system() -> tuple[list[dict[str, Any]], dict[str, str]]:
    binds: list[dict[str, Any]] = []
    links: dict[str, str] = {}
    for place in _SYSTEM:
        if os.path.islink(place):
            links[place] = os.readlink(place)
        elif os.path.isdir(place):
            binds.append(_read_only(place))
    return binds + [_read_only(f"/etc/{name}") for name in _ETC if os.path.exists(f"/etc/{name}")], links


def _read_only(place: str) -> dict[str, Any]:
    return {"source": place, "target": place, "mode": "ro", "optional": True}


def _interpreter() -> list[dict[str, Any]]:
    """The parts of this Python, unless they lie in /usr; not a pip.conf that may hold a password."""
    parts = (f"{prefix}/{part}" for prefix in _prefixes() for part in _PREFIX_PARTS)
    return [_read_only(part) for part in parts if os.access(part, os.R_OK)]


def _prefixes() -> list[str]:
    found = dict.fromkeys((sys.prefix, sys.base_prefix))
    return [one for one in found if not one.startswith(("/usr/", "/bin")) and one not in ("/", "/usr")]


def _resolver() -> list[dict[str, Any]]:
    names = ("resolv.conf", "nsswitch.conf", "services", "protocols")
    return [_read_only(f"/etc/{name}") for name in names if os.path.exists(f"/etc/{name}")]


def _bind(mount: Mount) -> dict[str, Any]:
    return {
        "source": mount.host_path,
        "target": mount.mount_path,
        "mode": mount.mode,
        "shift": True,
        "strict": True,
    }


def _is_dir(mount: Mount) -> bool:
    return os.path.isdir(mount.host_path)


def _etc_files() -> dict[str, str]:
    return {
        "/etc/passwd": f"root:x:0:0::/:/bin/sh\nbox:x:1000:1000::{_HOME}:/bin/sh\n",
        "/etc/group": "root:x:0:\nbox:x:1000:\n",
        "/etc/hosts": "127.0.0.1 localhost box\n::1 localhost\n",
        "/etc/hostname": "box\n",
    }


def _environment(plan: dict[str, Any]) -> dict[str, str]:
    shown = [f"{one}/bin" for one in _prefixes() if any(b["source"] == f"{one}/bin" for b in plan["binds"])]
    return {
        "PATH": ":".join([*shown, "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": _HOME,
        "USER": "box",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def _rlimits(spec: Spec, groups: Sequence[str]) -> dict[str, list[int]]:
    limits = {"CORE": [0, 0], "NOFILE": [1024, 4096], "MEMLOCK": [8 << 20, 8 << 20]}
    if spec.workspace_quota_mb:
        limits["FSIZE"] = [spec.workspace_quota_mb << 20] * 2
    if "pids" not in groups:
        limits["NPROC"] = [spec.pids_limit + 4] * 2
    if "memory" not in groups:
        limits["DATA"] = [(spec.memory_mb + _OWN_MB) << 20] * 2
    return limits


def _cpu_set(cpus: float, turn: int) -> list[int]:
    ours = sorted(os.sched_getaffinity(0))
    count = min(len(ours), math.ceil(cpus))
    return [ours[(turn + at) % len(ours)] for at in range(count)]


def _with_script(argv: tuple[str, ...]) -> tuple[list[str], int]:
    """A shell command that is too long for an argument goes through a file: (argv, its descriptor or -1)."""
    if len(argv[-1].encode("utf-8", "surrogateescape")) < _LONG or argv[:1] != ("/bin/sh",):
        return list(argv), -1
    file = os.memfd_create("script")
    with open(file, "wb", closefd=False) as out:
        out.write(argv[-1].encode("utf-8", "surrogateescape"))
    return ["/bin/sh", "-l", "/dev/fd/3"], file


def _oom_kills(path: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return 0


def _reason(text: str) -> str:
    """What a refusal of the kernel means, in words of the person who can change it."""
    if text.startswith("unshare"):
        return f"this kernel lets you make no user namespaces ({text})"
    if text.startswith(("open_tree", "mount_setattr", "move_mount")) and "implemented" in text:
        return f"this kernel is older than 5.12 ({text})"
    return text
