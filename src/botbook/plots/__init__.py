"""Pictures of metrics: a metric frame in, a matplotlib figure out. Nothing is computed here."""

from __future__ import annotations

from botbook.plots._plot import Plot
from botbook.plots._theme import style
from botbook.plots.contrast import compare, connection_health, terms
from botbook.plots.people import active_users, retention, user_growth
from botbook.plots.ratings import (
    dislike_reasons,
    feedback_changes,
    feedback_coverage,
    feedback_state,
    like_rate,
)
from botbook.plots.replies import response_latency, unanswered
from botbook.plots.sessions import containment, conversation_length, first_response
from botbook.plots.traffic import hour_weekday, volume
from botbook.plots.usage import error_rate, tokens, tool_failures

__all__ = [
    "Plot",
    "active_users",
    "compare",
    "connection_health",
    "containment",
    "conversation_length",
    "dislike_reasons",
    "error_rate",
    "feedback_changes",
    "feedback_coverage",
    "feedback_state",
    "first_response",
    "hour_weekday",
    "like_rate",
    "response_latency",
    "retention",
    "style",
    "terms",
    "tokens",
    "tool_failures",
    "unanswered",
    "user_growth",
    "volume",
]
