"""`bot.langbot`: what a pipeline and its server offer beside the chat, in each era."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from botbook._clock import SYSTEM
from botbook._errors import AuthError, ConfigError, LocalProtocolError, NotSupported
from botbook._langbot import LangBotCalls, typed_frame
from botbook._local.langbot import ERAS
from botbook._monitoring import langbot_side
from tests.langbot_side import Side, awaited

DOT = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(params=ERAS)
def version(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def side(version: str) -> AsyncIterator[Side]:
    made = Side(version)
    yield made
    await made.world.stop()


async def test_history_and_reset(side):
    await side.chat("1 + 1")
    frame = await side.langbot.history()
    assert list(frame["text"]) == ["1 + 1", "1 + 1 = **2**"]
    assert list(frame["role"]) == ["user", "assistant"]
    assert list((await side.langbot.history(limit=1))["role"]) == ["assistant"]
    assert len(await side.langbot.history(session_type="group")) == 0
    assert await side.langbot.reset(session_type="group") is None
    assert await side.langbot.reset() is None
    assert len(await side.langbot.history()) == 0


async def test_who_is_connected(side):
    assert len(await side.langbot.connections()) == 0
    frame = await side.langbot.connections()
    assert list(frame.columns) == ["connection_id", "session_type", "is_active", "created_at", "last_active"]
    assert frame.attrs["stats"]["total_connections"] == 0


async def test_broadcast(side):
    assert await side.langbot.broadcast({"any": "JSON"}) is None


async def test_pipelines_and_info(side, version):
    frame = await side.langbot.pipelines()
    assert frame["uuid"].tolist() == [side.known["pipeline_uuid"]]
    assert list(frame.columns)[:3] == ["uuid", "name", "description"]
    assert (await side.langbot.info())["version"] == f"v{version}"


async def test_pictures(side, tmp_path):
    picture = tmp_path / "cat.png"
    picture.write_bytes(DOT)
    key = await side.langbot.upload_image(picture)
    assert key in side.gateway.resources.images
    assert await side.langbot.upload_image(DOT, name="dog.png") in side.gateway.resources.images
    kept, uploaded = await side.langbot.attach(["cat.png", str(picture)])
    assert kept == "cat.png", "no file here: a key that the server holds"
    assert uploaded in side.gateway.resources.images
    assert await side.langbot.attach([str(tmp_path)]) == [str(tmp_path)]
    for wrong in (tmp_path / "none.png", str(tmp_path / "none.png")):
        with pytest.raises(LocalProtocolError, match="cannot be read"):
            await side.langbot.upload_image(wrong)
    with pytest.raises(LocalProtocolError, match="no picture"):
        await side.langbot.upload_image(DOT)


async def test_run(side, version):
    if version == "4.11.2":
        assert (await side.langbot.run("1 + 1"))["reply"] == "1 + 1 = **2**"
    else:
        with pytest.raises(NotSupported, match="no run"):
            await side.langbot.run("1 + 1")


async def test_ratings_of_a_page(side):
    assert (await side.langbot.rate(side.known["page_bot_uuid"], 2, 1)).startswith("embed_")
    assert (await side.monitoring.feedback())["feedback_type"].tolist() == [1]


# ---------------------------------------------------------------------------- credentials


async def test_the_token_is_renewed_by_itself(side):
    assert len(await side.langbot.pipelines()) == 1
    side.world.fault("token_revoked", gateway="langbot")
    assert len(await side.langbot.pipelines()) == 1


async def test_a_message_of_a_bot_goes_by_api_key(side):
    bot = side.known["bot_uuid"]
    assert await side.langbot.send_message(bot, "user:ann", "Hi") is None
    assert await side.langbot.send_message(bot, "group:g", "Hi") is None
    said = [(where, body["target_type"], body["target_id"]) for where, body in side.gateway.resources.sent]
    assert said == [(bot, "person", "ann"), (bot, "group", "g")]
    with pytest.raises(LocalProtocolError, match="no address"):
        await side.langbot.send_message(bot, "ann", "Hi")
    keyless, _ = langbot_side(side.wire, side.rest, do=awaited, clock=SYSTEM)
    with pytest.raises(ConfigError, match="needs an API key"):
        await keyless.send_message(bot, "user:ann", "Hi")
    wrong, _ = langbot_side(side.wire, side.rest, api_key="lbk_wrong", do=awaited, clock=SYSTEM)
    with pytest.raises(AuthError) as caught:
        await wrong.send_message(bot, "user:ann", "Hi")
    assert caught.value.hint == "Make a new API key."


async def test_a_user_token_goes_before_an_api_key(side):
    calls = LangBotCalls(side.rest, user=True, api_key="lbk_wrong")
    assert len(await calls(side.wire.rest.pipelines())) == 1


async def test_what_needs_no_credential_takes_none_along(side):
    calls = LangBotCalls(side.rest, user=False, api_key="lbk_wrong")
    assert (await calls(side.wire.rest.info()))["edition"] == "community"


# ---------------------------------------------------------------------------- frames


def test_a_frame_without_rows_is_typed():
    frame = typed_frame({"a": "int", "b": "time", "c": "bool", "d": "float", "e": "text", "f": "json"}, [])
    assert [str(kind) for kind in frame.dtypes] == [
        "Int64",
        "datetime64[us, UTC]",
        "boolean",
        "float64",
        "str",
        "object",
    ]


def test_what_is_missing_and_what_is_more():
    frame = typed_frame({"a": "int", "b": "text"}, [{"a": 1}, {"b": "x", "more": [1]}])
    assert frame["a"].isna().tolist() == [False, True]
    assert frame["b"].isna().tolist() == [True, False]
    assert frame["more"].tolist()[1] == [1]
