"""Pictures of conversations as wholes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

from botbook.plots._canvas import Canvas, End, Table
from botbook.plots._marks import Part, key_of_bars, lengths, line, panels, ranked, stacked
from botbook.plots._plot import Plot
from botbook.plots._theme import OKABE_ITO
from botbook.plots._words import NAMES, seconds, share

__all__ = ["containment", "conversation_length", "first_response"]

MEASURES: Final = {"turns": "user turns", "messages": "messages", "length_s": "length"}
#: More bars than this leave no room for a number on each.
MOST_COUNTS: Final = 24
OUTCOMES: Final = (
    ("resolved", "resolved", OKABE_ITO[2]),
    ("abandoned", "abandoned", OKABE_ITO[4]),
    ("handed_off", "handed to people", OKABE_ITO[3]),
)


def first_response(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Time to the first answer of a session: a histogram, lines over time, or p50 and p95 a group.

    Args:
        frame: What `botbook.metrics.first_response` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="first_response", needs=["n"])
    title = title or "Time to the first answer of a session"
    if "low_s" in table.names:
        canvas = Canvas(table, theme=theme, title=title)
        words = (
            _histogram(canvas, canvas.ax, _first_group(table), "low_s", "high_s", "p50_s")
            if len(table)
            else ""
        )
        canvas.left("sessions")
        return canvas.finish(frame, last=words)
    return _percentile_picture(frame, table, theme, title, ("p50_s", "p95_s"))


def conversation_length(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Length of closed sessions: histograms of turns, messages and time, or user turns over time.

    Args:
        frame: What `botbook.metrics.conversation_length` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="conversation_length", needs=["n"])
    if "measure" not in table.names:
        title = title or "Length of sessions"
        return _percentile_picture(frame, table, theme, title, ("length_p50_s", "length_p95_s"))
    canvas = Canvas(table, theme=theme, title=title or "Length of sessions", panels=3 if len(table) else 1)
    words = []
    for ax, (measure, name) in zip(canvas.axes, MEASURES.items(), strict=False):
        rows = [row for row in _first_group(table) if table["measure"][row] == measure]
        if rows:
            words.append(f"{name}: " + _histogram(canvas, ax, rows, "low", "high", "p50"))
            canvas.panel_name(name, ax)
    return canvas.finish(frame, last="; ".join(words))


def containment(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """What became of sessions: bars of 100 %, with the number of sessions on top.

    Args:
        frame: What `botbook.metrics.containment` gave; of several groups the largest is drawn.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    needs = ["start", "end", "unfinished", "sessions", *(name for name, _, _ in OUTCOMES)]
    table = Table(frame, metric="containment", needs=needs)
    name, rows = next(iter(panels(table, "sessions", most=1).items()), ("", []))
    usual = f"How sessions end, by the {NAMES[table.facts.freq]} they start{': ' + name if name else ''}"
    canvas = Canvas(table, theme=theme, title=title or usual)
    if not rows:
        return canvas.finish(frame)
    parts = [
        Part(name=words, color=color, rows=rows, values=_or_none(table.pick(f"{column}_rate", rows)))
        for column, words, color in OUTCOMES
    ]
    stacked(canvas, canvas.ax, parts)
    key_of_bars(canvas, parts)
    canvas.time_axis()
    canvas.shares("share of closed sessions", top=1.09)
    if len(rows) <= MOST_COUNTS:
        canvas.counts(rows, table.pick("sessions", rows))
    last = [
        f"{part.name} {share(table[f'{c}_rate'][rows[-1]])}"
        for part, (c, _, _) in zip(parts, OUTCOMES, strict=True)
    ]
    return canvas.finish(frame, last=f"last {NAMES[table.facts.freq]}: " + ", ".join(last))


def _or_none(values: list[float]) -> list[float]:
    """Height 0 where there is nothing to share."""
    return [value if value == value else 0.0 for value in values]


def _first_group(table: Table) -> list[int]:
    """Rows of the group with the most in it; all rows without groups."""
    return next(iter(panels(table, "n", most=1).values()), [])


def _histogram(canvas: Canvas, ax: Any, rows: list[int], low: str, high: str, middle: str) -> str:
    """Bars of one width, named by the edges of their steps; the median as a line."""
    table, theme = canvas.table, canvas.theme
    time = low == "low_s" or table["measure"][rows[0]] == "length_s"
    counts, lows, highs = table.pick("n", rows), table.pick(low, rows), table.pick(high, rows)
    color = OKABE_ITO[0]
    ax.bar(
        [k + 0.5 for k in range(len(rows))],
        counts,
        0.92,
        color=color,
        edgecolor=theme.edge(color),
        linewidth=0.7,
    )
    every = max(1, len(rows) // (10 if len(canvas.axes) == 1 else 4))
    edges = [*lows, highs[-1]]
    shown = range(0, len(edges), every)
    ax.set_xticks(list(shown), [_edge(edges[k], time) for k in shown])
    ax.grid(axis="y", color=theme.grid, linewidth=0.8)
    canvas.amounts("", ax)
    total, median = table["total"][rows[0]], table[middle][rows[0]]
    words = f"median {seconds(median) if time else f'{median:,.3g}'}, n {total:,}"
    place = _place(median, edges)
    ax.axvline(place, color=theme.ink, linewidth=1.4, linestyle=(0, (4, 2)))
    right = place > len(rows) * 0.6
    canvas.label(
        place, 1.0, words, theme.ink, ax=ax, size=8.5, xycoords=ax.get_xaxis_transform(),
        xytext=(-5 if right else 5, -6), ha="right" if right else "left",
    )  # fmt: skip
    return words


def _edge(value: float, time: bool) -> str:
    if value == float("inf"):
        return "…"
    return (seconds(value) if value else "0") if time else f"{value:,.0f}"


def _place(value: float, edges: list[float]) -> float:
    """Where a value lies between steps of one width."""
    for k, (low, high) in enumerate(pairwise(edges)):
        if low <= value < high:
            return k + ((value - low) / (high - low) if high != float("inf") else 0.5)
    return float(len(edges) - 1)


def _percentile_picture(frame: Any, table: Table, theme: str, title: str, columns: tuple[str, str]) -> Plot:
    """p50 and p95 over time, or where there is no time, a group a row."""
    canvas = Canvas(table, theme=theme, title=title)
    if not len(table):
        return canvas.finish(frame)
    found = panels(table, "n")
    ends: list[End] = []
    shown = [value for rows in found.values() for column in columns for value in table.pick(column, rows)]
    if not table.facts.freq:
        return canvas.finish(frame, last=_spread(canvas, found, columns, shown))
    for k, (name, rows) in enumerate(found.items()):
        for column, percent, dash in zip(columns, ("p50", "p95"), ("-", (0, (5, 2))), strict=True):
            values = table.pick(column, rows)
            part = Part(
                name=f"{percent} {name}".strip(), color=canvas.theme.colors[k], rows=rows, values=values
            )
            ends += line(canvas, canvas.ax, part, nth=k, dash=dash)
    canvas.time_axis()
    lengths(canvas.ax.yaxis, canvas.ax.set_ylim, shown)
    canvas.left("time")
    canvas.name_ends(canvas.ax, ends)
    return canvas.finish(frame, last=", ".join(f"{words} {seconds(y)}" for _, y, words, _ in ends))


def _spread(canvas: Canvas, found: dict[str, list[int]], columns: tuple[str, str], shown: list[float]) -> str:
    """A dot at p50 and a bar to p95, a group a row."""
    table, ax, words = canvas.table, canvas.ax, []
    places = ranked(canvas, ax, list(found))
    for k, (y, (name, rows)) in enumerate(zip(places, found.items(), strict=True)):
        low, high = (table[column][rows[0]] for column in columns)
        color, n = canvas.theme.colors[k], table["n"][rows[0]]
        words.append(
            f"{name} p50 {seconds(low)}, p95 {seconds(high)}, n {n:,}".strip() if n else f"{name} n 0"
        )
        if n:
            ax.plot([low, high], [y, y], color=color, linewidth=3, solid_capstyle="round")
            ax.plot(low, y, marker="o", markersize=9, color=color)
            ax.plot(high, y, marker="|", markersize=12, markeredgewidth=2, color=color)
            canvas.label(
                low, y, words[-1].removeprefix(name).strip(), canvas.theme.ink, xytext=(0, 14), size=8.5
            )
    lengths(ax.xaxis, ax.set_xlim, shown)
    ax.set_xlabel("dot p50, bar to p95", loc="left", size=8.5)
    return "; ".join(words)
