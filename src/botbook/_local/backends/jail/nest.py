"""One command: a pid namespace, every privilege given up, and a report of how it ended."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
from types import FrameType
from typing import Any, NoReturn

from . import filters, kernel

#: Longest argument that the kernel takes is 128 KiB; a longer script goes through a file.
SCRIPT_FD = 3


def main(plan: dict[str, Any], command: dict[str, Any], fds: list[int], parent: int) -> NoReturn:
    """Watch over one nest from outside its pid namespace.

    Args:
        plan: Of the session.
        command: What to run.
        fds: stdin, stdout, stderr, the status pipe, and the script if it is long.
        parent: Process id of the session.
    """
    _die_with(parent)
    inner = 0
    wanted: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        sent = signal.SIGTERM if number == signal.SIGUSR1 else signal.SIGKILL
        wanted.append(sent)
        if number == signal.SIGUSR2:
            os.write(fds[3], b"M\n")
        if inner:
            os.kill(inner, sent)

    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, on_signal)
    _close_others(fds)
    kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWNS)
    life, hold = os.pipe2(os.O_CLOEXEC)
    if (inner := fork(fds[3])) < 0:
        os._exit(1)
    if not inner:
        os.close(hold)
        try:
            _first_process(plan, command, fds, life)
        finally:
            os._exit(1)
    for sent in wanted:
        os.kill(inner, sent)
    for fd in (*fds[:3], *fds[4:], life):
        os.close(fd)
    os.waitpid(inner, 0)  # returns when the whole namespace is empty; only then the status pipe closes
    os._exit(0)


def fork(status: int) -> int:
    """As the system's; -1, and a word to the runtime, where earlier commands have taken every place.

    Args:
        status: The status pipe.
    """
    try:
        return os.fork()
    except OSError as error:
        os.write(status, f"Ethe session has no room for another process ({error.strerror})\n".encode())
        return -1


def _die_with(parent: int) -> None:
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _close_others(fds: list[int]) -> None:
    at = 0
    for fd in sorted(fds):
        os.closerange(at, fd)
        at = fd + 1
    os.closerange(at, 1 << 16)


def _first_process(plan: dict[str, Any], command: dict[str, Any], fds: list[int], life: int) -> NoReturn:
    """Process 1 of the nest: prepares it, starts the command, reaps whatever is left behind."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if select.select([life], [], [], 0)[0]:  # the watcher died before we said that we die with it
        os._exit(1)
    status = fds[3]
    try:
        _move_in(plan)
        _give_up(plan)
    except Exception as error:  # whatever it is, the runtime has to hear of it
        os.write(status, f"E{error}\n".encode())
        os._exit(1)
    child = 0
    ended = False

    def pass_on(_: int, __: FrameType | None) -> None:
        if not child:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGTERM)

    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, pass_on)
    if (child := fork(status)) < 0:
        os._exit(1)
    if not child:
        _become(command, fds)
    for fd in (*fds[:3], *fds[4:], life):
        os.close(fd)
    while True:
        try:
            pid, code = os.wait()
        except ChildProcessError:
            os._exit(0)
        if pid == child and not ended:
            ended = True
            code = os.waitstatus_to_exitcode(code)
            os.write(status, f"X{128 - code if code < 0 else code}\n".encode())


def _move_in(plan: dict[str, Any]) -> None:
    os.chdir(plan["base"])
    with contextlib.suppress(PermissionError):  # where a container masks parts of /proc: none inside then
        kernel.mount("proc", "proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    kernel.pivot_root_here()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write("900")


def _give_up(plan: dict[str, Any]) -> None:
    for name, (soft, hard) in plan["rlimits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(number)
        hard = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(number, (min(soft, hard), hard))
    if plan["cpu_set"]:
        os.sched_setaffinity(0, plan["cpu_set"])
    os.umask(0o022)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if abi := kernel.landlock_abi():
        _lock_files(plan, abi)
    kernel.no_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if program := filters.seccomp_program(os.uname().machine):
        kernel.seccomp(program)


def _lock_files(plan: dict[str, Any], abi: int) -> None:
    read, write, write_file = filters.landlock_masks(abi)
    rules = [(read if plan["read_only"] else write, "/")]
    rules += [(write, place) for place in plan["writable"] if os.path.isdir(place)]
    rules += [(write_file, f"/dev/{name}") for name in ("null", "zero", "full", "random", "urandom", "tty")]
    kernel.landlock(filters.landlock_handled(abi), [rule for rule in rules if os.path.exists(rule[1])])


def _become(command: dict[str, Any], fds: list[int]) -> NoReturn:
    """The command itself."""
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    os.setsid()
    order = [*fds[:3], *fds[4:]]
    high = [os.dup2(fd, 100 + at) for at, fd in enumerate(order)]
    for at, fd in enumerate(high):
        os.dup2(fd, at, inheritable=True)
    os.closerange(len(order), 1 << 16)
    try:
        os.makedirs(command["cwd"], exist_ok=True)
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    try:
        os.chdir(command["cwd"])
        os.execvpe(command["argv"][0], command["argv"], command["env"])
    except OSError as error:
        os.write(2, f"{command['argv'][0]}: {error.strerror}\n".encode())
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
