from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._clock import FakeClock
from botbook._errors import ConfigError, ConnectionLost, HandshakeError, LocalProtocolError
from botbook._local.agent import AGENT_FAULTS, AgentGateway
from botbook._local.agent_persona import PERSONAS, steps
from botbook._local.door import Door
from botbook._local.peer import Peer
from botbook._local.replies import LONG_WORDS, pieces, reply, tokens
from botbook.actions import Ask
from botbook.events import Event
from botbook.wire.agent import AgentWire
from botbook.wire.agent_frames import Question
from botbook.wire.contract import Closing, HttpRequest, Opening, Ready, Verdict
from tests.local.talk import Listener

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Client(Listener):
    """A wire and a socket in memory, on a clock that runs as fast as it can."""

    def __init__(
        self, gateway: AgentGateway, clock: FakeClock, chat: str = "0", base: str = "ws://sim"
    ) -> None:
        super().__init__(AgentWire(base_url=base, chat_id=chat), clock)
        self.door = Door(gateway)

    async def open(self) -> Client:
        self.transport = await self.door.dial(self.wire.opening(None))
        await self.until(lambda: Ready() in self.seen, steps=150)
        return self

    async def ask(self, text: str, *attachments: str, ident: str = "q") -> Event:
        frame, _ = self.wire.send(Ask(id=ident, text=text, attachments=attachments), at=AT)
        await self.transport.send(frame)
        await self.until(lambda: any(e.type == "message.received" for e in self.of(ident)), steps=600)
        return self.of(ident)[-1]

    def of(self, ident: str) -> list[Event]:
        return [e for e in self.seen if isinstance(e, Event) and e.reply_to == ident]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def gateway(clock):
    made = AgentGateway(clock=clock)
    yield made
    await made.close()


@pytest.fixture
async def client(gateway, clock):
    return await Client(gateway, clock).open()


def kinds(events: list[Event]) -> set[str]:
    return {event.type for event in events}


async def test_an_ordinary_question_gets_its_answer(client):
    answer = await client.ask("What is 6 * 7?")
    assert (answer.text, answer.error) == ("6 * 7 = **42**", "")
    assert answer.tokens == tokens("What is 6 * 7?") + tokens("6 * 7 = **42**")
    deltas = [e.text for e in client.of("q") if e.type == "message.delta"]
    assert len(deltas) == 5
    assert "".join(deltas) == answer.text


async def test_questions_one_after_the_other(client):
    first = await client.ask("hello", ident="q1")
    second = await client.ask("who are you?", ident="q2")
    assert first.text == "Hello! How can I help you today?"
    assert second.text.startswith("I am the assistant")


async def test_tools_progress_and_files(client):
    answer = await client.ask("please write a report", "in/data.csv")
    events = client.of("q")
    assert answer.text.startswith("Thank you for in/data.csv. I am writing the report. ")
    assert kinds(events) >= {"agent.tool_call", "agent.progress", "agent.tool_result", "agent.file"}
    (call,) = [e for e in events if e.type == "agent.tool_call"]
    assert call.raw["arguments"] == {"path": "reports/report.md", "rows": 120}
    assert [e.raw["payload"]["progress"] for e in events if e.type == "agent.progress"] == [
        0.25,
        0.5,
        0.75,
        1,
    ]
    assert next(e for e in events if e.type == "agent.file").text == "reports/report.md"


async def test_a_search_shows_its_tool(client):
    await client.ask("search for tall trees")
    result = next(e for e in client.of("q") if e.type == "agent.tool_result")
    assert (result.user_name, result.raw["result"][0]["title"]) == (
        "search",
        "Notes on search for tall trees",
    )


async def test_a_sub_agent_speaks_aside(client):
    answer = await client.ask("delegate this")
    aside = [e for e in client.of("q") if e.user_name == "tools:researcher"]
    assert "".join(e.text for e in aside) == "Reading two papers."
    assert "Reading" not in answer.text


async def test_what_goes_wrong_goes_wrong_clearly(client):
    failed = await client.ask("boom", ident="q1")
    assert (failed.text, failed.error) == ("I will try. ", "LLM_UNAVAILABLE: the model does not answer")
    await client.ask("a tool error, please", ident="q2")
    assert next(e for e in client.of("q2") if e.type == "agent.tool_result").error == "timed out"
    await client.ask("bad arguments", ident="q3")
    assert next(e for e in client.of("q3") if e.type == "agent.tool_call").raw["arguments"] is None
    await client.ask("escape", ident="q4")
    assert next(e for e in client.of("q4") if e.type == "agent.file").error


async def test_long_and_slow(client, clock):
    assert len((await client.ask("60 kB, please", ident="q1")).text) > 59_000
    before = clock.monotonic()
    await client.ask("slowly: how are trees?", ident="q2")
    assert clock.monotonic() - before > 5
    assert len((await client.ask("a long one", ident="q3")).text.split()) == LONG_WORDS


async def test_a_chat_takes_one_client(gateway, clock, client):
    with pytest.raises(HandshakeError) as refused:
        await Client(gateway, clock).open()
    assert (refused.value.status, gateway.sockets) == (403, 1)
    assert client.wire.closing(403, "") is Verdict.RETRY
    await Client(gateway, clock, chat="two words").open()
    assert gateway.sockets == 2
    await client.transport.close()
    await clock.settle()
    await Client(gateway, clock).open()


async def test_two_that_come_at_once(gateway, clock):
    first, second = Client(gateway, clock), Client(gateway, clock)
    opening = first.wire.opening(None)
    first.transport = await first.door.dial(opening)
    second.transport = await second.door.dial(opening)
    with pytest.raises(ConnectionLost) as lost:
        await second.until(lambda: False)
    assert lost.value.code == 1008


@pytest.mark.parametrize("base", ["ws://sim/agent_ws/", "ws://sim/ws"])
async def test_the_whole_address_of_sdk_1_0(gateway, clock, base):
    client = await Client(gateway, clock, base=base).open()
    assert (await client.ask("2 + 2")).text == "2 + 2 = **4**"


@pytest.mark.parametrize(
    "path", ["/", "/v1/agent_ws/", "/v1/agent_ws/a/b/", "/x/v1/agent_ws/1/", "/agent_ws/1"]
)
async def test_other_paths_are_none_of_its_own(gateway, path):
    assert gateway.owns(path) is False
    with pytest.raises(HandshakeError) as refused:
        await Door(gateway).dial(Opening(url=f"ws://sim{path}"))
    assert refused.value.status == 404


async def test_there_is_no_rest(gateway):
    peer: Peer = gateway
    request = HttpRequest(method="GET", url="http://sim/v1/agent_ws/0/?a=1", read=lambda response: response)
    assert (await Door(peer).exchange(request, token="t")).status == 404


async def test_what_is_no_question_is_told(gateway, client):
    await client.transport.send("no json")
    await client.until(lambda: any(isinstance(e, Event) and e.error for e in client.seen))
    assert client.seen[-1].error.startswith("PARSE_ERROR")
    assert gateway.log.entries()[-1]["malformed"]


async def test_the_agent_may_speak_first(gateway, client):
    gateway.say("Good morning")
    gateway.say("nobody hears this", chat="9")
    await client.until(lambda: len(client.seen) == 3)
    assert (client.seen[-1].type, client.seen[-1].text) == ("message.received", "Good morning")


async def test_the_log_holds_the_questions(gateway, client):
    await client.ask("hello", "a.txt")
    (asked,) = [entry for entry in gateway.log.entries() if entry["what"] == "ask"]
    assert (asked["chat"], asked["text"], asked["attachments"]) == ("0", "hello", ["a.txt"])


# ---------------------------------------------------------------------------- faults


async def test_a_graceful_disconnect(gateway, client):
    frame, _ = client.wire.send(Ask(id="q", text="slow as can be"), at=AT)
    await client.transport.send(frame)
    await client.until(lambda: len(client.of("q")) > 2)
    gateway.fault("graceful")
    with pytest.raises(ConnectionLost) as lost:
        await client.until(lambda: False)
    assert lost.value.code == 1001
    assert isinstance(client.seen[-1], Closing)
    assert client.of("q")[-1].error.startswith("GRACEFUL_DISCONNECT")


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [("fin", {}, 1006), ("rst", {}, 1006), ("close", {"code": "1012"}, 1012), ("cut", {"after": 2}, 1006)],
)
async def test_a_connection_that_ends(gateway, client, kind, options, code):
    gateway.fault(kind, **options)
    frame, _ = client.wire.send(Ask(id="q", text="hello there"), at=AT)
    with pytest.raises(ConnectionLost) as lost:
        await client.transport.send(frame)
        await client.until(lambda: False)
    assert lost.value.code == code


async def test_an_opening_that_fails(gateway, clock):
    gateway.fault("upgrade_status", status=503)
    with pytest.raises(HandshakeError) as refused:
        await Client(gateway, clock).open()
    assert refused.value.status == 503
    gateway.fault("bad_status")
    client = Client(gateway, clock)
    client.transport = await client.door.dial(client.wire.opening(None))
    await client.until(lambda: client.seen)
    assert str(client.seen[0].error).startswith("INVALID_STATUS")
    await client.transport.close()
    await clock.settle()
    gateway.fault("no_status")
    with pytest.raises(AssertionError):
        await Client(gateway, clock).open()


async def test_answers_that_fail(gateway, client):
    gateway.fault("error", code="RATE", details="too many")
    assert (await client.ask("hello", ident="q1")).error == "RATE: too many"
    gateway.fault("silent")
    with pytest.raises(AssertionError):
        await client.ask("hello", ident="q2")


async def test_an_answer_without_end(gateway, client):
    gateway.fault("endless")
    frame, _ = client.wire.send(Ask(id="q", text="hello"), at=AT)
    await client.transport.send(frame)
    await client.until(lambda: len(client.of("q")) > 50)


async def test_malformed_frames_and_given_ones(gateway, client):
    gateway.fault("raw", frame='{"type": "WALTZ"}')
    await client.until(lambda: len(client.seen) == 2)
    assert client.seen[1].text == "WALTZ"
    gateway.fault("poison")
    await client.clock.settle()
    assert len(await client.transport.receive()) == 6


async def test_silence_for_a_while(gateway, client, clock):
    gateway.fault("stall", seconds=7)
    before = clock.monotonic()
    await client.ask("hello")
    assert clock.monotonic() - before > 7
    gateway.fault("error")
    gateway.reset()
    assert (await client.ask("hello", ident="q2")).error == ""


def test_faults_are_checked():
    gateway = AgentGateway()
    for kind, options, text in (
        ("gracefull", {}, "Did you mean graceful"),
        ("close", {"cod": 1}, "Did you mean code"),
        ("close", {"code": "x"}, "Its default is 1001"),
        ("rst", {"times": 1}, "Known: none"),
        ("zzzz", {}, "Known: "),
    ):
        with pytest.raises(LocalProtocolError) as failed:
            gateway.fault(kind, **options)
        assert text in failed.value.hint
    assert all(kind.about for kind in AGENT_FAULTS.values())


def test_personas_are_checked():
    with pytest.raises(ConfigError) as failed:
        AgentGateway(persona="helpr")
    assert failed.value.hint == "Did you mean helper?"
    with pytest.raises(ConfigError):
        AgentGateway(persona="zzz")


async def test_the_end_of_the_gateway(gateway, client):
    await gateway.close()
    await client.door.close()
    with pytest.raises(ConnectionLost) as lost:
        await client.until(lambda: False)
    await client.door.finished()
    assert (lost.value.code, gateway.sockets) == (1001, 0)


# ---------------------------------------------------------------------------- what is said


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("", "You have not said anything"),
        ("10 / 4", "10 / 4 = **2.5**"),
        ("1 / 0?", "Nothing can be divided"),
        ("3 × 4", "3 × 4 = **12**"),
        ("Thanks!", "You are welcome"),
        ("你好", "Hello!"),
        ("привет", "Hello!"),
        ("tell me a joke", ("Why", "A notebook", "I told")),
        ("think about trees", "<think>"),
        ("why?", ("Here", "A short", "Three")),
    ],
)
def test_replies(question, answer):
    assert reply(question).startswith(answer)


def test_advice_names_its_topic():
    assert "**trees** and **water**" in reply("How much do trees need of water, and why?")


@given(text=st.text())
def test_any_question_has_one_answer(text):
    assert reply(text) == reply(text) != ""
    assert "".join(pieces(reply(text))) == reply(text)


@given(persona=st.sampled_from(sorted(PERSONAS)), text=st.text(max_size=40))
def test_any_persona_answers_anything(persona, text):
    wire = AgentWire(base_url="ws://x")
    wire.opening(None)
    wire.receive('{"type": "STATUS"}', at=AT)
    wire.send(Ask(id="q", text=text), at=AT)
    for step in steps(persona, Question(text)):
        wire.receive(step.frame, at=AT)
