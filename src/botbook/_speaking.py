"""What a bot says: messages, answers, streamed answers, and the rows they leave."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from botbook._bus.capture import answer_deed, capturing, deed_of, keep
from botbook._bus.outbox import Answer
from botbook._bus.own import sent_event
from botbook._connection import Connection, Row
from botbook.actions import Action, History, HistoryItem, Native, Run, Send, Sent
from botbook.events import Event

__all__ = ["Speaking", "new_id"]


class Speaking:
    """Actions of one bot. Its coroutines belong on the IO loop.

    Args:
        connection: What they go through.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._private: dict[str, str] = {}

    def learn(self, rows: Sequence[Row]) -> None:
        """Which chat a user writes in: a message to the user has no other way to its chat."""
        for _, event in rows:
            if event.chat_type == "private" and event.user_id:
                self._private[event.user_id] = event.chat_id

    async def send(self, action: Send, *, question: Event | None = None) -> Sent:
        """Send a message, and leave its row."""
        if (capture := capturing()) is not None:
            return capture.take(action, reply=question is not None)
        sent = cast(Sent, await self._connection.say(action))
        keep(deed_of(action, reply=question is not None))
        self._leave_row(action.to, action.text, sent, action.id, question=question)
        return sent

    async def reply(self, event: Event, text: str, *, markdown: bool) -> Sent:
        """Answer an event in its chat."""
        action = Send(id=new_id(), to=event.target, text=text, markdown=markdown, reply_to=event.message_id)
        return await self.send(action, question=event)

    async def native(self, body: Any, *, to: str, acknowledged: bool) -> Sent:
        """Pass something on in the gateway's own form."""
        if (capture := capturing()) is not None:
            return capture.take(Native(id=new_id(), body=body, to=to))
        ident = body.get("header", {}).get("event_id", "") if acknowledged else ""
        action = Native(id=ident or new_id(), body=body, to=to)
        if acknowledged:
            await self._connection.outbox.deliver(action)
            keep(deed_of(action))
            return Sent()
        sent = cast(Sent, await self._connection.say(action))
        keep(deed_of(action))
        return sent

    async def history(self, chat_id: str, limit: int, before: str = "") -> list[HistoryItem]:
        """Earlier messages of a chat, oldest first."""
        action = History(id=new_id(), chat_id=chat_id, limit=limit, before=before)
        return cast(list[HistoryItem], await self._connection.say(action))

    def answer(self, event: Event) -> Answer:
        """A streamed answer to an event; for any loop."""
        if (capture := capturing()) is not None:
            return cast(Answer, capture.answer(event))  # used in the same way
        outbox, hop = self._connection.outbox, self._hop
        return Answer(
            Run(
                run_id=new_id(),
                message_id=new_id(),
                to=event.target,
                asker=event.user_id,
                chat_id=event.chat_id,
                question_id=event.message_id,
            ),
            say=hop(outbox.say),
            deliver=hop(outbox.deliver),
            instead=lambda text: self._connection.io.call(self.reply(event, text, markdown=True)),
            began=outbox.began,
            finished=functools.partial(self._answered, event),
        )

    async def _answered(self, question: Event, answer: Answer, error: str) -> None:
        self._connection.outbox.ended(answer)
        if answer.streams:  # else it goes out as a reply, and is kept as that
            keep(answer_deed(answer.text, reasoning=answer.reasoning, error=error))
        if answer.text and not error and answer.streams:
            run = answer.run
            sent = Sent(message_id=run.message_id)
            self._leave_row(run.to, answer.text, sent, run.run_id, question=question)

    def _leave_row(self, to: str, text: str, sent: Sent, ident: str, *, question: Event | None) -> None:
        connection = self._connection
        event = sent_event(
            gateway=connection.made.gateway,
            bot=connection.made.name,
            to=to,
            text=text,
            sent=sent,
            ident=ident,
            now=connection.clock.now(),
            question=question,
            chat_id=self._private.get(to.removeprefix("user:"), ""),
            own_id=connection.parts.own_id,
        )
        connection.keep([event])

    def _hop(
        self, method: Callable[[Action], Coroutine[Any, Any, None]]
    ) -> Callable[[Action], Awaitable[None]]:
        async def on_io(action: Action) -> None:
            await self._connection.io.call(method(action))

        return on_io


def new_id() -> str:
    """An id for one wish."""
    return str(uuid.uuid4())
