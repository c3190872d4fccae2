"""What a report is made of: tiles, and sections of pictures with their data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botbook import plots

if TYPE_CHECKING:
    from botbook.plots import Plot

__all__ = ["Panel", "Report", "Section", "Tile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One number.

    Attributes:
        name: Of the column it was read from, behind its metric: ``like_rate.like_rate``.
        title: What it counts.
        number: The number; NaN where there is nothing to tell.
        value: The same in words.
        detail: What stands behind it: numerator, denominator, interval.
    """

    name: str
    title: str
    number: float
    value: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One metric with its picture.

    Attributes:
        metric: Name of the metric and of its picture.
        data: The metric frame; None where there is nothing to show.
        words: A sentence below the picture, or why there is none.
        options: Of the picture.
    """

    metric: str
    data: Any
    words: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def figure(self, theme: str = "auto") -> Plot:
        """Draw it.

        Args:
            theme: ``light``, ``dark`` or ``auto``.
        """
        drawn: Plot = getattr(plots, self.metric)(self.data, theme=theme, **self.options)
        return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Pictures that belong together.

    Attributes:
        title: Its heading.
        panels: In order.
    """

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Report:
    """One page over a journal.

    Attributes:
        title: Its heading.
        about: Range, filters, zone, rows: one short sentence each.
        tiles: The numbers on top.
        sections: The pictures.
    """

    title: str
    about: tuple[str, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]

    def __repr__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.fragment()

    def page(self) -> str:
        """A whole HTML page in one text: no script, no address; light, dark and on paper."""
        from botbook.report._html import page

        return page(self)

    def fragment(self) -> str:
        """The same for a place that has a page already, such as the output of a cell."""
        from botbook.report._html import fragment

        return fragment(self)

    def text(self) -> str:
        """The numbers alone, a line each."""
        wide = max((len(tile.title) for tile in self.tiles), default=0)
        lines = [f"{t.title:<{wide}}  {t.value}{f'  ({t.detail})' if t.detail else ''}" for t in self.tiles]
        return "\n".join([self.title, *self.about, *lines])
