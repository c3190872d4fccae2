"""Running things in a cell: a command to its end, or a managed process until it is stopped."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from botbook._errors import SandboxError
from botbook._local.backends.base import Child
from botbook.wire.box import ProcessInfo, ProcessSpec, output_text

__all__ = ["Managed", "Outcome", "Stream", "collect", "tree_bytes"]

#: How long the pipes of an ended command are listened to, in seconds; what it left behind may hold them open.
_LINGER: Final = 0.25
#: What an entry of a directory counts besides its content, in bytes: empty files are not free.
_ENTRY: Final = 1024
#: How often a watched directory is measured, in seconds.
_MEASURE: Final = 0.2
_PIECE: Final = 65_536
#: Characters of stderr that are kept of a managed process (protocols/box.md 6).
_PREVIEW: Final = 4000
#: A line that is longer goes out in parts.
_LONGEST_LINE: Final = 1 << 20
#: A managed process that was asked to end has this long, in seconds (protocols/box.md 8).
_GRACE: Final = 5.0

OnOutput = Callable[[str, str], Awaitable[None]]


@dataclass(slots=True)
class Stream:
    """What one pipe gave.

    Attributes:
        limit: Bytes that are kept.
        data: The first of them.
        total: How many there were.
    """

    limit: int
    data: bytearray = field(default_factory=bytearray)
    total: int = 0

    def add(self, piece: bytes) -> bytes:
        """Take a piece; gives the part that was kept."""
        kept = piece[: max(0, self.limit - len(self.data))]
        self.data += kept
        self.total += len(piece)
        return kept

    def text(self, *, strip: bool) -> str:
        """As it stands in a result."""
        return output_text(bytes(self.data), discarded=self.total - len(self.data), strip=strip)


@dataclass(slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        exit_code: None when its time was up.
        stdout: Its output.
        stderr: Its other output.
        seconds: How long it took.
        note: Why it was ended early, or "".
    """

    exit_code: int | None
    stdout: Stream
    stderr: Stream
    seconds: float
    note: str = ""


async def collect(
    child: Child,
    *,
    timeout: float,
    limit: int,
    stdin: bytes = b"",
    on_output: OnOutput | None = None,
    watched: Sequence[str] = (),
    quota: int = 0,
) -> Outcome:
    """Wait for a command and its output. Cancelled, it ends the command first.

    Args:
        child: The command.
        timeout: Longest run, in seconds.
        limit: Bytes of each stream to keep.
        stdin: What it is given to read.
        on_output: Called with ``stdout`` or ``stderr`` and each piece of text while it runs.
        watched: Directories that nothing else limits.
        quota: What they may hold together, in bytes.
    """
    out, err = Stream(limit), Stream(limit)
    began = time.monotonic()
    pumps = [
        asyncio.ensure_future(_pump(child.stdout, out, "stdout", on_output)),
        asyncio.ensure_future(_pump(child.stderr, err, "stderr", on_output)),
    ]
    feeding = asyncio.ensure_future(_feed(child, stdin))
    watching = asyncio.ensure_future(_watch(child, watched, quota))
    code: int | None = None
    try:
        async with asyncio.timeout(timeout):
            code = await child.wait()
            await asyncio.wait(pumps, timeout=_LINGER)
    except TimeoutError:
        code = None
    finally:
        if code is None:
            await child.kill()
            await asyncio.wait(pumps, timeout=_LINGER)
        over = watching.done() and not watching.cancelled() and watching.exception() is None
        await _drop(*pumps, feeding, watching)
        child.close()
    note = "Killed: out of memory." if child.out_of_memory else ""
    note = f"Killed: more than {quota >> 20} MiB in the workspace." if over else note
    return Outcome(code, out, err, time.monotonic() - began, note)


async def _pump(source: asyncio.StreamReader, into: Stream, name: str, on_output: OnOutput | None) -> None:
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    while piece := await source.read(_PIECE):
        kept = into.add(piece)
        if on_output is not None and (text := decode(kept)):
            await on_output(name, text)


async def _feed(child: Child, data: bytes) -> None:
    if child.stdin is None:
        return
    with contextlib.suppress(ConnectionError):
        child.stdin.write(data)
        await child.stdin.drain()
    child.stdin.close()


async def _watch(child: Child, roots: Sequence[str], quota: int) -> None:
    """End what makes directories larger than they may be; done when that was needed."""
    if not roots or not quota:
        await asyncio.get_running_loop().create_future()

    def size(most: int) -> int:
        return sum(tree_bytes(root, most=most) for root in roots)

    most = max(quota, await asyncio.to_thread(size, 1 << 62))
    while await asyncio.to_thread(size, most) <= most:  # noqa: ASYNC110 (a directory gives no event)
        await asyncio.sleep(_MEASURE)
    await child.kill()


async def _drop(*tasks: asyncio.Future[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Managed:
    """A long-lived program and its relay.

    Args:
        session: Name of its session.
        spec: What it is.
        child: The program.
        now: Gives the time as text.
        watched: Directories that nothing else limits.
        quota: What they may hold together, in bytes.
    """

    def __init__(
        self,
        session: str,
        spec: ProcessSpec,
        child: Child,
        now: Callable[[], str],
        *,
        watched: Sequence[str] = (),
        quota: int = 0,
    ) -> None:
        self.spec = spec
        self.relaying = asyncio.Lock()
        self.exit_code: int | None = None
        self.attached = False
        self._session, self._child, self._now = session, child, now
        self._started_at = now()
        self._exited_at: str | None = None
        self._errors = ""
        self._pending = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._tasks = [
            asyncio.ensure_future(self._watch()),
            asyncio.ensure_future(self._keep_errors()),
            asyncio.ensure_future(_watch(child, watched, quota)),
        ]

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._exited_at is None

    def info(self) -> ProcessInfo:
        """As it is listed."""
        return ProcessInfo(
            session_id=self._session,
            process_id=self.spec.process_id,
            status="running" if self.running else "exited",
            command=self.spec.command,
            args=self.spec.args,
            cwd=self.spec.cwd,
            env_keys=tuple(sorted(self.spec.env)),
            attached=self.attached,
            started_at=self._started_at,
            exited_at=self._exited_at,
            exit_code=self.exit_code,
            stderr_preview=self._errors.strip(),
        )

    async def _watch(self) -> None:
        try:
            self.exit_code = await self._child.wait()
        except SandboxError as error:
            self.exit_code, self._errors = 126, str(error)
        self._exited_at = self._now()

    async def _keep_errors(self) -> None:
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while piece := await self._child.stderr.read(_PIECE):
            self._errors = (self._errors + decode(piece))[-_PREVIEW:]

    async def write_line(self, text: str) -> None:
        """Give it a line; the newline is added."""
        if self._child.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self._child.stdin.write(text.encode("utf-8", "surrogateescape") + b"\n")
                await self._child.stdin.drain()

    async def lines(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Hand over its output, a whole line at a time with its newline, until it ends.

        What could not be sent is kept for the next who attaches.
        """
        while True:
            while line := self._next_line():
                await send(line)
                self._pending = self._pending[len(line) :]
            piece = await self._child.stdout.read(_PIECE)
            self._pending += self._decode(piece, final=not piece)
            if not piece:
                break
        while line := self._pending[:_LONGEST_LINE]:
            await send(line)
            self._pending = self._pending[len(line) :]

    def _next_line(self) -> str:
        at = self._pending.find("\n", 0, _LONGEST_LINE)
        if at >= 0:
            return self._pending[: at + 1]
        return self._pending[:_LONGEST_LINE] if len(self._pending) >= _LONGEST_LINE else ""

    async def stop(self, *, grace: float = _GRACE) -> None:
        """Close its input, ask it to end, and end it with all that it started.

        Args:
            grace: How long it has, in seconds.
        """
        if self._child.stdin is not None:
            self._child.stdin.close()
        if self.running and grace:
            self._child.terminate()
            await asyncio.wait(self._tasks[:1], timeout=grace)
        await self._child.kill()
        await asyncio.wait(self._tasks[:2], timeout=_LINGER)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._child.close()


def tree_bytes(root: str, *, most: int) -> int:
    """Room that a directory takes, in bytes; it stops counting when it is more than `most`."""
    total, todo = 0, [root]
    while todo and total <= most:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                    total += _ENTRY
    return total
