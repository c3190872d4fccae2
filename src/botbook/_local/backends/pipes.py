"""File descriptors of pipes as asyncio streams."""

from __future__ import annotations

import asyncio
import os
from asyncio.streams import FlowControlMixin

__all__ = ["reader_of", "writer_of"]

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
