"""A share with its interval: a line with a band over time, or a dot a group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from botbook.plots._canvas import NAMES, Canvas, Plot, Table, middle, share
from botbook.plots._marks import Part, dots, end_labels, key_of_few, line, panels, ranked

__all__ = ["Rate", "picture"]


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
    table, ends, low, high = canvas.table, [], f"{rate.name}_low", f"{rate.name}_high"
    found = panels(table, rate.of)
    tops = []
    for k, (name, rows) in enumerate(found.items()):
        color = canvas.theme.colors[(k + rate.color) % len(canvas.theme.colors)]
        values, top = table.pick(f"{rate.name}_rate", rows), table.pick(high, rows)
        spans = zip(table.pick("start", rows), table.pick("end", rows), strict=True)
        x = [middle(start, end) for start, end in spans]
        if len(found) <= 3:
            canvas.ax.fill_between(x, table.pick(low, rows), top, color=color, alpha=0.16, linewidth=0)
        part = Part(name=name, color=color, rows=rows, values=values)
        few = [n < rate.few for n in table.pick(rate.of, rows)]
        ends += line(canvas, canvas.ax, part, nth=k, hollow=few)
        tops += [value for value in (top if len(found) <= 3 else values) if not math.isnan(value)]
    canvas.time_axis()
    canvas.shares(
        f"share of {rate.things}, band: Wilson 95 %", top=min(1.02, max(tops, default=1.0) * 1.1 or 1.0)
    )
    end_labels(canvas, canvas.ax, [(x, y, f"{name} {share(y)}".strip(), c) for x, y, name, c in ends])
    if any(n < rate.few for n in table[rate.of]):
        key_of_few(canvas, f"under {rate.few} {rate.things}")
    return "; ".join(f"last{' of ' + name if name else ''}: {share(y)}" for _, y, name, _ in ends)


def _by_group(canvas: Canvas, rate: Rate) -> str:
    table, ax = canvas.table, canvas.ax
    found = {name: rows[0] for name, rows in panels(table, rate.of, most=20).items()}
    value = {name: table[f"{rate.name}_rate"][row] for name, row in found.items()}
    names = sorted(found, key=lambda name: -1.0 if math.isnan(value[name]) else value[name], reverse=True)
    rows = [found[name] for name in names]
    places = ranked(canvas, ax, names)
    canvas.across(
        "share of " + rate.things + ", with Wilson 95 % interval", table.pick(f"{rate.name}_high", rows)
    )
    ends = list(zip(table.pick(f"{rate.name}_low", rows), table.pick(f"{rate.name}_high", rows), strict=True))
    words = [
        f"{share(value[name])}  {table[rate.hits][row]:,} of {table[rate.of][row]:,}"
        for name, row in zip(names, rows, strict=True)
    ]
    color = canvas.theme.colors[rate.color]
    values = [value[name] for name in names]
    dots(canvas, ax, places, values, ends, color=color, marker=rate.marker, words=words)
    return "; ".join(f"{name} {word}".strip() for name, word in zip(names, words, strict=True))
