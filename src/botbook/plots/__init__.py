"""Pictures of metrics: a metric frame in, a matplotlib figure out. Nothing is computed here."""

from __future__ import annotations

from botbook.plots._canvas import Plot
from botbook.plots._theme import style
from botbook.plots.people import active_users, retention, user_growth
from botbook.plots.replies import response_latency, unanswered
from botbook.plots.sessions import containment, conversation_length, first_response
from botbook.plots.traffic import hour_weekday, volume

__all__ = [
    "Plot",
    "active_users",
    "containment",
    "conversation_length",
    "first_response",
    "hour_weekday",
    "response_latency",
    "retention",
    "style",
    "unanswered",
    "user_growth",
    "volume",
]
