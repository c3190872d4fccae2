from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import AgentBusy, HandshakeError, LocalProtocolError, NotSupported, RemoteProtocolError
from botbook.actions import Abandon, Ask, History
from botbook.events import Event
from botbook.wire import agent as agent_module
from botbook.wire.agent import AgentWire
from botbook.wire.agent_frames import Question, encode, question, read_question
from botbook.wire.contract import Closing, Ready, Verdict

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
FRAMES = Path(__file__).parent / "frames" / "agent" / "session.jsonl"


@pytest.fixture
def wire() -> AgentWire:
    made = AgentWire(base_url="ws://127.0.0.1:8000", chat_id=3)
    made.opening(None)
    assert made.receive(encode("STATUS"), at=AT) == [Ready()]
    return made


def ask(wire: AgentWire, ident: str = "q1", text: str = "hello") -> None:
    wire.send(Ask(id=ident, text=text), at=AT)


def got(wire: AgentWire, kind: str, **fields: object) -> list[Event]:
    return wire.receive(encode(kind, **fields), at=AT)  # type: ignore[return-value]


def text(wire: AgentWire, said: str, **more: object) -> list[Event]:
    return got(wire, "AGENT_EVENT_TEXT_CHUNK", text=said, **more)


def end(wire: AgentWire, tokens: object = 7) -> list[Event]:
    return got(wire, "AGENT_EVENT_END", tokens_used=tokens)


def test_a_question_is_a_frame_and_a_row(wire):
    frame, row = wire.send(Ask(id="q1", text="look", attachments=("in/a.pdf", "/workspace/b.txt")), at=AT)
    assert json.loads(frame) == {
        "type": "USER_MESSAGE",
        "text": "look",
        "attachments": ["in/a.pdf", "b.txt"],
    }
    assert (row.type, row.role, row.message_id, row.chat_id, row.text) == (
        "message.sent",
        "user",
        "q1",
        "3",
        "look",
    )


def test_a_question_without_attachments_fits_old_servers(wire):
    frame, _ = wire.send(Ask(id="q1", text="x"), at=AT)
    assert json.loads(frame) == {"type": "USER_MESSAGE", "text": "x"}


def test_an_answer_comes_as_pieces_and_one_row(wire):
    ask(wire)
    pieces = text(wire, "Hel") + text(wire, "lo")
    (whole,) = end(wire)
    assert [(e.type, e.text, e.role, e.reply_to) for e in pieces] == [
        ("message.delta", "Hel", "assistant", "q1"),
        ("message.delta", "lo", "assistant", "q1"),
    ]
    assert (whole.type, whole.text, whole.tokens, whole.reply_to, whole.error) == (
        "message.received",
        "Hello",
        7,
        "q1",
        "",
    )
    assert {e.message_id for e in [*pieces, whole]} == {"q1.answer"}
    assert len({e.event_id for e in [*pieces, whole]}) == 3
    assert wire.asking == ""


def test_the_session_of_the_page_is_read_whole():
    wire = AgentWire(base_url="ws://127.0.0.1:8000/agent_ws/")
    wire.opening(None)
    seen = []
    for line in FRAMES.read_text().splitlines():
        row = json.loads(line)
        if row["dir"] == "out":
            sent = json.loads(row["frame"])
            asked = Ask(id="q", text=sent["text"], attachments=tuple(sent["attachments"]))
            assert json.loads(wire.send(asked, at=AT)[0]) == sent
        else:
            seen += wire.receive(row["frame"], at=AT)
    kinds = [e.type if isinstance(e, Event) else type(e).__name__ for e in seen]
    assert kinds == [
        "Ready",
        "message.delta",
        "message.delta",
        "agent.tool_call",
        "agent.progress",
        "agent.tool_result",
        "agent.progress",
        "agent.file",
        "message.delta",
        "message.received",
        *["platform.specific"] * 4,
        "Closing",
    ]
    by_type = {e.type: e for e in seen if isinstance(e, Event)}
    assert by_type["message.received"].text == "Let me look. Three pages."
    assert by_type["message.received"].tokens == 42
    assert by_type["agent.file"].text == "reports/2024/report.pdf"
    assert len({e.event_id for e in seen if isinstance(e, Event)}) == 13


def test_the_pieces_of_a_tool_call_are_one_row(wire):
    ask(wire)
    assert got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="search", args_chunk='{"q": ') == []
    assert got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name=None, args_chunk='"cats"}') == []
    call, result = got(wire, "AGENT_EVENT_TOOL_RESULT", tool_name="search", result=["a"])
    assert (call.type, call.user_name, call.text) == ("agent.tool_call", "search", '{"q": "cats"}')
    assert call.raw["arguments"] == {"q": "cats"}
    assert (result.type, result.user_name, result.text, result.error) == (
        "agent.tool_result",
        "search",
        '["a"]',
        "",
    )
    assert result.message_id == call.message_id != ""


def test_arguments_that_are_no_json_are_kept(wire):
    ask(wire)
    got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="search", args_chunk='{"q": ')
    call, _ = text(wire, "oops")
    assert (call.raw["arguments"], call.raw["arguments_text"], call.error) == (None, '{"q": ', "")


def test_a_name_in_every_piece_is_still_one_call(wire):
    ask(wire)
    for piece in ('{"q":', " 1}"):
        assert got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="t", args_chunk=piece) == []
    (first,) = got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="t", args_chunk="{}")
    assert first.text == '{"q": 1}'
    second, whole = end(wire)
    assert (second.text, whole.type) == ("{}", "message.received")


def test_calls_of_sub_agents_are_kept_apart(wire):
    ask(wire)
    got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", tool_name="a", args_chunk="[1", source="main")
    got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", args_chunk="{}", source="tools:x")
    got(wire, "AGENT_EVENT_TOOL_CALL_CHUNK", args_chunk=",2]", source="main")
    first, second, result = got(wire, "AGENT_EVENT_TOOL_RESULT", tool_name="b", result="done")
    assert (first.text, second.text, second.user_name) == ("[1,2]", "{}", "")
    assert (result.text, result.message_id) == ("done", "")
    (late,) = got(wire, "AGENT_EVENT_TOOL_RESULT", tool_name="a", result={"error": {"code": 5}})
    assert (late.error, late.message_id) == ('{"code": 5}', first.message_id)


def test_text_of_a_sub_agent_is_progress_and_no_answer(wire):
    ask(wire)
    (step,) = text(wire, "thinking", source="tools:helper")
    (whole,) = end(wire)
    assert (step.type, step.user_name, step.text) == ("agent.progress", "tools:helper", "thinking")
    assert whole.text == ""


def test_progress_shows_its_status(wire):
    ask(wire)
    (one,) = got(wire, "AGENT_EVENT_CUSTOM_UPDATE", payload={"status": "half", "progress": 0.5})
    (two,) = got(wire, "AGENT_EVENT_CUSTOM_UPDATE", payload={"message": 3}, source="tools:x")
    assert (one.text, one.user_name, one.raw["payload"]["progress"]) == ("half", "", 0.5)
    assert (two.text, two.user_name) == ("3", "tools:x")


@pytest.mark.parametrize(
    ("path", "kept"), [("out/a.png", "out/a.png"), ("/workspace/./b", "b"), ("a/../c.txt", "c.txt")]
)
def test_a_file_inside_the_workspace(wire, path, kept):
    ask(wire)
    (file,) = got(wire, "AGENT_EVENT_SEND_FILE", path=path)
    assert (file.type, file.text, file.error) == ("agent.file", kept, "")


@pytest.mark.parametrize(
    "path",
    ["../secret", "/etc/passwd", "", ".", "a/../../b", "..\\x", "a\x00b", "/workspace2/x", "//workspace/x"],
)
def test_a_file_that_leaves_the_workspace_is_an_error_row(wire, path):
    ask(wire)
    (file,) = got(wire, "AGENT_EVENT_SEND_FILE", path=path)
    assert (file.text, file.error) == (path, "the path is not inside /workspace")
    with pytest.raises(LocalProtocolError, match="not inside"):
        AgentWire(base_url="ws://x").send(Ask(id="q", text="", attachments=(path,)), at=AT)


def test_an_error_ends_the_answer_and_keeps_what_came(wire):
    ask(wire)
    text(wire, "half an ")
    (whole,) = got(wire, "ERROR", code="LLM_DOWN", details="no model")
    assert (whole.type, whole.text, whole.error, whole.reply_to) == (
        "message.received",
        "half an ",
        "LLM_DOWN: no model",
        "q1",
    )
    assert wire.asking == ""


def test_an_error_that_belongs_to_nothing(wire):
    (row,) = got(wire, "ERROR", code="X", details="y")
    assert (row.type, row.role, row.error) == ("platform.specific", "system", "X: y")


def test_a_graceful_disconnect_fails_the_answer_and_closes(wire):
    ask(wire)
    text(wire, "so far")
    news, whole, closing = got(wire, "GRACEFUL_DISCONNECT")
    assert news.type == "platform.specific"
    assert (whole.text, whole.error) == ("so far", "GRACEFUL_DISCONNECT: the agent is about to stop")
    assert isinstance(closing, Closing)
    assert (closing.verdict, closing.error.code) == (Verdict.RETRY, 1001)


def test_one_question_at_a_time(wire):
    ask(wire)
    with pytest.raises(AgentBusy, match="chat 3 is answering"):
        ask(wire, "q2")


def test_what_is_left_of_an_abandoned_answer_stays_with_it(wire):
    ask(wire)
    text(wire, "old ")
    assert wire.send(Abandon(id="x", ask_id="q1"), at=AT) == []
    assert wire.asking == "q1"
    ask(wire, "q2")
    (left,) = text(wire, "more old")
    (over,) = end(wire)
    (new,) = text(wire, "new")
    assert (left.reply_to, over.reply_to, over.text, new.reply_to) == ("q1", "q1", "old more old", "q2")
    wire.send(Abandon(id="x", ask_id="q1"), at=AT)
    with pytest.raises(AgentBusy):
        ask(wire, "q3")


def test_a_server_that_is_busy_refuses_the_newest_question(wire):
    ask(wire)
    wire.send(Abandon(id="x", ask_id="q1"), at=AT)
    ask(wire, "q2")
    (refused,) = got(wire, "ERROR", code="AGENT_BUSY", details="wait")
    assert (refused.reply_to, wire.asking) == ("q2", "q1")


def test_what_nobody_asked_for_replies_to_nothing(wire):
    (piece,) = text(wire, "good morning")
    (whole,) = end(wire)
    assert (piece.reply_to, whole.reply_to, whole.type, whole.text) == (
        "",
        "",
        "message.received",
        "good morning",
    )
    (empty,) = end(wire)
    assert (empty.type, empty.tokens) == ("platform.specific", 7)
    assert empty.message_id != whole.message_id
    ask(wire)
    (answer,) = text(wire, "hi")
    assert answer.reply_to == "q1"


def test_a_new_socket_starts_with_a_clean_slate(wire):
    ask(wire)
    text(wire, "old")
    wire.opening(None)
    wire.receive(encode("STATUS"), at=AT)
    ask(wire, "q2")
    text(wire, "new")
    (whole,) = end(wire)
    assert (whole.text, whole.reply_to) == ("new", "q2")


def test_an_answer_without_end_is_cut(wire, monkeypatch):
    monkeypatch.setattr(agent_module, "MAX_ANSWER_CHARS", 10)
    ask(wire)
    for _ in range(3):
        text(wire, "sixsix")
    (whole,) = end(wire, None)
    assert whole.text == "sixsixsixsix"
    assert whole.error == "the answer is longer than 10 characters; 6 are missing"
    assert whole.tokens is None


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x00", "UNEXPECTED_MSG_TYPE"),
        ("no json", "INVALID_STATUS"),
        ('{"type": "ERROR", "code": "X", "details": "y"}', "INVALID_STATUS"),
        ('{"type": "AGENT_EVENT_END", "tokens_used": 1}', "INVALID_STATUS"),
    ],
)
def test_the_first_frame_must_be_a_status(frame, code):
    wire = AgentWire(base_url="ws://x")
    wire.opening(None)
    (closing,) = wire.receive(frame, at=AT)
    assert closing.verdict is Verdict.RETRY
    assert isinstance(closing.error, HandshakeError)
    assert str(closing.error).startswith(code)


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        "no json",
        "[1]",
        '{"type": 3}',
        '{"type": "AGENT_EVENT_TEXT_CHUNK"}',
        '{"type": "AGENT_EVENT_TEXT_CHUNK", "text": 3}',
        '{"type": "AGENT_EVENT_TOOL_CALL_CHUNK", "tool_name": 3}',
        '{"type": "AGENT_EVENT_TOOL_RESULT", "result": 1}',
        '{"type": "AGENT_EVENT_CUSTOM_UPDATE", "payload": []}',
        '{"type": "AGENT_EVENT_SEND_FILE", "path": null}',
        '{"type": "AGENT_EVENT_END", "tokens_used": "many"}',
        '{"type": "AGENT_EVENT_END", "tokens_used": true}',
        '{"type": "ERROR", "code": 1, "details": ""}',
        "[" * 100_000,
    ],
)
def test_malformed_frames(wire, frame):
    ask(wire)
    with pytest.raises(RemoteProtocolError):
        wire.receive(frame, at=AT)
    assert wire.asking == "q1"


def test_a_source_that_is_no_text_is_the_agent_itself(wire):
    ask(wire)
    (piece,) = text(wire, "x", source=5)
    assert piece.type == "message.delta"


def test_what_is_nested_too_deeply_is_malformed(wire, monkeypatch):
    def too_deep(*_: object) -> str:
        raise RecursionError

    ask(wire)
    monkeypatch.setattr(agent_module, "result_text", too_deep)
    with pytest.raises(RemoteProtocolError, match="deeply"):
        got(wire, "AGENT_EVENT_TOOL_RESULT", tool_name="t", result=1)


def test_there_is_no_history(wire):
    with pytest.raises(NotSupported, match="agent has no history"):
        wire.send(History(id="h", chat_id="3"), at=AT)
    assert wire.token_request() is None
    assert wire.ping() is None


@pytest.mark.parametrize(
    ("base", "chat", "url"),
    [
        ("ws://localhost:8000", 3, "ws://localhost:8000/v1/agent_ws/3/"),
        ("wss://h/prefix", "0", "wss://h/prefix/v1/agent_ws/0/"),
        ("https://h/prefix/", "a/b", "wss://h/prefix/v1/agent_ws/a%2Fb/"),
        ("ws://localhost:8000/ws", 3, "ws://localhost:8000/ws"),
        ("ws://localhost:8000/ws/", 3, "ws://localhost:8000/ws"),
        ("ws://localhost:8000/news", 3, "ws://localhost:8000/news/v1/agent_ws/3/"),
        ("http://127.0.0.1:8000/agent_ws", 3, "ws://127.0.0.1:8000/agent_ws/"),
        ("ws://localhost:8000/agent_ws/?k=v", 3, "ws://localhost:8000/agent_ws/?k=v"),
    ],
)
def test_the_address_of_a_chat(base, chat, url):
    opening = AgentWire(base_url=base, chat_id=chat).opening(None)
    assert (opening.url, opening.ready_within, opening.frames) == (url, 5.0, ())


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        *[(code, Verdict.RETRY) for code in (1000, 1001, 1006, 1008, 1011, 403, 408, 429, 500, 503)],
        *[(code, Verdict.FATAL) for code in (302, 400, 401, 404, 426)],
    ],
)
def test_what_a_code_means(wire, code, verdict):
    assert wire.closing(code, "") is verdict


@given(frame=st.text() | st.binary())
def test_junk_is_malformed_and_nothing_else(frame):
    wire = AgentWire(base_url="ws://x")
    wire.opening(None)
    wire.receive(encode("STATUS"), at=AT)
    with contextlib.suppress(RemoteProtocolError):
        wire.receive(frame, at=AT)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KINDS = st.sampled_from([*agent_module.AgentWire(base_url="ws://x")._readers, "OTHER"])
FIELDS = st.sampled_from(
    [
        "text",
        "source",
        "tool_name",
        "args_chunk",
        "result",
        "payload",
        "path",
        "tokens_used",
        "code",
        "details",
    ]
)


@given(
    frames=st.lists(st.tuples(KINDS, st.dictionaries(FIELDS, JSON)), max_size=12),
    asked=st.booleans(),
)
def test_any_fields_give_events_of_unique_ids_or_an_error(frames, asked):
    wire = AgentWire(base_url="ws://x")
    wire.opening(None)
    wire.receive(encode("STATUS"), at=AT)
    if asked:
        ask(wire)
    ids = []
    for kind, fields in frames:
        try:
            ids += [e.event_id for e in wire.receive(encode(kind, **fields), at=AT) if isinstance(e, Event)]
        except RemoteProtocolError:
            continue
    assert len(set(ids)) == len(ids)


def test_the_other_side_reads_questions():
    assert read_question(question(Question("hi", ("a.txt",)))) == Question("hi", ("a.txt",))
    assert read_question('{"type": "USER_MESSAGE", "text": "hi"}') == Question("hi")


@pytest.mark.parametrize(
    "frame",
    [
        '{"type": "STATUS"}',
        '{"type": "USER_MESSAGE"}',
        '{"type": "USER_MESSAGE", "text": "x", "attachments": "a"}',
        '{"type": "USER_MESSAGE", "text": "x", "attachments": [1]}',
    ],
)
def test_what_is_no_question(frame):
    with pytest.raises(RemoteProtocolError):
        read_question(frame)
