"""Pictures of how fast and how fully the bot answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from botbook._errors import ConfigError
from botbook.plots._canvas import BUCKETS, NAMES, Canvas, Plot, Table, middle, seconds
from botbook.plots._theme import DASHES, MARKERS, SERIES

__all__ = ["response_latency"]

#: Under so many turns a p95 says little: its marker is hollow.
FEW: Final = 20
WIDE: Final = 50.0
#: Round lengths of time, in seconds.
ROUND: Final = (
    *(m * 10**e for e in (-3, -2, -1, 0) for m in (1, 2, 5)),
    *(10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200),
    *(86400 * d for d in (1, 2, 7, 30, 90, 365)),
)


def response_latency(
    frame: Any, *, theme: str = "auto", title: str | None = None, kind: str = "first"
) -> Plot:
    """How long users wait.

    With buckets p50 and p95 over time; with ``freq=None`` a box a group (5, 25, 50, 75, 95 %); with
    ``ecdf=True`` the share of turns answered within a time.

    Args:
        frame: What `botbook.metrics.response_latency` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.
        kind: ``first`` or ``complete``; the curves of `ecdf` show both when there is one group.

    Raises:
        ConfigError: It is not that frame, or a parameter is wrong.
    """
    if kind not in ("first", "complete"):
        raise ConfigError(f"kind={kind!r} is neither first nor complete", hint="`first` is the first output.")
    table = Table(frame, metric="response_latency", needs=["kind", "n"])
    if "share" in table.names:
        draw, what = _curves, "within which users have their answer"
    elif table.facts.freq:
        draw, what = _over_time, f"per {NAMES[table.facts.freq]}"
    else:
        draw, what = _boxes, "by group" if table.facts.by else "over the whole range"
    until = "first output" if kind == "first" else "end of the answer"
    usual = f"Time {what}" if draw is _curves else f"Time to the {until}, {what}"
    canvas = Canvas(table, theme=theme, title=title or usual)
    last = draw(canvas, table, kind) if len(table) else ""
    return canvas.finish(frame, last=last)


def _groups(table: Table, rows: Sequence[int]) -> dict[str, list[int]]:
    """Rows a group, at most six, the largest first."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(" · ".join(table[name][row] for name in table.facts.by), []).append(row)
    large = sorted(found, key=lambda name: -sum(table.pick("n", found[name])))
    return {name: found[name] for name in large[:SERIES]}


def _of_kind(table: Table, kind: str) -> list[int]:
    return [row for row, value in enumerate(table["kind"]) if value == kind]


def _over_time(canvas: Canvas, table: Table, kind: str) -> str:
    groups = _groups(table, _of_kind(table, kind))
    shown = [v for rows in groups.values() for name in ("p50_s", "p95_s") for v in table.pick(name, rows)]
    ends: list[tuple[float, float, str, str]] = []
    for k, (name, rows) in enumerate(groups.items()):
        color = canvas.theme.colors[k]
        x = [middle(s, e) for s, e in zip(table.pick("start", rows), table.pick("end", rows), strict=True)]
        p50, p95 = table.pick("p50_s", rows), table.pick("p95_s", rows)
        if len(groups) == 1:
            canvas.ax.fill_between(x, p50, p95, color=color, alpha=0.13, linewidth=0)
        for values, percent, dash in ((p50, "p50", DASHES[0]), (p95, "p95", DASHES[1])):
            _line(canvas, table, rows, x, values, color=color, marker=MARKERS[k], dash=dash)
            ends += _end(x, values, f"{percent} {name}".strip(), color)
    canvas.time_axis()
    _time_up(canvas.ax.yaxis, canvas.ax.set_ylim, shown)
    canvas.left("time from the question")
    _label_ends(canvas, ends)
    if any(n < FEW for rows in groups.values() for n in table.pick("n", rows)):
        _key_few(canvas)
    return ", ".join(f"{words} {seconds(y)}" for _, y, words, _ in ends)


def _line(
    canvas: Canvas,
    table: Table,
    rows: list[int],
    x: list[float],
    y: list[float],
    *,
    color: str,
    marker: str,
    dash: Any,
) -> None:
    done = len(rows) - sum(table.pick("unfinished", rows))
    ax, style = canvas.ax, {"color": color, "solid_capstyle": "round"}
    ax.plot(x[:done], y[:done], linestyle=dash, linewidth=1.7, **style)
    ax.plot(x[max(done - 1, 0) :], y[max(done - 1, 0) :], linestyle=(0, (1, 2)), linewidth=1.2, **style)
    if len(rows) > BUCKETS:
        return
    paper = canvas.theme.paper or "none"
    for position, (few, late) in enumerate(
        zip((n < FEW for n in table.pick("n", rows)), table.pick("unfinished", rows), strict=True)
    ):
        fill = paper if few or late else color
        ax.plot(x[position], y[position], marker=marker, color=color, markerfacecolor=fill, markersize=5.5)


def _key_few(canvas: Canvas) -> None:
    muted = canvas.theme.muted
    made = Line2D(
        [], [], marker="o", color=muted, markerfacecolor="none", linestyle="", label="under 20 turns"
    )
    canvas.key([made])


def _end(x: list[float], y: list[float], words: str, color: str) -> list[tuple[float, float, str, str]]:
    """Where a line ends, if it has a value anywhere."""
    known = [k for k, value in enumerate(y) if not math.isnan(value)]
    return [(x[-1], y[known[-1]], words, color)] if known else []


def _label_ends(canvas: Canvas, ends: list[tuple[float, float, str, str]]) -> None:
    """Names at the right, pushed apart where they would touch."""
    ax = canvas.ax
    canvas.figure.draw_without_rendering()
    high = ax.get_xlim()[1]
    floor = -math.inf
    for _, y, words, color in sorted(ends, key=lambda end: end[1]):
        pixel = ax.transData.transform((high, y))[1]
        shift = max(0.0, floor - pixel)
        floor = pixel + shift + 13 * canvas.figure.dpi / 72
        canvas.label(high, y, words, canvas.theme.edge(color), xytext=(6, shift * 72 / canvas.figure.dpi))


def _time_up(axis: Any, limit: Any, values: list[float]) -> None:
    """An axis of lengths of time: from 0, or logarithmic when they differ fifty times over."""
    known = [value for value in values if not math.isnan(value)]
    low, high = min((v for v in known if v > 0), default=1.0), max(known, default=1.0) or 1.0
    wide = high / low > WIDE
    if wide:
        axis.axes.set_yscale("log") if axis.axis_name == "y" else axis.axes.set_xscale("log")
        _round_ticks(axis, low / 1.3, high * 1.3)
        limit(low / 1.3, high * 1.3)
    else:
        limit(0, high * 1.12)
    axis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value) if value else "0"))


def _round_ticks(axis: Any, low: float, high: float) -> None:
    fit = [value for value in ROUND if low <= value <= high]
    axis.set_major_locator(FixedLocator(fit[:: len(fit) // 8 + 1]))
    axis.set_minor_locator(NullLocator())


def _boxes(canvas: Canvas, table: Table, kind: str) -> str:
    groups = _groups(table, _of_kind(table, kind))
    ax, words = canvas.ax, []
    shown = [value for rows in groups.values() for p in ("p05_s", "p95_s") for value in table.pick(p, rows)]
    for k, (name, rows) in enumerate(groups.items()):
        low, left, mid, right, high = (table[f"p{p}_s"][rows[0]] for p in ("05", "25", "50", "75", "95"))
        n, y = table["n"][rows[0]], len(groups) - 1 - k
        color, edge = canvas.theme.colors[k], canvas.theme.edge(canvas.theme.colors[k])
        ax.plot([low, high], [y, y], color=edge, linewidth=1.4, solid_capstyle="butt", zorder=2)
        ax.barh(y, right - left, 0.46, left=left, color=color, edgecolor=edge, linewidth=0.8, zorder=3)
        ax.plot([mid, mid], [y - 0.23, y + 0.23], color=canvas.theme.paper or edge, linewidth=2.2, zorder=4)
        if n:
            ax.annotate(
                f"p50 {seconds(mid)} · p95 {seconds(high)} · n {n:,}",
                (left, y + 0.27),
                xytext=(0, 2),
                textcoords="offset points",
                size=8.5,
                color=canvas.theme.ink,
            )
            words.append(f"{name} p50 {seconds(mid)}, p95 {seconds(high)}, n {n:,}".strip())
    ax.set_yticks(range(len(groups)), [*groups][::-1])
    ax.set_ylim(-0.6, len(groups) - 0.3)
    ax.grid(visible=False, axis="y")
    ax.grid(axis="x", color=canvas.theme.grid, linewidth=0.8)
    _time_up(ax.xaxis, ax.set_xlim, shown)
    ax.set_xlabel("whiskers 5 and 95 %, box 25 and 75 %", loc="left", size=8.5)
    return "; ".join(words)


def _curves(canvas: Canvas, table: Table, kind: str) -> str:
    ax, words = canvas.ax, []
    names = [*table.facts.by, "kind"] if not table.facts.by else list(table.facts.by)
    rows = range(len(table)) if not table.facts.by else _of_kind(table, kind)
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(" · ".join(table[name][row] for name in names), []).append(row)
    for k, (name, mine) in enumerate(list(found.items())[:SERIES]):
        color = canvas.theme.colors[k]
        x, y = table.pick("latency_s", mine), table.pick("share", mine)
        ax.step([x[0], *x], [0, *y], where="post", color=color, linestyle=DASHES[k], linewidth=1.8)
        at = next(p for p, value in enumerate(y) if value >= 0.5)
        ax.plot(x[at], y[at], marker=MARKERS[k], color=color, markersize=6)
        canvas.label(
            x[at],
            y[at],
            f"{name}: half within {seconds(x[at])}",
            canvas.theme.edge(color),
            xytext=(9, -3 - 12 * k),
        )
        words.append(f"{name}: half within {seconds(x[at])}")
    shown = [value for value in table["latency_s"] if value > 0]
    ax.set_xscale("log")
    _round_ticks(ax.xaxis, min(shown, default=1.0) / 1.1, max(shown, default=1.0) * 1.1)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    ax.grid(axis="x", color=canvas.theme.grid, linewidth=0.8)
    canvas.shares("share of answered turns", top=1.03)
    ax.set_xlabel("time from the question, logarithmic", loc="left", size=8.5)
    return "; ".join(words)
