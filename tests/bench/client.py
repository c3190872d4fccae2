"""One client, one case, one process: prints a JSON line with what it cost."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path

#: Imports are measured by themselves; this is what each client loads at the latest on first use.
LOADED = {
    "sdk": ["miti_agent_sdk"],
    "bare": ["aiohttp", "websockets.asyncio.client"],
    "botbook": [
        "aiohttp",
        "pandas",  # pyarrow asks for it when it makes its first array
        "pyarrow",
        "botbook.bot",
        "botbook.wire.miti",
        "botbook._net.websocket",
    ],
}

APP = {"app_id": "cli_bench", "app_secret": "bench-secret"}


class Count:
    """Counts handled events; says when all are there."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.done = asyncio.Event()
        self.loop = asyncio.get_running_loop()

    def one(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.loop.call_soon_threadsafe(self.done.set)


async def sdk(base_url: str, count: int, delay: float, seconds: float) -> int:
    from miti_agent_sdk import MitiAgent

    agent = MitiAgent(**APP, base_url=base_url)
    counter = Count(count)

    @agent.on_message
    async def handle(event):
        if delay:
            await asyncio.sleep(delay)
            await event.reply("ok", use_markdown=False)
        counter.one()

    task = asyncio.create_task(agent.run_async(register_signals=False))
    await _wait(counter, seconds)
    task.cancel()
    return counter.left


async def bare(base_url: str, count: int, delay: float, seconds: float) -> int:
    """One task per event on `websockets`, nothing kept."""
    import aiohttp
    import websockets

    counter = Count(count)
    url = base_url.replace("http", "ws", 1) + "/agent/gateway"
    tasks = set()
    async with (
        aiohttp.ClientSession() as session,
        websockets.connect(url, additional_headers={"Authorization": "Bearer bench-token"}) as socket,
    ):

        async def handle(event):
            if delay:
                await asyncio.sleep(delay)
                body = {
                    "msg_type": "text",
                    "content": {"text": "ok"},
                    "to_user_id": event["event"]["sender"]["user_id"],
                }
                async with session.post(f"{base_url}/agent/v1/messages/send", json=body) as answer:
                    await answer.json()
            counter.one()

        async def read():
            async for frame in socket:
                task = asyncio.create_task(handle(json.loads(frame)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        reader = asyncio.create_task(read())
        await _wait(counter, seconds)
        reader.cancel()
    return counter.left


async def botbook(base_url: str, count: int, delay: float, seconds: float) -> int:
    from botbook import AsyncBot

    counter = Count(count)
    with tempfile.TemporaryDirectory() as folder:
        bot = AsyncBot("miti", **APP, base_url=base_url, store=Path(folder, "journal.sqlite"))

        async def handle(event):
            if delay:
                await asyncio.sleep(delay)
                await event.reply("ok", markdown=False)
            counter.one()

        bot.on("message.received", handle)
        async with bot:
            await _wait(counter, seconds)
            await bot.stop(drain=2)
    return counter.left


async def _wait(counter: Count, seconds: float) -> None:
    try:
        await asyncio.wait_for(counter.done.wait(), seconds)
    except TimeoutError:
        return


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=["sdk", "bare", "botbook"])
    parser.add_argument("base_url")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    work = {"sdk": sdk, "bare": bare, "botbook": botbook}[given.client]
    for name in LOADED[given.client]:
        importlib.import_module(name)
    began, cpu = time.perf_counter(), time.process_time()
    left = asyncio.run(work(given.base_url, given.count, given.delay, given.seconds))
    used = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "left": left}
    print(json.dumps(used), flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
