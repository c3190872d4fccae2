"""Tokens: fetched once for all who ask, renewed ahead of their end, and dropped when refused."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, Protocol

from botbook._clock import SYSTEM, Clock
from botbook._config import Masked
from botbook._errors import (
    ApiError,
    AuthError,
    BotbookError,
    ConnectionLost,
    HandshakeError,
    RemoteProtocolError,
    TransportError,
)
from botbook._net.backoff import backoff
from botbook.wire.contract import HttpRequest, Response, Token

__all__ = ["Exchange", "TokenSource", "auth_flow", "is_transient"]

#: A token is renewed so many seconds before its end (protocols/miti.md 2), or a share of its life
#: before it if that is less (protocols/miti.md 10, defect 21).
MARGIN: Final = 600.0
SHARE: Final = 0.2
#: A token is used for so many seconds at least, whatever life it claims.
SHORTEST: Final = 1.0
#: Exchanges on the way to one token at the most: a login, and what it leads to.
STEPS: Final = 5

_TRANSIENT: Final = frozenset({408, 425, 429})


class Exchange(Protocol):
    """The one thing a token source needs of `botbook._net.http.Http`."""

    async def exchange(self, request: HttpRequest, *, token: str | None) -> Response:
        """Make one HTTP exchange."""
        ...


def is_transient(error: BaseException) -> bool:
    """Whether the same try may go well a little later: the network, or a server in trouble."""
    if isinstance(error, ApiError):
        return error.status >= 500 or error.status in _TRANSIENT
    return isinstance(error, TransportError) and not isinstance(error, HandshakeError)


def auth_flow(*, renewable: bool) -> Generator[bool, bool, None]:
    """Decide what a refused token means: once a new one is tried, then it is an error.

    The generator is without end. It yields whether the held token is to be dropped before the
    next try, and is sent whether that try was refused.

    Args:
        renewable: Whether a new token can be had.

    Raises:
        AuthError: A new token was refused too, or none can be had.
    """
    fresh = False
    while True:
        refused = yield fresh
        if refused and (fresh or not renewable):
            raise AuthError("the gateway refuses the token", code=401, status=401)
        fresh = refused


@dataclass(frozen=True, slots=True)
class _Held:
    """A token and its times, in seconds of the monotonic clock."""

    value: Masked
    renew_at: float
    ends_at: float


class TokenSource:
    """Where the bearer token comes from.

    Whoever asks while a fetch is under way shares it. A token near its end is renewed in the
    background, and used to its very end if that fails.

    Args:
        token_request: A wire's method of that name; one that returns None means: no token.
        http: Makes the exchange.
        clock: Time; only its monotonic side is used.
        rng: Source of chance.
    """

    def __init__(
        self,
        token_request: Callable[[], HttpRequest | None],
        http: Exchange | None,
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
    ) -> None:
        self._request = token_request
        self._http = http
        self._clock = clock
        self._rng = rng or random.Random()
        self._delays = backoff(self._rng)
        self._held: _Held | None = None
        self._fetch: asyncio.Task[_Held] | None = None
        self._not_before = -math.inf

    @classmethod
    def fixed(cls, value: str | None) -> TokenSource:
        """A source that gives one token for ever, or none."""
        source = cls(lambda: None, None)
        source._held = None if value is None else _Held(Masked(value), math.inf, math.inf)
        return source

    @property
    def renewable(self) -> bool:
        """Whether a new token can be had in place of a refused one."""
        return self._http is not None and self._request() is not None

    async def get(self) -> str | None:
        """The token, fetched if there is none that still lives; None if the gateway has none.

        Raises:
            AuthError: The credentials were refused.
            ApiError: The peer answered with another error.
            RemoteProtocolError: Its answer cannot be read.
            TransportError: It could not be reached.
        """
        held, now = self._held, self._clock.monotonic()
        if held is not None and now < held.ends_at:
            if now >= held.renew_at and now >= self._not_before:
                self._begin()
            return held.value
        return await self._share(self._begin()) if self.renewable else None

    def invalidate(self, value: str | None) -> None:
        """Drop a token that the peer refused, unless it was replaced meanwhile."""
        if self._held is not None and self._held.value == value and self.renewable:
            self._held = None

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait({self._fetch})

    @staticmethod
    async def _share(fetch: asyncio.Task[_Held]) -> str:
        """Wait for a fetch that others may be waiting for too, so that leaving does not end it."""
        await asyncio.wait({fetch})
        if fetch.cancelled():
            raise ConnectionLost(1001, "closed while a token was being fetched")
        return fetch.result().value

    def _begin(self) -> asyncio.Task[_Held]:
        if self._fetch is None or self._fetch.done():
            self._fetch = asyncio.get_running_loop().create_task(self._fetch_once(), name="botbook-token")
            self._fetch.add_done_callback(_seen)
        return self._fetch

    async def _fetch_once(self) -> _Held:
        started = self._clock.monotonic()
        try:
            token = await self._walk()
        except BotbookError:
            self._not_before = self._clock.monotonic() + next(self._delays)
            raise
        self._delays = backoff(self._rng)
        self._held = held = _held(token, started)
        return held  # not the text itself, for the repr of a task shows its result

    async def _walk(self) -> Token:
        """From the first request to the token: each answer reads as the token or as the next request."""
        step: Token | HttpRequest | None = self._request()
        assert self._http is not None
        for _ in range(STEPS):
            assert isinstance(step, HttpRequest)
            step = step.read(await self._http.exchange(step, token=None))
            if isinstance(step, Token):
                return step
        raise RemoteProtocolError(f"no token after {STEPS} steps")


def _held(token: Token, at: float) -> _Held:
    life = math.inf if token.expires_in is None else max(token.expires_in, SHORTEST)
    margin = min(MARGIN, SHARE * life)
    return _Held(Masked(token.value), at + life - margin, at + life)


def _seen(fetch: asyncio.Task[_Held]) -> None:
    """Take note of a failure that nobody waits for: the held token goes on to its end."""
    if not fetch.cancelled():
        fetch.exception()
