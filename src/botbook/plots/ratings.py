"""Pictures of what users think of answers."""

from __future__ import annotations

from typing import Any, Final

from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

from botbook.plots._canvas import Canvas, Table
from botbook.plots._marks import heat, panels
from botbook.plots._plot import Plot
from botbook.plots._rates import Rate, picture
from botbook.plots._theme import OKABE_ITO
from botbook.plots._words import share

__all__ = ["dislike_reasons", "feedback_changes", "feedback_coverage", "feedback_state", "like_rate"]

#: State → marker, colour: shape and colour both tell.
STATES: Final = {
    "like": ("^", OKABE_ITO[0]),
    "none": ("o", "#8b949e"),
    "dislike": ("v", OKABE_ITO[1]),
}


def like_rate(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Likes among ratings with their interval, and how many answers were rated at all.

    Args:
        frame: What `botbook.metrics.like_rate` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    liked = Rate(
        metric="like_rate",
        name="like",
        hits="likes",
        of="n",
        words="▲ Likes among ratings",
        things="ratings",
        marker="^",
        beside="coverage_rate",
    )
    return picture(frame, liked, theme=theme, title=title)


def feedback_coverage(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Share of answers that were rated: a line with its band, or a dot a group.

    Args:
        frame: What `botbook.metrics.feedback_coverage` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    rated = Rate(
        metric="feedback_coverage",
        name="coverage",
        hits="rated",
        of="answers",
        words="Answers that were rated",
        things="answers",
        color=2,
    )
    return picture(frame, rated, theme=theme, title=title)


def dislike_reasons(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Why answers are disliked: a bar a reason, the most named first. Shares add up past 100 %.

    Args:
        frame: What `botbook.metrics.dislike_reasons` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    named = Rate(
        metric="dislike_reasons",
        name="named",
        hits="named",
        of="disliked",
        words="▼ Reasons of dislikes (one answer may name several)",
        things="disliked answers",
        color=1,
        marker="v",
        bars=True,
    )
    return picture(frame, named, theme=theme, title=title)


def feedback_changes(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """From which state to which one clicks lead, as a matrix.

    Args:
        frame: What `botbook.metrics.feedback_changes` gave; of several groups the largest is drawn.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    needs = ["before", "after", "changes", "ids", "cancelled_rate"]
    table = Table(frame, metric="feedback_changes", needs=needs)
    name, rows = next(iter(panels(table, "changes", most=1).items()), ("", []))
    usual = f"How ratings change{': ' + name if name else ''}"
    canvas = Canvas(table, theme=theme, title=title or usual, size=(5.4, 4.0))
    if not rows:
        return canvas.finish(frame)
    states = list(STATES)
    values = [[0.0] * len(states) for _ in states]
    for row in rows:
        values[states.index(table["before"][row])][states.index(table["after"][row])] = table["changes"][row]
    ax, most = canvas.ax, max(value for cells in values for value in cells)
    heat(canvas, ax, values, low=0, high=most or 1, words=lambda value: f"{value:,.0f}")
    for text in ax.texts:
        text.set_size(11)
    names = ["▲ like", "○ none", "▼ dislike"]
    ax.set_xticks(range(3), [f"to {words}" for words in names])
    ax.set_yticks(range(3), [f"from {words}" for words in names])
    ax.tick_params(labelcolor=canvas.theme.ink)
    gone, ids = table["cancelled_rate"][rows[0]], table["ids"][rows[0]]
    ax.set_xlabel(f"taken back in the end: {share(gone)} of {ids:,} ratings", loc="left", size=8.5)
    return canvas.finish(frame, last=f"taken back {share(gone)} of {ids:,}")


def feedback_state(frame: Any, *, theme: str = "auto", title: str | None = None) -> Plot:
    """Every rating at the time of its answer: ▲ like, ○ taken back, ▼ dislike.

    Args:
        frame: What `botbook.metrics.feedback_state` gave.
        theme: ``light``, ``dark`` or ``auto``.
        title: In place of the usual one.

    Raises:
        ConfigError: It is not that frame, or there is no such theme.
    """
    table = Table(frame, metric="feedback_state", needs=["state", "first_at", "answered_at"])
    usual = "Ratings, by the time of their answer"
    canvas = Canvas(table, theme=theme, title=title or usual, size=(8.0, 2.6))
    if not len(table):
        return canvas.finish(frame)
    ax = canvas.ax
    words = []
    for y, (state, rows) in enumerate(reversed([*_by_state(table).items()])):
        marker, color = STATES[state]
        pairs = zip(table.pick("answered_at", rows), table.pick("first_at", rows), strict=True)
        x = [date2num(first if _missing(answer) else answer) for answer, first in pairs]
        style = {"markersize": 8, "alpha": 0.7, "markeredgewidth": 0}
        ax.plot(x, [y] * len(x), linestyle="", marker=marker, color=color, **style)
        words.append(f"{state} {len(rows):,}")
    ax.set_yticks(range(3), ["▼ dislike", "○ none", "▲ like"])
    ax.tick_params(axis="y", labelcolor=canvas.theme.ink)
    ax.set_ylim(-0.6, 2.6)
    zone = canvas.zone
    locator = AutoDateLocator(tz=zone, maxticks=8)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone, show_offset=False))
    ax.set_xlabel(f"local time, {table.facts.tz}", loc="left", size=8.5)
    return canvas.finish(frame, last=", ".join(words))


def _by_state(table: Table) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {state: [] for state in STATES}
    for row, state in enumerate(table["state"]):
        found[state].append(row)
    return found


def _missing(value: Any) -> bool:
    """None, or pandas' NaT, which is not itself."""
    return value is None or value != value
