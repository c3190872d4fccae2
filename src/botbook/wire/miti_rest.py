"""Miti REST: reading answers, and writing them from the other side (protocols/miti.md 2, 6)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final, NotRequired, TypedDict

from botbook._errors import ApiError, AuthError, RemoteProtocolError
from botbook.actions import HistoryItem, Sent
from botbook.events import ASSISTANT
from botbook.wire.contract import Response, Token
from botbook.wire.miti_content import read_content
from botbook.wire.miti_frames import epoch_ms, from_epoch_ms, text_of

__all__ = [
    "HISTORY_CAP",
    "HISTORY_PATH",
    "NO_PERMISSION",
    "SEND_PATH",
    "TOKEN_PATH",
    "UNKNOWN_APP",
    "HistoryMessage",
    "Result",
    "SendBody",
    "TokenBody",
    "answer",
    "read_history",
    "read_sent",
    "read_token",
    "refusal",
]

TOKEN_PATH: Final = "/agent/v1/auth/token"
SEND_PATH: Final = "/agent/v1/messages/send"
HISTORY_PATH: Final = "/agent/v1/messages/history"

#: The server gives no more messages at once, whatever is asked for.
HISTORY_CAP: Final = 50

#: Life of a token when the server does not tell, in seconds.
DEFAULT_EXPIRES_IN: Final = 7200.0

UNKNOWN_APP: Final = 10001
NO_PERMISSION: Final = 10012

_HINTS: Final[dict[int | str, str]] = {
    UNKNOWN_APP: "The gateway knows no such app id: copy it again from the Miti app, under agent management.",
    NO_PERMISSION: "This agent may not write there: check the user or group id, and that they added it.",
    404: "Check the base URL: it ends in /chat on the public gateway.",
    429: "The gateway asks for fewer requests; wait a little.",
    503: "The gateway is not ready; try again in a little while.",
}
_REDIRECT_HINT: Final = "Credentials are not sent on to another address: set base_url to the final one."
_CREDENTIAL_STATUS: Final = frozenset({400, 401, 403})


class TokenBody(TypedDict):
    """What the token endpoint takes."""

    app_id: str
    app_secret: str


class SendBody(TypedDict):
    """What the send endpoint takes; exactly one of the two addresses."""

    msg_type: str
    content: dict[str, Any]
    to_user_id: NotRequired[str]
    to_group_id: NotRequired[str]


class HistoryMessage(TypedDict):
    """One item of a history; ids and times are not promised."""

    role: str
    content: Any
    sender_name: NotRequired[str]
    message_id: NotRequired[str]
    user_id: NotRequired[str]
    send_time: NotRequired[str]


class Result(TypedDict):
    """Every answer; `errCode` 0 is success."""

    errCode: int
    errMsg: NotRequired[str]
    data: NotRequired[Any]


# ---------------------------------------------------------------------------- reading


def read_token(response: Response) -> Token:
    """Read the answer of the token endpoint.

    Raises:
        AuthError: The credentials were refused.
        ApiError: The endpoint failed for another reason.
        RemoteProtocolError: It is no answer of this gateway.
    """
    body = _read(response, AuthError)
    data = _data(body)
    value = text_of(data.get("token")) or text_of(data.get("access_token"))
    if not value:
        raise RemoteProtocolError("the gateway took the credentials but gave no token")
    return Token(value, _seconds(data.get("expires_in")))


def _seconds(value: Any) -> float:
    """A life in seconds; what is absent or unreadable is the default."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_EXPIRES_IN
    return max(seconds, 0.0) if math.isfinite(seconds) else DEFAULT_EXPIRES_IN


def read_sent(response: Response) -> Sent:
    """Read the answer to a send. No ``data`` is a delivery all the same.

    Raises:
        ApiError: The message was refused.
        RemoteProtocolError: It is no answer of this gateway.
    """
    data = _data(_read(response, ApiError))
    return Sent(message_id=text_of(data.get("message_id")), server_time=_ms(data.get("server_time")))


def read_history(response: Response) -> list[HistoryItem]:
    """Read a history, in the order it came; what is no message is left out.

    The protocol does not promise ids and times: where they stand under the names that
    event frames use, they are kept.

    Raises:
        ApiError: The request was refused.
        RemoteProtocolError: It is no answer of this gateway.
    """
    messages = _data(_read(response, ApiError)).get("messages")
    items = messages if isinstance(messages, list) else []
    return [_history_item(item) for item in items if isinstance(item, dict)]


def _history_item(item: dict[str, Any]) -> HistoryItem:
    sender = item.get("sender")
    sender = sender if isinstance(sender, dict) else {}
    role = text_of(item.get("role"))
    return HistoryItem(
        role=role,
        text=read_content(item.get("content"))[0],
        sender_name=text_of(item.get("sender_name")) or text_of(sender.get("name")),
        message_id=text_of(item.get("message_id")),
        user_id=text_of(item.get("user_id")) or text_of(sender.get("user_id")),
        at_ms=_ms(item.get("send_time")),
        own=role == ASSISTANT,
        raw=item,
    )


def _ms(value: Any) -> int | None:
    at = from_epoch_ms(value)
    return None if at is None else epoch_ms(at)


def _data(body: dict[str, Any]) -> dict[str, Any]:
    data = body.get("data")
    return data if isinstance(data, dict) else {}


def _read(response: Response, kind: type[ApiError]) -> dict[str, Any]:
    """The body of a success; any 2xx status with code 0 is one."""
    body = _object(response.body)
    if not 200 <= response.status < 300:
        raise _http_error(response, body, kind)
    if body is None:
        raise RemoteProtocolError(
            "an answer that is no JSON object",
            frame=response.body,
            hint="Check that the base URL names the gateway and not another service.",
        )
    code = _code(body)
    if code is None:
        raise RemoteProtocolError("an answer without a result code", frame=response.body)
    if code != 0:
        raise kind(f"[{code}] {_message(body)}", code=code, status=response.status, hint=_HINTS.get(code))
    return body


def _http_error(response: Response, body: dict[str, Any] | None, kind: type[ApiError]) -> ApiError:
    """An error for a status outside 2xx; only some of them speak of the credentials."""
    status = response.status
    error = kind if kind is ApiError or status in _CREDENTIAL_STATUS else ApiError
    if status == 401:
        error = AuthError
    code = _code(body or {}) or status
    text = _message(body) if body else response.body[:200].decode("utf-8", "replace").strip()
    hint = _REDIRECT_HINT if 300 <= status < 400 else _HINTS.get(code) or _HINTS.get(status)
    return error(f"HTTP {status}: {text}" if text else f"HTTP {status}", code=code, status=status, hint=hint)


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _code(body: dict[str, Any]) -> int | str | None:
    """The result code; a text "0" is an error as in the official client."""
    code = body["errCode"] if "errCode" in body else body.get("code")
    return code if isinstance(code, int | str) and not isinstance(code, bool) else None


def _message(body: dict[str, Any]) -> str:
    texts = (text_of(body.get(key)) for key in ("errMsg", "message", "msg"))
    return next((text[:200] for text in texts if text), "unknown error")


# ---------------------------------------------------------------------------- writing


def answer(data: Mapping[str, Any] | None, *, status: int = 200) -> Response:
    """Write a success."""
    return _write({"errCode": 0, "data": data}, status)


def refusal(
    code: int, message: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Write a refusal."""
    return _write({"errCode": code, "errMsg": message}, status, headers)


def _write(body: Result, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        status,
        json.dumps(body).encode(),
        {"content-type": "application/json; charset=utf-8", **(headers or {})},
    )
