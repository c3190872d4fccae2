"""A share with its interval: a line with a band over time, or a dot a group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from botbook.plots._canvas import Canvas, Table, middle
from botbook.plots._marks import Part, dots, key_of_few, line, panels, ranked
from botbook.plots._plot import Plot
from botbook.plots._theme import DASHES, MARKERS
from botbook.plots._words import NAMES, share

__all__ = ["Rate", "picture"]

#: More bands than this hide each other.
BANDS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Which columns make a share, and what it is called.

    Attributes:
        metric: Whose frame it is.
        name: The columns are ``name_rate``, ``name_low``, ``name_high``.
        hits: Column of the numerator.
        of: Column of the denominator.
        words: What the share is, for titles.
        things: What the denominator counts.
        few: Under so many the marker is hollow.
        marker: Of the first series.
        color: Number of the first colour.
        beside: A column with another share that belongs beside it, or "".
        bars: Draw bars in place of dots where there is no time.
    """

    metric: str
    name: str
    hits: str
    of: str
    words: str
    things: str
    few: int = 30
    marker: str = "o"
    color: int = 0
    beside: str = ""
    bars: bool = False


def picture(frame: Any, rate: Rate, *, theme: str, title: str | None) -> Plot:
    """Draw a share over time where the frame has buckets, else a dot a group.

    Raises:
        ConfigError: It is not the frame of that metric, or there is no such theme.
    """
    needs = [rate.hits, rate.of, *(f"{rate.name}_{end}" for end in ("rate", "low", "high"))]
    table = Table(frame, metric=rate.metric, needs=needs)
    over_time = bool(table.facts.freq) and "start" in table.names
    usual = f"{rate.words} per {NAMES[table.facts.freq]}" if over_time else rate.words
    names = 1 if over_time or not len(table) else len(panels(table, rate.of, most=20))
    size = (8.0, 4.0 if over_time else max(2.2, 1.5 + 0.42 * names))
    canvas = Canvas(table, theme=theme, title=title or usual, size=size)
    if not len(table):
        return canvas.finish(frame)
    words = _over_time(canvas, rate) if over_time else _by_group(canvas, rate)
    return canvas.finish(frame, last=words)


def _over_time(canvas: Canvas, rate: Rate) -> str:
    table, found = canvas.table, panels(canvas.table, rate.of)
    ends, tops = [], [0.0]
    for k, (name, rows) in enumerate(found.items()):
        color = canvas.theme.colors[(k + rate.color) % len(canvas.theme.colors)]
        part = Part(name=name, color=color, rows=rows, values=table.pick(f"{rate.name}_rate", rows))
        if len(found) <= BANDS:
            tops += _band(canvas, rate, part)
        few = [n < rate.few for n in table.pick(rate.of, rows)]
        nth = k + MARKERS.index(rate.marker)
        ends += line(canvas, canvas.ax, part, nth=nth, dash=DASHES[k], hollow=few)
        tops += part.values
    if rate.beside and len(found) == 1:
        rows, muted = next(iter(found.values())), canvas.theme.muted
        values = table.pick(rate.beside, rows)
        part = Part(name=rate.beside.removesuffix("_rate"), color=muted, rows=rows, values=values)
        ends += line(canvas, canvas.ax, part, nth=1)
        tops += values
    canvas.time_axis()
    top = max(value for value in tops if not math.isnan(value))
    canvas.shares(f"share of {rate.things}, band: Wilson 95 %", top=min(1.02, top * 1.1) or 1.0)
    canvas.name_ends(canvas.ax, [(x, y, f"{name} {share(y)}".strip(), c) for x, y, name, c in ends])
    if any(n < rate.few for n in table[rate.of]):
        key_of_few(canvas, f"under {rate.few} {rate.things}")
    return "; ".join(f"last{' of ' + name if name else ''}: {share(y)}" for _, y, name, _ in ends)


def _band(canvas: Canvas, rate: Rate, part: Part) -> Sequence[float]:
    """Shade the interval; gives its upper ends."""
    table, rows = canvas.table, part.rows
    spans = zip(table.pick("start", rows), table.pick("end", rows), strict=True)
    x = [middle(start, end) for start, end in spans]
    low, high = table.pick(f"{rate.name}_low", rows), table.pick(f"{rate.name}_high", rows)
    canvas.ax.fill_between(x, low, high, color=part.color, alpha=0.16, linewidth=0)
    return high


def _by_group(canvas: Canvas, rate: Rate) -> str:
    table, ax = canvas.table, canvas.ax
    found = {name: rows[0] for name, rows in panels(table, rate.of, most=20).items()}
    value = {name: table[f"{rate.name}_rate"][row] for name, row in found.items()}
    names = sorted(found, key=lambda name: -1.0 if math.isnan(value[name]) else value[name], reverse=True)
    rows = [found[name] for name in names]
    places = ranked(canvas, ax, names)
    lows, highs = table.pick(f"{rate.name}_low", rows), table.pick(f"{rate.name}_high", rows)
    canvas.across(f"share of {rate.things}, with Wilson 95 % interval", highs)
    words = [
        f"{share(value[name])}  {table[rate.hits][row]:,} of {table[rate.of][row]:,}"
        for name, row in zip(names, rows, strict=True)
    ]
    color = canvas.theme.colors[rate.color]
    if rate.beside:
        other = rate.beside.removesuffix("_rate")
        shares = [share(value) for value in table.pick(rate.beside, rows)]
        words = [f"{word}, {other} {value}" for word, value in zip(words, shares, strict=True)]
    values = [value[name] for name in names]
    if rate.bars:
        edge = canvas.theme.edge(color)
        ax.barh(places, values, 0.62, color=color, edgecolor=edge, linewidth=0.7, zorder=1)
        color = edge
    dots(
        canvas,
        ax,
        places,
        values,
        list(zip(lows, highs, strict=True)),
        color=color,
        marker=rate.marker,
        words=words,
    )
    return "; ".join(f"{name} {word}".strip() for name, word in zip(names, words, strict=True))
