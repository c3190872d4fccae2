"""Pictures of versions against each other, of words, and of connections."""

from __future__ import annotations

import math
from typing import Any, Final

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FuncFormatter, MaxNLocator

from botbook.plots._canvas import Canvas, Table
from botbook.plots._marks import dots, ranked
from botbook.plots._plot import Plot
from botbook.plots._theme import OKABE_ITO
from botbook.plots._words import many, seconds, share

__all__ = ["compare", "connection_health", "terms"]

NAMES: Final = {
    "like_rate": "like rate",
    "p50_s": "p50 of the first output",
    "p95_s": "p95 of the first output",
}
#: As matplotlib counts: in days.
MINUTE: Final = 1 / 1440
#: Most terms in a panel.
TERMS: Final = 15


def compare(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Arms minus the base: a dot with its interval around the line of no difference.

    Args:
        frame: What `botbook.metrics.compare` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    needs = ["arm", "base", "measure", "difference", "low", "high", "value", "base_value", "p_holm"]
    table = Table(frame, metric="compare", needs=needs)
    found = table.series("measure") if len(table) else {}
    arms = len(next(iter(found.values()), ()))
    usual = f"Against {table['base'][0]}: observed difference" if found else "Observed difference"
    if not any("observed" in note for note in table.facts.notes):
        usual = usual.replace("observed difference", "difference")
    size = (8.0, max(2.4, 1.7 + 0.5 * arms))
    canvas = Canvas(table, theme=theme, title=title or usual, panels=max(1, len(found)), size=size)
    words = [
        _differences(canvas, ax, rows, measure)
        for ax, ((measure,), rows) in zip(canvas.axes, found.items(), strict=False)
    ]
    return canvas.finish(frame, last="; ".join(words))


def _differences(canvas: Canvas, ax: Any, rows: list[int], measure: str) -> str:
    table = canvas.table
    say = _points if measure == "like_rate" else _longer
    places = ranked(canvas, ax, table.pick("arm", rows))
    ends = list(zip(table.pick("low", rows), table.pick("high", rows), strict=True))
    values = table.pick("difference", rows)
    known = [abs(end) for pair in ends for end in pair if not math.isnan(end)]
    reach = max([*known, *(abs(value) for value in values if not math.isnan(value))], default=1.0) or 1.0
    ax.set_xlim(-reach * 1.15, reach * 1.15)
    for y in places:
        ax.plot([0, 0], [y - 0.3, y + 0.2], color=canvas.theme.ink, linewidth=1)
    words = [_said(table, row, say) for row in rows]
    dots(canvas, ax, places, values, ends, color=OKABE_ITO[0])
    for y, said in zip(places, words, strict=True):
        canvas.label(0, y, said, canvas.theme.ink, ax=ax, xytext=(0, 17), ha="center", size=8.5)
    ax.set_ylim(-0.6, len(rows) - 0.25)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: say(value) if value else "0"))
    canvas.panel_name(f"difference of the {NAMES.get(measure, measure)}, 95 % interval", ax)
    return "; ".join(f"{arm} {said}" for arm, said in zip(table.pick("arm", rows), words, strict=True))


def _said(table: Table, row: int, say: Any) -> str:
    if math.isnan(table["difference"][row]):
        return f"too few: n {table['n'][row]:,} and {table['base_n'][row]:,}"
    value, base = table["value"][row], table["base_value"][row]
    pair = f"{share(value)} and {share(base)}" if say is _points else f"{seconds(value)} and {seconds(base)}"
    return f"{say(table['difference'][row])}   ({pair}, n {table['n'][row]:,} and {table['base_n'][row]:,})"


def _points(value: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{value * 100:+.3g} pp"


def _longer(value: float) -> str:
    """A difference of lengths of time."""
    return f"{'+' if value > 0 else ''}{seconds(value)}"


def terms(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """What users talk about: users a term, and which terms lean to liked or to disliked answers.

    Args:
        frame: What `botbook.metrics.terms` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="terms", needs=["term", "users", "z"])
    rated = [row for row, z in enumerate(table["z"]) if not math.isnan(z)]
    shown = min(TERMS, len(table))
    canvas = Canvas(
        table,
        theme=theme,
        title=title or "What users talk about",
        panels=2 if rated else 1,
        size=(8.0, max(2.4, 1.5 + 0.24 * shown)),
        share=False,
    )
    if not len(table):
        return canvas.finish(frame)
    rows = list(range(shown))
    _bars(canvas, canvas.ax, rows, table.pick("users", rows), OKABE_ITO[0])
    canvas.panel_name("users who said it", canvas.ax)
    if rated:
        _leaning(canvas, canvas.axes[1], rated)
    said = ", ".join(f"{table['term'][row]} {table['users'][row]:,}" for row in rows[:3])
    return canvas.finish(frame, last=f"most users: {said}")


def _bars(canvas: Canvas, ax: Any, rows: list[int], values: list[float], color: str) -> None:
    places = ranked(canvas, ax, canvas.table.pick("term", rows))
    ax.barh(places, values, 0.68, color=color, edgecolor=canvas.theme.edge(color), linewidth=0.6)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _leaning(canvas: Canvas, ax: Any, rated: list[int]) -> None:
    """Diverging bars: the strongest of either side."""
    z = canvas.table["z"]
    strong = sorted(rated, key=lambda row: -abs(z[row]))[:TERMS]
    rows = sorted(strong, key=lambda row: -z[row])
    places = ranked(canvas, ax, canvas.table.pick("term", rows))
    colors = [OKABE_ITO[0] if z[row] > 0 else OKABE_ITO[4] for row in rows]
    edges = [canvas.theme.edge(color) for color in colors]
    ax.barh(places, [z[row] for row in rows], 0.68, color=colors, edgecolor=edges, linewidth=0.6)
    ax.axvline(0, color=canvas.theme.ink, linewidth=1)
    reach = max(abs(z[row]) for row in rows) or 1.0
    ax.set_xlim(-reach * 1.08, reach * 1.08)
    canvas.panel_name("◀ ▼ disliked     z of log-odds     liked ▲ ▶", ax)


def connection_health(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """A strip for each connection: solid while it was up, hatched where events may be missing.

    Args:
        frame: What `botbook.metrics.connection_health` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    needs = ["start", "end", "gateway", "bot", "window_s", "connected_rate", "gaps"]
    table = Table(frame, metric="connection_health", needs=needs)
    found = table.series("gateway", "bot") if len(table) else {}
    size = (8.0, max(2.2, 1.6 + 0.5 * len(found)))
    canvas = Canvas(table, theme=theme, title=title or "Connections", size=size)
    if not found:
        return canvas.finish(frame)
    ax, words = canvas.ax, []
    places = ranked(canvas, ax, [" · ".join(link) for link in found])
    for y, (link, rows) in zip(places, found.items(), strict=True):
        _strip(canvas, link, rows, y)
        if len(rows) == 1:
            rate, gaps = table["connected_rate"][rows[0]], table["gaps"][rows[0]]
            known = not math.isnan(rate)
            said = f"{share(rate)} up, {many(gaps, 'gap')}" if known else "no connection rows"
            canvas.label(date2num(table["end"][rows[0]]), y, said, canvas.theme.ink, size=8.5)
            words.append(f"{' · '.join(link)}: {said}")
    low, high = date2num(min(table["start"])), date2num(max(table["end"]))
    spare = max(0.0, MINUTE - (high - low)) / 2  # an instant is no axis
    ax.set_xlim(low - spare, high + spare)
    locator = AutoDateLocator(tz=canvas.zone, maxticks=7)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=canvas.zone, show_offset=False))
    ax.set_xlabel(f"local time, {table.facts.tz}", loc="left", size=8.5)
    return canvas.finish(frame, last="; ".join(words))


def _strip(canvas: Canvas, link: tuple[str, ...], rows: list[int], y: int) -> None:
    ax, table = canvas.ax, canvas.table
    up, gone = OKABE_ITO[2], OKABE_ITO[1]
    gaps = [
        (date2num(gap.start), date2num(gap.end)) for gap in table.facts.gaps if (gap.gateway, gap.bot) == link
    ]
    as_of = date2num(table.facts.as_of) if table.facts.as_of else math.inf
    for row in rows:
        right = min(date2num(table["end"][row]), as_of)
        left = max(right - table["window_s"][row] / 86_400, date2num(table["start"][row]))
        if not math.isnan(table["connected_rate"][row]):
            ax.broken_barh(_without(left, right, gaps), (y - 0.21, 0.42), color=up, linewidth=0)
    for left, right in gaps:
        ax.barh(y, right - left, 0.42, left=left, facecolor="none", edgecolor=gone, hatch="////", linewidth=1)


def _without(left: float, right: float, gaps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What is left of a span between gaps, as start and length."""
    pieces = []
    for start, end in sorted(gaps):
        if left < end and start < right:
            pieces.append((left, max(0.0, start - left)))
            left = end
    return [*pieces, (left, max(0.0, right - left))]
