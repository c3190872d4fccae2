"""The world in a box: gateways and the people who write to them, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from botbook._clock import SYSTEM, Clock
from botbook._errors import ConfigError, LocalProtocolError
from botbook._local.agent import AgentGateway
from botbook._local.door import Door
from botbook._local.gateway import MitiGateway
from botbook._local.langbot import LATEST, LangBotGateway
from botbook._local.mischief import nearest
from botbook._local.peer import Peer
from botbook._local.persona import SCENARIOS, Stage
from botbook._local.record import SentLog
from botbook._net.transport import Transport
from botbook.wire.contract import Opening

__all__ = ["World"]

T = TypeVar("T")

#: Address of the world when no server stands in front of it. Nothing is sent there.
_IN_MEMORY: Final = "http://localhost"
#: Longest wait for the world's own loop, in seconds.
_PATIENCE: Final = 5.0


class World:
    """Gateways, people and their scenario.

    `start`, `stop` and `dial` belong to one event loop; `say`, `fault`, `cancel`, `log` and
    `reset` may be called from any thread.

    Args:
        scenario: ``hello``, ``topical`` or ``quiet``.
        speed: How many times faster than life.
        seed: Of everything that is left to chance.
        conversations: How many conversations of ``topical``; default all.
        persona: Who answers at the agent: ``helper``, ``analyst``, ``searcher``, ``clumsy`` or ``echo``.
        langbot: The version that LangBot behaves like; see `botbook._local.langbot.ERAS`.
        clock: Where time comes from.

    Attributes:
        miti: The Miti gateway.
        agent: The agent.
        langbot: LangBot.
        peers: All of them.

    Raises:
        ConfigError: There is no such scenario, persona or version, or the speed is not above 0.
    """

    def __init__(
        self,
        *,
        scenario: str = "hello",
        speed: float = 1.0,
        seed: int = 0,
        conversations: int | None = None,
        persona: str = "helper",
        langbot: str = LATEST,
        clock: Clock = SYSTEM,
    ) -> None:
        if scenario not in SCENARIOS:
            raise ConfigError(f"there is no scenario {scenario!r}", hint=nearest(scenario, SCENARIOS))
        if not speed > 0:
            raise ConfigError(f"the speed must be above 0, not {speed}", hint="1 is as fast as life.")
        self._log = log = SentLog(clock)
        self.miti = MitiGateway(clock=clock, log=log)
        self.agent = AgentGateway(persona=persona, speed=speed, clock=clock, log=log)
        self.langbot = LangBotGateway(version=langbot, seed=seed, speed=speed, clock=clock, log=log)
        self.peers: tuple[Peer, ...] = (self.miti, self.agent, self.langbot)
        self.http = Door(*self.peers)
        self._play = SCENARIOS[scenario]
        self._stage = Stage(
            people=self.miti, clock=clock, speed=speed, seed=seed, conversations=conversations
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._scenario: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------------ its life

    async def start(self) -> None:
        """Begin: people speak up once the first client is there. A second call changes nothing."""
        self._loop = asyncio.get_running_loop()
        if self._scenario is None:
            self._scenario = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.miti.opened.wait()
        await self._play(self._stage)

    async def finished(self) -> None:
        """Wait until everybody has said what they had to say.

        Raises:
            ConfigError: The scenario could not be played: its conversations are missing.
        """
        if self._scenario is not None:
            await asyncio.wait({self._scenario})
            if not self._scenario.cancelled():
                self._scenario.result()

    @property
    def state(self) -> str:
        """``new``, ``waiting`` for a client, ``playing``, ``finished``, ``failed`` or ``stopped``."""
        if self._scenario is None:
            return "new"
        if self._scenario.cancelled():
            return "stopped"
        if self._scenario.done():
            return "failed" if self._scenario.exception() else "finished"
        return "playing" if self.miti.opened.is_set() else "waiting"

    async def stop(self) -> None:
        """Send everybody home and end every socket."""
        if self._scenario is not None:
            self._scenario.cancel()
            await asyncio.gather(self._scenario, return_exceptions=True)
        for peer in self.peers:
            await peer.close()
        await self.http.finished()

    # ------------------------------------------------------------------------ the way in

    def credentials(self, base: str = _IN_MEMORY, *, gateway: str = "miti") -> dict[str, str]:
        """What a client of a gateway needs to know: for Miti ``base_url``, ``app_id`` and ``app_secret``.

        Args:
            base: Address of the server in front of it; default none, in memory.
            gateway: Whose.

        Raises:
            LocalProtocolError: There is no such gateway.
        """
        return self.peer(gateway).describe(base)

    def peer(self, gateway: str) -> Peer:
        """A gateway by its name.

        Raises:
            LocalProtocolError: There is no such gateway.
        """
        found = next((peer for peer in self.peers if peer.name == gateway), None)
        if found is None:
            known = ", ".join(peer.name for peer in self.peers)
            raise LocalProtocolError(f"there is no gateway {gateway!r} here", hint=f"Known: {known}.")
        return found

    async def dial(self, opening: Opening) -> Transport:
        """Open a socket in memory.

        Raises:
            HandshakeError: The gateway refuses.
        """
        return await self.http.dial(opening)

    # ------------------------------------------------------------------------ playing with it

    def say(self, user: str, text: str, *, group: str | None = None, name: str = "") -> str:
        """Let a user write to the bot.

        Args:
            user: User id.
            text: What they write.
            group: In this group, mentioning the bot; default in private.
            name: How the user is called.

        Returns:
            The message's id.
        """
        return self._here(lambda: self.miti.say(user, text, group=group, name=name))

    def fault(self, kind: str, *, gateway: str = "miti", **options: Any) -> None:
        """Misbehave.

        Args:
            kind: What to do wrong; see `FAULTS`, `AGENT_FAULTS` and `LANGBOT_FAULTS`.
            gateway: Who.
            options: Of that fault.

        Raises:
            LocalProtocolError: There is no such gateway, fault or option.
        """
        peer = self.peer(gateway)
        self._here(lambda: peer.fault(kind, **options))

    def rate(self, kind: int, **more: Any) -> str:
        """Let a user of LangBot's chat platform rate an answer; see `LangBotGateway.rate`."""
        return self._here(lambda: self.langbot.rate(kind, **more))

    def cancel(self, run_id: str = "") -> str:
        """Let the asker stop a streamed answer, the newest by default.

        Returns:
            Its run id.

        Raises:
            LocalProtocolError: No such answer is being streamed.
        """
        return self._here(lambda: self.miti.cancel(run_id))

    def log(self, *, after: int = 0) -> list[dict[str, Any]]:
        """What clients sent: ``n``, ``at`` (epoch seconds), ``gateway``, ``what`` and details, no secrets.

        Args:
            after: Only entries with a greater ``n``.
        """
        return self._here(lambda: self._log.entries(after=after))

    def reset(self) -> None:
        """Behave again; forget faults, log, conversations, records and waiting events."""
        self._here(self._reset)

    def _reset(self) -> None:
        for peer in self.peers:
            peer.reset()
        self._log.clear()

    def _here(self, do: Callable[[], T]) -> T:
        """Run something on the loop of this world, wherever the caller is."""
        loop = self._loop
        if loop is None or not loop.is_running() or _running() is loop:
            return do()
        future: Future[T] = Future()
        loop.call_soon_threadsafe(_settle, future, do)
        return future.result(_PATIENCE)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _settle(future: Future[T], do: Callable[[], T]) -> None:
    try:
        future.set_result(do())
    except Exception as error:
        future.set_exception(error)
