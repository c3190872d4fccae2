"""The REST side of an embedded LangBot in memory, for tests of `bot.langbot` and `bot.monitoring`."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

from botbook._clock import SYSTEM, Clock
from botbook._langbot import LangBot
from botbook._local.world import World
from botbook._monitoring import Monitoring, langbot_side
from botbook._net.auth import TokenSource
from botbook._net.http import Rest
from botbook.wire.langbot import LangBotWire
from tests.local.talk import asked, opened


def awaited(work: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
    """As on an `AsyncBot`."""
    return work


class Side:
    """One embedded LangBot, a wire with an account or a key, and its faces."""

    def __init__(self, version: str = "4.11.2", *, clock: Clock = SYSTEM, key: bool = False) -> None:
        self.world = World(scenario="quiet", speed=1000, langbot=version, clock=clock)
        self.gateway = self.world.langbot
        self.known = self.world.credentials(gateway="langbot")
        account = {} if key else {"user": self.known["user"], "password": self.known["password"]}
        self.wire = LangBotWire(
            base_url=self.known["base_url"], pipeline=self.known["pipeline_uuid"], **account
        )
        tokens = TokenSource(self.wire.token_request, self.world.http, clock)
        self.rest = Rest(self.world.http, tokens, clock)
        self.langbot: LangBot
        self.monitoring: Monitoring
        self.langbot, self.monitoring = langbot_side(
            self.wire, self.rest, api_key=self.known["api_key"], do=awaited, clock=clock
        )

    async def chat(self, *texts: str) -> None:
        """Let somebody ask the pipeline."""
        known = self.known
        wire = LangBotWire(
            base_url=known["base_url"], pipeline=known["pipeline_uuid"], workspace=known["workspace_uuid"]
        )
        transport = await opened(wire, self.world.dial, known["token"])
        for text in texts:
            await asked(wire, transport, text)
        await transport.close()
