"""One model for what happens in a chat, whatever the gateway."""

from __future__ import annotations

from botbook.events.entities import Group, Member, MemberRole, User
from botbook.events.model import (
    ASSISTANT,
    CANCEL,
    DISLIKE,
    EVENT_TYPES,
    LIKE,
    SYSTEM,
    USER,
    Actor,
    ChatType,
    Event,
    Role,
    from_json,
    from_webhook,
)

__all__ = [
    "ASSISTANT",
    "CANCEL",
    "DISLIKE",
    "EVENT_TYPES",
    "LIKE",
    "SYSTEM",
    "USER",
    "Actor",
    "ChatType",
    "Event",
    "Group",
    "Member",
    "MemberRole",
    "Role",
    "User",
    "from_json",
    "from_webhook",
]
