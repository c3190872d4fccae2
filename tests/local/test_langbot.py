from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from botbook._clock import FakeClock
from botbook._errors import (
    ApiError,
    AuthError,
    ConfigError,
    ConnectionLost,
    HandshakeError,
    LocalProtocolError,
    NotSupported,
    RemoteProtocolError,
)
from botbook._local.door import Door
from botbook._local.langbot import ERAS, LANGBOT_FAULTS, LangBotGateway
from botbook._local.peer import Peer
from botbook.actions import Ask, History
from botbook.events import Event
from botbook.wire.contract import Closing, HttpRequest, Opening, Ready, Response, Token, Verdict
from botbook.wire.langbot import LangBotWire
from botbook.wire.monitoring import Era, Resources
from botbook.wire.monitoring_feedback import feedback_changes
from tests.local.talk import Listener

MODERN = ["4.10.11", "4.11.2"]


class Client(Listener):
    """A wire with its socket and its REST, in memory, on a clock that runs as fast as it can."""

    def __init__(self, gateway: LangBotGateway, clock: FakeClock, **more: Any) -> None:
        self.gateway, self.door = gateway, Door(gateway)
        known = gateway.describe("http://localhost")
        given = {"workspace": known["workspace_uuid"], "pipeline": known["pipeline_uuid"], **more}
        super().__init__(LangBotWire(base_url=known["base_url"], **given), clock)
        self.token: str | None = known["token"]
        self.resources = Resources(self.wire.rest)

    async def dial(self) -> Client:
        opening = self.wire.opening(self.token)
        self.transport = await self.door.dial(opening)
        for frame in opening.frames:
            await self.transport.send(frame)
        return self

    async def open(self) -> Client:
        await self.dial()
        await self.until(lambda: Ready() in self.seen)
        return self

    async def ask(self, text: str, *attachments: str, ident: str = "q") -> Event:
        for frame in self.wire.send(Ask(id=ident, text=text, attachments=attachments), at=self.clock.now()):
            await self.transport.send(frame)
        await self.until(lambda: self.answer(ident) is not None)
        answer = self.answer(ident)
        assert answer is not None
        return answer

    def answer(self, ident: str) -> Event | None:
        found = (e for e in self.events("message.received") if e.reply_to == ident)
        return next(found, None)

    def events(self, kind: str) -> list[Event]:
        return [e for e in self.seen if isinstance(e, Event) and e.type == kind]

    async def over(self) -> ConnectionLost:
        with pytest.raises(ConnectionLost) as lost:
            await self.until(lambda: False)
        return lost.value

    async def call(self, request: HttpRequest, *, token: str | None = "") -> Any:
        token = self.token if token == "" else token
        return request.read(await self.door.exchange(request, token=token if request.authorised else None))

    async def flow(self, steps: Any) -> Any:
        request = next(steps)
        try:
            while True:
                request = steps.send(await self.call(request))
        except StopIteration as end:
            return end.value


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 20, 16, 0, tzinfo=UTC))


@pytest.fixture(params=ERAS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def gateway(version, clock):
    made = LangBotGateway(version=version, clock=clock)
    yield made
    await made.close()


@pytest.fixture
async def client(gateway, clock):
    return await Client(gateway, clock).open()


def only(*versions: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("version", versions)


# ---------------------------------------------------------------------------- the chat


async def test_a_question_is_echoed_and_answered(client):
    answer = await client.ask("What is 6 * 7?")
    (question,) = client.events("message.sent")
    assert (question.text, question.message_id, question.role) == ("What is 6 * 7?", "q", "user")
    assert (answer.text, answer.error) == ("6 * 7 = **42**", "")
    assert answer.raw["data"]["is_final"] is True


async def test_a_long_answer_is_cumulative(client, version):
    answer = await client.ask("a long one")
    pieces = client.events("message.delta")
    assert "".join(piece.text for piece in pieces) == answer.text
    assert len(pieces) == 120 / (4 if version == "4.11.2" else 8)


async def test_without_a_stream_there_is_one_frame(gateway, clock):
    client = await Client(gateway, clock, stream=False).open()
    await client.ask("a long one")
    assert len(client.events("message.delta")) == 1


async def test_a_failure_is_an_ordinary_answer(client, version):
    answer = await client.ask("boom")
    assert answer.error == answer.text
    assert answer.text == ("Agent runner execution failed." if version == "4.11.2" else "Request failed.")
    assert (await client.ask("1 + 1", ident="q2")).text == "1 + 1 = **2**"


async def test_a_slow_answer_takes_its_time(client, clock):
    before = clock.monotonic()
    await client.ask("slow: how are tall trees?")
    assert clock.monotonic() - before > 8


async def test_questions_of_one_session_wait_for_each_other(client):
    for ident in ("q1", "q2", "q3"):
        for frame in client.wire.send(Ask(id=ident, text=f"slow {ident[1]} + 1"), at=client.clock.now()):
            await client.transport.send(frame)
    await client.until(lambda: client.answer("q3"))
    assert [client.answer(f"q{n}").text for n in (1, 2, 3)] == [f"{n} + 1 = **{n + 1}**" for n in (1, 2, 3)]


async def test_clients_hear_each_other(gateway, clock, client):
    other = await Client(gateway, clock).open()
    await client.ask("hello")
    await other.until(lambda: len(other.events("message.received")) == 2)
    question, answer = other.events("message.received")
    assert (question.role, question.text, answer.reply_to) == ("user", "hello", question.message_id)
    assert question.user_id != ""


@pytest.mark.parametrize("text", ["ai 2 + 2", "2 + 2"])
async def test_a_group_answers_when_it_is_meant(gateway, clock, text):
    client = await Client(gateway, clock, session_type="group", mention=not text.startswith("ai")).open()
    answer = await client.ask(text)
    assert (answer.text, answer.chat_type) == ("2 + 2 = **4**", "group")
    assert answer.raw["data"]["content"].startswith("@websocket_")


async def test_a_group_is_silent_otherwise(gateway, clock):
    client = await Client(gateway, clock, session_type="group", mention=False).open()
    with pytest.raises(AssertionError):
        await client.ask("nobody is asked")
    assert len(client.events("message.sent")) == 1


async def test_a_command_is_answered_as_such(client):
    assert (await client.ask("!version")).text == "[bot] 未知命令: version"


async def test_a_picture(client, version, gateway):
    key = await client.call(client.wire.rest.upload_image("dot.png", b"\x89PNG"))
    assert key in gateway.resources.images
    answer = await client.ask("3 * 3", key)
    (echo,) = client.events("message.sent")
    picture = echo.raw["data"]["message_chain"][0]
    assert picture.get("path", "") == (key if version == "4.11.2" else "")
    assert bool(picture.get("base64")) is (version == "4.10.1")
    assert (key in gateway.resources.images) is (version == "4.11.2")
    assert answer.text == "3 * 3 = **9**"


async def test_components_it_does_not_know(client):
    await client.transport.send(json.dumps({"type": "message", "message": [{"type": "Waltz", "a": 1}]}))
    await client.until(lambda: client.events("message.sent"))
    assert client.events("message.sent")[0].text == "Unknown Message: Unknown component type: Waltz"


async def test_pings_bad_json_and_odd_types(client):
    for frame in (client.wire.ping(), "{nope", '{"type": "sing"}'):
        await client.transport.send(frame)
    await client.until(lambda: client.events("platform.specific"))
    assert client.events("platform.specific")[0].error == "Invalid JSON format"
    assert (await client.ask("1 + 1")).text


@pytest.mark.parametrize(
    "frame", ["[1]", '{"type": "message", "message": "x"}', '{"type": "disconnect"}', '{"a": 1}']
)
async def test_frames_that_end_the_chat(client, frame):
    await client.transport.send(frame)
    assert (await client.over()).code == 1000
    await client.clock.settle()
    assert client.gateway.sockets == 0


@pytest.mark.parametrize("hours", [-5, 8])
async def test_local_times(clock, hours):
    gateway = LangBotGateway(clock=clock, zone=timedelta(hours=hours))
    client = await Client(gateway, clock).open()
    await client.ask("hello")
    assert all(abs(e.at - e.received_at) < timedelta(seconds=1) for e in client.seen if isinstance(e, Event))
    await gateway.close()


# ---------------------------------------------------------------------------- the way in


@only(*MODERN)
@pytest.mark.parametrize("what", ["token", "api_key", "workspace", "pipeline", "session", "other"])
async def test_a_refused_opening(gateway, clock, what):
    more = {
        "workspace": {"workspace": "w"},
        "pipeline": {"pipeline": "p"},
        "session": {"session_type": "crowd"},
    }
    client = Client(gateway, clock, **more.get(what, {}))
    client.token = {"token": "t", "api_key": gateway.accounts.api_key}.get(what, client.token)
    await client.dial() if what != "other" else await odd_hello(client)
    assert (await client.over()).code == 1000
    (closing,) = client.seen
    assert isinstance(closing, Closing)
    assert closing.verdict is (Verdict.FATAL if what in ("pipeline", "session") else Verdict.REAUTH)


async def odd_hello(client: Client) -> None:
    client.transport = await client.door.dial(client.wire.opening(None))
    await client.transport.send("no json")


@only(*MODERN)
async def test_a_client_that_says_nothing(gateway, clock):
    client = Client(gateway, clock)
    client.transport = await client.door.dial(client.wire.opening(None))
    assert (await client.over()).code == 1000
    assert clock.monotonic() >= 10
    assert client.seen[0].verdict is Verdict.REAUTH


@only(*MODERN)
async def test_a_first_frame_of_another_type(gateway, clock):
    client = Client(gateway, clock)
    client.transport = await client.door.dial(client.wire.opening(None))
    await client.transport.send('{"type": "ping"}')
    await client.over()
    assert client.seen[0].verdict is Verdict.REAUTH


@only("4.10.1")
async def test_the_oldest_asks_for_nothing(gateway, clock):
    client = Client(gateway, clock)
    client.token = None
    await client.open()
    assert (await client.ask("1 + 1")).text == "1 + 1 = **2**"


@only("4.10.1")
async def test_the_oldest_is_silent_where_there_is_no_pipeline(gateway, clock):
    client = await Client(gateway, clock, pipeline="nowhere").open()
    await client.transport.send(client.wire.send(Ask(id="q", text="hi"), at=clock.now())[0])
    await client.until(lambda: client.events("message.sent"))
    await clock.advance(60)
    assert client.answer("q") is None


@only("4.11.2")
async def test_too_many_clients(gateway, clock):
    for _ in range(32):
        await Client(gateway, clock).open()
    last = Client(gateway, clock)
    await last.dial()
    await last.over()
    assert last.seen[0].verdict is Verdict.RETRY


async def test_an_upgrade_without_an_origin_or_a_place(gateway):
    with pytest.raises(HandshakeError) as refused:
        await Door(gateway).dial(Opening(url="ws://x/api/v1/pipelines/p/ws/connect"))
    assert refused.value.status == 400
    with pytest.raises(HandshakeError) as refused:
        await Door(gateway).dial(Opening(url="ws://x/api/v1/waltz", headers={"Origin": "x"}))
    assert refused.value.status == 404
    peer: Peer = gateway
    assert (peer.owns("/api/v1/x"), peer.owns("/healthz"), peer.owns("/chat/x")) == (True, True, False)


async def test_the_socket_of_a_page(gateway, clock, version):
    visitor = str(uuid.uuid4())
    client = await Client(gateway, clock, page=gateway.page, pipeline="", visitor=visitor).open()
    assert (await client.ask("1 + 1")).text == "1 + 1 = **2**"
    (request,) = client.wire.send(History(id="h", chat_id="person"), at=clock.now())
    assert [item.text for item in await client.call(request)] == ["1 + 1", "1 + 1 = **2**"]
    dashboard = await Client(gateway, clock).open()
    (request,) = dashboard.wire.send(History(id="h", chat_id="person"), at=clock.now())
    assert len(await dashboard.call(request)) == (2 if version == "4.10.1" else 0)
    logs = await client.flow(client.resources.logs(gateway.page))
    assert [row["text"] for row in logs] == ["1 + 1"]
    assert await client.call(client.wire.rest.page_feedback(gateway.page, 2, 1))
    await client.call(client.wire.rest.page_reset(gateway.page, visitor, "person"))
    (request,) = client.wire.send(History(id="h", chat_id="person"), at=clock.now())
    assert await client.call(request) == []


@only(*MODERN)
@pytest.mark.parametrize("visitor", ["7", str(uuid.uuid1()), "A" * 32])
async def test_a_page_wants_a_uuid4(gateway, clock, visitor):
    client = Client(gateway, clock, page=gateway.page, visitor=visitor)
    await client.dial()
    await client.over()
    assert client.seen[0].verdict is Verdict.FATAL


async def test_a_page_that_is_not_there(gateway, clock):
    client = Client(gateway, clock, page="nowhere", visitor=str(uuid.uuid4()))
    await client.dial()
    await client.over()
    rest = client.wire.rest
    for request in (
        rest.page_feedback("nowhere", 1, 1),
        rest.page_reset("nowhere", "v", "person"),
        rest.page_history("nowhere", "v", "person", read=lambda data: data),
    ):
        with pytest.raises(ApiError):
            await client.call(request)
    with pytest.raises(ApiError, match="feedback_type must be"):
        await client.call(rest.page_feedback(gateway.page, 1, 7))


# ---------------------------------------------------------------------------- accounts


async def test_logging_in_finds_the_workspace(gateway, clock, version):
    known = gateway.describe("http://localhost")
    client = Client(gateway, clock, workspace="", user=known["user"], password=known["password"])
    got = await client.call(client.wire.token_request())
    if version != "4.10.1":
        assert client.wire.rest.workspace == ""
    got = await client.call(got)
    assert isinstance(got, Token)
    assert got.expires_in == 7 * 86400
    assert client.wire.rest.workspace == known["workspace_uuid"]
    client.token = got.value
    await client.open()


async def test_wrong_words_and_dead_tokens(gateway, clock, client, version):
    for user, password in ((gateway.accounts.user, "wrong"), ("x", gateway.accounts.password)):
        with pytest.raises(AuthError, match="Invalid username"):
            await client.call(client.wire.rest.login(user, password))
    wire = LangBotWire(base_url="http://localhost", pipeline="p", token=client.token, workspace="w")
    renewed = await client.call(wire.token_request())
    assert renewed.value != client.token
    await clock.advance(8 * 86400)
    with pytest.raises(AuthError) as failed:
        await client.call(client.resources.overview())
    assert failed.value.code == (-1 if version == "4.10.1" else "invalid_authentication")
    with pytest.raises(AuthError):
        await client.call(client.resources.overview(), token=None)


@only(*MODERN)
async def test_a_workspace_that_is_not_there(gateway, clock):
    client = Client(gateway, clock, workspace="w")
    with pytest.raises(ApiError, match="Workspace not found"):
        await client.call(client.resources.overview())


# ---------------------------------------------------------------------------- REST


async def test_history_and_reset(client, version):
    await client.ask("1 + 1")
    (request,) = client.wire.send(History(id="h", chat_id="person"), at=client.clock.now())
    items = await client.call(request)
    answer = client.answer("q")
    assert [(item.role, item.text) for item in items] == [("user", "1 + 1"), ("assistant", "1 + 1 = **2**")]
    assert items[1].message_id == answer.message_id
    await client.call(client.wire.rest.reset(client.wire.pipeline, "person"))
    assert await client.call(request) == []
    assert (await client.ask("2 + 2", ident="q2")).raw["data"]["id"] == 2
    for call in (
        client.wire.rest.history(client.wire.pipeline, "crowd", read=lambda data: data),
        client.wire.rest.reset(client.wire.pipeline, "crowd"),
    ):
        with pytest.raises(ApiError, match="person or group"):
            await client.call(call)
    key = client.gateway.accounts.api_key
    if version == "4.10.1":
        with pytest.raises(AuthError):
            await client.call(request, token=key)
    else:
        assert len(await client.call(request, token=key)) == 2


async def test_connections_and_broadcast(gateway, clock, client):
    group = await Client(gateway, clock, session_type="group").open()
    found = await client.call(client.wire.rest.connections(client.wire.pipeline))
    assert found["stats"]["connections_by_session_type"] == {"person": 1, "group": 1}
    assert len(found["connections"]) == 2
    await client.call(client.wire.rest.broadcast(client.wire.pipeline, {"any": 1}))
    for one in (client, group):
        await one.until(lambda one=one: one.events("message.received"))
        assert one.events("message.received")[0].text == '{"any": 1}'


async def test_pipelines_and_info(client, version):
    (row,) = await client.call(client.wire.rest.pipelines())
    assert (row["uuid"], row["for_version"]) == (client.wire.pipeline, f"v{version}")
    assert (await client.call(client.wire.rest.info()))["version"] == f"v{version}"
    path = f"/api/v1/pipelines/{client.wire.pipeline}"
    found = await client.call(client.wire.rest.request("GET", path, call="pipeline"))
    assert found["pipeline"]["name"] == "lab"
    with pytest.raises(ApiError, match="pipeline not found"):
        await client.call(client.wire.rest.request("GET", "/api/v1/pipelines/x", call="pipeline"))
    assert await client.call(client.wire.rest.request("GET", "/healthz", call="health")) is None


async def test_running_without_a_socket(client, version):
    request = client.wire.rest.run(client.wire.pipeline, "2 + 3")
    if version != "4.11.2":
        with pytest.raises(NotSupported):
            await client.call(request)
        return
    work = asyncio.create_task(client.call(request))
    await client.clock.advance(30)
    answer = await work
    assert (answer["reply"], answer["status"]) == ("2 + 3 = **5**", "completed")
    with pytest.raises(ApiError):
        await client.call(client.wire.rest.run("x", "hello"))


async def test_files_and_knowledge(client, gateway):
    rest = client.wire.rest
    file = await client.call(rest.upload_document("cats.txt", b"Cats like milk. So do hedgehogs."))
    await client.call(client.resources.add_file(gateway.base, file))
    (base,) = await client.call(client.resources.knowledge_bases())
    assert (base["uuid"], base["name"]) == (gateway.base, "notes")
    (row,) = await client.call(client.resources.knowledge_files(gateway.base))
    assert (row["file_name"], row["status"]) == ("cats.txt", "completed")
    (found,) = await client.call(client.resources.retrieve(gateway.base, "who likes milk"))
    assert (found["text"], 0 < found["score"] < 1) == ("Cats like milk. So do hedgehogs.", True)
    assert await client.call(client.resources.retrieve(gateway.base, "zzz")) == []
    for request in (
        client.resources.retrieve(gateway.base, " "),
        client.resources.retrieve("x", "milk"),
        client.resources.knowledge_files("x"),
        client.resources.add_file("x", file),
        client.resources.add_file(gateway.base, ""),
        rest.request("POST", "/api/v1/files/images", call="upload", body=b"x"),
        rest.request("POST", "/api/v1/files/documents", call="upload", body=b"x"),
    ):
        with pytest.raises(ApiError):
            await client.call(request)
    body, kind = b"", "multipart/form-data; boundary=x"
    for name, data in (("a.exe", b""), ("a.png", bytes(10 * 2**20 + 1))):
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + b"\r\n--x--"
        request = rest.request(
            "POST", "/api/v1/files/images", call="upload", body=body, headers={"Content-Type": kind}
        )
        with pytest.raises(ApiError):
            await client.call(request)


async def test_other_resources(client, gateway, version):
    bots = await client.call(client.resources.bots())
    assert [bot["name"] for bot in bots] == ["page", "wecom"]
    assert await client.call(client.resources.box_sessions()) == []
    assert await client.call(client.resources.box_errors()) == []
    assert (await client.call(client.resources.box_status()))["available"] is False
    assert len(await client.call(client.resources.extensions())) == (version == "4.11.2")
    with pytest.raises(ApiError):
        await client.flow(client.resources.logs("nowhere"))
    for number in range(7):
        gateway.note(gateway.bot, f"row {number}")
    rows = await client.flow(client.resources.logs(gateway.bot, limit=60))
    assert [row["seq_id"] for row in rows] == [6, 5, 4, 3, 2, 1, 0]
    assert ("metadata" in rows[0]) is True


async def test_paths_that_are_not_there(client):
    for method in ("GET", "POST"):
        with pytest.raises(NotSupported):
            await client.call(client.wire.rest.request(method, "/api/v1/x", call="x"))


# ---------------------------------------------------------------------------- monitoring


async def test_rows_agree_with_the_chat(client, version):
    await client.ask("1 + 1")
    await client.ask("boom", ident="q2")
    connection = client.events("message.sent")[0].user_id
    messages = await client.flow(client.resources.rows("messages"))
    assert [(row["role"], row["status"], row["text"]) for row in reversed(messages)] == [
        ("user", "success", "1 + 1"),
        ("assistant", "success", "1 + 1 = **2**"),
        ("user", "error", "boom"),
    ]
    assert {row["session_id"] for row in messages} == {f"person_{connection}"}
    assert {row["user_id"] for row in messages} == {connection}
    calls = await client.flow(client.resources.rows("llm_calls"))
    assert [call["status"] for call in calls] == ["error", "success"]
    assert (calls[1]["total_tokens"] > 0) is (version != "4.10.1")
    assert calls[1]["message_id"] == messages[2]["id"]
    (session,) = await client.flow(client.resources.rows("sessions"))
    assert (session["user_id"], session["message_count"]) == (connection, 2 if version == "4.10.1" else 3)
    (error,) = await client.flow(client.resources.rows("errors"))
    assert error["message_id"] == messages[0]["id"]
    overview = await client.call(client.resources.overview())
    assert (overview["total_messages"], overview["success_rate"]) == (3, 66.67)
    details = await client.call(client.resources.details(messages[2]["id"]))
    assert details["llm_stats"]["total_calls"] == 1
    found = await client.flow(client.resources.session_analysis(session["session_id"]))
    assert found["message_stats"] == {"total": 3, "success": 2, "error": 1, "pending": 0}
    assert await client.flow(client.resources.session_analysis("person_nobody")) is None
    with pytest.raises(ApiError):
        await client.call(client.resources.details("nope"))


async def test_lists_by_version(client, version):
    await client.ask("hello")
    assert await client.flow(client.resources.rows("embedding_calls")) == []
    for name, known in (("tool_calls", version != "4.10.1"), ("executions", version == "4.11.2")):
        if known:
            rows = await client.flow(client.resources.rows(name))
            assert len(rows) == (name == "executions")
        else:
            with pytest.raises(NotSupported):
                await client.flow(client.resources.rows(name))
    if version == "4.10.1":
        with pytest.raises(NotSupported):
            await client.call(client.resources.token_statistics())
    else:
        for bucket in ("hour", "day"):
            tokens = await client.call(client.resources.token_statistics(bucket=bucket))
            assert tokens["by_model"][0]["calls"] == tokens["timeseries"][0]["calls"] == 1
            assert tokens["summary"]["total_tokens"] == tokens["timeseries"][0]["total_tokens"] > 0
    era = await client.flow(client.resources.era())
    assert era == Era(version=f"v{version}", workspaces=version != "4.10.1", executions=version == "4.11.2")


async def test_an_empty_server_is_well(client, version):
    assert (await client.call(client.resources.overview()))["success_rate"] == 100
    assert (await client.call(client.resources.feedback_stats()))["total_feedback"] == 0
    if version != "4.10.1":
        assert (await client.call(client.resources.token_statistics()))["by_model"] == []


async def test_what_an_api_key_may_read(client, gateway, version):
    key = gateway.accounts.api_key
    for name, known in (("messages", version == "4.11.2"), ("feedback", False)):
        request = client.resources.page(name)
        if known:
            assert (await client.call(request, token=key)).rows == []
        else:
            with pytest.raises(AuthError):
                await client.call(request, token=key)
    assert await client.call(client.wire.rest.pipelines(), token=key)


async def test_filters_and_windows(client, version, clock):
    await client.ask("hello")
    resources, now = client.resources, clock.now()

    async def count(**more: Any) -> int:
        return (await client.call(resources.page("messages", **more))).total

    assert await count() == 2
    assert await count(pipelines=[client.wire.pipeline], bots=["websocket-proxy-bot"]) == 2
    assert await count(bots=["x"]) == await count(where={"sessionId": "x"}) == 0
    assert await count(since=now - timedelta(hours=1), until=now) == 2
    assert await count(since=now + timedelta(hours=1), until=now + timedelta(hours=2)) == 0
    assert await count(until=now - timedelta(hours=1)) == 0
    assert len((await client.call(resources.page("messages", limit=-1))).rows) == (
        1 if version == "4.11.2" else 2
    )
    assert len((await client.call(resources.page("messages", limit=1, offset=1))).rows) == 1
    long = {"since": now - timedelta(days=400), "until": now}
    if version == "4.11.2":
        with pytest.raises(ApiError, match="Internal server error"):
            await count(**long)
    assert len(await client.flow(resources.rows("messages", **long))) == 2
    bad = client.wire.rest.request("GET", "/api/v1/monitoring/messages?startTime=yesterday", call="x")
    with pytest.raises(ApiError) as failed:
        await client.call(bad)
    assert failed.value.status == 500
    odd = client.wire.rest.request("GET", "/api/v1/monitoring/messages?limit=abc", call="x")
    if version == "4.11.2":
        assert (await client.call(odd))["limit"] == 100
    else:
        with pytest.raises(ApiError, match="invalid literal"):
            await client.call(odd)


async def test_ratings_like_dislike_and_cancel(client, gateway):
    resources, at = client.resources, client.clock.now()
    ident = gateway.rate(1, user="bob")
    rows = await client.flow(resources.rows("feedback"))
    liked, seen = feedback_changes({}, rows, at=at)
    gateway.rate(2, user="bob", feedback_id=ident, content="no", reasons=[2, 4])
    await client.clock.advance(1)
    gateway.rate(1, user="eve")
    disliked, seen = feedback_changes(seen, await client.flow(resources.rows("feedback")), at=at)
    stats = await client.call(resources.feedback_stats())
    assert (stats["total_likes"], stats["total_dislikes"], stats["by_bot"][0]["total"]) == (1, 1, 2)
    gateway.rate(3, feedback_id=ident)
    cancelled, _ = feedback_changes(seen, await client.flow(resources.rows("feedback")), at=at)
    assert [(e.feedback_type, e.chat_id) for e in liked] == [(1, "person_bob")]
    assert [(e.feedback_type, e.feedback_reasons) for e in disliked] == [(2, ("2", "4")), (1, ())]
    assert [(e.feedback_type, e.feedback_id) for e in cancelled] == [(3, ident)]
    only_likes = await client.call(resources.page("feedback", where={"feedbackType": "1"}))
    assert len(only_likes.rows) == 1
    with pytest.raises(LocalProtocolError):
        gateway.rate(4)


# ---------------------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("kind", "options", "code"),
    [
        ("fin", {}, 1006),
        ("rst", {}, 1006),
        ("close", {}, 1000),
        ("close", {"code": 1012}, 1012),
        ("restart", {}, 1000),
    ],
)
@only("4.11.2")
async def test_a_connection_that_ends(gateway, client, kind, options, code):
    await client.ask("hello")
    gateway.fault(kind, **options)
    assert (await client.over()).code == code
    room = gateway.chat.room(gateway.pipeline, "person")
    assert bool(room.messages) is (kind != "restart")


@only("4.11.2")
async def test_openings_that_fail(gateway, clock):
    gateway.fault("upgrade_status", status=429)
    with pytest.raises(HandshakeError) as refused:
        await Client(gateway, clock).dial()
    assert refused.value.status == 429
    gateway.fault("refuse", message="未授权")
    client = await Client(gateway, clock).dial()
    await client.over()
    assert "未授权" in str(client.seen[0].error)


@only("4.11.2")
async def test_rest_that_fails(gateway, client):
    for kind, error in (("http", ApiError), ("html", RemoteProtocolError), ("failing_code", ApiError)):
        gateway.fault(kind)
        with pytest.raises(error):
            await client.call(client.wire.rest.info())
    gateway.fault("token_revoked")
    with pytest.raises(AuthError):
        await client.call(client.resources.overview())
    gateway.fault("token_ttl", seconds=5)
    short = await client.call(client.wire.rest.login(gateway.accounts.user, gateway.accounts.password))
    assert short.expires_in == 5


@only("4.11.2")
async def test_silence_and_odd_frames(gateway, client):
    gateway.fault("silent")
    with pytest.raises(AssertionError):
        await client.ask("hello")
    gateway.fault("raw", frame='{"type": "waltz"}')
    await client.until(lambda: client.events("platform.specific"))
    gateway.fault("poison")
    await client.clock.settle()
    assert len(await client.transport.receive()) == 6
    gateway.fault("silent")
    gateway.fault("http")
    gateway.reset()
    assert (await client.call(client.resources.overview()))["total_messages"] == 0
    client.seen.clear()
    assert (await client.ask("1 + 1", ident="q9")).text == "1 + 1 = **2**"


def test_faults_and_versions_are_checked():
    with pytest.raises(LocalProtocolError, match="no fault"):
        LangBotGateway().fault("waltz")
    with pytest.raises(ConfigError) as failed:
        LangBotGateway(version="5.0.0")
    assert "4.11.2" in failed.value.hint
    assert all(kind.about for kind in LANGBOT_FAULTS.values())


async def test_the_log_shows_no_secrets(gateway, client):
    text = json.dumps(gateway.log.entries())
    assert client.token not in text
    assert "authenticate" in text or gateway.era.version == "4.10.1"


async def test_a_closed_answer_hurts_nobody(gateway, clock, client):
    other = await Client(gateway, clock).open()
    for frame in client.wire.send(Ask(id="q", text="slow tall trees"), at=clock.now()):
        await client.transport.send(frame)
    await client.until(lambda: client.events("message.delta"))
    await client.transport.close()
    assert (await other.ask("1 + 1")).text == "1 + 1 = **2**"
    assert isinstance(await Door(gateway).exchange(client.wire.rest.info(), token=None), Response)
    await other.door.close()
