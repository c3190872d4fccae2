"""Output, lines and files as they travel (protocols/box.md 7 to 9)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["CLIP_LIMIT", "OUTPUT_LIMIT", "LineJoiner", "clip", "file_chunks", "output_text", "parses"]

#: Bytes of each stream that a runtime keeps (protocols/box.md 7).
OUTPUT_LIMIT: Final = 1_048_576
#: Characters of output that are shown; the whole stays in the result.
CLIP_LIMIT: Final = 4000
FILE_CHUNK: Final = 16_384


def output_text(data: bytes, *, discarded: int = 0, strip: bool = True) -> str:
    """A stream's bytes as they stand in a result (box.md 7).

    Args:
        data: What was kept.
        discarded: Bytes that were not.
        strip: Cut blanks at both ends, as every other runtime does.
    """
    text = data.decode("utf-8", "replace")
    text = text.strip() if strip else text
    if not discarded:
        return text
    return f"{text}\n... [raw output clipped at {len(data)} bytes, {discarded} bytes discarded]"


def clip(text: str, limit: int = CLIP_LIMIT) -> str:
    """Head (60 %) and tail (40 %) of a long text.

    Args:
        text: All of it.
        limit: Characters to keep.
    """
    if len(text) <= limit:
        return text
    head = limit * 6 // 10
    return f"{text[:head]}\n[...truncated...]\n{text[len(text) - (limit - head) :]}"


class LineJoiner:
    """Lines from relay messages, whoever sends them (box.md 8).

    A legacy runtime sends one line a message without its newline; a tenant runtime sends whatever one
    read gave; the embedded one sends whole lines with theirs.

    Args:
        framed: Each message is a line.
    """

    def __init__(self, *, framed: bool = False) -> None:
        self._framed = framed
        self._rest = ""
        self._early = False

    def feed(self, message: str) -> list[str]:
        """Take one message; gives the lines that are complete, without their newlines."""
        if self._framed:
            return [message]
        if self._early:
            self._early = False
            message = message.removeprefix("\n")
        *lines, self._rest = (self._rest + message).split("\n")
        if not lines and _is_json_container(self._rest):
            lines, self._rest, self._early = [self._rest], "", True
        return lines

    def finish(self) -> list[str]:
        """What is left when the relay closes."""
        rest, self._rest = self._rest, ""
        return [rest] if rest else []


def _is_json_container(text: str) -> bool:
    return text[:1] in ("{", "[") and text[-1:] in ("}", "]") and parses(text)


def parses(text: str) -> bool:
    """Whether a text is whole JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def file_chunks(key: str, data: bytes) -> Iterator[dict[str, Any]]:
    """Arguments of the ``__file_chunk`` calls that send a file, in order (box.md 9)."""
    total = max(1, -(-len(data) // FILE_CHUNK))
    for index in range(total):
        part = data[index * FILE_CHUNK : (index + 1) * FILE_CHUNK]
        yield {
            "file_key": key,
            "file_length": len(data),
            "chunk_base64": base64.b64encode(part).decode(),
            "chunk_index": index,
            "chunk_amount": total,
            "chunk_size": len(part),
        }
