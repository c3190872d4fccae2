"""Pictures of metrics: a metric frame in, a matplotlib figure out. Nothing is computed here."""

from __future__ import annotations

from botbook.plots._canvas import Plot
from botbook.plots._theme import style
from botbook.plots.replies import response_latency
from botbook.plots.traffic import volume

__all__ = ["Plot", "response_latency", "style", "volume"]
