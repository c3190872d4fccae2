"""`bot.monitoring`: lists of an embedded LangBot of each era as frames."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from botbook._clock import FakeClock
from botbook._errors import AuthError, CommandError, LocalProtocolError, NotSupported
from botbook._langbot import LangBot
from botbook._local.langbot import ERAS
from botbook._monitoring import FeedbackWatch, Monitoring, langbot_side
from botbook.wire.miti import MitiWire
from botbook.wire.monitoring_tables import TABLES
from tests.langbot_side import Side, awaited

SINCE = {"4.10.1": ("tool_calls", "executions"), "4.10.11": ("executions",), "4.11.2": ()}
LISTS = ("messages", "llm_calls", "tool_calls", "embedding_calls", "sessions", "errors", "feedback")


@pytest.fixture(params=ERAS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def side(version: str) -> AsyncIterator[Side]:
    made = Side(version)
    yield made
    await made.world.stop()


@pytest.fixture
async def newest() -> AsyncIterator[Side]:
    made = Side()
    yield made
    await made.world.stop()


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(kind) for name, kind in frame.dtypes.items()}


# ---------------------------------------------------------------------------- lists


async def test_what_was_said(side):
    await side.chat("1 + 1", "boom")
    frame = await side.monitoring.messages()
    assert list(frame["text"])[::-1][:2] == ["1 + 1", "1 + 1 = **2**"]
    assert types(frame)["timestamp"] == "datetime64[us, UTC]"
    assert types(frame)["text"] == "str"
    assert frame["components"].iloc[-1][0]["type"] == "Source"
    assert set(frame["session_id"].str.partition("_")[0]) == {"person"}, "without the enum's name"
    sessions = await side.monitoring.sessions()
    assert types(sessions)["is_active"] == "boolean"
    assert set(sessions["session_id"]) == set(frame["session_id"])
    (error,) = (await side.monitoring.errors()).to_dict("records")
    assert error["error_type"] == "PipelineError"
    calls = await side.monitoring.llm_calls()
    assert types(calls)["total_tokens"] == "Int64"
    assert sorted(calls["status"]) == ["error", "success"]


async def test_all_lists_have_their_columns_and_types_and_say_why_they_are_empty(side, version):
    for name in (*LISTS, "executions"):
        if name in SINCE[version]:
            with pytest.raises(NotSupported, match=f"no {name}") as caught:
                await getattr(side.monitoring, name)()
            assert TABLES[name].since in caught.value.hint
            continue
        frame = await getattr(side.monitoring, name)()
        assert list(frame.columns) == list(TABLES[name].columns)
        assert len(frame) == 0
        assert frame.attrs["note"].startswith("LangBot is well and has no ")


async def test_resources(side, version):
    monitoring = side.monitoring
    bots = await monitoring.bots()
    assert list(bots["name"]) == ["page", "wecom"]
    side.gateway.note(side.gateway.bot, "hello")
    logs = await monitoring.logs(side.known["bot_uuid"])
    assert list(logs["text"]) == ["hello"]
    for name in ("box_sessions", "box_errors"):
        assert "note" in (await getattr(monitoring, name)()).attrs
    status = await monitoring.box_status()
    assert status["available"].tolist() == [False]
    assert len(await monitoring.extensions()) == int(version == "4.11.2")
    assert list((await monitoring.knowledge_bases())["name"]) == ["notes"]


async def test_knowledge(side, tmp_path):
    base = side.known["knowledge_base_uuid"]
    note = tmp_path / "cats.txt"
    note.write_text("Cats like milk")
    assert (await side.monitoring.add_file(base, note))["task_id"] == 1
    assert list((await side.monitoring.knowledge_files(base))["file_name"]) == ["cats.txt"]
    found = await side.monitoring.retrieve(base, "who likes milk", settings={"top_k": 3})
    assert list(found["text"]) == ["Cats like milk"]
    assert types(found)["score"] == "float64"
    with pytest.raises(LocalProtocolError, match="cannot be read"):
        await side.monitoring.add_file(base, tmp_path / "none.txt")


async def test_sums(side, version):
    await side.chat("1 + 1")
    overview = await side.monitoring.overview()
    assert overview["total_messages"].tolist() == [2]
    side.gateway.rate(1)
    side.gateway.rate(2)
    stats = await side.monitoring.feedback_stats()
    assert stats["total"].tolist() == [2]
    assert stats.attrs["summary"]["satisfaction_rate"] == 50.0
    if version == "4.10.1":
        with pytest.raises(NotSupported, match="no token_statistics") as caught:
            await side.monitoring.token_statistics()
        assert "4.10.2" in caught.value.hint
        return
    series = await side.monitoring.token_statistics(bucket="hour", since="1h")
    assert types(series)["bucket"] == "datetime64[us, UTC]"
    assert series.attrs["summary"]["total_calls"] == 1
    models = await side.monitoring.token_statistics(by="model")
    assert list(models["model_name"]) == ["fake-chat"]


async def test_one_message_and_one_session(side):
    await side.chat("1 + 1")
    frame = await side.monitoring.messages()
    asked = frame.iloc[-1]
    assert (await side.monitoring.details(asked["id"]))["message"]["id"] == asked["id"]
    assert (await side.monitoring.session_analysis(asked["session_id"]))["message_stats"]["total"] == 2
    assert await side.monitoring.session_analysis("person_nobody") is None
    of_session = await side.monitoring.messages(sessions=[asked["session_id"]])
    assert len(of_session) == 2
    assert len(await side.monitoring.messages(sessions=["person_nobody"])) == 0


async def test_versions_are_told_apart_by_asking(side, version):
    era = await side.monitoring.era()
    assert (era.version, era.workspaces, era.executions) == (
        f"v{version}",
        version != "4.10.1",
        version == "4.11.2",
    )


# ---------------------------------------------------------------------------- filters and pages


async def test_times_and_limits(newest):
    await newest.chat(*(f"{n} + 1" for n in range(4)))
    everything = await newest.monitoring.messages()
    assert len(await newest.monitoring.messages(limit=3)) == 3
    assert len(await newest.monitoring.messages(since="1h")) == len(everything) == 8
    assert len(await newest.monitoring.messages(since=datetime(2020, 1, 1, tzinfo=UTC))) == 8
    assert len(await newest.monitoring.messages(since="2h", until="1h")) == 0
    assert len(await newest.monitoring.messages(until="0s")) == 8
    for other in ({"bots": ["nobody"]}, {"pipelines": ["none"]}):
        assert len(await newest.monitoring.messages(**other)) == 0
    with pytest.raises(CommandError, match="no time"):
        await newest.monitoring.messages(since="yesterday")


async def test_how_it_gets_on_is_told(newest):
    await newest.chat("1 + 1", "2 + 2")
    told: list[Any] = []
    newest.monitoring.progress = lambda *step: told.append(step)
    await newest.monitoring.messages()
    assert told == [("messages", 4, 4)]
    await newest.monitoring.messages(progress=None)
    await newest.monitoring.messages(since=datetime(2020, 1, 1, tzinfo=UTC))
    assert told[1] == ("messages", 4, None), "more than one window: how many there are is not known"
    assert {name for name, _, _ in told} == {"messages"}


async def test_what_a_list_has_beyond_its_columns_is_kept(newest):
    await newest.chat("1 + 1")
    frame = await newest.monitoring.messages()
    assert frame["workspace_uuid"].iloc[0] == newest.gateway.workspace


# ---------------------------------------------------------------------------- credentials


@pytest.mark.parametrize("version", ERAS)
async def test_an_api_key_opens_what_it_opens(version):
    side = Side(version, key=True)
    monitoring = side.monitoring
    assert len(await monitoring.bots()) == 2
    if version == "4.11.2":
        assert len(await monitoring.messages()) == 0
    else:
        with pytest.raises(AuthError, match=r"No valid|invalid") as caught:
            await monitoring.messages()
        assert "give user and password" in caught.value.hint
    for closed in (monitoring.feedback, monitoring.overview):
        with pytest.raises(AuthError) as caught:
            await closed()
        assert "An API key is not taken" in caught.value.hint
    await side.world.stop()


async def test_other_gateways_have_no_monitoring():
    side = Side()
    wire = MitiWire(base_url="http://localhost/chat", app_id="a", app_secret="b")
    with pytest.raises(NotSupported, match="miti has no monitoring"):
        langbot_side(wire, side.rest, do=awaited, clock=FakeClock())


# ---------------------------------------------------------------------------- ratings


class Kept:
    """Where events go, each once."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def __call__(self, events: Any) -> None:
        known = {event.event_id for event in self.events}
        self.events += [event for event in events if event.event_id not in known]

    @property
    def kinds(self) -> list[tuple[str, int]]:
        return [(event.feedback_id, event.feedback_type) for event in self.events]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(datetime(2026, 11, 20, 16, 0, tzinfo=UTC))


@pytest.fixture
async def rated(version: str, clock: FakeClock) -> AsyncIterator[Side]:
    made = Side(version, clock=clock)
    yield made
    await made.world.stop()


def watch(side: Side, clock: FakeClock, kept: Kept, **more: Any) -> FeedbackWatch:
    return FeedbackWatch(side.monitoring, kept, gateway="langbot", bot="lab", clock=clock, **more)


async def test_ratings_come_change_and_go(rated, clock):
    kept = Kept()
    polled = watch(rated, clock, kept)
    assert await polled.poll() == 0
    rated.gateway.rate(1, feedback_id="a", user="ann")
    rated.gateway.rate(2, feedback_id="b", user="bob", content="no", reasons=[2])
    assert await polled.poll() == 2
    await clock.advance(1)
    rated.gateway.rate(2, feedback_id="a", user="ann")
    rated.gateway.rate(3, feedback_id="b", user="bob")
    assert await polled.poll() == 2
    assert await polled.poll() == 0
    assert sorted(kept.kinds) == [("a", 1), ("a", 2), ("b", 2), ("b", 3)]
    gone = next(event for event in kept.events if event.feedback_type == 3)
    assert (gone.type, gone.bot, gone.user_id, gone.at) == ("feedback.received", "lab", "bob", clock.now())
    assert (polled.polls, polled.error) == (4, "")


async def test_a_new_watch_says_nothing_twice(rated, clock):
    kept = Kept()
    rated.gateway.rate(1, feedback_id="a")
    await watch(rated, clock, kept).poll()
    await watch(rated, clock, kept).poll()
    assert kept.kinds == [("a", 1)]


async def test_what_grows_old_is_not_taken_back(rated, clock):
    kept = Kept()
    polled = watch(rated, clock, kept, window=timedelta(seconds=10))
    rated.gateway.rate(1, feedback_id="a")
    await polled.poll()
    await clock.advance(60)
    await polled.poll()
    assert kept.kinds == [("a", 1)]


async def test_a_rating_is_gone_if_it_is_missing_twice(newest, monkeypatch):
    kept = Kept()
    clock = FakeClock(datetime.now(UTC))
    polled = watch(newest, clock, kept)
    newest.gateway.rate(1, feedback_id="a")
    await polled.poll()
    looks = iter([[], await newest.monitoring.rows("feedback", {})])

    async def rows(name: str, filters: Any) -> Any:
        return next(looks)

    monkeypatch.setattr(newest.monitoring, "rows", rows)
    assert await polled.poll() == 0
    assert kept.kinds == [("a", 1)]


async def test_it_polls_for_ever_and_lives_through_trouble(rated, clock):
    kept = Kept()
    polled = watch(rated, clock, kept, every=30.0)
    running = asyncio.create_task(polled.run())
    await clock.settle()
    rated.world.fault("html", gateway="langbot", times=3)
    rated.gateway.rate(1, feedback_id="a")
    await clock.advance(30)
    assert "a page where an answer belongs" in polled.error
    await clock.advance(30)
    await clock.advance(60)
    assert polled.error == ""
    assert kept.kinds == [("a", 1)]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_the_names_that_are_fixed():
    fixed = "messages llm_calls tool_calls sessions errors feedback token_statistics executions overview"
    more = "bots logs box_status box_sessions box_errors extensions knowledge_bases knowledge_files retrieve"
    assert all(callable(getattr(Monitoring, name)) for name in f"{fixed} {more}".split())


def test_the_page_names_what_there_is():
    page = (Path(__file__).parents[1] / "docs" / "langbot.md").read_text(encoding="utf-8")
    for face, kind in (("monitoring", Monitoring), ("langbot", LangBot)):
        named = set(re.findall(rf"bot\.{face}\.(\w+)", page))
        assert named
        assert all(callable(getattr(kind, name, None)) for name in named), named
