"""The way to embedded peers without sockets: what a client dials and calls instead."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit

from botbook._errors import ConnectError, HandshakeError
from botbook._local.peer import Peer
from botbook._local.query import Query
from botbook._net.transport import Transport, memory_pair
from botbook.wire.contract import HttpRequest, Opening, Response

__all__ = ["Door"]


class Door:
    """Sockets and REST of some peers in memory: `dial` for a link, and itself a `botbook._net.http.Http`.

    Args:
        peers: Who answers; the first that owns a path.
    """

    def __init__(self, *peers: Peer) -> None:
        self._peers = peers
        self._sockets: set[asyncio.Task[None]] = set()

    def peer_of(self, path: str) -> Peer | None:
        """Who answers at a path, or None."""
        return next((peer for peer in self._peers if peer.owns(path)), None)

    async def dial(self, opening: Opening) -> Transport:
        """Open a socket in memory.

        Raises:
            HandshakeError: The peer refuses, or nobody has a socket at this path.
        """
        parts = urlsplit(opening.url)
        peer, query = self.peer_of(parts.path), _query(parts, {})
        if peer is None:
            raise HandshakeError("there is no socket at this path", status=404)
        headers = {name.lower(): value for name, value in opening.headers.items()}
        if refusal := await peer.upgrade(parts.path, query, headers):
            wait = refusal.headers.get("retry-after")
            raise HandshakeError(
                f"the server refuses the socket (HTTP {refusal.status})",
                status=refusal.status,
                retry_after=float(wait) if wait else None,
            )
        near, far = memory_pair()
        task = asyncio.create_task(peer.serve(far, parts.path, query))
        self._sockets.add(task)
        task.add_done_callback(self._sockets.discard)
        return near

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        """Make one exchange.

        Args:
            request: What to ask.
            token: The bearer token, or None.

        Raises:
            ConnectError: Nobody answers at this path.
            HandshakeError: The answer points elsewhere.
        """
        parts = urlsplit(request.url)
        peer = self.peer_of(parts.path)
        if peer is None:
            raise ConnectError(f"the embedded world has nothing at {parts.path or '/'}")
        headers = {name.lower(): value for name, value in request.headers.items()}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        body = request.body or (b"" if request.json is None else json.dumps(request.json).encode())
        query = _query(parts, request.params)
        response = await peer.handle(request.method, parts.path, headers, query, body)
        if 300 <= response.status < 400:
            raise HandshakeError(
                f"the gateway points elsewhere (HTTP {response.status})",
                status=response.status,
                hint=f"It names {response.headers.get('location', 'nothing')}.",
            )
        return response

    async def close(self) -> None:
        """Nothing is kept open between exchanges."""

    async def finished(self) -> None:
        """Wait until every socket has ended."""
        await asyncio.gather(*self._sockets)


def _query(parts: SplitResult, more: Mapping[str, str]) -> Query:
    return Query([*parse_qsl(parts.query, keep_blank_values=True), *more.items()])
