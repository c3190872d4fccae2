"""REST, against small servers on loopback and from scripts."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from datetime import timedelta
from email.utils import format_datetime

import aiohttp
import pytest

from botbook._errors import (
    ApiError,
    AuthError,
    BotbookError,
    ConfigError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
    RemoteProtocolError,
)
from botbook._net import http as module
from botbook._net.auth import TokenSource
from botbook._net.http import AiohttpHttp, Rest
from botbook.wire.contract import HttpRequest, Response
from tests.net.fakes import SECRET, Http, tcp_server, token, token_request


def read(response):
    if response.status == 401:
        raise AuthError("the server's own words", code=7, status=401)
    if response.status >= 400:
        raise ApiError("no", code=response.status, status=response.status)
    return response.body


def request(**given):
    return HttpRequest(**({"method": "POST", "url": "http://127.0.0.1/x", "read": read} | given))


@pytest.fixture
async def client():
    made = AiohttpHttp()
    yield made
    await made.close()
    await made.close()


def answering(head, body=b"", *, seen=None):
    async def talk(reader, writer):
        while True:
            text = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (int(line[16:]) for line in text.splitlines() if line.lower().startswith("content-length")), 0
            )
            sent = await reader.readexactly(length)
            if seen is not None:
                seen.append((text, sent))
            writer.write(head.encode() + f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return talk


# ------------------------------------------------------------------------------- one exchange


async def test_an_exchange(client):
    seen = []
    async with tcp_server(answering("HTTP/1.1 201 Created\r\nX-Odd: Yes", b"done", seen=seen)) as port:
        answer = await client.exchange(
            request(
                url=f"http://127.0.0.1:{port}/a", json={"t": "ü"}, params={"q": "a b"}, headers={"X-Own": "1"}
            ),
            token=SECRET,
        )
        await client.exchange(request(method="GET", url=f"http://127.0.0.1:{port}/b"), token=None)
    assert (answer.status, answer.body, answer.headers["x-odd"]) == (201, b"done", "Yes")
    (first, body), (second, nothing) = seen
    assert first.startswith(("POST /a?q=a+b HTTP/1.1", "POST /a?q=a%20b HTTP/1.1"))
    assert f"Authorization: Bearer {SECRET}" in first
    assert "X-Own: 1" in first
    assert json.loads(body) == {"t": "ü"}
    assert second.startswith("GET /b")
    assert "Authorization" not in second
    assert nothing == b""


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(client, status):
    elsewhere_seen = []
    async with tcp_server(answering("HTTP/1.1 200 OK", seen=elsewhere_seen)) as elsewhere:
        head = f"HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{elsewhere}/steal"
        async with tcp_server(answering(head)) as port:
            with pytest.raises(HandshakeError, match="points elsewhere") as caught:
                await client.exchange(
                    request(url=f"http://127.0.0.1:{port}/", json={"app_secret": SECRET}), token=SECRET
                )
    assert caught.value.status == status
    assert f"127.0.0.1:{elsewhere}/steal" in caught.value.hint
    assert not elsewhere_seen


async def test_304_is_an_answer(client):
    async with tcp_server(answering("HTTP/1.1 304 Not Modified")) as port:
        assert (await client.exchange(request(url=f"http://127.0.0.1:{port}/"), token=None)).status == 304


async def refusal(client, talk, kind, match):
    async with tcp_server(talk) as port:
        with pytest.raises(kind, match=match) as caught:
            await client.exchange(request(url=f"http://127.0.0.1:{port}/"), token=SECRET)
    assert SECRET not in f"{caught.value!r} {caught.value.hint}"
    assert caught.value.__suppress_context__
    return caught.value


async def test_nobody_there(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(ConnectError, match=r"nobody answers at .*: Connection refused") as caught:
            await client.exchange(request(url=url), token=None)
    assert caught.value.hint


async def test_no_web_server(client):
    async def ssh(reader, writer):
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")

    assert (await refusal(client, ssh, HandshakeError, "does not answer like a web server")).hint


async def test_a_server_that_hangs_up(client):
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    await refusal(client, hang_up, ConnectionLost, "hung up")


async def test_half_an_answer(client):
    async def half(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    await refusal(client, half, ConnectionLost, "hung up")


async def test_an_endless_answer(client, monkeypatch):
    monkeypatch.setattr(module, "MAX_ANSWER", 1000)
    async with tcp_server(answering("HTTP/1.1 200 OK", b"x" * 2000)) as port:
        with pytest.raises(RemoteProtocolError, match="64 MiB"):
            await client.exchange(request(url=f"http://127.0.0.1:{port}/"), token=None)


async def test_silence():
    async def mute(reader, writer):
        await asyncio.Event().wait()

    client = AiohttpHttp(total_timeout=0.05)
    await refusal(client, mute, DeadlineExceeded, "within 0.05 s")
    await client.close()


async def test_no_tls_there(client):
    async def plain(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with tcp_server(plain) as port:
        with pytest.raises(HandshakeError, match="does not speak TLS"):
            await client.exchange(request(url=f"https://127.0.0.1:{port}/"), token=None)


async def test_what_cannot_be_sent(client):
    with pytest.raises(ConfigError):
        await client.exchange(request(url="http://example.org/"), token=None)
    with pytest.raises(ConfigError, match="Authorization") as caught:
        await client.exchange(request(), token=f"{SECRET}\n")
    assert SECRET not in f"{caught.value!r} {caught.value.hint}"


async def test_the_proxy_is_that_of_the_websocket(client, monkeypatch):
    heads = []

    async def proxy(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with tcp_server(proxy) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(ConnectError, match=r"proxy did not let .*gateway.example"):
            await client.exchange(request(url="https://gateway.example/x"), token=SECRET)
        async with tcp_server(answering("HTTP/1.1 200 OK")) as direct:
            await client.exchange(request(url=f"http://127.0.0.1:{direct}/"), token=None)
    [head] = heads
    assert head.startswith(b"CONNECT gateway.example:443 ")
    assert SECRET.encode() not in head
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    with pytest.raises(ConnectError, match="proxy"):
        await client.exchange(request(url="https://gateway.example/x"), token=None)


def test_no_error_of_the_library_is_missed():
    asked = request()
    for name in aiohttp.client_exceptions.__all__:
        kind = getattr(aiohttp, name)
        error = kind.__new__(kind)
        if isinstance(error, aiohttp.ClientConnectorError):
            error._os_error = OSError("x")
        if isinstance(error, Exception) and not isinstance(error, TypeError):
            assert isinstance(module._mapped(error, asked, 1.0), BotbookError), name
    assert isinstance(module._mapped(aiohttp.ConnectionTimeoutError(), asked, 1.0), ConnectError)


async def test_no_log_shows_the_token(client, caplog):
    caplog.set_level(logging.DEBUG)
    async with tcp_server(answering("HTTP/1.1 200 OK\r\nSet-Cookie: a b=1; Path")) as port:
        await client.exchange(request(url=f"http://127.0.0.1:{port}/"), token=SECRET)
    assert SECRET not in caplog.text


def test_a_time_limit_of_its_own():
    assert AiohttpHttp()._connect_timeout == 10
    assert AiohttpHttp()._total_timeout == 30


# ------------------------------------------------------------------------------- again?


def rest(http, clock, rng, tokens=None):
    return Rest(http, tokens or TokenSource.fixed("t"), clock, rng)


OK = Response(200, b"fine")
BUSY = Response(503, b"", {})
ASKED = Response(429, b"", {"retry-after": "3"})
LOST = ConnectionLost(1006, "hung up")
REFUSED = ConnectError("nobody")


async def outcome(call, clock, seconds=200):
    task = asyncio.create_task(call)
    await clock.advance(seconds)
    return (await asyncio.gather(task, return_exceptions=True))[0]


async def test_a_call(clock, rng):
    http = Http(OK)
    assert await rest(http, clock, rng).call(request()) == b"fine"
    assert http.calls[0][1] == "t"
    await rest(http, clock, rng).call(request(authorised=False))
    assert http.calls[1][1] is None


@pytest.mark.parametrize(
    ("first", "repeatable", "again"),
    [
        (ASKED, False, True),
        (ASKED, True, True),
        (BUSY, False, False),
        (BUSY, True, True),
        (REFUSED, False, True),
        (LOST, False, False),
        (LOST, True, True),
        (DeadlineExceeded("slow"), False, False),
        (DeadlineExceeded("slow"), True, True),
        (HandshakeError("moved", status=307), True, False),
        (Response(500), True, False),
        (Response(404), True, False),
    ],
    ids=str,
)
async def test_what_is_made_again(clock, rng, first, repeatable, again):
    http = Http(first, OK)
    result = await outcome(rest(http, clock, rng).call(request(repeatable=repeatable)), clock)
    assert len(http.calls) == (2 if again else 1)
    assert (result == b"fine") is again
    assert again or isinstance(result, BotbookError)


async def test_retry_after_is_obeyed(clock, rng):
    http = Http(
        ASKED, Response(503, b"", {"retry-after": format_datetime(clock.now() + timedelta(seconds=9))}), OK
    )
    call = asyncio.create_task(rest(http, clock, rng).call(request()))
    await clock.advance(2.99)
    assert len(http.calls) == 1
    await clock.advance(0.6)
    assert len(http.calls) == 2
    await clock.advance(5)
    assert len(http.calls) == 2
    await clock.advance(1)
    assert await call == b"fine"


async def test_a_wait_that_is_too_long_is_not_taken(clock, rng):
    http = Http(Response(429, b"", {"retry-after": "120"}), OK)
    with pytest.raises(ApiError):
        await rest(http, clock, rng).call(request())
    assert clock.monotonic() == 0


@pytest.mark.parametrize("trouble", [LOST, BUSY], ids=str)
async def test_four_tries_at_the_most(clock, rng, trouble):
    http = Http(trouble)
    result = await outcome(rest(http, clock, rng).call(request(repeatable=True)), clock)
    assert isinstance(result, BotbookError)
    assert len(http.calls) == 4


# ------------------------------------------------------------------------------- 401


def renewing(http, clock, rng, *script):
    return TokenSource(token_request, Http(*script), clock, rng)


async def test_401_brings_a_new_token_once(clock, rng):
    http = Http(Response(401), OK)
    tokens = renewing(http, clock, rng, token("old"), token("new"))
    client = rest(http, clock, rng, tokens)
    assert await client.call(request()) == b"fine"
    assert [sent for _, sent in http.calls] == ["old", "new"]
    await client.call(request())
    assert http.calls[-1][1] == "new", "the next call begins with the good one"


async def test_401_twice(clock, rng):
    http = Http(Response(401))
    tokens = renewing(http, clock, rng, token("old"), token("new"))
    with pytest.raises(AuthError, match="the server's own words"):
        await rest(http, clock, rng, tokens).call(request())
    assert len(http.calls) == 2


async def test_401_that_the_wire_lets_pass_is_still_an_error(clock, rng):
    http = Http(Response(401))
    with pytest.raises(AuthError, match="refuses the token"):
        await rest(http, clock, rng).call(request(read=lambda response: None))
    assert len(http.calls) == 1
