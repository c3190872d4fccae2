from __future__ import annotations

import asyncio

import pytest

from botbook._errors import (
    ApiError,
    AuthError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
    RemoteProtocolError,
)
from botbook._net.auth import STEPS, TokenSource, auth_flow, is_transient
from botbook.wire.contract import HttpRequest, Token
from tests.net.fakes import SECRET, Http, token, token_request

OFFLINE = ConnectError("nobody")


def source(http, clock, rng):
    return TokenSource(token_request, http, clock, rng)


# ------------------------------------------------------------------------------- the flow


def test_flow_a_taken_token_is_kept():
    flow = auth_flow(renewable=True)
    assert next(flow) is False
    assert flow.send(False) is False


def test_flow_a_refused_token_is_replaced_once():
    flow = auth_flow(renewable=True)
    next(flow)
    assert flow.send(True) is True
    with pytest.raises(AuthError) as caught:
        flow.send(True)
    assert caught.value.status == 401


def test_flow_success_forgives():
    flow = auth_flow(renewable=True)
    next(flow)
    assert flow.send(True) is True
    assert flow.send(False) is False
    assert flow.send(True) is True


def test_flow_without_another_token():
    flow = auth_flow(renewable=False)
    next(flow)
    with pytest.raises(AuthError):
        flow.send(True)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectError("x"), True),
        (DeadlineExceeded("x"), True),
        (ConnectionLost(), True),
        (HandshakeError("x", status=503), False),
        (ApiError("x", code=1, status=503), True),
        (AuthError("x", code=1, status=500), True),
        (ApiError("x", code=1, status=429), True),
        (ApiError("x", code=1, status=404), False),
        (AuthError("x", code=10001), False),
        (RemoteProtocolError("x"), False),
    ],
)
def test_what_may_go_well_later(error, expected):
    assert is_transient(error) is expected


# ------------------------------------------------------------------------------- the source


async def test_fixed():
    source = TokenSource.fixed("a")
    assert await source.get() == "a"
    assert not source.renewable
    source.invalidate("a")
    assert await source.get() == "a"
    assert await TokenSource.fixed(None).get() is None
    await source.close()


async def test_a_gateway_without_tokens(clock, rng):
    source = TokenSource(lambda: None, Http(OFFLINE), clock, rng)
    assert await source.get() is None


async def test_one_fetch_for_all_who_ask(clock, rng):
    http = Http(token("a", 7200))
    tokens = source(http, clock, rng)
    assert await asyncio.gather(*(tokens.get() for _ in range(20))) == ["a"] * 20
    assert len(http.calls) == 1
    assert http.calls[0][1] is None, "the token request carries no token"


async def test_a_login_of_several_steps(clock, rng):
    last = HttpRequest(method="GET", url="http://127.0.0.1/b", read=lambda got: Token("t"), authorised=False)
    http = Http(token("ignored"))
    tokens = TokenSource(lambda: token_request(lambda got: last), http, clock, rng)
    assert await tokens.get() == "t"
    assert [(request.url, token) for request, token in http.calls] == [
        ("http://127.0.0.1/token", None),
        ("http://127.0.0.1/b", None),
    ]


async def test_a_login_without_end_is_given_up(clock, rng):
    http = Http(token("ignored"))
    request = token_request(lambda got: request)
    tokens = TokenSource(lambda: request, http, clock, rng)
    with pytest.raises(RemoteProtocolError, match="no token"):
        await tokens.get()
    assert len(http.calls) == STEPS


async def test_one_who_leaves_does_not_end_the_fetch_of_the_others(clock, rng):
    gate = asyncio.Event()

    class Slow(Http):
        async def exchange(self, request, *, token):
            await gate.wait()
            return await super().exchange(request, token=token)

    tokens = source(Slow(token("a")), clock, rng)
    first, second = asyncio.create_task(tokens.get()), asyncio.create_task(tokens.get())
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == "a"
    assert first.cancelled()


@pytest.mark.parametrize(("life", "margin"), [(7200.0, 600.0), (600.0, 120.0), (60.0, 12.0), (1.0, 0.2)])
async def test_it_is_renewed_ahead_of_its_end_but_not_on_each_call(clock, rng, life, margin):
    http = Http(token("a", life), token("b", life))
    tokens = source(http, clock, rng)
    for _ in range(10):
        assert await tokens.get() == "a"
        await clock.advance((life - margin - 0.01) / 10)
    assert len(http.calls) == 1
    await clock.advance(0.02)
    assert await tokens.get() == "a", "nobody waits for the renewal"
    await clock.settle()
    assert await tokens.get() == "b"
    assert len(http.calls) == 2


@pytest.mark.parametrize("life", [0.0, -5.0])
async def test_a_token_that_claims_no_life_is_used_for_a_second(clock, rng, life):
    http = Http(token("a", life))
    tokens = source(http, clock, rng)
    for _ in range(10):
        assert await tokens.get() == "a"
    assert len(http.calls) == 1


async def test_a_token_without_end_is_never_renewed(clock, rng):
    http = Http(token("a", None))
    tokens = source(http, clock, rng)
    await tokens.get()
    await clock.advance(10**9)
    await tokens.get()
    assert len(http.calls) == 1


async def test_a_living_token_is_used_to_its_end_when_the_renewal_fails(clock, rng):
    http = Http(token("a", 7200), ApiError("down", code=503, status=503))
    tokens = source(http, clock, rng)
    await tokens.get()
    await clock.advance(6601)
    for _ in range(500):
        assert await tokens.get() == "a"
        await clock.advance(1)
    assert 10 <= len(http.calls) <= 30, "renewal is tried again, ever more slowly"
    await clock.advance(100)
    with pytest.raises(ApiError, match="down"):
        await tokens.get()


async def test_failure_then_success(clock, rng):
    tokens = source(Http(OFFLINE, token("a")), clock, rng)
    with pytest.raises(ConnectError):
        await tokens.get()
    assert await tokens.get() == "a"


async def test_an_invalid_token_is_fetched_anew_unless_it_was_replaced(clock, rng):
    http = Http(token("a"), token("b"))
    tokens = source(http, clock, rng)
    tokens.invalidate(None)
    await tokens.get()
    tokens.invalidate("older")
    assert await tokens.get() == "a"
    tokens.invalidate("a")
    assert await tokens.get() == "b"


async def test_close_ends_a_fetch(clock, rng):
    tokens = source(Http("hang"), clock, rng)
    await tokens.close()
    waiting = asyncio.create_task(tokens.get())
    await clock.settle()
    await tokens.close()
    with pytest.raises(ConnectionLost):
        await waiting


async def test_the_wall_clock_has_no_say(clock, rng):
    tokens = source(Http(token("a", 100), token("b", 100)), clock, rng)
    await tokens.get()
    clock._start = clock._start.replace(year=2030)
    assert await tokens.get() == "a"


async def test_no_repr_shows_the_token(clock, rng):
    tokens = source(Http(token(SECRET, 100)), clock, rng)
    value = await tokens.get()
    assert f"{value}" == SECRET
    assert SECRET not in repr([value, tokens.__dict__])
