from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import (
    ApiError,
    AuthError,
    ConfigError,
    LocalProtocolError,
    NotSupported,
    RemoteProtocolError,
)
from botbook.actions import Abandon, AnswerStarted, Ask, History, Run, Send
from botbook.events import Event
from botbook.messages import Image, Plain
from botbook.wire import langbot as langbot_module
from botbook.wire.contract import Closing, Ready, Response, Token, Verdict
from botbook.wire.langbot import LangBotWire, is_failure
from botbook.wire.langbot_bodies import success

FRAMES = Path(__file__).parent / "frames" / "langbot"
VERSIONS = ["4.10.1", "4.10.11", "4.11.2"]
AT = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)


def facts(version: str, case: str) -> list[dict[str, Any]]:
    lines = (FRAMES / f"{version}.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for line in lines if (row := json.loads(line))["case"] == case]


def chat(**more: Any) -> LangBotWire:
    wire = LangBotWire(base_url="http://127.0.0.1:5300", pipeline="p", **more)
    wire.opening("token")
    return wire


def replay(version: str, case: str, **more: Any) -> list[Any]:
    """Play a recorded connection; our side asks what was asked then, under the ids ask0, ask1, …"""
    wire, seen, asked = chat(mention=False, **more), [], 0
    for step, row in enumerate(facts(version, case)):
        at = AT + timedelta(seconds=step)
        if row["dir"] == "in":
            seen += wire.receive(row["frame"], at=at)
        elif row["dir"] == "close":
            seen.append(wire.closing(row["code"], row["reason"]))
        elif row["dir"] == "refused":
            seen.append(wire.closing(row["status"], ""))
        elif row["dir"] == "out" and '"message"' in row["frame"]:
            parts = json.loads(row["frame"])["message"]
            said = "".join(part.get("text", "") for part in parts)
            wire.send(Ask(id=f"ask{asked}", text=said), at=at)
            asked += 1
    return seen


def events(seen: list[Any], kind: str) -> list[Event]:
    return [one for one in seen if isinstance(one, Event) and one.type == kind]


# ---------------------------------------------------------------------------- what real servers said


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["short", "slow", "long", "think", "after-reset"])
def test_an_answer_is_its_pieces(version, case):
    seen = replay(version, case)
    assert Ready() in seen
    (question,) = events(seen, "message.sent")
    answers = events(seen, "message.received")
    ours = [answer for answer in answers if answer.reply_to == "ask0"]
    assert (question.message_id, question.role, question.user_id[:10]) == ("ask0", "user", "websocket_")
    assert len(ours) == 1
    pieces = [e.text for e in events(seen, "message.delta") if e.message_id == ours[0].message_id]
    assert "".join(pieces) == ours[0].text != ""
    assert events(seen, "message.edited") == []
    assert ours[0].at > question.at


@pytest.mark.parametrize("version", VERSIONS)
def test_every_recorded_event_has_an_id_of_its_own(version):
    cases = {json.loads(line)["case"] for line in (FRAMES / f"{version}.jsonl").read_text().splitlines()}
    for case in cases - {"odd-message", "array"}:
        rows = [e for e in replay(version, case) if isinstance(e, Event)]
        assert len({e.event_id for e in rows}) == len(rows), case


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failure_comes_as_an_ordinary_answer_and_is_marked(version):
    failed, well = (
        e for e in events(replay(version, "failing"), "message.received") if e.role == "assistant"
    )
    assert failed.error == failed.text != ""
    assert (failed.reply_to, well.reply_to, well.error) == ("ask0", "ask1", "")
    assert well.text == "You said: after the failure"


@pytest.mark.parametrize("version", VERSIONS)
def test_several_questions_are_answered_in_order(version):
    seen = replay(version, "queue")
    first = next(e for e in events(seen, "message.received") if e.reply_to == "ask0")
    assert first.text == "You said: slow first a b c d e f g h i j"
    assert {e.reply_to for e in events(seen, "message.delta")} >= {"ask0"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("who", ["a", "b"])
def test_other_clients_are_told_apart(version, who):
    seen = replay(version, f"others-{who}")
    (own,) = events(seen, "message.sent")
    other = next(e for e in events(seen, "message.received") if e.role == "user")
    assert own.text.startswith(f"slow from {who}")
    assert not other.text.startswith(f"slow from {who}")
    answers = {e.reply_to: e.text for e in events(seen, "message.received") if e.role == "assistant"}
    assert f"from {who}" in answers["ask0"]
    assert f"from {who}" not in answers[other.message_id]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_group_answers_who_asks_it(version):
    seen = replay(version, "group", session_type="group")
    answers = {e.reply_to: e.text for e in events(seen, "message.received")}
    assert answers == {"ask1": "You said: hello group", "ask2": "You said: hello bot"}
    assert [e.text for e in events(seen, "message.sent")] == [
        "nobody is asked",
        "ai hello group",
        " hello bot",
    ]
    assert {e.chat_type for e in seen if isinstance(e, Event)} == {"group"}
    assert {e.chat_id for e in seen if isinstance(e, Event)} == {"group:p"}


@pytest.mark.parametrize("version", VERSIONS)
def test_broadcasts_carry_any_json(version):
    news = events(replay(version, "broadcast"), "message.received")
    assert [(e.role, e.text) for e in news] == [("system", "hello all"), ("system", '{"any": ["json", 1]}')]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_picture_comes_back_in_the_echo(version):
    (echo,) = events(replay(version, "image"), "message.sent")
    picture, words = echo.chain
    assert isinstance(picture, Image)
    assert picture.mime_type == ("image/jpeg" if version == "4.10.11" else "image/png")
    assert words == Plain(text="what is this")
    assert echo.message_id == "ask0"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_page_speaks_the_same_frames(version):
    seen = replay(version, "embed")
    assert [e.reply_to for e in events(seen, "message.received")][-1] == "ask0"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_complaint_is_a_row_and_no_end(version):
    (row,) = events(replay(version, "bad-json"), "platform.specific")
    assert (row.error, row.role) == ("Invalid JSON format", "system")


@pytest.mark.parametrize(
    ("case", "verdict", "kind"),
    [
        ("wrong-token", Verdict.REAUTH, AuthError),
        ("api-key-as-token", Verdict.REAUTH, AuthError),
        ("no-workspace", Verdict.REAUTH, AuthError),
        ("silent", Verdict.REAUTH, AuthError),
        ("wrong-pipeline", Verdict.FATAL, ApiError),
        ("wrong-session", Verdict.FATAL, ApiError),
        ("embed-wrong-session", Verdict.FATAL, ApiError),
    ],
)
@pytest.mark.parametrize("version", ["4.10.11", "4.11.2"])
def test_a_refused_opening_says_what_to_do(version, case, verdict, kind):
    closing, at_close = replay(version, case)
    assert isinstance(closing, Closing)
    assert (closing.verdict, at_close) == (verdict, verdict)
    assert isinstance(closing.error, kind)
    assert closing.error.hint


@pytest.mark.parametrize("version", VERSIONS)
def test_without_an_origin_there_is_no_upgrade(version):
    assert replay(version, "no-origin") == [Verdict.FATAL]
    assert chat().opening(None).headers == {"Origin": "http://127.0.0.1:5300"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ["disconnect", "array", "odd-message"])
def test_close_1000_of_an_open_chat_is_no_end(version, case):
    wire = chat()
    for row in facts(version, case):
        if row["dir"] == "in":
            wire.receive(row["frame"], at=AT)
    assert wire.closing(1000, "") is Verdict.RETRY


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("session", ["person", "group"])
def test_history_has_the_ids_of_the_frames(version, session):
    row = next(r for r in facts(version, "history") if r["path"].endswith(session) and r["status"] == 200)
    wire = chat(session_type=session)
    wire.receive(facts(version, "short")[2]["frame"], at=AT)
    (request,) = wire.send(History(id="h", chat_id=f"{session}:p", limit=1000), at=AT)
    assert request.url == f"http://127.0.0.1:5300/api/v1/pipelines/p/ws/messages/{session}"
    items = request.read(Response(200, row["body"].encode()))
    heard = {
        e.message_id: e.text
        for case in ("short", "slow", "long", "group")
        for e in replay(version, case, session_type=session)
        if isinstance(e, Event) and e.type == "message.received" and e.role == "assistant"
    }
    told = {item.message_id: item.text for item in items if item.role == "assistant"}
    assert heard.items() & told.items()
    assert all(item.at_ms for item in items)


@pytest.mark.parametrize("version", VERSIONS)
def test_history_by_limit_and_before(version):
    row = next(r for r in facts(version, "history") if r["path"].endswith("person") and r["status"] == 200)
    wire = chat()

    def ask(**more: Any) -> list[Any]:
        (request,) = wire.send(History(id="h", chat_id="person", **more), at=AT)
        return request.read(Response(200, row["body"].encode()))

    everything = ask(limit=1000)
    assert ask(limit=2) == everything[-2:]
    assert ask(limit=2, before=everything[3].message_id) == everything[1:3]
    assert everything[0].user_id.startswith("websocket_")
    assert everything[0].at_ms is None  # the zone is not known yet


def row(number: int, role: str, text: str, connection: str = "", **more: Any) -> dict[str, Any]:
    return {
        "id": number, "role": role, "content": text, "message_chain": [{"type": "Plain", "text": text}],
        "timestamp": f"2026-11-20T16:00:0{number}", "is_final": True, "connection_id": connection, **more,
    }  # fmt: skip


def hear(wire: LangBotWire, kind: str, **fields: Any) -> None:
    wire.receive(json.dumps({"type": kind, **fields}), at=AT)


def test_history_tells_our_own_words_from_others_under_the_ids_of_the_journal():
    wire = chat()
    for connection in ("c1", "c2"):  # a link that came back
        hear(wire, "connected", connection_id=connection, timestamp="2026-11-20T16:00:00")
    hear(wire, "connected")  # a server that forgets to say so
    hear(wire, "connected", connection_id="c2")
    wire.send(Ask(id="q1", text="mine"), at=AT)
    hear(wire, "user_message", data=row(1, "user", "mine", "c2"))
    rows = [
        row(1, "user", "mine", "c2"),
        row(2, "assistant", "an answer"),
        row(3, "user", "of the link before", "c1"),
        row(4, "user", "of somebody else", "c9"),
        row(5, "assistant", "still being sa", is_final=False),
    ]
    (request,) = wire.send(History(id="h", chat_id="person"), at=AT)
    items = request.read(success({"messages": rows}))
    assert [(item.text, item.own) for item in items] == [
        ("mine", True),
        ("an answer", False),
        ("of the link before", True),
        ("of somebody else", False),
    ]
    assert [item.message_id for item in items][:2] == ["q1", "person:2@2026-11-20T16:00:02"]


def test_own_ids_are_remembered_for_a_while():
    wire = chat()
    hear(wire, "connected", connection_id="c")
    for number in range(1, langbot_module.MEMORY + 2):
        wire.send(Ask(id=f"q{number}", text="x"), at=AT)
        hear(wire, "user_message", data={**row(1, "user", "x", "c"), "id": number})
    assert len(wire._ask_ids) == langbot_module.MEMORY


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        *[(code, Verdict.RETRY) for code in (1000, 1001, 1006, 1011, 1012, 4000, 101, 408, 429, 500, 503)],
        *[(code, Verdict.REAUTH) for code in (401, 403)],
        *[(code, Verdict.FATAL) for code in (301, 400, 404, 426)],
    ],
)
def test_what_a_code_means(code, verdict):
    assert chat().closing(code, "") is verdict


# ---------------------------------------------------------------------------- our side


def test_the_opening_of_a_chat():
    wire = LangBotWire(
        base_url="https://bots.example/lb", pipeline="a/b", workspace="w", session_type="group"
    )
    opening = wire.opening("jwt")
    assert opening.url == "wss://bots.example/lb/api/v1/pipelines/a%2Fb/ws/connect?session_type=group"
    assert opening.headers == {"Origin": "https://bots.example"}
    assert [json.loads(frame) for frame in opening.frames] == [
        {"type": "authenticate", "token": "jwt", "workspace_uuid": "w"}
    ]
    assert opening.ready_within == 10.0
    assert "jwt" not in repr(opening)


def test_the_opening_of_a_page():
    wire = LangBotWire(base_url="http://127.0.0.1:1", page="bot", visitor="v-1", token="t")
    opening = wire.opening(None)
    assert opening.url == "ws://127.0.0.1:1/api/v1/embed/bot/ws/connect?session_type=person&session_id=v-1"
    assert json.loads(opening.frames[0])["token"] == ""
    assert wire.token_request() is None
    (request,) = wire.send(History(id="h", chat_id="person"), at=AT)
    assert request.url.endswith("/api/v1/embed/bot/messages/person?session_id=v-1")
    assert request.authorised is False


def test_where_a_token_comes_from():
    assert chat().token_request() is None
    assert chat(user="a@b.c").token_request() is None
    login = chat(user="a@b.c", password="pw", token="old").token_request()
    assert login.json == {"user": "a@b.c", "password": "pw"}
    renewal = chat(token="old").token_request()
    assert renewal.headers == {"Authorization": "Bearer old"}
    wire = chat(token="old", workspace="w")
    for ours, fresh in (("old", "newer"), ("newer", "newest")):
        renewal = wire.token_request()
        assert renewal.headers == {"Authorization": f"Bearer {ours}"}
        assert renewal.read(success({"token": fresh})).value == fresh


def test_a_pipeline_that_was_not_named_is_found_at_the_login():
    wire = LangBotWire(base_url="http://127.0.0.1:1", user="a@b.c", password="pw")
    assert wire.chat_id == "person:"
    step = wire.token_request().read(success({"token": "t"}))
    assert step.url.endswith("/api/v1/workspaces")
    step = step.read(success({"workspaces": [{"uuid": "w"}]}))
    assert (step.url, step.headers) == (
        "http://127.0.0.1:1/api/v1/pipelines",
        {"Authorization": "Bearer t"},
    )
    assert step.read(success({"pipelines": [{"uuid": "p", "name": "lab"}]})).value == "t"
    assert wire.chat_id == "person:p"
    assert isinstance(wire.token_request().read(success({"token": "t"})), Token), "not a second time"


@pytest.mark.parametrize(
    ("rows", "text", "hint"),
    [
        ([], "0 pipelines", "Make one there first."),
        ([{"uuid": "p", "name": "lab"}, {"uuid": "q"}], "2 pipelines", "one of: p (lab), q (None)."),
        ([{"uuid": 7}], "0 pipelines", "Make one"),
    ],
)
def test_pipelines_that_leave_a_choice(rows, text, hint):
    wire = LangBotWire(base_url="http://127.0.0.1:1", token="t", workspace="w")
    step = wire.token_request().read(success({"token": "t"}))
    with pytest.raises(ConfigError, match=text) as caught:
        step.read(success({"pipelines": rows}))
    assert hint in caught.value.hint


def test_a_question_with_a_picture():
    (frame,) = chat().send(Ask(id="q", text="what is this", attachments=("v1/a.PNG",)), at=AT)
    assert json.loads(frame) == {
        "type": "message",
        "message": [{"type": "Image", "path": "v1/a.PNG"}, {"type": "Plain", "text": "what is this"}],
    }
    with pytest.raises(LocalProtocolError, match="no picture"):
        chat().send(Ask(id="q", text="", attachments=("note.txt",)), at=AT)


def test_a_question_in_a_group_mentions_the_bot():
    (frame,) = chat(session_type="group", stream=False).send(Ask(id="q", text="hi"), at=AT)
    assert json.loads(frame) == {
        "type": "message",
        "message": [{"type": "At", "target": "websocketbot"}, {"type": "Plain", "text": "hi"}],
        "stream": False,
    }


def test_a_plain_send_goes_to_the_chat_it_names():
    (frame,) = chat().send(Send(id="s", to="user:bot", text="hi"), at=AT)
    assert json.loads(frame)["message"] == [{"type": "Plain", "text": "hi"}]
    assert chat(session_type="group").send(Send(id="s", to="group:all", text="hi"), at=AT)
    with pytest.raises(LocalProtocolError, match="person session"):
        chat().send(Send(id="s", to="group:g", text="hi"), at=AT)


def test_what_it_cannot_do():
    run = Run(run_id="r", message_id="m", to="user:u", asker="u", chat_id="c", question_id="q")
    with pytest.raises(NotSupported):
        chat().send(AnswerStarted(id="x", run=run), at=AT)
    assert json.loads(chat().ping()) == {"type": "ping"}


# ---------------------------------------------------------------------------- odd frames


def connected(wire: LangBotWire, at: datetime = AT, stamp: str = "2026-11-20T16:00:00") -> LangBotWire:
    frame = {"type": "connected", "connection_id": "me", "session_type": "person", "timestamp": stamp}
    assert wire.receive(json.dumps(frame), at=at) == [Ready()]
    return wire


def said(kind: str, number: int, content: str, **more: Any) -> str:
    data = {
        "id": number,
        "role": "assistant" if kind == "response" else "user",
        "content": content,
        "message_chain": [],
        "timestamp": f"2026-11-20T16:00:{number % 60:02}.5",
        "is_final": True,
        "connection_id": "me" if kind == "user_message" else "",
        **more,
    }
    return json.dumps({"type": kind, "session_type": "person", "data": data})


def test_text_that_is_replaced_is_an_edit():
    wire = connected(chat())
    seen = wire.receive(said("response", 2, "Hello wor", is_final=False), at=AT)
    seen += wire.receive(said("response", 2, "Good day", is_final=False), at=AT)
    seen += wire.receive(said("response", 2, "Good day, you"), at=AT)
    seen += wire.receive(said("response", 2, "Good day, you"), at=AT)
    seen += wire.receive(said("response", 2, "Good day, you two"), at=AT)
    assert [(e.type, e.text) for e in seen] == [
        ("message.delta", "Hello wor"),
        ("message.edited", "Good day"),
        ("message.delta", ", you"),
        ("message.received", "Good day, you"),
        ("message.edited", "Good day, you two"),
    ]
    assert len({e.event_id for e in seen}) == 5


def test_a_silent_question_does_not_take_the_next_answer():
    wire = connected(chat())
    for number, ident in ((1, "q1"), (2, "q2")):
        wire.send(Ask(id=ident, text=ident), at=AT)
        wire.receive(said("user_message", number, ident), at=AT)
        if ident == "q1":
            assert wire.send(Abandon(id="x", ask_id="q1", silent=True), at=AT) == []
    (_, answer) = wire.receive(said("response", 3, "yes"), at=AT)
    assert answer.reply_to == "q2"


def test_a_cancelled_question_keeps_its_answer():
    wire = connected(chat())
    for number, ident in ((1, "q1"), (2, "q2")):
        wire.send(Ask(id=ident, text=ident), at=AT)
        wire.receive(said("user_message", number, ident), at=AT)
        wire.send(Abandon(id="x", ask_id="q1"), at=AT)
    replies = [wire.receive(said("response", n, "yes"), at=AT)[-1].reply_to for n in (3, 4)]
    assert replies == ["q1", "q2"]


def test_an_answer_older_than_the_question_is_not_its_own():
    wire = connected(chat())
    wire.send(Ask(id="q", text="q"), at=AT)
    wire.receive(said("user_message", 5, "q"), at=AT)
    (_, left) = wire.receive(said("response", 4, "left over"), at=AT)
    (_, own) = wire.receive(said("response", 6, "yes"), at=AT)
    assert (left.reply_to, own.reply_to) == ("", "q")


def test_a_question_that_was_cut_off_keeps_its_answer_over_a_reconnect():
    wire = connected(chat())
    wire.send(Ask(id="q1", text="q1"), at=AT)
    wire.receive(said("user_message", 1, "q1"), at=AT)
    wire.receive(said("response", 2, "half", is_final=False), at=AT)
    wire.opening("token")
    connected(wire)
    wire.send(Ask(id="q2", text="q2"), at=AT)
    wire.receive(said("user_message", 3, "q2"), at=AT)
    rest, whole = wire.receive(said("response", 2, "half an answer"), at=AT)
    _, new = wire.receive(said("response", 4, "new"), at=AT)
    assert (rest.text, whole.reply_to, new.reply_to) == (" an answer", "q1", "q2")


def test_numbers_that_start_anew_forget_what_was_open():
    wire = connected(chat())
    wire.send(Ask(id="q1", text="q1"), at=AT)
    wire.receive(said("user_message", 5, "q1"), at=AT)
    wire.send(Ask(id="q2", text="q2"), at=AT)
    wire.receive(said("user_message", 1, "q2"), at=AT)
    _, answer = wire.receive(said("response", 2, "yes"), at=AT)
    assert answer.reply_to == "q2"


def test_an_echo_that_comes_twice_is_one_question():
    wire = connected(chat())
    wire.send(Ask(id="q1", text="q1"), at=AT)
    (first,) = wire.receive(said("user_message", 1, "q1"), at=AT)
    (second,) = wire.receive(said("user_message", 1, "q1"), at=AT)
    assert (first.event_id, first.message_id) == (second.event_id, second.message_id)


def test_an_echo_that_nobody_sent():
    wire = connected(chat())
    (row,) = wire.receive(said("user_message", 1, "hm"), at=AT)
    assert (row.type, row.message_id) == ("message.sent", row.event_id)


def test_an_echo_finds_its_question_by_its_text():
    wire = connected(chat())
    for ident in ("lost", "heard", "odd"):
        wire.send(Ask(id=ident, text=f"text {ident}"), at=AT)
    (second,) = wire.receive(said("user_message", 2, "text heard"), at=AT)
    (other,) = wire.receive(said("user_message", 3, "something else"), at=AT)
    assert (second.message_id, other.message_id) == ("heard", "lost")


def test_others_who_get_no_answer_are_forgotten():
    wire = connected(chat())
    wire.receive(said("user_message", 1, "ghost", connection_id="them"), at=AT)
    later = AT + timedelta(minutes=6)
    wire.send(Ask(id="q", text="q"), at=later)
    wire.receive(said("user_message", 2, "q"), at=later)
    _, answer = wire.receive(said("response", 3, "yes"), at=later)
    assert answer.reply_to == "q"


def test_a_group_answer_names_its_asker():
    wire = connected(chat(session_type="group"))
    for number, who in ((1, "them"), (2, "me")):
        wire.receive(said("user_message", number, "ai x", connection_id=who), at=AT)
    at = {"type": "At", "target": "websocket_me", "display": ""}
    _, answer = wire.receive(said("response", 3, "@websocket_meyes", message_chain=[at]), at=AT)
    assert answer.text == "yes"
    assert answer.reply_to.startswith("group:2@")


def test_a_group_that_answers_out_of_rule_takes_the_last_question():
    wire = connected(chat(session_type="group"))
    for number in (1, 2):
        wire.receive(said("user_message", number, "no rule fits"), at=AT)
    _, answer = wire.receive(said("response", 3, "yes"), at=AT)
    assert answer.reply_to.startswith("group:2@")


def test_what_is_remembered_has_a_bound():
    wire = connected(chat())
    for number in range(1, 601):
        wire.receive(said("user_message", number, "x", connection_id="them"), at=AT)
        wire.receive(said("response", 1000 + number, "x"), at=AT)
    assert len(wire._pairs._answers) == 256


@pytest.mark.parametrize("hours", [-11, 0, 5.75, 8, 14])
def test_local_times_are_made_utc(hours):
    local = AT + timedelta(hours=hours, milliseconds=-30)
    wire = connected(chat(), at=AT, stamp=local.replace(tzinfo=None).isoformat())
    spoken = (AT + timedelta(hours=hours, minutes=1)).replace(tzinfo=None).isoformat()
    (row,) = wire.receive(said("user_message", 1, "x", timestamp=spoken), at=AT + timedelta(minutes=1))
    assert row.at == AT + timedelta(minutes=1)


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-11-20T16:00:00+08:00"])
def test_times_that_tell_no_zone(stamp):
    wire = connected(chat(), stamp=stamp)
    (row,) = wire.receive(said("user_message", 1, "x"), at=AT)
    assert row.at == AT


def test_times_that_come_with_a_zone_or_from_nowhere():
    wire = connected(chat(), stamp="0001-01-01T00:00:00")
    (one,) = wire.receive(said("user_message", 1, "x", timestamp="2026-11-20T20:00:00+08:00"), at=AT)
    (two,) = wire.receive(said("user_message", 2, "x", timestamp="9999-12-31T00:00:00"), at=AT)
    assert (one.at, two.at) == (AT - timedelta(hours=4), AT)


def test_a_pong_says_nothing_but_the_time():
    wire = connected(chat(), stamp="")
    assert wire.receive('{"type": "pong", "timestamp": "2026-11-21T00:00:00"}', at=AT) == []
    (row,) = wire.receive(said("user_message", 1, "x", timestamp="2026-11-21T00:00:01"), at=AT)
    assert row.at == AT + timedelta(seconds=1)


def test_what_is_unknown_is_kept():
    wire = connected(chat())
    frame = '{"type": "waltz", "steps": 3}'
    one, two = wire.receive(frame, at=AT) + wire.receive(frame, at=AT)
    assert (one.type, one.raw, one.error) == ("platform.specific", {"type": "waltz", "steps": 3}, "")
    assert one.event_id != two.event_id


def test_a_broadcast_without_a_time():
    wire = connected(chat())
    one, two = (wire.receive('{"type": "broadcast", "message": null}', at=AT)[0] for _ in range(2))
    assert one.text == "null"
    assert one.event_id != two.event_id


def test_a_refusal_in_another_language_gets_one_try_with_a_fresh_token():
    wire = chat()
    (closing,) = wire.receive('{"type": "error", "message": "未授权"}', at=AT)
    assert (closing.verdict, str(closing.error)) == (Verdict.REAUTH, "the server refuses the chat: 未授权")
    wire.opening("fresh")
    assert wire.closing(1000, "") is Verdict.RETRY


def test_too_many_connections_may_pass():
    (closing,) = chat().receive('{"type": "error", "message": "Internal server error"}', at=AT)
    assert closing.verdict is Verdict.RETRY
    (closing,) = chat().receive('{"type": "error"}', at=AT)
    assert "no reason given" in str(closing.error)


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        "no json",
        "[1]",
        '{"type": 3}',
        '{"type": "response"}',
        '{"type": "response", "data": {"id": "two"}}',
        '{"type": "response", "data": {"id": true, "content": ""}}',
        '{"type": "response", "data": {"id": 1, "content": 3}}',
        '{"type": "response", "data": {"id": 1, "message_chain": {}, "is_final": "x"}}',
        '{"type": "user_message", "data": {"id": 1, "message_chain": "x"}}',
        "[" * 100_000,
    ],
)
def test_malformed_frames(frame):
    with pytest.raises(RemoteProtocolError):
        connected(chat()).receive(frame, at=AT)


def test_what_is_nested_too_deeply_is_malformed(monkeypatch):
    def too_deep(*_: object) -> object:
        raise RecursionError

    monkeypatch.setattr(langbot_module, "read_said", too_deep)
    with pytest.raises(RemoteProtocolError, match="deeply"):
        connected(chat()).receive(said("response", 1, "x"), at=AT)


@given(frame=st.text() | st.binary())
def test_junk_is_malformed_and_nothing_else(frame):
    with contextlib.suppress(RemoteProtocolError):
        connected(chat()).receive(frame, at=AT)


TEXTS = st.lists(st.text(max_size=8), min_size=1, max_size=6)


@given(texts=TEXTS)
def test_pieces_and_edits_make_up_the_final_text(texts):
    wire, shown = connected(chat()), ""
    for index, content in enumerate(texts):
        frame = said("response", 2, content, is_final=index == len(texts) - 1)
        for event in wire.receive(frame, at=AT):
            shown = shown + event.text if event.type == "message.delta" else event.text
    assert shown == texts[-1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
DATA = st.fixed_dictionaries(
    {"id": st.integers(0, 9) | JSON, "content": st.text() | JSON},
    optional={
        "message_chain": st.lists(JSON | st.fixed_dictionaries({"type": st.just("At"), "target": JSON}))
        | JSON,
        "timestamp": st.datetimes().map(datetime.isoformat) | JSON,
        "is_final": st.booleans() | JSON,
        "connection_id": st.sampled_from(["me", "them", ""]) | JSON,
        "role": JSON,
    },
)


@given(
    frames=st.lists(
        st.fixed_dictionaries(
            {
                "type": st.sampled_from(
                    ["connected", "user_message", "response", "pong", "broadcast", "error"]
                )
            },
            optional={"data": DATA | JSON, "timestamp": JSON, "message": JSON, "connection_id": JSON},
        ),
        max_size=8,
    )
)
def test_any_fields_give_events_or_an_error(frames):
    wire = chat()
    for frame in frames:
        with contextlib.suppress(RemoteProtocolError):
            wire.receive(json.dumps(frame), at=AT)


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("Request failed.", True),
        ("Agent runner not found: plugin:a/b/c", True),
        ("Request failed. Why?", False),
    ],
)
def test_known_failures(text, failed):
    assert is_failure(text) is failed
