"""Frames recorded from two real Box runtimes, replayed through the codec in both roles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from botbook._errors import RemoteProtocolError, SandboxError
from botbook.wire import box

FRAMES = Path(__file__).parent / "frames" / "box"
VERSIONS = ("0.5.0a2", "0.7.18")
MALFORMED = {"not json", '{"foo":1}', '{"foo":1,"seq_id":906}'}
VALUES = {
    "box_create_session": lambda data: box.SessionInfo.from_json(data),
    "box_get_session": lambda data: box.SessionInfo.from_json(data),
    "box_exec": lambda data: box.ExecResult.from_json(data),
    "box_start_managed_process": lambda data: box.ProcessInfo.from_json(data),
    "box_get_managed_process": lambda data: box.ProcessInfo.from_json(data),
}


def recorded(version: str) -> list[dict]:
    lines = (FRAMES / f"frames-{version}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def rpc(version: str, direction: str) -> list[str]:
    return [
        one["frame"]
        for one in recorded(version)
        if one.get("dir") == direction and "ws" not in one and "frame" in one
    ]


def whole(text: str) -> bool:
    """Whether the recording holds all of it: long frames were clipped in the middle."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@pytest.mark.parametrize("version", VERSIONS)
def test_requests_are_read_and_written_back(version: str) -> None:
    seen = 0
    for frame in rpc(version, "send"):
        if not whole(frame) or frame in MALFORMED:
            with pytest.raises(RemoteProtocolError):
                box.decode(frame)
            continue
        raw = json.loads(frame)
        try:
            request = box.decode(frame)
        except SandboxError:  # the real runtime refused it as well
            assert any(f'"seq_id": {raw["seq_id"]}, "code": 1' in reply for reply in rpc(version, "recv"))
            continue
        assert isinstance(request, box.Request)
        if {"seq_id", "data"} <= set(raw) and not set(raw) - {"seq_id", "action", "data", "context"}:
            if "context" in raw:  # what the vendor refuses there is ignored here
                raw["context"] = box.Context.from_json(raw["context"]).to_json()
            assert json.loads(box.encode_request(request)) == raw
            seen += 1
    assert seen > 50


@pytest.mark.parametrize("version", VERSIONS)
def test_replies_are_read_and_written_back(version: str) -> None:
    good = bad = 0
    for frame in filter(whole, rpc(version, "recv")):
        reply = box.decode(frame)
        assert isinstance(reply, box.Reply)
        if reply.code:
            bad += 1
            name, text = box.error_of(reply.message)
            assert json.loads(box.encode_error(reply.seq_id, name, text)) == json.loads(frame)
            with pytest.raises(SandboxError) as caught:
                reply.result()
            assert caught.value.code == name
        else:
            good += 1
            assert reply.result() == reply.data
            assert json.loads(box.encode_reply(reply.seq_id, reply.data)) == json.loads(frame)
    assert good > 30
    assert bad > 10


@pytest.mark.parametrize("version", VERSIONS)
def test_the_values_in_replies_survive_both_ways(version: str) -> None:
    waiting: dict[object, str] = {}
    seen: set[str] = set()
    for one in recorded(version):
        if "note" in one:
            waiting.clear()
        frame = one.get("frame", "")
        if "ws" in one or not whole(frame) or frame in MALFORMED:
            continue
        raw = json.loads(frame)
        if one["dir"] == "send":
            waiting[raw.get("seq_id", -1)] = raw.get("action", "")
        elif raw["code"] == 0 and (read := VALUES.get(action := waiting.get(raw["seq_id"], ""))):
            value = read(raw["data"])
            written = value.to_json()
            assert {key: written[key] for key in raw["data"] if key in written} == {
                key: item for key, item in raw["data"].items() if key in written
            }
            assert set(written) - set(raw["data"]) <= {"status"}
            seen.add(action)
    assert seen == set(VALUES)


def relay(version: str, process: str, direction: str) -> list[str]:
    return [
        one["frame"]
        for one in recorded(version)
        if f"/{process}/ws" in one.get("ws", "") and one["dir"] == direction and "frame" in one
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_relay_messages_become_the_same_lines(version: str) -> None:
    joiner = box.LineJoiner(framed=version == "0.5.0a2")
    lines = [line for message in relay(version, "p2", "recv") for line in joiner.feed(message)]
    assert lines + joiner.finish() == ["early", "part1part2", "next", "", "after-empty", "last no newline"]


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("0.5.0a2", ("legacy", False, True)), ("0.7.18", ("tenant", True, False))],
)
def test_a_dialect_is_told_from_recorded_replies(version: str, wanted: tuple) -> None:
    replies = {
        "box_health": next(frame for frame in rpc(version, "recv") if '"available"' in frame),
        "box_status": next(
            frame
            for frame in rpc(version, "recv")
            if "active_sessions" in frame or "trusted Workspace" in frame
        ),
        "box_list_skills": '{"seq_id": 9, "code": 0, "message": "success", "data": {"skills": []}}',
    }
    if version == "0.7.18":
        replies["box_status"] = next(frame for frame in rpc(version, "recv") if "trusted Workspace" in frame)
        replies["box_list_skills"] = (
            '{"seq_id": 9, "code": 1, "message": "ValueError: Action box_list_skills not found", "data": {}}'
        )
    assert ask(replies) == box.Dialect(*wanted)


def ask(replies: dict[str, str]) -> box.Dialect:
    questions = box.probe(box.Context(instance="i", workspace="w"))
    question = next(questions)
    while True:
        try:
            question = questions.send(box.decode(replies[question.action]))
        except StopIteration as end:
            return end.value
