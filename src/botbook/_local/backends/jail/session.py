"""A session: namespaces, a file system of its own, and a nest for each command."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
from typing import Any, NoReturn

from . import cgroups, channel, kernel, nest
from .measure import tree_bytes

UID = 1000
_SPACES = (
    kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWNS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWCGROUP
)
_WATCH_SECONDS = 0.2
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_SAFE = kernel.ATTR_NOSUID | kernel.ATTR_NODEV


def main(plan: dict[str, Any], sock: socket.socket, group: cgroups.Group, keeper: int) -> NoReturn:
    """Build the session, say so, and serve it until the runtime lets go of it."""
    try:
        Session(plan, sock, group, keeper).serve()
    except Exception as error:  # whatever it is, the runtime has to hear of it
        with contextlib.suppress(OSError):
            channel.send(sock, {"error": f"{error}" if isinstance(error, OSError) else repr(error)})
    os._exit(0)


class Session:
    """The session's first process; it keeps the view of the machine that later mounts need.

    Args:
        plan: What to build.
        sock: To the runtime.
        group: Its control groups.
        keeper: Process id of the parent.
    """

    def __init__(self, plan: dict[str, Any], sock: socket.socket, group: cgroups.Group, keeper: int) -> None:
        self._plan, self._sock, self._group = plan, sock, group
        self._nests: dict[int, int] = {}
        group.join()
        trees = [self._tree(bind) for bind in plan["binds"]]
        _enter(plan, keeper)
        self._build(trees)

    # ------------------------------------------------------------ building

    def _tree(self, bind: dict[str, Any]) -> int:
        """A copy of a directory's mounts, made while we may still reach it; -1 for later."""
        bind["there"], bind["dir"] = os.path.exists(bind["source"]), os.path.isdir(bind["source"])
        if self._plan["uid"] is None or not bind["there"]:
            return -1
        return tree(bind, self._plan["uid"])

    def _build(self, trees: list[int]) -> None:
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        size = self._plan["disk_mb"] if not self._plan["read_only"] else 4
        _tmpfs(self._plan["base"], size_mb=size, mode="755")
        os.chdir(self._plan["base"])
        self._skeleton()
        for bind, fd in zip(self._plan["binds"], trees, strict=True):
            self._bind(bind, fd)
        if self._plan["network"] is False:
            _loopback_up()
        if self._plan["read_only"]:
            self._seal(True)

    def _skeleton(self) -> None:
        for name in ("dev", "proc", "sys", "etc", "run", "var/tmp", "tmp", "home/box", ".box"):
            os.makedirs(name, exist_ok=True)
        for target, text in self._plan["files"].items():
            with open(f".{target}", "w", encoding="utf-8") as file:
                file.write(text)
        for target, source in self._plan["links"].items():
            os.symlink(source, f".{target}")
        _tmpfs("dev", size_mb=1, mode="755")
        for name in _DEVICES:
            _bind_device(name)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            os.symlink(f"/proc/self/fd/{number}", f"dev/{name}")
        os.symlink("/proc/self/fd", "dev/fd")
        os.mkdir("dev/shm")
        _tmpfs("dev/shm", size_mb=self._plan["shm_mb"], mode="1777")
        self._disk()

    def _disk(self) -> None:
        """One size-limited file system for everything that can be written."""
        _tmpfs(".box", size_mb=self._plan["disk_mb"], mode="755")
        places = {"tmp": "tmp", "var": "var/tmp", "home": "home/box", "run": "run"}
        if self._plan["workspace"]:
            places["work"] = self._plan["workspace"].lstrip("/")
        for name, target in places.items():
            os.mkdir(f".box/{name}")
            os.chmod(f".box/{name}", 0o1777 if name in ("tmp", "var") else 0o755)
            os.makedirs(target, exist_ok=True)
            kernel.attach(kernel.open_tree(f".box/{name}"), target)
        kernel.detach(".box")
        os.rmdir(".box")

    def _bind(self, bind: dict[str, Any], fd: int) -> None:
        if bind.get("optional") and not bind["there"]:
            return
        target = f".{bind['target']}"
        fd = fd if fd >= 0 else kernel.open_tree(bind["source"], strict=bind.get("strict", False))
        if bind["dir"]:
            os.makedirs(target, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "a", encoding="utf-8"):
                pass
        kernel.set_attributes(fd, _SAFE | (0 if bind["mode"] == "rw" else kernel.ATTR_RDONLY))
        kernel.attach(fd, target)
        os.close(fd)

    def _seal(self, closed: bool) -> None:
        """Make the root read-only, or open it for a moment."""
        fd = os.open(".", os.O_PATH | os.O_CLOEXEC)
        add, remove = (kernel.ATTR_RDONLY, 0) if closed else (0, kernel.ATTR_RDONLY)
        kernel.set_attributes(fd, add, remove=remove, recursive=False)
        os.close(fd)

    # ------------------------------------------------------------ serving

    def serve(self) -> None:
        """Until the runtime closes its end; then nothing is left."""
        wake, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        channel.send(self._sock, {"ok": True, "pid": os.getpid(), "oom_file": self._group.oom_file()})
        while True:
            pause = _WATCH_SECONDS if self._plan["watch_bytes"] and self._nests else None
            ready, _, _ = select.select([self._sock.fileno(), wake], [], [], pause)
            if wake in ready:
                os.read(wake, 512)
                self._reap()
            if self._sock.fileno() in ready and not self._answer():
                break
            if pause:
                self._watch_memory()
        for pid in self._nests.values():
            os.kill(pid, signal.SIGTERM)
        while self._nests:
            pid, _ = os.waitpid(-1, 0)
            self._forget(pid)

    def _answer(self) -> bool:
        if (message := channel.receive(self._sock)) is None:
            return False
        body, fds = message
        if body["op"] == "run":
            self._run(body, fds)
        elif body["op"] == "mount":
            channel.send(self._sock, self._mount_later(body["bind"], fds))
        elif body["op"] == "signal" and (pid := self._nests.get(body["id"])):
            os.kill(pid, signal.SIGUSR1 if body["soft"] else signal.SIGTERM)
        for fd in fds:
            os.close(fd)
        return True

    def _run(self, command: dict[str, Any], fds: list[int]) -> None:
        if (pid := nest.fork(fds[3])) < 0:
            return
        if not pid:
            parent = os.getppid()
            signal.set_wakeup_fd(-1)
            self._sock.close()
            try:
                nest.main(self._plan, command, fds, parent)
            finally:
                os._exit(1)
        self._nests[command["id"]] = pid

    def _mount_later(self, bind: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        if not fds:
            self._tree(bind)
        try:
            if self._plan["read_only"]:
                self._seal(False)
            self._bind(bind, os.dup(fds[0]) if fds else -1)
        except OSError as error:
            return {"error": str(error)}
        finally:
            if self._plan["read_only"]:
                self._seal(True)
        if bind["mode"] == "rw":
            self._plan["writable"].append(bind["target"])
        return {"ok": True}

    def _watch_memory(self) -> None:
        """Where no control group holds memory: end the largest nest of a session that takes too much."""
        used = {pid: tree_bytes(pid) for pid in self._nests.values()}
        if used and sum(used.values()) > self._plan["watch_bytes"]:
            os.kill(max(used, key=lambda pid: used[pid]), signal.SIGUSR2)

    def _reap(self) -> None:
        while self._nests:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            self._forget(pid)

    def _forget(self, pid: int) -> None:
        self._nests = {key: one for key, one in self._nests.items() if one != pid}


def tree(bind: dict[str, Any], uid: int) -> int:
    """Root's way to a directory: reached as root, owned inside by the session's user."""
    fd = kernel.open_tree(bind["source"], strict=bind.get("strict", False))
    if bind.get("shift"):
        _shift(fd, bind["source"], bind["mode"], uid)
    return fd


def _enter(plan: dict[str, Any], keeper: int) -> None:
    """Become an ordinary user in namespaces of our own."""
    spaces = _SPACES | (0 if plan["network"] else kernel.CLONE_NEWNET)
    uid, gid = os.geteuid(), os.getegid()
    if plan["uid"] is None:
        kernel.unshare(spaces)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{UID} {uid} 1")
        _write("/proc/self/gid_map", f"{UID} {gid} 1")
    else:
        os.setgroups([])
        _map_from_outside(spaces, plan["uid"])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of user has cleared it
    if os.getppid() != keeper:
        os._exit(1)
    kernel.sethostname("box")
    with contextlib.suppress(OSError):
        _write("/proc/sys/user/max_user_namespaces", "0")


def _map_from_outside(spaces: int, uid: int) -> None:
    """Root maps a foreign user, which only a process outside may write."""
    go, gone = os.pipe2(os.O_CLOEXEC)
    me = os.getpid()
    if not (helper := os.fork()):
        os.close(gone)
        os.read(go, 1)
        try:
            _write(f"/proc/{me}/setgroups", "deny")
            _write(f"/proc/{me}/uid_map", f"{UID} {uid} 1")
            _write(f"/proc/{me}/gid_map", f"{UID} {uid} 1")
        except OSError as error:
            os._exit(min(error.errno or 255, 255))
        os._exit(0)
    try:
        kernel.unshare(spaces)
    finally:
        os.close(gone)
        _, status = os.waitpid(helper, 0)
    if number := os.waitstatus_to_exitcode(status):
        raise OSError(number, f"uid_map: {os.strerror(number)}")


def _shift(fd: int, source: str, mode: str, uid: int) -> None:
    """Let the owner of a directory be the session's user in it, so that it can be written."""
    owner = os.stat(source)
    try:
        _map_owner(fd, owner, uid)
    except OSError as error:  # a file system without id-mapped mounts
        if owner.st_mode & 0o007 != 0o007 and mode == "rw":
            raise OSError(
                error.errno, f"{source} cannot be made writable for a sandbox's user on this file system"
            ) from None


def _map_owner(fd: int, owner: os.stat_result, uid: int) -> None:
    go, gone = os.pipe2(os.O_CLOEXEC)
    ready, done = os.pipe2(os.O_CLOEXEC)
    if not (helper := os.fork()):
        os.close(gone)
        os.close(ready)
        kernel.unshare(kernel.CLONE_NEWUSER)
        os.close(done)
        os.read(go, 1)
        os._exit(0)
    try:
        os.close(done)
        os.read(ready, 1)
        _write(f"/proc/{helper}/uid_map", f"{owner.st_uid} {uid} 1")
        _write(f"/proc/{helper}/gid_map", f"{owner.st_gid} {uid} 1")
        userns = os.open(f"/proc/{helper}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        kernel.set_attributes(fd, kernel.ATTR_IDMAP, userns=userns)
        os.close(userns)
    finally:
        os.close(ready)
        os.close(gone)
        os.waitpid(helper, 0)


def _tmpfs(target: str, *, size_mb: int, mode: str) -> None:
    data = f"size={size_mb}m,mode={mode},nr_inodes={max(1024, size_mb * 256)}"
    kernel.mount("tmpfs", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, data)


def _bind_device(name: str) -> None:
    with open(f"dev/{name}", "w", encoding="utf-8"):
        pass
    with contextlib.suppress(OSError):  # a container may lack one
        kernel.attach(kernel.open_tree(f"/dev/{name}"), f"dev/{name}")


def _loopback_up() -> None:
    """Switch on 127.0.0.1 of the empty network, so that programs inside can speak to each other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1 | 0x40))


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
