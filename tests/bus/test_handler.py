"""Handlers: inspected once, called with what they ask for."""

from __future__ import annotations

import pytest

from botbook._bus.handler import Handler, Stats, condition
from botbook._errors import HandlerError
from tests.samples import NOON, message


def made(function, **options):
    return Handler(function, pattern="*", **options)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda event: event, ("hello",)),
        (lambda e: e, ("hello",)),
        (lambda: None, ()),
        (lambda *events: events, ("hello",)),
    ],
    ids=["event", "any name", "nothing", "star"],
)
def test_the_first_parameter_gets_the_event(function, expected):
    args, kwargs = made(function).bind(message("hello"), {})
    assert tuple(event.text for event in args) == expected
    assert kwargs == {}


def test_columns_and_extras_go_in_by_name():
    def answer(text, bot, user_id, *, chain, extra=1, **rest): ...

    event = message("hi", user="ann")
    args, kwargs = made(answer).bind(event, {"bot": "the bot"})
    assert args == ()
    assert kwargs == {"text": "hi", "bot": "the bot", "user_id": "ann", "chain": event.chain}


def test_the_event_may_stand_anywhere():
    def answer(text, event): ...

    event = message()
    assert made(answer).bind(event, {}) == ((), {"text": "hello", "event": event})


def test_an_unknown_parameter_is_refused_when_defined_with_the_nearest_name():
    def answer(event, user_nam): ...

    with pytest.raises(HandlerError, match="asks for 'user_nam'") as caught:
        made(answer)
    assert "user_name" in caught.value.hint


def test_an_unknown_parameter_with_no_neighbour_lists_what_there_is():
    def answer(event, zzzzzz): ...

    with pytest.raises(HandlerError) as caught:
        made(answer)
    assert "message_id" in caught.value.hint


def test_a_handler_is_callable():
    with pytest.raises(HandlerError, match="not int"):
        made(3)


def test_async_is_seen_through_wrappers_and_objects():
    import functools

    async def plain(event): ...

    @functools.wraps(plain)
    async def wrapped(event): ...

    class Thing:
        async def __call__(self, event): ...

    assert made(plain).is_async
    assert made(wrapped).is_async
    assert made(Thing()).is_async
    assert made(Thing()).name == "Thing"
    assert not made(lambda event: None).is_async


def test_the_version_follows_the_source():
    def one(event):
        return 1

    def two(event):
        return 2

    assert made(one).version == made(one).version != made(two).version
    namespace: dict = {}
    exec("def three(event): return 3", namespace)
    exec("def four(event): return 4", namespace)
    assert made(namespace["three"]).version != made(namespace["four"]).version
    assert made(print, name="p").version


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("'hell' in text", True),
        ("chat_type == 'group'", False),
        ("len([c for c in text if c == 'l']) == 2", True),
        ("event.user_id == user_id", True),
    ],
)
def test_a_condition_reads_columns(text, truth):
    assert bool(condition(text)(message())) is truth


@pytest.mark.parametrize(
    ("text", "hint"),
    [("txt == 1", "text"), ("qqqq", "message_id"), ("if x", "after `if`"), ("", "after `if`")],
)
def test_a_wrong_condition_is_refused_when_defined(text, hint):
    with pytest.raises(HandlerError) as caught:
        condition(text)
    assert hint in caught.value.hint


def test_percentiles_of_durations():
    stats = Stats()
    assert stats.percentile_ms(50) is None
    stats.note(0.010, "", NOON)
    assert stats.percentile_ms(95) == pytest.approx(10)
    for milliseconds in range(20, 101, 10):
        stats.note(milliseconds / 1000, "boom", NOON)
    assert stats.percentile_ms(50) == pytest.approx(55)
    assert (stats.calls, stats.failures, stats.last_error) == (10, 9, "boom")
