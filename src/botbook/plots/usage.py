"""Pictures of what answers cost and what breaks."""

from __future__ import annotations

from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from botbook.plots._canvas import BUCKETS, Canvas, Table
from botbook.plots._marks import Part, key_of_bars, line, panels, ranked, stacked
from botbook.plots._plot import Plot
from botbook.plots._rates import Rate, picture
from botbook.plots._words import NAMES

__all__ = ["error_rate", "tokens", "tool_failures"]


def tokens(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Tokens per bucket, stacked by group, or a bar a group, the largest first.

    Args:
        frame: What `botbook.metrics.tokens` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="tokens", needs=["start", "end", "unfinished", "tokens", "calls"])
    found = panels(table, "tokens")
    if not table.facts.freq:
        return _pareto(frame, table, found, theme, title or "Tokens")
    canvas = Canvas(table, theme=theme, title=title or f"Tokens per {NAMES[table.facts.freq]}")
    parts = [
        Part(
            name=name or "tokens", color=canvas.theme.colors[k], rows=rows, values=table.pick("tokens", rows)
        )
        for k, (name, rows) in enumerate(found.items())
    ]
    if not parts:
        return canvas.finish(frame)
    ends = []
    if len(parts[0].rows) <= BUCKETS:
        stacked(canvas, canvas.ax, parts)
        key_of_bars(canvas, parts)
    else:
        ends = [end for k, part in enumerate(parts) for end in line(canvas, canvas.ax, part, nth=k)]
    canvas.time_axis()
    canvas.amounts("tokens")
    canvas.name_ends(canvas.ax, ends)
    last = ", ".join(f"{part.name} {part.values[-1]:,}" for part in parts)
    return canvas.finish(frame, last=f"last {NAMES[table.facts.freq]}: {last}")


def _pareto(frame: Any, table: Table, found: dict[str, list[int]], theme: str, title: str) -> Plot:
    size = (8.0, max(2.2, 1.5 + 0.42 * len(found)))
    canvas = Canvas(table, theme=theme, title=title, size=size)
    if not found:
        return canvas.finish(frame)
    ax, theme_ = canvas.ax, canvas.theme
    places = ranked(canvas, ax, list(found))
    values = [table["tokens"][rows[0]] for rows in found.values()]
    color = theme_.colors[0]
    ax.barh(places, values, 0.62, color=color, edgecolor=theme_.edge(color), linewidth=0.7)
    words = []
    for y, (name, rows), value in zip(places, found.items(), values, strict=True):
        said = f"{value:,}  {table['calls'][rows[0]]:,} calls"
        if "cost" in table.names:
            cost = table["cost"][rows[0]]
            said += f", cost {cost:,.4g}" if cost == cost else ", price unknown"
        canvas.label(value, y, said, theme_.ink, size=8.5)
        words.append(f"{name} {said}".strip())
    ax.set_xlim(0, (max(values) or 1) * 1.4)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return canvas.finish(frame, last="; ".join(words))


def tool_failures(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Share of tool calls that failed, a dot a tool with its interval, the worst first.

    Args:
        frame: What `botbook.metrics.tool_failures` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    failed = Rate(
        metric="tool_failures",
        name="failed",
        hits="failed",
        of="calls",
        words="Tool calls that failed",
        things="calls",
        color=1,
    )
    return picture(frame, failed, theme=theme, title=title)


def error_rate(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Share of handled turns with an error: a line with its band, or a dot a group, handler or error.

    Args:
        frame: What `botbook.metrics.error_rate` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    failed = Rate(
        metric="error_rate",
        name="failed",
        hits="failed",
        of="handled",
        words="Turns with an error",
        things="handled turns",
        color=1,
    )
    return picture(frame, failed, theme=theme, title=title)
