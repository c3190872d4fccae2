"""The native backend: Linux namespaces, Landlock, seccomp, control groups; no helper program.

The work is done in `jail`, a launcher process of its own. What holds is tried at start and told by `probe`.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from botbook._local.backends import layout
from botbook._local.backends.base import CellPlan, Command, Protection, Report, disk_mb
from botbook._local.backends.jail import channel, filters
from botbook._local.backends.native_cell import OPEN_SECONDS, NativeCell, bind_of, reason, receive
from botbook.wire.box import Spec

__all__ = ["NativeBackend"]

_BOOT: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from jail.keeper import main; main()"
_SHM_MB: Final = 64
#: How long the launcher has to end, in seconds.
_END_SECONDS: Final = 3.0
#: What the session's own few processes need, besides what the command may take.
_OWN_MB: Final = 16
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
            return Report(backend=self.name, available=False, reason=reason(str(error)))
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
            Protection("landlock", abi > 0, f"Landlock {abi}" if abi else "this kernel has none"),
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
            await asyncio.wait_for(cell.ready(), OPEN_SECONDS)
        except (SandboxError, TimeoutError, asyncio.CancelledError) as error:
            await cell.close()
            if isinstance(error, TimeoutError):
                raise SandboxError(f"the sandbox was not ready in {OPEN_SECONDS:.0f} s") from None
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
        system, links = layout.system()
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
                *(layout.interpreter() if self._python else []),
                *(layout.resolver() if spec.network == "on" else []),
                *(bind_of(mount) for mount in plan.mounts if mount.mode != "none"),
            ],
            "links": links,
            "files": layout.etc_files(),
            "writable": [
                *layout.WRITABLE,
                spec.mount_path if own_workspace else "",
                *(mount.mount_path for mount in plan.mounts if mount.mode == "rw"),
            ],
            "limits": {"memory_bytes": most, "pids": spec.pids_limit + 4, "cpus": spec.cpus},
            "rlimits": _rlimits(spec, groups),
            "cpu_set": [] if "cpu" in groups else layout.cpu_set(spec.cpus, self._turn),
            "watch_bytes": 0 if "memory" in groups else most,
        }

    # ------------------------------------------------------------ the keeper

    async def _start(self) -> None:
        async with self._starting:
            if self._keeper is not None and self._keeper.poll() is None:
                return
            self._let_go()
            self._remove_base()
            self._base = await asyncio.to_thread(_make_base)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            with theirs:
                self._keeper = await asyncio.to_thread(_launch, theirs.fileno())
            self._sock = ours
            self.ask({"op": "hello", "base": self._base}, [])
            try:
                answer = await asyncio.wait_for(receive(ours), OPEN_SECONDS)
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
        self._let_go()
        if (keeper := self._keeper) is not None:
            self._keeper = None
            try:
                await asyncio.to_thread(keeper.wait, _END_SECONDS)
            except subprocess.TimeoutExpired:
                keeper.kill()
                await asyncio.to_thread(keeper.wait)
        self._remove_base()

    def _let_go(self) -> None:
        """The launcher ends when nobody holds the other end."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _remove_base(self) -> None:
        with contextlib.suppress(OSError):  # the launcher removes it as well, for a runtime that was killed
            os.rmdir(self._base)


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


def _rlimits(spec: Spec, groups: Sequence[str]) -> dict[str, list[int]]:
    limits = {"CORE": [0, 0], "NOFILE": [1024, 4096], "MEMLOCK": [8 << 20, 8 << 20]}
    if spec.workspace_quota_mb:
        limits["FSIZE"] = [spec.workspace_quota_mb << 20] * 2
    if "pids" not in groups:
        limits["NPROC"] = [spec.pids_limit + 4] * 2
    if "memory" not in groups:
        limits["DATA"] = [(spec.memory_mb + _OWN_MB) << 20] * 2
    return limits
