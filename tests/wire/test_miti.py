"""The Miti wire as the client sees it: recorded shapes in, values out, and nothing else raised."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import LocalProtocolError, NotSupported, RemoteProtocolError
from botbook.actions import AnswerCompleted, AnswerStarted, Ask, History, Native, Run, Send
from botbook.events import Event
from botbook.messages import At, Image, Plain
from botbook.wire import miti
from botbook.wire.contract import Ack, Closing, HttpRequest, Ready, Verdict, Wire
from botbook.wire.miti import MitiWire

FRAMES = Path(__file__).parent / "frames" / "miti"
AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def rows(name: str) -> list:
    lines = (FRAMES / name).read_text(encoding="utf-8").splitlines()
    return [pytest.param(row, id=row["about"]) for row in map(json.loads, lines)]


def wire(**settings) -> MitiWire:
    made = {"base_url": "http://localhost:1/chat/", "app_id": "cli_1", "app_secret": "s3cret", "name": "b"}
    return MitiWire(**{**made, **settings})


def message(event_type="im.message.receive", *, conversation="si_u1_cli_1", session="single", **event) -> str:
    body = {"message": {"conversation_id": conversation, "session_type": session}, **event}
    return json.dumps({"header": {"event_id": "e", "event_type": event_type}, "event": body})


def shown(part) -> str:
    match part:
        case At():
            return f"At:{part.target}:{part.display}"
        case Image():
            return f"Image:{part.url}:{part.mime_type}"
        case Plain():
            return f"Plain:{part.text}"
    return part.type


# ---------------------------------------------------------------------------- receiving


@pytest.mark.parametrize("row", rows("events.jsonl"))
def test_events(row):
    frame = json.dumps(row["frame"], ensure_ascii=False)
    (event,) = wire().receive(frame, at=AT)
    expect = dict(row["expect"])
    at_ms = expect.pop("at_ms", 1767225600123)
    assert event.at == (AT if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC))
    if "parts" in expect:
        parts = expect.pop("parts")
        assert (event.parts and [shown(part) for part in event.parts]) == parts
    expect.setdefault("event_id", event.event_id)
    assert {name: getattr(event, name) for name in expect} == expect
    assert event.received_at == AT
    assert event.raw == row["frame"]
    assert event.event_id


@pytest.mark.parametrize("row", rows("acks.jsonl"))
def test_acknowledgements(row):
    assert wire().receive(json.dumps(row["frame"]), at=AT) == [Ack(*row["expect"])]


@pytest.mark.parametrize("row", rows("malformed.jsonl"))
def test_malformed(row):
    frame = row.get("frame")
    if "hex" in row:
        frame = bytes.fromhex(row["hex"])
    if "repeat" in row:
        piece, times = row["repeat"]
        frame = piece * times
    with pytest.raises(RemoteProtocolError) as caught:
        wire().receive(frame, at=AT)
    assert len(caught.value.frame) <= 200


def test_a_frame_without_an_id_gets_the_same_one_again():
    frame = json.dumps({"header": {"event_type": "im.message.receive"}, "event": {}})
    first, again = (wire().receive(frame, at=AT + timedelta(seconds=n))[0].event_id for n in (0, 9))
    other = wire().receive(frame.replace("{}", '{"sender":{"user_id":"u"}}'), at=AT)[0].event_id
    assert first == again
    assert other != first


def test_nobody_is_this_app_when_the_app_has_no_id():
    (event,) = wire(app_id="").receive(message(), at=AT)
    assert (event.type, event.role) == ("message.received", "user")


def test_lone_surrogates_do_not_reach_the_journal():
    frame = message().replace('"e"', r'"\ud800e\uDC00\ud83c\udf31"')
    (event,) = wire().receive(frame, at=AT)
    assert event.event_id == "\ufffde\ufffd🌱"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
KINDS = ["im.message.receive", "im.message.group_at", "assistant.cancel", "assistant.ack", "x.y", ""]


@st.composite
def near_frames(draw) -> str:
    """Frames of the right outline with anything in their places."""

    def some(**fields):
        return draw(st.fixed_dictionaries({}, optional=fields))

    content = some(text=JSON, images=JSON, atUserList=JSON, markdown=JSON, content_list=JSON, ask_msg_id=JSON)
    text_or_any = st.text() | JSON
    inner = some(
        message_id=text_or_any,
        conversation_id=text_or_any,
        session_type=st.sampled_from(["single", "group"]) | JSON,
        msg_type=st.sampled_from(["text", "at_text", "image"]) | JSON,
        content=st.just(content) | JSON,
    )
    body = some(
        sender=st.fixed_dictionaries({"user_id": text_or_any}) | JSON,
        message=st.just(inner) | JSON,
        group_id=JSON,
        at_user_id=JSON,
        reply_to_event_id=JSON,
        ok=JSON,
        run_id=JSON,
    )
    header = some(event_type=st.sampled_from(KINDS) | JSON, event_id=JSON, create_time=JSON)
    return json.dumps(some(header=st.just(header) | JSON, event=st.just(body) | JSON))


@given(st.text() | st.binary() | JSON.map(json.dumps) | near_frames())
def test_anything_gives_events_or_a_protocol_error(frame):
    try:
        received = wire().receive(frame, at=AT)
    except RemoteProtocolError:
        return
    for value in received:
        assert isinstance(value, Event | Ack | Ready | Closing)
        if isinstance(value, Event):
            assert value.event_id
            assert value.at.tzinfo is UTC
            value.text.encode()
            value.target.encode()


# ---------------------------------------------------------------------------- conversations


def history_of(made: MitiWire, chat_id: str) -> str:
    (request,) = made.send(History(id="h", chat_id=chat_id), at=AT)
    return request.params["conversation_id"]


@pytest.mark.parametrize(
    ("frame", "chat_id", "conversation"),
    [
        (message(conversation="si_a_b"), "si_a_b", "si_a_b"),
        (message(conversation="c7"), "c7", "c7"),
        (message("im.message.group_at", conversation="sg_g1", group_id="g1"), "g1", "sg_g1"),
        (message("im.message.group_at", conversation="c8", group_id="g1"), "g1", "c8"),
        (message("im.message.group_at", conversation="", group_id="g1"), "g1", "sg_g1"),
        (message(conversation="sg_g2", session="group"), "g2", "sg_g2"),
        (message(conversation="sg_"), "sg_", "sg_"),
    ],
)
def test_a_chat_finds_back_to_its_conversation(frame, chat_id, conversation):
    made = wire()
    (event,) = made.receive(frame, at=AT)
    assert event.chat_id == chat_id
    assert history_of(made, chat_id) == history_of(made, conversation) == conversation


def test_a_chat_not_seen_before_is_read_by_its_prefix():
    assert [history_of(wire(), chat) for chat in ("si_a_b", "sg_g", "g", "")] == [
        "si_a_b",
        "sg_g",
        "sg_g",
        "",
    ]


def test_odd_conversations_are_forgotten_oldest_first(monkeypatch):
    monkeypatch.setattr(miti, "_ODD_LIMIT", 2)
    made = wire()
    for conversation in ("c1", "c2", "c3"):
        made.receive(message(conversation=conversation), at=AT)
    assert [history_of(made, chat) for chat in ("c1", "c2", "c3")] == ["sg_c1", "c2", "c3"]


# ---------------------------------------------------------------------------- opening and closing


def test_it_is_a_wire():
    made: Wire = wire()
    assert (made.gateway, made.name) == ("miti", "b")
    assert wire(gateway="sim").gateway == "sim"
    assert made.ping() is None


@pytest.mark.parametrize(
    ("base_url", "socket"),
    [
        ("http://localhost:1/chat//", "ws://localhost:1/chat/agent/gateway"),
        ("https://www.miti.chat/chat", "wss://www.miti.chat/chat/agent/gateway"),
        ("HTTPS://www.miti.chat/chat", "wss://www.miti.chat/chat/agent/gateway"),
    ],
)
def test_opening(base_url, socket):
    opening = wire(base_url=base_url).opening("tok")
    assert opening.url == socket
    assert opening.headers == {"Authorization": "Bearer tok"}
    assert opening.frames == ()
    assert opening.ready_within is None


def test_opening_without_a_token():
    assert wire().opening(None).headers == {}


def test_token_request():
    request = wire().token_request()
    assert (request.method, request.url) == ("POST", "http://localhost:1/chat/agent/v1/auth/token")
    assert request.json == {"app_id": "cli_1", "app_secret": "s3cret"}
    assert (request.authorised, request.repeatable) == (False, True)


def test_the_secret_does_not_show():
    assert "s3cret" not in repr(wire()) + repr(wire().token_request()) + repr(wire().opening("s3cret"))


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (1000, Verdict.RETRY),
        (1001, Verdict.RETRY),
        (1006, Verdict.RETRY),
        (1011, Verdict.RETRY),
        (404, Verdict.RETRY),
        (503, Verdict.RETRY),
        (401, Verdict.REAUTH),
        (403, Verdict.REAUTH),
        (1008, Verdict.REAUTH),
        (3000, Verdict.REAUTH),
    ],
)
def test_closing(code, verdict):
    assert wire().closing(code, "any") is verdict


# ---------------------------------------------------------------------------- sending


def test_send_text_to_a_user():
    (request,) = wire().send(Send(id="a", to="user:u1", text="hi", reply_to="m1"), at=AT)
    assert isinstance(request, HttpRequest)
    assert (request.method, request.url) == ("POST", "http://localhost:1/chat/agent/v1/messages/send")
    assert request.json == {"msg_type": "text", "content": {"text": "hi"}, "to_user_id": "u1"}
    assert (request.authorised, request.repeatable) == (True, False)


def test_send_markdown_to_a_group():
    (request,) = wire().send(Send(id="a", to="group:g1", text="**hi**", markdown=True, reply_to="m1"), at=AT)
    desc = {"isIncrease": False, "isCompleted": True, "isShow": True, "history": True}
    item = {"event": "delta", "seq": 1, "content": '{"markdown": {"delta": "**hi**"}}'}
    assert request.json == {
        "msg_type": "stream_full",
        "to_group_id": "g1",
        "content": {
            "ask_msg_id": "m1",
            "content_list": [{**item, "desc": {**desc, "showType": "markdown"}}],
        },
    }


def test_native_frames_and_messages_go_out_as_they_are():
    assert wire().send(Native(id="a", body={"header": {"event_id": "é"}}), at=AT) == [
        '{"header": {"event_id": "é"}}'
    ]
    body = {"msg_type": "image", "content": {"images": []}}
    (request,) = wire().send(Native(id="a", to="group:g1", body=body), at=AT)
    assert request.json == {**body, "to_group_id": "g1"}


@pytest.mark.parametrize("to", ["u1", "user:", "room:1", ""])
def test_send_to_no_address(to):
    with pytest.raises(LocalProtocolError, match="no address"):
        wire().send(Send(id="a", to=to, text="hi"), at=AT)


def test_ask_is_not_supported():
    with pytest.raises(NotSupported, match="miti has no ask"):
        wire().send(Ask(id="a", text="?"), at=AT)


@pytest.mark.parametrize(("limit", "sent"), [(10, "10"), (1000, "50"), (0, "1"), (-3, "1"), (50, "50")])
def test_history_limit_is_what_the_server_gives(limit, sent):
    (request,) = wire().send(History(id="h", chat_id="si_a_b", limit=limit), at=AT)
    assert (request.method, request.url) == ("GET", "http://localhost:1/chat/agent/v1/messages/history")
    assert request.params == {"conversation_id": "si_a_b", "limit": sent}
    assert request.repeatable


def test_history_before_a_message():
    (request,) = wire().send(History(id="h", chat_id="si_a_b", before="m9"), at=AT)
    assert request.params["before_message_id"] == "m9"


def test_answer_frames_carry_the_id_of_the_action():
    run = Run(run_id="r", message_id="am", to="group:g1", asker="u1", chat_id="g1", question_id="m1")
    (frame,) = wire().send(AnswerStarted(id="e1", run=run), at=AT)
    assert json.loads(frame) == {
        "schema": "1.0",
        "header": {
            "event_id": "e1",
            "event_type": "assistant.started",
            "app_id": "cli_1",
            "create_time": "1767323045678",
        },
        "event": {
            "event_type": "assistant.started",
            "agent_id": "cli_1",
            "user_id": "u1",
            "conversation_id": "sg_g1",
            "ask_msg_id": "m1",
            "assistant_msg_id": "am",
            "run_id": "r",
            "to_user_id": "u1",
            "to_group_id": "g1",
            "created_at": 1767323045678,
        },
    }


def test_a_repeated_answer_frame_is_the_same_frame():
    run = Run(run_id="r", message_id="am", to="user:u1", asker="u1", chat_id="si_u1_c", question_id="m1")
    action = AnswerCompleted(id="e1", run=run, seq=3, text="done")
    assert wire().send(action, at=AT) == wire().send(action, at=AT)
