"""LangBot REST: requests, and how to read their answers (protocols/langbot.md 3, 4, 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from botbook._errors import (
    ApiError,
    AuthError,
    ConfigError,
    LocalProtocolError,
    NotSupported,
    RemoteProtocolError,
)
from botbook.wire.contract import HttpRequest, Response, Token
from botbook.wire.langbot_bodies import multipart, object_field, read_data, rows_of, token_life

__all__ = ["IMAGE_TYPES", "MAX_UPLOAD_BYTES", "LangBotRest"]

#: What the image store takes, and how much of it (protocols/langbot.md 9).
IMAGE_TYPES: Final = frozenset({"jpg", "jpeg", "png", "gif", "webp"})
MAX_UPLOAD_BYTES: Final = 10 * 2**20

Query = Iterable[tuple[str, str]]


class LangBotRest:
    """Requests to one LangBot server.

    Args:
        base_url: Such as ``http://127.0.0.1:5300``.
        workspace: Uuid of the workspace, or "" until `workspaces` has found it.

    Attributes:
        newest: The last user token that came, or "".
    """

    def __init__(self, base_url: str, *, workspace: str = "") -> None:
        self.base_url = base_url.rstrip("/")
        self.workspace = workspace
        self.newest = ""

    def request(
        self,
        method: str,
        path: str,
        *,
        call: str,
        query: Query = (),
        json: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read: Callable[[Any], Any] | None = None,
        whole: Callable[[Response], Any] | None = None,
        authorised: bool = True,
        repeatable: bool | None = None,
    ) -> HttpRequest:
        """Any call.

        Args:
            method: ``GET``, ``POST``, …
            path: From ``/api`` on; its variable parts are quoted already.
            call: Its name, for errors.
            query: Pairs; a key may stand more than once.
            json: Body as a JSON value.
            body: Body as bytes, with its type among `headers`.
            headers: More of them.
            read: Turns ``data`` of the answer into a value; default: `data` itself.
            whole: Turns the whole answer into a value, instead of `read`.
            authorised: Whether the token goes with it.
            repeatable: Whether it may be sent twice; default: a GET may.
        """
        pairs = list(query)
        more = {"X-Workspace-Id": self.workspace} if self.workspace and authorised else {}

        def answer(response: Response) -> Any:
            data = read_data(response, call=call)
            return read(data) if read else data

        return HttpRequest(
            method=method,
            url=self.base_url + path + (f"?{urlencode(pairs, quote_via=quote)}" if pairs else ""),
            json=json,
            body=body,
            headers={**more, **(headers or {})},
            read=whole or answer,
            authorised=authorised,
            repeatable=method == "GET" if repeatable is None else repeatable,
        )

    # ------------------------------------------------------------------------ accounts

    def login(self, user: str, password: str) -> HttpRequest:
        """Get a user token. It reads as a `Token`, or as the request for the next step on the way."""
        return self.request(
            "POST", "/api/v1/user/auth", call="login", json={"user": user, "password": password},
            whole=self._read_login, authorised=False, repeatable=True,
        )  # fmt: skip

    def check_token(self, token: str) -> HttpRequest:
        """Renew a user token while it still lives. It reads as `login` does."""
        return self.request(
            "GET", "/api/v1/user/check-token", call="check_token", headers=_bearer(token),
            whole=self._read_token, authorised=False,
        )  # fmt: skip

    def workspaces(self, token: Token) -> HttpRequest:
        """Find the workspace that a chat has to name; servers before 4.10.7 know none.

        It reads as `token`, so that it is the last step of a login.
        """
        return self.request(
            "GET", "/api/v1/workspaces", call="workspaces", headers=_bearer(token.value),
            whole=lambda response: self._read_workspaces(response, token), authorised=False,
        )  # fmt: skip

    def _read_login(self, response: Response) -> Token | HttpRequest:
        try:
            return self._read_token(response)
        except AuthError:
            raise
        except ApiError as error:
            if response.status != 200:
                raise
            raise AuthError(str(error), code=error.code, status=error.status) from None

    def _read_token(self, response: Response) -> Token | HttpRequest:
        """A token, or the next step on the way to one: finding the workspace."""
        value = object_field(read_data(response, call="login"), "token")
        if not isinstance(value, str) or not value:
            raise RemoteProtocolError("the server took the credentials but gave no token")
        self.newest = value
        token = Token(value, token_life(value, response.headers))
        return token if self.workspace else self.workspaces(token)

    def _read_workspaces(self, response: Response, token: Token) -> Token:
        try:
            rows = rows_of(read_data(response, call="workspaces"), "workspaces")
        except NotSupported:
            return token
        found = [row["uuid"] for row in rows if isinstance(row.get("uuid"), str)]
        if len(found) > 1:
            raise ConfigError(
                f"this account has {len(found)} workspaces",
                hint=f"Set `workspace` to one of: {', '.join(found[:5])}.",
            )
        self.workspace = found[0] if found else ""
        return token

    def info(self) -> HttpRequest:
        """Version and edition of the server; needs no token."""
        return self.request("GET", "/api/v1/system/info", call="info", authorised=False)

    # ------------------------------------------------------------------------ pipelines

    def pipelines(self) -> HttpRequest:
        """All pipelines, newest first."""
        return self.request(
            "GET",
            "/api/v1/pipelines",
            call="pipelines",
            query=[("sort_by", "created_at"), ("sort_order", "DESC")],
            read=lambda data: rows_of(data, "pipelines"),
        )

    def pipelines_by(self, token: Token, tell: Callable[[list[dict[str, Any]]], None]) -> HttpRequest:
        """All pipelines, asked with a fresh token; it reads as that token, after `tell` had the rows."""

        def read(data: Any) -> Token:
            tell(rows_of(data, "pipelines"))
            return token

        return self.request(
            "GET", "/api/v1/pipelines", call="pipelines", headers=_bearer(token.value), read=read,
            authorised=False,
        )  # fmt: skip

    def run(self, pipeline: str, text: str) -> HttpRequest:
        """One question without a socket; 4.11 and later."""
        return self.request(
            "POST", f"/api/v1/pipelines/{_part(pipeline)}/run", call="run", json={"message": text}
        )

    def history(self, pipeline: str, session_type: str, *, read: Callable[[Any], Any]) -> HttpRequest:
        """What the chat of a pipeline shows; memory only, lost on a restart."""
        return self.request(
            "GET", f"{_chat(pipeline)}/messages/{_part(session_type)}", call="history", read=read
        )

    def reset(self, pipeline: str, session_type: str) -> HttpRequest:
        """Forget what the chat of a pipeline shows."""
        return self.request(
            "POST", f"{_chat(pipeline)}/reset/{_part(session_type)}", call="reset", repeatable=True
        )

    def connections(self, pipeline: str) -> HttpRequest:
        """Who is connected to a pipeline: ``connections`` and ``stats``."""
        return self.request("GET", f"{_chat(pipeline)}/connections", call="connections")

    def broadcast(self, pipeline: str, message: Any) -> HttpRequest:
        """Say something to all who are connected to a pipeline, in both session types.

        Args:
            pipeline: Uuid.
            message: Any JSON value.
        """
        return self.request(
            "POST", f"{_chat(pipeline)}/broadcast", call="broadcast", json={"message": message}
        )

    # ------------------------------------------------------------------------ files

    def upload_image(self, name: str, data: bytes) -> HttpRequest:
        """Give the server a picture; reads as the key for `Ask.attachments`.

        Raises:
            LocalProtocolError: It is too long, or its name has no ending of a picture.
        """
        if name.rpartition(".")[2].lower() not in IMAGE_TYPES:
            raise LocalProtocolError(
                f"{name!r} is no picture that LangBot takes",
                hint=f"It takes {', '.join(sorted(IMAGE_TYPES))}.",
            )
        return self._upload("images", name, data, "file_key")

    def upload_document(self, name: str, data: bytes) -> HttpRequest:
        """Give the server a document for a knowledge base; reads as its file id.

        Raises:
            LocalProtocolError: It is too long.
        """
        return self._upload("documents", name, data, "file_id")

    def _upload(self, kind: str, name: str, data: bytes, key: str) -> HttpRequest:
        if len(data) > MAX_UPLOAD_BYTES:
            raise LocalProtocolError(
                f"{name!r} has {len(data)} bytes", hint=f"LangBot takes up to {MAX_UPLOAD_BYTES} bytes."
            )
        body, content_type = multipart(name, data)
        return self.request(
            "POST", f"/api/v1/files/{kind}", call=f"upload_{kind[:-1]}", body=body,
            headers={"Content-Type": content_type}, read=lambda answer: _key(answer, key),
        )  # fmt: skip

    # ------------------------------------------------------------------------ bots and pages

    def send_message(
        self, bot: str, target_type: str, target_id: str, components: list[dict[str, Any]]
    ) -> HttpRequest:
        """Let a bot write to somebody; API key only.

        Args:
            bot: Uuid.
            target_type: ``person`` or ``group``.
            target_id: Whom, by the platform's id.
            components: The message chain as JSON.
        """
        body = {"target_type": target_type, "target_id": target_id, "message_chain": components}
        path = f"/api/v1/platform/bots/{_part(bot)}/send_message"
        return self.request("POST", path, call="send_message", json=body)

    def page_history(
        self, bot: str, session_id: str, session_type: str, *, read: Callable[[Any], Any]
    ) -> HttpRequest:
        """What the chat of a web page bot shows; needs no token."""
        path = f"/api/v1/embed/{_part(bot)}/messages/{_part(session_type)}"
        query = [("session_id", session_id)]
        return self.request("GET", path, call="history", query=query, read=read, authorised=False)

    def page_reset(self, bot: str, session_id: str, session_type: str) -> HttpRequest:
        """Forget what the chat of a web page bot shows; needs no token."""
        path = f"/api/v1/embed/{_part(bot)}/reset/{_part(session_type)}"
        query = [("session_id", session_id)]
        return self.request("POST", path, call="reset", query=query, authorised=False, repeatable=True)

    def page_feedback(self, bot: str, number: int, kind: int) -> HttpRequest:
        """Rate an answer of a web page bot; reads as the feedback id. Each call makes a row of its own.

        Args:
            bot: Uuid.
            number: The server's number of the answer.
            kind: 1 like, 2 dislike; 3 is taken and does nothing.
        """
        return self.request(
            "POST", f"/api/v1/embed/{_part(bot)}/feedback", call="feedback", authorised=False,
            json={"message_id": number, "feedback_type": kind}, read=lambda data: _key(data, "feedback_id"),
        )  # fmt: skip


def _part(text: str) -> str:
    return quote(text, safe="")


def _chat(pipeline: str) -> str:
    return f"/api/v1/pipelines/{_part(pipeline)}/ws"


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _key(data: Any, key: str) -> str:
    value = object_field(data, key)
    if not isinstance(value, str) or not value:
        raise RemoteProtocolError(f"an answer without its {key}", frame=data)
    return value
