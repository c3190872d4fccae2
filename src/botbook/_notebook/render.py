"""What a magic shows, as values with three twins: HTML, markdown and plain text.

Pure: data in, `View` out. Text of users and bots is escaped in every twin. Colours come from the
host alone, so that dark and light follow it (jupyter.md 2, pain 7); states are told in words.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import PurePath
from typing import Any, Final

__all__ = [
    "View",
    "box",
    "clean",
    "dashboard",
    "figure",
    "frame",
    "listing",
    "notice",
    "page",
    "report",
    "status",
    "table",
]

#: Rows of a table that are shown; the rest is in the value.
SHOWN: Final = 20
CELL_CHARS: Final = 200
PLAIN_CHARS: Final = 48
#: Longer text does not get squeezed by the columns beside it.
WIDE: Final = 24

_INK: Final = "var(--jp-content-font-color0,var(--vscode-editor-foreground,CanvasText))"
_PAPER: Final = "var(--jp-layout-color0,var(--vscode-editor-background,Canvas))"
_LINE: Final = "var(--jp-border-color1,var(--vscode-panel-border,GrayText))"
_FACE: Final = "var(--jp-ui-font-family,var(--vscode-font-family,system-ui,sans-serif))"
_MONO: Final = "var(--jp-code-font-family,var(--vscode-editor-font-family,monospace))"
_BOX: Final = f"color:{_INK};background:{_PAPER};font-family:{_FACE};padding:6px 8px;overflow-x:auto"
#: The class stands twice so that these rules win over the host's own for tables.
_RULES: Final = (
    ".botbook.botbook table{border-collapse:collapse;color:inherit;background:inherit;margin:4px 0}"
    f".botbook.botbook th,.botbook.botbook td{{border-bottom:1px solid {_LINE};padding:2px 12px 2px 0;"
    "text-align:left;vertical-align:top;color:inherit;max-width:42em;white-space:pre-wrap;"
    "overflow-wrap:break-word}.botbook.botbook th{white-space:nowrap}"
    ".botbook.botbook .n{text-align:right;font-variant-numeric:tabular-nums}"
    ".botbook.botbook .t{white-space:nowrap}.botbook.botbook .w{min-width:12em}"
    ".botbook.botbook tr{background:inherit}"
    ".botbook.botbook caption{text-align:left;color:inherit;padding:2px 0}"
    f".botbook.botbook pre{{font-family:{_MONO};color:inherit;background:inherit;margin:4px 0;"
    "white-space:pre-wrap}.botbook.botbook p{margin:2px 0}"
    "body[data-jp-theme-light=false] .botbook-plot,body.vscode-dark .botbook-plot{filter:brightness(1.2)}"
)

_CONTROL: Final = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d")
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+!|~$&-])")


@dataclass(frozen=True, slots=True)
class View:
    """Something to show.

    Attributes:
        html: For front ends.
        markdown: For places that keep notebooks as text.
        plain: For terminals, logs and screen readers.
        png: A picture, base64, or "".
    """

    html: str
    markdown: str
    plain: str
    png: str = ""

    def __repr__(self) -> str:
        return self.plain

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/html": self.html, "text/markdown": self.markdown, "text/plain": self.plain}
        return {**bundle, "image/png": self.png} if self.png else bundle


def clean(text: str) -> str:
    """Without control characters: no colours, no beeps, no reversed reading from a stranger."""
    return _CONTROL.sub("", text)


def notice(text: str, detail: str = "") -> View:
    """One sentence, and perhaps a second one."""
    text, detail = clean(text), clean(detail)
    lines = [line for line in (text, detail) if line]
    return View(
        box("".join(f"<p>{escape(line)}</p>" for line in lines)),
        "  \n".join(_md(line) for line in lines),
        "\n".join(lines),
    )


def page(text: str) -> View:
    """Text that keeps its lines, such as help or a traceback."""
    text = clean(text)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return View(box(f"<pre>{escape(text)}</pre>"), f"{fence}text\n{text}\n{fence}", text)


def listing(blocks: Sequence[tuple[str, str]]) -> View:
    """Titled blocks of text, such as tracebacks.

    Args:
        blocks: (title, text).
    """
    made = [(notice(title), page(text)) for title, text in blocks]
    body = "".join(
        f"<details open><summary>{escape(clean(title))}</summary><pre>{escape(clean(text))}</pre></details>"
        for title, text in blocks
    )
    return View(
        box(body),
        "\n\n".join(f"{head.markdown}\n\n{text.markdown}" for head, text in made),
        "\n\n".join(f"{head.plain}\n{text.plain}" for head, text in made),
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "") -> View:
    """A table of anything.

    Args:
        columns: The heads.
        rows: Values in that order; numbers are set to the right, times in UTC. A day that they
            share goes into the caption.
        caption: A line above.
    """
    values = [list(row) for row in rows]
    days = {f"{v:%Y-%m-%d}" for row in values for v in row if isinstance(v, datetime) and not _is_missing(v)}
    day = days.pop() if len(days) == 1 else ""
    texts = [[_cell(value, day) for value in row] for row in values]
    right = [bool(values) and all(_is_number(row[i]) for row in values) for i in range(len(columns))]
    if day or days:
        caption = "; ".join(part for part in (caption, f"{day} in UTC" if day else "times in UTC") if part)
    return View(
        box(_html_table(columns, texts, right, caption)),
        _markdown_table(columns, texts, caption),
        _plain_table(columns, texts, right, caption),
    )


def frame(data: Any, *, columns: Sequence[str] = (), what: str = "rows", shown: int = SHOWN) -> View:
    """The newest rows of a DataFrame.

    Args:
        data: The frame; its last rows are the newest.
        columns: Which ones, where they hold anything; default all.
        what: What the rows are, for the caption.
        shown: How many rows.
    """
    tail = data.tail(shown)
    picked = {name: tail[name].tolist() for name in columns or data.columns if name in data.columns}
    if columns:
        picked = {name: values for name, values in picked.items() if any(_cell(v) for v in values)}
    total = len(data)
    counted = f"{total} {what.removesuffix('s') if total == 1 else what}"
    caption = counted if total <= shown else f"the newest {shown} of {counted}"
    if not total:
        return notice(f"No {what} yet.")
    return table(list(picked), zip(*picked.values(), strict=True), caption=caption)


def status(statuses: Sequence[Any], *, current: str = "", folder: str = "") -> View:
    """The card of every connection.

    Args:
        statuses: `botbook.bot.Status` values.
        current: Name of the one that magics act on.
        folder: The working folder; a journal inside it is named from there.
    """
    if not statuses:
        return notice("Nothing is connected.", "Open a connection with %bot connect sim")
    rows = [
        [
            f"{one.name} (current)" if one.name == current else one.name,
            one.gateway,
            one.state,
            one.since,
            one.events,
            one.handled,
            one.queued + one.backlog,
            one.reconnects,
            one.error,
        ]
        for one in statuses
    ]
    columns = [
        "bot",
        "gateway",
        "link",
        "since",
        "events",
        "handled",
        "waiting",
        "reconnects",
        "last trouble",
    ]
    keep = [i for i, name in enumerate(columns) if name != "last trouble" or any(row[i] for row in rows)]
    store = sorted({_seen_from(folder, one.store) for one in statuses if one.store})
    return table(
        [columns[i] for i in keep],
        [[row[i] for i in keep] for row in rows],
        caption=f"journal: {', '.join(store)}" if store else "",
    )


def _seen_from(folder: str, path: str) -> str:
    if folder and PurePath(path).is_relative_to(folder):
        return str(PurePath(path).relative_to(folder))
    return path


def report(sections: Mapping[str, Sequence[tuple[str, str, str, str]]]) -> View:
    """Findings by section.

    Args:
        sections: Title → (mark, name, finding, fix), where mark is ``ok``, ``note`` or ``fix``.
    """
    rows = [
        (title, name, f"{mark}: {text}" if mark != "ok" else text, fix)
        for title, findings in sections.items()
        for mark, name, text, fix in findings
    ]
    wrong = sum(mark == "fix" for findings in sections.values() for mark, *_ in findings)
    caption = f"To mend: {wrong}." if wrong else "All is well."
    view = table(["about", "what", "found", "to do"], rows, caption=caption)
    return View(view.html, view.markdown, _plain_report(sections, caption))


def _plain_report(sections: Mapping[str, Sequence[tuple[str, str, str, str]]], caption: str) -> str:
    lines: list[str] = []
    for title, findings in sections.items():
        lines.append(title)
        for mark, name, text, fix in findings:
            lines.append(f"  {mark:<4}  {name}: {text}")
            lines += [f"        -> {fix}"] if fix else []
    return clean("\n".join([*lines, caption]))


def figure(drawn: Any) -> View:
    """A picture with its words and its data.

    Args:
        drawn: A figure of `botbook.plots`: ``png()``, ``alt`` and ``data``.
    """
    png = base64.b64encode(drawn.png()).decode("ascii")
    words = " ".join(clean(drawn.alt).split())
    data = frame(drawn.data, what="rows")
    image = (
        f'<img class="botbook-plot" alt="{escape(words)}" src="data:image/png;base64,{png}"'
        f' style="max-width:100%" width="{round(drawn.get_figwidth() * drawn.dpi)}">'
    )
    return View(
        box(f"{image}<details><summary>Data</summary>{data.html}</details>"),
        f"{_md(words)}\n\n{data.markdown}",
        words,
        png,
    )


def dashboard(made: Any) -> View:
    """Everything on one page.

    Args:
        made: A `botbook.report.Report`.
    """
    rows = [(tile.title, tile.value, tile.detail) for tile in made.tiles]
    about = " ".join([f"{made.title}.", *made.about])
    return View(made.fragment(), _markdown_table(["what", "", "of"], rows, about), clean(made.text()))


# -- cells ----------------------------------------------------------------------------------------


def _cell(value: object, day: str = "") -> str:
    """One value as short text; a time of that day without it."""
    if _is_missing(value):
        return ""
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S}" if f"{value:%Y-%m-%d}" == day else f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return ", ".join(_cell(one) for one in value)  # type: ignore[attr-defined]
    return _cut(clean(str(value)), CELL_CHARS)


def _is_missing(value: object) -> bool:
    """None, NaN, NaT, or pandas' NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA is neither equal nor unequal to itself
        return True
    except ValueError:  # an array
        return False


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _md(text: str) -> str:
    text = _MARKDOWN.sub(r"\\\1", " ".join(text.split()))
    return text.replace("<", "&lt;").replace(">", "&gt;")


def box(inner: str) -> str:
    return f'<div class="botbook" style="{_BOX}"><style>{_RULES}</style>{inner}</div>'


def _html_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], caption: str
) -> str:
    kind = [' class="n"' if one else "" for one in right]
    head = "".join(f'<th scope="col"{k}>{escape(name)}</th>' for name, k in zip(columns, kind, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{_html(text)}</td>" for text, k in zip(row, kind, strict=True)) + "</tr>"
        for row in texts
    )
    title = f"<caption>{escape(clean(caption))}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _html(text: str) -> str:
    """Text of a cell; a time stays on one line, and long text gets some width."""
    kind = "t" if _TIME.fullmatch(text) else "w" if len(text) > WIDE else ""
    return f'<div class="{kind}">{escape(text)}</div>' if kind else escape(text)


def _markdown_table(columns: Sequence[str], texts: Sequence[Sequence[str]], caption: str) -> str:
    lines = [_md(clean(caption)), ""] if caption else []
    lines += ["| " + " | ".join(map(_md, columns)) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(map(_md, row)) + " |" for row in texts]
    return "\n".join(lines)


def _plain_table(
    columns: Sequence[str], texts: Sequence[Sequence[str]], right: Sequence[bool], caption: str
) -> str:
    rows = [list(columns), *([_cut(" ".join(text.split()), PLAIN_CHARS) for text in row] for row in texts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "  ".join(
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join([clean(caption), *lines] if caption else lines)
