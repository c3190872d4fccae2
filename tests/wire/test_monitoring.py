from __future__ import annotations

import itertools
import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import ApiError, AuthError, NotSupported, RemoteProtocolError
from botbook.wire import monitoring as monitoring_module
from botbook.wire.contract import HttpRequest, Response
from botbook.wire.langbot_bodies import not_found_page, refusal, success
from botbook.wire.langbot_rest import LangBotRest
from botbook.wire.monitoring import Era, Page, Resources, empty_notice, windows
from botbook.wire.monitoring_feedback import feedback_changes
from botbook.wire.monitoring_rows import (
    normal_session,
    raw_session,
    read_row,
    read_rows,
    soft_json,
    utc_time,
)
from botbook.wire.monitoring_tables import TABLES

FRAMES = Path(__file__).parent / "frames" / "langbot"
VERSIONS = ["4.10.1", "4.10.11", "4.11.2"]
AT = datetime(2026, 11, 20, 16, 30, tzinfo=UTC)
SERVER = Resources(LangBotRest("http://127.0.0.1:5300"))


def answers(version: str, case: str, **like: Any) -> list[Response]:
    rows = [json.loads(line) for line in (FRAMES / f"{version}.jsonl").read_text().splitlines()]
    return [
        Response(row["status"], row["body"].encode(), {"content-type": row["type"]})
        for row in rows
        if row["case"] == case and row["dir"] == "rest" and like.items() <= row.items()
    ]


def drive(flow: Generator[HttpRequest, Any, Any], *values: Any) -> tuple[Any, list[HttpRequest]]:
    """Run a flow to its end on answers already read; what it returned, and what it asked."""
    asked, given_values = [next(flow)], iter(values)
    while True:
        try:
            asked.append(flow.send(next(given_values)))
        except StopIteration as end:
            return end.value, asked


def query(request: HttpRequest) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(request.url).query)


# ---------------------------------------------------------------------------- what real servers said

LISTS = {
    "messages": "monitoring-messages",
    "llm_calls": "monitoring-llm-calls",
    "tool_calls": "monitoring-tool-calls",
    "embedding_calls": "monitoring-embedding-calls",
    "sessions": "monitoring-sessions",
    "errors": "monitoring-errors",
    "feedback": "monitoring-feedback",
    "executions": "monitoring-executions",
}
CHECKS = {
    "text": str,
    "int": int,
    "float": float,
    "bool": bool,
    "time": datetime,
    "session": str,
    "json": object,
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", LISTS)
def test_every_list_of_every_version(version, name):
    response = answers(version, LISTS[name], auth="token")[0]
    if response.status == 404:
        with pytest.raises(NotSupported, match=f"langbot has no {name}") as failed:
            SERVER.page(name).read(response)
        assert f"LangBot {TABLES[name].since};" in failed.value.hint
        return
    page = SERVER.page(name).read(response)
    assert page.total >= len(page.rows)
    for row in page.rows:
        assert list(row)[: len(TABLES[name].columns)] == list(TABLES[name].columns)
        for column, kind in TABLES[name].columns.items():
            assert row[column] is None or isinstance(row[column], CHECKS[kind]), column
            assert kind != "time" or row[column] is None or row[column].tzinfo is UTC
        assert not str(row.get("session_id")).startswith("LauncherTypes")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", LISTS)
def test_what_an_api_key_may_read(version, name):
    response = answers(version, LISTS[name], auth="api_key")[0]
    if version == "4.11.2" and TABLES[name].api_key:
        assert SERVER.page(name).read(response).rows is not None
    else:
        with pytest.raises((AuthError, NotSupported)) as failed:
            SERVER.page(name).read(response)
        assert failed.value.hint


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_are_read_to_their_text(version):
    rows = SERVER.page("messages").read(answers(version, "monitoring-messages", auth="token")[0]).rows
    said = {row["role"]: row for row in reversed(rows)}
    assert said["assistant"]["text"].startswith("You said: ")
    assert said["user"]["components"][-1]["type"] == "Plain"
    assert said["user"]["session_id"].startswith("person_websocket_")
    assert said["user"]["variables"] is None or said["user"]["variables"]["launcher_type"] == "person"
    assert ("workspace_uuid" in rows[0]) is (version != "4.10.1")


@pytest.mark.parametrize("version", VERSIONS)
def test_feedback_reasons_are_a_list(version):
    rows = SERVER.page("feedback").read(answers(version, "monitoring-feedback", auth="token")[0]).rows
    wecom = next(row for row in rows if row["bot_name"] == "wecom")
    assert wecom["inaccurate_reasons"] == ["2", "4"]
    assert (wecom["feedback_type"], wecom["session_id"]) == (2, "person_bob")
    assert wecom["feedback_content"] == "not what I asked"


@pytest.mark.parametrize("version", VERSIONS)
def test_sums(version):
    assert SERVER.overview().read(answers(version, "monitoring-overview")[0])["total_messages"] > 10
    assert (
        SERVER.feedback_stats().read(answers(version, "monitoring-feedback/stats")[0])["total_dislikes"] > 1
    )
    assert SERVER.box_status().read(answers(version, "box-status")[0])["available"] is False
    tokens = SERVER.token_statistics(bucket="hour", since=AT, until=AT)
    assert ("bucket", "hour") in query(tokens)
    if version == "4.10.1":
        with pytest.raises(NotSupported, match="token_statistics"):
            tokens.read(answers(version, "monitoring-token-statistics")[0])
        return
    read = tokens.read(answers(version, "monitoring-token-statistics")[0])
    (model,) = read["by_model"]
    assert (model["model_name"], model["total_tokens"]) == ("fake-chat", read["summary"]["total_tokens"])
    assert read["timeseries"][0]["bucket"] == AT.replace(minute=0)


@pytest.mark.parametrize("version", VERSIONS)
def test_resources(version):
    bots = SERVER.bots().read(answers(version, "bots")[0])
    assert {"page", "wecom"} <= {bot["name"] for bot in bots}
    assert bots[0]["created_at"].tzinfo is UTC
    assert bots[0]["enable"] is True
    logs = drive(SERVER.logs("b", limit=4), read_of(SERVER._log_page("b", -1, 5), version, "bot-logs"))[0]
    assert logs[0]["timestamp"].year == 2026
    for request, case in (
        (SERVER.box_sessions(), "box-sessions"),
        (SERVER.box_errors(), "box-errors"),
        (SERVER.knowledge_bases(), "knowledge"),
    ):
        assert request.read(answers(version, case)[0]) == []
    with pytest.raises(ApiError):
        SERVER.retrieve("b", "milk").read(answers(version, "retrieve-unknown")[0])


def read_of(request: HttpRequest, version: str, case: str) -> Any:
    return request.read(answers(version, case)[0])


def test_extensions():
    (plugin,) = read_of(SERVER.extensions(), "4.11.2", "extensions")
    assert (plugin["type"], plugin["name"], plugin["status"]) == ("plugin", "labs/relay", "initialized")
    rows = read_rows(
        "extensions",
        [
            {"type": "mcp", "server": {"name": "files", "enable": True, "status": "connected"}},
            {"type": "skill", "skill": {"display_name": "Reports"}},
            {"type": "waltz"},
            {"type": ["odd"]},
            {"plugin": {"manifest": "odd"}},
            {},
        ],
    )
    assert [(row["type"], row["name"]) for row in rows] == [
        ("mcp", "files"),
        ("skill", "Reports"),
        ("waltz", ""),
        ('["odd"]', ""),
        ("plugin", ""),
        ("", ""),
    ]
    assert rows[0]["enabled"] is True


@pytest.mark.parametrize("version", VERSIONS)
def test_details_and_analysis(version):
    assert read_of(SERVER.details("m"), version, "monitoring-details")["message"]["role"] == "assistant"
    with pytest.raises(ApiError):
        SERVER.details("nope").read(answers(version, "monitoring-details-unknown")[0])
    found = SERVER._found("x", "x").read(answers(version, "monitoring-analysis")[0])
    assert drive(SERVER.session_analysis("person_a"), None, found)[0]["llm_stats"]["total_calls"] == 1
    nothing, asked = drive(SERVER.session_analysis("person_a:b"), None, None)
    assert nothing is None
    assert [urlsplit(request.url).path for request in asked] == [
        "/api/v1/monitoring/sessions/person_a%3Ab/analysis",
        "/api/v1/monitoring/sessions/LauncherTypes.PERSON_a%3Ab/analysis",
    ]


@pytest.mark.parametrize(
    ("version", "workspaces", "executions"),
    [("4.10.1", False, False), ("4.10.11", True, False), ("4.11.2", True, True)],
)
@pytest.mark.parametrize("auth", ["token", "api_key"])
def test_versions_are_told_apart_by_what_they_have(version, workspaces, executions, auth):
    flow = SERVER.era()
    info = next(flow).read(answers(version, "info")[0])
    spaces = flow.send(info).read(answers(version, "workspaces")[0])
    request = flow.send(spaces)
    with pytest.raises(StopIteration) as end:
        flow.send(request.read(answers(version, "monitoring-executions", auth=auth)[0]))
    assert end.value.value == Era(version=f"v{version}", workspaces=workspaces, executions=executions)
    assert drive(SERVER.era(), None, True, True)[0].version == ""


# ---------------------------------------------------------------------------- paging


def page(*ids: str, total: int | None = None) -> Page:
    return Page(
        rows=[read_row("messages", {"id": i, "timestamp": "2026-11-20T10:00:00"}) for i in ids], total=total
    )


def test_pages_until_the_end_and_no_row_twice():
    rows, asked = drive(
        SERVER.rows("messages", page_rows=2),
        page("a", "b", total=5),
        page("b", "c", total=5),
        page("d", total=5),
    )
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]
    assert [dict(query(request))["offset"] for request in asked] == ["0", "2", "4"]


def test_an_empty_page_ends_it():
    assert drive(SERVER.rows("messages"), page("a"), page())[0][0]["id"] == "a"


def test_a_limit_asks_for_no_more():
    rows, asked = drive(
        SERVER.rows("messages", limit=3, page_rows=2), page("a", "b", total=9), page("c", total=9)
    )
    assert len(rows) == 3
    assert [dict(query(request))["limit"] for request in asked] == ["2", "1"]


def test_a_limit_holds_over_windows():
    flow = SERVER.rows("messages", limit=1, since=AT - timedelta(days=500), until=AT)
    assert len(drive(flow, page("a", total=9))[0]) == 1


def test_long_times_go_by_windows():
    rows, asked = drive(
        SERVER.rows("messages", since=AT - timedelta(days=500), until=AT),
        page("a", total=1),
        page("b", total=1),
    )
    assert [row["id"] for row in rows] == ["a", "b"]
    times = [(dict(query(r))["startTime"], dict(query(r))["endTime"]) for r in asked]
    assert times == [
        ("2025-11-21T16:30:00.000000Z", "2026-11-20T16:30:00.000000Z"),
        ("2025-07-08T16:30:00.000000Z", "2025-11-21T16:29:59.999999Z"),
    ]


@given(
    start=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    days=st.floats(-3, 3000),
)
def test_windows_cover_a_time_once(start, days):
    since = start.replace(tzinfo=UTC)
    until = since + timedelta(days=days)
    cut = list(windows(since, until))
    assert all(timedelta() <= end - begin <= timedelta(days=364) for begin, end in cut)
    assert all(a[0] - b[1] == timedelta(microseconds=1) for a, b in itertools.pairwise(cut))
    assert (cut[-1][0], cut[0][1]) == (since, until) if until >= since else cut == []


def test_very_long_lists_go_on_from_the_oldest_row(monkeypatch):
    monkeypatch.setattr(monitoring_module, "_LAST_OFFSET", 2)
    rows, asked = drive(
        SERVER.rows("messages", page_rows=2, until=AT),
        page("a", "b", total=9),
        page("b", "c", total=9),
        page("b", "c", total=9),
    )
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    last = dict(query(asked[-1]))
    assert (last["offset"], last["endTime"]) == ("0", "2026-11-20T10:00:00.000000Z")


def test_sessions_of_two_bots_are_two():
    rows = [read_row("sessions", {"session_id": "person_a", "bot_id": bot}) for bot in ("x", "y", "x")]
    assert len(drive(SERVER.rows("sessions"), Page(rows=rows, total=3))[0]) == 2


def test_filters():
    request = SERVER.page(
        "messages", bots=["b1", "b2"], pipelines=["p"], where={"sessionId": ["person_a", "x:y"], "k": "v"}
    )
    assert query(request)[2:] == [
        ("botId", "b1"),
        ("botId", "b2"),
        ("pipelineId", "p"),
        ("sessionId", "person_a"),
        ("sessionId", "x:y"),
        ("k", "v"),
    ]


@pytest.mark.parametrize("total", [None, "7", True])
def test_a_total_that_is_none(total):
    assert SERVER.page("messages").read(success({"messages": [], "total": total})).total is None


def log(*numbers: int) -> list[dict[str, Any]]:
    return read_rows("logs", [{"seq_id": n, "text": "x", "timestamp": 1795190679} for n in numbers])


def test_logs_go_back_to_the_first():
    rows, asked = drive(SERVER.logs("b/1", limit=100), log(2, 3, 4), log(0, 1))
    assert [row["seq_id"] for row in rows] == [4, 3, 2, 1, 0]
    assert asked[0].url.endswith("/api/v1/platform/bots/b%2F1/logs")
    assert [request.json for request in asked] == [
        {"from_index": -1, "max_count": 50},
        {"from_index": 1, "max_count": 50},
    ]


def test_logs_that_repeat_themselves_or_have_no_numbers_end():
    assert len(drive(SERVER.logs("b"), log(7, 8), log(7, 8))[0]) == 2
    assert len(drive(SERVER.logs("b"), read_rows("logs", [{"text": "x"}]))[0]) == 1
    assert drive(SERVER.logs("b"), log())[0] == []


def test_knowledge():
    request = SERVER.retrieve("b", "milk", settings={"top_k": 3})
    assert request.json == {"query": "milk", "retrieval_settings": {"top_k": 3}}
    found = {
        "id": "1",
        "content": [{"type": "text", "text": "Cats like milk"}, 3],
        "distance": 0.5,
        "score": 1,
    }
    (row,) = request.read(success({"results": [found]}))
    assert (row["text"], row["distance"], row["score"]) == ("Cats like milk", 0.5, 1.0)
    assert read_row("retrieved", {"content": "odd"})["text"] == ""
    files = SERVER.knowledge_files("b/c")
    assert files.url.endswith("/api/v1/knowledge/bases/b%2Fc/files")
    (file,) = files.read(success({"files": [{"uuid": "u", "status": "completed", "created_at": None}]}))
    assert file["status"] == "completed"
    assert SERVER.add_file("b", "f").json == {"file_id": "f"}


@pytest.mark.parametrize("name", TABLES)
def test_an_empty_list_says_so(name):
    notice = empty_notice(name)
    assert notice.startswith("LangBot is well and has no ")
    assert "_" not in notice


def test_what_is_no_list_is_a_protocol_error():
    with pytest.raises(RemoteProtocolError):
        SERVER.page("messages").read(success([]))


def test_a_probe_of_a_broken_server():
    flow = SERVER.era()
    next(flow)
    request = flow.send(None)
    assert request.read(refusal(500, -2, "boom")) is True
    assert request.read(not_found_page()) is False
    with pytest.raises(RemoteProtocolError):
        request.read(Response(200, b"<html>"))


# ---------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ('["2"]', ["2"]),
        ('{"a": 1}', {"a": 1}),
        ('"x"', "x"),
        ("Error: x", "Error: x"),
        ("[Image]", "[Image]"),
        ("[" * 100_000, "[" * 100_000),
        (None, None),
        ([1], [1]),
        ("", ""),
    ],
)
def test_soft_json(value, read):
    assert soft_json(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("2026-11-20T16:30:00", AT),
        ("2026-11-20T16:30:00.000001", AT + timedelta(microseconds=1)),
        ("2026-11-21T00:30:00+08:00", AT),
        ("2026-11-20T16:30:00Z", AT),
        ("2026-11-20 16:30", AT),
        (AT.timestamp(), AT),
        (int(AT.timestamp() * 1000), AT),
        ("", None),
        ("yesterday", None),
        (True, None),
        (None, None),
        (float("nan"), None),
        (1e300, None),
        (10**400, None),
        ("0001-01-01T00:00:00+08:00", None),
    ],
)
def test_times_are_utc(value, read):
    assert utc_time(value) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("LauncherTypes.PERSON_websocket_A", "person_websocket_A"),
        ("LauncherTypes.GROUP_30003", "group_30003"),
        ("person_bob", "person_bob"),
        (None, None),
    ],
)
def test_session_names(value, read):
    assert normal_session(value) == read
    assert read is None or normal_session(raw_session(read)) == read


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(name=st.sampled_from(sorted(TABLES)), data=st.data())
def test_any_row_is_read(name, data):
    keys = st.sampled_from([*TABLES[name].columns, "created_at_ms", "plugin", "server", "type", "other"])
    raw = data.draw(st.dictionaries(keys, JSON))
    row = read_row(name, raw)
    assert list(row)[: len(TABLES[name].columns)] == list(TABLES[name].columns)
    for column, kind in TABLES[name].columns.items():
        assert kind == "json" or row[column] is None or isinstance(row[column], CHECKS[kind])


# ---------------------------------------------------------------------------- feedback


def rating(ident: str, kind: int, minute: int = 0, **more: Any) -> dict[str, Any]:
    return read_row(
        "feedback",
        {
            "feedback_id": ident,
            "feedback_type": kind,
            "timestamp": f"2026-11-20T16:{minute:02}:00",
            "session_id": "LauncherTypes.PERSON_ann",
            "user_id": "ann",
            "message_id": "m",
            "stream_id": "q",
            **more,
        },
    )


def test_ratings_come_change_and_go():
    first, seen = feedback_changes(
        {}, [rating("f1", 1), rating("f2", 2, inaccurate_reasons='["2", 4]')], at=AT
    )
    assert [(e.feedback_id, e.feedback_type, e.feedback_reasons) for e in first] == [
        ("f1", 1, ()),
        ("f2", 2, ("2", "4")),
    ]
    assert (first[0].chat_id, first[0].chat_type, first[0].reply_to) == ("person_ann", "private", "q")
    assert first[0].at == AT.replace(minute=0)
    same, seen = feedback_changes(seen, list(seen.values()), at=AT)
    assert same == []
    changed, seen = feedback_changes(seen, [rating("f1", 2, minute=5)], at=AT)
    assert [(e.feedback_id, e.feedback_type, e.at.minute) for e in changed] == [("f1", 2, 5), ("f2", 3, 30)]
    assert list(seen) == ["f1"]


def test_a_cancel_has_the_same_id_at_every_poll():
    before = {"f": rating("f", 1)}
    one, _ = feedback_changes(before, [], at=AT)
    two, _ = feedback_changes(before, [], at=AT + timedelta(minutes=1))
    assert one[0].event_id == two[0].event_id


def test_what_grew_too_old_is_not_cancelled():
    before = {"old": rating("old", 1, minute=1), "odd": rating("odd", 1, timestamp=None)}
    assert feedback_changes(before, [], at=AT, since=AT.replace(minute=2))[0] == []
    assert len(feedback_changes(before, [], at=AT, since=AT.replace(minute=1))[0]) == 1


def test_a_rating_with_nothing_in_it():
    bare = read_row("feedback", {"feedback_id": "f", "session_id": "group_1"})
    (event,), _ = feedback_changes({}, [bare, read_row("feedback", {})], at=AT)
    assert (event.at, event.feedback_type, event.chat_type, event.text) == (AT, None, "group", "")
    (event,), _ = feedback_changes({}, [read_row("feedback", {"feedback_id": "f"})], at=AT)
    assert event.chat_type == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_recorded_ratings(version):
    rows = SERVER.page("feedback").read(answers(version, "monitoring-feedback", auth="token")[0]).rows
    events, seen = feedback_changes({}, rows, at=AT)
    assert len({e.event_id for e in events}) == len(events) == len(rows) > 2
    assert [e.at for e in events] == sorted(e.at for e in events)
    cancels, _ = feedback_changes(seen, [], at=AT)
    assert {e.feedback_type for e in cancels} == {3}
    assert json.loads(cancels[0].raw_json)["feedback_id"] == cancels[0].feedback_id


def test_logs_by_limit():
    rows, asked = drive(SERVER.logs("b", limit=2), log(7, 8))
    assert ([row["seq_id"] for row in rows], asked[0].json["max_count"]) == ([8, 7], 2)
