"""Users, tokens and keys of the embedded LangBot (protocols/langbot.md 3)."""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from collections.abc import Mapping
from typing import Final

from botbook._clock import Clock
from botbook._local.langbot_records import Era
from botbook.wire.contract import Response
from botbook.wire.langbot_bodies import refusal

__all__ = ["TOKEN_LIFE", "Accounts"]

USER: Final = "admin@example.com"

#: Life of a user token, in seconds.
TOKEN_LIFE: Final = 7 * 86400.0


class Accounts:
    """One user, their tokens, and one API key.

    Args:
        era: Which version it behaves like.
        clock: Where times come from.
        workspace: Uuid of the only workspace.
    """

    def __init__(self, era: Era, *, clock: Clock, workspace: str) -> None:
        self._era, self._clock = era, clock
        self.workspace = workspace
        self.user, self.password = USER, secrets.token_urlsafe(12)
        self.api_key = f"lbk_{secrets.token_urlsafe(24)}"
        self.life = TOKEN_LIFE
        self._tokens: dict[str, float] = {}

    def login(self, user: object, password: object) -> str:
        """A token, or "" for the wrong words."""
        right = isinstance(password, str) and hmac.compare_digest(password.encode(), self.password.encode())
        return self.new_token() if right and user == self.user else ""

    def new_token(self) -> str:
        """A user token that looks like a real one."""
        ends = self._clock.now().timestamp() + self.life
        claims = {"user": self.user, "iss": "LangBot-community", "exp": int(ends)}
        token = ".".join(
            (_sealed({"alg": "HS256", "typ": "JWT"}), _sealed(claims), secrets.token_urlsafe(24))
        )
        self._tokens[token] = ends
        return token

    def revoke(self) -> None:
        """Forget every token given so far."""
        self._tokens.clear()

    def opens_chat(self, token: object, workspace: object) -> bool:
        """Whether a first frame of a chat is right: a user token, and the workspace by name."""
        return isinstance(token, str) and self._lives(token) and workspace == self.workspace

    def refuse(self, headers: Mapping[str, str], *, keys: bool, users: bool = True) -> Response | None:
        """The refusal of a call, or None.

        Args:
            headers: Lower-case names.
            keys: Whether an API key will do.
            users: Whether a user token will do.
        """
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if given == self.api_key:
            return None if keys else refusal(401, -1, "No valid user token provided")
        if not given:
            return refusal(401, -1, "No valid user token provided")
        if users and self._lives(given):
            return self._wrong_workspace(headers)
        if not users and not self._era.authenticates:
            return refusal(401, -1, "Invalid API key")
        if self._era.authenticates:
            return refusal(401, "invalid_authentication", "Invalid authentication credentials")
        return refusal(401, -1, "Not enough segments")

    def _lives(self, token: str) -> bool:
        return self._tokens.get(token, 0.0) > self._clock.now().timestamp()

    def _wrong_workspace(self, headers: Mapping[str, str]) -> Response | None:
        named = headers.get("x-workspace-id", self.workspace)
        if named == self.workspace or not self._era.authenticates:
            return None
        return refusal(404, "resource_not_found", "Workspace not found")


def _sealed(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
