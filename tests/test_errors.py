"""Each error's message and hint."""

from __future__ import annotations

import pytest

from botbook import _errors as e


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (e.NotSupported("edit", "miti"), "miti has no edit"),
        (e.ConnectionLost(1006), "connection lost (1006)"),
        (e.ConnectionLost(1001, "going away"), "connection lost (1001: going away)"),
        (e.RemoteProtocolError("not JSON", frame="{"), "not JSON: {"),
        (e.RemoteProtocolError("empty"), "empty"),
        (e.ApiError("no", code=10012), "no"),
        (e.HandshakeError("refused", status=403, retry_after=2.0), "refused"),
        (e.AnswerError("stopped", code="cancelled"), "stopped"),
        (e.SandboxError("gone", code="SessionNotFound"), "gone"),
    ],
)
def test_messages(error, text):
    assert str(error) == text
    assert isinstance(error, e.BotbookError)


def test_a_hint_can_be_given_or_left_to_the_class():
    assert "bot.capabilities" in e.NotSupported("edit", "miti").hint
    assert e.ConfigError("x", hint="do y").hint == "do y"
    assert e.ConfigError("x", hint="").hint == ""


def test_foreign_data_is_cut():
    assert e.excerpt("x" * 500) == "x" * 199 + "…"
    assert e.excerpt(b"\xff" * 5000).startswith("b'\\xff")
    assert len(e.excerpt({"key": "v" * 1000})) == 200
    assert len(str(e.ConnectionLost(1000, "r" * 900))) < 260
