"""`python -m tests.bench.stream`: answers that stream in, against bare readers of the same frames.

- CPU per chunk of one long answer: `bot.ask` with the journal on, against `websockets` and `aiohttp` readers
  that parse each frame and keep its text.
- From the wire to the reader's hands, for the first chunk of an answer.
- Many chats at once, each at a steady pace: how late a chunk is at the worst, and whether memory stays flat.

The agent is a process of its own and stamps its chunks with a clock that all processes share.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

CLIENTS = ("websockets", "aiohttp", "botbook")
TEXT_CHUNK, END, STATUS = "AGENT_EVENT_TEXT_CHUNK", "AGENT_EVENT_END", "STATUS"
#: What each client loads at the latest on first use; imports are not measured here.
LOADED = {
    "websockets": ["websockets.asyncio.client"],
    "aiohttp": ["aiohttp"],
    "botbook": ["pandas", "pyarrow", "botbook.bot", "botbook.wire.agent", "botbook._net.websocket"],
}


# ---------------------------------------------------------------------------- the agent


async def agent() -> None:
    """Answers ``N PACE`` with N chunks, PACE of them a second; 0 is as fast as it can."""
    from aiohttp import web

    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.send_str(json.dumps({"type": STATUS}))
        async for message in socket:
            count, pace = json.loads(message.data)["text"].split()
            await answer(socket, int(count), float(pace))
        return socket

    async def answer(socket: web.WebSocketResponse, count: int, pace: float) -> None:
        began = time.monotonic()
        for number in range(count):
            if pace:
                await asyncio.sleep(max(0.0, began + number / pace - time.monotonic()))
            text = f"{time.monotonic():.6f} some words "
            await socket.send_str(json.dumps({"type": TEXT_CHUNK, "text": text, "source": "main"}))
        await socket.send_str(json.dumps({"type": END, "tokens_used": count}))

    app = web.Application()
    app.router.add_get("/v1/agent_ws/{chat}/", chat)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


# ---------------------------------------------------------------------------- the clients


def late(text: str) -> float:
    """Seconds since a chunk was stamped."""
    return time.monotonic() - float(text.partition(" ")[0])


async def read_websockets(url: str, question: str) -> list[float]:
    import websockets

    async with websockets.connect(f"{url}v1/agent_ws/0/", compression=None) as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "USER_MESSAGE", "text": question}))
        return [delay async for delay in _delays(socket)]


async def read_aiohttp(url: str, question: str) -> list[float]:
    import aiohttp

    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}v1/agent_ws/0/") as socket:
        await socket.receive_str()
        await socket.send_str(json.dumps({"type": "USER_MESSAGE", "text": question}))
        return [delay async for delay in _delays(message.data async for message in socket)]


async def _delays(frames: Any) -> Any:
    pieces = []
    async for frame in frames:
        value = json.loads(frame)
        if value["type"] == END:
            return
        pieces.append(value["text"])
        yield late(value["text"])


async def read_botbook(url: str, question: str) -> list[float]:
    from botbook import AsyncBot

    with tempfile.TemporaryDirectory() as folder:
        async with AsyncBot("agent", base_url=url, store=Path(folder, "journal.sqlite")) as bot:
            return await _asked(bot, question, None)


async def _asked(bot: Any, question: str, chat: str | None) -> list[float]:
    answer = bot.ask(question, chat=chat, timeout=3600)
    return [late(event.text) async for event in answer if event.type == "message.delta"]


async def many(url: str, chats: int, pace: float, seconds: float) -> dict[str, float]:
    """Many chats of one bot at once; memory after a quarter of the time and at the end."""
    from botbook import AsyncBot

    for module in LOADED["botbook"]:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncBot("agent", base_url=url, store=Path(folder, "journal.sqlite")) as bot:
            question = f"{int(pace * seconds)} {pace}"
            began, cpu = time.monotonic(), time.process_time()
            asked = [asyncio.create_task(_asked(bot, question, str(number))) for number in range(chats)]
            await asyncio.sleep(seconds / 4)
            early = memory()
            delays = sorted(delay for found in await asyncio.gather(*asked) for delay in found)
            return {
                "chunks": len(delays),
                "wall": time.monotonic() - began,
                "cpu": time.process_time() - cpu,
                "p50": delays[len(delays) // 2],
                "p99": delays[int(len(delays) * 0.99)],
                "worst": delays[-1],
                "early_mb": early,
                "late_mb": memory(),
            }


def memory() -> float:
    """Resident memory now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def client(name: str, url: str, count: int) -> dict[str, float]:
    for module in LOADED[name]:
        importlib.import_module(module)
    read = {"websockets": read_websockets, "aiohttp": read_aiohttp, "botbook": read_botbook}[name]
    asyncio.run(read(url, "1 0"))
    began, cpu = time.monotonic(), time.process_time()
    delays = asyncio.run(read(url, f"{count} 0"))
    assert len(delays) == count, (name, len(delays))
    used = {"wall": time.monotonic() - began, "cpu": time.process_time() - cpu}
    firsts = [asyncio.run(read(url, "3 20"))[0] for _ in range(5)]
    return {**used, "first": median(firsts)}


# ---------------------------------------------------------------------------- the report


@contextmanager
def peer() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stream", "--agent"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield f"ws://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def apart(*words: str) -> dict[str, float]:
    """Run a part of this script in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.stream", *words], capture_output=True, text=True, timeout=3600
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def report(rounds: int, chunks: int, chats: int, pace: float, seconds: float) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    with peer() as url:
        for number in range(rounds):
            for name in CLIENTS[number % 3 :] + CLIENTS[: number % 3]:
                found[name].append(apart("--client", name, "--url", url, "--chunks", str(chunks)))
        print(f"\nOne answer of {chunks:,} chunks (median of {rounds} rounds)")
        for name in CLIENTS:
            cpu, wall, first = (median(one[key] for one in found[name]) for key in ("cpu", "wall", "first"))
            ratios = [
                median(a["cpu"] / b["cpu"] for a, b in zip(found[name], found[bare], strict=True))
                for bare in CLIENTS[:2]
            ]
            print(
                f"  {name:10} {cpu / chunks * 1e6:6.1f} µs CPU a chunk (x {ratios[0]:.2f} websockets,"
                f" x {ratios[1]:.2f} aiohttp), {chunks / wall:8,.0f} chunks/s,"
                f" first chunk after {first * 1000:5.1f} ms"
            )
        if chats:
            made = apart("--many", str(chats), "--pace", str(pace), "--seconds", str(seconds), "--url", url)
            print(f"\n{chats} chats at once, {pace:g} chunks/s each for {seconds:g} s")
            print(
                f"  {made['chunks']:,.0f} chunks, {made['cpu'] / made['wall'] * 100:.0f} % of a core;"
                f" late by {made['p50'] * 1000:.0f} ms (median), {made['p99'] * 1000:.0f} ms (p99),"
                f" {made['worst'] * 1000:.0f} ms (worst)"
            )
            print(f"  memory {made['early_mb']:.0f} MB after a quarter, {made['late_mb']:.0f} MB at the end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=20_000)
    parser.add_argument("--chats", type=int, default=100, help="0 leaves the case out")
    parser.add_argument("--pace", type=float, default=20.0, help="chunks a second and chat")
    parser.add_argument("--seconds", type=float, default=20.0, help="of many chats")
    parser.add_argument("--agent", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--many", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.agent:
        asyncio.run(agent())
    elif given.client:
        print(json.dumps(client(given.client, given.url, given.chunks)))
    elif given.many:
        print(json.dumps(asyncio.run(many(given.url, given.many, given.pace, given.seconds))))
    else:
        report(given.rounds, given.chunks, given.chats, given.pace, given.seconds)


if __name__ == "__main__":
    main()
