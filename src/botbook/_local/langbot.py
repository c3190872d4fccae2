"""LangBot, embedded: pipeline chat, REST and monitoring of three protocol eras (protocols/langbot.md)."""

from __future__ import annotations

import asyncio
import random
import re
import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from botbook._clock import SYSTEM, Clock
from botbook._errors import ConfigError, ConnectionLost, LocalProtocolError, RemoteProtocolError
from botbook._local.langbot_accounts import TOKEN_LIFE, Accounts
from botbook._local.langbot_chat import Chat, Client, Room
from botbook._local.langbot_records import Era, Place, Records
from botbook._local.langbot_rest import Call, Documents, LangBotRoutes, Resources
from botbook._local.mischief import Fault, FaultKind
from botbook._local.peer import Peer
from botbook._local.query import Query
from botbook._local.record import SentLog
from botbook._local.session import Socket
from botbook._net.transport import Transport
from botbook.wire.contract import Frame, Response
from botbook.wire.langbot_bodies import refusal
from botbook.wire.langbot_frames import (
    AUTHENTICATE,
    CONNECTED,
    DISCONNECT,
    ERROR,
    MESSAGE,
    PING,
    PONG,
    decode,
    encode,
    read_message,
)

__all__ = ["ERAS", "LANGBOT_FAULTS", "LATEST", "LangBotGateway"]

#: Versions it can behave like, one of each era; any other number of them works too.
ERAS: Final = ("4.10.1", "4.10.11", "4.11.2")
LATEST: Final = ERAS[-1]

#: How long a client may take to authenticate, in seconds, and how many may be connected.
_AUTHENTICATE_WITHIN: Final = 10.0
_MOST_CLIENTS: Final = 32

_SOCKET: Final = re.compile(r"/api/v1/(pipelines|embed)/([^/]+)/ws/connect")
_VERSION: Final = re.compile(r"4\.1[01]\.\d{1,3}")
_OWN: Final = ("/api/v1/", "/healthz")

#: Frames that break a rule each.
_POISON: Final[tuple[Frame, ...]] = (
    b"\xff\xfe",
    "no json",
    "[1]",
    '{"type": 7}',
    '{"type": "response"}',
    '{"type": "response", "data": {"id": "two"}}',
)

#: Every fault of the embedded LangBot.
LANGBOT_FAULTS: Final[dict[str, FaultKind]] = {
    "rst": FaultKind("reset the TCP connections", now=True),
    "fin": FaultKind("end the TCP connections without a closing frame", now=True),
    "close": FaultKind("close with a code; 1000 and no reason, as it does itself", {"code": 1000}, now=True),
    "poison": FaultKind("send malformed frames", now=True),
    "raw": FaultKind("send a frame as it is given", {"frame": ""}, now=True),
    "stall": FaultKind("fall silent for some seconds", {"seconds": 2.0}, now=True),
    "restart": FaultKind("close with 1000 and forget the histories", now=True),
    "token_revoked": FaultKind("forget every token given so far", now=True),
    "token_ttl": FaultKind("give tokens of a short life", {"seconds": 2.0}, now=True),
    "silent": FaultKind("give no answer", {"times": 1}, now=True),
    "upgrade_status": FaultKind("refuse the upgrade", {"status": 503, "times": 1}),
    "refuse": FaultKind("refuse the chat in words", {"message": "Unauthorized", "times": 1}),
    "http": FaultKind("answer REST with a status", {"status": 503, "times": 1}),
    "html": FaultKind("answer REST with a page and status 200", {"times": 1}),
    "failing_code": FaultKind("answer REST with status 200 and a failing code", {"code": 1, "times": 1}),
}


class LangBotGateway(Peer):
    """A LangBot server with one pipeline, one web page bot, and one bot of a chat platform.

    Args:
        version: Which version it behaves like.
        seed: Of its ids.
        speed: How many times faster than life.
        zone: Its local time, ahead of UTC; chat times are in it.
        clock: Where times and delays come from.
        log: Where to note what clients send; default a new one.

    Raises:
        ConfigError: There is no such version.
    """

    name = "langbot"
    goodbye = (1000, "")

    def __init__(
        self,
        *,
        version: str = LATEST,
        seed: int = 0,
        speed: float = 1.0,
        zone: timedelta = timedelta(),
        clock: Clock = SYSTEM,
        log: SentLog | None = None,
    ) -> None:
        if not _VERSION.fullmatch(version):
            raise ConfigError(f"there is no LangBot {version!r} here", hint=f"Known: {', '.join(ERAS)}.")
        super().__init__(faults=LANGBOT_FAULTS, poison=_POISON, clock=clock, log=log)
        self.era = Era(version)
        self._chance = random.Random(f"langbot:{seed}")
        self.workspace = self._new_id()
        self.accounts = Accounts(self.era, clock=clock, workspace=self.workspace)
        self.records = Records(self.era, clock=clock, new_id=self._new_id, workspace=self.workspace)
        self.pipeline, self.page, self.bot, self.base = (self._new_id() for _ in range(4))
        self.resources = Resources(
            pipelines={self.pipeline: "lab"},
            bots={
                self.page: self._bot_row(self.page, "page", "web_page_bot"),
                self.bot: self._bot_row(self.bot, "wecom", "wecombot"),
            },
            bases={self.base: Documents("notes")},
        )
        self.chat = Chat(
            self.era, clock=clock, records=self.records, new_id=self._new_id, speed=speed, zone=zone,
            images=self.resources.images,
        )  # fmt: skip
        self.chat.names.update(self.resources.pipelines)
        self._routes = LangBotRoutes(
            self.era, clock=clock, accounts=self.accounts, chat=self.chat, records=self.records,
            resources=self.resources, new_id=self._new_id,
        )  # fmt: skip

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    def _bot_row(self, ident: str, name: str, adapter: str) -> dict[str, Any]:
        now = self._clock.now().replace(tzinfo=None).isoformat(timespec="seconds")
        return {
            "uuid": ident, "name": name, "description": "", "adapter": adapter, "adapter_config": {},
            "enable": True, "use_pipeline_uuid": self.pipeline, "use_pipeline_name": "lab",
            "created_at": now, "updated_at": now,
        }  # fmt: skip

    def describe(self, base: str) -> dict[str, str]:
        """What a client needs to know: address, account, a fresh token, and ids of what there is."""
        return {
            "base_url": base,
            "user": self.accounts.user,
            "password": self.accounts.password,
            "token": self.accounts.new_token(),
            "api_key": self.accounts.api_key,
            "workspace_uuid": self.workspace if self.era.authenticates else "",
            "pipeline_uuid": self.pipeline,
            "page_bot_uuid": self.page,
            "bot_uuid": self.bot,
            "knowledge_base_uuid": self.base,
        }

    # ------------------------------------------------------------------------ the way in

    def owns(self, path: str) -> bool:
        """Whether a path is one of this server's."""
        return path.startswith(_OWN)

    async def upgrade(self, path: str, query: Query, headers: Mapping[str, str]) -> Response | None:
        """Decide on a socket: it needs an Origin, whichever.

        Args:
            path: Of the chat.
            query: Decoded.
            headers: Lower-case names.

        Returns:
            The refusal, or None.
        """
        refused = None
        if not _SOCKET.fullmatch(path):
            refused = Response(404)
        elif made := self._mischief.take("upgrade_status"):
            refused = Response(made["status"])
        elif not headers.get("origin"):
            refused = Response(400)
        self.log.add(self.name, "upgrade", path=path, status=refused.status if refused else 101)
        return refused

    async def handle(
        self, method: str, path: str, headers: Mapping[str, str], query: Query, body: bytes
    ) -> Response:
        """Answer one REST call.

        Args:
            method: Upper case.
            path: From ``/api`` on.
            headers: Lower-case names.
            query: Decoded.
            body: Undecoded.
        """
        await self.awake()
        self.log.add(self.name, "http", method=method, path=path)
        if made := self._mischief.take("http"):
            return Response(made["status"], b"<html>busy</html>", {"content-type": "text/html"})
        if self._mischief.take("html"):
            return Response(200, b"<!doctype html>", {"content-type": "text/html"})
        if made := self._mischief.take("failing_code"):
            return refusal(200, made["code"], "failing on purpose")
        call = Call(method=method, path=path, query=query, headers=headers, body=body)
        return await self._routes.answer(call)

    def open_sockets(self) -> list[Socket]:
        """The sockets that are open now."""
        return [client.socket for client in self.chat.clients]

    # ------------------------------------------------------------------------ sockets

    async def serve(self, transport: Transport, path: str, query: Query) -> None:
        """Serve one chat until its socket ends."""
        socket = Socket(transport, self.awake)
        frames = _Frames(socket)
        client: Client | None = None
        try:
            client = await self._open(frames, socket, path, query)
            if client is not None:
                await self._read(frames, client)
            await socket.close(1000)
        except ConnectionLost as lost:
            self.log.add(self.name, "closed", code=lost.code, reason=lost.reason)
        finally:
            if client is not None:
                self.chat.clients.remove(client)

    async def _open(self, frames: _Frames, socket: Socket, path: str, query: Query) -> Client | None:
        """Let a client in, or tell it why not; the socket is closed then."""
        found = _SOCKET.fullmatch(path)
        assert found is not None
        kind, ident = found[1], found[2]
        refused = await self._refusal(frames, kind, ident, query)
        if refused:
            await socket.send(encode(ERROR, message=refused))
            return None
        session = query.get("session_type", "person")
        if kind == "embed":
            room = self.chat.room(self.pipeline, session, bot=ident, visitor=query.get("session_id", ""))
        else:
            room = self.chat.room(ident, session)
        client = Client(socket, self._new_id(), room, self.chat.stamp())
        self.chat.clients.append(client)
        about = {"bot_uuid" if kind == "embed" else "pipeline_uuid": ident, "session_type": session}
        await socket.send(encode(CONNECTED, connection_id=client.ident, **about, timestamp=client.created))
        return client

    async def _refusal(self, frames: _Frames, kind: str, ident: str, query: Query) -> str:
        """Why a client may not come in; "" if it may."""
        if made := self._mischief.take("refuse"):
            return str(made["message"])
        if query.get("session_type", "person") not in ("person", "group"):
            return "session_type must be person or group"
        if kind == "embed" and self.era.number >= (4, 10, 6) and not _is_uuid4(query.get("session_id", "")):
            return "Valid session_id is required"
        if self.era.authenticates and not await self._authentic(frames, kind):
            return "Unauthorized"
        if kind == "embed":
            return "" if ident in self.resources.bots else "Bot not found"
        if self.era.authenticates and ident not in self.resources.pipelines:
            return "Pipeline not found"
        crowded = self.era.authenticates and self.sockets >= _MOST_CLIENTS
        return "Internal server error" if crowded else ""

    async def _authentic(self, frames: _Frames, kind: str) -> bool:
        """Whether the first frame is the right one, and comes in time."""
        frame = await frames.within(_AUTHENTICATE_WITHIN, self._clock)
        try:
            first = decode(frame if frame is not None else "")
        except RemoteProtocolError:
            return False
        self.log.add(self.name, "frame", frame=first)
        if first["type"] != AUTHENTICATE:
            return False
        return kind == "embed" or self.accounts.opens_chat(first.get("token"), first.get("workspace_uuid"))

    async def _read(self, frames: _Frames, client: Client) -> None:
        """Take in frames until one says goodbye or breaks the server."""
        while True:
            frame = await frames.next()
            try:
                value = decode(frame)
            except RemoteProtocolError as error:
                if "no JSON" not in str(error):
                    return
                await client.socket.send(encode(ERROR, message="Invalid JSON format"))
                continue
            self.log.add(self.name, "frame", frame=value)
            if value["type"] == PING:
                await client.socket.send(encode(PONG, timestamp=self.chat.stamp()))
            elif value["type"] == MESSAGE:
                try:
                    components, stream = read_message(value, frame)
                except RemoteProtocolError:
                    return
                await self.chat.message(client, components, stream=stream)
                self._note(client.room, components)
            elif value["type"] == DISCONNECT:
                return

    def _note(self, room: Room, components: list[dict[str, Any]]) -> None:
        """The bot's log, where there is a bot."""
        if room.bot in self.resources.bots:
            self.note(room.bot, "".join(str(item.get("text", "")) for item in components))

    def note(self, bot: str, text: str, **more: Any) -> None:
        """Add a row to a bot's log.

        Args:
            bot: Uuid.
            text: Of the row.
            more: Other fields.
        """
        rows = self.resources.logs.setdefault(bot, [])
        at = int(self._clock.now().timestamp())
        row = {"seq_id": len(rows), "level": "info", "text": text, "timestamp": at, "images": []}
        new = {"metadata": None} if self.era.modern else {}
        rows.append({**row, "message_session_id": "", **new, **more})

    # ------------------------------------------------------------------------ ratings

    def rate(
        self,
        kind: int,
        *,
        user: str = "ann",
        feedback_id: str = "",
        content: str = "",
        reasons: Iterable[int] = (),
    ) -> str:
        """Let a user of the chat platform rate an answer.

        Args:
            kind: 1 like, 2 dislike, 3 cancel.
            user: Who.
            feedback_id: Which rating it changes; default a new one.
            content: What they write.
            reasons: Codes they tick.

        Returns:
            The feedback id.

        Raises:
            LocalProtocolError: There is no such kind.
        """
        if kind not in (1, 2, 3):
            raise LocalProtocolError(f"{kind!r} is no rating", hint="1 is like, 2 dislike, 3 cancel.")
        ident = feedback_id or self._new_id()
        place = Place(
            bot_id=self.bot, bot_name="wecom", pipeline_id=self.pipeline, pipeline_name="lab",
            platform="person", session_id=f"person_{user}", user_id=user,
        )  # fmt: skip
        self.records.rate(
            kind, feedback_id=ident, place=place, message_id=f"msg-{user}", content=content, reasons=reasons
        )
        self.note(self.bot, f"feedback_id={ident}, type={kind}")
        return ident

    # ------------------------------------------------------------------------ misbehaving

    def strike(self, made: Fault) -> None:
        """A fault that strikes now; see `LANGBOT_FAULTS`."""
        match made.kind:
            case "token_revoked":
                self.accounts.revoke()
            case "token_ttl":
                self.accounts.life = made["seconds"]
            case "silent":
                self.chat.silent += made["times"]
            case "restart":
                self.chat.clear()
                self._each(lambda socket: socket.close(1000))
            case _:
                super().strike(made)

    def reset(self) -> None:
        """Behave again, and forget what was said, booked and uploaded. Sockets and tokens stay."""
        super().reset()
        self.accounts.life = TOKEN_LIFE
        self.chat.silent = 0
        self.chat.clear()
        self.records.clear()
        self.resources.logs.clear()
        self.resources.images.clear()
        self.resources.documents.clear()
        self.resources.sent.clear()

    async def close(self) -> None:
        """End every socket, with 1000 as the real one does, and all work."""
        await super().close()
        await self.chat.close()


class _Frames:
    """What a client sends, one frame at a time."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._waiting: deque[Frame] = deque()

    async def next(self) -> Frame:
        """The next frame."""
        while not self._waiting:
            self._waiting.extend(await self._socket.receive())
        return self._waiting.popleft()

    async def within(self, seconds: float, clock: Clock) -> Frame | None:
        """The next frame, or None if none comes in time."""
        frame, alarm = asyncio.create_task(self.next()), asyncio.create_task(clock.sleep(seconds))
        try:
            await asyncio.wait({frame, alarm}, return_when=asyncio.FIRST_COMPLETED)
            return frame.result() if frame.done() else None
        finally:
            frame.cancel()
            alarm.cancel()
            await asyncio.gather(frame, alarm, return_exceptions=True)


def _is_uuid4(text: str) -> bool:
    try:
        made = uuid.UUID(text)
    except ValueError:
        return False
    return made.version == 4 and str(made) == text
