"""The public face of the Miti agent SDK over botbook's core.

A program written for that SDK runs with one import changed::

    from botbook.compat.miti import MitiAgent
"""

from __future__ import annotations

from botbook._errors import ApiError, AuthError
from botbook.compat.miti.agent import MitiAgent, enable_logging
from botbook.compat.miti.builders import (
    build_assistant_completed_event,
    build_assistant_delta_event,
    build_assistant_failed_event,
    build_assistant_started_event,
    build_stream_delta_content,
    build_stream_full_markdown,
)
from botbook.compat.miti.errors import AckTimeout, BackpressureError, FrameRefused
from botbook.compat.miti.models import (
    AgentEvent,
    AssistantCancelEvent,
    EventHeader,
    EventMessage,
    EventSender,
    GroupAtEvent,
    HistoryMessage,
    MessageEvent,
)

__all__ = [
    "AckTimeout",
    "AgentEvent",
    "ApiError",
    "AssistantCancelEvent",
    "AuthError",
    "BackpressureError",
    "EventHeader",
    "EventMessage",
    "EventSender",
    "FrameRefused",
    "GroupAtEvent",
    "HistoryMessage",
    "MessageEvent",
    "MitiAgent",
    "build_assistant_completed_event",
    "build_assistant_delta_event",
    "build_assistant_failed_event",
    "build_assistant_started_event",
    "build_stream_delta_content",
    "build_stream_full_markdown",
    "enable_logging",
]
