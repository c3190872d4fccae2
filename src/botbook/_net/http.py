"""REST: one exchange, and the rules for doing it again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from botbook._clock import SYSTEM, Clock
from botbook._config import checked_url
from botbook._errors import (
    AuthError,
    BotbookError,
    ConfigError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
    RemoteProtocolError,
    TransportError,
    excerpt,
)
from botbook._net.auth import TokenSource, auth_flow
from botbook._net.backoff import backoff, retry_after
from botbook._net.proxy import proxy_for
from botbook._net.reach import check_headers, origin, unreachable
from botbook._net.transport import load
from botbook.wire.contract import HttpRequest, Response

if TYPE_CHECKING:
    import aiohttp

__all__ = ["AiohttpHttp", "Http", "Rest"]

#: Seconds for a TCP connection, and for a whole exchange (protocols/miti.md 10, defect 25).
CONNECT_TIMEOUT: Final = 10.0
TOTAL_TIMEOUT: Final = 30.0
#: Longest answer, in bytes.
MAX_ANSWER: Final = 64 * 2**20
#: Tries of one call, and seconds after which no further one begins.
TRIES: Final = 4
PATIENCE: Final = 30.0
#: Added to what a server asks for, so that clients do not come back together, in seconds.
JITTER: Final = 0.5

#: The server is busy, or is asked too often.
_BUSY: Final = frozenset({429, 503})


class Http(Protocol):
    """Makes HTTP exchanges."""

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        """Make one exchange, once.

        Args:
            request: What to ask. `HttpRequest.read` is for the caller.
            token: The bearer token that goes with it, or None.

        Raises:
            ConnectError: Nobody answers: the request did not arrive.
            ConnectionLost: The connection ended before the answer did.
            DeadlineExceeded: No answer in time.
            HandshakeError: The answer is no HTTP, or points elsewhere.
        """
        ...

    async def close(self) -> None:
        """Let go of the connections that are kept for later."""
        ...


class AiohttpHttp:
    """`Http` over aiohttp, which is imported with the first exchange.

    It follows no redirect, keeps no cookies, reads no ``.netrc``, and takes its proxy from the same
    rule as the WebSocket (`botbook._net.proxy`). All calls come from one event loop.

    Args:
        connect_timeout: For the TCP connection, in seconds.
        total_timeout: For a whole exchange, in seconds.
        trust_env: Whether proxy settings of the environment hold.
    """

    def __init__(
        self,
        *,
        connect_timeout: float = CONNECT_TIMEOUT,
        total_timeout: float = TOTAL_TIMEOUT,
        trust_env: bool = True,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._total_timeout = total_timeout
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        """Make one exchange; see `Http.exchange`. An answer above 64 MiB is a `RemoteProtocolError`."""
        checked_url(request.url)
        await load("aiohttp")
        import aiohttp

        try:
            return await self._exchange(request, token)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _mapped(error, request, self._total_timeout) from None

    async def close(self) -> None:
        """Close the kept connections; the next exchange opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _exchange(self, request: HttpRequest, token: str | None) -> Response:
        headers = dict(request.headers)
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        check_headers(headers)
        async with self._opened().request(
            request.method,
            request.url,
            json=request.json,
            data=request.body,
            params=dict(request.params),
            headers=headers,
            allow_redirects=False,
            proxy=proxy_for(request.url, trust_env=self._trust_env),
        ) as answer:
            lowered = {name.lower(): value for name, value in answer.headers.items()}
            if 300 <= answer.status < 400 and "location" in lowered:
                raise _redirected(request, answer.status, lowered["location"])
            return Response(answer.status, await _read(answer, request), lowered)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._total_timeout, sock_connect=self._connect_timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "botbook"},
                trust_env=False,
            )
        return self._session


async def _read(answer: aiohttp.ClientResponse, request: HttpRequest) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise RemoteProtocolError(f"the answer of {origin(request.url)} is longer than 64 MiB")
    return bytes(body)


def _redirected(request: HttpRequest, status: int, location: str) -> HandshakeError:
    """Redirects are not followed: one could carry the secret elsewhere (protocols/miti.md 10, defect 17)."""
    return HandshakeError(
        f"{origin(request.url)} points elsewhere (HTTP {status})",
        status=status,
        hint=f"It names {excerpt(location)}; if that is right, make it the base URL.",
    )


def _mapped(error: Exception, request: HttpRequest, timeout: float) -> BotbookError:
    """The one place where errors of the library and of the system become our own."""
    import aiohttp

    where = origin(request.url)
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ConnectError(f"nobody answers at {where}")
        case TimeoutError():
            return DeadlineExceeded(f"{where} did not answer within {timeout:g} s")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return ConnectError(
                f"the proxy did not let a connection to {where} through",
                hint="Check HTTPS_PROXY, or name the host in NO_PROXY.",
            )
        case aiohttp.ClientConnectorError():
            return unreachable(error.os_error, where)
        case aiohttp.ClientResponseError():
            return HandshakeError(f"{where} does not answer like a web server")
        case aiohttp.InvalidURL() | ValueError():
            return ConfigError(
                f"a request to {where} cannot be sent as it is",
                hint="Look for a stray character in the ids and the address.",
            )
        case _:
            return ConnectionLost(1006, f"{where} hung up before its answer was complete")


class Rest:
    """REST calls as a gateway wants them: authorised, and done again where that is safe.

    - 401: the token is renewed and the call made once more.
    - 429 and 503 with ``Retry-After``: made again then, for the server said that it did not take it.
    - Nobody answers: made again, for it did not arrive.
    - A connection that ended, no answer in time, 429 and 503 without ``Retry-After``: made again
      if `HttpRequest.repeatable` says so.

    Four tries at the most, and none that would begin after 30 s.

    Args:
        http: Makes the exchanges.
        tokens: Gives the bearer token.
        clock: Time.
        rng: Source of chance.
    """

    def __init__(
        self, http: Http, tokens: TokenSource, clock: Clock = SYSTEM, rng: random.Random | None = None
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._clock = clock
        self._rng = rng or random.Random()

    async def call(self, request: HttpRequest) -> Any:
        """Make a call.

        Returns:
            What `HttpRequest.read` makes of the answer.

        Raises:
            AuthError: The credentials were refused.
            ApiError: The server answered with an error.
            RemoteProtocolError: Its answer cannot be read.
            TransportError: It could not be reached.
        """
        delays = backoff(self._rng)
        until = self._clock.monotonic() + PATIENCE
        tries = 1
        while True:
            outcome = await self._try(request)
            delay = self._again(request, outcome, delays)
            if delay is None or tries == TRIES or self._clock.monotonic() + delay > until:
                break
            await self._clock.sleep(delay)
            tries += 1
        if isinstance(outcome, Response):
            return request.read(outcome)
        raise outcome

    async def _try(self, request: HttpRequest) -> Response | TransportError:
        try:
            return await self._authorised(request)
        except TransportError as error:
            return error

    async def _authorised(self, request: HttpRequest) -> Response:
        """One exchange with a token, and a second one with a new token if that was refused."""
        if not request.authorised:
            return await self._http.exchange(request, token=None)
        flow = auth_flow(renewable=self._tokens.renewable)
        next(flow)
        while True:
            token = await self._tokens.get()
            response = await self._http.exchange(request, token=token)
            if response.status != 401:
                return response
            try:
                flow.send(True)
            except AuthError:
                request.read(response)  # the server's own words come first
                raise
            self._tokens.invalidate(token)

    def _again(
        self, request: HttpRequest, outcome: Response | TransportError, delays: Iterator[float]
    ) -> float | None:
        """Seconds until the call may be made again; None if it may not."""
        if isinstance(outcome, Response):
            if outcome.status not in _BUSY:
                return None
            asked = retry_after(outcome.headers.get("retry-after"), now=self._clock.now())
            if asked is not None:
                return asked + self._rng.uniform(0, JITTER)
        elif isinstance(outcome, HandshakeError):
            return None
        return next(delays) if request.repeatable or isinstance(outcome, ConnectError) else None
