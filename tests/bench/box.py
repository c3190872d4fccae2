"""The embedded sandbox against a bare ``bwrap`` and, where it is named, a real runtime on Docker.

    python -m tests.bench.box [NAME=ws://… …]

Turns are interleaved; figures are milliseconds, medians unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from botbook.sandbox import AsyncBox

ROUNDS, RUNS, CROWD = 10, 60, 50


def bare(workspace: str) -> list[str]:
    """A sandbox as tight as ``bwrap`` makes it by itself, for one ``true``."""
    binds = ["--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib"]
    own = ["--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session"]
    rest = ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    who = ["--bind", workspace, "/workspace", "--cap-drop", "ALL", "--uid", "1000", "--gid", "1000"]
    return ["bwrap", *own, *binds, *rest, *who, "--clearenv", "sh", "-c", "true"]


@contextlib.contextmanager
def timed(into: list[float]):
    began = time.perf_counter()
    yield
    into.append((time.perf_counter() - began) * 1000)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def first_command(boxes: dict[str, AsyncBox]) -> dict[str, list[float]]:
    """Create a session and run its first command."""
    found: dict[str, list[float]] = {name: [] for name in boxes}
    for turn in range(ROUNDS):
        for name, box in boxes.items():
            with timed(found[name]):
                await box.create(f"first{turn}", read_only_rootfs=False)
                assert (await box.exec("true", session=f"first{turn}")).ok
            await box.delete(f"first{turn}")
    return found


async def each_command(boxes: dict[str, AsyncBox]) -> dict[str, list[float]]:
    """Run ``true`` in a session that is there."""
    found: dict[str, list[float]] = {name: [] for name in boxes}
    with tempfile.TemporaryDirectory() as workspace:
        for turn in range(RUNS):
            for name, box in boxes.items():
                if name == "botbook" or turn % 3 == 0:
                    with timed(found[name]):
                        await box.exec("true", session="many", read_only_rootfs=False)
            if shutil.which("bwrap"):
                with timed(found.setdefault("bare bwrap", [])):
                    await (await asyncio.create_subprocess_exec(*bare(workspace))).wait()
    return found


async def crowd(box: AsyncBox) -> list[float]:
    """Fifty sessions at once."""
    found: list[float] = []

    async def one(number: int) -> None:
        with timed(found):
            result = await box.exec(f"echo {number}", session=f"crowd{number}")
        assert result.stdout == f"{number}\n"

    await asyncio.gather(*map(one, range(CROWD)))
    return found


def launcher() -> tuple[int, float]:
    """How many processes the launcher has, and the memory that they hold, in MiB, shared parts once."""
    held = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, StopIteration):
            if b"jail.keeper" in (place / "cmdline").read_bytes():
                lines = (place / "smaps_rollup").read_text().splitlines()
                held.append(int(next(line for line in lines if line.startswith("Pss:")).split()[1]))
    return len(held), sum(held) / 1024


async def main() -> None:
    """Print the figures."""
    peers = dict(word.split("=", 1) for word in sys.argv[1:])
    boxes = {"botbook": AsyncBox()} | {
        name: AsyncBox(url, instance="botbook-live") for name, url in peers.items()
    }
    for box in boxes.values():
        await box.open()
    for title, found in (
        ("create and first command", await first_command(boxes)),
        ("true", await each_command(boxes)),
    ):
        for name, values in found.items():
            print(
                f"{title:26} {name:12} {statistics.median(values):7.1f}  p95 {percentile(values, 0.95):7.1f}"
            )
    values = await crowd(boxes["botbook"])
    print(f"{f'{CROWD} sessions at once':26} {'botbook':14} p95 {percentile(values, 0.95):7.1f}")
    print(f"launcher with them: {launcher()}")
    for session in await boxes["botbook"].sessions():
        await boxes["botbook"].delete(session.session_id)
    await asyncio.sleep(0.5)
    print(f"launcher idle: {launcher()}")
    for box in boxes.values():
        await box.close()


if __name__ == "__main__":
    asyncio.run(main())
