"""Pictures of how much and when."""

from __future__ import annotations

import math
from typing import Any, Final

from botbook.plots._canvas import BUCKETS, Canvas, End, Table
from botbook.plots._marks import Part, heat, key_of_bars, line, panels, scale, stacked
from botbook.plots._plot import Plot
from botbook.plots._theme import OKABE_ITO
from botbook.plots._words import NAMES

__all__ = ["hour_weekday", "volume"]

#: Who speaks keeps its colour in every picture.
ROLE_COLORS: Final = {"user": OKABE_ITO[0], "assistant": OKABE_ITO[4], "system": OKABE_ITO[3]}
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def volume(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Messages per bucket: stacked bars, or lines when there are more than 60 buckets.

    Args:
        frame: What `botbook.metrics.volume` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="volume", needs=["start", "end", "unfinished", "role", "messages"])
    found = panels(table, "messages")
    usual = f"Messages per {NAMES[table.facts.freq]}"
    canvas = Canvas(table, theme=theme, title=title or usual, panels=max(1, len(found)))
    words = []
    for ax, (name, rows) in zip(canvas.axes, found.items(), strict=False):
        ends, last = _volume_panel(canvas, ax, rows)
        words.append(f"last {NAMES[table.facts.freq]}{' of ' + name if name else ''}: {last}")
        canvas.time_axis(ax)
        canvas.amounts("" if name else "messages", ax)
        canvas.name_ends(ax, ends)
        if name:
            canvas.panel_name(name, ax)
    return canvas.finish(frame, last="; ".join(words))


def _volume_panel(canvas: Canvas, ax: Any, rows: list[int]) -> tuple[list[End], str]:
    table = canvas.table
    roles: dict[str, list[int]] = {}
    for row in rows:
        roles.setdefault(table["role"][row], []).append(row)
    parts = [
        Part(
            name=role,
            color=ROLE_COLORS.get(role, OKABE_ITO[2]),
            rows=mine,
            values=table.pick("messages", mine),
        )
        for role, mine in roles.items()
    ]
    ends: list[End] = []
    if len(parts[0].rows) <= BUCKETS:
        stacked(canvas, ax, parts)
        if ax is canvas.ax:
            key_of_bars(canvas, parts)
    else:
        ends = [end for k, part in enumerate(parts) for end in line(canvas, ax, part, nth=k)]
    return ends, ", ".join(f"{part.name} {part.values[-1]:,}" for part in parts)


def hour_weekday(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Mean user messages by hour and weekday, as a heat map.

    Args:
        frame: What `botbook.metrics.hour_weekday` gave; of several groups the largest is drawn.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="hour_weekday", needs=["weekday", "hour", "mean", "messages"])
    found = panels(table, "messages", most=1) if len(table) else {}
    name, rows = next(iter(found.items()), ("", []))
    usual = f"User messages an hour, by local hour and weekday{': ' + name if name else ''}"
    canvas = Canvas(table, theme=theme, title=title or usual)
    if not rows:
        return canvas.finish(frame)
    values = [[math.nan] * 24 for _ in WEEKDAYS]
    for row in rows:
        values[table["weekday"][row]][table["hour"][row]] = table["mean"][row]
    high = max((v for line_ in values for v in line_ if not math.isnan(v)), default=0.0)
    ax = canvas.ax
    heat(canvas, ax, values, low=0, high=high)
    scale(canvas, ax, 0, high or 1, "mean", lambda value: f"{value:.3g}")
    ax.set_yticks(range(7), WEEKDAYS)
    ax.set_xticks(range(0, 24, 3), [f"{hour:02d}:00" for hour in range(0, 24, 3)])
    ax.set_xlabel(f"local hour, {table.facts.tz}", loc="left", size=8.5)
    busy = max(rows, key=lambda row: table["mean"][row] if table["mean"][row] == table["mean"][row] else -1)
    where = f"{WEEKDAYS[table['weekday'][busy]]} {table['hour'][busy]:02d}:00"
    return canvas.finish(frame, last=f"busiest: {where}, {table['mean'][busy]:.3g} an hour")
