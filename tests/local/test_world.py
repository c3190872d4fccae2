"""The world in a box: its people, its life, and its face to other threads."""

from __future__ import annotations

import asyncio
import threading
from itertools import pairwise

import pytest

from botbook._clock import FakeClock
from botbook._errors import ConfigError, ConnectError, HandshakeError, LocalProtocolError
from botbook._local import sample
from botbook._local.persona import _exchanges
from botbook._local.sample import Conversation, Turn, conversations
from botbook._local.world import World
from botbook.actions import AnswerStarted, Run, Send
from botbook.wire.contract import HttpRequest, Opening
from botbook.wire.miti import MitiWire

from .conftest import Client


async def played(clock: FakeClock, *, seconds: float = 3600.0, **settings) -> list:
    """Every event of a scenario, with nobody who answers."""
    world = World(clock=clock, **settings)
    await world.start()
    client = await Client(world, clock).connect()
    await clock.advance(seconds)
    assert world.state == "finished"
    await world.finished()
    events = await client.events()
    await world.stop()
    return events


# ---------------------------------------------------------------------------- scenarios


async def test_hello(clock):
    events = await played(clock, scenario="hello")
    assert {event.user_id for event in events} == {"ada", "bo", "chen", "dara"}
    assert {event.chat_type for event in events} == {"private", "group"}
    assert all(event.type == "message.received" for event in events)
    assert [event.user_name for event in events if event.chat_type == "group"] == ["陈晨", "Dara", "陈晨"]
    spans = [(b.at - a.at).total_seconds() for a, b in pairwise(events)]
    assert 3 < sum(spans) < 8


async def test_topical_is_bounded_and_side_by_side(clock):
    events = await played(clock, scenario="topical")
    users = {event.user_id for event in events if event.role == "user"}
    assert len(users) == 60
    turns = [turn for conversation in conversations() for turn in conversation.turns]
    assert len(events) == len(turns) == 1284
    assert sorted(event.text for event in events) == sorted(turn.text for turn in turns)
    chats = [event.chat_id for event in events]
    assert sum(a != b for a, b in pairwise(chats)) > 600


async def test_the_house_bot_answers_each_question(clock):
    events = await played(clock, scenario="topical", conversations=3)
    asked = {event.message_id: event for event in events if event.role == "user"}
    answers = [event for event in events if event.role == "assistant"]
    assert answers
    for answer in answers:
        question = asked[answer.reply_to]
        assert question.chat_id == answer.chat_id
        assert 0 < (answer.at - question.at).total_seconds() <= 40
        assert answer.type == "message.sent"


async def test_a_seed_gives_the_same_world_again(clock):
    def shown(events):
        return [(event.event_id, event.at, event.user_id, event.text) for event in events]

    first = await played(FakeClock(), scenario="topical", conversations=4, seed=7)
    again = await played(FakeClock(), scenario="topical", conversations=4, seed=7)
    other = await played(FakeClock(), scenario="topical", conversations=4, seed=8)
    assert shown(first) == shown(again)
    assert shown(first) != shown(other)


async def test_speed_squeezes_time(clock):
    slow = await played(FakeClock(), scenario="topical", conversations=2)
    fast = await played(FakeClock(), scenario="topical", conversations=2, speed=60)
    took = [(events[-1].at - events[0].at).total_seconds() for events in (slow, fast)]
    assert took[0] / took[1] == pytest.approx(60, rel=0.01)
    assert [event.text for event in slow] == [event.text for event in fast]


def begun(event) -> AnswerStarted:
    run = Run(run_id=event.event_id, message_id="am", to=event.target, asker="", chat_id="", question_id="")
    return AnswerStarted(id=event.event_id, run=run)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_answers_first_silences_the_house_bot(clock, streamed):
    world = World(scenario="topical", conversations=1, clock=clock)
    await world.start()
    client = await Client(world, clock).connect()
    events, answered = [], 0
    while world.state != "finished":
        await clock.advance(0.05)
        if not client.waiting:
            continue
        for event in await client.events():
            events.append(event)
            answered += 1
            run = Run(
                run_id=event.event_id, message_id="am", to=event.target, asker="", chat_id="", question_id=""
            )
            reply = Send(id="a", to=event.target, text="mine")
            await client.do(AnswerStarted(id=event.event_id, run=run) if streamed else reply)
    await world.stop()
    assert answered > 8
    assert {event.role for event in events} == {"user"}


async def test_quiet(clock):
    world = World(scenario="quiet", clock=clock)
    await world.start()
    await Client(world, clock).connect()
    assert world.state == "finished"
    await world.stop()


@pytest.mark.parametrize(
    ("settings", "text", "hint"),
    [
        ({"scenario": "topicl"}, "no scenario 'topicl'", "Did you mean topical?"),
        ({"scenario": "x"}, "no scenario 'x'", "Known: hello, quiet, topical."),
        ({"speed": 0}, "speed must be above 0", "as fast as life"),
        ({"speed": float("nan")}, "speed must be above 0", "as fast as life"),
    ],
)
def test_settings_that_make_no_world(settings, text, hint):
    with pytest.raises(ConfigError, match=text) as caught:
        World(**settings)
    assert hint in caught.value.hint


# ---------------------------------------------------------------------------- the sample


def test_exchanges_of_any_order():
    def turns(*said):
        return Conversation("c", tuple(Turn(by_bot=by == "B", text=text, rating="") for by, text in said))

    assert list(_exchanges(turns(("U", "1"), ("B", "2"), ("U", "3")))) == [("1", ["2"]), ("3", [])]
    assert list(_exchanges(turns(("B", "0"), ("U", "1"), ("B", "2"), ("B", "3")))) == [
        ("", ["0"]),
        ("1", ["2", "3"]),
    ]


async def test_a_conversation_that_the_bot_begins(clock, monkeypatch):
    turns = (Turn(by_bot=True, text="Welcome", rating=""), Turn(by_bot=False, text="Hi", rating=""))
    monkeypatch.setattr("botbook._local.persona.conversations", lambda: [Conversation("t_12345678", turns)])
    first, second = await played(clock, scenario="topical")
    assert (first.text, first.role, first.reply_to) == ("Welcome", "assistant", "")
    assert (second.text, second.user_id) == ("Hi", "user-12345678")


def test_the_sample():
    all_of_it = conversations()
    assert len(all_of_it) == 60
    ratings = {turn.rating for conversation in all_of_it for turn in conversation.turns}
    assert ratings >= {"Excellent", "Good", "Passable", "Not Good", "Poor"}
    assert len({conversation.conversation_id[2:10] for conversation in all_of_it}) == 60


def test_the_sample_is_found_in_the_package_first(tmp_path, monkeypatch):
    home = tmp_path / "src" / "botbook" / "_local" / "sample.py"
    monkeypatch.setattr(sample, "__file__", str(home))
    with pytest.raises(ConfigError, match="missing"):
        sample.sample_path()
    checkout = tmp_path / "notebooks" / "data" / "topical_chat_sample.jsonl.gz"
    package = tmp_path / "src" / "botbook" / "static" / "data" / "topical_chat_sample.jsonl.gz"
    for place in (checkout, package):
        place.parent.mkdir(parents=True)
        place.touch()
        assert sample.sample_path() == place


# ---------------------------------------------------------------------------- its life and its doors


async def test_the_states_of_a_world(clock):
    world = World(scenario="hello", clock=clock)
    states = [world.state]
    await world.finished()
    await world.start()
    await world.start()
    states.append(world.state)
    await clock.advance(100)
    client = await Client(world, clock).connect()
    states.append(world.state)
    assert client.waiting == 0
    await world.stop()
    states.append(world.state)
    await world.finished()
    assert states == ["new", "waiting", "playing", "stopped"]


async def test_a_scenario_without_its_conversations(clock, monkeypatch, tmp_path):
    monkeypatch.setattr(sample, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))
    world = World(scenario="topical", clock=clock)
    await world.start()
    await Client(world, clock).connect()
    assert world.state == "failed"
    with pytest.raises(ConfigError, match="missing"):
        await world.finished()
    await world.stop()
    with pytest.raises(ConfigError, match="missing"):
        await world.finished()


async def test_a_world_that_never_began_can_be_stopped(clock):
    await World(clock=clock).stop()


def test_credentials_fit_the_wire(clock):
    world = World(clock=clock)
    wire = MitiWire(**world.credentials())
    assert wire.opening("t").url == "ws://localhost/chat/agent/gateway"
    assert world.credentials("http://127.0.0.1:5")["base_url"] == "http://127.0.0.1:5/chat"
    assert world.miti.app_secret not in repr(world) + repr(world.miti)


async def test_doors_that_lead_nowhere(world, stranger):
    with pytest.raises(HandshakeError) as caught:
        await world.dial(Opening(url="ws://localhost/other"))
    assert caught.value.status == 404
    request = HttpRequest(method="GET", url="http://localhost/elsewhere", read=bytes)
    with pytest.raises(ConnectError, match="nothing at /elsewhere"):
        await world.http.exchange(request, token=None)


async def test_raw_bodies_and_headers_reach_the_gateway(world):
    url = world.credentials()["base_url"] + "/agent/v1/auth/token"
    body = b'{"app_id": "cli_sim", "app_secret": "no"}'
    request = HttpRequest(method="POST", url=url, body=body, headers={"X-A": "b"}, read=bytes)
    await world.http.exchange(request, token=None)
    await world.http.close()
    assert world.log()[-1]["body"] == {"app_id": "cli_sim", "app_secret": "•••"}


async def test_another_thread_may_speak_in_the_world(clock):
    world = World(scenario="quiet", clock=clock)
    await world.start()
    client = await Client(world, clock).connect()
    assert await asyncio.to_thread(world.say, "ada", "from afar")
    assert [event.text for event in await client.events()] == ["from afar"]
    with pytest.raises(LocalProtocolError, match="no fault"):
        await asyncio.to_thread(world.fault, "nonsense")
    await asyncio.to_thread(world.fault, "rst")
    await clock.settle()
    assert world.miti.sockets == 0
    assert [entry["what"] for entry in await asyncio.to_thread(world.log)] == ["token", "upgrade", "closed"]
    await asyncio.to_thread(world.reset)
    assert world.log() == []
    await world.stop()


def test_a_world_whose_loop_is_gone_can_still_be_asked():
    async def brief() -> World:
        world = World(scenario="quiet")
        await world.start()
        await world.stop()
        return world

    world = asyncio.run(brief())
    thread = threading.Thread(target=world.say, args=("ada", "anybody?"))
    thread.start()
    thread.join(5)
    assert world.miti.queued == 1
    assert world.log() == []
