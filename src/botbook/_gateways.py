"""From settings to the parts of a connection: a wire, a way to dial, a way to make REST calls."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from botbook._clock import Clock
from botbook._config import Secret, Settings, checked_url
from botbook._errors import AgentBusy, ConfigError, HandshakeError
from botbook._net.http import AiohttpHttp, Http
from botbook._net.transport import Transport, open_websocket
from botbook.wire.contract import Opening, Wire

if TYPE_CHECKING:
    from botbook._local.world import World

__all__ = ["EMBEDDED", "GATEWAYS", "Gateway", "open_gateway", "told_if_busy"]

#: As the base URL of an agent or LangBot: the embedded one, in this process.
EMBEDDED: Final = "sim"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of one connection.

    Attributes:
        wire: The language.
        dial: Opens a socket.
        http: Makes REST exchanges.
        own_id: The bot's own user id there, "" if it has none.
        open_chat: Makes the wire of another chat, where a socket is a chat; else None.
        ask_chat: The chat of questions that name none; None for that of `wire`.
        api_key: For REST calls that take one, "" if there is none.
        world: The embedded world behind it, or None.
    """

    wire: Wire
    dial: Callable[[Opening], Awaitable[Transport]]
    http: Http
    own_id: str = ""
    open_chat: Callable[[str], Wire] | None = None
    ask_chat: str | None = None
    api_key: str = field(default="", repr=False)
    world: World | None = None


def open_gateway(made: Settings, *, clock: Clock) -> Gateway:
    """Put the parts together. Nothing is opened yet.

    Raises:
        ConfigError: There is no such gateway, or a setting is missing.
    """
    if made.gateway not in GATEWAYS:
        raise ConfigError(f"there is no gateway {made.gateway!r}", hint=f"Known: {', '.join(GATEWAYS)}.")
    return GATEWAYS[made.gateway](made, clock)


def _miti(made: Settings, clock: Clock) -> Gateway:
    from botbook.wire.miti import MitiWire

    if not made.app_id or not made.app_secret:
        raise ConfigError(
            "miti needs an app id and an app secret",
            hint="Set MITI_APP_ID and MITI_APP_SECRET, or put both into a profile.",
        )
    wire = MitiWire(
        base_url=checked_url(made.base_url),
        app_id=made.app_id,
        app_secret=made.app_secret.reveal(),
        name=made.name,
    )
    return _gateway(wire, None, own_id=made.app_id)


def _agent(made: Settings, clock: Clock) -> Gateway:
    from botbook.wire.agent import AgentWire

    if not made.base_url:
        raise ConfigError(
            "agent needs a base URL",
            hint='For example base_url="ws://localhost:8000/"; base_url="sim" is the embedded agent.',
        )
    world = _embedded(made, clock)
    if world is not None:
        base_url = world.credentials(gateway="agent")["base_url"]
    else:
        base_url = checked_url(made.base_url, schemes=("ws", "wss"))

    def wire(chat_id: str) -> AgentWire:
        return AgentWire(base_url=base_url, chat_id=chat_id, name=made.name)

    parts = _gateway(wire(made.chat_id), world, open_chat=wire)
    return replace(parts, dial=told_if_busy(parts.dial))


def told_if_busy(
    dial: Callable[[Opening], Awaitable[Transport]],
) -> Callable[[Opening], Awaitable[Transport]]:
    """A chat takes one client, and refuses the next one with a 403 (protocols/agent.md, opening)."""

    @functools.wraps(dial)
    async def dialled(opening: Opening) -> Transport:
        try:
            return await dial(opening)
        except HandshakeError as error:
            if error.status != 403:
                raise
            raise AgentBusy(
                f"{opening.url} is in use by another client",
                code="BUSY",
                hint="Close the other client, or take another chat: `chat_id`, or `--chat N`.",
            ) from None

    return dialled


def _langbot(made: Settings, clock: Clock) -> Gateway:
    from botbook.wire.langbot import LangBotWire

    if not made.base_url:
        raise ConfigError(
            "langbot needs a base URL",
            hint='For example base_url="http://127.0.0.1:5300"; base_url="sim" is the embedded LangBot.',
        )
    world = _embedded(made, clock)
    given: dict[str, Any] = {
        "base_url": made.base_url if world else checked_url(made.base_url),
        "pipeline": made.pipeline,
        "token": _revealed(made.token),
        "user": made.user,
        "password": _revealed(made.password),
        "workspace": made.workspace,
    }
    api_key = _revealed(made.api_key)
    if world is not None:
        known = world.credentials(gateway="langbot")
        api_key = known["api_key"]
        given |= {key: known[key] for key in ("base_url", "user", "password")}
    if not (given["pipeline"] or given["token"] or (given["user"] and given["password"])):
        raise ConfigError(
            "langbot needs a pipeline, or an account to find it with",
            hint="Set `user` and `password`, or `token`; or `pipeline`, its uuid.",
        )
    wire = LangBotWire(**given, session_type=made.session_type, name=made.name)
    return _gateway(wire, world, api_key=api_key)


def _revealed(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None else ""


def _sim(made: Settings, clock: Clock) -> Gateway:
    """The whole embedded world: Miti's people are the connection, and questions go to the agent."""
    from botbook.wire.agent import AgentWire
    from botbook.wire.miti import MitiWire

    world = _world(made, clock, scenario=made.scenario)
    given, agent_url = world.credentials(), world.credentials(gateway="agent")["base_url"]

    def chat(chat_id: str) -> AgentWire:
        return AgentWire(base_url=agent_url, chat_id=chat_id, name=made.name, gateway=EMBEDDED)

    wire = MitiWire(**given, name=made.name, gateway=EMBEDDED)
    return _gateway(wire, world, own_id=given["app_id"], open_chat=chat, ask_chat=made.chat_id)


def _embedded(made: Settings, clock: Clock) -> World | None:
    """A world of its own for a connection whose base URL says so."""
    return _world(made, clock, scenario="quiet") if made.base_url == EMBEDDED else None


def _world(made: Settings, clock: Clock, *, scenario: str) -> World:
    from botbook._local.world import World

    return World(scenario=scenario, speed=made.speed, seed=made.seed, clock=clock)


def _gateway(wire: Wire, world: World | None, **more: Any) -> Gateway:
    """The parts around a wire: sockets, or the embedded world in their place."""
    if world is None:
        return Gateway(wire=wire, dial=open_websocket, http=AiohttpHttp(), **more)
    return Gateway(wire=wire, dial=world.dial, http=world.http, world=world, **more)


GATEWAYS: Final[dict[str, Callable[[Settings, Clock], Gateway]]] = {
    "sim": _sim,
    "miti": _miti,
    "agent": _agent,
    "langbot": _langbot,
}
