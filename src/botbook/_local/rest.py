"""REST of the embedded Miti gateway: token, send, history, and their refusals (protocols/miti.md 2, 6)."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from botbook._local.chats import Chat, Chats, Stored
from botbook._local.mischief import Fault, Mischief
from botbook._local.record import SentLog
from botbook._local.tokens import Tokens
from botbook.wire.contract import Response
from botbook.wire.miti_frames import epoch_ms, text_of
from botbook.wire.miti_rest import (
    HISTORY_PATH,
    NO_PERMISSION,
    SEND_PATH,
    TOKEN_PATH,
    UNKNOWN_APP,
    answer,
    refusal,
)

__all__ = ["TOKEN_LIFE", "MitiRest", "refused", "unauthorised"]

#: Life of a token, in seconds (protocols/miti.md 2).
TOKEN_LIFE: Final = 7200.0

# Codes of our own making: those of the live gateway are not known.
_WRONG_SECRET: Final = 10002
_BAD_TOKEN: Final = 10003
_BAD_REQUEST: Final = 10010

_METHODS: Final = {TOKEN_PATH: "POST", SEND_PATH: "POST", HISTORY_PATH: "GET"}
#: What each path is called, in the log and in faults.
_PLACES: Final = {TOKEN_PATH: "token", SEND_PATH: "send", HISTORY_PATH: "history"}


def refused(made: Fault) -> Response:
    """The refusal that a fault with ``status`` and ``retry_after`` asks for."""
    wait = made["retry_after"]
    headers = {"retry-after": f"{wait:g}"} if wait >= 0 else {}
    return refusal(made["status"], "not now", status=made["status"], headers=headers)


def unauthorised() -> Response:
    """The refusal of a token."""
    return refusal(_BAD_TOKEN, "token is wrong or has expired", status=401)


class MitiRest:
    """The three endpoints of one agent.

    Args:
        app_id: The agent.
        app_secret: Its secret.
        tokens: What it has given.
        chats: What was said.
        faults: What is armed.
        log: Where calls are noted.
        deliver: Puts a message of the agent into a chat.
    """

    def __init__(
        self,
        *,
        app_id: str,
        app_secret: str,
        tokens: Tokens,
        chats: Chats,
        faults: Mischief,
        log: SentLog,
        deliver: Callable[[Chat, dict[str, Any]], Stored],
    ) -> None:
        self._app_id = app_id
        self._app_secret = app_secret
        self._tokens = tokens
        self._chats = chats
        self._faults = faults
        self._log = log
        self._deliver = deliver

    def answer(
        self, method: str, route: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
    ) -> Response:
        """Answer one call, and note it.

        Args:
            method: Upper case.
            route: Path below the base URL.
            headers: Lower-case names.
            query: Decoded.
            body: Undecoded.
        """
        sent = _json_object(body)
        response = self._faulty(route) or self._routed(method, route, headers, query, sent)
        said: dict[str, Any] = {"body": sent} if method == "POST" else {"query": dict(query)}
        code = json.loads(response.body)["errCode"]
        place = _PLACES.get(route, "http")
        self._log.add("miti", place, method=method, path=route, status=response.status, code=code, **said)
        return response

    def _faulty(self, route: str) -> Response | None:
        place = _PLACES.get(route, "")
        if made := self._faults.take("http", where=place):
            return refused(made)
        if made := self._faults.take("redirect", where=place):
            return refusal(_BAD_REQUEST, "elsewhere", status=307, headers={"location": made["location"]})
        if place == "token" and (made := self._faults.take("token_status")):
            return refusal(made["code"], "refused", status=made["status"])
        return None

    def _routed(
        self,
        method: str,
        route: str,
        headers: Mapping[str, str],
        query: Mapping[str, str],
        sent: dict[str, Any] | None,
    ) -> Response:
        if route not in _METHODS:
            return refusal(_BAD_REQUEST, "no such path", status=404)
        if method != _METHODS[route]:
            return refusal(_BAD_REQUEST, "wrong method", status=405)
        if route != TOKEN_PATH and not self._tokens.accepts(headers):
            return unauthorised()
        if route == HISTORY_PATH:
            return self._history(query)
        if sent is None:
            return refusal(_BAD_REQUEST, "the body is no JSON object", status=400)
        return self._token(sent) if route == TOKEN_PATH else self._send(sent)

    def _token(self, sent: dict[str, Any]) -> Response:
        if sent.get("app_id") != self._app_id:
            return refusal(UNKNOWN_APP, "app id not found")
        given = text_of(sent.get("app_secret")).encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._app_secret.encode()):
            return refusal(_WRONG_SECRET, "wrong app secret")
        made = self._faults.take("token_ttl")
        life = made["seconds"] if made else TOKEN_LIFE
        return answer({"token": self._tokens.issue(life), "expires_in": int(life) if life % 1 == 0 else life})

    def _send(self, sent: dict[str, Any]) -> Response:
        user, group = text_of(sent.get("to_user_id")), text_of(sent.get("to_group_id"))
        content = sent.get("content")
        if bool(user) == bool(group):
            return refusal(_BAD_REQUEST, "exactly one of to_user_id and to_group_id is needed")
        if sent.get("msg_type") not in ("text", "stream_full") or not isinstance(content, dict):
            return refusal(_BAD_REQUEST, "msg_type or content is wrong")
        if self._faults.take("no_permission"):
            return refusal(NO_PERMISSION, "no permission")
        stored = self._deliver(self._chats.of(user=user, group=group), content)
        if self._faults.take("no_data"):
            return answer(None)
        return answer({"message_id": stored.message_id, "server_time": str(epoch_ms(stored.at))})

    def _history(self, query: Mapping[str, str]) -> Response:
        limit = query.get("limit", "")
        messages = self._chats.history(
            query.get("conversation_id", ""),
            limit=int(limit) if limit.isdecimal() else 10,
            before=query.get("before_message_id", ""),
            bare=self._faults.take("bare_history") is not None,
        )
        return answer({"messages": messages})


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
