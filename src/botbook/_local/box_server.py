"""The sockets of the Box runtime: control and relay on one port (protocols/box.md 3, 8)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from botbook._errors import RemoteProtocolError, SandboxError
from botbook._local.backends import choose
from botbook._local.boxes import Limits
from botbook._local.policy import MountRoots, Policy, Rules
from botbook._local.runtime import Audit, BoxRuntime, Caller
from botbook.wire.box import Context, Request, RequestJoiner, decode, encode_error

if TYPE_CHECKING:
    from aiohttp import web

__all__ = ["BoxServer", "Endpoint", "make", "start"]

#: Longest message that is read, in bytes (protocols/box.md 4).
_LONGEST: Final = 16 * 1024 * 1024
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_RELAY: Final = "/v1/sessions/{session}/managed-process"
_TOKEN_HEADER: Final = "X-LangBot-Box-Control-Token"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a runtime listens.

    Attributes:
        url: Of the control socket.
        token: The secret that opens both sockets.
    """

    url: str
    token: str = field(repr=False)

    @property
    def plain_url(self) -> str:
        """The control socket with the token in its path, for a client that sends no headers."""
        return self.url.replace("/rpc/ws", f"/t/{self.token}/rpc/ws")


class BoxServer:
    """HTTP face of a runtime.

    Args:
        runtime: What answers.
        token: What its owner shows, as far as this end knows it.
    """

    def __init__(self, runtime: BoxRuntime, *, token: str = "") -> None:
        self.runtime = runtime
        self.token = token
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    def add_routes(self, app: web.Application) -> None:
        """Put both sockets into an application, which may be somebody else's."""
        for prefix in ("", "/t/{token}"):
            app.router.add_get(f"{prefix}/rpc/ws", self._rpc)
            app.router.add_get(f"{prefix}{_RELAY}/ws", self._relay)
            app.router.add_get(f"{prefix}{_RELAY}/{{process}}/ws", self._relay)

    async def listen(self, *, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and give the address of the control socket.

        Args:
            host: Loopback, or another address of this machine that was named on purpose.
            port: 0 for a free one.
        """
        from aiohttp import web

        app = web.Application()
        self.add_routes(app)
        app.router.add_get("/healthz", self._live)
        app.router.add_get("/readyz", self._ready)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        address = self._runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"ws://{shown}:{address[1]}/rpc/ws"

    async def close(self) -> None:
        """Close every socket, then end every session."""
        await asyncio.gather(*(self._bye(one) for one in list(self._sockets)))
        await self.runtime.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _bye(self, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(socket.close(code=1001, message=b"Box runtime shutting down"), 1.0)

    # ------------------------------------------------------------ who

    def _caller(self, request: web.Request) -> Rules:
        """The rules of whoever holds the token that came along.

        Raises:
            HTTPUnauthorized: Nobody's. A page of a browser is nobody: it sends an Origin.
        """
        from aiohttp import web

        given = (
            request.headers.get(_TOKEN_HEADER)
            or request.headers.get("Authorization", "").removeprefix("Bearer ")
            or request.match_info.get("token")
            or request.query.get("token")
        )
        rules = self.runtime.policy.caller(given)
        if rules is None or "Origin" in request.headers:
            raise web.HTTPUnauthorized(text="Unauthorized")
        return rules

    # ------------------------------------------------------------ control

    async def _rpc(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import WSMsgType, web

        rules = self._caller(request)
        socket = web.WebSocketResponse(max_msg_size=_LONGEST, timeout=1.0)
        await socket.prepare(request)
        self._sockets.add(socket)

        async def send(text: str) -> None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                await socket.send_str(text)

        modern = "X-LangBot-Instance-Id" in request.headers
        caller, joiner = Caller(self.runtime, rules, send, modern=modern), RequestJoiner()
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                if (text := joiner.feed(message.data)) is not None:
                    await _take(caller, text, send)
        finally:
            await caller.close()
            self._sockets.discard(socket)
            await self._close_quietly(socket)
        return socket

    @staticmethod
    async def _close_quietly(socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(Exception):
            await socket.close()

    # ------------------------------------------------------------ relay

    async def _relay(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        rules = self._caller(request)
        try:
            session = self.runtime.boxes.find_for_relay(
                rules.name, _context(request), request.match_info["session"]
            )
            managed = session.process(request.match_info.get("process", "default"))
            if not managed.running:
                raise SandboxError(
                    f"managed process {managed.spec.process_id} is not running",
                    code="BoxManagedProcessConflictError",
                )
        except SandboxError as error:
            return web.json_response({"error": {"code": error.code, "message": str(error)}}, status=400)
        socket = web.WebSocketResponse(max_msg_size=_LONGEST, timeout=1.0, protocols=("mcp",))
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            async with managed.relaying:  # a second client waits for the first to leave
                managed.attached = True
                await _until_first(managed.lines(socket.send_str), _feed(socket, managed.write_line))
        finally:
            managed.attached = False
            self._sockets.discard(socket)
            await self._close_quietly(socket)
        return socket

    # ------------------------------------------------------------ health

    async def _live(self, _: web.Request) -> web.Response:
        from aiohttp import web

        return web.json_response({"live": True, "resources": {"sessions": len(self.runtime.boxes)}})

    async def _ready(self, _: web.Request) -> web.Response:
        from aiohttp import web

        report = await self.runtime.report()
        body = {
            "ready": report.available,
            "mode": "standard",
            "backend": {"name": report.backend, "available": report.available},
            "checks": {},
            "resources": {},
        }
        return web.json_response(body, status=200 if report.available else 503)


async def _take(caller: Caller, text: str, send: Any) -> None:
    """What is no request is dropped, as everywhere; a context that names nobody is refused."""
    try:
        request = decode(text)
    except RemoteProtocolError:
        return
    except SandboxError as error:
        await send(encode_error(-1, error.code, str(error)))
        return
    if isinstance(request, Request):
        caller.take(request)


def _context(request: web.Request) -> Context | None:
    headers = request.headers
    try:
        return Context.from_json(
            {
                "instance_uuid": headers.get("X-LangBot-Instance-Id", ""),
                "workspace_uuid": headers.get("X-LangBot-Workspace-Id", ""),
                "placement_generation": headers.get("X-LangBot-Placement-Generation", "1"),
            }
        )
    except SandboxError:
        return None


async def _feed(socket: web.WebSocketResponse, write_line: Any) -> None:
    from aiohttp import WSMsgType

    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await write_line(message.data)


async def _until_first(*works: Any) -> None:
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def make(
    *,
    backend: str = "",
    unsafe: bool = False,
    mount_roots: Sequence[str] = (),
    token: str = "",
    idle: int | None = None,
    limits: Limits | None = None,
    rules: Rules | None = None,
    audit: Audit | None = None,
) -> BoxServer:
    """Make a runtime with a token, for a listener of its own or of somebody else's.

    Args:
        backend: Name of a backend; "" for the best that works here.
        unsafe: Run commands with NO protection at all where no backend works.
        mount_roots: Directories below which sessions may mount; none by default.
        token: The secret; made if none is given.
        idle: How long a session lives that nobody uses, in seconds; default that of `limits`.
        limits: How much the runtime takes on.
        rules: Of the one caller; by default the owner's.
        audit: Called with a row for each command.

    Returns:
        The server, to be closed.

    Raises:
        SandboxError: No backend works here, or a mount root is refused.
    """
    token = token or secrets.token_urlsafe(32)
    policy = Policy({token: rules or Rules(mounts=MountRoots(mount_roots))})
    limits = limits or Limits()
    limits = limits if idle is None else replace(limits, session_ttl_sec=idle)
    runtime = BoxRuntime(await choose(backend, unsafe=unsafe), policy, limits=limits, audit=audit)
    return BoxServer(runtime, token=token)


async def start(*, host: str = "127.0.0.1", port: int = 0, **options: Any) -> tuple[BoxServer, Endpoint]:
    """Start a runtime that listens.

    Args:
        host: Where; loopback unless another address is named.
        port: 0 for a free one.
        **options: Of `make`.

    Returns:
        The server, to be closed, and where it listens.

    Raises:
        SandboxError: It cannot be made, or cannot listen there.
    """
    server = await make(**options)
    try:
        url = await server.listen(host=host, port=port)
    except OSError as error:
        await server.close()
        raise SandboxError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return server, Endpoint(url, server.token)
