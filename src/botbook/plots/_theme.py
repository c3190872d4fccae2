"""Colours, inks and fonts: readable on light and dark paper, never by colour alone (bots.md 3d)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from botbook._errors import ConfigError

__all__ = ["DASHES", "MARKERS", "SERIES", "THEMES", "Theme", "contrast", "style", "theme_named"]

#: Most series in one picture; the rest stay in the data.
SERIES: Final = 6
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
DASHES: Final[tuple[Any, ...]] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.4)),
    (0, (6, 2, 1, 2)),
    (0, (9, 3)),
    (0, (3, 1.5)),
)
#: Okabe-Ito without yellow and black, the strong ones first.
OKABE_ITO: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
#: Fonts for what DejaVu cannot write; the installed ones are used, in this order.
CJK: Final = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Apple SD Gothic Neo",
    "Malgun Gothic",
)

_BOLD: Final = frozenset({"bold", "700"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """What a picture is drawn with.

    Attributes:
        name: ``light``, ``dark`` or ``auto``.
        paper: Background, or None for a transparent one.
        ink: Titles and labels.
        muted: Ticks and the facts line.
        grid: Lines that only guide.
        shade: Time in which events may be missing.
        outline: Colour to mix into the edge of an area.
        sequential: Colour map for amounts.
    """

    name: str
    paper: str | None
    ink: str
    muted: str
    grid: str
    shade: str
    outline: str
    sequential: str = "cividis"

    @property
    def colors(self) -> tuple[str, ...]:
        """One colour a series."""
        return OKABE_ITO

    def edge(self, color: str) -> str:
        """The same colour, set off from the paper."""
        return mixed(color, self.outline, 0.45)


#: `auto` is transparent: its ink keeps at least 4:1 on white and on the dark notebook's #111111.
THEMES: Final[dict[str, Theme]] = {
    "light": Theme(
        name="light",
        paper="#ffffff",
        ink="#1b1f24",
        muted="#57606a",
        grid="#e3e7eb",
        shade="#8b949e",
        outline="#000000",
    ),
    "dark": Theme(
        name="dark",
        paper="#111418",
        ink="#eceff2",
        muted="#a3acb5",
        grid="#2c333a",
        shade="#8b949e",
        outline="#ffffff",
    ),
    "auto": Theme(
        name="auto",
        paper=None,
        ink="#757679",
        muted="#757679",
        grid="#80808040",
        shade="#808080",
        outline="#757679",
    ),
}


def theme_named(name: str) -> Theme:
    """A theme by name.

    Raises:
        ConfigError: There is no such theme.
    """
    if name not in THEMES:
        raise ConfigError(f"there is no theme {name!r}", hint=f"Known: {', '.join(THEMES)}.")
    return THEMES[name]


def style(theme: str = "auto") -> dict[str, Any]:
    """Matplotlib settings for your own figures, in the looks of botbook.

    Use it as ``plt.style.use(botbook.plots.style("dark"))`` or within ``plt.rc_context(...)``; nothing is
    changed until then.

    Args:
        theme: ``light``, ``dark``, or ``auto``: transparent, with ink for both.

    Returns:
        rcParams by name.

    Raises:
        ConfigError: There is no such theme.
    """
    from cycler import cycler

    chosen = theme_named(theme)
    paper = chosen.paper or "none"
    cycle = cycler(color=chosen.colors) + cycler(linestyle=DASHES) + cycler(marker=MARKERS)
    return {
        "axes.axisbelow": True,
        "axes.edgecolor": chosen.muted,
        "axes.facecolor": paper,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": chosen.muted,
        "axes.prop_cycle": cycle,
        "axes.spines.left": False,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlecolor": chosen.ink,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold" if all_bold() else "normal",
        "figure.constrained_layout.use": True,
        "figure.dpi": 110,
        "figure.facecolor": paper,
        "font.family": list(fonts()),
        "grid.color": chosen.grid,
        "image.cmap": chosen.sequential,
        "legend.frameon": False,
        "legend.labelcolor": chosen.ink,
        "lines.markersize": 5,
        "savefig.facecolor": paper,
        "text.color": chosen.ink,
        "xtick.color": chosen.muted,
        "ytick.color": chosen.muted,
        "ytick.left": False,
    }


@cache
def fonts() -> tuple[str, ...]:
    """Font families to write with: DejaVu, then what is installed for Chinese, Japanese, Korean."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in CJK if name in installed))


@cache
def all_bold() -> bool:
    """Whether each of `fonts` comes in bold; matplotlib complains about one that does not."""
    from matplotlib import font_manager

    bold = {font.name for font in font_manager.fontManager.ttflist if str(font.weight) in _BOLD}
    return bold.issuperset(fonts())


def mixed(color: str, other: str, share: float) -> str:
    """`color` with a share of `other` in it."""
    parts = zip(_channels(color), _channels(other), strict=True)
    return "#" + "".join(f"{round(255 * (a * (1 - share) + b * share)):02x}" for a, b in parts)


def contrast(one: str, other: str) -> float:
    """Contrast of two colours, 1 to 21 (WCAG 2.2, relative luminance)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _channels(color: str) -> list[float]:
    return [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def _luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _channels(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
