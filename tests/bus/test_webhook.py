"""The webhook target: what goes out, what comes back, and what it may ask for."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._bus.webhook import ALLOWED, MAX_ANSWER, Webhook, WebhookSettings, actions_in
from botbook._clock import FakeClock
from botbook._config import checked_url
from botbook._errors import (
    ApiError,
    ConfigError,
    ConnectError,
    DeadlineExceeded,
    LocalProtocolError,
    RemoteProtocolError,
)
from botbook.actions import PLATFORM_API, PlatformCall, Send
from botbook.events import from_json
from tests.samples import message

URL = "http://127.0.0.1:9/hook"
BOT = {"uuid": "b", "name": "lab", "adapter": "miti"}
CHAIN = [{"type": "Plain", "text": "welcome"}]


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""


class Server:
    """Stands for the other side: gives one answer after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    async def __call__(self, method, url, *, headers, body, timeout):
        self.requests.append(
            {"method": method, "url": url, "headers": headers, "body": body, "timeout": timeout}
        )
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def answering(*actions):
    return Reply(body=json.dumps({"actions": list(actions)}).encode())


async def sent(server, event=None, **config):
    """Send an event and let all the waiting pass. Returns the actions."""
    settings = WebhookSettings.from_config(
        {"url": URL, "response_actions": True, **config}, check_url=checked_url
    )
    clock = FakeClock()
    task = asyncio.ensure_future(
        Webhook(settings, exchange=server, bot=BOT, clock=clock).send(event or message("hi", user="ann"))
    )
    for _ in range(30):
        await clock.advance(60)
    return await task


async def test_the_request_has_the_event_and_the_bot():
    server = Server(Reply())
    event = message("hi")
    assert await sent(server, event, headers={"Authorization": "Bearer x"}, timeout=3) == ()
    (request,) = server.requests
    assert (request["method"], request["url"], request["timeout"]) == ("POST", URL, 3)
    assert request["headers"]["Authorization"] == "Bearer x"
    assert request["headers"]["Content-Type"] == "application/json"
    body = json.loads(request["body"])
    assert body["bot"] == BOT
    assert from_json(body["event"]).event_id == event.event_id


async def test_a_signed_request():
    server = Server(Reply())
    await sent(server, secret="s3")
    headers, body = server.requests[0]["headers"], server.requests[0]["body"]
    expected = hmac.new(b"s3", f"{headers['X-LB-Timestamp']}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["X-LB-Signature"] == f"sha256={expected}"
    assert int(headers["X-LB-Timestamp"]) > 0


async def test_the_answers_actions_become_actions():
    kick = {"group_id": 1, "user_id": 2}
    server = Server(
        answering(
            {"type": "reply", "params": {"message": CHAIN}},
            {"type": "send_message", "params": {"target_type": "group", "target_id": 7, "message": CHAIN}},
            {"type": "send_message", "params": {"target_type": "person", "target_id": "u", "message": CHAIN}},
            {
                "type": "reply_message",
                "params": {"message": [{"type": "Image", "url": "https://example.org/a"}]},
            },
            {"type": "kick_member", "params": kick},
        )
    )
    event = message("hi", user="ann", message_id="m1")
    found = await sent(server, event, allowed_actions=[*ALLOWED, "kick_member"])
    assert [(type(one).__name__, getattr(one, "to", None)) for one in found] == [
        ("Send", "user:ann"),
        ("Send", "group:7"),
        ("Send", "user:u"),
        ("PlatformCall", None),
        ("PlatformCall", None),
    ]
    assert found[0] == Send(id=found[0].id, to="user:ann", text="welcome", reply_to="m1")
    assert (found[3].api, found[4].params) == ("reply_message", kick)
    assert len({one.id for one in found}) == 5


async def test_an_answer_that_is_not_listened_to():
    assert await sent(Server(Reply(body=b"<html>")), response_actions=False) == ()
    assert await sent(Server(Reply(body=b" \n"))) == ()


@pytest.mark.parametrize(
    "trouble", [ConnectError("down"), DeadlineExceeded("slow"), Reply(500), Reply(503), Reply(429)], ids=str
)
async def test_what_may_pass_is_tried_again_under_the_same_key(trouble):
    server = Server(trouble, trouble, answering())
    assert await sent(server) == ()
    assert len(server.requests) == 3
    assert len({request["headers"]["X-LB-Idempotency-Key"] for request in server.requests}) == 1


async def test_the_waits_double():
    server = Server(ConnectError("down"))
    settings = WebhookSettings(url=URL, retry_count=3, retry_interval=40)
    clock = FakeClock()
    task = asyncio.ensure_future(Webhook(settings, exchange=server, bot=BOT, clock=clock).send(message()))
    waits = []
    for _ in range(3):
        await clock.settle()
        waits += clock.sleeping
        await clock.advance(clock.sleeping[0])
    with pytest.raises(ConnectError):
        await task
    assert waits == [40, 60, 60]
    assert len(server.requests) == 4


@pytest.mark.parametrize("status", [301, 400, 401, 404])
async def test_what_will_not_pass_is_not_tried_again(status):
    server = Server(Reply(status))
    with pytest.raises(ApiError) as caught:
        await sent(server)
    assert caught.value.status == status
    assert len(server.requests) == 1


WRONG = {
    "HTML": (b"<html>sorry</html>", RemoteProtocolError, "no JSON"),
    "a list": (b"[]", RemoteProtocolError, "no list of actions"),
    "actions that are none": (b'{"actions": 3}', RemoteProtocolError, "no list of actions"),
    "an action that is none": (b'{"actions": [3]}', RemoteProtocolError, "without type"),
    "params that are none": (
        b'{"actions": [{"type": "reply", "params": 3}]}',
        RemoteProtocolError,
        "without type",
    ),
    "a forbidden action": (
        b'{"actions": [{"type": "leave_group"}]}',
        LocalProtocolError,
        "'leave_group', which its rule",
    ),
    "an unknown action": (b'{"actions": [{"type": "explode"}]}', LocalProtocolError, "does not allow"),
    "no message": (b'{"actions": [{"type": "reply"}]}', RemoteProtocolError, "reply_message needs message"),
    "more than it takes": (
        b'{"actions": [{"type": "reply", "params": {"message": [], "loud": 1}}]}',
        RemoteProtocolError,
        "takes no loud",
    ),
    "a message that is none": (
        b'{"actions": [{"type": "reply", "params": {"message": "x"}}]}',
        RemoteProtocolError,
        "no list",
    ),
    "nowhere": (
        b'{"actions": [{"type": "send_message", "params": '
        b'{"target_type": "moon", "target_id": 1, "message": []}}]}',
        RemoteProtocolError,
        "no address",
    ),
    "too much": (b" " * (MAX_ANSWER + 1), RemoteProtocolError, "1048577 bytes"),
}


@pytest.mark.parametrize(("body", "kind", "text"), WRONG.values(), ids=WRONG)
async def test_answers_that_cannot_be(body, kind, text):
    with pytest.raises(kind, match=text):
        await sent(Server(Reply(body=body)))


NAMES = st.sampled_from(["type", "params", "message", "target_type", "target_id"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["reply", "send_message"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "params", "message", "target_type", "target_id"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(st.lists(JSON, max_size=3))
def test_any_answer_is_read_or_refused(actions):
    with suppress(RemoteProtocolError, LocalProtocolError):
        actions_in(json.dumps({"actions": actions}).encode(), message(), allowed=ALLOWED, ident="i")


SETTINGS = {
    "no url": ({}, "needs a url"),
    "an url that is none": ({"url": "hook"}, "is no address"),
    "in the clear": ({"url": "http://example.org/hook"}, "for this machine only"),
    "an unknown setting": ({"url": URL, "retries": 3}, "no setting 'retries'"),
    "a method": ({"url": URL, "method": "GET"}, "method of a webhook is POST or PUT"),
    "headers": ({"url": URL, "headers": {"a": 1}}, "headers of a webhook"),
    "a timeout": ({"url": URL, "timeout": 0}, "timeout of a webhook"),
    "tries": ({"url": URL, "retry_count": True}, "retry_count of a webhook"),
    "an interval": ({"url": URL, "retry_interval": "5"}, "retry_interval"),
    "a flag": ({"url": URL, "response_actions": 1}, "response_actions"),
    "a secret": ({"url": URL, "secret": 12345}, "secret of a webhook is a text"),
    "a list": ({"url": URL, "allowed_actions": "reply"}, "allowed_actions"),
    "an action": ({"url": URL, "allowed_actions": ["explode"]}, "no action 'explode'"),
}


@pytest.mark.parametrize(("config", "text"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be(config, text):
    with pytest.raises(ConfigError, match=text) as caught:
        WebhookSettings.from_config(config, check_url=checked_url)
    assert "12345" not in str(caught.value)


def test_settings_hide_what_is_secret():
    settings = WebhookSettings.from_config(
        {"url": URL, "secret": "s3cret", "headers": {"Authorization": "Bearer t0ken"}}, check_url=checked_url
    )
    assert "s3cret" not in repr(settings)
    assert "t0ken" not in repr(settings)
    assert settings.retry_count == 3


@pytest.mark.parametrize("api", sorted(PLATFORM_API))
def test_every_call_of_the_platform_api(api):
    needed, possible = PLATFORM_API[api]
    params = dict.fromkeys((*needed, *possible), "x")
    assert PlatformCall(id="1", api=api, params=params).params == params
    with pytest.raises(LocalProtocolError, match="takes no zzz"):
        PlatformCall(id="1", api=api, params=params | {"zzz": 1})
    if needed:
        with pytest.raises(LocalProtocolError, match=f"{api} needs"):
            PlatformCall(id="1", api=api)


def test_no_call_of_the_platform_api():
    with pytest.raises(LocalProtocolError, match="no call 'kick_membr'") as caught:
        PlatformCall(id="1", api="kick_membr")
    assert "kick_member" in caught.value.hint
    with pytest.raises(LocalProtocolError) as caught:
        PlatformCall(id="1", api="%%")
    assert "Known" in caught.value.hint
