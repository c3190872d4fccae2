"""protocols/miti.md 10, rows 21 to 28: tokens and REST."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import timedelta

import pytest

from botbook import AsyncBot
from botbook._clock import FakeClock
from botbook._errors import ApiError, AuthError, ConnectError, DeadlineExceeded
from botbook._net.auth import TokenSource
from botbook._net.http import TOTAL_TIMEOUT, AiohttpHttp, Rest
from botbook.wire.contract import HttpRequest, Response
from botbook.wire.miti_rest import read_sent, read_token
from tests.defects.rig import pass_time, pass_until, sent, until
from tests.net.fakes import Http, tcp_server, token, token_request


async def test_row_21_a_short_token_is_fetched_once_and_an_idle_bot_fetches_none(store, clock):
    """The official client fetches one for each of 10 sends, and polls when idle."""
    bot = AsyncBot("sim", scenario="quiet", store=store, clock=clock)
    bot.sim.fault("token_ttl", seconds=300)
    async with bot:
        for n in range(10):
            await bot.send("user:ann", str(n))
        assert len(sent(bot.sim, "token")) == 1
        await pass_time(clock, 60)
        assert len(sent(bot.sim, "token")) == 1
        await pass_time(clock, 235)  # 295 of 300 s: time for the next one
        await bot.send("user:ann", "later")
        await pass_until(clock, lambda: len(sent(bot.sim, "token")) == 2, limit=2)


async def test_row_22_a_token_is_used_to_its_end_while_no_other_can_be_had(timed, clock):
    """The official client throws it away 600 s before."""
    timed.sim.fault("http", status=503, where="token", times=-1)
    await pass_time(clock, 7200 - 599)
    assert (await timed.send("user:ann", "x")).message_id
    await pass_time(clock, 590)
    assert (await timed.send("user:ann", "y")).message_id
    assert any(entry["status"] == 503 for entry in sent(timed.sim, "token"))  # it did try


async def test_row_23_the_first_token_is_tried_for_again(store, clock):
    """One failure of the token endpoint ends the official client."""
    bot = AsyncBot("sim", scenario="quiet", store=store, clock=clock)
    bot.sim.fault("http", status=503, where="token", times=2)
    start = asyncio.create_task(bot.start())
    await pass_until(clock, start.done, limit=9)
    await start
    assert [entry["status"] for entry in sent(bot.sim, "token")] == [503, 503, 200]
    assert bot.status().state == "open"
    await bot.stop()


async def test_row_23_wrong_credentials_are_not_and_nothing_is_left_open(store, clock):
    bot = AsyncBot("sim", scenario="quiet", store=store, clock=clock)
    bot.sim.fault("token_status", code=10001, times=-1)
    with pytest.raises(AuthError) as caught:
        await asyncio.wait_for(bot.start(), 5)
    assert (caught.value.code, len(sent(bot.sim, "token"))) == (10001, 1)
    assert "app id" in caught.value.hint


async def test_row_23_an_end_without_connection_leaves_no_session_open(store, clock):
    bot = AsyncBot(
        "miti", app_id="a", app_secret="b", base_url="http://127.0.0.1:9/chat", store=store, clock=clock
    )
    start = asyncio.create_task(bot.start())
    await pass_until(clock, start.done, limit=12)
    with pytest.raises(ConnectError, match="nobody answers"):
        await start
    assert bot._connection.parts.http._session is None


async def test_row_24_a_refused_token_is_replaced_and_the_call_made_again(timed):
    timed.sim.fault("token_revoked")
    assert (await timed.send("user:ann", "x")).message_id
    assert [entry["status"] for entry in sent(timed.sim, "send")] == [401, 200]
    assert len(sent(timed.sim, "token")) == 2


@pytest.mark.parametrize("status", [429, 503])
async def test_row_24_a_busy_gateway_is_asked_again_when_it_said(timed, clock, status):
    timed.sim.fault("http", status=status, where="send", retry_after=5.0, times=2)
    send = asyncio.create_task(timed.send("user:ann", "x"))
    await pass_until(clock, send.done, limit=15)
    assert (await send).message_id
    entries = sent(timed.sim, "send")
    assert [entry["status"] for entry in entries] == [status, status, 200]
    assert all(later["at"] - entry["at"] >= 5 for entry, later in itertools.pairwise(entries))


async def test_row_24_without_that_word_a_send_is_not_repeated_but_a_history_is(timed, clock):
    """A message that may have been taken is not sent twice."""
    timed.sim.fault("http", status=503, where="send")
    with pytest.raises(ApiError) as caught:
        await asyncio.wait_for(timed.send("user:ann", "x"), 5)
    assert caught.value.status == 503
    assert len(sent(timed.sim, "send")) == 1
    timed.sim.fault("http", status=503, where="history")
    history = asyncio.create_task(timed.history("si_ann_cli_sim"))
    await pass_until(clock, history.done, limit=5)
    assert (await history).empty


async def test_row_24_201_is_a_success(clock):
    body = json.dumps({"errCode": 0, "data": {"message_id": "m1"}}).encode()
    rest = Rest(Http(Response(201, body)), TokenSource.fixed("t"), clock=clock)
    request = HttpRequest(method="POST", url="http://127.0.0.1/x", read=read_sent)
    assert (await rest.call(request)).message_id == "m1"


async def test_row_25_an_exchange_has_a_time_limit_of_our_own():
    """The official client waits for 300 s."""
    assert TOTAL_TIMEOUT <= 30

    async def silent(reader, writer):
        await asyncio.Event().wait()

    async with tcp_server(silent) as port:
        http = AiohttpHttp(total_timeout=0.1)
        request = HttpRequest(method="GET", url=f"http://127.0.0.1:{port}/", read=lambda response: response)
        with pytest.raises(DeadlineExceeded, match=r"did not answer within 0\.1 s"):
            await asyncio.wait_for(http.exchange(request, token=None), 10)
        await http.close()


async def test_row_26_a_delivery_without_data_is_a_delivery(timed):
    timed.sim.fault("no_data")
    assert (await timed.send("user:ann", "x")).message_id == ""
    await until(lambda: list(timed.events(type="message.sent")["text"]) == ["x"])


@pytest.mark.parametrize(
    ("data", "life"),
    [
        ({"token": "t", "expires_in": None}, 7200),
        ({"token": "t", "expires_in": "soon"}, 7200),
        ({"token": "t", "expires_in": "3600"}, 3600),
        ({"access_token": "t"}, 7200),
    ],
)
def test_row_26_a_life_that_cannot_be_read_is_the_default(data, life):
    read = read_token(Response(200, json.dumps({"errCode": 0, "data": data}).encode()))
    assert (read.value, read.expires_in) == ("t", life)


@pytest.mark.parametrize("key", ["errMsg", "message", "msg"])
def test_row_26_the_gateways_words_are_not_lost(key):
    with pytest.raises(ApiError, match="the garden is closed"):
        read_sent(Response(200, json.dumps({"errCode": 7, key: "the garden is closed"}).encode()))


async def test_row_27_a_history_is_clamped_and_can_be_paged(timed):
    for n in range(120):
        timed.sim.say("ann", str(n))
    page = await timed.history("si_ann_cli_sim", limit=1000)
    assert sent(timed.sim, "history")[-1]["query"]["limit"] == "50"
    texts = list(page["text"])
    while len(page):
        assert all(page["message_id"])
        assert page["at"].notna().all()
        page = await timed.history("si_ann_cli_sim", limit=50, before=page["message_id"].iloc[0])
        texts = [*page["text"], *texts]
    assert texts == [str(n) for n in range(120)]


class SteppingClock(FakeClock):
    """A machine whose wall clock is set while it runs."""

    step = timedelta()

    def now(self):
        return super().now() + self.step


@pytest.mark.parametrize("hours", [-5, 5], ids=["back", "forward"])
async def test_row_28_a_step_of_the_wall_clock_leaves_the_token_alone(store, hours):
    clock = SteppingClock()
    async with AsyncBot("sim", scenario="quiet", store=store, clock=clock) as bot:
        clock.step = timedelta(hours=hours)
        await bot.send("user:ann", "x")
        assert len(sent(bot.sim, "token")) == 1  # no refetch: it did not expire
        await pass_time(clock, 7201)
        await bot.send("user:ann", "y")
        assert len(sent(bot.sim, "token")) == 2  # and now it did
        assert [entry["status"] for entry in sent(bot.sim, "send")] == [200, 200]
        assert bot.status().state == "open"


async def test_row_28_the_source_alone(clock):
    """Lives are measured from the request, on the monotonic side."""
    http = Http(token("one", 100), token("two", 100))
    source = TokenSource(lambda: token_request(), http, clock=clock)
    assert await source.get() == "one"
    await clock.advance(50)
    assert await source.get() == "one"
    await clock.advance(51)
    assert await source.get() == "two"
    await source.close()
