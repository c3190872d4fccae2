"""The webhook target: an event goes out as JSON, and what the answer asks for is done.

The forms are those of LangBot's design documents, section 2.3 of event routing: the request has the
event and the bot, the answer has ``actions``. Sockets and time are handed in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from botbook._clock import SYSTEM, Clock
from botbook._errors import (
    ApiError,
    BotbookError,
    ConfigError,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
)
from botbook.actions import PLATFORM_API, Action, PlatformCall, Send
from botbook.events import Event
from botbook.messages import At, AtAll, MessageChain, Plain, Source

__all__ = ["Exchange", "Reply", "Webhook", "WebhookSettings", "actions_in"]

#: Answer an event; the short name that answers use for ``reply_message``.
REPLY: Final = "reply"
#: What an answer may ask for where the rule does not say more.
ALLOWED: Final = frozenset({REPLY, "reply_message", "send_message"})
#: Longest answer that is read, in bytes, and longest wait between two tries, in seconds.
MAX_ANSWER: Final = 1 << 20
LONGEST_WAIT: Final = 60.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def _is_texts(value: Any) -> bool:
    return all(isinstance(text, str) for text in value)


#: Settings besides the url: when a value is fit, and what it should be.
_SETTINGS: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "method": (lambda value: value in ("POST", "PUT"), "POST or PUT"),
    "headers": (lambda value: isinstance(value, Mapping) and _is_texts(value.values()), "texts by name"),
    "timeout": (_is_number, "seconds above 0"),
    "retry_count": (lambda value: type(value) is int and 0 <= value <= 20, "a whole number up to 20"),
    "retry_interval": (_is_number, "seconds above 0"),
    "response_actions": (lambda value: isinstance(value, bool), "true or false"),
    "secret": (lambda value: isinstance(value, str), "a text"),
    "allowed_actions": (lambda value: isinstance(value, list) and _is_texts(value), "names of actions"),
}


class Reply(Protocol):
    """What a server answered."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class Exchange(Protocol):
    """Makes one HTTP exchange, without a second try."""

    def __call__(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> Awaitable[Reply]:
        """Make it. Raises `TransportError` where there is no answer in time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """The configuration of a webhook rule.

    Attributes:
        url: Where to.
        method: ``POST`` or ``PUT``.
        headers: Such as ``Authorization``; never shown.
        timeout: Longest exchange, in seconds.
        retry_count: Tries after the first.
        retry_interval: Before the second try, in seconds; doubled each time, up to a minute.
        response_actions: Whether the answer's actions are done.
        secret: Signs the request, if given; never shown.
        allowed: What the answer may ask for.
    """

    url: str
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    timeout: float = 30.0
    retry_count: int = 3
    retry_interval: float = 5.0
    response_actions: bool = False
    secret: str = field(default="", repr=False)
    allowed: frozenset[str] = ALLOWED

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, check_url: Callable[[str], str]) -> WebhookSettings:
        """Read a rule's ``config``.

        Args:
            config: As LangBot has it, with ``secret`` and ``allowed_actions`` besides.
            check_url: Gives back a fit address, and raises `ConfigError` for any other.

        Raises:
            ConfigError: A setting is missing, unknown or wrong.
        """
        given = dict(config)
        url = given.pop("url", None)
        if not isinstance(url, str):
            raise ConfigError("a webhook needs a url")
        for name, value in given.items():
            if name not in _SETTINGS:
                known = f"Known: url, {', '.join(_SETTINGS)}."
                raise ConfigError(f"a webhook has no setting {name!r}", hint=known)
            fits, wanted = _SETTINGS[name]
            if not fits(value):  # the value is not shown: it may be a secret
                raise ConfigError(f"{name} of a webhook is {wanted}")
        allowed = frozenset(given.pop("allowed_actions", ALLOWED))
        if foreign := sorted(allowed - {REPLY, *PLATFORM_API}):
            known = f"Known: {REPLY}, {', '.join(PLATFORM_API)}."
            raise ConfigError(f"there is no action {foreign[0]!r}", hint=known)
        return cls(url=check_url(url), allowed=allowed, **given)


class Webhook:
    """Sends events to one address.

    Args:
        settings: Which, and how.
        exchange: Makes HTTP exchanges.
        bot: What the request says of the bot: ``uuid``, ``name``, ``adapter``.
        clock: Time.
    """

    def __init__(
        self,
        settings: WebhookSettings,
        *,
        exchange: Exchange,
        bot: Mapping[str, str],
        clock: Clock = SYSTEM,
    ) -> None:
        self._settings = settings
        self._exchange = exchange
        self._bot = dict(bot)
        self._clock = clock

    async def send(self, event: Event) -> tuple[Action, ...]:
        """Send an event.

        Returns:
            What the answer asks for; nothing where the rule takes no actions.

        Raises:
            TransportError: No answer, at no try.
            ApiError: The server refused, or was busy at every try.
            RemoteProtocolError: The answer is no JSON, or asks for what cannot be.
            LocalProtocolError: The answer asks for what the rule does not allow.
        """
        body = json.dumps({"event": event.to_json(), "bot": self._bot}).encode()
        ident = str(uuid.uuid4())
        reply = await self._tried(body, ident)
        if not self._settings.response_actions or not reply.body.strip():
            return ()
        return actions_in(reply.body, event, allowed=self._settings.allowed, ident=ident)

    async def _tried(self, body: bytes, ident: str) -> Reply:
        wait = self._settings.retry_interval
        for _ in range(self._settings.retry_count):
            try:
                return await self._once(body, ident)
            except (TransportError, ApiError) as error:
                if isinstance(error, ApiError) and error.status < 500 and error.status != 429:
                    raise
            await self._clock.sleep(min(wait, LONGEST_WAIT))
            wait *= 2
        return await self._once(body, ident)

    async def _once(self, body: bytes, ident: str) -> Reply:
        settings = self._settings
        headers = {"Content-Type": "application/json", "X-LB-Idempotency-Key": ident, **settings.headers}
        if settings.secret:
            headers |= self._signature(body)
        reply = await self._exchange(
            settings.method, settings.url, headers=headers, body=body, timeout=settings.timeout
        )
        if not 200 <= reply.status < 300:
            raise ApiError(f"the webhook answered {reply.status}", code=reply.status, status=reply.status)
        if len(reply.body) > MAX_ANSWER:
            raise RemoteProtocolError(f"the webhook answered {len(reply.body)} bytes")
        return reply

    def _signature(self, body: bytes) -> dict[str, str]:
        """Signed as LangBot's own HTTP bot signs (protocols/langbot.md 7)."""
        stamp = str(int(self._clock.now().timestamp()))
        digest = hmac.new(self._settings.secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256)
        return {"X-LB-Timestamp": stamp, "X-LB-Signature": f"sha256={digest.hexdigest()}"}


def actions_in(body: bytes, event: Event, *, allowed: frozenset[str], ident: str) -> tuple[Action, ...]:
    """What the answer of a webhook asks for: all of it, or none if one part is wrong.

    Args:
        body: The answer.
        event: What it answers.
        allowed: What it may ask for.
        ident: Id of the exchange; the actions' ids are made of it, so that a repeat is a repeat.

    Raises:
        RemoteProtocolError: It is no such answer.
        LocalProtocolError: It asks for what is not allowed.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("the webhook's answer is no JSON", frame=body) from None
    items = answer.get("actions", []) if isinstance(answer, dict) else None
    if not isinstance(items, list):
        raise RemoteProtocolError("the webhook's answer has no list of actions", frame=body)
    return tuple(_action(item, event, allowed, f"{ident}-{number}") for number, item in enumerate(items))


def _action(item: Any, event: Event, allowed: frozenset[str], ident: str) -> Action:
    kind = item.get("type") if isinstance(item, dict) else None
    params = item.get("params", {}) if isinstance(item, dict) else None
    if not isinstance(kind, str) or not isinstance(params, dict):
        raise RemoteProtocolError("an action of the webhook without type and params", frame=item)
    if kind not in allowed:
        raise LocalProtocolError(
            f"the webhook asks for {kind!r}, which its rule does not allow",
            hint="Name it under `allowed_actions` of the rule, if it may.",
        )
    try:
        call = PlatformCall(id=ident, api="reply_message" if kind == REPLY else kind, params=params)
        return _as_text(call, event) or call
    except BotbookError as error:
        raise RemoteProtocolError(
            f"the webhook asks for what cannot be: {error.args[0]}", frame=item
        ) from None


def _as_text(call: PlatformCall, event: Event) -> Send | None:
    """A message that is text and mentions alone, as every gateway can send it."""
    if call.api not in ("send_message", "reply_message"):
        return None
    chain = MessageChain.from_json(call.params["message"])
    if not all(isinstance(part, Plain | At | AtAll | Source) for part in chain):
        return None
    if call.api == "reply_message":
        return Send(id=call.id, to=event.target, text=str(chain), reply_to=event.message_id)
    kind, target = call.params["target_type"], call.params["target_id"]
    if kind not in ("private", "person", "group") or not str(target):
        raise LocalProtocolError(f"{kind!r} {target!r} is no address")
    return Send(id=call.id, to=f"{'group' if kind == 'group' else 'user'}:{target}", text=str(chain))
