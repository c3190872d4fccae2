from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import CommandFailed, RemoteProtocolError, SandboxError
from botbook.wire import box

WHO = box.Context(instance="inst-1", workspace="ws-1")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# ------------------------------------------------------------------ values


def test_a_spec_travels_without_its_defaults() -> None:
    assert box.Spec(session_id="s").to_json() == {"session_id": "s"}


def test_a_spec_with_mounts_goes_round() -> None:
    spec = box.Spec(
        session_id="s",
        cmd="ls",
        env={"A": "1"},
        extra_mounts=(box.Mount(host_path="/a", mount_path="/b", mode="ro"),),
        cpus=0.5,
    )
    assert box.Spec.from_json(spec.to_json()) == spec
    assert spec.to_json()["extra_mounts"] == [{"host_path": "/a", "mount_path": "/b", "mode": "ro"}]
    assert box.Spec.from_json({"session_id": "s", "extra_mounts": spec.extra_mounts}).extra_mounts


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("session_id", "  "),
        ("session_id", 3),
        ("cmd", None),
        ("workdir", "relative"),
        ("workdir", "/a\0b"),
        ("timeout_sec", 0),
        ("timeout_sec", 5.5),
        ("timeout_sec", True),
        ("timeout_sec", "x"),
        ("timeout_sec", float("inf")),
        ("timeout_sec", 10**400),
        ("timeout_sec", []),
        ("network", "maybe"),
        ("network", []),
        ("env", []),
        ("env", {"A": 1}),
        ("env", {"A=B": "1"}),
        ("env", {"": "1"}),
        ("env", {"A": "x\0"}),
        ("host_path", "here"),
        ("persistent", "yes"),
        ("extra_mounts", [7]),
        ("cpus", 0),
        ("cpus", "many"),
        ("memory_mb", 31),
        ("extra_mounts", "x"),
        ("extra_mounts", [{"host_path": "/x"}]),
        ("extra_mounts", ["x"]),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(SandboxError) as caught:
        box.Spec.from_json({"session_id": "s", field: value})
    assert caught.value.code == "BoxValidationError"
    assert "validation error for Box" in str(caught.value)


def test_numbers_are_read_laxly() -> None:
    spec = box.Spec.from_json({"session_id": " s ", "timeout_sec": "5", "cpus": 2, "memory_mb": 64.0})
    assert (spec.session_id, spec.timeout_sec, spec.cpus, spec.memory_mb) == ("s", 5, 2.0, 64)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(SandboxError, match="command\n  Field required"):
        box.ProcessSpec.from_json({})
    with pytest.raises(SandboxError, match="list"):
        box.ProcessSpec.from_json({"command": "ls", "args": "x"})


def test_a_process_spec_goes_round() -> None:
    spec = box.ProcessSpec(command="cat", args=("-u",))
    assert spec.to_json() == {"command": "cat", "args": ["-u"]}
    assert box.ProcessSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(("change", "words"), [({}, ""), ({"memory_mb": 64}, "memory_mb=512")])
def test_a_live_session_cannot_change(change: dict, words: str) -> None:
    spec = box.Spec(session_id="s")
    assert spec.conflict(box.Spec(session_id="s", cmd="x", timeout_sec=3, **change)) == words
    assert spec.directory == "/workspace"


def test_env_values_do_not_show() -> None:
    assert "hunter2" not in repr(box.Spec(session_id="s", env={"KEY": "hunter2"}))
    assert "hunter2" not in repr(box.ProcessSpec(command="s", env={"KEY": "hunter2"}))


def test_a_result_says_whether_it_went_well() -> None:
    good = box.ExecResult(session="s", exit_code=0, stdout="x" * 5000, stderr="e")
    assert good.ok
    assert not box.ExecResult(session="s", exit_code=1).ok
    assert not box.ExecResult(session="s", status="timed_out").ok
    assert "[...truncated...]" in good.shown()
    assert len(good.stdout) == 5000


def test_a_lone_surrogate_travels_and_other_text_is_not_escaped() -> None:
    request = box.Request(seq_id=1, action="a", data={"cmd": "ü\udc80"})
    text = box.encode_request(request)
    assert text.isascii()
    assert box.decode(text) == request
    assert "ü" in box.encode_request(box.Request(seq_id=1, action="a", data={"cmd": "ü"}))


@pytest.mark.parametrize(
    ("ended", "words", "hint"),
    [
        ({"exit_code": 1, "duration_ms": 1500}, "exit code 1 after 1.5 s", "above"),
        ({"exit_code": 127, "stderr": "a\n\nno x\n\n"}, "exit code 127 after 0 s: no x", "no such program"),
        ({"exit_code": 137, "stderr": "Killed: out of memory."}, "Killed: out of memory.", "memory_mb"),
        ({"status": "timed_out"}, "timed out after 0 s", "--timeout"),
    ],
)
def test_a_result_that_did_not_go_well_is_an_error_when_it_is_checked(ended, words, hint) -> None:
    result = box.ExecResult(session="s", **ended)
    with pytest.raises(CommandFailed) as caught:
        result.check()
    assert words in str(caught.value)
    assert hint in caught.value.hint
    assert caught.value.result is result
    good = box.ExecResult(session="s", exit_code=0)
    assert good.check() is good


@given(JSON)
def test_any_object_is_a_value_or_a_clear_refusal(data: object) -> None:
    for kind in (box.Spec, box.ProcessSpec, box.ExecResult, box.Context):
        with contextlib.suppress(SandboxError):
            kind.from_json(data)


# ------------------------------------------------------------------ names and addresses


def test_physical_names_are_the_vendors() -> None:
    assert WHO.namespace == "ws-9d14934957e7ea8dcfa33291-g1"
    assert WHO.physical("a/b c:d@e") == WHO.namespace + "-a-b-c-d-e"


def test_headers_carry_the_token_only_if_there_is_one() -> None:
    assert "X-LangBot-Box-Control-Token" not in box.identity_headers(WHO)
    assert box.identity_headers(WHO, "t")["X-LangBot-Box-Control-Token"] == "t"
    assert box.identity_headers(WHO)["X-LangBot-Placement-Generation"] == "1"


@pytest.mark.parametrize("prefix", ["", "/box"])
def test_the_relay_is_beside_the_control_socket(prefix: str) -> None:
    url = box.relay_url(f"ws://h:1{prefix}/rpc/ws", "a/b", "p?")
    assert url == f"ws://h:1{prefix}/v1/sessions/a%2Fb/managed-process/p%3F/ws"


# ------------------------------------------------------------------ envelope


def test_a_request_goes_round() -> None:
    request = box.Request(seq_id=3, action="box_exec", data={"cmd": "é"}, context=WHO)
    assert box.decode(box.encode_request(request)) == request


def test_a_request_without_data_is_still_a_request() -> None:
    assert box.decode('{"action": "x"}') == box.Request(seq_id=-1, action="x", data=None)


@pytest.mark.parametrize(
    "frame",
    [b"x", "", "[]", "{}", '{"action": 1}', '{"code": "0"}', '{"code": 0, "data": []}', "[" * 100_000],
)
def test_what_is_no_message_is_refused(frame: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        box.decode(frame)


def test_a_code_makes_a_reply_whatever_else_is_there() -> None:
    reply = box.decode('{"seq_id": 1, "code": 0, "action": "x", "data": null, "chunk_status": "end"}')
    assert reply == box.Reply(seq_id=1, code=0, message="", data={}, final=True)


def test_output_chunks_go_round_and_mean_nothing_to_others() -> None:
    chunk = box.Chunk(seq_id=1, stream="stdout", text="x")
    text = box.encode_chunk(chunk)
    assert box.decode(text) == chunk
    assert not {"code", "action"} & set(json.loads(text))


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("BoxSessionNotFoundError: session s not found", ("BoxSessionNotFoundError", "session s not found")),
        ("RuntimeError: BoxValidationError: no", ("BoxValidationError", "no")),
        ("KeyError: 'data'", ("KeyError", "'data'")),
        ("Runtime connection is busy: wait", ("BoxError", "Runtime connection is busy: wait")),
        ("", ("BoxError", "")),
    ],
)
def test_error_names_are_found_as_the_vendor_finds_them(message: str, wanted: tuple) -> None:
    assert box.error_of(message) == wanted


def test_a_session_name_cannot_fake_another_error() -> None:
    evil = "BoxAdmissionError: x"
    text = json.loads(box.encode_error(1, "BoxSessionNotFoundError", f"session {evil} not found"))["message"]
    assert box.error_of(text)[0] == "BoxSessionNotFoundError"
    assert len(json.loads(box.encode_error(1, "BoxError", "x" * 9999))["message"]) == 4096


@given(st.text())
def test_decode_never_fails_otherwise(text: str) -> None:
    with contextlib.suppress(RemoteProtocolError, SandboxError):
        box.decode(text)


@given(JSON)
def test_decode_takes_any_json(value: object) -> None:
    for text in (
        json.dumps(value),
        json.dumps({"action": "x", "context": value}),
        json.dumps({"output": value}),
    ):
        with contextlib.suppress(RemoteProtocolError, SandboxError):
            box.decode(text)


def test_the_embedded_runtime_is_known_by_what_it_adds() -> None:
    questions = box.probe(WHO)
    next(questions)
    asked = questions.send(box.Reply(seq_id=0, code=0, data={"extensions": ["stream", "stdin", 7, "other"]}))
    assert asked == box.Request(seq_id=0, action="box_status", data={})
    asked = questions.send(box.Reply(seq_id=0, code=0))
    assert asked.context == WHO
    with pytest.raises(StopIteration) as end:
        questions.send(box.Reply(seq_id=0, code=1, message="ValueError: Action box_list_skills not found"))
    assert end.value.value == box.Dialect("botbook", True, False, frozenset({"stream", "stdin"}))


def test_the_middle_dialect_has_both() -> None:
    questions = box.probe(WHO)
    next(questions)
    questions.send(box.Reply(seq_id=0, code=0))
    questions.send(box.Reply(seq_id=0, code=1, message="PermissionError: needs context"))
    with pytest.raises(StopIteration) as end:
        questions.send(box.Reply(seq_id=0, code=0, data={"skills": []}))
    assert end.value.value == box.Dialect("tenant+skills", True, True)


# ------------------------------------------------------------------ requests cut by an old client


def cut(text: str) -> list[str]:
    return [text[at : at + 65_536] for at in range(0, len(text), 65_536)]


@pytest.mark.parametrize("size", [1, 65_000, 65_536 - 11, 65_536, 131_072 - 11, 300_000])
def test_cut_requests_are_mended(size: int) -> None:
    text = json.dumps({"cmd": "x" * size})
    joiner = box.RequestJoiner()
    assert [whole for part in cut(text) if (whole := joiner.feed(part))] == [text]
    assert joiner.feed("{}") == "{}"


def test_a_cut_request_that_never_ends_is_dropped() -> None:
    joiner = box.RequestJoiner(limit=200_000)
    piece = '{"cmd": "' + "x" * (65_536 - 9)
    assert [joiner.feed(piece) for _ in range(4)] == [None] * 4
    assert joiner.feed('{"a": 1}') == '{"a": 1}'


def test_a_cut_request_with_a_foreign_tail_is_dropped() -> None:
    joiner = box.RequestJoiner()
    assert joiner.feed('{"cmd": "' + "x" * (65_536 - 9)) is None
    assert joiner.feed("no end") is None
    assert joiner.feed("not json") == "not json"


# ------------------------------------------------------------------ output, lines, files


def test_output_is_decoded_and_stripped_like_everywhere() -> None:
    assert box.output_text(b" a\xff\n") == "a\N{REPLACEMENT CHARACTER}"
    assert box.output_text(b" a\n", strip=False) == " a\n"
    clipped = box.output_text(b"aaa", discarded=5)
    assert clipped == "aaa\n... [raw output clipped at 3 bytes, 5 bytes discarded]"


@given(st.text(), st.integers(10, 50))
def test_a_clip_keeps_head_and_tail(text: str, limit: int) -> None:
    shown = box.clip(text, limit)
    if len(text) <= limit:
        assert shown == text
    else:
        head, _tail = shown.split("\n[...truncated...]\n", 1)
        assert text.startswith(head)
        assert len(head) == limit * 6 // 10


@given(st.lists(st.text(alphabet='ab{}[]"1', max_size=6), max_size=6), st.data())
def test_lines_do_not_depend_on_the_cuts(lines: list[str], data: st.DataObject) -> None:
    stream = "".join(f"x{line}\n" for line in lines)
    wanted = stream.split("\n")[:-1]
    joiner, got, at = box.LineJoiner(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        got += joiner.feed(stream[at : at + step])
        at += step
    assert got + joiner.finish() == wanted


def test_a_whole_json_message_is_a_line_before_its_newline() -> None:
    joiner = box.LineJoiner()
    assert joiner.feed('{"a": 1}') == ['{"a": 1}']
    assert joiner.feed("\n[") == []
    assert joiner.feed("1]\n") == ["[1]"]
    assert joiner.feed('{"b": 1}') == ['{"b": 1}']
    assert joiner.feed('{"c": 1}\n') == ['{"c": 1}']


def test_a_file_travels_in_pieces() -> None:
    pieces = list(box.file_chunks("k.zip", b"x" * 20_000))
    assert [one["chunk_size"] for one in pieces] == [16_384, 3616]
    assert [one["chunk_amount"] for one in box.file_chunks("k", b"")] == [1]


# ------------------------------------------------------------------ presets


def test_info_fields_go_round() -> None:
    info = box.SessionInfo(session_id="s")
    assert box.SessionInfo.from_json(info.to_json()) == info
    assert box.Mount(host_path="/a", mount_path="/b").to_json()["mode"] == "rw"
    assert box.Spec.from_json({"session_id": "s", "persistent": True}).persistent


def test_a_locked_field_stays() -> None:
    spec = box.apply_profile(
        "offline_readonly", {"network": "on", "host_path_mode": "rw", "timeout_sec": 999}
    )
    assert spec == {
        "host_path_mode": "ro",
        "cpus": 0.5,
        "memory_mb": 256,
        "pids_limit": 64,
        "timeout_sec": 60,
    }
    assert box.apply_profile("default", {"memory_mb": 64}) == {"memory_mb": 64}
    with pytest.raises(SandboxError, match="no sandbox profile"):
        box.apply_profile("x", {})


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("chat", "group_7"),
        ("user", "group_7_u"),
        ("{launcher_type}_{nobody}", "group_unknown"),
        ("{launcher_id.__class__}", "{launcher_id.__class__}"),
    ],
)
def test_scopes(template: str, wanted: str) -> None:
    assert box.scope(template, {"launcher_type": "group", "launcher_id": 7, "sender_id": "u"}) == wanted
