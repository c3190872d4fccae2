"""The page about metrics against the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from botbook import metrics
from tests.metrics.reference import arrow, row

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
LINES = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
BUCKETS = ["start", "end", "bucket", "hours", "gap_s", "unfinished"]
FUNCTIONS = [
    name for name in metrics.__all__ if name.islower() and name not in ("attach", "facts", "freq_for")
]


def test_every_metric_has_a_line():
    assert sorted(name for name, *_ in LINES) == FUNCTIONS
    assert f"the same {len(FUNCTIONS)} names" in PAGE


@pytest.mark.parametrize(("name", "columns"), [(name, columns) for name, _, columns, _ in LINES])
def test_a_line_lists_the_columns(name, columns):
    listed = (BUCKETS if columns.startswith("buckets, ") else []) + re.findall(r"`(\w+)`", columns)
    assert getattr(metrics, name)(arrow([row(event_id="a")])).column_names == listed


def test_the_page_lists_the_facts():
    assert f"`{' '.join(metrics.Facts.__dataclass_fields__)}`" in PAGE
