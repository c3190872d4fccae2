"""Which handlers an event goes to."""

from __future__ import annotations

import pytest

from botbook._bus.handler import Handler
from botbook._bus.table import HandlerTable
from botbook._errors import HandlerError
from tests.samples import message


def handler(pattern, name):
    return Handler(lambda event: None, pattern=pattern, name=name)


def names(router, event):
    return [found.name for found in router.match(event)]


@pytest.mark.parametrize(
    ("pattern", "kind", "matches"),
    [
        ("message.received", "message.received", True),
        ("message.received", "message.edited", False),
        ("message.*", "message.edited", True),
        ("message.*", "messages.edited", False),
        ("*", "platform.specific", True),
        ("group.member.*", "group.member.joined", True),
    ],
)
def test_patterns(pattern, kind, matches):
    router = HandlerTable()
    router.add(handler(pattern, "h"))
    assert bool(names(router, message(type=kind))) is matches


def test_a_star_never_matches_what_a_bot_said_itself():
    router = HandlerTable()
    router.add(handler("*", "all"))
    router.add(handler("message.*", "messages"))
    router.add(handler("message.sent", "own"))
    assert names(router, message(type="message.sent", role="assistant")) == ["own"]


def test_a_second_of_the_same_name_takes_the_place_of_the_first():
    router = HandlerTable()
    for name in ("a", "b"):
        router.add(handler("*", name))
    assert names(router, message()) == ["a", "b"]
    fresh = handler("message.received", "a")
    router.add(fresh)
    assert router.match(message())[0] is fresh
    assert len(router) == 2
    assert "a" in router


def test_removal():
    router = HandlerTable()
    router.add(handler("*", "a"))
    assert names(router, message()) == ["a"]
    assert router.remove("a").name == "a"
    assert router.remove("a") is None
    assert names(router, message()) == []
    assert router.get("a") is None


@pytest.mark.parametrize("pattern", ["", "mess*", "*.received", "a.*.b", "message received", "message."])
def test_what_could_never_match_is_refused(pattern):
    with pytest.raises(HandlerError, match="no pattern"):
        HandlerTable().add(handler(pattern, "h"))
