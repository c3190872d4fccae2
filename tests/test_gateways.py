"""From settings to the parts of a connection, and the embedded ones behind `base_url="sim"`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from botbook._clock import SYSTEM
from botbook._config import Settings, settings
from botbook._errors import ConfigError
from botbook._gateways import EMBEDDED, GATEWAYS, Gateway, open_gateway
from botbook._net.http import AiohttpHttp
from botbook._net.transport import open_websocket
from botbook.bot import AsyncBot
from botbook.wire.agent import AgentWire
from botbook.wire.langbot import LangBotWire
from botbook.wire.miti import MitiWire

LANGBOT = "http://127.0.0.1:5300"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No profile, and a journal of its own."""
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "none.toml"))
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "journal.sqlite"))


def made(gateway: str, **given: Any) -> Settings:
    return settings(gateway, environ={}, **given)


def parts(gateway: str, **given: Any) -> Gateway:
    return open_gateway(made(gateway, **given), clock=SYSTEM)


@pytest.mark.parametrize(
    ("gateway", "given", "wire"),
    [
        ("miti", {"app_id": "a", "app_secret": "b"}, MitiWire),
        ("agent", {"base_url": "ws://localhost:8000/"}, AgentWire),
        ("langbot", {"base_url": LANGBOT, "pipeline": "p"}, LangBotWire),
        ("langbot", {"base_url": LANGBOT, "token": "t"}, LangBotWire),
        ("langbot", {"base_url": LANGBOT, "user": "u", "password": "p", "api_key": "k"}, LangBotWire),
    ],
)
def test_a_real_gateway_is_reached_by_sockets(gateway, given, wire):
    found = parts(gateway, **given)
    assert isinstance(found.wire, wire)
    assert inspect.unwrap(found.dial) is open_websocket
    assert isinstance(found.http, AiohttpHttp)
    assert found.world is None
    assert found.api_key == given.get("api_key", "")


@pytest.mark.parametrize(
    ("gateway", "given", "text", "hint"),
    [
        ("waltz", {}, "no gateway 'waltz'", "Known: sim, miti, agent, langbot"),
        ("agent", {}, "agent needs a base URL", 'base_url="sim" is the embedded agent'),
        ("langbot", {}, "langbot needs a base URL", 'base_url="sim" is the embedded LangBot'),
        ("langbot", {"base_url": LANGBOT}, "a pipeline, or an account", "`user` and `password`"),
        ("langbot", {"base_url": LANGBOT, "user": "u"}, "a pipeline, or an account", "`token`"),
        ("agent", {"base_url": "ws://bots.example/"}, "for this machine only", "wss://"),
    ],
)
def test_what_is_missing_is_named(gateway, given, text, hint):
    with pytest.raises(ConfigError, match=text) as caught:
        parts(gateway, **given)
    assert hint in caught.value.hint


def test_no_secret_shows():
    given = {"base_url": LANGBOT, "user": "u", "password": "pw-secret", "api_key": "lbk-secret"}
    assert "secret" not in repr(parts("langbot", **given))


@pytest.mark.parametrize("gateway", ["sim", "agent", "langbot"])
async def test_questions_to_the_embedded_world(gateway):
    given = {"scenario": "quiet"} if gateway == "sim" else {"base_url": EMBEDDED}
    async with AsyncBot(gateway, speed=100, **given) as bot:
        answer = await bot.ask("6 * 7", timeout=10)
        assert (answer.text, answer.error) == ("6 * 7 = **42**", "")
        assert bot.sim.log()
        rows = bot.events(type="message.received")
        assert rows["gateway"].unique().tolist() == [gateway]
        assert rows["reply_to"].tolist() == [answer.id]


async def test_questions_of_sim_go_to_the_chat_that_is_named():
    async with AsyncBot("sim", scenario="quiet", chat_id="7", speed=100) as bot:
        await bot.ask("1 + 1", timeout=10)
        await bot.ask("1 + 2", chat="other", timeout=10)
        assert bot.events(type="message.sent")["chat_id"].tolist() == ["7", "other"]


async def test_the_people_of_sim_are_the_connection_itself():
    async with AsyncBot("sim", scenario="quiet", speed=100) as bot:
        await bot.ask("1 + 1", timeout=10)
        bot.sim.say("ada", "Hello")
        (row,) = (await bot.wait("message.received", count=2, timeout=5)).to_dict("records")[-1:]
        assert (row["user_id"], row["chat_id"]) == ("ada", "si_ada_cli_sim")
        assert (await bot.send("user:ada", "Hi")).message_id


def test_every_gateway_is_known():
    assert list(GATEWAYS) == ["sim", "miti", "agent", "langbot"]
