"""What a LangBot connection can do besides chatting, and which token is for what."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botbook._errors import AuthError, ConfigError, LocalProtocolError
from botbook._net.http import Rest
from botbook._tables import history_table
from botbook.actions import History, split_target
from botbook.wire.contract import HttpRequest
from botbook.wire.langbot import LangBotWire
from botbook.wire.langbot_bodies import object_field, rows_of
from botbook.wire.langbot_rest import IMAGE_TYPES

if TYPE_CHECKING:
    import pandas as pd

    from botbook._clock import Clock

__all__ = ["Do", "LangBot", "LangBotCalls", "typed_frame"]

#: Waits for a coroutine, or hands it on to be awaited: the one difference between `Bot` and `AsyncBot`.
Do = Callable[[Coroutine[Any, Any, Any]], Any]

#: Kind of a column (`botbook.wire.monitoring_tables`) → its pandas type.
_TYPES: Final = {
    "text": "str",
    "session": "str",
    "int": "Int64",
    "float": "float64",
    "bool": "boolean",
    "time": "datetime64[us, UTC]",
    "json": "object",
}

_USER_HINT: Final = (
    "An API key is not taken for this, or not by this version: give user and password, or a user token."
)

_PIPELINE: Final = {"uuid": "text", "name": "text", "description": "text", "is_default": "bool",
                    "created_at": "text", "updated_at": "text"}  # fmt: skip
_CONNECTION: Final = {"connection_id": "text", "session_type": "text", "is_active": "bool",
                      "created_at": "text", "last_active": "text"}  # fmt: skip


class LangBotCalls:
    """REST calls of one connection, each with the credential that fits it (protocols/langbot.md 3).

    A user token opens everything but `LangBot.send_message`; an API key opens what it can, where no
    user token can be had.

    Args:
        rest: Makes the calls.
        user: Whether a user token can be had.
        api_key: The API key, or "".
    """

    def __init__(self, rest: Rest, *, user: bool, api_key: str = "") -> None:
        self._rest = rest
        self._user = user
        self._api_key = api_key

    async def __call__(self, request: HttpRequest, *, keyed: bool = False) -> Any:
        """Make a call.

        Args:
            request: What to ask.
            keyed: It takes an API key and nothing else.

        Raises:
            AuthError: The credential was refused, or does not fit.
            ConfigError: It needs an API key, and there is none.
            NotSupported: This version of the server has no such call.
            ApiError: The server refused or failed.
            TransportError: It could not be reached.
        """
        if keyed and not self._api_key:
            raise ConfigError("this call needs an API key", hint="Set `api_key`, made in LangBot's settings.")
        if not request.authorised or not (keyed or (self._api_key and not self._user)):
            return await self._rest.call(request)
        headers = {**request.headers, "X-API-Key": self._api_key}
        try:
            return await self._rest.call(replace(request, authorised=False, headers=headers))
        except AuthError as error:
            hint = "Make a new API key." if keyed else _USER_HINT
            raise AuthError(str(error), code=error.code, status=error.status, hint=hint) from None


class LangBot:
    """A pipeline and its server, beside the chat; `bot.langbot`.

    Each method returns its result, or an awaitable of it on an `AsyncBot`.

    Args:
        calls: Makes REST calls.
        wire: Of the connection.
        do: Waits for a coroutine, or hands it on.
        clock: Time.
    """

    def __init__(self, calls: LangBotCalls, wire: LangBotWire, *, do: Do, clock: Clock) -> None:
        self._calls, self._wire, self._rest, self._do, self._clock = calls, wire, wire.rest, do, clock

    def history(self, *, limit: int = 100, session_type: str = "") -> Any:
        """What the chat shows, oldest first; kept in the server's memory alone.

        Args:
            limit: How many at the most.
            session_type: ``person`` or ``group``; default the connection's own.

        Returns:
            Columns role, text, sender_name, message_id, at (UTC; NaT until the server's zone is known).
        """
        chat = session_type or self._wire.session_type
        action = History(id="", chat_id=chat, limit=limit)
        (request,) = self._wire.send(action, at=self._clock.now())
        assert isinstance(request, HttpRequest)
        return self._made(request, history_table)

    def reset(self, *, session_type: str = "") -> Any:
        """Forget what the chat shows; numbers of messages start anew."""
        chat = session_type or self._wire.session_type
        return self._made(self._rest.reset(self._wire.pipeline, chat), lambda done: None)

    def connections(self) -> Any:
        """Who is connected to the pipeline.

        Returns:
            Columns connection_id, session_type, is_active, created_at, last_active (text: the server's
            local time); ``attrs["stats"]`` counts them.
        """
        return self._made(self._rest.connections(self._wire.pipeline), _connections)

    def broadcast(self, message: Any) -> Any:
        """Say something to all who are connected to the pipeline, in both session types.

        Args:
            message: Any JSON value.
        """
        return self._made(self._rest.broadcast(self._wire.pipeline, message), lambda done: None)

    def upload_image(self, picture: str | Path | bytes, *, name: str = "") -> Any:
        """Give the server a picture; its key goes into ``bot.ask(…, attachments=[key])``.

        Args:
            picture: A file, or the picture itself.
            name: What to call it; needed with bytes, for its ending tells the kind.

        Returns:
            The key.

        Raises:
            LocalProtocolError: It is no picture that LangBot takes, above 10 MB, or cannot be read.
        """
        return self._do(self._upload(picture, name))

    def attach(self, paths: Sequence[str]) -> Any:
        """Upload what names a local picture; keys that the server holds already are left as they are.

        Returns:
            A list of keys.
        """
        return self._do(self._attached(paths))

    def pipelines(self) -> Any:
        """The pipelines of the server, newest first.

        Returns:
            Columns uuid, name, description, is_default, created_at, updated_at, and what else it tells.
        """
        return self._made(self._rest.pipelines(), lambda rows: typed_frame(_PIPELINE, rows))

    def run(self, text: str) -> Any:
        """One question without a socket; LangBot 4.11 and later.

        Returns:
            A dict with ``reply``, ``status``, ``session_id``, ``message_id``, ``replies``.

        Raises:
            NotSupported: The server is older.
        """
        return self._made(self._rest.run(self._wire.pipeline, text), lambda made: made)

    def send_message(self, bot: str, to: str, text: str) -> Any:
        """Let a bot of the server write to somebody; needs an API key.

        Args:
            bot: Its uuid.
            to: ``user:ID`` or ``group:ID``, by the platform's id; a wrong one is not noticed there.
            text: What to say.

        Raises:
            ConfigError: The connection has no API key.
            LocalProtocolError: `to` is no address.
        """
        return self._do(self._send_message(bot, to, text))

    def rate(self, page: str, number: int, kind: int) -> Any:
        """Rate an answer of a web page bot; each call makes a rating of its own.

        Args:
            page: Uuid of the bot.
            number: The server's number of the answer.
            kind: 1 like, 2 dislike; 3 is taken and does nothing.

        Returns:
            The feedback id.
        """
        return self._made(self._rest.page_feedback(page, number, kind), lambda ident: ident)

    def info(self) -> Any:
        """Version and edition of the server, as a dict."""
        return self._made(self._rest.info(), lambda data: data)

    def _made(self, request: HttpRequest, shape: Callable[[Any], Any]) -> Any:
        async def made() -> Any:
            return shape(await self._calls(request))

        return self._do(made())

    async def _send_message(self, bot: str, to: str, text: str) -> None:
        kind, ident = split_target(to)
        target = "group" if kind == "group" else "person"
        request = self._rest.send_message(bot, target, ident, [{"type": "Plain", "text": text}])
        await self._calls(request, keyed=True)

    async def _upload(self, picture: str | Path | bytes, name: str) -> str:
        data = picture if isinstance(picture, bytes) else await asyncio.to_thread(_read, Path(picture))
        name = name or ("" if isinstance(picture, bytes) else Path(picture).name)
        key: str = await self._calls(self._rest.upload_image(name, data))
        return key

    async def _attached(self, paths: Iterable[str]) -> list[str]:
        return [await self._upload(path, "") if _is_picture(path) else path for path in paths]


def _is_picture(path: str) -> bool:
    return path.rpartition(".")[2].lower() in IMAGE_TYPES and Path(path).is_file()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalProtocolError(f"{path} cannot be read: {error.strerror}", hint="Check the path.") from None


def _connections(data: Any) -> pd.DataFrame:
    frame = typed_frame(_CONNECTION, rows_of(data, "connections"))
    frame.attrs["stats"] = object_field(data, "stats") or {}
    return frame


def typed_frame(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a frame: the named columns first, typed even where there is no row; then what else came.

    Args:
        columns: Column → kind: ``text``, ``int``, ``float``, ``bool``, ``time``, ``json`` or ``session``.
        rows: Values of these kinds, or None.
    """
    import pandas as pd

    more = dict.fromkeys(key for row in rows for key in row if key not in columns)
    kinds = {**columns, **dict.fromkeys(more, "json")}
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in rows], dtype=_TYPES[kind]) for name, kind in kinds.items()}
    )
