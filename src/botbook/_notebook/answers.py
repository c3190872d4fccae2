"""An agent's answer as it is shown: markdown made safe, thinking and tool calls folded.

Pure, as `render`. The markdown comes from a stranger: HTML in it is text, and a link leads to the
web or nowhere.
"""

from __future__ import annotations

import json
from functools import cache
from html import escape
from typing import TYPE_CHECKING, Any, Final

from botbook._notebook.render import View, box, clean

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

    from botbook._asking import Asked

__all__ = ["answer_view", "safe_html"]

#: Characters of a tool's arguments or result that are shown; the whole is in `.tools`.
SHOWN: Final = 4_000
#: Rows of progress that are shown, newest last.
STEPS: Final = 5
_SCHEMES: Final = ("http://", "https://", "mailto:")


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.disable("image")  # a picture would tell a stranger's server who reads this, and when
    parser.validateLink = lambda url: url.strip().lower().startswith(_SCHEMES)  # type: ignore[method-assign]
    return parser


def safe_html(markdown: str) -> str:
    """Markdown as HTML in which nothing runs and nothing is loaded."""
    html: str = _parser().render(clean(markdown))
    return html.replace("<a href=", '<a rel="noopener noreferrer nofollow" target="_blank" href=')


def answer_view(asked: Asked) -> View:
    """An answer as far as it has come."""
    parts = [
        _fold("Thinking", f"<pre>{_short(asked.thinking)}</pre>") if asked.thinking else "",
        *(_tool(tool) for tool in asked.tools),
        _progress(asked),
        safe_html(asked.text),
        _files(asked.files),
        f"<p><small>{escape(_footer(asked))}</small></p>",
    ]
    return View(box("".join(parts)), _markdown(asked), _plain(asked))


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{escape(clean(title))}</summary>{body}</details>"


def _tool(tool: dict[str, Any]) -> str:
    body = f"<pre>{_short(tool['arguments'])}</pre>"
    if tool["result"] is not None:
        body += f"<p>gave</p><pre>{_short(tool['result'])}</pre>"
    return _fold(_tool_title(tool), body)


def _tool_title(tool: dict[str, Any]) -> str:
    state = "failed" if tool["error"] else "running" if tool["result"] is None else "done"
    return f"Tool {tool['name'] or 'without a name'}: {state}"


def _progress(asked: Asked) -> str:
    if asked.done or not asked.progress:
        return ""
    rows = []
    for text, share in asked.progress[-STEPS:]:
        bar = f' <progress max="1" value="{share:.3f}"></progress>' if share is not None else ""
        rows.append(f"<li>{escape(clean(text)[:200])}{bar}</li>")
    return f"<ul>{''.join(rows)}</ul>"


def _files(paths: list[str]) -> str:
    rows = "".join(f"<li><code>{escape(clean(path))}</code></li>" for path in paths)
    return f"<p>Files in the agent's workspace:</p><ul>{rows}</ul>" if rows else ""


def _footer(asked: Asked) -> str:
    if not asked.done:
        return "… the stop button stops the answer"
    words = [f"{asked.seconds or 0:.1f} s"]
    if asked.tokens is not None:
        words.append(f"{asked.tokens:,} tokens")
    if asked.error:
        words.append(f"not finished: {clean(asked.error)[:200]}")
    return " · ".join(words)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
    cut = f"\n… {len(text) - SHOWN:,} more characters" if len(text) > SHOWN else ""
    return escape(clean(text[:SHOWN]) + cut)


def _markdown(asked: Asked) -> str:
    tools = "".join(f"- {clean(_tool_title(tool))}\n" for tool in asked.tools)
    return "\n\n".join(part for part in (tools, clean(asked.text), f"*{_footer(asked)}*") if part)


def _plain(asked: Asked) -> str:
    tools = [clean(_tool_title(tool)) for tool in asked.tools]
    files = [f"File: {clean(path)}" for path in asked.files]
    return "\n".join([*tools, clean(asked.text), *files, _footer(asked)])
