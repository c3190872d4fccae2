"""protocols/miti.md 10, rows 10 to 16: how a connection lives and ends."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time

import pytest

from botbook import AsyncBot
from botbook._errors import ConnectionLost
from botbook._local.faults import POISON
from botbook._local.world import World
from botbook._net.auth import TokenSource
from botbook._net.link import Link
from botbook._net.loop import io_loop
from botbook._net.transport import memory_pair, open_websocket
from botbook.compat.miti import MitiAgent
from botbook.wire.contract import Opening
from botbook.wire.miti import MitiWire
from tests.defects.rig import pass_until, running, sent, served, until


async def left_behind():
    """Tasks of a link or a token source on the loop of the sockets."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("botbook-")]


async def nothing(batch):
    """Events are no concern of these links."""


def a_link(world, clock, **options):
    wire = MitiWire(**world.credentials())
    given = {
        "dial": world.dial,
        "tokens": TokenSource(wire.token_request, world.http, clock=clock),
        "deliver": nothing,
        "clock": clock,
    }
    return Link(wire, **(given | options))


def upgrades(world):
    return [entry["at"] for entry in sent(world, "upgrade") if entry["status"] == 101]


async def test_row_10_each_drop_of_a_healthy_link_is_mended_within_a_second(clock):
    """The official client takes 1, 2, 4, 8, 16 s."""
    world = World(scenario="quiet", clock=clock)
    link = a_link(world, clock)
    await link.start()
    for kind in ("fin", "rst", "fin", "close", "fin"):
        await clock.advance(10)
        if kind == "close":
            world.fault(kind, code=1011)
        else:
            world.fault(kind)
        await clock.advance(2)
        assert link.state == "open"
    ends = [entry["at"] for entry in sent(world, "closed")]
    gaps = [again - end for again, end in zip(upgrades(world)[1:], ends, strict=True)]
    assert len(gaps) == 5
    assert all(0 < gap <= 1.0 for gap in gaps), gaps
    await link.stop()
    await world.stop()


async def test_row_10_a_link_that_never_was_healthy_still_backs_off(clock):
    world = World(scenario="quiet", clock=clock)
    link = a_link(world, clock)
    await link.start()
    for _ in range(200):
        if world.miti.sockets:
            world.fault("fin")
        await clock.advance(0.5)
    gaps = [later - at for at, later in itertools.pairwise(upgrades(world))]
    assert len(gaps) <= 8
    assert gaps[-1] > gaps[0]
    await link.stop()
    await world.stop()


async def test_row_11_clients_that_were_dropped_together_do_not_come_back_together(clock):
    """The official client's come back within 1 ms of each other."""
    world = World(scenario="quiet", clock=clock)
    links = [a_link(world, clock) for _ in range(8)]
    for link in links:
        await link.start()
    await clock.advance(10)
    before = len(upgrades(world))
    world.fault("close", code=1006)
    await clock.advance(2)
    back = upgrades(world)[before:]
    assert len(back) == len(set(back)) == 8
    assert max(back) - min(back) > 0.02
    for link in links:
        await link.stop()
    await world.stop()


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011])
async def test_row_12_a_server_that_accepts_and_closes_is_left_in_peace(clock, code):
    """The official client makes 168 to 279 handshakes a second after 1000 and 1001."""
    times = []

    async def accept_and_close(opening):
        times.append(clock.monotonic())
        if len(times) > 100:
            await asyncio.Event().wait()
        near, far = memory_pair()
        await far.close(code)
        return near

    world = World(scenario="quiet", clock=clock)
    link = a_link(world, clock, dial=accept_and_close)
    await link.start()
    await clock.advance(60)
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= 5
    assert 3 <= len(times) <= 12
    await link.stop()


async def test_row_13_stop_does_not_wait_for_the_back_off(timed, clock):
    timed.sim.fault("upgrade_status", status=503, times=-1)
    timed.sim.fault("fin")
    await pass_until(clock, lambda: len(sent(timed.sim, "upgrade")) >= 6)
    await until(lambda: timed.status().state == "waiting")
    held = clock.monotonic()
    await asyncio.wait_for(timed.stop(), 5)
    assert clock.monotonic() == held  # nobody waited for the delay to pass
    assert timed.status().state == "stopped"
    assert await io_loop().call(left_behind()) == []


@pytest.mark.parametrize("stage", ["authenticating", "connecting"])
async def test_row_14_stop_is_heard_during_the_first_token_fetch_and_the_upgrade(store, clock, stage):
    bot = AsyncBot("sim", scenario="quiet", store=store, clock=clock)
    bot.sim.fault("slow", seconds=5)
    start = asyncio.create_task(bot.start())
    await until(lambda: bot.status().state == "authenticating")
    if stage == "connecting":  # the token has come, late
        await pass_until(clock, lambda: bot.status().state == "connecting", limit=6)
    await asyncio.wait_for(bot.stop(), 5)
    with pytest.raises(ConnectionLost, match="stopped"):
        await asyncio.wait_for(start, 5)
    assert bot.status().state == "stopped"
    await asyncio.sleep(0.05)
    assert sent(bot.sim, "upgrade") == []
    assert bot.sim.miti.sockets == 0
    assert await io_loop().call(left_behind()) == []


@pytest.mark.parametrize("where", ["token", "upgrade"])
async def test_row_14_the_agent_has_a_stop_and_it_is_heard_at_once(store, where):
    """Over a real socket; the bound is generous, the stalled gateway would hold for 30 s."""
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        if where == "token":
            world.fault("slow", seconds=30)
        task = asyncio.create_task(agent.run_async(register_signals=False))
        if where == "upgrade":
            await until(lambda: sent(world, "token"))
            world.fault("slow", seconds=30)
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await agent.close()
        await asyncio.wait_for(task, 10)
        assert time.monotonic() - began < 2
        assert world.miti.sockets == 0


async def test_row_15_cancelling_is_not_swallowed(store):
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        task = asyncio.create_task(agent.run_async(register_signals=False))
        await until(lambda: world.miti.sockets == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(agent.run_async(register_signals=False), 0.3)
        await until(lambda: world.miti.sockets == 0)


async def test_row_15_handlers_that_run_may_answer_before_the_end(store):
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        begun = []

        @agent.on_message
        async def handle(event):
            begun.append(event)
            await asyncio.sleep(0.1)
            await event.reply("goodbye")

        async with running(agent):
            for n in range(5):
                world.say(f"user{n}", "hi")
            await until(lambda: len(begun) == 5)
        assert len(sent(world, "send")) == 5


@pytest.mark.parametrize("which", [*POISON, "huge"])
async def test_row_16_a_bad_frame_does_not_end_the_connection(store, which):
    """On a real socket: the frame is counted, and the next event comes through the same connection."""
    async with (
        served() as (world, server),
        AsyncBot("miti", **world.credentials(server.base), store=store) as bot,
    ):
        world.fault("poison", which=which)
        world.say("ann", "still there?")
        await until(lambda: bot.status().events == 1)
        status = bot.status()
        assert (status.malformed, status.reconnects, status.state) == (1, 0, "open")
        assert status.error


async def test_row_16_nor_does_one_that_a_gateway_repeats_after_each_reconnect(store, clock):
    """What cannot be read is no reason to reconnect, so there is nothing to loop on."""
    async with AsyncBot("sim", scenario="quiet", store=store, clock=clock) as bot:
        bot.sim._here(lambda: bot.sim.miti.push(POISON["deep"]))
        await until(lambda: bot.status().malformed == 1)
        for times in (1, 2):
            bot.sim.fault("duplicate", when="reconnect")
            bot.sim.fault("fin")
            await until(lambda: bot.status().state != "open")
            await pass_until(clock, lambda: bot.status().malformed == 1 + times)  # noqa: B023
            assert bot.status().reconnects == times


async def test_row_16_a_dead_peer_is_noticed(store):
    """The official client takes 55 s; ours at the most the sum of two settings, 30 s by default."""
    async with served() as (world, server):
        wire = MitiWire(**world.credentials(server.base))
        tokens = TokenSource.fixed(world.miti._tokens.issue(60))
        opening = wire.opening(await tokens.get())
        transport = await open_websocket(
            Opening(url=opening.url, headers=opening.headers), ping_interval=0.05, ping_timeout=0.1
        )
        world.fault("stall", seconds=1)
        with pytest.raises(ConnectionLost, match="no answer to a ping"):
            await asyncio.wait_for(transport.receive(), 10)
        await transport.close()
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(open_websocket).parameters.items()
    }
    assert defaults["ping_interval"] + defaults["ping_timeout"] <= 30
