"""A command's output as it is shown: head and tail, both streams told apart, nothing that a terminal obeys.

Pure but for a lock, as `render`: what comes in on one thread is drawn on another.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from html import escape
from itertools import groupby
from typing import Final

from botbook._notebook.render import View, box, clean, page

__all__ = ["Screen", "terminal_text"]

#: Characters of the output's beginning and end that are shown; the result has all.
HEAD: Final = 2_400
TAIL: Final = 1_600
GAP: Final = "gap"
ERRORS: Final = "stderr"

#: Colours, titles and other orders to a terminal, whole or cut off at the end.
_ORDER: Final = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]{0,2048}(?:\x07|\x1b\\)?|[PX^_][^\x1b\n]{0,2048}(?:\x1b\\)?"
    r"|[ -/]*[0-Z\\`-~]|(?:\[[0-?]*[ -/]*)?\Z)"
)
_ROWS: Final = "display:flex;flex-direction:column-reverse;max-height:34em;overflow-y:auto"
_BAR: Final = "border-left:3px solid var(--jp-error-color1,var(--vscode-errorForeground,currentColor))"

Piece = tuple[str, str]


def terminal_text(text: str) -> str:
    """What a terminal would show of a text: no colours, and of a line that was overwritten its last state."""
    lines = _ORDER.sub("", text.replace("\r\n", "\n")).split("\n")
    return clean("\n".join(_last_state(line) for line in lines))


def _last_state(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part), "")


class Screen:
    """What a command writes, from its start to its end.

    Args:
        session: Where it runs.
        clock: Seconds that only grow.
    """

    def __init__(self, session: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._session, self._clock = session, clock
        self._began = clock()
        self._lock = threading.Lock()
        self._head: list[Piece] = []
        self._room = HEAD
        self._tail: deque[Piece] = deque()
        self._tail_length = 0
        self._left_out = 0
        self._end = ""

    def take(self, stream: str, text: str) -> None:
        """More output. Any thread."""
        with self._lock:
            if first := text[: self._room]:
                self._head.append((stream, first))
            rest = text[self._room :]
            self._room -= len(first)
            if rest:
                self._keep_last(stream, rest)

    def _keep_last(self, stream: str, text: str) -> None:
        self._left_out += max(0, len(text) - TAIL)
        self._tail.append((stream, text[-TAIL:]))
        self._tail_length += len(self._tail[-1][1])
        while self._tail_length - len(self._tail[0][1]) >= TAIL:
            gone = len(self._tail.popleft()[1])
            self._tail_length -= gone
            self._left_out += gone

    def end(self, words: str) -> None:
        """It has ended, or nobody waits for it any more.

        Args:
            words: How, such as "exit code 0 · 0.02 s".
        """
        with self._lock:
            self._end = words

    def view(self) -> View:
        """All of it, as far as it has come."""
        with self._lock:
            pieces, end = self._pieces(), self._end
        blocks = [
            (kind, terminal_text("".join(text for _, text in run)).removesuffix("\n"))
            for kind, run in groupby(pieces, key=lambda piece: piece[0])
        ]
        blocks = [(kind, text) for kind, text in blocks if text]
        foot = self._foot(end, marked=any(kind == ERRORS for kind, _ in blocks))
        return View(_html(blocks, foot), _markdown(blocks, foot), _plain(blocks, foot))

    def _pieces(self) -> list[Piece]:
        gap = f"[… {self._left_out:,} characters …]"
        return [*self._head, *([(GAP, gap)] if self._left_out else []), *self._tail]

    def _foot(self, end: str, *, marked: bool) -> str:
        running = f"running, {self._clock() - self._began:.0f} s · the stop button ends it"
        words = [f"sandbox {clean(self._session)}", end or running]
        words += [f"{self._left_out:,} characters not shown, the result has all"] if self._left_out else []
        return " · ".join([*words, "behind a bar: stderr"] if marked else words)


def _html(blocks: list[Piece], foot: str) -> str:
    rows = "".join(_block(kind, text) for kind, text in blocks)
    scrolled = f'<div style="{_ROWS}"><div>{rows}</div></div>' if rows else ""
    return box(f"{scrolled}<p><small>{escape(foot)}</small></p>")


def _block(kind: str, text: str) -> str:
    if kind == GAP:
        return f"<p><small>{escape(text)}</small></p>"
    marked = f' style="{_BAR};padding-left:.7em" aria-label="stderr"' if kind == ERRORS else ""
    return f"<pre{marked}>{escape(text)}</pre>"


def _markdown(blocks: list[Piece], foot: str) -> str:
    parts = [f"*stderr*\n\n{page(text).markdown}" if kind == ERRORS else page(text).markdown
             for kind, text in blocks]  # fmt: skip
    return "\n\n".join([*parts, f"*{foot}*"])


def _plain(blocks: list[Piece], foot: str) -> str:
    parts = [
        "\n".join(f"stderr: {line}" for line in text.split("\n")) if kind == ERRORS else text
        for kind, text in blocks
    ]
    return "\n".join([*parts, foot.removesuffix(" · behind a bar: stderr")])
