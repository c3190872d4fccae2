"""A session of the native backend and the commands in it, seen from the runtime."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Any, Final, Protocol

from botbook._errors import SandboxError
from botbook._local.backends import layout, pipes
from botbook._local.backends.base import Command
from botbook._local.backends.jail import channel
from botbook.wire.box import Mount

__all__ = ["OPEN_SECONDS", "NativeCell", "NativeChild", "bind_of", "reason", "receive"]

OPEN_SECONDS: Final = 10.0
#: Longest argument that goes through as it is; the kernel's limit is 128 KiB.
_LONG: Final = 100_000


class _Owner(Protocol):
    def ask(self, body: dict[str, Any], fds: list[int]) -> None: ...

    def forget(self, cell: NativeCell) -> None: ...


class NativeCell:
    """One session.

    Args:
        name: As the runtime calls it.
        sock: To the session's first process.
        plan: What it was asked to be.
        backend: Whose it is.
    """

    def __init__(self, name: str, sock: socket.socket, plan: dict[str, Any], backend: _Owner) -> None:
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
            raise SandboxError(said["error"], hint=reason(said["error"]))
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
            "env": {**layout.environment(self._plan["binds"]), **command.env},
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
        bind = {**bind_of(mount), "there": True, "dir": _is_dir(mount)}
        fds = [] if self._plan["uid"] is None else [await self._reach(bind)]
        try:
            async with self._asking:
                self._tell({"op": "mount", "bind": bind}, fds)
                said = await asyncio.wait_for(self._answers.get(), OPEN_SECONDS)
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
            message = await asyncio.wait_for(receive(ours), OPEN_SECONDS)
        if message is None or "error" in message[0]:
            raise SandboxError((message or ({"error": "no answer"},))[0]["error"], code="BoxValidationError")
        return message[1][0]

    async def close(self) -> None:
        """End all that runs in it and forget its files. Never raises."""
        if not self.ended.is_set():
            self._sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), OPEN_SECONDS)
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


def bind_of(mount: Mount) -> dict[str, Any]:
    return {
        "source": mount.host_path,
        "target": mount.mount_path,
        "mode": mount.mode,
        "shift": True,
        "strict": True,
    }


def _is_dir(mount: Mount) -> bool:
    return os.path.isdir(mount.host_path)


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


def reason(text: str) -> str:
    """What a refusal of the kernel means, in words of the person who can change it."""
    if text.startswith("unshare"):
        return f"this kernel lets you make no user namespaces ({text})"
    if text.startswith(("open_tree", "mount_setattr", "move_mount")) and "implemented" in text:
        return f"this kernel is older than 5.12 ({text})"
    return text


async def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(sock.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())
    return channel.receive(sock)
