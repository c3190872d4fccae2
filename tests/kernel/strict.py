"""A Miti gateway that has no patience: ping every second, two seconds for the pong, ten events a second."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import logging
import re
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

__all__ = ["StrictGateway"]

APP = "cli_strict"
#: An app whose token opens no socket.
LOCKED = "cli_locked"
SECRET = "a-secret-for-one-run"
TOKEN = "a-token-for-one-run"
EVENTS_PER_SECOND = 10
#: Message → what comes of it: (HTTP status, answer); status 0 hangs up.
MISDEEDS: dict[str, tuple[int, dict[str, Any]]] = {
    "please refuse me": (401, {"errCode": 401, "errMsg": "who are you"}),
    "please fail": (500, {"errCode": 500, "errMsg": "out of order"}),
    "please say no": (200, {"errCode": 10012, "errMsg": "not there"}),
    "please hang up": (0, {}),
}
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class StrictGateway:
    """Runs on a thread of its own; enter it to start it.

    Attributes:
        app_secret: What it asks for.
        token: What it gives for that.
        sent: Event id → when it was sent, in seconds since the epoch.
        answers: Messages that the bot sent: (when, body).
        ended: When every socket that ended did, in seconds since the epoch.
        opened: How many sockets were opened.
        paths: The requests that came, in order.
    """

    app_secret: str = SECRET
    token: str = TOKEN
    sent: dict[str, float] = field(default_factory=dict)
    answers: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    opened: int = 0
    paths: list[str] = field(default_factory=list)
    base_url: str = ""

    def __enter__(self) -> StrictGateway:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="strict-gateway", daemon=True)
        self._thread.start()
        self._server: Server = self._on_loop(self._open())
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/chat"
        return self

    def __exit__(self, *exc: object) -> None:
        self._on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def environ(self) -> dict[str, str]:
        """What lets ``%bot connect miti`` find it."""
        return {"MITI_API_BASE_URL": self.base_url, "MITI_APP_ID": APP, "MITI_APP_SECRET": self.app_secret}

    def between(self, begin: float, end: float) -> set[str]:
        """Ids of the events sent in a time, given in seconds since the epoch."""
        return {ident for ident, at in list(self.sent.items()) if begin <= at <= end}

    def _on_loop(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _open(self) -> Server:
        return await serve(
            self._socket,
            "127.0.0.1",
            0,
            ping_interval=1,
            ping_timeout=2,
            close_timeout=0.5,
            process_request=self._upgrade,
            create_connection=self._door,
            logger=_silent(),
        )

    async def _close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _door(self, *args: Any, **options: Any) -> _Door:
        return _Door(self._rest, *args, **options)

    def _upgrade(self, connection: ServerConnection, request: Any) -> Any:
        self.paths.append(f"GET {request.path}")
        if request.path != "/chat/agent/gateway":
            return connection.respond(HTTPStatus.NOT_FOUND, "no such path")
        if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {self.token}"):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "who are you")
        return None

    async def _socket(self, connection: ServerConnection) -> None:
        self.opened += 1
        talking = asyncio.ensure_future(self._talk(connection))
        try:
            async for _ in connection:
                pass
        except ConnectionClosed:
            pass
        finally:
            talking.cancel()
            await asyncio.wait([talking])
            self.ended.append(time.time())

    async def _talk(self, connection: ServerConnection) -> None:
        """Ten events a second by the clock, so that a late one does not delay those behind it."""
        begun = asyncio.get_running_loop().time()
        for number in itertools.count():
            await asyncio.sleep(begun + number / EVENTS_PER_SECOND - asyncio.get_running_loop().time())
            ident, at = f"e{len(self.sent)}", time.time()
            self.sent[ident] = at
            await connection.send(_message(ident, at))

    def _rest(self, path: str, headers: bytes, body: bytes) -> tuple[int, dict[str, Any]]:
        self.paths.append(f"POST {path}")
        given = json.loads(body)
        if path == "/chat/agent/v1/auth/token":
            if given["app_id"] not in (APP, LOCKED) or given["app_secret"] != self.app_secret:
                return 401, {"errCode": 10001, "errMsg": "no such app"}
            token = self.token if given["app_id"] == APP else f"{self.token}-locked"
            return 200, {"errCode": 0, "data": {"token": token, "expires_in": 7200}}
        if f"Bearer {self.token}".encode() not in headers:
            return 401, {"errCode": 401, "errMsg": "who are you"}
        if (misdeed := str(given["content"].get("text", ""))) in MISDEEDS:
            return MISDEEDS[misdeed]
        self.answers.append((time.time(), given))
        data = {"message_id": f"m{len(self.answers)}", "server_time": f"{time.time() * 1000:.0f}"}
        return 200, {"errCode": 0, "data": data}


class _Door(ServerConnection):
    """One port for both: the library knows GET alone, so a POST is answered here, one a connection."""

    def __init__(self, rest: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._rest = rest
        self._post = b""

    def data_received(self, data: bytes) -> None:
        if not self._post and not data.startswith(b"POST "):
            super().data_received(data)
            return
        self._post += data
        head, _, body = self._post.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if length and len(body) >= int(length[1]):
            status, answer = self._rest(head.split()[1].decode(), head, body)
            text = json.dumps(answer).encode()
            if status:
                self.transport.write(
                    b"HTTP/1.1 %d .\r\nContent-Type: application/json\r\nConnection: close\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (status, len(text), text)
                )
            self.transport.close()


def _message(ident: str, at: float) -> str:
    """One private message of one user (protocols/miti.md 4)."""
    ms = f"{at * 1000:.0f}"
    message = {
        "message_id": f"m-{ident}",
        "conversation_id": "si_ann_cli",
        "session_type": "single",
        "msg_type": "text",
        "content": {"text": f"message {ident}"},
        "send_time": ms,
    }
    header = {"event_id": ident, "event_type": "im.message.receive", "app_id": APP, "create_time": ms}
    event = {"sender": {"user_id": "ann"}, "message": message}
    return json.dumps({"schema": "1.0", "header": header, "event": event})


def _silent() -> logging.Logger:
    """The library logs every POST as a handshake that failed."""
    logger = logging.getLogger("strict-gateway")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger
