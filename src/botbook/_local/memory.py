"""The way to the embedded gateway without sockets: what a client dials and calls instead."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

from botbook._errors import ConnectError, HandshakeError
from botbook._local.gateway import PREFIX, MitiGateway
from botbook._net.transport import Transport, memory_pair
from botbook.wire.contract import HttpRequest, Opening, Response
from botbook.wire.miti import GATEWAY_PATH

__all__ = ["MemoryHttp", "dial"]


async def dial(gateway: MitiGateway, opening: Opening, tasks: set[asyncio.Task[None]]) -> Transport:
    """Open a socket in memory.

    Args:
        gateway: To whom.
        opening: As for a real socket.
        tasks: Holds the serving of it while it lasts.

    Raises:
        HandshakeError: The gateway refuses, or has no socket at this path.
    """
    if urlsplit(opening.url).path != PREFIX + GATEWAY_PATH:
        raise HandshakeError("there is no socket at this path", status=404)
    refusal = await gateway.upgrade({name.lower(): value for name, value in opening.headers.items()})
    if refusal:
        wait = refusal.headers.get("retry-after")
        raise HandshakeError(
            f"the gateway refuses the socket (HTTP {refusal.status})",
            status=refusal.status,
            retry_after=float(wait) if wait else None,
        )
    near, far = memory_pair()
    task = asyncio.create_task(gateway.serve(far))
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return near


class MemoryHttp:
    """REST exchanges with the embedded gateway, as `botbook._net.http.Http` makes them with a server.

    Args:
        gateway: Who answers.
    """

    def __init__(self, gateway: MitiGateway) -> None:
        self._gateway = gateway

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        """Make one exchange.

        Args:
            request: What to ask.
            token: The bearer token, or None.

        Raises:
            ConnectError: The address is none of this world.
            HandshakeError: The answer points elsewhere.
        """
        path = urlsplit(request.url).path
        if not path.startswith(PREFIX + "/"):
            raise ConnectError(f"the embedded world has nothing at {path or '/'}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        body = request.body or (b"" if request.json is None else json.dumps(request.json).encode())
        response = await self._gateway.handle(request.method, path, headers, request.params, body)
        if 300 <= response.status < 400:
            raise HandshakeError(
                f"the gateway points elsewhere (HTTP {response.status})",
                status=response.status,
                hint=f"It names {response.headers.get('location', 'nothing')}.",
            )
        return response

    async def close(self) -> None:
        """Nothing is kept open."""
