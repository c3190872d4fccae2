"""protocols/miti.md 10, row 33: what the package itself offers."""

from __future__ import annotations

import inspect
from pathlib import Path

import botbook
from botbook import AsyncBot, errors
from botbook.compat import miti
from botbook.compat.miti import MitiAgent
from tests.defects.rig import running, sent, served, until


def test_row_33_types_are_shipped_and_errors_share_a_base():
    """Partly about the official package's own files; ours are looked at here."""
    assert (Path(botbook.__file__).parent / "py.typed").is_file()
    assert issubclass(errors.AuthError, errors.ApiError)
    assert issubclass(errors.ApiError, errors.BotbookError)
    assert (miti.ApiError, miti.AuthError) == (errors.ApiError, errors.AuthError)
    for name in ("FrameRefused", "AckTimeout"):
        assert issubclass(getattr(miti, name), errors.BotbookError)
    for method in ("send", "reply", "history", "on"):
        assert "return" in inspect.get_annotations(getattr(AsyncBot, method))


async def test_row_33_async_with(store):
    async with AsyncBot("sim", scenario="quiet", store=store) as bot:
        assert bot.status().state == "open"
    assert bot.status().state == "stopped"


async def test_row_33_plain_functions_are_handlers_and_may_be_taken_away(bot):
    def answer(event):
        event.reply("from a def")

    registration = bot.on("message.received", answer)
    bot.sim.say("ann", "one")
    await until(lambda: sent(bot.sim, "send"))
    assert registration.off()
    bot.sim.say("ann", "two")
    await until(lambda: len(bot.events(type="message.received")) == 2)
    assert bot.handlers().empty
    assert len(sent(bot.sim, "send")) == 1


async def test_row_33_in_the_face_of_the_sdk_too(store):
    async with served() as (world, server):
        agent = MitiAgent(**world.credentials(server.base), store=store)
        heard = []

        @agent.on_message
        def answer(event):
            event.reply("from a def")

        @agent.on_message
        def note(event):
            heard.append(event.event.message.content["text"])

        async with running(agent):
            world.say("ann", "one")
            await until(lambda: sent(world, "send") and heard == ["one"])
            assert agent.off(answer)
            assert not agent.off(answer)
            world.say("ann", "two")
            await until(lambda: heard == ["one", "two"])
        assert len(sent(world, "send")) == 1
