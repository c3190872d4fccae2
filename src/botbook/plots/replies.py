"""Pictures of how fast and how fully the bot answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from botbook._errors import ConfigError
from botbook.plots._canvas import Canvas, End, Table, middle
from botbook.plots._marks import Part, key_of_few, lengths, line, logarithmic
from botbook.plots._plot import Plot
from botbook.plots._rates import Rate, picture
from botbook.plots._theme import DASHES, MARKERS, SERIES
from botbook.plots._words import NAMES, seconds

__all__ = ["response_latency", "unanswered"]

#: Under so many turns a p95 says little: its marker is hollow.
FEW: Final = 20
#: Most groups over time, each with two lines.
LINES: Final = 4


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


def unanswered(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Share of user turns without an answer in time: a line with its band, or a dot a group.

    Args:
        frame: What `botbook.metrics.unanswered` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    missed = Rate(
        metric="unanswered",
        name="missed",
        hits="missed",
        of="user_turns",
        words="Turns without an answer",
        things="user turns",
        color=1,
    )
    return picture(frame, missed, theme=theme, title=title)


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
    groups = dict(list(_groups(table, _of_kind(table, kind)).items())[:LINES])
    shown = [v for rows in groups.values() for name in ("p50_s", "p95_s") for v in table.pick(name, rows)]
    ends: list[End] = []
    for k, (name, rows) in enumerate(groups.items()):
        color = canvas.theme.colors[k]
        few = [n < FEW for n in table.pick("n", rows)]
        x = [middle(s, e) for s, e in zip(table.pick("start", rows), table.pick("end", rows), strict=True)]
        p50, p95 = table.pick("p50_s", rows), table.pick("p95_s", rows)
        if len(groups) == 1:
            canvas.ax.fill_between(x, p50, p95, color=color, alpha=0.13, linewidth=0)
        for values, percent, dash in ((p50, "p50", DASHES[0]), (p95, "p95", DASHES[1])):
            part = Part(name=f"{percent} {name}".strip(), color=color, rows=rows, values=values)
            ends += line(canvas, canvas.ax, part, nth=k, dash=dash, hollow=few)
    canvas.time_axis()
    lengths(canvas.ax.yaxis, canvas.ax.set_ylim, shown)
    canvas.left("time from the question")
    canvas.name_ends(canvas.ax, ends)
    if any(n < FEW for rows in groups.values() for n in table.pick("n", rows)):
        key_of_few(canvas, f"under {FEW} turns")
    return ", ".join(f"{words} {seconds(y)}" for _, y, words, _ in ends)


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
    lengths(ax.xaxis, ax.set_xlim, shown)
    ax.set_xlabel("whiskers 5 and 95 %, box 25 and 75 %", loc="left", size=8.5)
    return "; ".join(words)


def _curves(canvas: Canvas, table: Table, kind: str) -> str:
    ax = canvas.ax
    halves: list[tuple[float, str, str]] = []
    names = list(table.facts.by) or ["kind"]
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
        halves.append((x[at], name, color))
    right = max(half for half, _, _ in halves) if halves else 1.0
    for k, (said, color) in enumerate(_joined(halves)):  # one below the other, right of every marker
        canvas.label(right, 0.5, said, canvas.theme.edge(color), xytext=(10, -3 - 13 * k))
    shown = [value for value in table["latency_s"] if value > 0]
    logarithmic(ax.xaxis, min(shown, default=1.0) / 1.1, max(shown, default=1.0) * 1.1)
    ax.grid(axis="x", color=canvas.theme.grid, linewidth=0.8)
    canvas.shares("share of answered turns", top=1.03)
    ax.set_xlabel("time from the question, logarithmic", loc="left", size=8.5)
    return "; ".join(said for said, _ in _joined(halves))


def _joined(halves: Sequence[tuple[float, str, str]]) -> list[tuple[str, str]]:
    """Words and colour for each curve; curves with the same half share their words."""
    found: dict[str, list[tuple[str, str]]] = {}
    for half, name, color in halves:
        found.setdefault(seconds(half), []).append((name, color))
    return [
        (f"{', '.join(name for name, _ in same)}: half within {half}", same[-1][1])
        for half, same in found.items()
    ]
