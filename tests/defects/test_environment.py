"""protocols/miti.md 10, rows 17 to 20: redirects, versions, logs, proxies."""

from __future__ import annotations

import asyncio
import logging
import tomllib
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from botbook import AsyncBot
from botbook._errors import ConnectError, HandshakeError
from botbook._local.server import serve
from botbook._local.world import World
from botbook._net.http import AiohttpHttp
from botbook._net.loop import io_loop
from botbook._net.transport import open_websocket
from botbook.compat.miti import MitiAgent
from botbook.wire.contract import HttpRequest, Opening
from tests.defects.rig import sent, served, until
from tests.net.fakes import tcp_server

ROOT = Path(__file__).parent.parent.parent


@asynccontextmanager
async def listener(reply=b""):
    """A server that keeps what it is sent, answers, and hangs up. Yields its port and that list."""
    heard = []

    async def talk(reader, writer):
        heard.append((await reader.read(65536)).decode(errors="replace"))
        writer.write(reply)
        await writer.drain()
        writer.close()

    async with tcp_server(talk) as port:
        yield port, heard


def redirect_to(port):
    return (
        f"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:{port}/chat/x\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()


async def test_row_17_credentials_do_not_follow_a_redirect(store):
    """The official client sends app id and secret on to wherever a 307 points."""
    async with listener() as (elsewhere, heard), listener(redirect_to(elsewhere)) as (port, asked):
        bot = AsyncBot(
            "miti", app_id="a", app_secret="s3cret", base_url=f"http://127.0.0.1:{port}/chat", store=store
        )
        with pytest.raises(HandshakeError, match="points elsewhere") as caught:
            await bot.start()
        assert "s3cret" in asked[0]
        assert heard == []
        assert f"127.0.0.1:{elsewhere}" in caught.value.hint


async def test_row_17_nor_does_the_bearer_token(store):
    async with listener() as (elsewhere, heard), listener(redirect_to(elsewhere)) as (port, asked):
        opening = Opening(url=f"ws://127.0.0.1:{port}/chat", headers={"Authorization": "Bearer t0ken"})
        with pytest.raises(HandshakeError) as caught:
            await open_websocket(opening)
        assert caught.value.status == 307
        assert "t0ken" in asked[0]
        assert heard == []


async def test_row_17_a_send_that_is_redirected_fails_and_is_not_sent_on(store):
    async with (
        listener() as (elsewhere, heard),
        served() as (world, server),
        AsyncBot("miti", **world.credentials(server.base), store=store) as bot,
    ):
        world.fault("redirect", location=f"http://127.0.0.1:{elsewhere}/", where="send")
        with pytest.raises(HandshakeError, match="points elsewhere"):
            await bot.send("user:ann", "private")
        assert heard == []


def test_row_18_the_floors_are_those_that_work():
    """Partly about the official package's own metadata, which allows versions that cannot connect.

    Ours: websockets 15.0 is the first with ``connect(proxy=…)``, which `_net/websocket` uses; the tests
    of `_net` pass with it and with aiohttp 3.10.0.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    floors = dict(line.split(">=") for line in project["dependencies"])
    assert tuple(map(int, floors["websockets"].split("."))) >= (15, 0)
    assert tuple(map(int, floors["aiohttp"].split("."))) >= (3, 10)
    assert project["requires-python"] == ">=3.11"


def test_row_18_an_agent_built_before_any_loop_sends_side_by_side(store):
    """Locks of the official client bind to the wrong loop on an old Python; ours on none."""
    world = World(scenario="quiet")
    io_loop().run(world.start())
    server = io_loop().run(serve(world))
    agent = MitiAgent(**world.credentials(server.base), store=store)

    async def main():
        sends = (agent.send_message(to_user_id=f"u{n}", content={"text": "x"}) for n in range(3))
        try:
            return await asyncio.gather(*sends)
        finally:
            await agent.close()

    try:
        for _ in range(2):  # each time on a loop of its own
            assert all(told["message_id"] for told in asyncio.run(main()))
        assert len(sent(world, "send")) == 6
    finally:
        io_loop().run(server.close())
        io_loop().run(world.stop())


class Everything(logging.Handler):
    """Keeps every record as text, with its traceback."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.lines = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record):
        self.lines.append(self.format(record))


async def test_row_19_no_secret_is_logged_with_the_root_logger_at_debug(store):
    """`websockets.client` prints the bearer token of the official client."""
    root, everything = logging.getLogger(), Everything()
    level = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    try:
        async with (
            served() as (world, server),
            AsyncBot("miti", **world.credentials(server.base), store=store) as bot,
        ):
            bot.on("message.received", lambda event: event.reply("hello"), name="hello")
            world.say("ann", "hi")
            await until(lambda: sent(world, "send"))
            tokens = list(world.miti._tokens._ends)
            world.fault("http", status=500, where="history")
            with pytest.raises(Exception, match="500"):
                await bot.history("si_ann_cli_sim")
            secrets = [*tokens, world.miti.app_secret]
            assert secrets[0]
            link = bot._connection
            shown = [repr(bot.settings), repr(link._tokens), repr(link.link), str(bot.status())]
    finally:
        root.removeHandler(everything)
        root.setLevel(level)
    assert any(line.startswith("botbook ") for line in everything.lines)
    said = "\n".join([*everything.lines, *shown])
    assert [secret for secret in secrets if secret in said] == []


PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@pytest.fixture
def no_proxies(monkeypatch):
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


async def test_row_20_a_dead_proxy_stops_neither_way_to_this_machine(no_proxies, store):
    """The official client's REST works then, and its WebSocket never leaves."""
    for name in PROXIES:
        no_proxies.setenv(name, "http://127.0.0.1:9")
    async with (
        served() as (world, server),
        AsyncBot("miti", **world.credentials(server.base), store=store) as bot,
    ):
        assert (await bot.send("user:ann", "x")).message_id
        assert bot.status().state == "open"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
async def test_row_20_both_ways_to_a_remote_gateway_take_the_proxy(no_proxies, name):
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
    async with listener(refusal) as (port, heard):
        no_proxies.setenv(name, f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectError, match="proxy"):
            await open_websocket(Opening(url="wss://gateway.invalid/agent/gateway"))
        http = AiohttpHttp()
        request = HttpRequest(method="GET", url="https://gateway.invalid/x", read=lambda response: response)
        with pytest.raises(ConnectError, match="proxy"):
            await http.exchange(request, token="t0ken")
        await http.close()
    assert [line.split("\r\n")[0] for line in heard] == ["CONNECT gateway.invalid:443 HTTP/1.1"] * 2
    assert "t0ken" not in "".join(heard)
