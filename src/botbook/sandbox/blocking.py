"""The blocking faces: one line a method."""

from __future__ import annotations

import atexit
import contextlib
import weakref
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from botbook._config import Secret
from botbook._errors import LocalProtocolError
from botbook.sandbox.client import DEFAULT_SESSION, AsyncBox
from botbook.sandbox.process import AsyncProcess
from botbook.wire.box import (
    ExecResult,
    ProcessInfo,
    SessionInfo,
)

__all__ = ["Box", "Process"]

T = TypeVar("T")

#: Longest farewell of a sandbox that was not closed, in seconds.
_END_SECONDS: Final = 3.0


class Box:
    """The blocking face of `AsyncBox`, which is `aio`; same methods, same arguments.

    Args:
        url: See `AsyncBox`.
        token: See `AsyncBox`.
        **options: See `AsyncBox`.
    """

    def __init__(self, url: str | None = None, token: str | Secret | None = None, **options: Any) -> None:
        self.aio = AsyncBox(url, token, **options)
        self._end = weakref.finalize(self, _end, self.aio)
        # By itself too: the loop, registered before, must not end before the sessions do.
        atexit.register(self._end)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.aio.home.run(work)

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self) -> str:
        """See `AsyncBox.open`."""
        return self._run(self.aio.open())

    def close(self) -> None:
        """See `AsyncBox.close`; it is also done when nobody holds this, and at the end of the process."""
        self._run(self.aio.close())
        atexit.unregister(self._end)

    def call(self, action: str, **data: Any) -> dict[str, Any]:
        """See `AsyncBox.call`."""
        return self._run(self.aio.call(action, **data))

    def create(self, session: str = DEFAULT_SESSION, **spec: Any) -> SessionInfo:
        """See `AsyncBox.create`."""
        return self._run(self.aio.create(session, **spec))

    def sessions(self) -> list[SessionInfo]:
        """See `AsyncBox.sessions`."""
        return self._run(self.aio.sessions())

    def delete(self, session: str = DEFAULT_SESSION) -> None:
        """See `AsyncBox.delete`."""
        self._run(self.aio.delete(session))

    def exec(self, cmd: str, **options: Any) -> ExecResult:
        """See `AsyncBox.exec`."""
        return self._run(self.aio.exec(cmd, **options))

    def keeps_files(self) -> bool:
        """See `AsyncBox.keeps_files`."""
        return self._run(self.aio.keeps_files())

    def start(self, command: str, args: Sequence[str] = (), **options: Any) -> Process:
        """See `AsyncBox.start`."""
        return Process(self._run(self.aio.start(command, args, **options)))

    def processes(self, session: str = DEFAULT_SESSION) -> list[ProcessInfo]:
        """See `AsyncBox.processes`."""
        return self._run(self.aio.processes(session))

    def put(self, src: str | Path | bytes, dst: str, **options: Any) -> int:
        """See `AsyncBox.put`."""
        return self._run(self.aio.put(src, dst, **options))

    def get(self, src: str, dst: str | Path | None = None, **options: Any) -> bytes:
        """See `AsyncBox.get`."""
        return self._run(self.aio.get(src, dst, **options))

    def doctor(self, *, every: bool = False) -> list[dict[str, Any]]:
        """See `AsyncBox.doctor`."""
        return self._run(self.aio.doctor(every=every))

    def skill(self, verb: str, **data: Any) -> dict[str, Any]:
        """See `AsyncBox.skill`."""
        return self._run(self.aio.skill(verb, **data))


def _end(aio: AsyncBox) -> None:
    with contextlib.suppress(Exception):
        try:
            aio.home.run(aio.close(), timeout=_END_SECONDS)
        except LocalProtocolError:  # on the loop's own thread, where nothing may wait
            aio.home.submit(aio.close())


class Process:
    """The blocking face of `AsyncProcess`, which is `aio`."""

    def __init__(self, aio: AsyncProcess) -> None:
        self.aio = aio

    def write_line(self, text: str) -> None:
        """See `AsyncProcess.write_line`."""
        self.aio.home.run(self.aio.write_line(text))

    def readline(self, *, timeout: float | None = None) -> str | None:
        """See `AsyncProcess.readline`; `timeout` in seconds raises `DeadlineExceeded`."""
        return self.aio.home.run(self.aio.readline(), timeout=timeout)

    def info(self) -> ProcessInfo:
        """See `AsyncProcess.info`."""
        return self.aio.home.run(self.aio.info())

    def stop(self) -> None:
        """See `AsyncProcess.stop`."""
        self.aio.home.run(self.aio.stop())

    def __iter__(self) -> Iterator[str]:
        while (line := self.readline()) is not None:
            yield line
