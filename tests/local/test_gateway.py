"""The embedded Miti gateway in memory: events, answers, sends, history."""

from __future__ import annotations

import json

import pytest

from botbook._clock import FakeClock
from botbook._errors import ApiError, ConnectionLost, LocalProtocolError
from botbook._local.gateway import MitiGateway
from botbook.actions import (
    AnswerCompleted,
    AnswerDelta,
    AnswerFailed,
    AnswerStarted,
    History,
    Run,
    Send,
    Sent,
)
from botbook.messages import At
from botbook.wire.contract import Ack

CHAT = "si_ada_cli_sim"
RUN = Run(run_id="r1", message_id="am1", to="user:ada", asker="ada", chat_id=CHAT, question_id="m1")


def frames_in(world) -> list:
    return [entry["frame"]["header"]["event_type"] for entry in world.log() if entry["what"] == "frame"]


# ---------------------------------------------------------------------------- events


async def test_a_private_message(world, client):
    message_id = world.say("ada", "Hello", name="Ada")
    (event,) = await client.events()
    assert (event.type, event.gateway, event.chat_type) == ("message.received", "sim", "private")
    assert (event.chat_id, event.user_id, event.user_name) == (CHAT, "ada", "")
    assert (event.text, event.message_id, event.role) == ("Hello", message_id, "user")
    assert event.at == client.clock.now()


async def test_a_mention_in_a_group(world, client):
    world.say("bo", "who is here?", group="garden", name="Bo")
    (event,) = await client.events()
    assert (event.chat_type, event.chat_id, event.target) == ("group", "garden", "group:garden")
    assert (event.text, event.user_name) == ("who is here?", "Bo")
    assert event.chain[0] == At(target="cli_sim", display="bot")
    assert event.raw["event"]["message"]["conversation_id"] == "sg_garden"


async def test_a_group_shows_the_id_of_who_has_no_name(world, client):
    world.say("bo", "hi", group="garden")
    assert (await client.events())[0].user_name == "bo"


@pytest.mark.parametrize(("place", "chat"), [({"user": "ada"}, CHAT), ({"group": "g"}, "g")])
async def test_an_echo_is_the_bots_own(world, client, place, chat):
    world.miti.echo("**yes**", ask_msg_id="m1", **place)
    (event,) = await client.events()
    assert (event.type, event.role, event.text) == ("message.sent", "assistant", "**yes**")
    assert (event.reply_to, event.chat_id) == ("m1", chat)


async def test_events_wait_for_a_socket(world, stranger):
    world.say("ada", "one")
    world.say("ada", "two")
    assert world.miti.queued == 2
    await stranger.connect()
    assert [event.text for event in await stranger.events()] == ["one", "two"]
    assert world.miti.queued == 0


async def test_what_did_not_get_out_waits_for_the_next_socket(world, client):
    for n in range(5000):
        world.say("ada", str(n))
    got = [event.text for event in await client.events()]
    assert len(got) < 5000
    await client.transport.close(1006)
    await client.clock.settle()
    await client.connect()
    while len(got) < 5000:
        got += [event.text for event in await client.events()]
    assert got == [str(n) for n in range(5000)]


async def test_every_open_socket_gets_every_event(world, client, stranger):
    await stranger.connect()
    assert world.miti.sockets == 2
    world.say("ada", "both")
    assert [event.text for event in await client.events() + await stranger.events()] == ["both", "both"]
    await stranger.transport.close()
    await stranger.clock.settle()
    assert world.miti.sockets == 1


async def test_ids_are_the_same_under_the_same_clock_and_unique():
    first, second = (MitiGateway(clock=FakeClock()) for _ in range(2))
    ids = [first.say("ada", "x"), first.say("ada", "y")]
    assert ids == [second.say("ada", "x"), second.say("ada", "y")]
    assert len(set(ids)) == 2


# ---------------------------------------------------------------------------- streamed answers


async def test_a_streamed_answer(world, client):
    await client.do(AnswerStarted(id="e0", run=RUN))
    await client.do(AnswerDelta(id="e1", run=RUN, seq=1, text="Good ", reasoning=False))
    await client.do(AnswerDelta(id="e2", run=RUN, seq=2, text="hm", reasoning=True))
    await client.do(AnswerDelta(id="e3", run=RUN, seq=3, text="day"))
    assert world.miti.written("r1") == "Good day"
    assert world.miti.answers(user="ada") == 1
    await client.do(AnswerCompleted(id="e4", run=RUN, seq=4, text="Good day"))
    assert await client.events() == [Ack("e4")]
    assert world.miti.written("r1") == ""
    assert world.miti.answers(user="ada") == 1
    (item,) = await client.do(History(id="h", chat_id=RUN.chat_id))
    assert (item.role, item.text, item.message_id) == ("assistant", "Good day", "am1")
    assert frames_in(world) == [f"assistant.{what}" for what in ("started", *["delta"] * 3, "completed")]


async def test_a_repeated_frame_is_acknowledged_again_and_counts_once(world, client):
    done = AnswerCompleted(id="e4", run=RUN, seq=4, text="once")
    await client.do(done)
    await client.do(done)
    assert await client.events() == [Ack("e4"), Ack("e4")]
    assert len(await client.do(History(id="h", chat_id=RUN.chat_id))) == 1
    assert world.miti.answers(user="ada") == 1


async def test_a_failed_answer_leaves_no_message(world, client):
    await client.do(AnswerStarted(id="e0", run=RUN))
    await client.do(AnswerFailed(id="e1", run=RUN, seq=1, message="no idea"))
    assert await client.events() == [Ack("e1")]
    assert await client.do(History(id="h", chat_id=RUN.chat_id)) == []
    with pytest.raises(LocalProtocolError, match="no such answer"):
        world.cancel("r1")


async def test_a_streamed_answer_in_a_group(world, client):
    world.say("bo", "hi", group="garden")
    (event,) = await client.events()
    run = Run(
        run_id="r", message_id="am", to=event.target, asker="bo", chat_id=event.chat_id, question_id="m"
    )
    await client.do(AnswerCompleted(id="e", run=run, seq=1, text="hello all"))
    items = await client.do(History(id="h", chat_id="garden"))
    assert [(item.role, item.text, item.sender_name) for item in items] == [
        ("user", "hi", "bo"),
        ("assistant", "hello all", "bot"),
    ]


async def test_cancel_speaks_of_the_newest_run(world, client):
    await client.do(AnswerStarted(id="e0", run=RUN))
    assert world.cancel() == "r1"
    (event,) = await client.events()
    assert (event.type, event.reply_to, event.message_id) == ("answer.cancelled", "r1", "m1")
    assert event.chat_id == CHAT


async def test_no_answer_to_cancel(world, client):
    with pytest.raises(LocalProtocolError, match="no such answer"):
        world.cancel()


async def test_seen_ids_are_bounded(world, client, monkeypatch):
    monkeypatch.setattr("botbook._local.answers.SEEN", 1)
    for ident in ("e1", "e2", "e1"):
        await client.do(AnswerDelta(id=ident, run=RUN, seq=1, text=ident))
    assert world.miti.written("r1") == "e1e2e1"


@pytest.mark.parametrize("frame", ["no JSON", b"\xff", '{"header": []}', '{"header": {}, "event": 7}'])
async def test_malformed_frames_are_noted_and_nothing_else(world, client, frame):
    await client.transport.send(frame)
    await client.clock.settle()
    assert "malformed" in world.log()[-1]
    world.say("ada", "still there")
    assert [event.text for event in await client.events()] == ["still there"]


async def test_other_frames_are_noted(world, client):
    await client.transport.send(json.dumps({"header": {"event_type": "x.y", "event_id": "e"}, "event": {}}))
    await client.clock.settle()
    assert frames_in(world) == ["x.y"]


# ---------------------------------------------------------------------------- send and history


async def test_send(world, client):
    sent = await client.do(Send(id="a", to="user:ada", text="**hi**", markdown=True, reply_to="m1"))
    assert sent == Sent(message_id=sent.message_id, server_time=round(client.clock.now().timestamp() * 1000))
    assert world.miti.answers(user="ada") == 1
    entry = world.log()[-1]
    assert (entry["what"], entry["status"], entry["code"]) == ("send", 200, 0)
    assert entry["body"]["to_user_id"] == "ada"


async def test_history_in_pages(world, client):
    ids = [world.say("ada", str(n)) for n in range(120)]
    newest = await client.do(History(id="h", chat_id=CHAT, limit=1000))
    assert [item.text for item in newest] == [str(n) for n in range(70, 120)]
    assert newest[0].at_ms == round(client.clock.now().timestamp() * 1000)
    assert (newest[0].user_id, newest[0].role) == ("ada", "user")
    before = await client.do(History(id="h", chat_id=CHAT, limit=3, before=newest[0].message_id))
    assert [item.message_id for item in before] == ids[67:70]
    assert await client.do(History(id="h", chat_id=CHAT, before=ids[0])) == []


async def test_history_before_a_message_that_is_not_there(world, client):
    world.say("ada", "x")
    assert len(await client.do(History(id="h", chat_id=CHAT, before="m?"))) == 1


async def test_history_of_an_unknown_chat(client):
    assert await client.do(History(id="h", chat_id="si_nobody_here")) == []


async def test_both_sides_of_a_chat_stand_in_its_history(world, client):
    world.say("ada", "question")
    await client.do(Send(id="a", to="user:ada", text="answer"))
    items = await client.do(History(id="h", chat_id=CHAT))
    assert [(item.role, item.text) for item in items] == [("user", "question"), ("assistant", "answer")]


SEND = "/chat/agent/v1/messages/send"


@pytest.mark.parametrize(
    "body",
    [
        {"msg_type": "text", "content": {"text": "x"}},
        {"msg_type": "text", "content": {"text": "x"}, "to_user_id": "u", "to_group_id": "g"},
        {"msg_type": "voice", "content": {}, "to_user_id": "u"},
        {"msg_type": "text", "content": "x", "to_user_id": "u"},
    ],
)
async def test_sends_that_the_server_refuses(world, client, body):
    headers = {"authorization": f"Bearer {client.token}"}
    answer = await world.miti.handle("POST", SEND, headers, {}, json.dumps(body).encode())
    assert json.loads(answer.body)["errCode"] == 10010


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/chat/agent/v1/nothing", 404),
        ("GET", SEND, 405),
        ("POST", SEND, 400),
        ("POST", "/chat/agent/v1/auth/token", 400),
    ],
)
async def test_requests_that_make_no_sense(world, client, method, path, status):
    headers = {"authorization": f"Bearer {client.token}"}
    assert (await world.miti.handle(method, path, headers, {}, b"[" * 100_000)).status == status
    assert (await world.miti.handle(method, path, headers, {}, b"[]")).status == status


async def test_history_with_a_strange_limit(world, client):
    for n in range(20):
        world.say("ada", str(n))
    query = {"conversation_id": CHAT, "limit": "many"}
    headers = {"authorization": f"bearer {client.token}"}
    answer = await world.miti.handle("GET", "/chat/agent/v1/messages/history", headers, query, b"")
    assert len(json.loads(answer.body)["data"]["messages"]) == 10


# ---------------------------------------------------------------------------- the end, and the log


async def test_stop_ends_every_socket(world, client):
    await world.stop()
    with pytest.raises(ConnectionLost) as caught:
        await client.transport.receive()
    assert caught.value.code == 1001
    assert world.miti.sockets == 0


async def test_the_log_keeps_no_secret(world, client):
    await client.do(Send(id="a", to="user:ada", text="hi"))
    bad = {"header": {"event_type": "x"}, "event": {"token": client.token, "list": [{"app_secret": "s"}]}}
    await client.transport.send(json.dumps(bad))
    await client.clock.settle()
    text = json.dumps(world.log())
    assert world.miti.app_secret not in text
    assert client.token not in text
    assert [entry["what"] for entry in world.log()] == ["token", "upgrade", "send", "frame"]
    assert [entry["n"] for entry in world.log(after=2)] == [3, 4]


async def test_a_closed_socket_is_noted(world, client):
    await client.transport.close(1000, "bye")
    await client.clock.settle()
    entry = world.log()[-1]
    assert (entry["what"], entry["code"], entry["reason"]) == ("closed", 1000, "bye")


async def test_reset(world, client):
    world.say("ada", "x")
    world.fault("http", times=9)
    world.reset()
    assert world.log() == []
    assert await client.do(History(id="h", chat_id=CHAT)) == []


async def test_a_wrong_secret_and_an_unknown_app(world, client):
    client.wire._app_secret = "wrong"
    with pytest.raises(ApiError) as caught:
        await client.log_in()
    assert caught.value.code == 10002
    client.wire._app_id = "cli_other"
    with pytest.raises(ApiError) as caught:
        await client.log_in()
    assert caught.value.code == 10001
