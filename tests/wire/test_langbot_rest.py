from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import (
    ApiError,
    AuthError,
    BotbookError,
    ConfigError,
    LocalProtocolError,
    NotSupported,
    RemoteProtocolError,
)
from botbook.messages import At, AtAll, Image, MessageChain, Plain, Unknown
from botbook.wire.contract import HttpRequest, Response, Token
from botbook.wire.langbot_bodies import (
    multipart,
    not_found_page,
    read_data,
    refusal,
    rows_of,
    success,
    token_life,
    uploaded,
)
from botbook.wire.langbot_frames import (
    Said,
    chain_text,
    decode,
    message,
    read_chain,
    read_message,
    read_said,
    said,
    write_chain,
)
from botbook.wire.langbot_rest import LangBotRest

FRAMES = Path(__file__).parent / "frames" / "langbot"
VERSIONS = ["4.10.1", "4.10.11", "4.11.2"]
REST = LangBotRest("http://127.0.0.1:5300/", workspace="w-1")


def answers(version: str, case: str, **like: Any) -> list[Response]:
    rows = [json.loads(line) for line in (FRAMES / f"{version}.jsonl").read_text().splitlines()]
    return [
        Response(row["status"], row["body"].encode(), {"content-type": row["type"]})
        for row in rows
        if row["case"] == case and row["dir"] == "rest" and like.items() <= row.items()
    ]


# ---------------------------------------------------------------------------- what real servers said


@pytest.mark.parametrize("version", VERSIONS)
def test_logging_in(version):
    (answer,) = answers(version, "login")
    assert REST.login("a", "b").read(answer) == Token("<token>", None)
    (refused,) = answers(version, "login-refused")
    with pytest.raises(AuthError, match="Invalid username or password") as failed:
        REST.login("a", "b").read(refused)
    assert (failed.value.code, failed.value.status) == (1, 200)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("auth", ["api_key", "bad", "none"])
def test_a_token_that_is_refused(version, auth):
    (answer,) = answers(version, "check-token", auth=auth)
    with pytest.raises(AuthError) as failed:
        REST.check_token("x").read(answer)
    assert failed.value.status == 401
    assert failed.value.hint


@pytest.mark.parametrize(("version", "known"), [("4.10.1", 0), ("4.10.11", 1), ("4.11.2", 1)])
def test_the_workspace_is_found_on_the_way_to_a_token(version, known):
    rest = LangBotRest("http://127.0.0.1:5300")
    (login,) = answers(version, "login")
    step = rest.login("a", "b").read(login)
    assert isinstance(step, HttpRequest)
    assert step.headers == {"Authorization": "Bearer <token>"}
    (spaces,) = answers(version, "workspaces")
    assert step.read(spaces) == Token("<token>")
    assert len(rest.workspace) == 36 * known


@pytest.mark.parametrize("version", VERSIONS)
def test_a_page_is_no_answer(version):
    (page,) = answers(version, "page")
    with pytest.raises(RemoteProtocolError, match="page") as failed:
        REST.info().read(page)
    assert "base URL" in failed.value.hint
    for unknown in answers(version, "unknown-path"):
        with pytest.raises(NotSupported, match="langbot has no info"):
            REST.info().read(unknown)


@pytest.mark.parametrize("version", VERSIONS)
def test_info_pipelines_and_connections(version):
    assert REST.info().read(answers(version, "info")[0])["version"] == f"v{version}"
    names = [row["name"] for row in REST.pipelines().read(answers(version, "pipelines")[0])]
    assert "lab" in names
    assert REST.connections("p").read(answers(version, "connections")[0])["stats"]["total_connections"] == 1
    assert "Broadcast" in REST.broadcast("p", 1).read(answers(version, "broadcast")[0])["message"]
    assert "reset" in REST.reset("p", "person").read(answers(version, "reset")[0])["message"]
    with pytest.raises(ApiError, match="pipeline not found"):
        REST.pipelines().read(answers(version, "pipeline-unknown")[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_uploads(version):
    key = REST.upload_image("dot.png", b"x").read(answers(version, "upload")[0])
    assert key.endswith(".png")
    assert REST.upload_document("a.txt", b"x").read(answers(version, "upload-document")[0]).endswith(".txt")
    with pytest.raises(ApiError, match="Invalid image format") as failed:
        REST.upload_image("dot.png", b"x").read(answers(version, "upload-refused")[0])
    assert failed.value.code == 400


def test_running_without_a_socket():
    assert REST.run("p", "hello").read(answers("4.11.2", "run")[0])["reply"] == "You said: hello run"
    for version in VERSIONS[:2]:
        with pytest.raises(NotSupported, match="run"):
            REST.run("p", "hello").read(answers(version, "run")[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_rating_a_page(version):
    *taken, refused = answers(version, "embed-feedback")
    assert all(REST.page_feedback("b", 2, 1).read(answer).startswith("embed_") for answer in taken)
    with pytest.raises(ApiError, match="feedback_type must be"):
        REST.page_feedback("b", 2, 9).read(refused)


# ---------------------------------------------------------------------------- requests


@pytest.mark.parametrize(
    ("request_", "method", "path", "json_", "repeatable"),
    [
        (REST.info(), "GET", "/api/v1/system/info", None, True),
        (REST.run("p/1", "x"), "POST", "/api/v1/pipelines/p%2F1/run", {"message": "x"}, False),
        (REST.reset("p", "person"), "POST", "/api/v1/pipelines/p/ws/reset/person", None, True),
        (REST.broadcast("p", [1]), "POST", "/api/v1/pipelines/p/ws/broadcast", {"message": [1]}, False),
        (
            REST.page_reset("b", "s 1", "person"),
            "POST",
            "/api/v1/embed/b/reset/person?session_id=s%201",
            None,
            True,
        ),
        (
            REST.send_message("b", "person", "u", [{"type": "Plain", "text": "x"}]),
            "POST",
            "/api/v1/platform/bots/b/send_message",
            {"target_type": "person", "target_id": "u", "message_chain": [{"type": "Plain", "text": "x"}]},
            False,
        ),
    ],
)
def test_requests(request_, method, path, json_, repeatable):
    assert request_.url == "http://127.0.0.1:5300" + path
    assert (request_.method, request_.json, request_.repeatable) == (method, json_, repeatable)
    assert request_.headers == ({"X-Workspace-Id": "w-1"} if request_.authorised else {})


def test_a_file_is_a_form():
    request = REST.upload_image('a"\r\n/b.png', b"\x89PNG\r\n--x")
    assert request.json is None
    assert uploaded(request.body, request.headers["Content-Type"]) == ("a____b.png", b"\x89PNG\r\n--x")
    assert request.headers["X-Workspace-Id"] == "w-1"
    assert "PNG" not in repr(request)


@given(name=st.text(max_size=20), data=st.binary(max_size=80))
def test_any_file_survives_the_form(name, data):
    assert uploaded(*multipart(name, data))[1] == data


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", ""), (b"x", "multipart/form-data; boundary=b"), (b"a\r\n\r\nb\r\n--b--", "m; boundary=b")],
)
def test_a_form_without_a_file(body, kind):
    with pytest.raises(RemoteProtocolError):
        uploaded(body, kind)


def test_files_that_are_not_taken():
    with pytest.raises(LocalProtocolError, match="no picture") as failed:
        REST.upload_image("a.exe", b"")
    assert "png" in failed.value.hint
    with pytest.raises(LocalProtocolError, match="bytes"):
        REST.upload_document("a.txt", bytes(10 * 2**20 + 1))


# ---------------------------------------------------------------------------- odd answers


def jwt(claims: Any) -> str:
    return f"e.{urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"


NOON = {"date": "Fri, 20 Nov 2026 12:00:00 GMT"}


@pytest.mark.parametrize(
    ("token", "headers", "life"),
    [
        (jwt({"exp": 1795176000 + 90}), NOON, 90.0),
        (jwt({"exp": 1795176000 - 90}), NOON, None),
        (jwt({"exp": 1795176000}), {}, None),
        (jwt({"exp": 1795176000}), {"date": "soon"}, None),
        (jwt({}), NOON, None),
        (jwt([]), NOON, None),
        (jwt({"exp": None}), NOON, None),
        ("lbk_key", NOON, None),
        ("a.ü.c", NOON, None),
    ],
)
def test_how_long_a_token_lives(token, headers, life):
    assert token_life(token, headers) == life


@given(token=st.text(), date=st.text())
def test_any_token_has_a_life_or_none(token, date):
    assert token_life(f"a.{token}", {"date": date}) is None or token


@pytest.mark.parametrize("data", [None, {}, {"token": ""}, {"token": 3}, []])
def test_a_login_without_a_token(data):
    with pytest.raises(RemoteProtocolError, match="gave no token"):
        REST.login("a", "b").read(success(data))


def test_a_login_that_fails_for_another_reason():
    with pytest.raises(ApiError) as failed:
        REST.login("a", "b").read(refusal(500, "internal_error", "Internal server error"))
    assert not isinstance(failed.value, AuthError)
    with pytest.raises(AuthError) as failed:
        REST.login("a", "b").read(refusal(401, "totp_required", "TOTP required"))
    assert "one-time code" in failed.value.hint


def test_several_workspaces_want_a_choice():
    rest = LangBotRest("http://127.0.0.1:5300")
    rows = [{"uuid": "one"}, {"uuid": "two"}, {"name": "odd"}]
    with pytest.raises(ConfigError, match="2 workspaces") as failed:
        rest.workspaces(Token("t")).read(success({"workspaces": rows}))
    assert "one, two" in failed.value.hint
    assert rest.workspaces(Token("t")).read(success({"workspaces": []})) == Token("t")


@pytest.mark.parametrize(
    ("response", "error", "text"),
    [
        (Response(502, b"<html>bad gateway"), ApiError, "HTTP 502"),
        (Response(401, b"nope"), AuthError, "HTTP 401: nope"),
        (Response(200, b"[1]"), RemoteProtocolError, "a page"),
        (Response(200, b"[" * 100_000), RemoteProtocolError, "a page"),
        (Response(404, b""), NotSupported, "call"),
        (Response(200, b'{"code": false, "data": 1}'), ApiError, "no reason"),
        (Response(200, b'{"code": [1], "msg": 3}'), ApiError, "[200] no reason"),
        (Response(500, b'{"code": 0}'), ApiError, "[0]"),
        (not_found_page(405), NotSupported, "call"),
        (refusal(403, "permission_denied", "no"), ApiError, "permission_denied"),
        (refusal(200, 1, "System already initialized"), ApiError, "already"),
    ],
)
def test_answers_that_are_no_success(response, error, text):
    with pytest.raises(error) as failed:
        read_data(response)
    assert text in str(failed.value)


@given(status=st.sampled_from([200, 201, 400, 401, 404, 500]), body=st.binary() | st.text().map(str.encode))
def test_any_answer_is_data_or_a_clear_error(status, body):
    try:
        read_data(Response(status, body))
    except BotbookError as error:
        assert str(error)  # noqa: PT017 (either way is right)


def test_rows_are_objects():
    assert rows_of([{"a": 1}, 2]) == [{"a": 1}]
    for data, key in (({}, "rows"), (None, "rows"), ({}, "")):
        with pytest.raises(RemoteProtocolError, match="without its list"):
            rows_of(data, key)


# ---------------------------------------------------------------------------- the other side


def test_what_one_side_writes_the_other_reads():
    what = Said(number=3, role="user", content="x", components=({"type": "AtAll"},), timestamp="t")
    assert read_said(said(what), "") == what
    components = [{"type": "Plain", "text": "x"}]
    assert read_message(decode(message(components)), "") == (components, True)
    assert read_message(decode(message(components, stream=False)), "") == (components, False)
    assert decode('{"message": []}')["type"] == "message"


@pytest.mark.parametrize("value", [{}, {"message": "text"}, {"message": [1]}, {"message": [{"text": "x"}]}])
def test_a_message_that_is_no_list_of_components(value):
    with pytest.raises(RemoteProtocolError):
        read_message(value, json.dumps(value))


def test_components_both_ways():
    known = MessageChain(
        [
            Plain(text="a"),
            At(target="u", display="U"),
            AtAll(),
            Image(url="k.png", mime_type="image/png"),
            Unknown(raw={"type": "Face", "id": 1}),
        ]
    )
    assert read_chain(write_chain(known)) == known
    assert write_chain([Unknown(raw="odd")]) == [{"type": "Unknown"}]
    odd = [3, {"type": "Plain"}, {"type": "At"}]
    assert [part.raw for part in read_chain(odd)] == odd


@pytest.mark.parametrize(
    ("item", "where", "kind"),
    [
        ({"url": "http://h/a.webp", "path": "b"}, "http://h/a.webp", "image/webp"),
        ({"path": "v1/k.GIF"}, "v1/k.GIF", "image/gif"),
        ({"base64": "data:image/png;base64,AA"}, "data:image/png;base64,AA", "image/png"),
        ({"base64": "data:,AA"}, "data:,AA", "image/jpeg"),
        ({"url": 3}, "", "image/jpeg"),
    ],
)
def test_pictures(item, where, kind):
    (picture,) = read_chain([{"type": "Image", **item}])
    assert picture == Image(url=where, mime_type=kind)


@pytest.mark.parametrize("version", VERSIONS)
def test_content_is_how_the_server_shows_components(version):
    rows = [json.loads(line) for line in (FRAMES / f"{version}.jsonl").read_text().splitlines()]
    shown = 0
    for row in rows:
        if row["dir"] == "in" and row["case"] in ("short", "group", "image"):
            data = json.loads(row["frame"]).get("data")
            if data:
                shown += 1
                assert chain_text(data["message_chain"]) == data["content"]
    assert shown > 5
    assert chain_text([{"type": "AtAll"}]) == "@all"


def test_an_upload_that_gives_no_key():
    with pytest.raises(RemoteProtocolError, match="without its file_key"):
        REST.upload_image("a.png", b"").read(success({}))
