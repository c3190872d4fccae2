# ruff: noqa: E501
"""What a sandboxed program must not manage, one row an attempt; and what it must, so that a no counts.

Run as a script with the name of a backend it tries every row and prints one JSON object. An attempt that
succeeds prints ESCAPED.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEMORY_MB, PIDS, QUOTA_MB = 64, 24, 8


@dataclass(frozen=True)
class Row:
    """One attempt: {name} in its script is filled in with facts of the machine."""

    name: str
    protection: str
    script: str
    timeout: float = 20.0
    must: bool = False
    spec: dict[str, Any] = field(default_factory=dict)
    after: str = ""


def py(text: str) -> str:
    return "python3 - <<'PY'\n" + text + "\nPY"


def syscall(numbers: str, arguments: str = "0, 0, 0, 0") -> str:
    return py(f"""
import ctypes, os
number = {numbers}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)
if libc.syscall(number, {arguments}) >= 0 or ctypes.get_errno() not in (1, 38):
    print("ESCAPED", ctypes.get_errno())""")


def x86_arm(x86: int, arm: int) -> str:
    return f"{{'x86_64': {x86}, 'aarch64': {arm}}}"


ROWS = [
    # what must work
    Row("workspace can be written", "", "echo a > f && cat f && echo ESCAPED", must=True),
    Row("tmp and home can be written", "", "echo a > /tmp/f && echo a > $HOME/f && echo ESCAPED", must=True),
    Row("python runs", "", py("import json; print('ESCAPED')"), must=True),
    Row(
        "programs inside can speak to each other",
        "",
        py("""
import socket
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname(), 2)
print("ESCAPED")"""),
        must=True,
    ),
    Row("devices work", "", "head -c 4 /dev/urandom > /dev/null && echo a > /dev/stdout && echo ESCAPED", must=True),
    # files
    Row("read a file of the machine", "files", "cat {secret} && echo ESCAPED"),
    Row("read the password file", "files", "cat /etc/shadow && echo ESCAPED"),
    Row("read the root's home", "files", "ls /root/.ssh /root/.bashrc && echo ESCAPED"),
    Row("find it through /proc", "files", "cat /proc/1/root{secret} /proc/1/cwd{secret} && echo ESCAPED"),
    Row("write beside it", "files", "echo x > {directory}/new && echo ESCAPED", after="directory untouched"),
    Row("write to the system", "files", "touch /usr/new /etc/new /bin/new /new && echo ESCAPED"),
    Row("make the root writable", "files", "mount -o remount,rw / && echo ESCAPED"),
    Row("climb out with a link", "files", "ln -s / up; cat up{secret} && echo ESCAPED"),
    Row("climb out with dots", "files", "cat ../../../../../..{secret} && echo ESCAPED"),
    Row(
        "chroot and climb",
        "files",
        py("import os; os.mkdir('c'); os.chroot('c'); os.chdir('../../../..'); print('ESCAPED')"),
    ),
    Row("open a disk", "files", "head -c 1 {disk} && echo ESCAPED"),
    Row("open memory", "files", "head -c 1 /dev/mem || head -c 1 /dev/kmem || head -c 1 /dev/port && echo ESCAPED"),
    Row("read the first process's memory", "files", "head -c 1 /proc/1/mem && echo ESCAPED"),
    Row("read the first process's variables", "files", "tr '\\0' '\\n' < /proc/1/environ | grep -v -e ^PATH= -e ^HOME -e ^HOSTNAME= | grep . && echo ESCAPED"),
    Row("find a password in a variable", "files", "env | grep -i hunter2 && echo ESCAPED"),
    Row("change the machine's control groups", "files", "for one in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $one/new && echo ESCAPED; echo max > $one/pids.max && echo ESCAPED; done"),
    # processes
    Row("see a process of the machine", "processes", "cat /proc/[0-9]*/cmdline | grep -a '[{first}]{rest}' && echo ESCAPED"),
    Row("see a process by number", "processes", "kill -0 {pid} && echo ESCAPED"),
    Row("kill a process of the machine", "processes", "kill -9 {pid} && echo ESCAPED", after="process alive"),
    Row("enter another namespace", "processes", "nsenter -t 1 -m -u -i -n true && echo ESCAPED"),
    # network
    Row("reach a server on the machine", "network", py("""
import socket
socket.create_connection(("127.0.0.1", {port}), 2)
print("ESCAPED")""")),
    Row("reach an abstract socket", "network", py("""
import socket
socket.socket(socket.AF_UNIX).connect("\\0{abstract}")
print("ESCAPED")""")),
    Row("reach the world", "network", py("""
import socket
socket.create_connection(("1.1.1.1", 53), 2)
print("ESCAPED")""")),
    Row("see an interface", "network", "grep -v -e lo: -e '|' /proc/net/dev | grep . && echo ESCAPED"),
    Row("open a raw socket", "network", py("import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print('ESCAPED')")),
    # privileges
    Row("have a capability", "capabilities", "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -v 0000000000000000 && echo ESCAPED"),
    Row("mount something", "capabilities", "mount -t tmpfs none /tmp && echo ESCAPED"),
    Row("make a namespace", "capabilities", "unshare -U true && echo ESCAPED"),
    Row("make a namespace with root in it", "capabilities", "unshare -Ur true && echo ESCAPED"),
    Row("make a device", "capabilities", py("import os, stat; os.mknod('d', 0o666 | stat.S_IFBLK, os.makedev(254, 0)); print('ESCAPED')")),
    Row("set the clock", "capabilities", "date -s '2001-01-01' && echo ESCAPED"),
    Row("set the host's name", "capabilities", "hostname other && echo ESCAPED"),
    Row("gain from set-user-id programs", "no_new_privs", "grep NoNewPrivs /proc/self/status | grep -v 1 && echo ESCAPED"),
    Row("become root", "user", py("import os; os.setuid(0); print('ESCAPED')")),
    Row("be root outside", "user", "awk '$1 <= 0 && $2 <= 0 && $3 > 0' /proc/self/uid_map | grep . && echo ESCAPED"),
    # kernel
    Row("talk to another virtual machine", "seccomp", py("import socket; socket.socket(40, socket.SOCK_STREAM); print('ESCAPED')")),
    Row("trace a process", "seccomp", syscall(x86_arm(101, 117), "16, 1, 0, 0")),
    Row("use bpf", "seccomp", syscall(x86_arm(321, 280))),
    Row("use io_uring", "seccomp", syscall(x86_arm(425, 425), "8, b'\\0' * 120, 0, 0")),
    Row("use perf events", "seccomp", syscall(x86_arm(298, 241))),
    Row("use userfaultfd", "seccomp", syscall(x86_arm(323, 282), "1, 0, 0, 0")),
    Row("use kernel keys", "seccomp", syscall(x86_arm(250, 219), "0, -3, 0, 0")),
    Row("use a call from the future", "seccomp", syscall(x86_arm(480, 480))),
    Row("make a namespace by clone3", "seccomp", syscall(x86_arm(435, 435))),
    Row("make a set-user-id file", "seccomp", "cp /bin/true t && chmod u+s t && echo ESCAPED"),
    Row("make one by creating it", "seccomp", py("import os; os.open('s', os.O_CREAT | os.O_WRONLY, 0o4755); print('ESCAPED')")),
    Row("type into a terminal", "seccomp", py("""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.ioctl(0, 0x5412, b"x")
print("ESCAPED") if ctypes.get_errno() != 1 else None""")),
    # limits
    Row("take too much memory at once", "memory", py("""
blocks = []
for _ in range(40):
    blocks.append(bytearray(b"x" * (16 << 20)))
print("ESCAPED")""")),
    Row("take too much memory by many processes", "memory", py("""
import os, time
for _ in range(10):
    if not os.fork():
        block = bytearray(b"x" * (24 << 20))
        time.sleep(3)
        open("alive", "a").write("x")
        os._exit(0)
time.sleep(4)
print("ESCAPED" if os.path.getsize("alive") >= 10 else "held")""")),
    Row("start too many processes", "pids", py(f"""
import os, time
count = 0
try:
    while count < {PIDS} * 4:
        if not os.fork():
            time.sleep(5)
            os._exit(0)
        count += 1
except OSError:
    pass
print("ESCAPED" if count > {PIDS} + 8 else "held", count)""")),
    Row("a fork bomb", "pids", "f() { f | f & }; f; sleep 1; echo held", timeout=3.0, after="nothing left"),
    Row("fill the workspace", "disk", f"head -c {QUOTA_MB * 4}M /dev/zero > big && echo ESCAPED"),
    Row("fill the workspace by many files", "disk", f"for i in 1 2 3 4; do head -c {QUOTA_MB - 1}M /dev/zero > big$i || exit; done; echo ESCAPED"),
    Row("fill what is outside the workspace", "disk", f"head -c {QUOTA_MB * 4}M /dev/zero > /tmp/big && echo ESCAPED || head -c {QUOTA_MB * 4}M /dev/zero > $HOME/big && echo ESCAPED"),
    Row("make files without end", "disk", py("""
import os
os.mkdir("many")
try:
    for number in range(200_000):
        open(f"many/{number}", "w").close()
    print("ESCAPED")
except OSError:
    print("held", number)""")),
    Row("use more than its share of processors", "cpu", py("""
import os, time
ends = time.time() + 1.5
children = []
for _ in range(4):
    if not (pid := os.fork()):
        while time.time() < ends: pass
        os._exit(0)
    children.append(pid)
for pid in children: os.waitpid(pid, 0)
used = sum(os.times()[2:4])
print("ESCAPED" if used > 2.4 else "held", used)"""), spec={"cpus": 1.0}),
    # ending
    Row("outlast its time", "kill", "trap '' TERM INT HUP; echo $$; while :; do sleep 0.05; done", timeout=1.0, after="nothing left"),
    Row("outlast it in the background", "kill", "(setsid nohup sh -c 'trap \"\" TERM HUP; while :; do sleep 0.05; done' > /dev/null 2>&1 &); sleep 9", timeout=1.0, after="nothing left"),
    Row("leave something behind", "kill", "(setsid nohup sh -c 'trap \"\" TERM HUP; while :; do sleep 0.05; done' > /dev/null 2>&1 &)", after="nothing left"),
]  # fmt: skip


async def attempt(backend: Any, row: Row, facts: dict[str, Any]) -> dict[str, Any]:
    """Try one row in a session of its own."""
    from botbook._local.backends.base import CellPlan, Command
    from botbook._local.execution import collect
    from botbook.wire.box import Spec

    mark = f"mark-{secrets.token_hex(6)}"
    limits = {"memory_mb": MEMORY_MB, "pids_limit": PIDS, "workspace_quota_mb": QUOTA_MB, **row.spec}
    spec = Spec(session_id="escape", **limits)
    cell = await backend.open(CellPlan(name=f"escape-{secrets.token_hex(3)}", spec=spec))
    script = row.script
    for name, value in facts.items():
        script = script.replace("{" + name + "}", str(value))
    try:
        child = await cell.run(Command(argv=("/bin/sh", "-c", script, mark)))
        outcome = await collect(
            child, timeout=row.timeout, limit=100_000, watched=cell.watched, quota=QUOTA_MB << 20
        )
    finally:
        await cell.close()
    out = outcome.stdout.text(strip=True)
    held = "ESCAPED" not in out and _afterwards(row.after, facts, mark)
    return {
        "held": held != row.must,
        "exit": outcome.exit_code,
        "stdout": out[-300:],
        "stderr": outcome.stderr.text(strip=True)[-300:],
    }


def _afterwards(what: str, facts: dict[str, Any], mark: str) -> bool:
    if what == "directory untouched":
        return os.listdir(facts["directory"]) == ["secret"]
    if what == "process alive":
        return Path(f"/proc/{facts['pid']}/stat").read_text().split()[2] not in "ZX"
    return not what or not _living(mark)


def _make_secret(directory: str) -> Path:
    os.chmod(directory, 0o777)
    secret = Path(directory, "secret")
    secret.write_text("the machine's own")
    return secret


def _disk() -> str:
    return next(
        (f"/dev/{one}" for one in os.listdir("/sys/block") if os.path.exists(f"/dev/{one}")), "/dev/sda"
    )


def _living(mark: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if mark in place.read_text(errors="replace"):
                found.append(str(place))
    return found


async def try_all(backend: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Some side by side; what measures processor time goes alone."""
    places = asyncio.Semaphore(6)

    async def one(row: Row) -> dict[str, Any]:
        async with places:
            return await attempt(backend, row, facts)

    alone = [row for row in ROWS if row.protection == "cpu"]
    others = [row for row in ROWS if row.protection != "cpu"]
    results = dict(zip([row.name for row in others], await asyncio.gather(*map(one, others)), strict=True))
    return results | {row.name: await attempt(backend, row, facts) for row in alone}


async def main(name: str) -> dict[str, Any]:
    """Try every row on one backend."""
    from botbook._local.backends import BACKENDS

    backend = BACKENDS[name]()
    os.environ["SECRET"] = "hunter2"
    needle = f"{secrets.randbelow(10**6) + 10**8}"
    sleeper = await asyncio.create_subprocess_exec("sleep", needle)
    with (
        tempfile.TemporaryDirectory(prefix="escape-") as directory,
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        secret = _make_secret(directory)
        abstract.bind(f"\0escape-{needle}")
        abstract.listen()
        facts = {
            "directory": directory,
            "secret": secret,
            "pid": sleeper.pid,
            "first": needle[0],
            "rest": needle[1:],
            "port": server.getsockname()[1],
            "abstract": f"escape-{needle}",
            "disk": _disk(),
        }
        try:
            report = await backend.probe()
            results = await try_all(backend, facts) if report.available else {}
        finally:
            await backend.close()
            with contextlib.suppress(ProcessLookupError):
                sleeper.kill()
            await sleeper.wait()
    protections = {one.name: one.on for one in report.protections}
    return {
        "available": report.available,
        "reason": report.reason,
        "protections": protections,
        "rows": results,
    }


if __name__ == "__main__":
    sys.path[:0] = sys.argv[2:]
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
