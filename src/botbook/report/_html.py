"""A report as HTML: no script, no address, readable on light and dark paper and in print."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import Any, Final

import narwhals as nw

from botbook.plots._theme import THEMES
from botbook.report._values import Panel, Report, Section, Tile

__all__ = ["fragment", "page"]

#: Pixels of a picture for each pixel on the screen.
SCALE: Final = 1.5
#: Rows of a table that are written; curves have more.
ROWS: Final = 200
CELL_CHARS: Final = 120
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

#: Everything stands below one class, so that a host page keeps its own looks.
_RULES: Final = """
.botbook-report{color:var(--bb-ink);background:var(--bb-paper);line-height:1.45;
font-family:var(--jp-ui-font-family,system-ui,sans-serif)}
.botbook-report h1{font-size:1.5em;margin:.2em 0}
.botbook-report h2{font-size:1.15em;margin:1.6em 0 .5em;padding-bottom:.2em;
border-bottom:1px solid var(--bb-line)}
.botbook-report p{margin:.15em 0;color:var(--bb-muted)}
.botbook-report .tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(11em,1fr));gap:.6em;
margin:1em 0;padding:0}
.botbook-report .tile{border:1px solid var(--bb-line);border-radius:.4em;padding:.5em .7em;margin:0}
.botbook-report .what,.botbook-report .of{font-size:.85em;color:var(--bb-muted)}
.botbook-report .number{font-size:1.5em;font-variant-numeric:tabular-nums}
.botbook-report .panels{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30em,100%),1fr));
gap:1em}
.botbook-report figure{margin:0;min-width:0}
.botbook-report img{max-width:100%;height:auto;display:block}
.botbook-report figcaption,.botbook-report summary{font-size:.85em;color:var(--bb-muted)}
.botbook-report summary{cursor:pointer}
.botbook-report .data{overflow:auto;max-height:24em}
.botbook-report table{border-collapse:collapse;font-size:.8em;color:inherit;background:inherit}
.botbook-report th,.botbook-report td{text-align:left;padding:.15em .8em .15em 0;
border-bottom:1px solid var(--bb-line);color:inherit;background:inherit;white-space:nowrap}
.botbook-report .n{text-align:right;font-variant-numeric:tabular-nums}
"""
_PAGE_RULES: Final = """
body{margin:0;background:var(--bb-paper)}
.botbook-report{max-width:76em;margin:0 auto;padding:1.2em}
@media print{
@page{margin:14mm}
.botbook-report{max-width:none;padding:0;font-size:9pt}
.botbook-report .panels{grid-template-columns:1fr 1fr;gap:4mm}
.botbook-report .tiles{grid-template-columns:repeat(5,1fr);gap:2mm}
.botbook-report details{display:none}
.botbook-report figure,.botbook-report .tile{break-inside:avoid}
.botbook-report h2{break-after:avoid}
}
"""
#: A notebook tells its colours in variables; elsewhere those of the system serve.
_HOST_INKS: Final = (
    "--bb-ink:var(--jp-content-font-color0,var(--vscode-editor-foreground,CanvasText));"
    "--bb-muted:var(--jp-content-font-color1,var(--vscode-editor-foreground,CanvasText));"
    "--bb-paper:var(--jp-layout-color0,var(--vscode-editor-background,Canvas));"
    "--bb-line:var(--jp-border-color1,var(--vscode-panel-border,GrayText))"
)


def page(report: Report) -> str:
    """A whole page; both looks of every picture are in it."""
    inks = (
        f":root{{color-scheme:light dark;{_inks('light')}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{_inks('dark')}}}}}"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:;'
        " style-src 'unsafe-inline'\">"
        f'<link rel="icon" href="data:,"><title>{_text(report.title)}</title>'
        f"<style>{inks}{_RULES}{_PAGE_RULES}</style></head><body>"
        f'<main class="botbook-report">{_body(report, both=True)}</main></body></html>\n'
    )


def fragment(report: Report) -> str:
    """The same for a page that is there already."""
    return (
        f'<div class="botbook-report" style="{_HOST_INKS};padding:6px 8px"><style>{_RULES}</style>'
        f"{_body(report, both=False)}</div>"
    )


def _inks(theme: str) -> str:
    made = THEMES[theme]
    return f"--bb-ink:{made.ink};--bb-muted:{made.muted};--bb-paper:{made.paper};--bb-line:{made.grid}"


def _body(report: Report, *, both: bool) -> str:
    about = "".join(f"<p>{_text(line)}</p>" for line in report.about)
    tiles = "".join(map(_tile, report.tiles))
    sections = "".join(_section(section, both=both) for section in report.sections)
    return f'<h1>{_text(report.title)}</h1>{about}<div class="tiles">{tiles}</div>{sections}'


def _tile(tile: Tile) -> str:
    number = "" if math.isnan(tile.number) else repr(tile.number)
    parts = {"what": tile.title, "number": tile.value, "of": tile.detail}
    lines = [f'<div class="{name}">{_text(words)}</div>' for name, words in parts.items() if words]
    return f'<div class="tile" data-name="{_text(tile.name)}" data-number="{number}">{"".join(lines)}</div>'


def _section(section: Section, *, both: bool) -> str:
    panels = "".join(_panel(panel, both=both) for panel in section.panels if panel.data is not None)
    silent = "".join(f"<p>{_text(panel.words)}</p>" for panel in section.panels if panel.data is None)
    shown = f'<div class="panels">{panels}</div>' if panels else ""
    return f"<section><h2>{_text(section.title)}</h2>{shown}{silent}</section>"


def _panel(panel: Panel, *, both: bool) -> str:
    words = f"<figcaption>{_text(panel.words)}</figcaption>" if panel.words else ""
    return (
        f'<figure data-metric="{_text(panel.metric)}">{_picture(panel, both=both)}{words}'
        f"<details><summary>Data of {_text(panel.metric)}</summary>{_table(panel.data)}</details></figure>"
    )


def _picture(panel: Panel, *, both: bool) -> str:
    drawn = panel.figure("light" if both else "auto")
    wide, high = (round(inches * drawn.dpi) for inches in drawn.get_size_inches())
    size = f'width="{wide}" height="{high}"'
    image = f'<img class="botbook-plot" alt="{_text(drawn.alt)}" {size} src="{_png(drawn)}">'
    if not both:
        return image
    dark = _png(panel.figure("dark"))
    # On paper the light one is taken, whatever the screen shows.
    return (
        f'<picture><source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">{image}</picture>'
    )


def _png(drawn: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(drawn.png(scale=SCALE)).decode("ascii")


def _table(data: Any) -> str:
    opened = nw.from_native(data, eager_only=True)
    rows = list(opened.head(ROWS).iter_rows())
    right = [_is_number(row) for row in zip(*rows, strict=True)] if rows else [False] * len(opened.columns)
    kind = [' class="n"' if one else "" for one in right]
    head = "".join(
        f'<th scope="col"{k}>{_text(name)}</th>' for name, k in zip(opened.columns, kind, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{k}>{_cell(v)}</td>" for v, k in zip(row, kind, strict=True)) + "</tr>"
        for row in rows
    )
    more = f"<p>{len(opened) - ROWS:,} more rows.</p>" if len(opened) > ROWS else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="data" tabindex="0">{table}{more}</div>'


def _is_number(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and value is not True) for value in values)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S%z}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    text = str(value)
    return _text(text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…")


def _text(words: str) -> str:
    """Words of strangers as HTML: no tags, no control characters."""
    return escape(_CONTROL.sub("", words))
