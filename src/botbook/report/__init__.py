"""A whole journal on one page: frame in, tiles and pictures out, as HTML that needs nothing else.

It computes nothing of its own: every number is one of `botbook.metrics`.
"""

from __future__ import annotations

from botbook.report._build import build
from botbook.report._values import Panel, Report, Section, Tile

__all__ = ["Panel", "Report", "Section", "Tile", "build"]
