"""The way to an embedded peer without sockets: what every peer offers, and what a client dials instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from botbook._errors import HandshakeError
from botbook._net.transport import Transport, memory_pair
from botbook.wire.contract import HttpRequest, Opening, Response

__all__ = ["Door", "Peer"]


class Peer(Protocol):
    """The server side of a protocol, without sockets of its own. Header names are lower case."""

    name: str

    def owns(self, path: str) -> bool:
        """Whether a path is one of this peer's."""
        ...

    async def upgrade(
        self, path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Response | None:
        """Decide on a socket: the refusal, or None."""
        ...

    async def serve(self, transport: Transport, path: str, query: Mapping[str, str]) -> None:
        """Serve one socket until it ends."""
        ...

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
    ) -> Response:
        """Answer one REST call."""
        ...

    async def close(self) -> None:
        """End every socket."""
        ...


class Door:
    """Sockets and REST of a peer in memory: `dial` for a link, and itself a `botbook._net.http.Http`.

    Args:
        peer: Who answers.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._sockets: set[asyncio.Task[None]] = set()

    async def dial(self, opening: Opening) -> Transport:
        """Open a socket in memory.

        Raises:
            HandshakeError: The peer refuses.
        """
        parts = urlsplit(opening.url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in opening.headers.items()}
        if refusal := await self._peer.upgrade(parts.path, query, headers):
            raise HandshakeError(
                f"the server refuses the socket (HTTP {refusal.status})", status=refusal.status
            )
        near, far = memory_pair()
        task = asyncio.create_task(self._peer.serve(far, parts.path, query))
        self._sockets.add(task)
        task.add_done_callback(self._sockets.discard)
        return near

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        """Make one exchange.

        Args:
            request: What to ask.
            token: The bearer token, or None.
        """
        parts = urlsplit(request.url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(request.params)
        headers = {name.lower(): value for name, value in request.headers.items()}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        body = request.body or (b"" if request.json is None else json.dumps(request.json).encode())
        return await self._peer.handle(request.method, parts.path, headers, query, body)

    async def close(self) -> None:
        """End every socket and wait for the end."""
        await self._peer.close()
        await asyncio.gather(*self._sockets)
