"""Wrappers around handlers."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from botbook import testing, wrappers
from botbook._bus.handler import Handler
from botbook._errors import HandlerError
from botbook.messages import MessageChain, Plain
from tests.samples import message


async def answer(event):
    return f"re: {event.text}"


def plainly(text, user_id, *, bot):
    bot.send(f"user:{user_id}", text)
    return "sent"


def test_a_throttle_leaves_out_what_comes_too_often():
    with testing.conversation(wrappers.throttle(2, per=10)(answer)) as c:
        for text in "abcd":
            c.user(text)
        c.user("e", user="bo")
        c.wait(10)
        c.user("f")
        assert c.replies == ("re: a", "re: b", "re: e", "re: f")


@pytest.mark.parametrize(("by", "answered"), [("chat", 3), ("user", 2), ("all", 1)])
def test_what_a_throttle_counts(by, answered):
    with testing.conversation(wrappers.throttle(per=60, by=by)(answer)) as c:
        c.user("a")
        c.user("b", chat_id="another")
        c.user("c", user="bo")
        assert len(c.replies) == answered


def test_what_a_throttle_says_instead():
    with testing.conversation(wrappers.throttle(per=60, otherwise="slowly")(answer)) as c:
        c.user("a")
        c.user("b")
        assert c.replies == ("re: a", "slowly")


def test_a_throttle_forgets_the_quiet(monkeypatch):
    monkeypatch.setattr("botbook._bus.wrappers._REMEMBERED", 2)
    with testing.conversation(wrappers.throttle(per=60)(answer)) as c:
        for user in ("a", "b", "a", "c", "b"):
            c.user("x", user=user)
        assert [len(turn.replies) for turn in c.turns] == [1, 1, 0, 1, 1]


@pytest.mark.parametrize("options", [{"calls": 0}, {"per": 0}, {"by": "moon"}])
def test_a_throttle_that_cannot_be(options):
    with pytest.raises(HandlerError, match="a throttle of"):
        wrappers.throttle(**options)


async def test_a_conversation_does_not_use_up_the_live_one():
    wrapped = wrappers.throttle(per=60)(answer)
    with testing.conversation(wrapped) as c:
        c.user("a")
    assert await wrapped(message("live")) == "re: live"
    assert await wrapped(message("live")) is None


def test_a_timeout():
    async def slow(event):
        await asyncio.sleep(5)
        return "late"

    async def own(event):
        raise TimeoutError("its own")

    with testing.conversation(wrappers.timeout(6)(slow), wrappers.timeout(4, otherwise="sorry")(slow)) as c:
        c.user("x")
        assert c.replies == ("late", "sorry")
    with testing.conversation(wrappers.timeout(4)(slow)) as c, pytest.raises(TimeoutError):
        c.user("x")
    decorated = wrappers.timeout(4, otherwise="sorry")(own)
    with testing.conversation(decorated) as c, pytest.raises(TimeoutError, match="its own"):
        c.user("x")


@pytest.mark.parametrize(("times", "error"), [(3, ""), (2, "ValueError: 2")])
def test_a_retry(times, error):
    async def flaky(event):
        calls.append(time.monotonic())
        if len(calls) < 3:
            raise ValueError(len(calls))
        return "ok"

    calls: list[float] = []
    with testing.conversation(wrappers.retry(times, wait=2)(flaky)) as c:
        turn = c.user("x", check=False)
        assert turn.outcomes[0].error == error
        assert turn.replies == (() if error else ("ok",))
    assert [round(later - calls[0], 3) for later in calls] == [0, 2, 6][:times]


def test_a_retry_of_some_errors():
    async def fails(event):
        calls.append(1)
        raise KeyError

    calls: list[int] = []
    with testing.conversation(wrappers.retry(on=ValueError)(fails)) as c, pytest.raises(KeyError):
        c.user("x")
    assert calls == [1]


@pytest.mark.parametrize(
    "decorate", [wrappers.log, wrappers.log(), wrappers.log(name="mine", level=logging.DEBUG)]
)
def test_a_log(decorate, caplog):
    caplog.set_level(logging.DEBUG)
    with testing.conversation(decorate(answer)) as c:
        c.user("a secret")
    (record,) = [record for record in caplog.records if record.name in ("botbook.handlers", "mine")]
    assert record.getMessage() == "message.received e-1: 0.000 s"
    assert "secret" not in caplog.text


def test_a_log_of_failures(caplog):
    def fails(event):
        raise ValueError("a secret")

    with testing.conversation(wrappers.log(fails)) as c, pytest.raises(ValueError, match="secret"):
        c.user("x")
    assert [record.getMessage() for record in caplog.records] == ["message.received e-1: ValueError"]


def test_only_when_mentioned():
    parts = MessageChain([Plain(text="x")])
    with testing.conversation(wrappers.require_mention(answer)) as c:
        c.user("a")
        c.user("b", group="g")
        c.user("c", group="g", parts=parts)
        assert c.replies == ("re: a", "re: b")
    with testing.conversation(wrappers.require_mention(own_ids=("other",))(answer)) as c:
        c.user("b", group="g")
        assert c.silent


def test_not_its_own_words():
    handler = Handler(wrappers.ignore_self(own_ids=("me",))(answer), pattern="message.received")
    with testing.conversation(handler) as c:
        c.user("a", role="assistant")
        c.user("b", user="me")
        c.user("c")
        assert c.replies == ("re: c",)
    with testing.conversation(wrappers.ignore_self(answer)) as c:
        c.user("b", user="me")
        assert c.reply() == "re: b"


def test_one_of_ones_own_and_many_around_one_another():
    @wrappers.wrapper
    async def politely(event, proceed):
        return [f"Dear {event.user_id},", await proceed()]

    decorated = wrappers.log(politely(wrappers.throttle(per=60)(plainly)))
    with testing.conversation(decorated) as c:
        c.user("a")
        c.user("b")
        assert c.replies == ("Dear you,", "sent", "Dear you,")
        assert [(deed.text, dict(deed.rest)["to"]) for deed in c.actions] == [("a", "user:you")]


def test_what_is_wrapped_stays_what_it_was():
    wrapped = wrappers.log(plainly)
    handler = Handler(wrapped, pattern="*")
    assert handler.name == wrapped.__name__ == "plainly"
    assert handler.is_async
    assert handler.version == Handler(plainly, pattern="*").version
    assert repr(wrapped) == "<wrapped plainly>"
    with pytest.raises(HandlerError, match="asks for 'user_nam'"):
        wrappers.log(lambda event, user_nam: None)


def test_pieces_go_through():
    async def pieces(event):
        yield "a"
        yield "b"

    with testing.conversation(wrappers.log(pieces)) as c:
        c.user("x")
        assert c.reply() == "ab"
