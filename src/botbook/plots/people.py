"""Pictures of who uses a bot."""

from __future__ import annotations

import math
from typing import Any, Final

from matplotlib.dates import date2num

from botbook.plots._canvas import Canvas, Table
from botbook.plots._marks import Part, heat, key_of_bars, line, panels, scale, stacked
from botbook.plots._plot import Plot
from botbook.plots._theme import OKABE_ITO
from botbook.plots._words import NAMES, share

__all__ = ["active_users", "retention", "user_growth"]

SHOWN: Final = (("mau", "28 days"), ("wau", "7 days"), ("active", ""))
#: More rows than this are no picture any more: the latest are shown.
COHORTS: Final = 24


def active_users(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Active users per bucket and over the trailing 7 and 28 days, a panel a group.

    Args:
        frame: What `botbook.metrics.active_users` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="active_users", needs=["start", "end", "unfinished", "active", "wau", "mau"])
    found, freq = panels(table, "active"), NAMES[table.facts.freq]
    canvas = Canvas(table, theme=theme, title=title or "Active users", panels=max(1, len(found)))
    words = []
    for ax, (name, rows) in zip(canvas.axes, found.items(), strict=False):
        ends = []
        for k, (column, usual) in enumerate(SHOWN):
            values = [float(value) for value in table.pick(column, rows)]
            partial = table.pick(f"{column}_partial", rows) if column != "active" else []
            part = Part(name=usual or f"1 {freq}", color=OKABE_ITO[(2, 4, 0)[k]], rows=rows, values=values)
            ends += line(canvas, ax, part, nth=2 - k, hollow=partial)
        canvas.time_axis(ax)
        canvas.amounts("" if name else "users", ax)
        if name:
            canvas.panel_name(name, ax)
        canvas.name_ends(ax, ends)
        words += [
            f"last{' of ' + name if name else ''}: " + ", ".join(f"{w} {y:,.0f}" for _, y, w, _ in ends)
        ]
    return canvas.finish(frame, last="; ".join(words))


def user_growth(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """New, returning and resurrected users, stacked; the first 28 days are shaded.

    Args:
        frame: What `botbook.metrics.user_growth` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    needs = ["start", "end", "unfinished", "new", "returning", "resurrected", "censored"]
    table = Table(frame, metric="user_growth", needs=needs)
    found = panels(table, "active")
    usual = f"New and returning users per {NAMES[table.facts.freq]}"
    canvas = Canvas(table, theme=theme, title=title or usual, panels=max(1, len(found)))
    words = []
    for ax, (name, rows) in zip(canvas.axes, found.items(), strict=False):
        back = table.pick("resurrected", rows)
        stay = [many - few for many, few in zip(table.pick("returning", rows), back, strict=True)]
        values = (("returning", stay), ("back after 28 days", back), ("new", table.pick("new", rows)))
        colors = (OKABE_ITO[0], OKABE_ITO[3], OKABE_ITO[4])
        parts = [
            Part(name=n, color=color, rows=rows, values=v)
            for (n, v), color in zip(values, colors, strict=True)
        ]
        stacked(canvas, ax, parts)
        canvas.time_axis(ax)
        canvas.amounts("" if name else "users", ax)
        _shade_young(canvas, ax, rows)
        if name:
            canvas.panel_name(name, ax)
        if ax is canvas.ax:
            key_of_bars(canvas, parts)
        words.append(
            f"last{' of ' + name if name else ''}: " + ", ".join(f"{n} {v[-1]:,}" for n, v in values)
        )
    return canvas.finish(frame, last="; ".join(words))


def _shade_young(canvas: Canvas, ax: Any, rows: list[int]) -> None:
    table = canvas.table
    young = [row for row in rows if table["censored"][row]]
    if young:
        left, right = date2num(table["start"][young[0]]), date2num(table["end"][young[-1]])
        ax.axvspan(left, right, color=canvas.theme.shade, alpha=0.1, linewidth=0, zorder=0.4)
        canvas.label(
            left,
            1.0,
            "first 28 days: everyone looks new",
            canvas.theme.muted,
            ax=ax,
            size=7.5,
            xycoords=ax.get_xaxis_transform(),
            xytext=(4, -8),
        )


def retention(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Share of each cohort that is active k periods later, as a triangle; open periods are hatched.

    Args:
        frame: What `botbook.metrics.retention` gave; of several groups the largest is drawn.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(
        frame, metric="retention", needs=["cohort", "period", "users", "retained_rate", "unfinished"]
    )
    freq = NAMES[table.facts.freq]
    found = panels(table, "users", most=1) if len(table) else {}
    name, rows = next(iter(found.items()), ("", []))
    cohorts = list(dict.fromkeys(table.pick("cohort", rows)))[-COHORTS:]
    usual = f"Users still active, by {freq} of the first message{': ' + name if name else ''}"
    canvas = Canvas(table, theme=theme, title=title or usual, size=(8.0, max(2.6, 1.7 + 0.27 * len(cohorts))))
    if not rows:
        return canvas.finish(frame)
    wide = max(table["period"][row] for row in rows if table["cohort"][row] == cohorts[0]) + 1
    values = [[math.nan] * wide for _ in cohorts]
    sizes, hatched = dict.fromkeys(cohorts, 0), []
    for row in rows:
        if (cohort := table["cohort"][row]) in sizes:
            where = (cohorts.index(cohort), table["period"][row])
            values[where[0]][where[1]] = table["retained_rate"][row]
            sizes[cohort] = table["users"][row]
            hatched += [where] if table["unfinished"][row] else []
    ax = canvas.ax
    heat(canvas, ax, values, low=0, high=1, words=_whole if wide <= COHORTS else None, hatched=hatched)
    scale(canvas, ax, 0, 1, "", lambda value: f"{value:.0%}")
    ax.set_yticks(range(len(cohorts)), [f"{cohort}   n {sizes[cohort]:,}" for cohort in cohorts])
    ax.set_xticks(range(0, wide, wide // 13 + 1))
    ax.set_xlabel(f"{freq}s after the first, {table.facts.tz}", loc="left", size=8.5)
    return canvas.finish(frame, last=_last_cohort(table, rows))


def _whole(value: float) -> str:
    return f"{value * 100:.0f}"


def _last_cohort(table: Table, rows: list[int]) -> str:
    known = [row for row in rows if table["period"][row] == 1 and not table["unfinished"][row]]
    if not known:
        return ""
    row = known[-1]
    part, of = share(table["retained_rate"][row]), table["users"][row]
    return f"cohort {table['cohort'][row]}: {part} of {of:,} after 1"
