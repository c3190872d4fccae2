"""Three gateways in one world, in memory and behind one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from botbook._clock import FakeClock
from botbook._errors import ConfigError, ConnectionLost, HandshakeError, LocalProtocolError
from botbook._local.query import Query
from botbook._local.server import Server, serve
from botbook._local.world import World
from botbook._net.http import AiohttpHttp
from botbook._net.transport import Transport, open_websocket
from botbook.wire.contract import HttpRequest, Opening
from botbook.wire.langbot import LangBotWire
from tests.local.talk import asked, heard, opened, wires


@pytest.fixture
async def fast() -> AsyncIterator[World]:
    world = World(scenario="quiet", speed=1000)
    await world.start()
    yield world
    await world.stop()


@pytest.fixture
async def server(fast: World) -> AsyncIterator[Server]:
    made = await serve(fast)
    yield made
    await made.close()


@pytest.mark.parametrize("gateway", ["agent", "langbot"])
async def test_a_question_in_memory(fast, gateway):
    wire = wires(fast)[gateway]
    token = fast.credentials(gateway="langbot")["token"]
    answer = await asked(wire, await opened(wire, fast.dial, token))
    assert (answer.text, answer.error) == ("1 + 1 = **2**", "")
    assert fast.peer(gateway).sockets == 1
    assert {entry["gateway"] for entry in fast.log()} == {gateway}


@pytest.mark.parametrize("gateway", ["agent", "langbot"])
async def test_a_question_over_loopback(fast, server, gateway):
    wire = wires(fast, server.base)[gateway]
    token = server.description()["langbot"]["token"]

    async def dial(opening: Opening) -> Transport:
        return await open_websocket(opening, trust_env=False)

    transport = await opened(wire, dial, token)
    assert (await asked(wire, transport)).text == "1 + 1 = **2**"
    await transport.close()


async def test_rest_over_loopback(fast, server):
    http = AiohttpHttp(trust_env=False)
    wire = wires(fast, server.base)["langbot"]
    assert isinstance(wire, LangBotWire)
    token = server.description()["langbot"]["token"]
    request = wire.rest.history("a/b c", "person", read=lambda data: data)
    assert request.read(await http.exchange(request, token=token)) == {"messages": []}
    nowhere = HttpRequest(method="GET", url=f"{server.base}/nowhere", read=lambda got: got)
    assert (await http.exchange(nowhere, token=None)).status == 404
    await http.close()


async def test_what_is_no_chat_is_refused_over_loopback(fast, server):
    for path in ("/chat/elsewhere", "/nowhere"):
        with pytest.raises(HandshakeError) as caught:
            await open_websocket(Opening(url=server.base.replace("http", "ws") + path), trust_env=False)
        assert caught.value.status == 404


async def test_a_stalled_langbot_is_silent(clock: FakeClock):
    world = World(scenario="quiet", clock=clock)
    await world.start()
    wire = wires(world)["langbot"]
    opening = asyncio.create_task(opened(wire, world.dial, world.credentials(gateway="langbot")["token"]))
    await clock.settle()
    transport = await opening
    world.fault("stall", gateway="langbot", seconds=5)
    answer = asyncio.create_task(asked(wire, transport))
    await clock.advance(4.9)
    assert not answer.done()
    await clock.advance(1)
    assert (await answer).text == "1 + 1 = **2**"
    await world.stop()


@pytest.mark.parametrize("gateway", ["agent", "langbot"])
async def test_what_waits_in_a_stall_ends_with_the_world(fast, gateway):
    wire = wires(fast)[gateway]
    transport = await opened(wire, fast.dial, fast.credentials(gateway="langbot")["token"])
    fast.fault("stall", gateway=gateway, seconds=1000)
    fast.fault("poison", gateway=gateway)
    await asyncio.sleep(0)
    async with asyncio.timeout(1):
        await fast.stop()
    with pytest.raises(ConnectionLost):
        await transport.receive()


async def test_ratings_from_any_thread(fast):
    feedback_id = await asyncio.to_thread(
        fast.rate, 2, user="bob", content="not what I asked", reasons=[2, 4], feedback_id="f"
    )
    assert feedback_id == "f"
    (row,) = fast.langbot.records.page("feedback", Query())["feedback"]
    assert (row["feedback_type"], row["user_id"], row["inaccurate_reasons"]) == (2, "bob", '["2", "4"]')
    fast.reset()
    assert fast.langbot.records.page("feedback", Query())["total"] == 0


@pytest.mark.parametrize(
    ("settings", "text", "hint"),
    [
        ({"persona": "helpr"}, "no persona 'helpr'", "Did you mean helper?"),
        ({"langbot": "3.0"}, "no LangBot '3.0'", "Known: 4.10.1"),
    ],
)
def test_settings_that_make_no_world(settings, text, hint):
    with pytest.raises(ConfigError, match=text) as caught:
        World(**settings)
    assert hint in caught.value.hint


def test_an_older_langbot():
    world = World(langbot="4.10.1")
    assert world.credentials(gateway="langbot")["workspace_uuid"] == ""
    with pytest.raises(LocalProtocolError, match="no gateway 'box'"):
        world.credentials(gateway="box")


# ---------------------------------------------------------------------------- control


async def control(server: Server, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {server.control_token}"}
    url = server.base + "/control" + path
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json=body, headers=headers) as got,
    ):
        return got.status, await got.json()


async def test_control_of_all_gateways(fast, server):
    wire = wires(fast)["agent"]
    transport = await opened(wire, fast.dial, None)
    assert await control(server, "POST", "/agent/say", {"text": "by the way"}) == (200, {})
    seen = await heard(wire, transport, lambda item: item.type == "message.delta")
    assert seen[0].text.startswith("by the way")
    assert await control(server, "POST", "/faults", {"gateway": "agent", "kind": "rst"}) == (200, {})
    with pytest.raises(ConnectionLost):
        await heard(wire, transport, lambda item: False)
    status, told = await control(server, "POST", "/faults", {"gateway": "langbot", "kind": "graceful"})
    assert (status, told["error"]) == (400, "there is no fault 'graceful'")


async def test_ratings_by_control(fast, server):
    sent = {"kind": 1, "user": "bob", "feedback_id": "f"}
    assert await control(server, "POST", "/langbot/feedback", sent) == (200, {"feedback_id": "f"})
    assert fast.langbot.records.feedback_stats()["total_likes"] == 1
    for wrong in ({"kind": 7}, {"kind": 1, "reasons": "2"}):
        assert (await control(server, "POST", "/langbot/feedback", wrong))[0] == 400
