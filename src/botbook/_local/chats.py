"""The embedded gateway's memory: conversations, messages, and who answered."""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from botbook.wire.miti_frames import epoch_ms
from botbook.wire.miti_rest import HISTORY_CAP, HistoryMessage

__all__ = ["Chat", "Chats", "Ids", "Stored"]

#: Messages that a chat remembers.
KEPT: Final = 1000


class Ids:
    """Ids that do not repeat from one world to the next, and are the same under the same clock.

    Args:
        start: When the world began; it goes into every id.
    """

    def __init__(self, start: datetime) -> None:
        self._start = epoch_ms(start)
        self._number = itertools.count(1)

    def new(self, kind: str) -> str:
        """The next id, such as ``evt-19b77b9f27b-1``."""
        return f"{kind}-{self._start:x}-{next(self._number)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One message of a chat.

    Attributes:
        message_id: Its id.
        user_id: Who wrote it.
        name: Their name.
        own: The agent itself wrote it.
        content: As on the wire.
        at: When.
    """

    message_id: str
    user_id: str
    name: str = ""
    own: bool
    content: dict[str, Any]
    at: datetime


@dataclass(slots=True)
class Chat:
    """One conversation.

    Attributes:
        conversation_id: ``si_<user>_<agent>`` or ``sg_<group>``.
        group: The group, or "".
        messages: The newest of them, oldest first.
        answers: How many answers the client gave, begun ones included.
    """

    conversation_id: str
    group: str = ""
    messages: deque[Stored] = field(default_factory=lambda: deque(maxlen=KEPT))
    answers: int = 0


class Chats:
    """All conversations of one agent.

    Args:
        app_id: The agent.
    """

    def __init__(self, app_id: str) -> None:
        self._app_id = app_id
        self._chats: dict[str, Chat] = {}

    def of(self, *, user: str = "", group: str = "") -> Chat:
        """The chat with a user, or in a group."""
        conversation_id = f"sg_{group}" if group else f"si_{user}_{self._app_id}"
        return self._chats.setdefault(conversation_id, Chat(conversation_id, group))

    def history(
        self, conversation_id: str, *, limit: int, before: str = "", bare: bool = False
    ) -> list[HistoryMessage]:
        """The newest messages of a conversation, oldest first.

        Args:
            conversation_id: Which; one that nobody knows is empty.
            limit: How many; 50 at the most.
            before: Only those before this message.
            bare: Without ids and times, which the protocol does not promise.
        """
        chat = self._chats.get(conversation_id)
        messages = list(chat.messages) if chat else []
        place = [n for n, stored in enumerate(messages) if stored.message_id == before]
        messages = messages[: place[0]] if place else messages
        newest = messages[-min(max(limit, 1), HISTORY_CAP) :]
        return [_shown(stored, bool(chat and chat.group), bare) for stored in newest]

    def clear(self) -> None:
        """Forget every conversation."""
        self._chats.clear()


def _shown(stored: Stored, in_group: bool, bare: bool) -> HistoryMessage:
    item: HistoryMessage = {"role": "assistant" if stored.own else "user", "content": stored.content}
    if in_group and stored.name:
        item["sender_name"] = stored.name
    if not bare:
        item["message_id"] = stored.message_id
        item["user_id"] = stored.user_id
        item["send_time"] = str(epoch_ms(stored.at))
    return item
