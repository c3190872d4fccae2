"""One sheet of paper: title, axes, time, gaps, the facts line and the words for those who cannot see it."""

from __future__ import annotations

import textwrap
import zoneinfo
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import narwhals as nw
from matplotlib.dates import date2num
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator

from botbook._errors import ConfigError
from botbook.metrics import Facts, facts
from botbook.plots._plot import Plot
from botbook.plots._theme import Theme, fonts, theme_named
from botbook.plots._words import NAMES, TIED, facts_line, ticks, union

__all__ = ["BUCKETS", "Canvas", "End", "Table", "middle"]

#: Inches; a notebook's output is about this wide.
SIZE: Final = (8.0, 4.0)
DPI: Final = 110
#: More buckets than this, and bars become lines (bots.md 3c).
BUCKETS: Final = 60
TICKS: Final = 9
#: Most axes side by side.
COLUMNS: Final = 3
#: In points.
NAME_HEIGHT: Final = 13.0
LATIN: Final = "\u2e80"


#: Where a line ends: x, y, its name, its colour.
End = tuple[float, float, str, str]


class Table:
    """A metric frame of any kind, as columns of Python values.

    Args:
        frame: What a function of `botbook.metrics` gave.
        metric: Name of that function.
        needs: Columns that must be there.

    Raises:
        ConfigError: It is not the frame of that metric, or its facts were lost.
    """

    def __init__(self, frame: Any, *, metric: str, needs: Iterable[str]) -> None:
        try:
            opened = nw.from_native(frame, eager_only=True)
        except TypeError:
            raise ConfigError(
                f"{type(frame).__name__} is no metric frame",
                hint=f"Give what `botbook.metrics.{metric}` returns.",
            ) from None
        missing = [name for name in needs if name not in opened.columns]
        if missing:
            raise ConfigError(
                f"plots.{metric} needs a column {missing[0]!r}",
                hint=f"Give what `botbook.metrics.{metric}` returns.",
            )
        self.names: list[str] = opened.columns
        self.columns: dict[str, list[Any]] = {name: opened[name].to_list() for name in opened.columns}
        self.facts = _facts(frame, metric)

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.columns[self.names[0]])

    def series(self, *names: str) -> dict[tuple[str, ...], list[int]]:
        """Row numbers of each combination of values, in the order they come."""
        found: dict[tuple[str, ...], list[int]] = {}
        for row, key in enumerate(zip(*(self.columns[name] for name in names), strict=True)):
            found.setdefault(key, []).append(row)
        return found if names else {(): list(range(len(self)))}

    def pick(self, name: str, rows: Sequence[int]) -> list[Any]:
        """Some values of a column."""
        return [self.columns[name][row] for row in rows]


class Canvas:
    """A figure under construction.

    Args:
        table: The data.
        theme: Name of a theme.
        title: What the picture shows.
        panels: How many axes; up to three stand side by side, more in two lines.
        size: Inches.
        share: Whether several axes share the vertical one.
    """

    def __init__(
        self,
        table: Table,
        *,
        theme: str,
        title: str,
        panels: int = 1,
        size: tuple[float, float] = SIZE,
        share: bool = True,
    ) -> None:
        self.table = table
        self.theme: Theme = theme_named(theme)
        self.title = title
        self._below = False
        self.figure = Plot(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
        paper = self.theme.paper or "none"
        self.figure.set_facecolor(paper)
        self.columns = panels if panels <= COLUMNS else (panels + 1) // 2
        lines = -(-panels // self.columns)
        if lines > 1:
            self.figure.set_figheight(size[1] * 1.5)
        made = self.figure.subplots(lines, self.columns, squeeze=False, sharey=share)
        self.axes: list[Any] = list(made.flat)[:panels]
        for ax in list(made.flat)[panels:]:
            ax.set_visible(False)
        for ax in self.axes:
            self._plain(ax)
        self._ends: list[tuple[Any, Sequence[End]]] = []
        if not len(table):
            self.empty("nothing to show in this range")

    @property
    def ax(self) -> Any:
        """The first axes."""
        return self.axes[0]

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """Whose days and hours."""
        return zoneinfo.ZoneInfo(self.table.facts.tz)

    def _plain(self, ax: Any) -> None:
        ax.set_facecolor("none")
        ax.set_axisbelow(True)
        for side in ("left", "right", "top"):
            ax.spines[side].set_visible(False)
        ax.spines["bottom"].set_color(self.theme.muted)
        ax.grid(axis="y", color=self.theme.grid, linewidth=0.8)
        ax.tick_params(colors=self.theme.muted, labelsize=8.5, length=0)
        ax.xaxis.label.set_color(self.theme.muted)
        ax.yaxis.label.set_color(self.theme.muted)

    def empty(self, words: str, ax: Any = None) -> None:
        """Say in the middle of the axes why there is nothing."""
        ax = ax or self.ax
        ax.text(
            0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center", color=self.theme.muted, size=12
        )
        ax.set_xticks([])
        ax.set_yticks([])

    def label(self, x: float, y: float, words: str, color: str, *, ax: Any = None, **options: Any) -> Any:
        """Write beside a point."""
        return (ax or self.ax).annotate(
            words,
            (x, y),
            xytext=options.pop("xytext", (6, 0)),
            textcoords="offset points",
            va=options.pop("va", "center"),
            color=color,
            size=options.pop("size", 9),
            annotation_clip=False,
            **options,
        )

    def name_ends(self, ax: Any, ends: Sequence[End]) -> None:
        """Name lines at the right of their axes."""
        self._ends.append((ax, ends))

    def _place_names(self) -> None:
        """Put the names there, then push apart those that touch: heights are known when all else stands."""
        placed = [
            (ax, y, self.label(ax.get_xlim()[1], y, words, self.theme.edge(color), ax=ax))
            for ax, ends in self._ends
            for _, y, words, color in sorted(ends, key=lambda end: end[1])
        ]
        if not placed:
            return
        self.figure.draw_without_rendering()
        dots = self.figure.dpi / 72
        floors: dict[Any, float] = {}
        for ax, y, name in placed:
            pixel = ax.transData.transform((0, y))[1]
            shift = max(0.0, floors.get(ax, pixel) - pixel)
            floors[ax] = pixel + shift + NAME_HEIGHT * dots
            name.set_position((6, shift / dots))

    def time_axis(self, ax: Any = None) -> None:
        """Local time below, gaps shaded behind."""
        ax = ax or self.ax
        freq, zone = self.table.facts.freq, self.table.facts.tz
        spans = list(dict.fromkeys(zip(self.table["start"], self.table["end"], strict=True)))
        named = ticks([start for start, _ in spans], freq, zone, most=TICKS // self.columns)
        ax.xaxis.set_major_locator(FixedLocator([middle(*spans[k]) for k, _ in named]))
        ax.xaxis.set_major_formatter(FixedFormatter([words for _, words in named]))
        low, high = date2num(spans[0][0]), date2num(spans[-1][1])
        spare = max(0.0, 5 - len(spans)) * (high - low) / len(spans) / 2  # one bucket is no wall
        ax.set_xlim(low - spare, high + spare)
        if ax in self.axes[-self.columns :]:
            what = f"local {NAMES[freq]}" if freq else "whole range"
            ax.set_xlabel(f"{what}, {zone}", loc="left", size=8.5)
        self._shade(ax, low, high)

    def _shade(self, ax: Any, low: float, high: float) -> None:
        shown = []
        for start, end in union((gap.start, gap.end) for gap in self.table.facts.gaps):
            left, right = max(date2num(start), low), min(date2num(end), high)
            if left < right:
                shown.append((left + right) / 2)
                ax.axvspan(left, right, color=self.theme.shade, alpha=0.2, linewidth=0.8, zorder=0.5)
                ax.plot(
                    [left, right],
                    [0, 0],
                    transform=ax.get_xaxis_transform(),
                    color=self.theme.muted,
                    linewidth=5,
                    solid_capstyle="butt",
                    zorder=5,
                )
        if shown:
            self._name_gap(ax, shown[len(shown) // 2])

    def _name_gap(self, ax: Any, x: float) -> None:
        ax.annotate(
            "gap",
            (x, 1),
            xycoords=ax.get_xaxis_transform(),
            xytext=(0, 1),
            textcoords="offset points",
            ha="center",
            va="bottom",
            size=7.5,
            color=self.theme.muted,
        )

    def key(self, handles: Sequence[Any]) -> None:
        """Name the series in one line at the top right, for areas that have no end."""
        self._below = len(self.title) + 14 * len(handles) > 84  # no room beside the title
        line_high = 20 / 72 / self.figure.get_figheight()
        made = self.figure.legend(
            handles=handles,
            loc="upper right",
            bbox_to_anchor=(0.99, 0.975 - line_high * self._below),
            ncols=len(handles),
            frameon=False,
            borderaxespad=0,
            borderpad=0,
            handlelength=1.1,
            handleheight=0.9,
            handletextpad=0.5,
            columnspacing=1.6,
            fontsize=9,
        )
        for text in made.get_texts():
            text.set_color(self.theme.ink)

    def panel_name(self, words: str, ax: Any) -> None:
        """Head one of several axes."""
        ax.set_title(words, loc="left", size=9.5, color=self.theme.ink, pad=10)

    def amounts(self, words: str, ax: Any = None) -> None:
        """Whole numbers from 0 at the left."""
        ax = ax or self.ax
        ax.margins(y=0.1)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        self.left(words, ax)

    def shares(self, words: str, ax: Any = None, *, top: float = 1.0) -> None:
        """Per cent from 0 at the left."""
        ax = ax or self.ax
        ax.set_ylim(0, top)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        self.left(words, ax)

    def across(self, words: str, ends: Sequence[float]) -> None:
        """Per cent from 0 along the bottom, with room for words behind the longest."""
        top = max((end for end in ends if end == end), default=1.0) or 1.0
        self.ax.set_xlim(0, top * 1.45)
        self.ax.xaxis.set_major_locator(MaxNLocator(nbins=6))
        self.ax.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value * 100:.3g}%" if value < 1.001 else "")
        )
        self.ax.set_xlabel(words, loc="left", size=8.5)

    def counts(self, rows: Sequence[int], numbers: Sequence[int]) -> None:
        """A small number on top of each full bar."""
        spans = zip(self.table.pick("start", rows), self.table.pick("end", rows), strict=True)
        for (start, end), number in zip(spans, numbers, strict=True):
            style = {"ha": "center", "va": "bottom", "size": 7.5, "color": self.theme.muted}
            self.ax.text(middle(start, end), 1.01, f"{number:,}", **style)

    def left(self, words: str, ax: Any = None) -> None:
        """Name the vertical axis above its top, where it can be read without turning the head."""
        ax = ax or self.ax
        ax.set_title(words, loc="left", size=8.5, color=self.theme.muted, pad=10)

    def finish(self, frame: Any, *, last: str = "") -> Plot:
        """Print title and facts, choose fonts, and put the picture into words.

        Args:
            frame: The metric frame.
            last: The last values, in words.
        """
        figure, theme = self.figure, self.theme
        figure.suptitle(
            self.title + "\n" * self._below,
            x=0.01,
            ha="left",
            size=12.5,
            weight="bold",
            color=theme.ink,
            linespacing=1.3,
        )
        line = facts_line(self.table.facts)
        wide = int(figure.get_figwidth() * 17)
        figure.supxlabel("\n".join(textwrap.wrap(line, wide)), x=0.01, ha="left", size=7.5, color=theme.muted)
        self._place_names()
        for ax in figure.axes:
            ax.tick_params(labelfontfamily=list(fonts()))
        for text in figure.findobj(Text):
            foreign = max(text.get_text(), default="") > LATIN
            text.set_fontfamily(list(fonts()) if foreign else fonts()[0])
            if foreign:  # those fonts seldom come in bold, and matplotlib would complain
                text.set_fontweight("normal")
        figure.alt = f"{self.title}. {last + '. ' if last else ''}{line}.".replace(TIED, " ")
        figure.data = frame
        return figure


def _facts(frame: Any, metric: str) -> Facts:
    if made := facts(frame):
        return made
    raise ConfigError(
        f"plots.{metric} needs to know what the frame was made from, and its facts were lost on the way",
        hint="`botbook.metrics.attach(frame, botbook.metrics.facts(before))` ties them to it again.",
    )


def middle(start: datetime, end: datetime) -> float:
    """The middle of a bucket, as matplotlib counts days."""
    return float(date2num(start + (end - start) / 2))
