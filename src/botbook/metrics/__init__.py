"""Metrics of chats: pure functions, frame in, small frame out.

A frame of events is pandas, polars, pyarrow, a DuckDB relation or anything narwhals reads; the answer is
pandas or polars where the events were, else pyarrow. Each answer carries its `Facts`. The definitions
are those of bots.md 3; docs/metrics.md lists them with every column.
"""

from __future__ import annotations

from botbook.metrics._facts import Facts, Gap, attach, facts
from botbook.metrics._kinds import freq_for
from botbook.metrics.contrast import compare, terms
from botbook.metrics.links import connection_health
from botbook.metrics.people import active_users, retention, user_growth
from botbook.metrics.ratings import (
    dislike_reasons,
    feedback_changes,
    feedback_coverage,
    feedback_state,
    like_rate,
)
from botbook.metrics.replies import response_latency, unanswered
from botbook.metrics.sessions import containment, conversation_length, first_response
from botbook.metrics.traffic import hour_weekday, volume
from botbook.metrics.usage import error_rate, tokens, tool_failures

__all__ = [
    "Facts",
    "Gap",
    "active_users",
    "attach",
    "compare",
    "connection_health",
    "containment",
    "conversation_length",
    "dislike_reasons",
    "error_rate",
    "facts",
    "feedback_changes",
    "feedback_coverage",
    "feedback_state",
    "first_response",
    "freq_for",
    "hour_weekday",
    "like_rate",
    "response_latency",
    "retention",
    "terms",
    "tokens",
    "tool_failures",
    "unanswered",
    "user_growth",
    "volume",
]
