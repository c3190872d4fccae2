"""`make bench`: rounds of all clients, interleaved; medians; a table for docs/benchmarks.md."""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from statistics import median

CLIENTS = ("sdk", "bare", "botbook")


@contextmanager
def server(**options):
    args = [sys.executable, "-m", "tests.bench.server"]
    for name, value in options.items():
        args += [f"--{name}", str(value)]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def run(client, address, **options):
    args = [sys.executable, "-m", "tests.bench.client", client, f"{address}/chat"]
    for name, value in options.items():
        args += [f"--{name}", str(value)]
    done = subprocess.run(args, capture_output=True, text=True, timeout=180)
    if done.returncode:
        raise SystemExit(f"{client}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def report(address):
    with urllib.request.urlopen(f"{address}/report", timeout=10) as answer:
        return json.load(answer)


def rounds(count, measure):
    """Client → list of figures, one a round, clients taking turns."""
    found = {client: [] for client in CLIENTS}
    for number in range(count):
        for client in CLIENTS[number % 3 :] + CLIENTS[: number % 3]:
            found[client].append(measure(client))
    return found


def ratio(found, client, peer):
    return median(a / b for a, b in zip(found[client], found[peer], strict=True))


def queued(count, events):
    def measure(client):
        with server(count=events) as address:
            used = run(client, address, count=events, seconds=60)
        assert used["left"] == 0, (client, used)
        return used["cpu"] / events * 1e6

    found = rounds(count, measure)
    print(f"\nCPU per event, {events} queued events (µs, median of {count} rounds)")
    for client in CLIENTS:
        print(
            f"  {client:8} {median(found[client]):7.1f}   ratio to the SDK {ratio(found, client, 'sdk'):.2f}"
        )


def burst(count):
    answered = {client: [] for client in CLIENTS}

    def measure(client):
        with server(count=50, chats=50) as address:
            run(client, address, count=50, delay=0.05, seconds=3)
            latencies = sorted(report(address)["latencies"])
        answered[client].append(len(latencies))
        return latencies[max(0, int(len(latencies) * 0.95) - 1)]

    found = rounds(count, measure)
    print(f"\n50 events at once, 50 ms handler, event to reply (ms, median of {count} rounds)")
    for client in CLIENTS:
        print(
            f"  {client:8} p95 {median(found[client]) * 1000:6.1f}   answered {min(answered[client])} of 50"
            f"   ratio to bare {ratio(found, client, 'bare'):.2f}"
        )


def imports(count):
    """CPU of an import, over a bare interpreter."""
    script = "import time; t = time.process_time(); {}; print(time.process_time() - t)"
    what = {
        "sdk": "import miti_agent_sdk",
        "bare": "import aiohttp, websockets.asyncio.client",
        "botbook": "import botbook",
        "botbook.bot": "import botbook.bot",
    }
    found = {name: [] for name in what}
    for _ in range(count):
        for name, line in what.items():
            done = subprocess.run(
                [sys.executable, "-c", script.format(line)], capture_output=True, text=True, check=True
            )
            found[name].append(float(done.stdout))
    print(f"\nImport, CPU (ms, median of {count} rounds)")
    for name, figures in found.items():
        print(f"  {name:12} {median(figures) * 1000:6.1f}   ratio to the SDK {ratio(found, name, 'sdk'):.2f}")


def reconnects():
    print("\nHandshakes against a server that accepts and closes, in 6 s")
    for client in ("sdk", "botbook"):
        with server(after="close") as address:
            run(client, address, count=1, seconds=6)
            times = report(address)["handshakes"]
        busiest = max(sum(1 for other in times if 0 <= other - at < 1) for at in times)
        print(f"  {client:8} {len(times)} in all, {busiest} in the busiest second")
    print("\nFrom the drop of a link that was up for 6 s to the next handshake (s)")
    for client in ("sdk", "botbook"):
        with server(after="drop") as address:
            run(client, address, count=1, seconds=14)
            times = report(address)["handshakes"]
        gaps = [later - at - 6 for at, later in itertools.pairwise(times)]
        print(f"  {client:8} {', '.join(f'{gap:.2f}' for gap in gaps)}")


def frame():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.frame"], capture_output=True, text=True, check=True, timeout=300
    )
    found = json.loads(done.stdout)
    print(f"\nevents() with {found['rows']:,} rows and one new: {found['one_new_ms']:.1f} ms (median of 20)")
    print(f"memory per million live events: {found['grown_mb']:.0f} MB")


def load_ext(count):
    """`%load_ext botbook` over a shell that is there already, each in a process of its own."""
    script = (
        "from IPython.core.interactiveshell import InteractiveShell as S; import time; s = S.instance();"
        "s.run_cell('1'); t = time.perf_counter(); s.run_line_magic('load_ext', 'botbook');"
        "print(time.perf_counter() - t)"
    )
    figures = []
    for _ in range(count):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        figures.append(float(done.stdout.split()[-1]))
    print(f"\n%load_ext botbook: {median(figures) * 1000:.0f} ms (median of {count})")


def box(peers):
    """The sandbox: beside a bare bwrap and the vendor's runtimes, as far as they are there."""
    if not shutil.which("bwrap"):
        print("\nSandbox: bwrap is not installed, so botbook stands alone")
    if not peers:
        print("\nSandbox: no real runtime is named (--box 0.7.18=ws://…), so none is measured")
    print("\nSandbox (ms)", flush=True)
    done = subprocess.run([sys.executable, "-m", "tests.bench.box", *peers], timeout=600)
    if done.returncode:
        raise SystemExit("box: it failed, see above")


def main():
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--box", action="append", default=[], metavar="NAME=URL", help="a real Box runtime")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument(
        "--only", choices=["queued", "burst", "imports", "reconnects", "frame", "load", "box"], default=None
    )
    given = parser.parse_args()
    cases = {
        "queued": lambda: queued(given.rounds, given.events),
        "burst": lambda: burst(given.rounds),
        "imports": lambda: imports(2 * given.rounds),
        "reconnects": reconnects,
        "frame": frame,
        "load": lambda: load_ext(2 * given.rounds),
        "box": lambda: box(given.box),
    }
    for name, case in cases.items():
        if given.only in (None, name):
            case()


if __name__ == "__main__":
    main()
