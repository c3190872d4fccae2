"""The gateway misbehaves as it is told, and no further."""

from __future__ import annotations

import asyncio

import pytest

from botbook._errors import (
    ApiError,
    AuthError,
    ConnectionLost,
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
)
from botbook._local.agent import AGENT_FAULTS
from botbook._local.faults import FAULTS, POISON, poison
from botbook._local.langbot import LANGBOT_FAULTS
from botbook._local.mischief import Mischief
from botbook.actions import AnswerCompleted, AnswerFailed, History, Run, Send, Sent
from botbook.wire.contract import Ack

CHAT = "si_ada_cli_sim"
RUN = Run(run_id="r1", message_id="am1", to="user:ada", asker="ada", chat_id=CHAT, question_id="m1")
SEND = Send(id="a", to="user:ada", text="hi")
DONE = AnswerCompleted(id="e1", run=RUN, seq=1, text="done")


# ---------------------------------------------------------------------------- the table


def test_options_are_filled_in_and_converted():
    make = Mischief(FAULTS).make
    assert make("close", {}).options == {"code": 1001, "reason": ""}
    assert make("stall", {"seconds": "2"}).options == {"seconds": 2.0}
    assert make("raw", {"data": "00 ff"}).options == {"data": b"\x00\xff"}
    assert make("http", {}) is None, "it is armed"
    assert make("duplicate", {"when": "reconnect"}) is None


@pytest.mark.parametrize(
    ("kind", "options", "text", "hint"),
    [
        ("stal", {}, "no fault 'stal'", "Did you mean stall?"),
        ("xyz", {}, "no fault 'xyz'", "Known: rst"),
        ("stall", {"second": 1}, "no option 'second'", "Did you mean seconds?"),
        ("rst", {"code": 1}, "no option 'code'", "Known: none"),
        ("stall", {"seconds": "soon"}, "no float: 'soon'", "default is 2.0"),
        ("raw", {"data": "xyz"}, "no bytes: 'xyz'", "default is"),
    ],
)
def test_faults_that_are_none(kind, options, text, hint):
    with pytest.raises(LocalProtocolError, match=text) as caught:
        Mischief(FAULTS).make(kind, options)
    assert hint in caught.value.hint


def test_every_fault_says_what_it_does():
    tables = (FAULTS, AGENT_FAULTS, LANGBOT_FAULTS)
    assert all(kind.about for table in tables for kind in table.values())


def test_poison():
    assert poison("all") == list(POISON.values())
    assert poison("binary") == [b"\xff\xfe\x00"]
    assert len(poison("huge")[0]) == 2**20 + 1
    with pytest.raises(LocalProtocolError, match="no poison 'tree'"):
        poison("tree")


async def test_unknown_faults_are_refused_at_once(world):
    with pytest.raises(LocalProtocolError):
        world.fault("nonsense")
    with pytest.raises(LocalProtocolError, match="no gateway 'agnet'") as caught:
        world.fault("rst", gateway="agnet")
    assert caught.value.hint == "Known: miti, agent, langbot."


# ---------------------------------------------------------------------------- sockets


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("rst", {}, 1006),
        ("fin", {}, 1006),
        ("raw", {}, 1002),
        ("close", {}, 1001),
        ("close", {"code": 1011, "reason": "broken"}, 1011),
    ],
)
async def test_ends_of_a_socket(world, client, kind, options, code):
    world.fault(kind, **options)
    with pytest.raises(ConnectionLost) as caught:
        await client.frames()
    assert (caught.value.code, caught.value.reason) == (code, options.get("reason", caught.value.reason))
    await client.connect()
    world.say("ada", "back")
    assert [event.text for event in await client.events()] == ["back"]


async def test_duplicates_now(world, client):
    for n in range(3):
        world.say("ada", str(n))
    first = await client.frames()
    world.fault("duplicate", last=2)
    assert await client.frames() == first[1:]
    world.fault("duplicate", last=0)
    world.say("ada", "next")
    assert len(await client.frames()) == 1


async def test_duplicates_on_reconnect_come_before_what_waited(world, client):
    world.say("ada", "0")
    world.fault("duplicate", when="reconnect")
    await client.events()
    await client.transport.close()
    await client.clock.settle()
    world.say("ada", "1")
    await client.connect()
    assert [event.text for event in await client.events()] == ["0", "1"]
    await client.transport.close()
    await client.connect()
    world.say("ada", "2")
    assert [event.text for event in await client.events()] == ["2"]


async def test_poisoned_frames_are_all_malformed(world, client):
    world.fault("poison")
    frames = await client.frames()
    assert len(frames) == len(POISON)
    for frame in frames:
        with pytest.raises(RemoteProtocolError):
            client.wire.receive(frame, at=client.clock.now())


async def test_stall(world, client):
    world.fault("stall", seconds=5)
    world.say("ada", "late")
    await client.clock.advance(4.9)
    waiting = asyncio.create_task(client.events())
    await client.clock.settle()
    assert not waiting.done()
    await client.clock.advance(0.2)
    assert [event.text for event in await waiting] == ["late"]


async def test_drop_while_away(world, client):
    world.fault("drop_while_away")
    await client.transport.close()
    await client.clock.settle()
    world.say("ada", "lost")
    await client.connect()
    world.say("ada", "seen")
    assert [event.text for event in await client.events()] == ["seen"]
    assert [item.text for item in await client.do(History(id="h", chat_id=CHAT))] == [
        "lost",
        "seen",
    ]


async def test_a_fault_can_be_taken_back(world, stranger):
    world.fault("drop_while_away")
    world.fault("drop_while_away", times=0)
    world.say("ada", "kept")
    assert world.miti.queued == 1


async def test_upgrade_status(world, stranger):
    world.fault("upgrade_status", status=503, retry_after=7)
    with pytest.raises(HandshakeError) as caught:
        await stranger.connect()
    assert (caught.value.status, caught.value.retry_after) == (503, 7.0)
    await stranger.connect()
    assert [entry["status"] for entry in world.log() if entry["what"] == "upgrade"] == [503, 101]


async def test_an_upgrade_without_a_good_token(world, stranger):
    stranger.token = "made up"
    with pytest.raises(HandshakeError) as caught:
        await stranger.connect()
    assert (caught.value.status, caught.value.retry_after) == (401, None)


# ---------------------------------------------------------------------------- REST


async def test_http_status_in_one_place_for_some_times(world, client):
    world.fault("http", status=429, retry_after=3, where="send", times=2)
    assert await client.do(History(id="h", chat_id="si_x")) == []
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            await client.do(SEND)
        assert caught.value.status == 429
    assert isinstance(await client.do(SEND), Sent)


async def test_retry_after_is_a_header(world, client):
    world.fault("http", retry_after=1.5)
    (request,) = client.wire.send(SEND, at=client.clock.now())
    response = await client.exchange(request)
    assert (response.status, response.headers["retry-after"]) == (503, "1.5")


async def test_token_status(world, stranger):
    world.fault("token_status")
    with pytest.raises(AuthError) as caught:
        await stranger.log_in()
    assert (caught.value.code, caught.value.status) == (10002, 200)
    await stranger.log_in()


async def test_tokens_end(world, stranger):
    world.fault("token_ttl", seconds=1.5)
    request = stranger.wire.token_request()
    token = request.read(await stranger.exchange(request))
    assert token.expires_in == 1.5
    stranger.token = token.value
    assert isinstance(await stranger.do(SEND), Sent)
    await stranger.clock.advance(1.6)
    with pytest.raises(AuthError) as caught:
        await stranger.do(SEND)
    assert caught.value.status == 401


async def test_tokens_are_revoked(world, client):
    world.fault("token_revoked")
    with pytest.raises(AuthError):
        await client.do(SEND)
    await client.log_in()
    assert isinstance(await client.do(SEND), Sent)


async def test_redirect(world, stranger):
    world.fault("redirect", where="token")
    with pytest.raises(HandshakeError, match="elsewhere") as caught:
        await stranger.log_in()
    assert "http://127.0.0.1:9/" in caught.value.hint
    await stranger.log_in()


async def test_slow(world, client):
    world.fault("slow", seconds=3, times=1)
    start = client.clock.monotonic()
    waiting = asyncio.create_task(client.do(SEND))
    await client.clock.advance(2.9)
    assert not waiting.done()
    await client.clock.advance(0.2)
    assert isinstance(await waiting, Sent)
    assert client.clock.monotonic() - start == pytest.approx(3.1)


async def test_no_permission(world, client):
    world.fault("no_permission")
    with pytest.raises(ApiError) as caught:
        await client.do(SEND)
    assert caught.value.code == 10012
    assert world.miti.answers(user="ada") == 0


async def test_no_data(world, client):
    world.fault("no_data")
    assert await client.do(SEND) == Sent()
    assert world.miti.answers(user="ada") == 1


async def test_bare_history(world, client):
    world.say("ada", "x", group="g")
    world.fault("bare_history")
    (item,) = await client.do(History(id="h", chat_id="g"))
    assert item.raw == {
        "role": "user",
        "content": {"text": "@bot x", "atUserList": ["cli_sim"]},
        "sender_name": "ada",
    }


# ---------------------------------------------------------------------------- acknowledgements


async def test_an_acknowledgement_is_lost(world, client):
    world.fault("ack_lost")
    await client.do(DONE)
    await client.do(DONE)
    assert await client.events() == [Ack("e1")]
    assert len(await client.do(History(id="h", chat_id=RUN.chat_id))) == 1


async def test_an_answer_is_refused(world, client):
    world.fault("ack_refused", error="too long")
    await client.do(DONE)
    assert await client.events() == [Ack("e1", False, "too long")]
    assert await client.do(History(id="h", chat_id=RUN.chat_id)) == []
    await client.do(DONE)
    assert await client.events() == [Ack("e1")]


async def test_a_failed_answer_can_be_refused_too(world, client):
    world.fault("ack_refused")
    await client.do(AnswerFailed(id="e1", run=RUN))
    assert await client.events() == [Ack("e1", False, "busy")]
