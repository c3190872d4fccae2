"""LangBot REST bodies: what stands around every answer, and both ways between it and values.

Neutral between the roles: the client reads here what a server writes (protocols/langbot.md 3).
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from botbook._errors import ApiError, AuthError, NotSupported, RemoteProtocolError
from botbook.wire.contract import Response

__all__ = [
    "multipart",
    "not_found_page",
    "object_field",
    "read_data",
    "refusal",
    "rows_of",
    "success",
    "token_life",
    "uploaded",
]

_BASE_HINT: Final = "Check that the base URL names the LangBot server itself."
_KEY_HINT: Final = "An API key is not taken here: give a user token, or user and password."
_HINTS: Final[Mapping[str, str]] = {
    "No valid user token provided": _KEY_HINT,
    "totp_required": "This account asks for a one-time code: use an API key or a token made in the browser.",
    "permission_denied": "The token lacks this permission; use another account or API key.",
}
_EXCERPT: Final = 200


# ---------------------------------------------------------------------------- answers


def read_data(response: Response, *, call: str = "call") -> Any:
    """The ``data`` of a success: HTTP says 200 and the body's ``code`` says 0.

    Args:
        response: What came.
        call: Name of the call, for the error of a server that has none such.

    Raises:
        AuthError: The credentials were refused.
        ApiError: The server refused or failed.
        NotSupported: This version of the server has no such path.
        RemoteProtocolError: It is no answer of this server.
    """
    body = _object(response.body)
    if body is None:
        raise _no_answer(response, call)
    code = body.get("code", response.status)
    if response.status == 200 and code == 0 and not isinstance(code, bool):
        return body.get("data")
    raise _refusal(response.status, code, body.get("msg"))


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _no_answer(response: Response, call: str) -> ApiError | NotSupported | RemoteProtocolError:
    """HTML and other things where JSON belongs; an unknown path is HTML with 404 or 405."""
    status = response.status
    if status in (404, 405):
        return NotSupported(call, "langbot", hint=f"This server has no such call. {_BASE_HINT}")
    if status == 200:
        return RemoteProtocolError("a page where an answer belongs", frame=response.body, hint=_BASE_HINT)
    text = response.body[:_EXCERPT].decode("utf-8", "replace").strip()
    kind = AuthError if status == 401 else ApiError
    return kind(f"HTTP {status}: {text}", code=status, status=status)


def _refusal(status: int, code: Any, said: Any) -> ApiError:
    code = code if isinstance(code, int | str) else status
    text = said[:_EXCERPT] if isinstance(said, str) and said else "no reason given"
    kind = AuthError if status == 401 else ApiError
    hint = _HINTS.get(text) or _HINTS.get(str(code))
    return kind(f"[{code}] {text}", code=code, status=status, hint=hint)


def object_field(data: Any, key: str) -> Any:
    """One field of an answer's ``data``; None where there is none."""
    return data.get(key) if isinstance(data, dict) else None


def rows_of(data: Any, key: str = "") -> list[dict[str, Any]]:
    """The objects of a list in an answer.

    Args:
        data: ``data`` of the answer.
        key: Where the list stands; "" if `data` is the list.

    Raises:
        RemoteProtocolError: There is no list.
    """
    rows = object_field(data, key) if key else data
    if not isinstance(rows, list):
        raise RemoteProtocolError(f"an answer without its list {key!r}".replace(" ''", ""), frame=data)
    return [row for row in rows if isinstance(row, dict)]


def token_life(token: str, headers: Mapping[str, str]) -> float | None:
    """How long a user token lives, in seconds, both ends by the server's clock.

    Args:
        token: A JWT; its ``exp`` is read, nothing is verified.
        headers: Of the answer it came with; ``date`` says when that was.

    Returns:
        None where either does not tell.
    """
    try:
        claims = json.loads(urlsafe_b64decode(token.split(".")[1] + "=="))
        life = float(claims["exp"]) - parsedate_to_datetime(headers["date"]).timestamp()
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError, binascii.Error):
        return None
    return life if life > 0 else None


# ---------------------------------------------------------------------------- bodies


def multipart(name: str, data: bytes, *, field: str = "file") -> tuple[bytes, str]:
    """One file as a form.

    Returns:
        The body, and its Content-Type. The boundary is a digest of the data, so that the same
        file gives the same form.
    """
    boundary = "botbook-" + hashlib.sha256(name.encode("utf-8", "replace") + data).hexdigest()[:32]
    safe = re.sub(r'[\x00-\x1f"\\/]', "_", name)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{safe}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode("utf-8", "replace") + data + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def uploaded(body: bytes, content_type: str) -> tuple[str, bytes]:
    """Name and data of the one file in a form.

    Raises:
        RemoteProtocolError: There is none.
    """
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    head, blank, rest = body.partition(b"\r\n\r\n")
    name = re.search(rb'filename="([^"]*)"', head)
    data, end, _ = rest.rpartition(b"\r\n--" + boundary)
    if not boundary or not blank or name is None or not end:
        raise RemoteProtocolError("a form without a file", frame=body)
    return name[1].decode("utf-8", "replace"), data


# ---------------------------------------------------------------------------- writing


def success(data: Any = None) -> Response:
    """Write a success."""
    return _write(200, {"code": 0, "data": data, "msg": "ok"})


def refusal(status: int, code: int | str, text: str) -> Response:
    """Write a refusal; some of them come with status 200."""
    return _write(status, {"code": code, "msg": text})


def not_found_page(status: int = 404) -> Response:
    """Write what stands at a path that a version does not have."""
    body = b"<!doctype html>\n<html lang=en>\n<title>Not Found</title>\n"
    return Response(status, body, {"content-type": "text/html; charset=utf-8"})


def _write(status: int, body: Mapping[str, Any]) -> Response:
    text = json.dumps(body, sort_keys=True)
    return Response(status, text.encode(), {"content-type": "application/json"})
