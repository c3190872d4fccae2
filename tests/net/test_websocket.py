"""The library behind the transport, against small servers on loopback."""

from __future__ import annotations

import asyncio
import logging
import socket
import time

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import InvalidURI, ProxyError

from botbook._errors import (
    ConfigError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
)
from botbook._net import websocket
from botbook._net.auth import TokenSource
from botbook._net.link import Link
from botbook._net.transport import open_websocket
from botbook.wire.contract import Opening
from tests.net.fakes import SECRET, Wire, tcp_server, upgrade, wire_frame

TEXT, BINARY, CONT, CLOSE, PING = 1, 2, 0, 8, 9


def opening(port, path="/", **headers):
    return Opening(url=f"ws://127.0.0.1:{port}{path}", headers=headers)


async def read_until_end(transport):
    frames = []
    with pytest.raises(ConnectionLost) as caught:
        while True:
            frames += await transport.receive()
    return frames, caught.value


def speaker(*chunks, hold=True):
    """A server that upgrades, says some bytes, and hangs up at once or when it hears something.

    ``hold="for ever"`` makes it one that never hears and never hangs up.
    """

    async def talk(reader, writer):
        await upgrade(reader, writer)
        for chunk in chunks:
            writer.write(chunk)
        if hold == "for ever":
            await asyncio.Event().wait()
        if hold:
            await reader.read(1)
        writer.close()

    return talk


# ------------------------------------------------------------------------------- frames


async def test_there_and_back():
    quiet = logging.Logger("quiet", logging.CRITICAL)

    async def echo(ws):
        async for message in ws:
            await ws.send(message)
        assert ws.close_code == 1001
        said.set_result(ws.close_reason)

    said = asyncio.get_running_loop().create_future()
    async with serve(echo, "127.0.0.1", 0, logger=quiet) as server:
        transport = await open_websocket(opening(server.sockets[0].getsockname()[1]))
        await transport.send("grüße")
        await transport.send(b"\x00\xff")
        frames = []
        while len(frames) < 2:
            frames += await transport.receive()
        assert frames == ["grüße", b"\x00\xff"]
        began = time.perf_counter()
        await transport.close(1001, "ü" * 100)
        await transport.close()
        assert time.perf_counter() - began < 0.1
        assert (await said) == "ü" * 61
        with pytest.raises(ConnectionLost) as caught:
            await transport.send("late")
        assert caught.value.code == 1001
        with pytest.raises(ConnectionLost):
            await transport.receive()


async def test_all_that_arrived_comes_at_once_with_fragments_joined():
    chunks = [
        wire_frame(TEXT, b"one"),
        wire_frame(TEXT, "t\u00fc".encode()[:2], fin=False),
        wire_frame(PING, b""),
        wire_frame(CONT, "\u00fc".encode()[1:], fin=False),
        wire_frame(CONT, b"o", fin=True),
        wire_frame(BINARY, b"\xff", fin=False),
        wire_frame(CONT, b"\xfe", fin=True),
        wire_frame(TEXT, b"\xff\xfe"),
        wire_frame(CLOSE, (4001).to_bytes(2) + b"bye"),
    ]
    async with tcp_server(speaker(b"".join(chunks), hold="for ever")) as port:
        transport = await open_websocket(opening(port))
        frames, lost = await read_until_end(transport)
        assert frames == ["one", "tüo", b"\xff\xfe", b"\xff\xfe"], "text that is no UTF-8 comes as bytes"
        assert (lost.code, lost.reason) == (4001, "bye")
        began = time.perf_counter()
        await transport.close()
        assert time.perf_counter() - began < 0.2, "though this peer never hangs up"


@pytest.mark.parametrize(
    ("chunk", "code"),
    [
        (b"", 1006),
        (wire_frame(CLOSE, b""), 1005),
        (wire_frame(3, b"no such opcode"), 1002),
        (wire_frame(TEXT, b"x" * 16_001), 1009),
        (wire_frame(CONT, b"of nothing"), 1002),
    ],
)
async def test_how_it_ends(chunk, code):
    async with tcp_server(speaker(wire_frame(TEXT, b"x" * 1500), chunk, hold=bool(chunk))) as port:
        transport = await open_websocket(opening(port), max_bytes=1000)
        frames, lost = await read_until_end(transport)
        assert frames == ["x" * 1500], "a frame up to 16 times too long is handed out, to be counted"
        assert lost.code == code
        await transport.close()


async def test_reading_pauses_when_nobody_takes():
    payload = b"x" * 2**18
    done = asyncio.Event()

    async def talk(reader, writer):
        await upgrade(reader, writer)
        for _ in range(64):
            writer.write(wire_frame(BINARY, payload))
            await writer.drain()
        done.set()
        await asyncio.Event().wait()

    async with tcp_server(talk) as port:
        transport = await open_websocket(opening(port), ping_interval=0.01, ping_timeout=0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(done.wait(), 0.05)
        total = 0
        while total < 64:
            got = await transport.receive()
            total += len(got)
            assert len(got) <= 17 + 64 // 8
        await transport.close()


async def test_sending_waits_for_a_slow_reader_and_sees_the_end():
    async def talk(reader, writer):
        await upgrade(reader, writer)
        writer.transport.pause_reading()
        await asyncio.sleep(0.03)
        writer.transport.abort()

    async with tcp_server(talk) as port:
        transport = await open_websocket(opening(port))
        with pytest.raises(ConnectionLost):
            for _ in range(1000):
                await transport.send(b"x" * 2**18)
        await transport.close()


# ------------------------------------------------------------------------------- heartbeat


async def test_a_dead_peer_is_noticed():
    async with tcp_server(speaker(hold="for ever")) as port:
        transport = await open_websocket(opening(port), ping_interval=0.02, ping_timeout=0.03)
        began = time.perf_counter()
        with pytest.raises(ConnectionLost, match=r"no answer to a ping for 0\.03 s") as caught:
            await transport.receive()
        assert caught.value.code == 1011
        assert time.perf_counter() - began < 0.3
        await transport.close()


async def test_anything_heard_is_a_sign_of_life():
    async def talk(reader, writer):
        await upgrade(reader, writer)
        for i in range(15):
            writer.write(wire_frame(TEXT, str(i).encode()))
            await asyncio.sleep(0.01)
        writer.close()

    async with tcp_server(talk) as port:
        transport = await open_websocket(opening(port), ping_interval=0.02, ping_timeout=0.05)
        frames, lost = await read_until_end(transport)
        assert len(frames) == 15, "though it never answered a ping"
        assert lost.code == 1006
        await transport.close()


def test_by_default_a_dead_peer_is_noticed_well_below_55_seconds():
    defaults = open_websocket.__kwdefaults__
    assert defaults["ping_interval"] + defaults["ping_timeout"] <= 30
    assert defaults["open_timeout"] < 10


# ------------------------------------------------------------------------------- what goes wrong at first


async def answer(port_talk, match, kind, **options):
    async with tcp_server(port_talk) as port:
        with pytest.raises(kind, match=match) as caught:
            await open_websocket(opening(port, Authorization=f"Bearer {SECRET}"), **options)
    assert caught.value.hint
    assert SECRET not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__}"
    return caught.value


def http(head, body=b""):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return talk


async def test_nobody_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(
            ConnectError, match=f"nobody answers at ws://127.0.0.1:{port}: Connection refused"
        ):
            await open_websocket(opening(port))


async def test_no_web_server():
    async def ssh(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")

    await answer(ssh, "does not answer like a WebSocket", HandshakeError)


async def test_a_server_that_hangs_up():
    async def hang_up(reader, writer):
        writer.close()

    await answer(hang_up, "does not answer like a WebSocket", HandshakeError)


async def test_a_web_page():
    error = await answer(
        http("HTTP/1.1 404 Not Found", b"no such page"), "HTTP 404: no such page", HandshakeError
    )
    assert error.status == 404


async def test_a_web_page_that_is_fine():
    error = await answer(http("HTTP/1.1 200 OK"), "HTTP 200", HandshakeError)
    assert error.status == 200


async def test_refused():
    error = await answer(http("HTTP/1.1 401 Unauthorized"), "HTTP 401", HandshakeError)
    assert "credentials" in error.hint


async def test_busy():
    error = await answer(http("HTTP/1.1 503 Busy\r\nRetry-After: 7"), "HTTP 503", HandshakeError)
    assert error.retry_after == 7
    assert "later" in error.hint


async def test_no_redirect_is_followed():
    seen = []

    async def other(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))

    async with tcp_server(other) as elsewhere:
        head = f"HTTP/1.1 307 Moved\r\nLocation: ws://127.0.0.1:{elsewhere}/x"
        error = await answer(http(head), "HTTP 307", HandshakeError)
    assert f"127.0.0.1:{elsewhere}" in error.hint
    assert not seen


async def test_a_server_that_says_nothing():
    async def mute(reader, writer):
        await asyncio.Event().wait()

    await answer(mute, "within 0.05 s", DeadlineExceeded, open_timeout=0.05)


async def test_no_tls_there():
    async def plain(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with tcp_server(plain) as port:
        with pytest.raises(HandshakeError, match="does not speak TLS") as caught:
            await open_websocket(Opening(url=f"wss://127.0.0.1:{port}/"))
    assert "ws://" in caught.value.hint


@pytest.mark.parametrize("url", ["ws://example.org/", "http://127.0.0.1/", "ws://u:p@127.0.0.1/", "ws://"])
async def test_addresses_that_are_unfit(url):
    with pytest.raises(ConfigError):
        await open_websocket(Opening(url=url))


@pytest.mark.parametrize("value", [f"Bearer {SECRET}\n", f"Bearer {SECRET}ü", f"Bearer {SECRET}\r\nX: y"])
async def test_headers_that_are_unfit(value):
    with pytest.raises(ConfigError, match="Authorization") as caught:
        await open_websocket(opening(1, Authorization=value))
    assert SECRET not in f"{caught.value} {caught.value.hint}"


async def test_a_proxy_that_refuses(monkeypatch):
    heads = []

    async def proxy(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    async with tcp_server(proxy) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{SECRET}@127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        with pytest.raises(ConnectError, match=r"proxy did not let .*gateway.example:443") as caught:
            await open_websocket(Opening(url="wss://gateway.example:443/x"))
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert heads[0].startswith(b"CONNECT gateway.example:443 ")


def test_no_error_of_the_library_is_missed():
    import websockets.exceptions as theirs

    from botbook._errors import BotbookError

    for name in theirs.__all__:
        kind = getattr(theirs, name)
        error = kind.__new__(kind)
        if not isinstance(error, theirs.InvalidStatus):
            assert isinstance(websocket._mapped(error, "here", 1.0), BotbookError), name
    assert isinstance(websocket._mapped(InvalidURI("x", "y"), "here", 1.0), ConfigError)
    assert isinstance(websocket._mapped(ProxyError("x"), "here", 1.0), ConnectError)


# ------------------------------------------------------------------------------- with a link


async def test_no_log_shows_the_token(caplog):
    caplog.set_level(logging.DEBUG)
    async with tcp_server(speaker(wire_frame(TEXT, b"e:1"), wire_frame(3, b""))) as port:
        transport = await open_websocket(opening(port, Authorization=f"Bearer {SECRET}"))
        await read_until_end(transport)
        await transport.close()
    assert SECRET not in caplog.text
    assert not [record for record in caplog.records if record.name.startswith("websockets")]


class PortWire(Wire):
    def __init__(self, port):
        super().__init__()
        self.port = port

    def opening(self, token):
        return opening(self.port)


def link_to(port, got, **options):
    async def deliver(batch):
        got.extend(batch)

    return Link(
        PortWire(port), dial=open_websocket, tokens=TokenSource.fixed(None), deliver=deliver, **options
    )


async def test_a_link_over_a_socket():
    async def talk(reader, writer):
        await upgrade(reader, writer)
        writer.write(b"".join(wire_frame(TEXT, f"e:{i}".encode()) for i in range(2000)))
        await asyncio.Event().wait()

    got = []
    async with tcp_server(talk) as port:
        link = link_to(port, got)
        await link.start()
        while len(got) < 2000:
            await asyncio.sleep(0.001)
        assert [event.event_id for event in got] == [str(i) for i in range(2000)]
        began = time.perf_counter()
        await link.stop()
        assert time.perf_counter() - began < 0.2, "though this peer never answers a close"


@pytest.mark.parametrize("stage", ["upgrade", "open"])
async def test_stop_and_cancel_over_a_socket(stage):
    connected = asyncio.Event()
    heads = []

    async def talk(reader, writer):
        if stage == "open":
            await upgrade(reader, writer)
        connected.set()
        while data := await reader.read(1000):
            heads.append(data)

    async with tcp_server(talk) as port:
        link = link_to(port, [])
        starting = asyncio.create_task(link.start())
        await connected.wait()
        await asyncio.sleep(0.01)
        began = time.perf_counter()
        await link.stop()
        assert time.perf_counter() - began < 0.2
        await asyncio.gather(starting, return_exceptions=True)
