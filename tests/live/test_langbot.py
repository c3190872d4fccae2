"""One body of tests over the embedded LangBot of each era and over real servers.

Real ones are named by BOTBOOK_LIVE_LANGBOT: paths, separated as in PATH, of JSON files that tell base_url,
version, token, api_key, pipeline_uuid, page_bot_uuid and wecom_bot_uuid of a server. Its model knows the
words ``boom`` (it fails), ``slow`` and ``long``; `docs/langbot.md` says how to make one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from botbook import AsyncBot
from botbook._clock import SYSTEM
from botbook._errors import AnswerError, ApiError, AuthError, BotbookError, NotSupported
from botbook._local.langbot import ERAS
from botbook._local.server import serve
from botbook._local.world import World
from botbook._monitoring import FeedbackWatch
from botbook._net.transport import open_websocket
from botbook.wire.langbot import LangBotWire
from botbook.wire.monitoring_tables import TABLES
from tests.live.wecom import WeCom
from tests.local.talk import asked, opened
from tests.wire.frames.langbot.record import png

REAL = [path for path in os.environ.get("BOTBOOK_LIVE_LANGBOT", "").split(os.pathsep) if path]


@dataclass
class Server:
    """A server to test.

    Attributes:
        info: What its JSON file tells.
        real: Whether it is a real one.
        rater: Makes somebody whose one rating each call changes: 1 like, 2 dislike, 3 cancel.
    """

    info: dict[str, Any]
    real: bool
    rater: Callable[[], Awaitable[Callable[[int], Awaitable[None]]]]

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.info["version"].removeprefix("v").split("."))

    @property
    def authenticates(self) -> bool:
        return self.version >= (4, 10, 7)

    @property
    def modern(self) -> bool:
        return self.version >= (4, 11)


@contextlib.asynccontextmanager
async def embedded(version: str) -> AsyncIterator[Server]:
    world = World(scenario="quiet", speed=50, langbot=version)
    door = await serve(world)
    await world.start()
    told = door.description()["langbot"]

    async def rater() -> Callable[[int], Awaitable[None]]:
        feedback_id = uuid.uuid4().hex

        async def rate(kind: int) -> None:
            said = {"content": "not what I asked", "reasons": [2, 4]} if kind == 2 else {}
            world.rate(kind, user="bob", feedback_id=feedback_id, **said)

        return rate

    info = {**told, "version": f"v{version}", "wecom_bot_uuid": told["bot_uuid"]}
    yield Server(info=info, real=False, rater=rater)
    await world.stop()
    await door.close()


@contextlib.asynccontextmanager
async def real(path: str) -> AsyncIterator[Server]:
    info = json.loads(await asyncio.to_thread(Path(path).read_text, "utf-8"))

    async def rater() -> Callable[[int], Awaitable[None]]:
        wire = LangBotWire(base_url=info["base_url"], pipeline=info["pipeline_uuid"], token=info["token"])
        async with contextlib.AsyncExitStack() as stack:
            rest = await stack.enter_async_context(_rest(wire))
            rows = await rest.call(wire.rest.request("GET", "/api/v1/platform/bots", call="bots"))
        (config,) = (row["adapter_config"] for row in rows["bots"] if row["uuid"] == info["wecom_bot_uuid"])
        player = WeCom(info["base_url"], info["wecom_bot_uuid"], config, user="bob")
        await player.ask("hello from wecom")
        return player.rate

    yield Server(info=info, real=True, rater=rater)


@contextlib.asynccontextmanager
async def _rest(wire: LangBotWire) -> AsyncIterator[Any]:
    from botbook._net.auth import TokenSource
    from botbook._net.http import AiohttpHttp, Rest

    http = AiohttpHttp(trust_env=False)
    tokens = TokenSource(wire.token_request, http)
    yield Rest(http, tokens)
    await tokens.close()
    await http.close()


@pytest.fixture(
    params=[
        *(pytest.param((embedded, version), id=f"embedded-{version}") for version in ERAS),
        *(pytest.param((real, path), id=f"real-{n}", marks=pytest.mark.live) for n, path in enumerate(REAL)),
    ]
)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    make, which = request.param
    async with make(which) as made:
        yield made


class Peer:
    """A bot and its faces."""

    def __init__(self, bot: AsyncBot) -> None:
        self.bot = bot
        self.langbot, self.monitoring = bot.langbot, bot.monitoring

    async def ask(self, question: str, **options: Any) -> Any:
        return await self.bot.ask(question, timeout=30, **options)

    async def until(self, found: Callable[[pd.DataFrame], Any], **filters: Any) -> pd.DataFrame:
        """Wait until the frame of events has something."""
        async with asyncio.timeout(10):
            while not found(frame := self.bot.events(bot=self.bot.name, **filters)):
                await asyncio.sleep(0.05)
        return frame


@pytest.fixture
async def connect(server: Server, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Peer]]]:
    """Makes connected bots."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(**more: Any) -> Peer:
            given = {
                "base_url": server.info["base_url"],
                "pipeline": server.info["pipeline_uuid"],
                "token": server.info["token"],
                "api_key": server.info["api_key"],
                "name": f"bot-{uuid.uuid4().hex[:6]}",
                "store": tmp_path / "journal.sqlite",
            }
            return Peer(await stack.enter_async_context(AsyncBot("langbot", **(given | more))))

        yield make


@pytest.fixture
async def peer(connect: Callable[..., Awaitable[Peer]]) -> Peer:
    made = await connect()
    await made.langbot.reset()
    return made


async def test_connect(peer, server):
    status = peer.bot.status()
    assert (status.state, status.malformed, status.error) == ("open", 0, "")
    era = await peer.monitoring.era()
    assert (era.version, era.workspaces, era.executions) == (
        server.info["version"],
        server.authenticates,
        server.modern,
    )
    assert (await peer.langbot.info())["version"] == server.info["version"]


async def test_stream_an_answer(peer):
    pieces = []
    answer = peer.bot.ask("a long one, please", timeout=30)
    async for event in answer:
        pieces += [event.text] if event.type == "message.delta" else []
    assert len(pieces) > 1
    assert "".join(pieces) == answer.text
    assert len(answer.text) > 300
    assert (answer.error, answer.done) == ("", True)
    rows = await peer.until(lambda rows: (rows["type"] == "message.received").any())
    (question,) = rows[rows["type"] == "message.sent"].to_dict("records")
    (whole,) = rows[rows["type"] == "message.received"].to_dict("records")
    assert (question["text"], question["role"]) == ("a long one, please", "user")
    assert (whole["reply_to"], whole["role"]) == (answer.id, "assistant")
    assert whole["latency_s"] > 0
    assert abs((whole["at"] - whole["received_at"]).total_seconds()) < 5, "local time of the server is known"
    assert peer.bot.status().malformed == 0


async def test_a_short_answer_and_the_next(peer):
    first = await peer.ask("hello there")
    second = await peer.ask("and again")
    assert first.text
    assert second.text
    assert first.error == second.error == ""


async def test_a_slow_answer_can_be_stopped_and_the_next_is_its_own(peer):
    asked = peer.bot.ask("slow please", timeout=30)
    await peer.until(lambda rows: (rows["type"] == "message.sent").any())
    await asked.stop()
    with pytest.raises(AnswerError, match="stopped"):
        await asked
    answer = await peer.ask("hello again")
    assert answer.error == ""
    rows = peer.bot.events(bot=peer.bot.name)
    assert set(rows[rows["text"] == answer.text]["reply_to"]) >= {answer.id}


async def test_a_slow_answer(peer):
    answer = await peer.ask("slow please")
    assert answer.text
    assert answer.seconds > 0


async def test_a_failing_answer(peer):
    with pytest.raises(AnswerError) as caught:
        await peer.ask("boom")
    assert caught.value.answer.error
    assert (await peer.ask("are you well?")).error == ""


async def test_questions_of_several_at_once(connect, peer):
    other = await connect()
    answers = await asyncio.gather(peer.ask("one"), other.ask("two"), peer.ask("three"))
    assert all(answer.text and not answer.error for answer in answers)
    for bot, number in ((peer.bot, 2), (other.bot, 1)):
        frame = bot.events(bot=bot.name)
        assert (frame["type"] == "message.sent").sum() == number
        assert (frame["role"] == "assistant").any()
    heard = await other.until(lambda rows: (rows["role"] == "user").sum() >= 3)
    assert set(heard[heard["role"] == "user"]["text"]) == {"one", "two", "three"}


async def test_a_group_message(connect):
    group = await connect(session_type="group")
    await group.langbot.reset()
    answer = await group.ask("hello everybody")
    assert answer.text
    assert not answer.text.startswith("@")
    rows = await group.until(lambda rows: (rows["type"] == "message.received").any())
    assert set(rows[rows["type"].str.startswith("message")]["chat_type"]) == {"group"}
    quiet = await group.bot.send(f"group:{group.bot.settings.pipeline}", "nobody is meant")
    assert quiet is not None
    await group.until(lambda rows: (rows["text"] == "nobody is meant").any())


async def test_history_and_reset(peer):
    await peer.ask("remember me")
    frame = await peer.langbot.history()
    assert frame["role"].tolist() == ["user", "assistant"]
    assert frame["text"].iloc[0] == "remember me"
    assert (pd.Timestamp.now("UTC") - frame["at"].iloc[0]).total_seconds() < 60
    assert len(await peer.bot.history("person", limit=1)) == 1
    await peer.langbot.reset()
    assert len(await peer.langbot.history()) == 0


async def test_what_was_said_while_the_link_was_down_is_recovered(connect, peer):
    """Read from the history: what others said and were answered, as received; our own words once."""
    other = await connect()
    await peer.ask("before")
    await peer.bot._connection.io.call(peer.bot._connection.link.renew("test"))
    await other.ask("while you were away")
    rows = await peer.until(lambda rows: (rows["type"] == "connection.gap").any())
    assert await peer.ask("after") is not None
    rows = peer.bot.events(bot=peer.bot.name, type="message.*")
    assert (rows["text"] == "before").sum() == 1
    said = rows[rows["text"] == "while you were away"]
    assert (said["type"].tolist(), said["role"].tolist()) == (["message.received"], ["user"])
    assert said["recovered"].tolist() == [True]
    recovered = rows[rows["recovered"]]
    assert set(recovered["type"]) <= {"message.received"}
    assert not recovered["message_id"].duplicated().any()


async def test_connections(connect, peer):
    await connect(session_type="group")
    frame = await peer.langbot.connections()
    assert set(frame["session_type"]) >= {"person", "group"}
    assert frame.attrs["stats"]["total_connections"] >= 2


async def test_broadcast(connect, peer):
    group = await connect(session_type="group")
    await peer.langbot.broadcast("hello all")
    for one in (peer, group):
        rows = await one.until(lambda rows: (rows["role"] == "system").any(), type="message.received")
        assert rows["text"].tolist() == ["hello all"]


async def test_a_picture(peer):
    key = await peer.langbot.upload_image(png(), name="dot.png")
    answer = await peer.ask("what is this?", attachments=[key])
    assert answer.error == ""
    rows = peer.bot.events(bot=peer.bot.name, type="message.sent", raw=True)
    assert '"Image"' in rows["raw"].iloc[0]
    with pytest.raises(BotbookError, match="no picture"):
        await peer.langbot.upload_image(b"text", name="note.txt")
    with pytest.raises(ApiError):
        past_our_own_check = peer.langbot._rest._upload("images", "note.txt", b"text", "file_key")
        await peer.bot._connection.io.call(peer.langbot._calls(past_our_own_check))


async def test_pipelines_and_run(peer, server):
    frame = await peer.langbot.pipelines()
    assert server.info["pipeline_uuid"] in set(frame["uuid"])
    if server.modern:
        assert (await peer.langbot.run("hello run"))["reply"]
    else:
        with pytest.raises(NotSupported):
            await peer.langbot.run("hello run")


async def test_a_message_of_a_bot(server, connect, peer):
    assert await peer.langbot.send_message(server.info["page_bot_uuid"], "user:anybody", "Hi") is None
    with pytest.raises(ApiError):
        await peer.langbot.send_message(str(uuid.uuid4()), "user:anybody", "Hi")
    mistaken = await connect(api_key="lbk_wrong")
    with pytest.raises(AuthError):
        await mistaken.langbot.send_message(server.info["page_bot_uuid"], "user:anybody", "Hi")


async def test_a_visitor_of_a_page(server):
    wire = LangBotWire(
        base_url=server.info["base_url"], page=server.info["page_bot_uuid"], visitor=str(uuid.uuid4())
    )
    transport = await opened(wire, lambda opening: open_websocket(opening, trust_env=False), None)
    assert (await asked(wire, transport, "hello page", seconds=20)).text
    await transport.close()


# ---------------------------------------------------------------------------- monitoring

LISTS = [name for name, table in TABLES.items() if table.when and "/monitoring/" in table.path]


def since(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in TABLES[name].since.split("."))


async def test_monitoring_agrees_with_the_chat(peer, server):
    word = uuid.uuid4().hex
    answer = await peer.ask(f"hello {word}")
    with contextlib.suppress(AnswerError):
        await peer.ask(f"boom {word}")
    frame = await booked(peer.monitoring.messages, lambda rows: answer.text in set(rows["text"]))
    asked_row = frame[frame["text"] == f"hello {word}"].iloc[0]
    session = asked_row["session_id"]
    assert session.startswith("person_websocket_"), "without the enum's name"
    assert abs((pd.Timestamp.now("UTC") - asked_row["timestamp"]).total_seconds()) < 60, "UTC"
    mine = await peer.monitoring.messages(sessions=[session])
    assert set(mine["session_id"]) == {session}
    assert {"user", "assistant"} <= set(mine["role"])
    sessions = await peer.monitoring.sessions()
    assert session in set(sessions["session_id"])
    calls = await peer.monitoring.llm_calls()
    assert {"success", "error"} <= set(calls["status"])
    errors = await peer.monitoring.errors()
    assert len(errors) >= 1
    details = await peer.monitoring.details(asked_row["id"])
    assert details["message"]["id"] == asked_row["id"]
    found = await peer.monitoring.session_analysis(session)
    assert found["message_stats"]["total"] >= 2
    assert await peer.monitoring.session_analysis("person_nobody") is None
    if server.modern:
        runs = await booked(peer.monitoring.executions, lambda rows: session in set(rows["session_id"]))
        run = runs[runs["session_id"] == session].iloc[-1]
        assert (run["source"], run["input_preview"]) == ("pipeline", f"hello {word}")
        assert run["finished_at"] >= run["started_at"]


async def booked(
    read: Callable[[], Awaitable[pd.DataFrame]], there: Callable[[pd.DataFrame], bool]
) -> pd.DataFrame:
    """Wait until the server has booked something; it does so a little after it answered."""
    async with asyncio.timeout(10):
        while not there(frame := await read()):
            await asyncio.sleep(0.1)
    return frame


async def test_every_list(peer, server):
    await peer.ask("hello lists")
    for name in LISTS:
        read = getattr(peer.monitoring, name)
        if server.version < since(name):
            with pytest.raises(NotSupported):
                await read()
            continue
        for filters in ({}, {"since": "1h"}, {"since": "500d", "limit": 3}, {"since": "2h", "until": "1h"}):
            frame = await read(**filters)
            assert list(frame.columns[: len(TABLES[name].columns)]) == list(TABLES[name].columns)
            for column, kind in TABLES[name].columns.items():
                if kind == "time":
                    assert str(frame[column].dtype) == "datetime64[us, UTC]"
            assert len(frame) or frame.attrs["note"]


async def test_sums(peer, server):
    await peer.ask("hello sums")
    overview = await peer.monitoring.overview()
    assert overview["total_messages"].iloc[0] >= 1
    assert isinstance((await peer.monitoring.feedback_stats()).attrs["summary"]["total_feedback"], int)
    if server.version < (4, 10, 2):
        with pytest.raises(NotSupported):
            await peer.monitoring.token_statistics()
        return
    series = await peer.monitoring.token_statistics(bucket="hour", since="1d")
    assert series["calls"].sum() >= 1
    assert series.attrs["summary"]["total_calls"] >= 1
    assert len(await peer.monitoring.token_statistics(by="model")) >= 1


async def test_resources(peer, server, tmp_path):
    monitoring = peer.monitoring
    bots = await monitoring.bots()
    assert {server.info["page_bot_uuid"], server.info["wecom_bot_uuid"]} <= set(bots["uuid"])
    assert str(bots["created_at"].dtype) == "datetime64[us, UTC]"
    logs = await monitoring.logs(server.info["page_bot_uuid"])
    assert "text" in logs.columns
    with pytest.raises(ApiError):
        await monitoring.logs(str(uuid.uuid4()))
    assert (await monitoring.box_status())["available"].tolist() == [False]
    for name in ("box_sessions", "box_errors", "extensions", "knowledge_bases"):
        frame = await getattr(monitoring, name)()
        assert len(frame) or frame.attrs["note"]
    note = tmp_path / "note.txt"
    note.write_text("Cats like milk")
    with pytest.raises(ApiError):
        await monitoring.add_file(str(uuid.uuid4()), note)
    with pytest.raises(ApiError):
        await monitoring.retrieve(str(uuid.uuid4()), "milk")


async def test_ratings(peer, server):
    before = await peer.monitoring.feedback()
    feedback_id = await peer.langbot.rate(server.info["page_bot_uuid"], 2, 1)
    frame = await peer.monitoring.feedback()
    (row,) = frame[frame["feedback_id"] == feedback_id].to_dict("records")
    assert (row["feedback_type"], len(frame)) == (1, len(before) + 1)
    stats = await peer.monitoring.feedback_stats()
    assert stats.attrs["summary"]["total_feedback"] == len(frame)


async def test_a_rating_comes_changes_and_is_taken_back(peer, server):
    seen: list[Any] = []

    async def publish(events: Any) -> None:
        seen.extend(events)

    watch = FeedbackWatch(
        peer.monitoring, publish, gateway="langbot", bot=peer.bot.name, clock=SYSTEM, window=timedelta(days=1)
    )
    hop = peer.bot._connection.io.call
    await hop(watch.poll())
    seen.clear()
    rate = await server.rater()
    for kind in (1, 2, 3):
        await rate(kind)
        await asyncio.sleep(0.3 * server.real)
        assert await hop(watch.poll()) == 1
    assert [event.feedback_type for event in seen] == [1, 2, 3]
    assert len({event.feedback_id for event in seen}) == 1
    disliked = seen[1]
    assert (disliked.user_id, disliked.text, disliked.feedback_reasons) == (
        "bob",
        "not what I asked",
        ("2", "4"),
    )
    assert disliked.chat_id == "person_bob"


async def test_an_api_key(server, connect):
    """What an API key opens without an account; the chat itself only where nothing is asked for."""
    if server.authenticates:
        with pytest.raises(AuthError) as caught:
            await connect(token=server.info["api_key"], api_key=None)
        assert caught.value.hint
        keyed = await connect()
        keyed.langbot._calls._user = keyed.monitoring._calls._user = False
    else:
        keyed = await connect(token=None)
    assert len(await keyed.monitoring.bots()) >= 2
    for read in (keyed.monitoring.feedback, keyed.monitoring.overview):
        with pytest.raises(AuthError) as caught:
            await read()
        assert "user token" in caught.value.hint
    if server.modern:
        assert "text" in (await keyed.monitoring.messages(limit=1)).columns
    else:
        with pytest.raises(AuthError):
            await keyed.monitoring.messages(limit=1)


# ---------------------------------------------------------------------------- what goes wrong


async def test_a_wrong_token(connect):
    with pytest.raises(AuthError) as caught:
        await connect(token="eyJ.no.token")
    assert caught.value.status == 401


async def test_a_wrong_pipeline(server, connect):
    nowhere = str(uuid.uuid4())
    if server.authenticates:
        with pytest.raises(ApiError, match="not found") as caught:
            await connect(pipeline=nowhere)
        assert "uuid" in caught.value.hint
        return
    lost = await connect(pipeline=nowhere)
    with pytest.raises(AnswerError, match="silence"):
        await lost.bot.ask("anybody?", silence=1.0)


async def test_no_pipeline_named(server, connect):
    if server.real:
        found = await connect(pipeline=None)
        assert found.bot._connection.parts.wire.pipeline == server.info["pipeline_uuid"]
    else:
        assert (await (await connect(pipeline=None)).ask("hello")).text
