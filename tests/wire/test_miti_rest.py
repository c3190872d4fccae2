"""REST answers: what counts as success, and what an error says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import ApiError, AuthError, RemoteProtocolError
from botbook.actions import HistoryItem, Sent
from botbook.wire.contract import Response, Token
from botbook.wire.miti_rest import answer, read_history, read_sent, read_token, refusal


def said(body, status: int = 200) -> Response:
    return Response(status, body if isinstance(body, bytes) else json.dumps(body).encode())


# ---------------------------------------------------------------------------- token


@pytest.mark.parametrize(
    ("data", "token"),
    [
        ({"token": "t", "expires_in": 7200}, Token("t", 7200.0)),
        ({"token": "t"}, Token("t", 7200.0)),
        ({"access_token": "t", "expires_in": 60.5}, Token("t", 60.5)),
        ({"token": "", "access_token": "t"}, Token("t", 7200.0)),
        ({"token": "t", "expires_in": None}, Token("t", 7200.0)),
        ({"token": "t", "expires_in": "7200"}, Token("t", 7200.0)),
        ({"token": "t", "expires_in": "soon"}, Token("t", 7200.0)),
        ({"token": "t", "expires_in": float("inf")}, Token("t", 7200.0)),
        ({"token": "t", "expires_in": 10**400}, Token("t", 7200.0)),
        ({"token": "t", "expires_in": -5}, Token("t", 0.0)),
    ],
)
def test_token(data, token):
    assert read_token(said({"errCode": 0, "data": data})) == token


@pytest.mark.parametrize(
    "body", [{"code": 0, "data": {"token": "t"}}, {"errCode": 0, "data": {"token": "t"}}]
)
@pytest.mark.parametrize("status", [200, 201, 299])
def test_any_2xx_with_code_0_is_success(body, status):
    assert read_token(said(body, status)).value == "t"


@pytest.mark.parametrize("data", [None, {}, [], {"expires_in": 5}, {"token": None}])
def test_no_token(data):
    with pytest.raises(RemoteProtocolError, match="gave no token"):
        read_token(said({"errCode": 0, "data": data}))


def test_the_token_of_a_strange_answer_does_not_show():
    with pytest.raises(RemoteProtocolError) as caught:
        read_token(said({"errCode": 0, "token": "s3cret"}))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"errCode": 10001, "errMsg": "app id not found"}, "app id not found"),
        ({"code": 10001, "message": "nope"}, "nope"),
        ({"code": 10001, "msg": "read too"}, "read too"),
        ({"errCode": 10001, "code": 0, "errMsg": None, "message": "second"}, "second"),
        ({"errCode": 10001}, "unknown error"),
    ],
)
def test_a_refused_app(body, text):
    with pytest.raises(AuthError, match=text) as caught:
        read_token(said(body))
    assert (caught.value.code, caught.value.status) == (10001, 200)
    assert "app id" in caught.value.hint


def test_another_code_keeps_the_common_hint():
    with pytest.raises(AuthError) as caught:
        read_token(said({"errCode": 10002, "errMsg": "wrong secret"}))
    assert caught.value.hint == AuthError.default_hint


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, AuthError), (401, AuthError), (403, AuthError), (404, ApiError), (429, ApiError), (503, ApiError)],
)
def test_only_some_statuses_speak_of_the_credentials(status, kind):
    with pytest.raises(ApiError) as caught:
        read_token(said(b"<html>no</html>", status))
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, status)
    assert "<html>no</html>" in str(caught.value)


# ---------------------------------------------------------------------------- every answer


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_success_that_is_no_object(body):
    with pytest.raises(RemoteProtocolError, match="no JSON object") as caught:
        read_sent(said(body))
    assert "base URL" in caught.value.hint


@pytest.mark.parametrize("body", [{}, {"errCode": None}, {"errCode": False}, {"errCode": 0.5}, {"data": {}}])
def test_an_answer_without_a_code(body):
    with pytest.raises(RemoteProtocolError, match="without a result code"):
        read_sent(said(body))


def test_a_code_as_text_is_an_error():
    with pytest.raises(ApiError) as caught:
        read_sent(said({"errCode": "0"}))
    assert caught.value.code == "0"


@pytest.mark.parametrize(
    ("status", "body", "code", "text", "hint"),
    [
        (401, {"errCode": 10003, "errMsg": "expired"}, 10003, "HTTP 401: expired", "Check the app id"),
        (403, {"errCode": 10012, "errMsg": "no permission"}, 10012, "no permission", "may not write"),
        (404, b"not here", 404, "HTTP 404: not here", "base URL"),
        (429, b"", 429, "HTTP 429", "fewer requests"),
        (500, b"x" * 300, 500, "x" * 200, ""),
        (503, {"errCode": 7, "errMsg": "later"}, 7, "later", "try again"),
        (307, b"", 307, "HTTP 307", "another address"),
    ],
)
def test_http_errors(status, body, code, text, hint):
    with pytest.raises(ApiError) as caught:
        read_sent(said(body, status))
    error = caught.value
    assert (error.code, error.status) == (code, status)
    assert text in str(error)
    assert hint in error.hint
    assert isinstance(error, AuthError) == (status == 401)
    assert len(str(error)) < 230


# ---------------------------------------------------------------------------- send and history


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        (
            {"message_id": "m", "server_time": "1767225600123"},
            Sent(message_id="m", server_time=1767225600123),
        ),
        ({"message_id": 7, "server_time": 1767225600123}, Sent(message_id="7", server_time=1767225600123)),
        ({"server_time": "soon"}, Sent()),
        (None, Sent()),
        ([], Sent()),
        ({}, Sent()),
    ],
)
def test_sent(data, sent):
    assert read_sent(said({"errCode": 0, "data": data})) == sent


def test_sent_without_data():
    assert read_sent(said({"errCode": 0})) == Sent()


def test_no_permission():
    with pytest.raises(ApiError, match=r"\[10012\] no permission") as caught:
        read_sent(said({"errCode": 10012, "errMsg": "no permission"}))
    assert "may not write there" in caught.value.hint


def test_a_mention_in_a_history_leaves_the_text_as_it_does_in_a_frame():
    content = {"text": "@Bot water the tomatoes", "atUserList": ["cli_x"]}
    (item,) = read_history(said({"errCode": 0, "data": {"messages": [{"role": "user", "content": content}]}}))
    assert item.text == "water the tomatoes"


def test_history():
    plain = {"role": "user", "content": {"text": "a"}}
    full = {
        "role": "assistant",
        "content": {"markdown": "b"},
        "sender_name": "Bo",
        "message_id": "m2",
        "user_id": "u2",
        "send_time": "1767225600123",
    }
    nested = {"role": 1, "content": "c", "sender": {"user_id": "u3", "name": "Cy"}}
    items = read_history(said({"errCode": 0, "data": {"messages": [plain, full, "junk", nested]}}))
    assert items == [
        HistoryItem(role="user", text="a", raw=plain),
        HistoryItem(
            role="assistant",
            text="b",
            sender_name="Bo",
            message_id="m2",
            user_id="u2",
            at_ms=1767225600123,
            own=True,
            raw=full,
        ),
        HistoryItem(role="1", text="c", sender_name="Cy", user_id="u3", raw=nested),
    ]


@pytest.mark.parametrize("data", [None, {}, {"messages": None}, {"messages": {}}, {"messages": []}])
def test_no_history(data):
    assert read_history(said({"errCode": 0, "data": data})) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["errCode", "code", "data", "messages", "token", "role"]), inner)
    ),
    max_leaves=10,
)
DATA = st.fixed_dictionaries({"errCode": st.just(0), "data": JSON})
BODIES = st.binary() | (JSON | DATA).map(lambda value: json.dumps(value).encode())


@given(st.sampled_from([read_token, read_sent, read_history]), st.integers(200, 599), BODIES)
def test_anything_gives_a_value_or_our_error(read, status, body):
    try:
        value = read(Response(status, body))
    except (ApiError, RemoteProtocolError):
        return
    assert isinstance(value, Token | Sent | list)


# ---------------------------------------------------------------------------- writing


def test_what_one_side_writes_the_other_reads():
    assert read_token(answer({"token": "t", "expires_in": 5})) == Token("t", 5.0)
    assert read_sent(answer(None, status=201)) == Sent()
    refused = refusal(10001, "no", status=400, headers={"retry-after": "3"})
    assert refused.headers["retry-after"] == "3"
    assert refused.headers["content-type"].startswith("application/json")
    with pytest.raises(AuthError, match="no"):
        read_token(refused)
