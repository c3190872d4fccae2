"""What the embedded agent does with a question: the steps of an answer, from scripted personas."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from botbook._local.replies import pieces, reply
from botbook.wire.agent_frames import (
    CUSTOM_UPDATE,
    ERROR,
    MAIN,
    SEND_FILE,
    TEXT_CHUNK,
    TOOL_CALL_CHUNK,
    TOOL_RESULT,
    Question,
    encode,
)

__all__ = ["FILES", "PERSONAS", "SLOW_SECONDS", "Step", "steps"]

#: Between two pieces, in seconds of life; and where the question asks for slowness.
PIECE_SECONDS: Final = 0.03
SLOW_SECONDS: Final = 0.3

#: Longest piece of tool arguments.
_ARGS_CHARS: Final = 12

#: Length of the answer to a question that asks for 60 kB.
_HUGE_CHARS: Final = 60_000


#: What the embedded agent's workspace holds, by path.
FILES: Final[dict[str, bytes]] = {
    "reports/report.md": b"# Report\n\n| week | users |\n| --- | --: |\n| 1 | 61 |\n| 2 | 44 |\n",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One frame of an answer.

    Attributes:
        frame: What to send.
        after: Seconds of life before it.
        words: Text of the answer in it, for the count of tokens.
        ends: The answer ends with it; otherwise an end follows the last step.
    """

    frame: str
    after: float = 0.0
    words: str = ""
    ends: bool = False


def _text(text: str, *, source: str = MAIN, after: float = PIECE_SECONDS) -> Iterator[Step]:
    for piece in pieces(text):
        words = piece if source == MAIN else ""
        yield Step(encode(TEXT_CHUNK, text=piece, source=source), after, words)


def _call(tool: str, arguments: str, *, source: str = MAIN) -> Iterator[Step]:
    """A call as a model writes it: the name once, the arguments in pieces."""
    name: str | None = tool
    for start in range(0, max(len(arguments), 1), _ARGS_CHARS):
        piece = arguments[start : start + _ARGS_CHARS]
        yield Step(encode(TOOL_CALL_CHUNK, tool_name=name, args_chunk=piece, source=source), PIECE_SECONDS)
        name = None


def _tool(tool: str, arguments: dict[str, Any], result: Any) -> Iterator[Step]:
    yield from _call(tool, json.dumps(arguments, ensure_ascii=False))
    yield Step(encode(TOOL_RESULT, tool_name=tool, result=result, source=MAIN), 0.2)


def _update(**payload: Any) -> Step:
    return Step(encode(CUSTOM_UPDATE, payload=payload, source=MAIN), 0.1)


# ---------------------------------------------------------------------------- scripts


def _search(asked: Question) -> Iterator[Step]:
    """Looks something up, then answers."""
    words = " ".join(asked.text.split()[-4:])
    found = [{"title": f"Notes on {words}", "score": 0.92}, {"title": "An older page", "score": 0.4}]
    yield from _text("Let me look that up. ")
    yield from _tool("search", {"query": words, "limit": 2}, found)
    yield from _text(f"I found {len(found)} pages. " + reply(asked.text))


def _report(asked: Question) -> Iterator[Step]:
    """Works on something for a while, tells how far it is, and gives a file."""
    yield from _text("I am writing the report. ")
    yield from _call("write_file", json.dumps({"path": "reports/report.md", "rows": 120}))
    for done in (0.25, 0.5, 0.75, 1.0):
        yield _update(status="writing", progress=done)
    yield Step(encode(TOOL_RESULT, tool_name="write_file", result="120 rows written", source=MAIN), 0.1)
    yield Step(encode(SEND_FILE, path="reports/report.md"))
    yield from _text("Here it is: `reports/report.md`.")


def _delegate(asked: Question) -> Iterator[Step]:
    """Lets a sub-agent speak before it answers itself."""
    yield from _call("delegate", json.dumps({"to": "researcher"}))
    yield from _text("Reading two papers.", source="tools:researcher")
    yield Step(encode(TOOL_RESULT, tool_name="delegate", result={"papers": 2}, source=MAIN), 0.1)
    yield from _text("My colleague read two papers. " + reply(asked.text))


def _fail(asked: Question) -> Iterator[Step]:
    """Begins, and breaks off."""
    yield from _text("I will try. ")
    yield Step(encode(ERROR, code="LLM_UNAVAILABLE", details="the model does not answer"), 0.1, ends=True)


def _tool_fails(asked: Question) -> Iterator[Step]:
    """A tool fails, and the answer says so."""
    yield from _tool("fetch", {"url": "https://example.org"}, {"error": "timed out"})
    yield from _text("The page did not answer in time.")


def _bad_arguments(asked: Question) -> Iterator[Step]:
    """Writes tool arguments that are no JSON."""
    yield from _call("search", '{"query": "cats", ')
    yield Step(encode(TOOL_RESULT, tool_name="search", result="bad arguments", source=MAIN))
    yield from _text("I got my own tool wrong.")


def _escape(asked: Question) -> Iterator[Step]:
    """Gives a file that lies outside its workspace."""
    yield Step(encode(SEND_FILE, path="../../etc/passwd"))
    yield from _text("I should not have sent that.")


def _slow(asked: Question) -> Iterator[Step]:
    yield from _text(reply(asked.text), after=SLOW_SECONDS)


def _huge(asked: Question) -> Iterator[Step]:
    """A very long answer, without pauses."""
    line = "| row | value |\n"
    yield from _text(line * (_HUGE_CHARS // len(line)), after=0.0)


def _plain(asked: Question) -> Iterator[Step]:
    yield from _text(reply(asked.text))


Script = Callable[[Question], Iterator[Step]]

#: Words of a question → what the helper does; the first that fits.
_HELPER: Final[tuple[tuple[re.Pattern[str], Script], ...]] = tuple(
    (re.compile(words, re.I), script)
    for words, script in (
        (r"\b(boom|fail|break)\b", _fail),
        (r"\btool error\b", _tool_fails),
        (r"\bbad (args|arguments)\b", _bad_arguments),
        (r"\bescape\b", _escape),
        (r"\b60 ?kb\b", _huge),
        (r"\bslow(ly)?\b", _slow),
        (r"\b(search|look up|find)\b", _search),
        (r"\b(report|file|export)\b", _report),
        (r"\b(delegate|colleague|research)\b", _delegate),
    )
)


def _helper(asked: Question) -> Iterator[Step]:
    """Does what the words of the question ask for."""
    script = next((script for words, script in _HELPER if words.search(asked.text)), _plain)
    if asked.attachments:
        yield from _text(f"Thank you for {', '.join(asked.attachments)}. ")
    yield from script(asked)


def _echo(asked: Question) -> Iterator[Step]:
    """Says the question again, in one piece."""
    yield Step(encode(TEXT_CHUNK, text=asked.text, source=MAIN), 0.0, asked.text)


#: Every persona, by name.
PERSONAS: Final[dict[str, Script]] = {
    "analyst": _report,
    "clumsy": _bad_arguments,
    "echo": _echo,
    "helper": _helper,
    "searcher": _search,
}


def steps(persona: str, asked: Question) -> Iterator[Step]:
    """The steps of an answer.

    Args:
        persona: One of `PERSONAS`.
        asked: The question.
    """
    return PERSONAS[persona](asked)
