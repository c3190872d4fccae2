"""One body over all chat wires: what `botbook.wire.contract.Wire` promises."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import NotSupported, RemoteProtocolError
from botbook.actions import (
    Abandon,
    Action,
    AnswerCompleted,
    AnswerDelta,
    AnswerFailed,
    AnswerStarted,
    Ask,
    History,
    Native,
    Run,
    Send,
)
from botbook.events import Event
from botbook.wire.agent import AgentWire
from botbook.wire.contract import Ack, Closing, HttpRequest, Opening, Ready, Verdict, Wire
from botbook.wire.langbot import LangBotWire
from botbook.wire.miti import MitiWire

FRAMES = Path(__file__).parent / "frames"
AT = datetime(2026, 11, 20, 16, 0, tzinfo=UTC)
RUN = Run(run_id="r", message_id="m", to="user:u", asker="u", chat_id="c", question_id="q")
ACTIONS: list[Action] = [
    Ask(id="a1", text="hello"),
    Abandon(id="a2", ask_id="a1"),
    Send(id="a3", to="user:u", text="hello"),
    History(id="a4", chat_id="person:p"),
    AnswerStarted(id="a5", run=RUN),
    AnswerDelta(id="a6", run=RUN, seq=1, text="x"),
    AnswerCompleted(id="a7", run=RUN, seq=2, text="x"),
    AnswerFailed(id="a8", run=RUN),
    Native(id="a9", body={"x": 1}),
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A wire, what was recorded of its gateway, and what it does with codes."""

    name: str
    make: Callable[[], Wire]
    recorded: str
    first: tuple[str, ...] = ()
    unknown: str = '{"type": "waltz", "steps": 3}'
    fatal: frozenset[int] = field(default=frozenset())
    reauth: frozenset[int] = field(default=frozenset())


CASES = [
    Case(
        name="miti",
        make=lambda: MitiWire(base_url="https://gateway.example/chat", app_id="cli_1", app_secret="s3cret"),
        recorded="miti/events.jsonl",
        unknown='{"header": {"event_type": "waltz", "event_id": "e"}, "event": {"steps": 3}}',
        reauth=frozenset({401, 403, 1008, 3000}),
    ),
    Case(
        name="agent",
        make=lambda: AgentWire(base_url="ws://127.0.0.1:8000", chat_id=3),
        recorded="agent/*.jsonl",
        first=('{"type": "STATUS"}',),
        fatal=frozenset({400, 401, 404}),
    ),
    Case(
        name="langbot",
        make=lambda: LangBotWire(base_url="http://127.0.0.1:5300", pipeline="p", password="s3cret", user="u"),
        recorded="langbot/*.jsonl",
        first=('{"type": "connected", "connection_id": "c", "timestamp": "2026-11-20T16:00:00"}',),
        fatal=frozenset({400, 404}),
        reauth=frozenset({401, 403}),
    ),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def opened(case: Case) -> Wire:
    wire = case.make()
    wire.opening("token")
    for frame in case.first:
        assert wire.receive(frame, at=AT) == [Ready()]
    return wire


def recorded(case: Case) -> list[str]:
    """Frames that a gateway sent; some files hold both directions and mark them."""
    frames = []
    for path in sorted(FRAMES.glob(case.recorded)):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            if row.get("dir", "in") == "in":
                frame = row["frame"]
                frames.append(frame if isinstance(frame, str) else json.dumps(frame))
    return frames


def test_the_opening(case):
    wire = case.make()
    opening = wire.opening("t0ken")
    assert isinstance(opening, Opening)
    assert opening.url.startswith(("ws://127.0.0.1", "wss://"))
    assert "t0ken" not in repr(opening)
    assert wire.opening("t0ken") == opening
    assert wire.opening(None).url == opening.url


def test_the_token_request_shows_no_secret(case):
    request = case.make().token_request()
    if case.name == "agent":
        assert request is None
    else:
        assert isinstance(request, HttpRequest)
        assert request.authorised is False
        assert "s3cret" not in repr(request)
        assert "s3cret" in json.dumps(request.json)


def test_recorded_frames_are_read(case):
    frames = recorded(case)
    assert len(frames) > 5
    wire = opened(case)
    read = 0
    for frame in frames:
        for one in wire.receive(frame, at=AT):
            read += 1
            assert isinstance(one, Event | Ack | Ready | Closing)
            if isinstance(one, Event):
                check(wire, one)
    assert read > 3


def check(wire: Wire, event: Event) -> None:
    assert (event.gateway, event.bot) == (wire.gateway, wire.name)
    assert event.event_id
    assert event.type
    assert event.received_at == AT
    assert event.at.tzinfo is not None
    assert isinstance(event.raw, dict)
    assert event.role in ("user", "assistant", "system")


def test_the_same_frame_gives_the_same_event(case):
    for frame in recorded(case)[:40]:
        one, two = (opened(case).receive(frame, at=AT) for _ in range(2))
        assert [e for e in one if isinstance(e, Event)] == [e for e in two if isinstance(e, Event)]


def test_what_is_unknown_is_kept_whole(case):
    (event,) = opened(case).receive(case.unknown, at=AT)
    assert isinstance(event, Event)
    assert event.type == "platform.specific"
    assert event.raw == json.loads(case.unknown)


@pytest.mark.parametrize(
    "junk", ["", "no json", "[]", "3", "null", b"\xff\x00", "[" * 100_000, '{"type": 3}']
)
def test_junk_is_a_remote_error_that_is_short(case, junk):
    wire = opened(case)
    try:
        wire.receive(junk, at=AT)
    except RemoteProtocolError as error:
        assert len(error.frame) <= 200  # noqa: PT017 (a wire may take some of these for empty)
    (event,) = wire.receive(case.unknown, at=AT)
    assert isinstance(event, Event)


@given(frame=st.text() | st.binary())
@pytest.mark.parametrize("which", CASES, ids=lambda case: case.name)
def test_no_frame_breaks_a_wire(which, frame):
    wire = opened(which)
    with contextlib.suppress(RemoteProtocolError):
        wire.receive(frame, at=AT)


@given(data=st.data())
@pytest.mark.parametrize("which", CASES, ids=lambda case: case.name)
def test_no_damage_to_a_real_frame_breaks_a_wire(which, data):
    frame = data.draw(st.sampled_from(recorded(which)))
    value = json.loads(frame)
    spot = data.draw(st.sampled_from(sorted(paths(value))))
    damaged = replaced(value, spot, data.draw(st.none() | st.integers() | st.text(max_size=3) | st.just([])))
    with contextlib.suppress(RemoteProtocolError):
        opened(which).receive(json.dumps(damaged), at=AT)


def paths(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [at]
    return [at, *(spot for key, inner in value.items() for spot in paths(inner, (*at, key)))]


def replaced(value: Any, spot: tuple[str, ...], new: Any) -> Any:
    if not spot:
        return new
    return {**value, spot[0]: replaced(value[spot[0]], spot[1:], new)}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_an_action_is_said_or_refused(case, action):
    wire = opened(case)
    try:
        said = wire.send(action, at=AT)
    except NotSupported as error:
        assert error.gateway == wire.gateway  # noqa: PT017 (either way is right)
        return
    assert all(isinstance(part, str | bytes | HttpRequest | Event) for part in said)
    for part in said:
        if isinstance(part, Event):
            check(wire, part)


def test_every_wire_says_something(case):
    said = []
    for action in ACTIONS:
        with contextlib.suppress(NotSupported):
            said += opened(case).send(action, at=AT)
    assert said


@pytest.mark.parametrize("code", [101, 400, 401, 403, 404, 429, 500, 503, 1000, 1001, 1006, 1008, 1011, 3000])
def test_what_a_closing_means(case, code):
    wanted = Verdict.FATAL if code in case.fatal else Verdict.REAUTH if code in case.reauth else Verdict.RETRY
    assert opened(case).closing(code, "") is wanted


def test_no_closing_reason_matters(case):
    wire = opened(case)
    for reason in ("", "x" * 1000, "\x00"):
        assert wire.closing(1006, reason) is Verdict.RETRY


def test_the_heartbeat_is_a_frame_or_none(case):
    ping = case.make().ping()
    assert ping is None or isinstance(ping, str | bytes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_a_wire_takes_what_it_says_it_can_and_nothing_else(case, action):
    wire = case.make()
    if type(action) in wire.can:
        to = "group:g" if getattr(wire, "session_type", "") == "group" else "user:u"
        wire.send(replace(action, to=to) if isinstance(action, Send) else action, at=AT)
    else:
        with pytest.raises(NotSupported):
            wire.send(action, at=AT)
