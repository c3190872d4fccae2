"""An agent's answer as it is shown: markdown made safe, thinking and tool calls folded where they came.

Pure, as `render`, whose colours it shares: all of them are the host's own, so that the answer is
at home on light and on dark paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any, Final

from botbook._notebook.markdown import Growing, safe_html
from botbook._notebook.render import View, box, clean

if TYPE_CHECKING:
    from botbook._asking import Asked

__all__ = ["Drawing", "answer_view"]

#: Characters of a tool's arguments or result that are shown; the whole is in `.tools`.
SHOWN: Final = 4_000
#: And of them on its one line while it is folded.
GLIMPSE: Final = 72
#: Kinds of progress that are shown, newest last.
STEPS: Final = 3
#: Characters of a coming answer in its plain twin; the last one has all of it.
TAIL: Final = 2_000

_THOUGHT: Final = re.compile(r"<think(?:ing)?>(.*?)(?:</think(?:ing)?>\s*|\Z)", re.S | re.I)
_PICTURE: Final = re.compile(r"!(?=\[)")

#: Ink of the host in several strengths; the class stands twice so that these rules win over the host's.
_FAINT: Final = "color-mix(in srgb,currentColor 7%,transparent)"
_LINE: Final = "color-mix(in srgb,currentColor 22%,transparent)"
_AT: Final = ".botbook.botbook .answer"
_STYLE: Final = (
    f"{_AT}{{line-height:1.55;font-size:var(--jp-content-font-size1,14px)}}"
    f"{_AT} .text>p,{_AT} .text>ul,{_AT} .text>ol,{_AT} .text>blockquote{{max-width:46em;margin:.55em 0}}"
    f"{_AT} .text li{{margin:.2em 0}}{_AT} .text li>p{{margin:.2em 0}}"
    f"{_AT} .text ul,{_AT} .text ol{{padding-left:1.6em}}"
    f"{_AT} h1,{_AT} h2,{_AT} h3,{_AT} h4,{_AT} h5,{_AT} h6"
    "{font-weight:600;line-height:1.3;margin:.9em 0 .35em;color:inherit}"
    f"{_AT} h1{{font-size:1.3em}}{_AT} h2{{font-size:1.18em}}{_AT} h3{{font-size:1.08em}}"
    f"{_AT} h4,{_AT} h5,{_AT} h6{{font-size:1em}}"
    f"{_AT} code{{background:{_FAINT};color:inherit;padding:.08em .3em;border-radius:3px;font-size:.93em}}"
    f"{_AT} pre{{background:{_FAINT};padding:8px 10px;border-radius:4px;overflow-x:auto;line-height:1.45;"
    "font-size:.93em;margin:.55em 0}"
    f"{_AT} .text pre{{white-space:pre}}{_AT} pre code{{background:none;padding:0;font-size:1em}}"
    f"{_AT} blockquote{{border-left:3px solid {_LINE};padding:0 0 0 .9em;margin-left:0;color:inherit}}"
    f"{_AT} hr{{border:0;border-top:1px solid {_LINE};margin:1em 0}}"
    f"{_AT} a{{color:var(--jp-content-link-color,var(--vscode-textLink-foreground,LinkText))}}"
    f"{_AT} details{{border-left:3px solid {_LINE};padding:1px 0 1px .8em;margin:.55em 0}}"
    f"{_AT} summary{{cursor:pointer;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}}"
    f"{_AT} .soft{{opacity:.72}}{_AT} .label{{opacity:.72;font-size:.9em;margin:.5em 0 0}}"
    f"{_AT} .step{{display:flex;align-items:center;gap:.8em;margin:.3em 0}}"
    f"{_AT} .news{{min-width:6em}}"
    f"{_AT} progress{{width:14em;height:.6em;accent-color:var(--jp-brand-color1,auto)}}"
    f"{_AT} .failed{{border-left:3px solid var(--jp-error-color1,var(--vscode-errorForeground,currentColor));"
    "padding:.2em 0 .2em .8em;margin:.7em 0}"
    f"{_AT} .foot{{opacity:.72;font-size:.9em;margin:.7em 0 .1em;"
    "font-variant-numeric:tabular-nums}"
)

#: Makes HTML of a piece of text: (after which tool, after which thought, text).
_Render = Callable[[int, int, str], str]


class Drawing:
    """Views of one answer while it comes in; only what is new is made anew.

    Args:
        asked: The answer.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._growing: dict[tuple[int, int], Growing] = {}

    def view(self) -> View:
        """As far as it has come; the twins of HTML are short until it is over."""
        asked = self._asked
        if asked.done:
            return answer_view(asked)
        plain = clean(asked.text[-TAIL:]) or _footer(asked)
        return View(_page(asked, self._grown), "", plain)

    def _grown(self, part: int, number: int, text: str) -> str:
        return self._growing.setdefault((part, number), Growing()).html(text)


def answer_view(asked: Asked, links: Mapping[str, str] = {}) -> View:
    """An answer as far as it has come.

    Args:
        asked: The answer.
        links: Where the contents of its files are, as far as they can be had: path → ``data:`` address.
    """
    html = _page(asked, lambda part, number, text: safe_html(text), links)
    return View(html, _markdown(asked), _plain(asked))


# -- HTML -----------------------------------------------------------------------------------------


def _page(asked: Asked, render: _Render, links: Mapping[str, str] = {}) -> str:
    inner = "".join(
        [
            *_told(asked, render),
            *(_voice(name, text) for name, text in list(asked.voices.items())),
            _progress(asked),
            _files(asked.files, links),
            _failed(asked),
            f'<div class="foot">{escape(_footer(asked))}</div>',
        ]
    )
    return box(f'<style>{_STYLE}</style><div class="answer">{inner}</div>')


def _told(asked: Asked, render: _Render) -> Iterator[str]:
    """Text and tool calls, in the order in which they came."""
    text, before = asked.text, 0
    tools = list(zip(list(asked.tools), asked.places, strict=False))
    for part, (tool, place) in enumerate([*tools, (None, len(text))]):
        yield _text(text[before:place], partial(render, part))
        if tool is not None:
            yield _tool(tool)
        before = max(before, place)


def _text(text: str, render: Callable[[int, str], str]) -> str:
    """A stretch of text, in which thinking aloud is folded."""
    parts, after = [], 0
    for number, thought in enumerate(_THOUGHT.finditer(text)):
        parts.append(_words(render(number, text[after : thought.start()])))
        parts.append(_fold("Thinking", f"{len(thought[1]):,} characters", f"<pre>{_cut(thought[1])}</pre>"))
        after = thought.end()
    return "".join([*parts, _words(render(len(parts), text[after:]))])


def _words(html: str) -> str:
    return f'<div class="text">{html}</div>' if html.strip() else ""


def _fold(title: str, glimpse: str, body: str, state: str = "") -> str:
    words = " · ".join(word for word in (glimpse, state) if word)
    soft = f' <span class="soft">{escape(clean(words))}</span>' if words else ""
    return f"<details><summary><b>{escape(clean(title))}</b>{soft}</summary>{body}</details>"


def _tool(tool: dict[str, Any]) -> str:
    body = ""
    if tool["arguments"] not in (None, ""):
        body += f'<div class="label">Arguments</div><pre>{_cut(tool["arguments"])}</pre>'
    if tool["result"] is not None:
        body += f'<div class="label">Result</div><pre>{_cut(tool["result"])}</pre>'
    return _fold(_tool_name(tool), _glimpse(tool["arguments"]), body, _tool_state(tool))


def _tool_name(tool: dict[str, Any]) -> str:
    return tool["name"] or "a tool without a name"


def _tool_state(tool: dict[str, Any]) -> str:
    if tool["error"]:
        return "failed: " + " ".join(tool["error"].split())[:GLIMPSE]
    return "running …" if tool["result"] is None else "done"


def _glimpse(arguments: Any) -> str:
    """Arguments on one line."""
    if isinstance(arguments, dict):
        words = ", ".join(f"{key}: {_short(value)}" for key, value in arguments.items())
    else:
        words = _short(arguments) if arguments is not None else ""
    words = " ".join(words.split())
    return words if len(words) <= GLIMPSE else words[: GLIMPSE - 1] + "…"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _voice(name: str, text: str) -> str:
    return _fold(name.removeprefix("tools:"), f"said {len(text):,} characters", f"<pre>{_cut(text)}</pre>")


def _progress(asked: Asked) -> str:
    """How far the work is: the newest of each kind of news."""
    if asked.done:
        return ""
    newest = dict(list(asked.progress))
    rows = []
    for text, share in list(newest.items())[-STEPS:]:
        name = escape(clean(text)[:GLIMPSE])
        bar = (
            f'<progress max="1" value="{share:.3f}"></progress><span>{share:.0%}</span>'
            if share is not None
            else ""
        )
        rows.append(f'<div class="step"><span class="news">{name or "working"}</span>{bar}</div>')
    return "".join(rows)


def _files(paths: list[str], links: Mapping[str, str]) -> str:
    return "".join(
        f'<div class="step"><span class="soft">File</span>{_file(path, links.get(path, ""))}</div>'
        for path in paths
    )


def _file(path: str, link: str) -> str:
    name = f"<code>{escape(clean(path))}</code>"
    if not link:
        return f'{name}<span class="soft">in the agent\'s workspace</span>'
    title = escape(clean(path).rpartition("/")[2])
    return f'<a download="{title}" href="{escape(link)}">{name}</a>'


def _failed(asked: Asked) -> str:
    if not asked.error:
        return ""
    kept = " What had arrived is above." if asked.text or asked.tools else ""
    return f'<div class="failed">{escape(_why(asked))}{kept}</div>'


def _why(asked: Asked) -> str:
    code, _, words = clean(asked.error).partition(": ")
    if code == "cancelled":
        return "Stopped."
    return f"Not finished: {words[:400] or code}" + (f" ({code})." if words else ".")


def _footer(asked: Asked) -> str:
    if not asked.done:
        length = f"{len(asked.text):,} characters so far; " if asked.text else ""
        return f"… {length}the stop button stops the answer"
    words = [f"{asked.seconds or 0:.1f} s"]
    if asked.tokens is not None:
        words.append(_counted(asked.tokens, "token"))
    if asked.tools:
        words.append(_counted(len(asked.tools), "tool call"))
    return " · ".join(words)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(value: Any) -> str:
    """A value for reading, as HTML."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
    more = f"\n… {len(text) - SHOWN:,} more characters" if len(text) > SHOWN else ""
    return escape(clean(text[:SHOWN]) + more)


# -- twins ----------------------------------------------------------------------------------------


def _lines(asked: Asked) -> list[str]:
    """What is not text, in words."""
    tools = [
        f"{_tool_name(tool)}: {_glimpse(tool['arguments'])}: {_tool_state(tool)}" for tool in asked.tools
    ]
    return [
        clean(line)
        for line in (*(f"Tool {tool}" for tool in tools), *(f"File {path}" for path in asked.files))
    ]


def _markdown(asked: Asked) -> str:
    listed = "\n".join(f"- {line}" for line in _lines(asked))
    why = _why(asked) if asked.error else ""
    parts = [part for part in (listed, clean(asked.text), why, f"*{_footer(asked)}*") if part]
    return _PICTURE.sub(r"!\\", "\n\n".join(parts))


def _plain(asked: Asked) -> str:
    why = [_why(asked)] if asked.error else []
    return "\n".join([*_lines(asked), clean(asked.text), *why, _footer(asked)])
