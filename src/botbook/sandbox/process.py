"""A managed process, seen through its relay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from botbook._errors import ConnectionLost
from botbook._net.loop import LoopThread
from botbook._net.transport import Transport
from botbook.sandbox.link import at_home
from botbook.wire.box import LineJoiner, ProcessInfo

__all__ = ["AsyncProcess"]


class AsyncProcess:
    """A managed process and its relay; made by `AsyncBox.start`.

    Args:
        session: Its session.
        process: Its name.
        home: Loop of the sockets.
        call: Asks the runtime.
        relay: Opens its relay.
    """

    def __init__(
        self,
        session: str,
        process: str,
        *,
        home: LoopThread,
        call: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
        relay: Callable[[], Awaitable[tuple[Transport, LineJoiner]]],
    ) -> None:
        self.session, self.process, self.home = session, process, home
        self._call, self._relay = call, relay
        self._transport: Transport | None = None
        self._joiner = LineJoiner()
        self._lines: list[str] = []
        self._ended = False

    async def attach(self) -> None:
        """Open the relay; on the loop of the sockets."""
        self._transport, self._joiner = await self._relay()

    @at_home
    async def write_line(self, text: str) -> None:
        """Give it a line; the newline is added.

        Raises:
            ConnectionLost: It has ended.
        """
        if self._transport is None:
            raise ConnectionLost(1000, "the process has ended")
        await self._transport.send(text)

    @at_home
    async def readline(self) -> str | None:
        """Its next line of output without the newline, or None when there will be no more."""
        while not self._lines and not self._ended:
            await self._more()
        return self._lines.pop(0) if self._lines else None

    async def _more(self) -> None:
        assert self._transport is not None
        try:
            for frame in await self._transport.receive():
                if isinstance(frame, str):
                    self._lines += self._joiner.feed(frame)
        except ConnectionLost as error:
            self._lines += self._joiner.finish()
            if error.code == 1000 or (await self._info()).status == "exited":
                self._ended = True
            else:  # the line broke, not the process
                await self.attach()

    async def _info(self) -> ProcessInfo:
        return ProcessInfo.from_json(await self._call("box_get_managed_process", self._who))

    @property
    def _who(self) -> dict[str, Any]:
        return {"session_id": self.session, "process_id": self.process}

    @at_home
    async def info(self) -> ProcessInfo:
        """How it is, or how it ended."""
        return await self._info()

    @at_home
    async def stop(self) -> None:
        """End it with all that it started, and forget it."""
        await self._call("box_stop_managed_process", self._who)
        if self._transport is not None:
            await self._transport.close()
        self._ended = True

    async def __aiter__(self) -> AsyncIterator[str]:
        while (line := await self.readline()) is not None:
            yield line
