"""Metrics of chats: pure functions, frame in, small frame out."""

from __future__ import annotations

from botbook.metrics._facts import Facts, Gap, facts
from botbook.metrics.people import active_users, retention, user_growth
from botbook.metrics.replies import response_latency, unanswered
from botbook.metrics.sessions import containment, conversation_length, first_response
from botbook.metrics.traffic import hour_weekday, volume

__all__ = [
    "Facts",
    "Gap",
    "active_users",
    "containment",
    "conversation_length",
    "facts",
    "first_response",
    "hour_weekday",
    "response_latency",
    "retention",
    "unanswered",
    "user_growth",
    "volume",
]
