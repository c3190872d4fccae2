"""The world behind a loopback port: the same gateway, real sockets, and its control."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest

from botbook._errors import ApiError, ConfigError, ConnectionLost, HandshakeError, RemoteProtocolError
from botbook._local.faults import POISON
from botbook._local.server import Server, serve
from botbook._local.world import World
from botbook._net.http import AiohttpHttp
from botbook._net.transport import open_websocket
from botbook.actions import AnswerCompleted, AnswerStarted, History, Run, Send, Sent
from botbook.wire.contract import Ack
from botbook.wire.miti import MitiWire

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CHAT = "si_ada_cli_sim"
RUN = Run(run_id="r", message_id="am", to="user:ada", asker="ada", chat_id=CHAT, question_id="m")


class Peer:
    """A client over real sockets, and the control."""

    def __init__(self, server: Server) -> None:
        told = server.description()
        self.control_url, self.control_token = told["control"], told["control_token"]
        self.wire = MitiWire(**told["miti"], name="b")
        self.http = AiohttpHttp(trust_env=False)
        self.session = aiohttp.ClientSession()
        self.token = None
        self.transport = None

    async def log_in(self) -> None:
        request = self.wire.token_request()
        self.token = request.read(await self.http.exchange(request, token=None)).value

    async def connect(self, **options) -> Peer:
        if self.token is None:
            await self.log_in()
        opening = self.wire.opening(self.token)
        self.transport = await open_websocket(opening, trust_env=False, **options)
        return self

    async def do(self, action):
        for out in self.wire.send(action, at=AT):
            if isinstance(out, str):
                await self.transport.send(out)
            else:
                return out.read(await self.http.exchange(out, token=self.token))
        return None

    async def frames(self, count: int) -> list:
        frames = []
        async with asyncio.timeout(5):
            while len(frames) < count:
                frames += await self.transport.receive()
        return frames

    async def events(self, count: int = 1) -> list:
        return [got for frame in await self.frames(count) for got in self.wire.receive(frame, at=AT)]

    async def lost(self) -> ConnectionLost:
        with pytest.raises(ConnectionLost) as caught:
            await self.frames(10**9)
        return caught.value

    async def control(self, method: str, path: str, body=None, *, token: str | None = None) -> tuple:
        headers = {"Authorization": f"Bearer {self.control_token if token is None else token}"}
        async with self.session.request(
            method, self.control_url + path, json=body, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def fault(self, kind: str, **options) -> None:
        assert await self.control("POST", "/faults", {"gateway": "miti", "kind": kind, **options}) == (
            200,
            {},
        )

    async def close(self) -> None:
        if self.transport is not None:
            await self.transport.close()
        await self.http.close()
        await self.session.close()


@pytest.fixture
async def door() -> AsyncIterator[Server]:
    world = World(scenario="quiet")
    server = await serve(world)
    await world.start()
    yield server
    await world.stop()
    await server.close()


@pytest.fixture
async def peer(door) -> AsyncIterator[Peer]:
    made = Peer(door)
    yield made
    await made.close()


# ---------------------------------------------------------------------------- the gateway


async def test_the_whole_way(peer):
    await peer.connect()
    status, said = await peer.control("POST", "/say", {"user": "ada", "text": "你好"})
    (event,) = await peer.events()
    assert (status, event.text, event.message_id) == (200, "你好", said["message_id"])
    assert isinstance(await peer.do(Send(id="a", to=event.target, text="hi")), Sent)
    items = await peer.do(History(id="h", chat_id=event.chat_id))
    assert [(item.role, item.text) for item in items] == [("user", "你好"), ("assistant", "hi")]
    await peer.do(AnswerCompleted(id="e1", run=RUN, seq=1, text="done"))
    assert await peer.events() == [Ack("e1")]


async def test_the_description(door):
    told = door.description()
    assert sorted(told) == ["agent", "control", "control_token", "langbot", "miti"]
    assert told["miti"]["base_url"].startswith("http://127.0.0.1:")
    assert told["miti"]["base_url"].endswith("/chat")
    assert sorted(told["miti"]) == ["app_id", "app_secret", "base_url"]
    assert told["agent"] == {"base_url": told["control"].replace("http", "ws").removesuffix("control")}
    assert {"base_url", "token", "workspace_uuid", "pipeline_uuid"} <= set(told["langbot"])
    assert json.dumps(told).isascii()


async def test_refusals_over_http(peer):
    with pytest.raises(HandshakeError) as caught:
        await open_websocket(peer.wire.opening("made up"), trust_env=False)
    assert caught.value.status == 401
    with pytest.raises(ApiError) as caught:
        await peer.do(History(id="h", chat_id="si_x"))
    assert caught.value.status == 401
    await peer.fault("upgrade_status", status=503, retry_after=3)
    with pytest.raises(HandshakeError) as caught:
        await peer.connect()
    assert (caught.value.status, caught.value.retry_after) == (503, 3.0)


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("rst", {}, 1006),
        ("fin", {}, 1006),
        ("raw", {"data": "ffff"}, 1002),
        ("close", {"code": 1011, "reason": "broken"}, 1011),
        ("close", {}, 1001),
    ],
)
async def test_ends_of_a_socket(peer, kind, options, code):
    await peer.connect()
    await peer.fault(kind, **options)
    lost = await peer.lost()
    assert (lost.code == code) or (kind == "raw" and lost.code == 1006)
    await peer.connect()
    await peer.control("POST", "/say", {"user": "ada", "text": "back"})
    assert [event.text for event in await peer.events()] == ["back"]


async def test_a_reset_is_a_reset_on_the_tcp_level(door, peer):
    await peer.connect()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(door.base.rpartition(":")[2]))
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    writer.write(
        f"GET /chat/agent/gateway HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {peer.token}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert b"101" in await reader.readuntil(b"\r\n\r\n")
    await peer.fault("rst")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_poison_goes_over_the_wire(peer):
    await peer.connect()
    await peer.fault("poison")
    for frame in await peer.frames(len(POISON)):
        with pytest.raises(RemoteProtocolError):
            peer.wire.receive(frame, at=AT)


async def test_a_stalled_gateway_answers_no_ping(peer):
    await peer.connect(ping_interval=0.1, ping_timeout=0.2)
    await peer.fault("stall", seconds=1.5)
    assert (await peer.lost()).code in (1006, 1011)


async def test_a_gateway_that_is_awake_answers_pings(peer):
    await peer.connect(ping_interval=0.05, ping_timeout=0.5)
    await asyncio.sleep(0.3)
    await peer.control("POST", "/say", {"user": "ada", "text": "alive"})
    assert [event.text for event in await peer.events()] == ["alive"]


async def test_the_client_closes(door, peer):
    await peer.connect()
    await peer.transport.close(1000, "bye")
    for _ in range(100):
        _, told = await peer.control("GET", "/log")
        if told["log"][-1]["what"] == "closed":
            break
        await asyncio.sleep(0.01)
    assert (told["log"][-1]["code"], told["log"][-1]["reason"]) == (1000, "bye")


async def test_many_events_arrive_in_order(peer):
    frames = [{"header": {"event_id": f"e{n}", "event_type": "im.message.receive"}} for n in range(2000)]
    assert await peer.control("POST", "/miti/events", {"events": frames}) == (200, {"pushed": 2000})
    assert (await peer.control("GET", "/status"))[1]["miti"] == {"sockets": 0, "queued": 2000}
    await peer.connect()
    assert [event.event_id for event in await peer.events(2000)] == [f"e{n}" for n in range(2000)]


async def test_frames_that_are_no_envelope_can_be_pushed_as_text(peer):
    await peer.connect()
    await peer.control("POST", "/miti/events", {"events": ["no JSON"]})
    assert await peer.frames(1) == ["no JSON"]


# ---------------------------------------------------------------------------- control


@pytest.mark.parametrize("token", ["", "wrong", "é"])
async def test_control_asks_for_its_token(peer, token):
    status, told = await peer.control("GET", "/log", token=token)
    assert (status, told) == (401, {"error": "the control token is wrong or missing"})


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        ("/faults", {"kind": "nonsense"}, "no fault 'nonsense'"),
        ("/faults", {"kind": "rst", "gateway": "box"}, "no gateway 'box'"),
        ("/faults", [], "no JSON object"),
        ("/faults", None, "no JSON object"),
        ("/miti/events", {"events": 7}, "events must be a list"),
        ("/miti/cancel", {}, "no such answer"),
        ("/say", {"user": "ada"}, "user and text are needed"),
    ],
)
async def test_control_says_what_is_wrong(peer, path, body, text):
    status, told = await peer.control("POST", path, body)
    assert status == 400
    assert text in told["error"]
    assert told["hint"]


async def test_control_of_a_streamed_answer(peer):
    await peer.connect()
    await peer.do(AnswerStarted(id="e1", run=RUN))
    await peer.control("POST", "/say", {"user": "bo", "text": "x", "group": "g", "name": "Bo"})
    assert (await peer.events())[0].user_name == "Bo"
    assert await peer.control("POST", "/miti/cancel", {}) == (200, {"run_id": "r"})
    assert (await peer.events())[0].type == "answer.cancelled"


async def test_log_and_reset(peer):
    await peer.connect()
    _, told = await peer.control("GET", "/log")
    assert [entry["what"] for entry in told["log"]] == ["token", "upgrade"]
    assert [entry["n"] for entry in (await peer.control("GET", "/log?after=1"))[1]["log"]] == [2]
    assert await peer.control("POST", "/reset") == (200, {})
    assert await peer.control("GET", "/log?after=x") == (200, {"log": []})
    assert (await peer.control("GET", "/status"))[1] == {
        "scenario": "finished",
        "miti": {"sockets": 1, "queued": 0},
        "agent": {"sockets": 0},
        "langbot": {"sockets": 0},
    }


# ---------------------------------------------------------------------------- where it listens


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org", "", "::"])
async def test_only_on_loopback(host):
    with pytest.raises(ConfigError, match="reachable from outside"):
        await serve(World(scenario="quiet"), host=host)


@pytest.mark.parametrize(("host", "base"), [("localhost", "http://localhost:"), ("::1", "http://[::1]:")])
async def test_names_of_loopback(host, base):
    server = await serve(World(scenario="quiet"), host=host)
    assert server.base.startswith(base)
    await server.close()


async def test_a_port_that_is_taken(door):
    port = int(door.base.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
        await serve(World(scenario="quiet"), port=port)
