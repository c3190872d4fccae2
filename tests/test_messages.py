"""The parts of a message and their JSON, both ways."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook._errors import RemoteProtocolError
from botbook.messages import (
    At,
    AtAll,
    Face,
    File,
    Forward,
    Image,
    MessageChain,
    Node,
    Plain,
    Platform,
    Quote,
    Source,
    Unknown,
    Voice,
)

FRAMES = Path(__file__).parent / "wire" / "frames" / "langbot"
WHEN = datetime(2026, 11, 20, 13, 43, 26)

#: JSON, what it reads as, how it shows, and its plain text. protocols/langbot.md 4, 7 and 8.
SAMPLES = {
    "source with an ISO time": (
        {"type": "Source", "id": 502, "time": "2026-11-20T13:43:26"},
        Source(id="502", at=WHEN),
        "",
        "",
    ),
    "source with epoch seconds": (
        {"type": "Source", "id": "1", "timestamp": 1795181598},
        Source(id="1", at=datetime.fromtimestamp(1795181598, UTC)),
        "",
        "",
    ),
    "source without a time": ({"type": "Source", "id": "a", "time": None}, Source(id="a"), "", ""),
    "source with a time that is none": (
        {"type": "Source", "id": 1, "time": "yesterday"},
        Source(id="1"),
        "",
        "",
    ),
    "source out of range": ({"type": "Source", "id": 1, "timestamp": 1e300}, Source(id="1"), "", ""),
    "plain": (
        {"type": "Plain", "text": " two\nlines "},
        Plain(text=" two\nlines "),
        " two\nlines ",
        " two\nlines ",
    ),
    "plain without text": ({"type": "Plain"}, Unknown(raw={"type": "Plain"}), "[Unknown]", ""),
    "at": ({"type": "At", "target": "10001", "display": ""}, At(target="10001"), "@10001", ""),
    "at by number": ({"type": "At", "target": 10001, "display": None}, At(target="10001"), "@10001", ""),
    "at nobody": (
        {"type": "At", "target": True},
        Unknown(raw={"type": "At", "target": True}),
        "[Unknown]",
        "",
    ),
    "at all": ({"type": "AtAll"}, AtAll(), "@all", ""),
    "image by address": (
        {"type": "Image", "image_id": "i1", "url": "https://example.org/a.png", "path": None, "base64": None},
        Image(url="https://example.org/a.png", id="i1", mime_type="image/png"),
        "[Image]",
        "",
    ),
    "image by key": (
        {"type": "Image", "path": "px_d6.webp"},
        Image(url="px_d6.webp", mime_type="image/webp"),
        "[Image]",
        "",
    ),
    "image inside": (
        {"type": "Image", "base64": "data:image/gif;base64,R0lG"},
        Image(url="data:image/gif;base64,R0lG", mime_type="image/gif"),
        "[Image]",
        "",
    ),
    "image of no stated kind": (
        {"type": "Image", "base64": "data:;base64,R0lG"},
        Image(url="data:;base64,R0lG"),
        "[Image]",
        "",
    ),
    "image that is nowhere": ({"type": "Image"}, Image(), "[Image]", ""),
    "voice": (
        {"type": "Voice", "voice_id": "v1", "url": None, "path": None, "base64": None, "length": 3},
        Voice(id="v1", seconds=3),
        "[Voice]",
        "",
    ),
    "file": (
        {"type": "File", "id": "f1", "name": "notes.txt", "size": 12, "url": "https://example.org/f"},
        File(id="f1", name="notes.txt", bytes=12, url="https://example.org/f"),
        "[File notes.txt]",
        "",
    ),
    "file of WeChat": (
        {"type": "File", "file_id": "f", "file_name": "n", "file_size": 0, "file_path": ""},
        File(id="f", name="n", bytes=0),
        "[File n]",
        "",
    ),
    "file without a size": ({"type": "File", "size": True}, File(), "[File]", ""),
    "face": (
        {"type": "Face", "face_type": "dice", "face_id": 358, "face_name": ""},
        Face(id="358", kind="dice"),
        "[Face]",
        "",
    ),
    "face with a name": ({"type": "Face", "face_name": "smile"}, Face(name="smile"), "[smile]", ""),
    "quote": (
        {
            "type": "Quote",
            "id": 7,
            "group_id": 30003,
            "sender_id": 20002,
            "target_id": None,
            "origin": [{"type": "Plain", "text": "old"}],
        },
        Quote(id="7", sender_id="20002", origin=MessageChain([Plain(text="old")])),
        "[Quote]",
        "",
    ),
    "quote of nothing": ({"type": "Quote", "id": 7, "origin": None}, Quote(id="7"), "[Quote]", ""),
    "quote of no list": (
        {"type": "Quote", "origin": "x"},
        Unknown(raw={"type": "Quote", "origin": "x"}),
        "[Unknown]",
        "",
    ),
    "forward": (
        {
            "type": "Forward",
            "display": {"title": "Chat history", "preview": ["a"]},
            "node_list": [
                {
                    "sender_id": 1,
                    "sender_name": "Ann",
                    "message_chain": [{"type": "AtAll"}],
                    "message_id": 5,
                    "time": None,
                },
                {"sender_id": None, "message_chain": None},
            ],
        },
        Forward(
            nodes=(
                Node(sender_id="1", sender_name="Ann", message_id="5", chain=MessageChain([AtAll()])),
                Node(),
            )
        ),
        "[Forward]",
        "",
    ),
    "forward of what is no message": (
        {"type": "Forward", "node_list": [3]},
        Unknown(raw={"type": "Forward", "node_list": [3]}),
        "[Unknown]",
        "",
    ),
    "forward of a message without a chain": (
        {"type": "Forward", "node_list": [{"message_chain": 3}]},
        Unknown(raw={"type": "Forward", "node_list": [{"message_chain": 3}]}),
        "[Unknown]",
        "",
    ),
    "forward of nothing": ({"type": "Forward", "node_list": None}, Forward(), "[Forward]", ""),
    "forward of no list": (
        {"type": "Forward", "node_list": {}},
        Unknown(raw={"type": "Forward", "node_list": {}}),
        "[Unknown]",
        "",
    ),
    "platform": (
        {"type": "Platform", "platform": "discord", "component_type": "embed", "data": {"title": "t"}},
        Platform(platform="discord", component_type="embed", data={"title": "t"}),
        "[embed]",
        "",
    ),
    "platform without data": (
        {"type": "Platform", "platform": "x"},
        Platform(platform="x"),
        "[Platform]",
        "",
    ),
    "platform with odd data": (
        {"type": "Platform", "data": []},
        Unknown(raw={"type": "Platform", "data": []}),
        "[Unknown]",
        "",
    ),
    "a part of WeChat": (
        {"type": "WeChatLink", "link_title": "t", "link_url": "https://example.org"},
        Platform(
            platform="wechat",
            component_type="WeChatLink",
            data={"link_title": "t", "link_url": "https://example.org"},
        ),
        "[WeChatLink]",
        "",
    ),
    "unknown by name": (
        {"type": "Unknown", "text": "x"},
        Unknown(raw={"type": "Unknown", "text": "x"}),
        "[Unknown]",
        "",
    ),
    "not known yet": (
        {"type": "Hologram", "k": [1]},
        Unknown(raw={"type": "Hologram", "k": [1]}),
        "[Unknown]",
        "",
    ),
    "no object": ("hello", Unknown(raw="hello"), "[Unknown]", ""),
    "no type": ({"text": "x"}, Unknown(raw={"text": "x"}), "[Unknown]", ""),
}


@pytest.mark.parametrize(("item", "part", "shown", "text"), SAMPLES.values(), ids=SAMPLES)
def test_each_component_reads_shows_and_writes_itself(item, part, shown, text):
    before = json.dumps(item)
    chain = MessageChain.from_json([item])
    assert list(chain) == [part]
    assert str(chain) == shown
    assert chain.text == text
    assert chain.to_json() == [item]
    assert json.dumps(item) == before


@pytest.mark.parametrize(("item", "part"), [row[:2] for row in SAMPLES.values()], ids=SAMPLES)
def test_unknown_keys_survive(item, part):
    if isinstance(item, dict):
        more = item | {"of_tomorrow": {"deep": [None, 1.5]}}
        assert MessageChain.from_json([more]).to_json() == [more]


@pytest.mark.parametrize("part", [row[1] for row in SAMPLES.values()], ids=SAMPLES)
def test_a_component_that_was_made_here_survives_its_json(part):
    written = json.loads(json.dumps(MessageChain([part]).to_json()))
    assert MessageChain.from_json(written) == MessageChain([part])


CHANGES = {
    "text": ({"type": "Plain", "text": "a", "k": 1}, {"text": "b"}, {"type": "Plain", "text": "b", "k": 1}),
    "who": ({"type": "At", "target": 7, "k": 1}, {"target": "8"}, {"type": "At", "target": "8", "k": 1}),
    "a name, and the number stays a number": (
        {"type": "At", "target": 7},
        {"display": "Ann"},
        {"type": "At", "target": 7, "display": "Ann"},
    ),
    "where": (
        {"type": "Image", "url": "https://example.org/a.png", "image_id": "i", "base64": None},
        {"url": "data:image/png;base64,AA"},
        {"type": "Image", "base64": "data:image/png;base64,AA", "image_id": "i"},
    ),
    "nowhere": ({"type": "Voice", "path": "p", "length": 2}, {"url": ""}, {"type": "Voice", "length": 2}),
    "when": (
        {"type": "Source", "id": 1, "timestamp": 5},
        {"at": WHEN},
        {"type": "Source", "id": 1, "time": "2026-11-20T13:43:26"},
    ),
    "what was quoted": (
        {"type": "Quote", "id": 7, "group_id": 3, "origin": []},
        {"origin": MessageChain([Plain(text="x")])},
        {"type": "Quote", "id": 7, "group_id": 3, "origin": [{"type": "Plain", "text": "x"}]},
    ),
    "WeChat's own": (
        {"type": "WeChatLink", "link_title": "t"},
        {"data": {"link_title": "u"}},
        {"type": "WeChatLink", "link_title": "u"},
    ),
    "a kind that cannot be guessed": (
        {"type": "Image", "path": "p"},
        {"mime_type": "image/avif"},
        {"type": "Image", "path": "p", "mime_type": "image/avif"},
    ),
}


@pytest.mark.parametrize(("item", "change", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_changed_field_is_written_and_the_rest_is_kept(item, change, expected):
    (part,) = MessageChain.from_json([item])
    changed = dataclasses.replace(part, **change)
    assert changed.to_json() == expected
    assert MessageChain.from_json([expected]) == MessageChain([changed])


def test_what_is_handed_out_is_not_shared():
    item = {"type": "Plain", "text": "a", "more": [1]}
    chain = MessageChain.from_json([item])
    chain.to_json()[0]["more"].append(2)
    assert chain.to_json() == [item]


@pytest.mark.parametrize("items", ["text", {"type": "Plain"}, None, 3])
def test_a_chain_is_a_list(items):
    with pytest.raises(RemoteProtocolError, match="no list"):
        MessageChain.from_json(items)


def test_quotes_in_quotes_without_end():
    item: dict = {"type": "Quote", "origin": []}
    for _ in range(3000):
        item = {"type": "Quote", "origin": [item]}
    with pytest.raises(RemoteProtocolError, match="too deeply"):
        MessageChain.from_json([item])


def chains(value):
    """Every message chain inside a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("message_chain", "message") and isinstance(inner, list):
                yield inner
            yield from chains(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from chains(inner)


def recorded(version):
    for line in (FRAMES / f"{version}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for text in (row.get("frame"), row.get("body")):
            try:
                yield json.loads(text or "null")
            except ValueError:
                continue


@pytest.mark.parametrize("version", ["4.10.1", "4.10.11", "4.11.2"])
def test_every_chain_recorded_from_a_real_server_comes_back_as_it_was(version):
    found = [chain for value in recorded(version) for chain in chains(value)]
    assert len(found) > 100
    for chain in found:
        assert MessageChain.from_json(chain).to_json() == chain


KEYS = st.sampled_from(
    [
        "type",
        "text",
        "target",
        "display",
        "id",
        "url",
        "path",
        "base64",
        "origin",
        "node_list",
        "time",
        "x",
        "message_chain",
        "data",
        "size",
        "length",
        "face_id",
        "timestamp",
    ]
)
TYPES = st.sampled_from(
    ["Plain", "At", "Quote", "Image", "Voice", "File", "Forward", "Face", "Platform", "Source"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | TYPES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
ITEMS = st.builds(lambda kind, item: item | {"type": kind}, TYPES, st.dictionaries(KEYS, JSON, max_size=5))


@settings(deadline=None, max_examples=300)
@given(st.lists(ITEMS | JSON, max_size=4))
def test_any_json_comes_back_as_it_was(items):
    before = json.dumps(items)
    chain = MessageChain.from_json(items)
    assert chain.to_json() == items
    assert json.dumps(items) == before
    assert isinstance(str(chain), str)
