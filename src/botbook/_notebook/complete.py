"""Tab on a ``%bot`` line: verbs, options and values, from the table of verbs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from botbook._config import profiles
from botbook._errors import CommandError
from botbook._notebook.args import find, parts, split, verbs
from botbook._notebook.commands import Part
from botbook._notebook.desk import Desk
from botbook.events import EVENT_TYPES

__all__ = ["candidates", "matcher"]

#: The line up to the cursor: an assignment may stand before a line magic.
_LINE: Final = re.compile(r"\s*(?:[\w, .\[\]'\"]+=\s*)?(?P<mark>%{1,2})bot\s+(?P<rest>.*)\Z")
_FREQUENCIES: Final = ("s", "10s", "min", "h", "D", "W", "M")

Lists = Mapping[str, Callable[[], Iterable[str]]]


def candidates(line: str, *, cell: bool, lists: Lists) -> tuple[str, list[str]]:
    """What may stand at the end of a line.

    Args:
        line: What follows ``%bot`` or ``%%bot``, up to the cursor.
        cell: Which of the two.
        lists: `Part.values` → what there is now.

    Returns:
        The piece to be replaced, and what may stand there, in order.
    """
    piece = "" if not line or line[-1].isspace() else line.split()[-1]
    try:
        words = split(line[: len(line) - len(piece)])
    except CommandError:  # inside quotes
        return piece, []
    if "=" in piece and piece.startswith("--"):
        name, _, piece = piece.partition("=")
        words.append(name)
    found = dict.fromkeys(_offers(words, cell, piece.startswith("-"), lists))
    return piece, [text for text in found if text.startswith(piece)]


def _offers(words: list[str], cell: bool, dashed: bool, lists: Lists) -> Iterator[str]:
    try:
        command, rest = find(words, cell=cell)
    except CommandError:
        command, rest = None, words
    if command is None or not command.verb:
        yield from _next_words(words, cell)
        return
    named = {part.name: part for part in parts(command) if not part.positional}
    if rest and (part := named.get(rest[-1])) and part.metavar:
        yield from _values(part, lists)
        return
    if not rest:
        yield from _next_words(words, cell)
    if not dashed:
        loose = list(_loose(rest, named))
        yield from (value for part in _slot(command, len(loose)) for value in _values(part, lists))
    yield from (name for name in named if name not in rest)
    yield "-h"


def _next_words(words: list[str], cell: bool) -> Iterator[str]:
    for verb in verbs(cell=cell):
        pieces = verb.split()
        if pieces[: len(words)] == words and len(pieces) > len(words):
            yield pieces[len(words)]
    if not words:
        yield "-h"


def _loose(words: list[str], named: Mapping[str, Part]) -> Iterator[str]:
    """The words that belong to no option."""
    queue = iter(words)
    for word in queue:
        if word in named and named[word].metavar:
            next(queue, None)
        elif not word.startswith("-"):
            yield word


def _slot(command: Any, taken: int) -> list[Part]:
    """The argument that comes next."""
    return [part for part in parts(command) if part.positional][taken : taken + 1]


def _values(part: Part, lists: Lists) -> Iterable[str]:
    if part.choices:
        return part.choices
    with suppress(Exception):  # a list that cannot be had must not break the Tab key
        return list(lists[part.values]()) if part.values else ()
    return ()


def matcher(desk: Desk) -> Any:
    """The matcher for IPython's completer; None where that is too old for it."""
    try:
        from IPython.core.completer import SimpleCompletion, context_matcher
    except ImportError:
        return None
    lists = _lists(desk)

    @context_matcher()  # type: ignore[untyped-decorator]
    def bot_matcher(context: Any) -> dict[str, Any]:
        """Verbs, options and values of ``%bot``."""
        found = _LINE.match(context.text_until_cursor)
        if found is None or (found["mark"] == "%%" and context.cursor_line > 0):
            return {"completions": []}
        piece, texts = candidates(found["rest"], cell=found["mark"] == "%%", lists=lists)
        return {
            "completions": [SimpleCompletion(text, type="magic") for text in texts],
            "suppress": True,
            "matched_fragment": piece,
            "ordered": True,
        }

    return bot_matcher


def _lists(desk: Desk) -> Lists:
    return {
        "bots": lambda: desk.bots,
        "chats": lambda: _chats(desk),
        "faults": _faults,
        "frequencies": lambda: _FREQUENCIES,
        "gateways": _gateways,
        "handlers": lambda: desk.bot().handlers()["name"],
        "metrics": _metrics,
        "patterns": _patterns,
        "profiles": profiles,
        "scenarios": _scenarios,
        "sessions": lambda: desk.boxes.sessions(),
    }


def _patterns() -> Iterator[str]:
    yield from EVENT_TYPES
    yield from dict.fromkeys(f"{name.split('.')[0]}.*" for name in EVENT_TYPES)
    yield "*"


def _chats(desk: Desk) -> Iterable[str]:
    """Chats of the last events, newest first."""
    return [chat for chat in reversed(desk.bot().events(limit=200)["chat_id"].unique()) if chat]


def _faults() -> Iterable[str]:
    from botbook._local.faults import FAULTS

    return FAULTS


def _scenarios() -> Iterable[str]:
    from botbook._local.persona import SCENARIOS

    return SCENARIOS


def _gateways() -> Iterable[str]:
    from botbook._gateways import GATEWAYS

    return GATEWAYS


def _metrics() -> Iterable[str]:
    from botbook import metrics, plots
    from botbook._notebook.figures import metric_names

    return metric_names(metrics, plots)
