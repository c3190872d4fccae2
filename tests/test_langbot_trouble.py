"""A LangBot that misbehaves: a clear error or a kept row, never a hang, never a lost link."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from botbook import AsyncBot
from botbook._clock import SYSTEM
from botbook._errors import AnswerError, ApiError, AuthError, HandshakeError, RemoteProtocolError
from botbook._local.server import Server, serve
from botbook._local.world import World
from botbook._monitoring import langbot_side


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(scenario="quiet", speed=100)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def server(world: World) -> AsyncIterator[Server]:
    made = await serve(world)
    yield made
    await made.close()


def bot_of(server: Server, tmp_path: Path, **more: Any) -> AsyncBot:
    known = server.description()["langbot"]
    given = {key: known[key] for key in ("base_url", "user", "password")} | more
    return AsyncBot("langbot", store=tmp_path / "journal.sqlite", **given)


@pytest.fixture
async def bot(server: Server, tmp_path: Path) -> AsyncIterator[AsyncBot]:
    async with bot_of(server, tmp_path) as made:
        yield made


def trouble(world: World, kind: str, **options: Any) -> None:
    world.fault(kind, gateway="langbot", **options)


async def until(found: Any) -> None:
    async with asyncio.timeout(5):
        while not found():
            await asyncio.sleep(0.02)


async def well(bot: AsyncBot) -> None:
    """The bot is connected and gets its answers."""
    answer = await bot.ask("6 * 7", timeout=10)
    assert (answer.text, answer.error) == ("6 * 7 = **42**", "")
    assert bot.status().state == "open"


async def test_malformed_frames_are_counted(world, bot):
    trouble(world, "poison")
    await until(lambda: bot.status().malformed == 6)
    await well(bot)
    assert bot.status().reconnects == 0


@pytest.mark.parametrize(
    ("frame", "text", "error"),
    [
        ({"type": "waltz", "step": 3}, "waltz", ""),
        ({"type": "error", "message": "out of order"}, "out of order", "out of order"),
    ],
)
async def test_what_is_not_known_is_a_row(world, bot, frame, text, error):
    trouble(world, "raw", frame=json.dumps(frame))
    (row,) = (await bot.wait("platform.specific", timeout=5)).to_dict("records")
    assert (row["text"], row["error"]) == (text, error)
    await well(bot)


@pytest.mark.parametrize("kind", ["rst", "fin", "close", "restart"])
async def test_an_end_in_mid_answer_fails_it_at_once_and_the_link_comes_back(world, bot, kind):
    asked = bot.ask("a slow long one", timeout=60)
    await until(lambda: asked.text)
    trouble(world, kind)
    with pytest.raises(AnswerError, match="ConnectionLost") as caught:
        await asked
    assert caught.value.answer.text.startswith("word0")
    await well(bot)
    assert bot.status().reconnects == 1


async def test_silence(world, bot):
    trouble(world, "silent")
    with pytest.raises(AnswerError, match=r"silence for 0\.3 s"):
        await bot.ask("anybody?", silence=0.3)
    await well(bot)


async def test_a_token_that_is_forgotten_is_fetched_anew(world, bot):
    trouble(world, "token_revoked")
    trouble(world, "close")
    await until(lambda: bot.status().reconnects == 1)
    await well(bot)


async def test_a_refusal_in_words_is_tried_again_with_a_new_token(world, server, tmp_path):
    trouble(world, "refuse")
    async with bot_of(server, tmp_path) as bot:
        await well(bot)


@pytest.mark.parametrize(
    ("kind", "options", "error", "text"),
    [
        ("upgrade_status", {"status": 503}, HandshakeError, "503"),
        ("refuse", {"message": "Pipeline not found"}, ApiError, "Pipeline not found"),
        ("refuse", {"times": 2}, AuthError, "refuses the token"),
        ("html", {}, RemoteProtocolError, "a page where an answer belongs"),
        ("failing_code", {}, AuthError, "failing on purpose"),
    ],
)
async def test_a_connection_that_cannot_be_made(world, server, tmp_path, kind, options, error, text):
    trouble(world, kind, **options)
    bot = bot_of(server, tmp_path)
    with pytest.raises(error, match=text) as caught:
        await bot.start()
    assert caught.value.hint
    assert bot.status().state in ("failed", "stopped")


async def test_the_wrong_password(server, tmp_path):
    with pytest.raises(AuthError, match="Invalid username or password"):
        await bot_of(server, tmp_path, password="wrong").start()


@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("html", RemoteProtocolError, "a page where an answer belongs"),
        ("failing_code", ApiError, "failing on purpose"),
    ],
)
async def test_rest_that_fails(world, bot, kind, error, text):
    connection = bot._connection
    langbot, _ = langbot_side(connection.parts.wire, connection.rest, do=connection.io.call, clock=SYSTEM)
    trouble(world, kind)
    with pytest.raises(error, match=text):
        await langbot.pipelines()
    trouble(world, "http")
    assert len(await langbot.pipelines()) == 1, "a busy server is asked again"


async def test_a_stall_is_waited_for(world, bot):
    trouble(world, "stall", seconds=0.5)
    await well(bot)
