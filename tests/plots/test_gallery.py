"""The pictures of the docs are those that the code draws.

Compared in blocks of 16 pixels, so that a hair's breadth does not count. Measured: matplotlib 3.11.0 and
3.11.2 draw the very same; 3.10 sets text in another way, and up to 16 levels of 255 lie between them.
"""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from botbook import metrics, plots
from tests.plots import gallery

BLOCK = 16
#: Levels that a block may differ by before it counts as another, of 255.
LEVELS = 40
#: Largest mean difference in levels and share of other blocks: by the same matplotlib, and by another.
SAME, OTHER = (0.5, 0.001), (30.0, 0.3)
ROOT = gallery.FOLDER.parents[2]


def blocks(picture):
    wide, high = picture.size
    small = picture.convert("RGB").resize((wide // BLOCK, high // BLOCK), Image.Resampling.BOX)
    return np.asarray(small, dtype=float)


def far(one, other):
    """Mean difference and share of other blocks."""
    apart = np.abs(blocks(one) - blocks(other)).max(axis=2)
    return apart.mean(), (apart > LEVELS).mean()


def picture(figure):
    return Image.open(io.BytesIO(gallery.png(figure)))


def kept(name, theme):
    return Image.open(gallery.FOLDER / f"{name}-{theme}.png")


@pytest.mark.parametrize("name", gallery.PICTURES)
def test_a_picture_of_the_docs_is_what_is_drawn(name):
    theme = gallery.THEMES[list(gallery.PICTURES).index(name) % 2]
    old, new = kept(name, theme), picture(gallery.drawn(name, theme))
    assert old.size == new.size, "make pictures"
    limit = SAME if old.info["Software"] == gallery.DRAWN_BY else OTHER
    assert all(found <= most for found, most in zip(far(old, new), limit, strict=True)), "make pictures"


@pytest.mark.parametrize(
    ("name", "part"), [("volume", "patches"), ("like_rate", "texts"), ("response_latency", "lines")]
)
def test_a_change_is_seen(name, part):
    figure = gallery.drawn(name, "light")
    before = picture(figure)
    getattr(figure.axes[0], part)[0].set_visible(False)
    assert far(before, picture(figure))[1] > SAME[1]


def test_every_plot_is_in_the_docs_on_light_and_dark():
    drawn = {metric for metric, *_ in gallery.PICTURES.values()}
    assert drawn == set(metrics.__all__) & set(plots.__all__)
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = set(re.findall(r'(?:src|srcset)="images/plots/([^"]+)"', page))
    files = {f"{name}-{theme}.png" for name in gallery.PICTURES for theme in gallery.THEMES}
    assert shown == files == {path.name for path in gallery.FOLDER.iterdir()}
    assert sum(path.stat().st_size for path in gallery.FOLDER.iterdir()) < 3e6
    assert not re.search(r'alt=""', page)
