"""File descriptors of pipes as asyncio streams."""

from __future__ import annotations

import asyncio
import os
from asyncio.streams import FlowControlMixin

__all__ = ["Streams", "reader_of", "writer_of"]

#: Bytes that wait here before the sandbox has to.
_LIMIT = 256 * 1024


async def reader_of(fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    """A stream over the read end of a pipe, which it now owns; close the transport to let go."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LIMIT, loop=loop)
    file = os.fdopen(fd, "rb", 0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), file)
    return reader, transport


async def writer_of(fd: int) -> asyncio.StreamWriter:
    """A stream over the write end of a pipe, which it now owns."""
    loop = asyncio.get_running_loop()
    file = os.fdopen(fd, "wb", 0)
    transport, protocol = await loop.connect_write_pipe(lambda: FlowControlMixin(loop=loop), file)
    return asyncio.StreamWriter(transport, protocol, None, loop)


class Streams:
    """The pipes of a command that is started here.

    Args:
        stdin: Whether it gets input; else it reads nothing.
        owner: The user whose the pipes are, or /dev/stdout could not be opened inside; None for ourselves.

    Attributes:
        theirs: The command's ends: stdin, stdout, stderr.
    """

    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    def __init__(self, *, stdin: bool, owner: int | None) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self._transports: list[asyncio.BaseTransport] = []
        out, err = os.pipe(), os.pipe()
        read, write = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        self.theirs = (read, out[1], err[1])
        self._ours = (write, out[0], err[0])
        if owner is not None:
            for fd in self.theirs if stdin else self.theirs[1:]:
                os.fchown(fd, owner, owner)

    def started(self) -> None:
        """The command has its ends, or will not need them."""
        for fd in self.theirs:
            os.close(fd)

    def drop(self) -> None:
        """It did not start."""
        for fd in self._ours:
            if fd >= 0:
                os.close(fd)

    async def open(self) -> None:
        """Make streams of our ends."""
        write, out, err = self._ours
        self.stdout, first = await reader_of(out)
        self.stderr, second = await reader_of(err)
        self._transports += [first, second]
        if write >= 0:
            self.stdin = await writer_of(write)

    def close(self) -> None:
        """Let go of our ends."""
        for transport in self._transports:
            transport.close()
        if self.stdin is not None:
            self.stdin.close()
