"""What was missed while the link was down: asked from the gateway's history, and told either way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from botbook._bus.own import connection_event, missing, recovered_events
from botbook._clock import Clock
from botbook._errors import BotbookError, NotSupported
from botbook._journal import Journal
from botbook.actions import HistoryItem
from botbook.events import Event

__all__ = ["GapRepair"]

#: After a reconnect, let the gateway repeat what it queued before its history is compared, in seconds.
SETTLE_SECONDS: Final = 1.0
#: Chats whose history is asked for, newest first, and messages of each (protocols/miti.md 6: the
#: server's own cap is 50).
CHATS: Final = 200
MESSAGES: Final = 50
#: How far back a chat counts as alive.
LOOK_BACK: Final = timedelta(days=1)


class GapRepair:
    """Fills gaps of one connection.

    Args:
        journal: Where the rows go, and what is known.
        history: Asks the gateway: (chat_id, limit) → messages, oldest first.
        gateway: Name of the gateway.
        bot: Name of the connection.
        clock: Time.

    Attributes:
        gaps: How many there were.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        history: Callable[[str, int], Awaitable[list[HistoryItem]]],
        gateway: str,
        bot: str,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._history = history
        self._gateway = gateway
        self._bot = bot
        self._clock = clock
        self.gaps = 0

    async def repair(self, down_at: datetime, up_at: datetime) -> None:
        """Publish what came between two times, and one ``connection.gap`` row."""
        self.gaps += 1
        arrived: set[str] = set()

        def watch(rows: Sequence[tuple[int, Event]]) -> None:
            arrived.update(event.message_id for _, event in rows)

        self._journal.watch(watch)
        try:
            await self._clock.sleep(SETTLE_SECONDS)
            found, asked, refused = await self._missed(down_at)
        finally:
            self._journal.unwatch(watch)
        away = (up_at - down_at).total_seconds()
        # What the gateway had queued arrives by itself meanwhile.
        found = [event for event in found if not event.message_id or event.message_id not in arrived]
        gap = connection_event(
            "gap",
            gateway=self._gateway,
            bot=self._bot,
            now=up_at,
            text=f"{away:.1f} s away, {len(found)} messages recovered",
            error=refused,
            seconds=away,
            since=down_at.isoformat(),
            until=up_at.isoformat(),
            recovered=len(found),
            chats_asked=asked,
        )
        await self._journal.publish([*found, gap])

    async def _missed(self, down_at: datetime) -> tuple[list[Event], int, str]:
        """Messages that the histories hold and the journal does not; chats asked; last refusal."""
        await asyncio.to_thread(self._journal.store.flush)  # what the gateway repeated is known, too
        chats = await asyncio.to_thread(
            self._journal.store.chats_since,
            gateway=self._gateway,
            bot=self._bot,
            at=down_at - LOOK_BACK,
            limit=CHATS,
        )
        found: list[Event] = []
        asked, refused = 0, ""
        for chat in chats:
            try:
                items = await self._history(chat.last.chat_id, MESSAGES)
            except NotSupported as error:
                return found, asked, str(error)
            except BotbookError as error:
                refused = str(error)
                continue
            asked += 1
            found += recovered_events(
                missing(chat.said, items, ids=chat.ids),
                like=chat.last,
                now=self._clock.now(),
                gap=down_at.isoformat(),
            )
        return found, asked, refused
