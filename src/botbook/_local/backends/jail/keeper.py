"""The first process: forks a session when asked, and cleans up after it."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
from typing import Any

from . import cgroups, channel, kernel, session

PREFIX = "botbook-box-"


class Keeper:
    """Serves one runtime; ends with it.

    Args:
        sock: To the runtime.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._places = cgroups.parents()
        self._base = ""
        self._count = 0
        self._groups: dict[int, cgroups.Group] = {}
        self._ending: list[cgroups.Group] = []
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Until the runtime is gone."""
        cgroups.sweep(self._places, PREFIX)
        while True:
            pause = 0.05 if self._ending else None
            ready, _, _ = select.select([self._sock.fileno(), self._wake], [], [], pause)
            if self._wake in ready:
                os.read(self._wake, 512)
            self._reap()
            if self._sock.fileno() in ready and not self._answer():
                break
        self._end()

    def _answer(self) -> bool:
        if (message := channel.receive(self._sock)) is None:
            return False
        body, fds = message
        if body["op"] == "open":
            self._open(body, fds)
        elif body["op"] == "tree":
            self._tree(body, fds)
        else:
            self._base = body["base"]
            channel.send(self._sock, self._hello())
        return True

    def _hello(self) -> dict[str, Any]:
        """What control groups can do here: tried, not guessed."""
        group = cgroups.Group(f"{PREFIX}{os.getpid()}-0", self._places)
        group.make({"memory_bytes": 64 << 20, "pids": 8, "cpus": 1.0})
        version = "v2" if group.oom_file().endswith("memory.events") else "v1"
        group.remove()
        return {"controllers": group.controllers, "version": version, "landlock": kernel.landlock_abi()}

    def _open(self, plan: dict[str, Any], fds: list[int]) -> None:
        self._count += 1
        group = cgroups.Group(f"{PREFIX}{os.getpid()}-{self._count}", self._places)
        group.make(plan["limits"])
        if not (pid := os.fork()):
            self._become_session(plan, fds[0], group)
        os.close(fds[0])
        self._groups[pid] = group

    def _become_session(self, plan: dict[str, Any], fd: int, group: cgroups.Group) -> None:
        keeper = os.getppid()
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        os.close(self._wake)
        self._sock.close()
        try:
            session.main(plan, socket.socket(fileno=fd), group, keeper)
        finally:
            os._exit(1)

    def _tree(self, body: dict[str, Any], fds: list[int]) -> None:
        """Reach a directory as root, for a session that no longer can."""
        if not os.fork():
            with contextlib.suppress(BaseException), socket.socket(fileno=fds[0]) as answer:
                try:
                    channel.send(answer, {"ok": True}, [session.tree(body["bind"], body["uid"])])
                except OSError as error:
                    channel.send(answer, {"error": str(error)})
            os._exit(0)
        os.close(fds[0])

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                if group := self._groups.pop(pid, None):
                    self._ending.append(group)
        self._ending = [group for group in self._ending if not group.remove()]

    def _end(self) -> None:
        for pid in self._groups:
            os.kill(pid, signal.SIGKILL)
        for _ in range(100):
            self._reap()
            if not self._groups and not self._ending:
                break
            select.select([], [], [], 0.02)
        with contextlib.suppress(OSError):
            os.rmdir(self._base)


def main() -> None:
    """Entry of the launcher: its socket is the descriptor named by the first argument."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a stop button must not take the sandboxes along
    gc.freeze()
    Keeper(socket.socket(fileno=int(sys.argv[1]))).serve()
