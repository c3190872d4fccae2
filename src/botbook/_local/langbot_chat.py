"""The chat of the embedded LangBot: connections, sessions, cumulative answers (protocols/langbot.md 4)."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from botbook._clock import Clock
from botbook._errors import ConnectionLost
from botbook._local.langbot_records import Era, Place, Records
from botbook._local.replies import pieces, reply
from botbook._local.session import Socket
from botbook.wire.contract import Frame
from botbook.wire.langbot_frames import (
    BOT_TARGET,
    RESPONSE,
    USER_MESSAGE,
    MessageData,
    Said,
    chain_text,
    encode,
    said,
)

__all__ = ["PROXY_BOT", "Chat", "Client", "Room"]

#: The bot under which the chat of a pipeline itself is booked.
PROXY_BOT: Final = "websocket-proxy-bot"

#: Seconds of life between two words of the model, and between those of a slow one.
_WORD_SECONDS: Final = 0.02
_SLOW_SECONDS: Final = 0.3

#: Words of one frame: the built-in agent of 4.10 sends every eighth.
_WORDS_OF_FRAME: Final = {False: 8, True: 4}

#: Messages that the chat shows.
_SHOWN: Final = 100

_KNOWN: Final = frozenset({"Plain", "At", "AtAll", "Image", "Voice", "File", "Quote", "Face", "Forward"})


@dataclass(slots=True, eq=False)
class Client:
    """One open socket.

    Attributes:
        socket: Where its frames go.
        ident: Its connection id.
        room: What it hears.
        created: Local time of its opening.
    """

    socket: Socket
    ident: str
    room: Room
    created: str


@dataclass(slots=True, eq=False)
class Room:
    """All that one pipeline and session type shows, or one visitor of a page.

    Attributes:
        pipeline: Uuid.
        session_type: ``person`` or ``group``.
        bot: Uuid of the bot it is booked under.
        visitor: Session id of a page's visitor, or "".
        messages: What it shows.
        count: Number of the last message.
    """

    pipeline: str
    session_type: str
    bot: str = PROXY_BOT
    visitor: str = ""
    messages: list[MessageData] = field(default_factory=list)
    count: int = 0

    def next(self) -> int:
        """The next number."""
        self.count += 1
        return self.count

    def keep(self, message: Said) -> None:
        """Show a message; one of the same number is replaced."""
        row = said(message)
        self.messages = [*(old for old in self.messages if old["id"] != row["id"]), row][-_SHOWN:]

    def reset(self) -> None:
        """Show nothing; numbers start anew."""
        self.messages, self.count = [], 0


class Chat:
    """Rooms, and the model that answers in them.

    Args:
        era: Which version it behaves like.
        clock: Where times and delays come from.
        records: Where everything is booked.
        new_id: Makes ids.
        speed: How many times faster than life.
        zone: The server's local time, ahead of UTC.
        images: The file store; 4.10 empties it as it reads.
    """

    def __init__(
        self,
        era: Era,
        *,
        clock: Clock,
        records: Records,
        new_id: Callable[[], str],
        speed: float,
        zone: timedelta,
        images: dict[str, bytes],
    ) -> None:
        self._era, self._clock, self._records, self._new_id = era, clock, records, new_id
        self._speed, self._zone, self._images = speed, zone, images
        self._rooms: dict[tuple[str, str, str], Room] = {}
        self._queues: dict[str, asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self.clients: list[Client] = []
        self.names: dict[str, str] = {}
        self.silent = 0

    # ------------------------------------------------------------------------ rooms

    def room(self, pipeline: str, session_type: str, *, bot: str = PROXY_BOT, visitor: str = "") -> Room:
        """A room, made at its first use. A page shares the pipeline's before 4.10.6."""
        key = (pipeline, session_type, visitor if self._era.number >= (4, 10, 6) else "")
        if key not in self._rooms:
            self._rooms[key] = Room(pipeline, session_type, bot, visitor)
        return self._rooms[key]

    def stamp(self) -> str:
        """Local time of the server, without its zone."""
        local = self._clock.now() + self._zone
        return local.replace(tzinfo=None).isoformat(timespec="microseconds")

    async def tell(self, room: Room, frame: Frame) -> None:
        """Send a frame to all who hear a room."""
        for client in [client for client in self.clients if client.room is room]:
            try:
                await client.socket.send(frame)
            except ConnectionLost:
                continue

    def clear(self) -> None:
        """Forget what was said."""
        for room in self._rooms.values():
            room.reset()

    async def close(self) -> None:
        """Stop all work."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    # ------------------------------------------------------------------------ questions

    async def message(self, client: Client, components: list[dict[str, Any]], *, stream: bool) -> None:
        """Somebody says something: all hear it, and the pipeline answers in its turn."""
        room, shown = client.room, [self._shown(dict(item)) for item in components]
        text = "".join(_content(item) for item in shown)
        question = Said(
            number=room.next(), role="user", content=text, components=tuple(shown), timestamp=self.stamp(),
            connection_id=client.ident,
        )  # fmt: skip
        room.keep(question)
        frame = encode(USER_MESSAGE, session_type=room.session_type, data=said(question))
        await self.tell(room, frame)
        if not self._answers(room, components, text):
            return
        place = self.place(room, client.ident)
        asked = text.removeprefix(f"@{BOT_TARGET}").strip()
        if room.session_type == "group" and asked[:2].lower() == "ai":
            asked = asked[2:].strip()
        row = self._records.question(place, shown, question.number)
        self._queue(place.session_id).put_nowait(
            lambda: self._answer(room, client.ident, place, row, asked, stream=stream)
        )

    def _answers(self, room: Room, components: Sequence[dict[str, Any]], text: str) -> bool:
        """Whether the pipeline answers; one that is not there never, a group only when it is meant."""
        if self.silent:
            self.silent -= 1
            return False
        if room.pipeline not in self.names:  # seen on 4.10.1; later ones refuse the socket
            return False
        mentioned = any(item.get("target") == BOT_TARGET for item in components)
        return room.session_type == "person" or mentioned or text.lower().startswith("ai")

    def place(self, room: Room, connection: str) -> Place:
        """Where a question of a connection is booked."""
        launcher = f"websocket_{connection}"
        if room.visitor and self._era.modern:
            launcher = f"websocket_{room.pipeline}:{room.visitor}"
        session = "group_websocketgroup" if room.session_type == "group" else f"person_{launcher}"
        return Place(
            bot_id=room.bot,
            bot_name="page" if room.visitor else "WebChat",
            pipeline_id=room.pipeline,
            pipeline_name=self.names.get(room.pipeline, ""),
            platform=room.session_type,
            session_id=session,
            user_id=launcher,
        )

    def _shown(self, item: dict[str, Any]) -> dict[str, Any]:
        """A component as the echo shows it: 4.10 takes a picture out of the store, 4.11 leaves it there."""
        if item.get("type") != "Image" or self._era.modern:
            return item
        data = self._images.pop(str(item.get("path")), b"")
        shown = f"data:image/png;base64,{base64.b64encode(data).decode()}" if data else ""
        return {**item, "path": "", "base64": "" if self._era.authenticates else shown}

    def _queue(self, session: str) -> asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]]:
        """A session works on one question at a time."""
        if session not in self._queues:
            self._queues[session] = asyncio.Queue()
            self._workers.append(asyncio.create_task(self._work(self._queues[session])))
        return self._queues[session]

    @staticmethod
    async def _work(queue: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        while True:
            await (await queue.get())()

    # ------------------------------------------------------------------------ answers

    async def _answer(
        self, room: Room, connection: str, place: Place, row: str, asked: str, *, stream: bool
    ) -> None:
        started = self._clock.monotonic()
        await self._clock.sleep(_WORD_SECONDS / self._speed)
        if re.search(r"\bboom\b", asked):
            error = self._failure()
            self._records.failure(place, row, asked, error, seconds=self._clock.monotonic() - started)
            await self._say(room, connection, [self._failed()])
            return
        if asked.startswith(("!", "！")):
            await self._say(room, connection, [f"[bot] 未知命令: {asked[1:]}"])
            return
        text = reply(asked)
        await self._say(room, connection, self._parts(text, stream=stream), slow="slow" in asked.lower())
        seconds = self._clock.monotonic() - started
        self._records.answer(place, row, asked, text, seconds=seconds, streamed=stream)

    def _parts(self, text: str, *, stream: bool) -> list[str]:
        """The growing text of each frame."""
        words, size = list(pieces(text)), _WORDS_OF_FRAME[self._era.modern]
        if not stream:
            return [text]
        return ["".join(words[:end]) for end in range(size, len(words), size)] + [text]

    async def _say(self, room: Room, connection: str, texts: list[str], *, slow: bool = False) -> None:
        """Send an answer, frame by frame; each holds all that came before it."""
        at = {"type": "At", "target": f"websocket_{connection}", "display": ""}
        group = room.session_type == "group"
        answer = Said(
            number=room.next(), role="assistant", content="", timestamp=self.stamp(), is_final=False
        )
        length = 0
        for index, text in enumerate(texts):
            words = len(text[length:].split())
            length = len(text)
            await self._clock.sleep(words * (_SLOW_SECONDS if slow else _WORD_SECONDS) / self._speed)
            chain = [*([at] if group else []), {"type": "Plain", "text": text}]
            answer = replace(
                answer, content=chain_text(chain), components=tuple(chain), is_final=index == len(texts) - 1
            )
            room.keep(answer)
            await self.tell(room, encode(RESPONSE, session_type=room.session_type, data=said(answer)))

    async def run(self, pipeline: str, text: str) -> dict[str, Any]:
        """One question without a socket (4.11)."""
        visitor = self._new_id()
        room = Room(pipeline, "person", visitor=visitor)
        place = self.place(room, visitor)
        components = [{"type": "Plain", "text": text}]
        row = self._records.question(place, components, 1)
        await self._answer(room, visitor, place, row, text, stream=False)
        answer = room.messages[-1]
        return {
            "query_id": self._new_id(),
            "message_id": row,
            "pipeline_uuid": pipeline,
            "session_id": place.session_id,
            "status": "completed",
            "reply": answer["content"],
            "replies": [answer],
        }

    def _failed(self) -> str:
        return "Agent runner execution failed." if self._era.modern else "Request failed."

    def _failure(self) -> str:
        return "Model request failed: the model does not answer"


def _content(item: dict[str, Any]) -> str:
    if item["type"] not in _KNOWN:
        return f"Unknown Message: Unknown component type: {item['type']}"
    return chain_text([item])
