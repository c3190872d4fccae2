"""The link: one connection that is opened again whenever it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar

from botbook._clock import SYSTEM, Clock
from botbook._errors import (
    AuthError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
)
from botbook._net.auth import TokenSource, auth_flow, is_transient
from botbook._net.backoff import backoff
from botbook._net.dedupe import Dedupe
from botbook._net.states import LINK_STATES, LinkState, state_diagram
from botbook._net.transport import MAX_BYTES, Transport
from botbook.events import Event
from botbook.wire.contract import Closing, Frame, Opening, Ready, Received, Verdict, Wire

__all__ = ["LINK_STATES", "Counters", "Link", "LinkState", "state_diagram"]

T = TypeVar("T")

#: A link that stayed up so long was healthy: the back-off begins anew, in seconds.
STABLE_AFTER: Final = 5.0
#: Delay after a healthy link ended, in seconds: the whole reconnect stays under 1 s.
HEALTHY_DELAY: Final = (0.25, 0.75)
#: For the first connection, token included, in seconds.
START_TIMEOUT: Final = 9.0
#: Between application heartbeats, for wires that have one, in seconds.
HEARTBEAT: Final = 20.0
#: Frames read at a stretch, before the loop may turn to others.
BATCH: Final = 500
#: How long `Link.stop` waits for its task, in seconds.
_STOP_WAIT: Final = 0.15


@dataclass(slots=True)
class Counters:
    """What a link has counted since it was made.

    Attributes:
        frames: Frames that arrived.
        events: New events among them.
        duplicates: Events that had come before, left out.
        malformed: Frames that could not be read, left out.
        undelivered: Events whose delivery failed.
        handshakes: Connections tried.
        opened: Times the link came up.
    """

    frames: int = 0
    events: int = 0
    duplicates: int = 0
    malformed: int = 0
    undelivered: int = 0
    handshakes: int = 0
    opened: int = 0

    @property
    def reconnects(self) -> int:
        """Times the link came up again."""
        return max(0, self.opened - 1)


def _nothing(state: LinkState) -> None:
    """The default `on_state`."""


class Link:
    """A connection that keeps itself up.

    It runs as one task on the loop that called `start`. What arrives is read by the wire, freed of
    what had come before, and handed to `deliver` a batch at a time; while that waits, the transport
    holds the peer back. A frame that cannot be read is counted, kept in `last_error`, and left out.

    Args:
        wire: The language.
        dial: Opens a transport.
        tokens: Gives the bearer token.
        deliver: Takes events and acknowledgements, in order. What it raises is kept in `last_error`.
        clock: Time.
        rng: Source of chance.
        on_state: Told of every change of state; must not raise.
        dedupe: What has been seen before.
        stable_after: A link that stayed up so long was healthy, in seconds.
        start_timeout: For the first connection, in seconds.
        heartbeat: Between application heartbeats, if the wire has one, in seconds.
        max_bytes: Longest good frame, in bytes (for text: in characters).

    Attributes:
        counters: See `Counters`.
        last_error: The last trouble, or None.
        since: When the present state began, in UTC.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        dial: Callable[[Opening], Awaitable[Transport]],
        tokens: TokenSource,
        deliver: Callable[[list[Received]], Awaitable[None]],
        clock: Clock = SYSTEM,
        rng: random.Random | None = None,
        on_state: Callable[[LinkState], None] = _nothing,
        dedupe: Dedupe | None = None,
        stable_after: float = STABLE_AFTER,
        start_timeout: float = START_TIMEOUT,
        heartbeat: float = HEARTBEAT,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._wire = wire
        self._dial = dial
        self._tokens = tokens
        self._deliver = deliver
        self._clock = clock
        self._rng = rng or random.Random()
        self._on_state = on_state
        self._dedupe = Dedupe() if dedupe is None else dedupe
        self._stable_after = stable_after
        self._start_timeout = start_timeout
        self._heartbeat = heartbeat
        self._max_bytes = max_bytes

        self._state = LinkState.IDLE
        self.since: datetime = clock.now()
        self.counters = Counters()
        self.last_error: BaseException | None = None

        self._task: asyncio.Task[NoReturn] | None = None
        self._transport: Transport | None = None
        self._token: str | None = None
        self._up_since: float | None = None
        self._closing: Closing | None = None
        self._changed = asyncio.Event()
        self._begin_anew()

    @property
    def state(self) -> LinkState:
        """What the link is doing."""
        return self._state

    # ------------------------------------------------------------------------ the caller's side

    async def start(self) -> None:
        """Connect, and stay connected. Returns when the link is open for the first time.

        A token that cannot be had because of the network is tried for again; every other trouble of
        the first connection is raised at once, and the link is over.

        Raises:
            AuthError: The credentials were refused.
            ConnectError: Nobody answers.
            HandshakeError: Somebody answers, but it is no gateway or it refuses.
            ConnectionLost: The gateway hung up, or `stop` was called meanwhile.
            DeadlineExceeded: No answer, or no ready gateway, in time.
            LocalProtocolError: It was started before.
        """
        if self._state is not LinkState.IDLE:
            raise LocalProtocolError("a link is started once", hint="Make a new one.")
        self._set(LinkState.AUTHENTICATING)
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"botbook-link-{self._wire.name}"
        )
        self._task.add_done_callback(self._finished)
        try:
            await self._within(self._start_timeout, self._reach(lambda: self.counters.opened > 0))
        except TimeoutError:
            raise self._late() from None
        finally:
            if not self.counters.opened and self.state is not LinkState.FAILED:
                await self.stop()

    async def wait_open(self) -> None:
        """Wait until the link is open.

        Raises:
            BotbookError: It has failed, and why.
            ConnectionLost: It was stopped.
        """
        await self._reach(lambda: self._state is LinkState.OPEN)

    async def send(self, frame: Frame) -> None:
        """Send one frame.

        Raises:
            ConnectionLost: The link is not open.
        """
        if self._transport is None or self._state is not LinkState.OPEN:
            raise ConnectionLost(1006, f"the link is {self._state}")
        await self._transport.send(frame)

    async def renew(self, reason: str) -> None:
        """End this connection and open a new one; nothing where it is not open.

        Args:
            reason: A word to the peer.
        """
        if self._transport is not None and self._state is LinkState.OPEN:
            await self._transport.close(1000, reason)
            while self._state is LinkState.OPEN:
                await self._changed.wait()

    async def stop(self) -> None:
        """End the link, from whatever it is doing, within 0.2 s. May be called again."""
        if self._task is None:
            if self._state is LinkState.IDLE:
                self._set(LinkState.STOPPED)
            return
        if self._state not in (LinkState.STOPPING, LinkState.STOPPED):
            self._set(LinkState.STOPPING)
            self._task.cancel()
        await asyncio.wait({self._task}, timeout=_STOP_WAIT)
        if self._state is LinkState.STOPPING:
            self._set(LinkState.STOPPED)

    # ------------------------------------------------------------------------ one try after another

    async def _run(self) -> NoReturn:
        while True:
            delay = self._after(await self._try())
            self._set(LinkState.WAITING)
            await self._clock.sleep(delay)
            self._set(LinkState.AUTHENTICATING)

    def _finished(self, task: asyncio.Task[NoReturn]) -> None:
        """The task ends by an error that is final, or because it was cancelled."""
        error = None if task.cancelled() else task.exception()
        if self._state is LinkState.STOPPED:
            return
        if error is not None and self._state is not LinkState.STOPPING:
            self.last_error = error
            self._set(LinkState.FAILED)
            return
        if self._state is not LinkState.STOPPING:
            self._set(LinkState.STOPPING)
        self._set(LinkState.STOPPED)

    async def _try(self) -> Exception:
        """One connection from token to end. Returns why it ended."""
        try:
            self._token = await self._tokens.get()
            self._set(LinkState.CONNECTING)
            self.counters.handshakes += 1
            opening = self._wire.opening(self._token)
            transport = await self._dial(opening)
            try:
                await self._serve(transport, opening)
            finally:
                self._transport = None
                await transport.close(1001, "going away")
        except Exception as error:  # whatever it was, the next try may go well
            return error

    async def _serve(self, transport: Transport, opening: Opening) -> NoReturn:
        """Open frames, ready, then events until the end."""
        self._transport, self._closing = transport, None
        try:
            for frame in opening.frames:
                await transport.send(frame)
        except ConnectionLost:
            if opening.ready_within is None:
                raise
            # Otherwise what the peer said before it hung up is read first: it tells why.
        if opening.ready_within is None:
            self._opened()
        else:
            await self._become_ready(transport, opening.ready_within)
        beat = asyncio.get_running_loop().create_task(self._beat(transport))
        try:
            while True:
                await self._take(await transport.receive())
        finally:
            beat.cancel()

    async def _become_ready(self, transport: Transport, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        while self._state is not LinkState.OPEN:
            try:
                frames = await self._within(until - self._clock.monotonic(), transport.receive())
            except TimeoutError:
                raise DeadlineExceeded(f"the peer was not ready within {seconds:g} s") from None
            await self._take(frames)

    async def _beat(self, transport: Transport) -> None:
        """Application heartbeats; that the link is lost is for the reader to notice."""
        with suppress(ConnectionLost):
            while (frame := self._wire.ping()) is not None:
                await self._clock.sleep(self._heartbeat)
                await transport.send(frame)

    # ------------------------------------------------------------------------ events

    async def _take(self, frames: list[Frame]) -> None:
        """Read, then deliver, a stretch at a time so that the loop is not held."""
        for start in range(0, len(frames), BATCH):
            if start:
                await asyncio.sleep(0)
            if batch := self._read(frames[start : start + BATCH]):
                await self._hand_over(batch)
            if self._closing is not None:
                raise self._closing.error

    def _read(self, frames: Sequence[Frame]) -> list[Received]:
        at, receive, longest = self._clock.now(), self._wire.receive, self._max_bytes
        self._dedupe.tick(self._clock.monotonic())
        batch: list[Received] = []
        for frame in frames:
            try:
                if len(frame) > longest:
                    raise RemoteProtocolError(f"a frame longer than {longest} bytes", frame=frame)
                for item in receive(frame, at=at):
                    if self._is_new(item):
                        batch.append(item)
            except Exception as error:  # one bad frame is not the end of a connection
                self._malformed(error, frame)
        self.counters.frames += len(frames)
        return batch

    def _is_new(self, item: Received) -> bool:
        if isinstance(item, Event):
            if not self._dedupe.first(item.event_id):
                self.counters.duplicates += 1
                return False
            self.counters.events += 1
        elif isinstance(item, Ready):
            if self._state is LinkState.CONNECTING:
                self._opened()
            return False
        elif isinstance(item, Closing):
            self._closing = item
            return False
        return True

    def _malformed(self, error: Exception, frame: Frame) -> None:
        self.counters.malformed += 1
        if not isinstance(error, RemoteProtocolError):
            error = RemoteProtocolError(f"{type(error).__name__} while a frame was read", frame=frame)
        self.last_error = error

    async def _hand_over(self, batch: list[Received]) -> None:
        try:
            await self._deliver(batch)
        except Exception as error:  # the link lives on; what comes again is taken as new
            self.last_error = error
            events = [item.event_id for item in batch if isinstance(item, Event)]
            self.counters.undelivered += len(events)
            for event_id in events:
                self._dedupe.forget(event_id)

    # ------------------------------------------------------------------------ decisions

    def _after(self, error: Exception) -> float:
        """Seconds until the next try.

        Raises:
            Exception: There is no next try, and why.
        """
        was_open, healthy = self._up_since is not None, self._was_healthy()
        self._up_since = None
        self.last_error = error
        if isinstance(error, ConnectionLost) and error.code == 1009:
            self._malformed(RemoteProtocolError(f"a frame too long to be read: {error.reason}"), "")
        if healthy:
            self._begin_anew()
        verdict = self._verdict(error)
        if verdict is Verdict.REAUTH:
            self._tokens.invalidate(self._token)
            if not was_open:
                self._refused(error)
                return 0.0
        elif verdict is Verdict.FATAL or not self._may_retry(error):
            raise error
        return self._rng.uniform(*HEALTHY_DELAY) if healthy else self._delay(error)

    def _verdict(self, error: Exception) -> Verdict:
        if self._closing is not None and error is self._closing.error:
            return self._closing.verdict
        match error:
            case ConnectionLost():
                return self._wire.closing(error.code, error.reason)
            case HandshakeError(status=401):
                return Verdict.REAUTH
            case HandshakeError(status=int() as status):
                return self._wire.closing(status, "")
            case AuthError() if not is_transient(error):
                return Verdict.FATAL
        return Verdict.RETRY

    def _refused(self, error: Exception) -> None:
        """A token was refused: the first time it is replaced, then it is an error."""
        try:
            self._auth.send(True)
        except AuthError as final:
            raise AuthError(f"{final}: {error}", code=final.code, status=final.status) from None

    def _may_retry(self, error: Exception) -> bool:
        """Whether a link that was never open may go on: only while it waits for a token."""
        if self.counters.opened:
            return True
        return self._state is LinkState.AUTHENTICATING and is_transient(error)

    def _delay(self, error: Exception) -> float:
        asked = error.retry_after if isinstance(error, HandshakeError) else None
        return max(next(self._delays), asked or 0.0)

    def _was_healthy(self) -> bool:
        return self._up_since is not None and self._clock.monotonic() - self._up_since >= self._stable_after

    def _begin_anew(self) -> None:
        self._delays = backoff(self._rng)
        self._auth = auth_flow(renewable=self._tokens.renewable)
        next(self._auth)

    # ------------------------------------------------------------------------ state

    def _opened(self) -> None:
        self.counters.opened += 1
        self._up_since = self._clock.monotonic()
        self._set(LinkState.OPEN)

    def _set(self, state: LinkState) -> None:
        if state not in LINK_STATES[self._state]:
            raise LocalProtocolError(f"a link does not go from {self._state} to {state}")
        self._state, self.since = state, self._clock.now()
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_state(state)

    def _late(self) -> BaseException:
        """What to say when the start took too long: the trouble there was, or that there was none."""
        return self.last_error or DeadlineExceeded(
            f"no connection within {self._start_timeout:g} s",
            hint="Check the address and the network; a firewall or a busy server is silent like this.",
        )

    async def _reach(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if self._state is LinkState.FAILED:
                assert self.last_error is not None
                raise self.last_error
            if self._state in (LinkState.STOPPING, LinkState.STOPPED):
                raise ConnectionLost(1001, "the link was stopped")
            await self._changed.wait()

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Do some work under a deadline of the link's own clock.

        Raises:
            TimeoutError: It took longer.
        """
        loop = asyncio.get_running_loop()
        tasks = loop.create_task(work), loop.create_task(self._clock.sleep(seconds))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise TimeoutError
            return tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
