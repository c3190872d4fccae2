"""`kill -9` of the receiving process at random moments, over and over, on one journal.

What was shown is on disk, nothing stands there twice, no handler begins an event a second time, and
what was cut off is listed as interrupted.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys

from botbook._data.store import Store
from botbook._local.server import serve
from botbook._local.world import World

ROUNDS = 20

#: The process that is killed. It forks for each line of its input, so that only the first round
#: pays for the imports; the fork is the receiver, and tells what it shows and what its handler does.
RECEIVER = """
import asyncio, os, sys
import aiohttp, pandas, pyarrow
from botbook import AsyncBot

base_url, app_id, app_secret, store = sys.argv[1:]

def tell(*words):
    os.write(1, (" ".join(words) + "\\n").encode())

async def answer(event):
    tell("start", event.event_id)
    await asyncio.sleep(0.004)
    tell("end", event.event_id)

async def main():
    bot = AsyncBot("miti", base_url=base_url, app_id=app_id, app_secret=app_secret, store=store)
    bot.on("message.received", answer)
    async with bot:
        shown = 0
        while True:
            ids = list(bot.events(type="message.received")["event_id"])
            for ident in ids[shown:]:
                tell("shown", ident)
            shown = len(ids)
            await asyncio.sleep(0.01)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(main())
        os._exit(0)
    tell("child", str(child))
    os.waitpid(child, 0)
    tell("dead")
"""


class Receiver:
    """The parent's view of it."""

    def __init__(self, process):
        self._process = process
        self.told = {"shown": [], "start": [], "end": []}

    async def live_and_die(self, seconds):
        """One life, ended by SIGKILL some time after the first event was shown."""
        self._process.stdin.write(b"go\n")
        word, pid = await self._line()
        assert word == "child"
        killer = None
        while True:
            words = await self._line()
            if words == ["dead"]:
                return
            self.told[words[0]].append(words[1])
            if killer is None:
                killer = asyncio.get_running_loop().call_later(seconds, os.kill, int(pid), signal.SIGKILL)

    async def _line(self):
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        assert line, "the receiver ended by itself"
        return line.decode().split()


async def test_a_killed_bot_loses_nothing_it_showed_and_does_nothing_twice(tmp_path):
    chance = random.Random(20)
    path = tmp_path / "journal.sqlite"
    world = World(scenario="quiet")
    await world.start()
    server = await serve(world)
    given = server.description()["miti"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RECEIVER,
        given["base_url"],
        given["app_id"],
        given["app_secret"],
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**22,
    )
    receiver = Receiver(process)
    try:
        for number in range(ROUNDS):
            world.fault("duplicate", last=40, when="reconnect")
            talk = asyncio.create_task(_talk(world, number, chance))
            await receiver.live_and_die(chance.uniform(0, 0.25))
            await talk
    finally:
        process.stdin.close()
        await process.wait()
        await server.close()
        await world.stop()

    told = receiver.told
    store = Store(path)
    try:
        kept = store.read(type="message.received")["event_id"].to_pylist()
        interrupted = {event.event_id for _, event, _ in store.interrupted()}
    finally:
        store.close()
    assert len(set(told["shown"])) > ROUNDS
    assert set(told["shown"]) <= set(kept)
    assert len(kept) == len(set(kept))
    assert len(told["start"]) == len(set(told["start"]))
    assert set(told["start"]) <= set(kept)
    cut_off = set(told["start"]) - set(told["end"])
    assert cut_off <= interrupted
    assert len(told["end"]) > ROUNDS
    assert interrupted < set(kept)


async def _talk(world, number, chance):
    for message in range(40):
        world.say(f"u{chance.randrange(6)}", f"round {number} message {message}")
        if message % 8 == 0:
            await asyncio.sleep(0.01)
