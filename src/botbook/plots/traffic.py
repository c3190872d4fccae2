"""Pictures of how much, by whom and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from matplotlib.dates import date2num
from matplotlib.patches import Patch

from botbook.plots._canvas import BUCKETS, NAMES, Canvas, Plot, Table, middle
from botbook.plots._theme import DASHES, MARKERS, OKABE_ITO, SERIES

__all__ = ["volume"]

#: Who speaks keeps its colour in every picture.
ROLE_COLORS: Final = {"user": OKABE_ITO[0], "assistant": OKABE_ITO[4], "system": OKABE_ITO[3]}


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
    freq = NAMES[table.facts.freq]
    panels = _panels(table)
    canvas = Canvas(
        table, theme=theme, title=title or f"Messages per {freq}", panels=len(panels), size=(8.0, 4.0)
    )
    words: list[str] = []
    for ax, (name, rows) in zip(canvas.axes, panels.items(), strict=True):
        if not len(table):
            break
        words.append(_volume_panel(canvas, ax, table, rows))
        canvas.time_axis(ax)
        canvas.amounts("" if name else "messages", ax)
        if name:
            canvas.panel_name(name, ax)
    return canvas.finish(frame, last="; ".join(words))


def _panels(table: Table) -> dict[str, list[int]]:
    """One panel a group, the loudest first; at most six."""
    groups = {" · ".join(key): rows for key, rows in table.series(*table.facts.by).items()}
    loud = sorted(groups, key=lambda name: -sum(table.pick("messages", groups[name])))
    return {name: groups[name] for name in loud[:SERIES]} or {"": []}


def _volume_panel(canvas: Canvas, ax: Any, table: Table, rows: list[int]) -> str:
    roles: dict[str, list[int]] = {}
    for row in rows:
        roles.setdefault(table["role"][row], []).append(row)
    draw = _bars if len(rows) <= BUCKETS * len(roles) else _lines
    draw(canvas, ax, table, roles)
    if draw is _bars and ax is canvas.axes[-1]:
        _key(canvas, roles, unfinished=any(table.pick("unfinished", rows)))
    last = [f"{role} {table['messages'][mine[-1]]:,}" for role, mine in roles.items()]
    return f"last {NAMES[table.facts.freq]}: {', '.join(last)}"


def _bars(canvas: Canvas, ax: Any, table: Table, roles: dict[str, list[int]]) -> None:
    base = [0] * len(next(iter(roles.values())))
    for role, rows in roles.items():
        color = ROLE_COLORS.get(role, OKABE_ITO[2])
        values = table.pick("messages", rows)
        starts = [date2num(start) for start in table.pick("start", rows)]
        widths = [date2num(end) - start for end, start in zip(table.pick("end", rows), starts, strict=True)]
        drawn = ax.bar(
            [s + w / 2 for s, w in zip(starts, widths, strict=True)],
            values,
            [w * 0.82 for w in widths],
            bottom=base,
            color=color,
            edgecolor=canvas.theme.edge(color),
            linewidth=0.7,
            zorder=2,
        )
        for bar, late in zip(drawn, table.pick("unfinished", rows), strict=True):
            if late:
                bar.set(facecolor="none", hatch="////", edgecolor=canvas.theme.edge(color), linestyle="--")
        base = [low + value for low, value in zip(base, values, strict=True)]


def _key(canvas: Canvas, roles: Iterable[str], *, unfinished: bool) -> None:
    """What the colours of bars mean, in the order of the stack."""
    edge = canvas.theme.edge
    handles = [
        Patch(facecolor=color, edgecolor=edge(color), linewidth=0.7, label=role)
        for role, color in ((role, ROLE_COLORS.get(role, OKABE_ITO[2])) for role in roles)
    ]
    if unfinished:
        muted = canvas.theme.muted
        handles.append(Patch(facecolor="none", edgecolor=muted, hatch="////", label="not over yet"))
    canvas.key(handles)


def _lines(canvas: Canvas, ax: Any, table: Table, roles: dict[str, list[int]]) -> None:
    for k, (role, rows) in enumerate(roles.items()):
        color = ROLE_COLORS.get(role, OKABE_ITO[2])
        x = [middle(s, e) for s, e in zip(table.pick("start", rows), table.pick("end", rows), strict=True)]
        y = table.pick("messages", rows)
        done = len(rows) - sum(table.pick("unfinished", rows))
        ax.plot(x[:done], y[:done], color=color, linestyle=DASHES[k], linewidth=1.6)
        ax.plot(x[done - 1 :], y[done - 1 :], color=color, linestyle=":", linewidth=1.2)
        ax.plot(x[done - 1 : done], y[done - 1 : done], color=color, marker=MARKERS[k], linestyle="")
        canvas.label(x[-1], y[max(done - 1, 0)], role, canvas.theme.edge(color), ax=ax)
