"""The few forms that all pictures are made of: bars, lines, dots with intervals, heat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from matplotlib.colors import to_hex
from matplotlib.dates import date2num
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from botbook.plots._canvas import BUCKETS, Canvas, End, Table, middle
from botbook.plots._theme import DASHES, MARKERS, contrast
from botbook.plots._words import seconds

__all__ = [
    "End",
    "Part",
    "dots",
    "heat",
    "key_of_bars",
    "key_of_few",
    "lengths",
    "line",
    "logarithmic",
    "panels",
    "ranked",
    "scale",
    "stacked",
]

HATCH: Final = "////"
#: Lengths of time that differ so many times over go on a logarithmic axis.
WIDE: Final = 50.0
#: Round lengths of time, in seconds.
ROUND: Final = (
    *(m * 10**e for e in (-3, -2, -1, 0) for m in (1, 2, 5)),
    *(10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200),
    *(86400 * d for d in (1, 2, 7, 30, 90, 365)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One series.

    Attributes:
        name: In words.
        color: Of its marks.
        rows: Row numbers in the table.
        values: One a row.
    """

    name: str
    color: str
    rows: Sequence[int]
    values: Sequence[float]


def panels(table: Table, column: str, *, most: int = 6) -> dict[str, list[int]]:
    """Rows of each group of the frame, those with the most in `column` first; at most six groups."""
    if not len(table):
        return {}
    groups = {" · ".join(key): rows for key, rows in table.series(*table.facts.by).items()}
    large = sorted(groups, key=lambda name: -sum(table.pick(column, groups[name])))
    return {name: groups[name] for name in large[:most]}


def stacked(canvas: Canvas, ax: Any, parts: Sequence[Part]) -> None:
    """Bars on bars, in the true width of their buckets; what is not over is hatched."""
    table = canvas.table
    base = [0.0] * len(parts[0].rows)
    for part in parts:
        starts = [date2num(start) for start in table.pick("start", part.rows)]
        widths = [date2num(e) - s for e, s in zip(table.pick("end", part.rows), starts, strict=True)]
        drawn = ax.bar(
            [s + w / 2 for s, w in zip(starts, widths, strict=True)],
            part.values,
            [w * 0.82 for w in widths],
            bottom=base,
            color=part.color,
            edgecolor=canvas.theme.edge(part.color),
            linewidth=0.7,
            zorder=2,
        )
        for bar, late in zip(drawn, table.pick("unfinished", part.rows), strict=True):
            if late:
                edge = canvas.theme.edge(part.color)
                bar.set(facecolor="none", hatch=HATCH, edgecolor=edge, linestyle="--")
        base = [low + value for low, value in zip(base, part.values, strict=True)]


def key_of_bars(canvas: Canvas, parts: Sequence[Part]) -> None:
    """What the colours of bars mean, in the order of the stack."""
    handles = [
        Patch(facecolor=p.color, edgecolor=canvas.theme.edge(p.color), linewidth=0.7, label=p.name)
        for p in parts
    ]
    if any(late for part in parts for late in canvas.table.pick("unfinished", part.rows)):
        muted = canvas.theme.muted
        handles.append(Patch(facecolor="none", edgecolor=muted, hatch=HATCH, label="not over yet"))
    canvas.key(handles)


def line(
    canvas: Canvas, ax: Any, part: Part, *, nth: int = 0, dash: Any = None, hollow: Sequence[bool] = ()
) -> list[End]:
    """A line over time: dotted where its bucket is not over, a marker a bucket while there is room.

    Args:
        canvas: The sheet.
        ax: Where.
        part: What.
        nth: Which marker and dash.
        dash: In place of the usual one.
        hollow: Per row, whether the marker is hollow; an open bucket's always is.

    Returns:
        Where it ends, if it has a value anywhere.
    """
    table, y = canvas.table, part.values
    spans = zip(table.pick("start", part.rows), table.pick("end", part.rows), strict=True)
    x = [middle(start, end) for start, end in spans]
    late = table.pick("unfinished", part.rows)
    done, style = len(x) - sum(late), {"color": part.color, "solid_capstyle": "round"}
    ax.plot(x[:done], y[:done], linestyle=dash or DASHES[nth % len(DASHES)], linewidth=1.7, **style)
    ax.plot(x[max(done - 1, 0) :], y[max(done - 1, 0) :], linestyle=(0, (1, 2)), linewidth=1.2, **style)
    if len(x) <= BUCKETS // canvas.columns:
        paper = canvas.theme.paper or "none"
        empty = [a or b for a, b in zip(hollow or [False] * len(x), late, strict=True)]
        for position, few in enumerate(empty):
            fill = paper if few else part.color
            ax.plot(
                x[position],
                y[position],
                marker=MARKERS[nth % len(MARKERS)],
                color=part.color,
                markerfacecolor=fill,
                markersize=5.5,
            )
    known = [k for k, value in enumerate(y) if not math.isnan(value)]
    return [(x[-1], y[known[-1]], part.name, part.color)] if known else []


def key_of_few(canvas: Canvas, words: str) -> None:
    """What a hollow marker means."""
    muted = canvas.theme.muted
    canvas.key([Line2D([], [], label=words, marker="o", color=muted, markerfacecolor="none", linestyle="")])


def lengths(axis: Any, limit: Callable[[float, float], Any], values: Sequence[float]) -> None:
    """An axis of lengths of time: from 0, or logarithmic when they differ fifty times over.

    Args:
        axis: The axis.
        limit: What sets its range.
        values: What is drawn, in seconds.
    """
    known = [value for value in values if not math.isnan(value)]
    low, high = min((v for v in known if v > 0), default=1.0), max(known, default=1.0) or 1.0
    if high / low > WIDE:
        logarithmic(axis, low / 1.3, high * 1.3)
        limit(low / 1.3, high * 1.3)
    else:
        limit(0, high * 1.12)
    axis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value) if value else "0"))


def logarithmic(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis of seconds, with ticks at round times."""
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    fit = [value for value in ROUND if low <= value <= high]
    axis.set_major_locator(FixedLocator(fit[:: len(fit) // 8 + 1]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))


def ranked(canvas: Canvas, ax: Any, names: Sequence[str]) -> list[int]:
    """A vertical axis of names, the first on top; gives the height of each."""
    heights = list(range(len(names)))[::-1]
    ax.set_yticks(heights, [_short(name) for name in names])
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="y", labelcolor=canvas.theme.ink)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=canvas.theme.grid, linewidth=0.8)
    return heights


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def dots(
    canvas: Canvas,
    ax: Any,
    places: Sequence[float],
    values: Sequence[float],
    ends: Sequence[tuple[float, float]],
    *,
    color: str,
    marker: str = "o",
    words: Sequence[str] = (),
) -> None:
    """Dots with their intervals, and words to the right of each."""
    for k, (y, value, (low, high)) in enumerate(zip(places, values, ends, strict=True)):
        if not math.isnan(value):
            ax.plot([low, high], [y, y], color=color, linewidth=2, solid_capstyle="round", zorder=2)
            ax.plot(value, y, marker=marker, color=color, markersize=8, zorder=3)
        if words:
            x = ax.get_xlim()[0] if math.isnan(value) else high
            canvas.label(x, y, words[k], canvas.theme.ink, ax=ax, xytext=(8, 0), size=8.5)


def heat(
    canvas: Canvas,
    ax: Any,
    values: Sequence[Sequence[float]],
    *,
    low: float,
    high: float,
    words: Callable[[float], str] | None = None,
    hatched: Sequence[tuple[int, int]] = (),
) -> None:
    """Cells coloured by amount; a cell without a value stays empty.

    Args:
        canvas: The sheet.
        ax: Where.
        values: Rows from the top.
        low: Value of the first colour.
        high: Value of the last.
        words: Writes a value into its cell.
        hatched: Cells (row, column) that are not over.
    """
    import matplotlib

    colors = matplotlib.colormaps[canvas.theme.sequential]
    for row, cells in enumerate(values):
        for column, value in enumerate(cells):
            if (row, column) in hatched:
                ax.add_patch(_cell(column, row, facecolor="none", edgecolor=canvas.theme.grid, hatch=HATCH))
            if math.isnan(value):
                continue
            color = to_hex(colors((value - low) / (high - low or 1.0)))
            ax.add_patch(_cell(column, row, facecolor=color))
            if words:
                ink = "#ffffff" if contrast("#ffffff", color) > contrast("#111111", color) else "#111111"
                ax.text(column, row, words(value), ha="center", va="center", size=7.5, color=ink)
    ax.set_xlim(-0.5, max(len(cells) for cells in values) - 0.5)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.grid(visible=False)
    ax.spines["bottom"].set_visible(False)


def _cell(column: int, row: int, **style: Any) -> Rectangle:
    return Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, linewidth=0, **style)


def scale(canvas: Canvas, ax: Any, low: float, high: float, words: str, name: Callable[[float], str]) -> None:
    """The colours of a heat map, as a thin bar below it."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colors = ScalarMappable(Normalize(low, high), cmap=canvas.theme.sequential)
    bar = canvas.figure.colorbar(colors, ax=ax, orientation="vertical", fraction=0.025, pad=0.015, aspect=22)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=canvas.theme.muted, labelsize=8, length=0)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: name(value)))
    bar.ax.set_title(words, size=8, color=canvas.theme.muted, loc="right", pad=8)
