"""A door to the world in a box: every gateway and its control on one loopback port (design: command line)."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import WSMsgType, web

from botbook._errors import BotbookError, ConfigError, ConnectionLost, LocalProtocolError
from botbook._local.box_server import BoxServer
from botbook._local.peer import Peer
from botbook._local.query import Query
from botbook._local.world import World
from botbook.wire.contract import Frame, Response

__all__ = ["Server", "serve"]

#: Longest request body, in bytes: a hundred thousand events at once.
_MAX_BODY: Final = 64 * 2**20
#: Longest wait for a client to answer a closing frame, in seconds.
_CLOSE_WAIT: Final = 0.15

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(
    world: World, *, host: str = "127.0.0.1", port: int = 0, box: BoxServer | None = None
) -> Server:
    """Open the door. The world's scenario is started and stopped by the caller.

    Args:
        world: What stands behind it.
        box: A sandbox on the same port; it is closed with the door, also if that cannot be opened.
        host: A loopback address.
        port: Default a free one.

    Raises:
        ConfigError: The host is not of this machine alone, or the port is taken.
    """
    try:
        if not _is_loopback(host):
            raise ConfigError(f"{host} is reachable from outside", hint="Use 127.0.0.1, ::1 or localhost.")
        server = Server(world, box)
        await server.open(host, port)
    except BaseException:
        if box is not None:
            await box.close()
        raise
    return server


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Server:
    """An open door; see `serve`.

    Attributes:
        base: Its address, such as ``http://127.0.0.1:40123``.
        control_token: What ``/control`` asks for.
    """

    def __init__(self, world: World, box: BoxServer | None = None) -> None:
        self.base = ""
        self.control_token = secrets.token_urlsafe(24)
        self._world, self._box = world, box
        app = web.Application(client_max_size=_MAX_BODY)
        for method, path, handler in self._controls():
            app.router.add_route(method, "/control" + path, self._guarded(handler))
        if box is not None:
            box.add_routes(app)
        app.router.add_route("*", "/{rest:.*}", self._any)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def open(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            ConfigError: The port is taken.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {host}:{port} ({error.strerror})", hint="Port 0 takes a free one."
            ) from None
        bound = self._runner.addresses[0][1]
        self.base = f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"

    async def close(self) -> None:
        """End every connection and stop listening."""
        for peer in self._world.peers:
            await peer.close()
        if self._box is not None:
            await self._box.close()
        await self._runner.cleanup()

    def description(self) -> dict[str, Any]:
        """Addresses and credentials of every peer, as ``botbook sim`` prints them."""
        found: dict[str, Any] = {peer.name: peer.describe(self.base) for peer in self._world.peers}
        if self._box is not None:
            found["box"] = {"url": self.base.replace("http", "ws", 1) + "/rpc/ws", "token": self._box.token}
        return {**found, "control": self.base + "/control", "control_token": self.control_token}

    # ------------------------------------------------------------------------ the peers

    async def _any(self, request: web.Request) -> web.StreamResponse:
        """Whatever comes goes to the peer that owns its path, still encoded as it came."""
        path, query = request.raw_path.partition("?")[0], Query(request.query.items())
        peer = self._world.http.peer_of(path)
        if peer is None:
            return web.Response(status=404)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(peer, request, path, query)
        body = await request.read()
        return _answered(await peer.handle(request.method, path, _lowered(request), query, body))

    @staticmethod
    async def _socket(peer: Peer, request: web.Request, path: str, query: Query) -> web.StreamResponse:
        if refusal := await peer.upgrade(path, query, _lowered(request)):
            return _answered(refusal)
        websocket = web.WebSocketResponse(
            compress=False, autoping=False, autoclose=False, timeout=_CLOSE_WAIT
        )
        await websocket.prepare(request)
        await peer.serve(_ServerTransport(websocket, request, peer), path, query)
        return websocket

    # ------------------------------------------------------------------------ control

    def _controls(self) -> list[tuple[str, str, _Handler]]:
        return [
            ("POST", "/miti/events", self._push),
            ("POST", "/miti/cancel", self._cancel),
            ("POST", "/agent/say", self._agent_say),
            ("POST", "/langbot/feedback", self._rate),
            ("POST", "/say", self._say),
            ("POST", "/faults", self._fault),
            ("POST", "/reset", self._reset),
            ("GET", "/log", self._log),
            ("GET", "/status", self._status),
        ]

    def _guarded(self, handler: _Handler) -> _Handler:
        """Ask for the control token, and answer our own errors as JSON."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("utf-8", "replace"), self.control_token.encode()):
                return web.json_response({"error": "the control token is wrong or missing"}, status=401)
            try:
                return await handler(request)
            except BotbookError as error:
                return web.json_response({"error": str(error), "hint": error.hint}, status=400)

        return guarded

    async def _push(self, request: web.Request) -> web.StreamResponse:
        events = (await _sent(request)).get("events")
        if not isinstance(events, list):
            raise LocalProtocolError("events must be a list", hint='Send {"events": [envelope, …]}.')
        for event in events:
            self._world.miti.push(event if isinstance(event, str) else json.dumps(event))
        return web.json_response({"pushed": len(events)})

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        run_id = (await _sent(request)).get("run_id", "")
        return web.json_response({"run_id": self._world.cancel(str(run_id))})

    async def _agent_say(self, request: web.Request) -> web.StreamResponse:
        said = await _sent(request)
        self._world.agent.say(str(said.get("text", "")), chat=str(said.get("chat", "0")))
        return web.json_response({})

    async def _rate(self, request: web.Request) -> web.StreamResponse:
        sent = await _sent(request)
        reasons = sent.get("reasons", [])
        if not isinstance(reasons, list):
            raise LocalProtocolError("reasons must be a list", hint='Send {"kind": 2, "reasons": [2, 4]}.')
        texts = {key: str(sent[key]) for key in ("user", "feedback_id", "content") if sent.get(key)}
        feedback_id = self._world.rate(sent.get("kind", 0), reasons=reasons, **texts)
        return web.json_response({"feedback_id": feedback_id})

    async def _say(self, request: web.Request) -> web.StreamResponse:
        said = {name: str(value) for name, value in (await _sent(request)).items() if value is not None}
        if not said.get("user") or not said.get("text"):
            raise LocalProtocolError("user and text are needed", hint='Send {"user": "ada", "text": "Hi"}.')
        message_id = self._world.say(
            said["user"], said["text"], group=said.get("group"), name=said.get("name", "")
        )
        return web.json_response({"message_id": message_id})

    async def _fault(self, request: web.Request) -> web.StreamResponse:
        made = await _sent(request)
        self._world.fault(str(made.pop("kind", "")), gateway=str(made.pop("gateway", "miti")), **made)
        return web.json_response({})

    async def _reset(self, request: web.Request) -> web.StreamResponse:
        self._world.reset()
        return web.json_response({})

    async def _log(self, request: web.Request) -> web.StreamResponse:
        after = request.query.get("after", "0")
        entries = self._world.log(after=int(after) if after.isdecimal() else 0)
        return web.json_response({"log": entries})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        peers = {peer.name: peer.status() for peer in self._world.peers}
        return web.json_response({"scenario": self._world.state, **peers})


async def _sent(request: web.Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        LocalProtocolError: It is none.
    """
    try:
        value = await request.json()
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise LocalProtocolError("the body is no JSON object", hint="Send a JSON object.")
    return value


def _lowered(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _answered(response: Response) -> web.Response:
    return web.Response(status=response.status, body=response.body, headers=dict(response.headers))


class _ServerTransport:
    """A socket of aiohttp as a transport that can also be broken below the WebSocket."""

    def __init__(self, websocket: web.WebSocketResponse, request: web.Request, peer: Peer) -> None:
        self._websocket = websocket
        self._request = request
        self._peer = peer

    async def send(self, frame: Frame) -> None:
        try:
            if isinstance(frame, str):
                await self._websocket.send_str(frame)
            else:
                await self._websocket.send_bytes(frame)
        except (ConnectionError, RuntimeError):
            raise ConnectionLost(1006) from None

    async def receive(self) -> list[Frame]:
        while True:
            message = await self._websocket.receive()
            match message.type:
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    return [message.data]
                case WSMsgType.PING:
                    await self._peer.awake()
                    await self._pong(message.data)
                case WSMsgType.CLOSE:
                    await self._peer.awake()
                    await self.close(message.data or 1000)
                    raise ConnectionLost(message.data or 1005, message.extra or "")
                case WSMsgType.PONG:
                    pass
                case _:
                    raise ConnectionLost(self._websocket.close_code or 1006)

    async def _pong(self, data: bytes) -> None:
        try:
            await self._websocket.pong(data)
        except (ConnectionError, RuntimeError):
            raise ConnectionLost(1006) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        try:
            await asyncio.wait_for(
                self._websocket.close(code=code, message=reason.encode()), timeout=_CLOSE_WAIT
            )
        except (ConnectionError, RuntimeError, TimeoutError):
            self.cut(reset=False)

    def cut(self, *, reset: bool) -> None:
        transport = self._request.transport
        if transport is None:
            return
        if not reset:
            transport.close()
            return
        # Closing with a linger time of 0 makes the kernel send RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        transport.abort()

    def write_raw(self, data: bytes) -> None:
        transport = self._request.transport
        if transport is not None:
            transport.write(data)
