"""What messages hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook.messages import At, MessageChain, Plain
from botbook.wire.miti_content import content_text, markdown_content, read_content

PIECE = {"event": "delta", "content": '{"markdown": {"delta": "ab"}}'}


@given(st.text(), st.text())
def test_markdown_can_be_read_back(markdown, ask_msg_id):
    content = json.loads(json.dumps(markdown_content(markdown, ask_msg_id)))
    assert content_text(content) == markdown
    assert content.get("ask_msg_id", "") == ask_msg_id


def test_sequence_number():
    assert markdown_content("x", seq=4)["content_list"][0]["seq"] == 4


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("plain", "plain"),
        (None, ""),
        ([1], ""),
        ({"text": "a", "markdown": "b"}, "a"),
        ({"text": 1, "markdown": "b"}, "b"),
        ({"content_list": "no"}, ""),
        ({"content_list": [{"event": "delta", "content": "[" * 100_000}]}, ""),
        ({"content_list": [{"event": "delta", "content": '{"text": {"delta": "a"}, "x": 1}'}]}, "a"),
        ({"content_list": [PIECE, 7, PIECE]}, "abab"),
    ],
)
def test_content_text(content, text):
    assert content_text(content) == text


def test_mentions_without_names():
    text, parts = read_content({"text": "hi", "atUserList": ["u1", 7, None]})
    assert text == "hi"
    assert parts == MessageChain([At(target="u1"), At(target="7"), At(target=""), Plain(text="hi")])


def test_a_lone_at_sign_is_text():
    assert read_content({"text": "@ noon", "atUserList": ["u1"]})[0] == "@ noon"


@given(
    st.lists(st.text("abc你", min_size=1, max_size=4), max_size=4),
    st.text("xyz ", max_size=8),
    st.sampled_from([" ", "\u2005", "  "]),
)
def test_leading_mentions_leave_the_text(names, rest, gap):
    text = "".join(f"@{name}{gap}" for name in names) + rest
    got, parts = read_content({"text": text, "atUserList": [f"id-{name}" for name in names]})
    assert got == (rest.lstrip() if names else rest)
    mentions = [(p.target, p.display) for p in parts or () if isinstance(p, At)]
    assert mentions == [(f"id-{name}", name) for name in names]
