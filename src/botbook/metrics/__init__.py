"""Metrics of chats: pure functions, frame in, small frame out."""

from __future__ import annotations

from botbook.metrics._facts import Facts, Gap, facts
from botbook.metrics.replies import response_latency
from botbook.metrics.traffic import volume

__all__ = ["Facts", "Gap", "facts", "response_latency", "volume"]
