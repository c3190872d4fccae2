"""From settings to the parts of a connection: a wire, a way to dial, a way to make REST calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from botbook._clock import Clock
from botbook._config import Secret, Settings, checked_url
from botbook._errors import ConfigError
from botbook._net.http import AiohttpHttp, Http
from botbook._net.transport import Transport, open_websocket
from botbook.wire.contract import Opening, Wire

if TYPE_CHECKING:
    from botbook._local.world import World

__all__ = ["GATEWAYS", "Gateway", "open_gateway"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """The parts of one connection.

    Attributes:
        wire: The language.
        dial: Opens a socket.
        http: Makes REST exchanges.
        own_id: The bot's own user id there, "" if it has none.
        open_chat: Makes the wire of another chat, where a socket is a chat; else None.
        world: The embedded world behind it, or None.
    """

    wire: Wire
    dial: Callable[[Opening], Awaitable[Transport]]
    http: Http
    own_id: str = ""
    open_chat: Callable[[str], Wire] | None = None
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
    return Gateway(wire=wire, dial=open_websocket, http=AiohttpHttp(), own_id=made.app_id)


def _agent(made: Settings, clock: Clock) -> Gateway:
    from botbook.wire.agent import AgentWire

    if not made.base_url:
        raise ConfigError("agent needs a base URL", hint='For example base_url="ws://localhost:8000/".')
    base_url = checked_url(made.base_url, schemes=("ws", "wss"))

    def wire(chat_id: str) -> AgentWire:
        return AgentWire(base_url=base_url, chat_id=chat_id, name=made.name)

    return Gateway(wire=wire(made.chat_id), dial=open_websocket, http=AiohttpHttp(), open_chat=wire)


def _langbot(made: Settings, clock: Clock) -> Gateway:
    from botbook.wire.langbot import LangBotWire

    if not made.base_url or not made.pipeline:
        raise ConfigError(
            "langbot needs a base URL and a pipeline",
            hint="`bot.pipelines()` of a connection with an API key lists them; or look into its web page.",
        )
    wire = LangBotWire(
        base_url=checked_url(made.base_url),
        pipeline=made.pipeline,
        session_type=made.session_type,
        token=_revealed(made.token),
        user=made.user,
        password=_revealed(made.password),
        workspace=made.workspace,
        name=made.name,
    )
    return Gateway(wire=wire, dial=open_websocket, http=AiohttpHttp())


def _revealed(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None else ""


def _sim(made: Settings, clock: Clock) -> Gateway:
    from botbook._local.world import World
    from botbook.wire.miti import MitiWire

    world = World(scenario=made.scenario, speed=made.speed, seed=made.seed, clock=clock)
    given = world.credentials()
    wire = MitiWire(**given, name=made.name, gateway="sim")
    return Gateway(wire=wire, dial=world.dial, http=world.http, own_id=given["app_id"], world=world)


GATEWAYS: Final[dict[str, Callable[[Settings, Clock], Gateway]]] = {
    "sim": _sim,
    "miti": _miti,
    "agent": _agent,
    "langbot": _langbot,
}
