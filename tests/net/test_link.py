"""The link over ends in memory, with a clock that is held still."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from botbook._clock import SYSTEM
from botbook._errors import (
    ApiError,
    AuthError,
    ConnectError,
    ConnectionLost,
    DeadlineExceeded,
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
)
from botbook._net.auth import TokenSource
from botbook._net.dedupe import Dedupe
from botbook._net.link import LinkState
from botbook.wire.contract import Ack, Verdict
from tests.net.fakes import Http, Peer, token, token_request

OFFLINE = ConnectError("nobody")


def ids(batches):
    return [item.event_id for batch in batches for item in batch]


def tokens(wire, http, clock, rng):
    wire.request = token_request()
    return TokenSource(wire.token_request, http, clock, rng)


async def test_no_other_way_is_taken(linked):
    with pytest.raises(LocalProtocolError, match="from idle to open"):
        linked()._set(LinkState.OPEN)


# ------------------------------------------------------------------------------- open, events, stop


async def test_a_whole_life(linked, peer, wire, clock):
    wire.first_frames = ("hello",)
    link = linked()
    assert link.state == "idle"
    await link.start()
    assert await peer.end.receive() == ["hello"]
    for frame in ("e:1", "ack:7", "e:2"):
        await peer.end.send(frame)
    await clock.settle()
    [batch] = link.batches
    assert [getattr(item, "event_id", item) for item in batch] == ["1", Ack("7"), "2"]
    assert batch[0].received_at == clock.now()
    await link.send("out")
    assert await peer.end.receive() == ["out"]
    await link.stop()
    await link.stop()
    with pytest.raises(ConnectionLost) as caught:
        await peer.end.receive()
    assert caught.value.code == 1001
    assert link.states == ["authenticating", "connecting", "open", "stopping", "stopped"]
    assert (link.counters.frames, link.counters.events, link.counters.reconnects) == (3, 2, 0)


async def test_a_link_is_started_once(linked):
    link = linked()
    await link.start()
    with pytest.raises(LocalProtocolError, match="once"):
        await link.start()


async def test_a_link_that_never_ran_can_be_stopped(linked):
    link = linked()
    await link.stop()
    await link.stop()
    assert link.state == "stopped"
    with pytest.raises(ConnectionLost):
        await link.wait_open()


async def test_send_while_down(linked, peer, clock):
    link = linked()
    with pytest.raises(ConnectionLost, match="idle"):
        await link.send("x")
    await link.start()
    await peer.end.close(1006)
    await clock.settle()
    with pytest.raises(ConnectionLost, match="waiting"):
        await link.send("x")


async def test_what_came_before_is_left_out(linked, peer, clock):
    link = linked(dedupe=Dedupe(count=10))
    await link.start()
    for ident in "ab":
        await peer.end.send(f"e:{ident}")
    await clock.settle()
    await peer.end.close(1006)
    await clock.advance(2)
    for ident in "abc":
        await peer.end.send(f"e:{ident}")
    await clock.settle()
    assert ids(link.batches) == ["a", "b", "c"]
    assert (link.counters.duplicates, link.counters.events, link.counters.reconnects) == (2, 3, 1)


async def test_last_frames_before_the_end_are_delivered(linked, peer, clock):
    link = linked()
    await link.start()
    for i in range(1200):
        await peer.end.send(f"e:{i}")
    await peer.end.close(1006)
    await clock.settle(50)
    assert ids(link.batches) == [str(i) for i in range(1200)]
    assert max(map(len, link.batches)) == 500, "the loop is not held for long"


async def test_delivery_that_fails_is_counted_and_may_come_again(linked, peer, clock):
    failing = [RuntimeError("journal")]
    got = []

    async def deliver(batch):
        if failing:
            raise failing.pop()
        got.append(batch)

    link = linked(deliver=deliver)
    await link.start()
    await peer.end.send("e:1")
    await peer.end.send("ack:1")
    await clock.settle()
    assert link.counters.undelivered == 1
    assert str(link.last_error) == "journal"
    await peer.end.send("e:1")
    await clock.settle()
    assert ids(got) == ["1"]
    assert link.state == "open"


async def test_heartbeat_of_the_wire(linked, peer, wire, clock):
    wire.heartbeat = "ping"
    link = linked(heartbeat=20.0)
    await link.start()
    await clock.advance(19)
    await clock.advance(45)
    assert await peer.end.receive() == ["ping"] * 3
    await peer.end.close(1006)
    await clock.advance(1)
    assert link.state == "open"
    await clock.advance(20)
    assert await peer.end.receive() == ["ping"], "and anew on the next connection"


async def test_a_heartbeat_into_a_lost_connection_is_the_readers_trouble(linked, peer, wire, clock):
    wire.heartbeat = "ping"

    class Mute:
        async def send(self, frame):
            raise ConnectionLost(1006)

        async def receive(self):
            await asyncio.Event().wait()

        async def close(self, code=1000, reason=""):
            pass

    async def dial(opening):
        return Mute()

    link = linked(dial=dial)
    await link.start()
    await clock.advance(30)
    assert link.state == "open"


# ------------------------------------------------------------------------------- bad frames


DEEP = '{"event": ' + "[" * 200_000


@pytest.mark.parametrize(
    "bad",
    [
        b"\xff\xfe\x00",
        DEEP,
        "junk",
        "[1]",
        '{"event": {"event_type": []}',
        "x" * (2**20 + 1),
        b"x" * (2**20 + 1),
    ],
    ids=["binary", "deep", "junk", "list", "cut", "long text", "long bytes"],
)
async def test_one_bad_frame_is_counted_and_the_link_lives(linked, peer, clock, bad):
    link = linked()
    await link.start()
    for frame in ("e:1", bad, "e:2"):
        await peer.end.send(frame)
    await clock.settle()
    assert ids(link.batches) == ["1", "2"]
    assert link.counters.malformed == 1
    assert link.counters.frames == 3
    assert isinstance(link.last_error, RemoteProtocolError)
    assert len(str(link.last_error)) < 300
    assert link.state == "open"
    assert len(peer.dials) == 1


async def test_a_flood_of_bad_frames(linked, peer, clock):
    link = linked()
    await link.start()
    for _ in range(1100):
        await peer.end.send("junk")
    await peer.end.send("e:1")
    await clock.settle()
    assert link.counters.malformed == 1100
    assert ids(link.batches) == ["1"]


async def test_a_frame_that_ends_each_connection_is_counted_and_tried_ever_more_slowly(linked, peer, clock):
    async def poison(end):
        await end.close(1009, "over size limit")

    peer.always = poison
    link = linked()
    await link.start()
    await clock.advance(120)
    assert link.counters.malformed == len(peer.dials)
    assert 5 <= len(peer.dials) <= 10
    assert "too long" in str(link.last_error)


async def test_the_same_frame_after_a_long_healthy_time_does_not_slow_the_link(linked, peer, clock):
    link = linked()
    await link.start()
    for _ in range(6):
        await clock.advance(30)
        await peer.end.close(1009, "over size limit")
        await clock.advance(1)
        assert link.state == "open"
    assert link.counters.malformed == 6


# ------------------------------------------------------------------------------- reconnect


def waits(peer, ends):
    return [dial - end for dial, end in zip(peer.dials[1:], ends, strict=True)]


async def test_after_a_healthy_link_it_is_back_within_a_second_every_time(linked, peer, clock):
    link = linked(stable_after=5.0)
    await link.start()
    ends = []
    for code in (1006, 1001, 1000, 1011, 1006, 1000):
        await clock.advance(6)
        ends.append(clock.monotonic())
        await peer.end.close(code)
        await clock.advance(1)
        assert link.state == "open"
    delays = waits(peer, ends)
    assert all(0 < delay < 1 for delay in delays)
    assert len(set(delays)) == len(delays), "each is jittered"


async def test_a_crowd_does_not_come_back_together(wire, clock):
    from botbook._net.link import Link

    async def deliver(batch):
        pass

    crowd = []
    for seed in range(20):
        peer = Peer(clock)
        link = Link(
            wire,
            dial=peer.dial,
            tokens=TokenSource.fixed(None),
            deliver=deliver,
            clock=clock,
            rng=random.Random(seed),
        )
        await link.start()
        crowd.append((link, peer))
    await clock.advance(60)
    for _, peer in crowd:
        await peer.end.close(1001)
    await clock.advance(1)
    times = sorted(peer.dials[1] for _, peer in crowd)
    assert times[-1] - times[0] > 0.3
    for link, _ in crowd:
        await link.stop()


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011])
async def test_a_server_that_accepts_and_closes(linked, peer, clock, code):
    async def close(end):
        await end.close(code)

    peer.always = close
    await linked().start()
    await clock.advance(100)
    assert all(len([t for t in peer.dials if s <= t < s + 1]) <= 5 for s in peer.dials)
    gaps = [b - a for a, b in zip(peer.dials, peer.dials[1:], strict=False)]
    for step, gap in zip([1, 2, 4, 8, 16, 32], gaps, strict=False):
        assert step / 2 <= gap <= step
    assert len(gaps) >= 6


async def test_the_step_starts_anew_only_after_a_stable_time(linked, peer, clock):
    link = linked(stable_after=5.0)
    await link.start()
    for _ in range(4):
        await clock.advance(4.9)
        await peer.end.close(1006)
        await clock.advance(60)
    assert link.counters.reconnects == 4
    peer.script.extend([OFFLINE, OFFLINE])
    await peer.end.close(1006)
    await clock.advance(0.9)
    assert len(peer.dials) == 6, "60 s up: the first try came within a second"
    await clock.advance(0.2 + 1 + 2)
    assert link.state == "open"


async def test_a_refusal_may_say_when_to_come_again(linked, peer, clock):
    link = linked()
    await link.start()
    peer.script.append(HandshakeError("busy", status=503, retry_after=30.0))
    await peer.end.close(1006)
    await clock.advance(1.0)
    await clock.advance(28.5)
    assert link.state == "waiting"
    await clock.advance(2)
    assert link.state == "open"


async def test_it_goes_on_for_ever(linked, peer, clock):
    link = linked()
    await link.start()
    peer.always = OFFLINE
    await peer.end.close(1006)
    await clock.advance(3600)
    assert link.state in ("waiting", "connecting")
    assert link.last_error is OFFLINE
    assert 60 <= link.counters.handshakes <= 130
    peer.always = None
    waiting = asyncio.create_task(link.wait_open())
    await clock.advance(61)
    await waiting


async def test_a_verdict_that_is_final(linked, peer, wire, clock):
    wire.verdicts[4003] = Verdict.FATAL
    link = linked()
    await link.start()
    await peer.end.close(4003, "banned")
    await clock.advance(1000)
    assert link.state == "failed"
    assert link.last_error.code == 4003
    with pytest.raises(ConnectionLost, match="banned"):
        await link.wait_open()
    assert len(peer.dials) == 1
    await link.stop()
    assert link.state == "stopped"


async def test_what_the_peer_says_in_words_counts_for_more_than_the_close_code(linked, peer, clock):
    link = linked()
    await link.start()
    await peer.end.send("e:1")
    await peer.end.send("closing:fatal")
    await clock.settle()
    assert ids(link.batches) == ["1"]
    assert link.state == "failed"
    assert link.last_error.reason == "in words: fatal"


async def test_words_that_allow_another_try(linked, peer, clock):
    link = linked()
    await link.start()
    await peer.end.send("closing:retry")
    await clock.settle()
    assert link.state == "waiting"
    await clock.advance(2)
    assert link.state == "open"
    await peer.end.close(1000)
    await clock.settle()
    assert link.last_error.code == 1000


async def test_a_mistake_in_the_wire_is_not_silent(linked, peer, wire, clock):
    def closing(code, reason):
        raise ZeroDivisionError("oh")

    wire.closing = closing
    link = linked()
    await link.start()
    await peer.end.close(1006)
    await clock.settle()
    assert link.state == "failed"
    with pytest.raises(ZeroDivisionError):
        await link.wait_open()


# ------------------------------------------------------------------------------- start


@pytest.mark.parametrize(
    "error",
    [
        ConnectError("nobody"),
        HandshakeError("404", status=404),
        HandshakeError("no HTTP"),
        HandshakeError("busy", status=503),
        DeadlineExceeded("slow"),
        ZeroDivisionError("a mistake of ours"),
    ],
    ids=repr,
)
async def test_the_first_trouble_is_raised_at_once(linked, peer, clock, error):
    peer.script.append(error)
    link = linked()
    with pytest.raises(type(error)) as caught:
        await link.start()
    assert caught.value is error is link.last_error
    assert link.state == "failed"
    assert clock.monotonic() == 0


async def test_the_first_token_is_tried_for_again_while_the_network_is_down(linked, wire, clock, rng):
    http = Http(OFFLINE, DeadlineExceeded("slow"), ApiError("down", code=503, status=503), token("a"))
    link = linked(tokens=tokens(wire, http, clock, rng))
    starting = asyncio.create_task(link.start())
    await clock.advance(8)
    await starting
    assert len(http.calls) == 4
    assert link.states.count("waiting") == 3


async def test_a_token_that_cannot_be_had_in_time(linked, wire, clock, rng):
    link = linked(tokens=tokens(wire, Http(OFFLINE), clock, rng))
    starting = asyncio.create_task(link.start())
    await clock.advance(10)
    with pytest.raises(ConnectError, match="nobody"):
        await starting
    assert link.state == "stopped"


async def test_silence_at_the_start(linked, peer, clock):
    peer.script.append("hang")
    link = linked(start_timeout=3.0)
    starting = asyncio.create_task(link.start())
    await clock.advance(2.9)
    assert not starting.done()
    await clock.advance(0.2)
    with pytest.raises(DeadlineExceeded, match="within 3 s"):
        await starting


@pytest.mark.parametrize(
    "error",
    [
        AuthError("wrong secret", code=10001),
        ApiError("no such page", code=404, status=404),
        RemoteProtocolError("not JSON"),
        HandshakeError("moved", status=307),
    ],
    ids=repr,
)
async def test_wrong_credentials_and_wrong_servers_fail_at_once(linked, wire, clock, rng, error):
    http = Http(error)
    link = linked(tokens=tokens(wire, http, clock, rng))
    with pytest.raises(type(error)) as caught:
        await link.start()
    assert caught.value is error
    assert len(http.calls) == 1
    assert link.state == "failed"


async def test_credentials_refused_later_end_the_link(linked, peer, wire, clock, rng):
    http = Http(token("a", 10), AuthError("revoked", code=10001))
    link = linked(tokens=tokens(wire, http, clock, rng))
    await link.start()
    await clock.advance(60)
    await peer.end.close(1006)
    await clock.advance(2)
    assert link.state == "failed"
    assert str(link.last_error) == "revoked"


async def test_a_peer_that_accepts_and_closes_has_been_open(linked, peer, clock):
    async def close(end):
        await end.close(1000)

    peer.script.append(close)
    await linked().start()


async def test_stop_while_it_starts(linked, peer, clock):
    peer.script.append("hang")
    link = linked()
    starting = asyncio.create_task(link.start())
    await clock.settle()
    await link.stop()
    with pytest.raises(ConnectionLost, match="stopped"):
        await starting


# ------------------------------------------------------------------------------- refused tokens


async def test_401_brings_a_new_token_once(linked, peer, wire, clock, rng):
    http = Http(token("old"), token("new"))
    peer.script.append(HandshakeError("no", status=401))
    link = linked(tokens=tokens(wire, http, clock, rng))
    starting = asyncio.create_task(link.start())
    await clock.advance(0.1)
    await starting
    assert [opening.headers["Authorization"] for opening in peer.openings] == ["Bearer old", "Bearer new"]


async def test_401_twice_is_an_auth_error(linked, peer, wire, clock, rng):
    http = Http(token("old"), token("new"))
    peer.always = HandshakeError("refused the WebSocket with HTTP 401", status=401)
    link = linked(tokens=tokens(wire, http, clock, rng))
    with pytest.raises(AuthError, match="refuses the token: refused the WebSocket") as caught:
        await link.start()
    assert link.state == "failed"
    assert caught.value.hint
    assert len(peer.dials) == 2


async def test_401_with_a_given_token(linked, peer):
    peer.always = HandshakeError("no", status=401)
    with pytest.raises(AuthError):
        await linked(tokens=TokenSource.fixed("x")).start()
    assert len(peer.dials) == 1


async def test_401_later(linked, peer, wire, clock, rng):
    http = Http(token("a"), token("b"), token("c"))
    link = linked(tokens=tokens(wire, http, clock, rng))
    await link.start()
    for _ in range(2):
        peer.script.append(HandshakeError("no", status=401))
        await clock.advance(6)
        await peer.end.close(1006)
        await clock.advance(2)
        assert link.state == "open", "each healthy time allows one refusal"
    peer.always = HandshakeError("no", status=401)
    await peer.end.close(1006)
    await clock.advance(3)
    assert link.state == "failed"
    assert isinstance(link.last_error, AuthError)


async def test_a_wire_may_call_another_status_or_code_a_refused_token(linked, peer, wire, clock, rng):
    wire.verdicts = {403: Verdict.REAUTH, 1008: Verdict.REAUTH}
    http = Http(token("a"), token("b"), token("c"))
    peer.script.append(HandshakeError("no", status=403))
    link = linked(tokens=tokens(wire, http, clock, rng))
    starting = asyncio.create_task(link.start())
    await clock.advance(0.1)
    await starting
    for _ in range(3):
        await peer.end.close(1008)
        await clock.advance(40)
    assert link.state == "open", "a link that was open is never given up for a close code"
    assert [opening.headers["Authorization"][-1] for opening in peer.openings] == ["a", "b", "c", "c", "c"]


# ------------------------------------------------------------------------------- ready


async def test_open_means_ready_where_the_wire_says_so(linked, peer, wire, clock):
    wire.ready_within = 5.0
    link = linked()
    starting = asyncio.create_task(link.start())
    await clock.advance(2)
    await peer.end.send("e:early")
    await clock.settle()
    assert link.state == "connecting"
    await peer.end.send("ready")
    await peer.end.send("e:late")
    await clock.settle()
    await starting
    await peer.end.send("ready")
    await peer.end.send("e:more")
    await clock.settle()
    assert ids(link.batches) == ["early", "late", "more"]
    assert link.counters.opened == 1


async def test_not_ready_in_time(linked, peer, wire, clock):
    wire.ready_within = 5.0
    link = linked()
    starting = asyncio.create_task(link.start())
    await clock.advance(4)
    await peer.end.send("e:1")
    await clock.advance(1.1)
    with pytest.raises(DeadlineExceeded, match="not ready within 5 s"):
        await starting
    with pytest.raises(ConnectionLost):
        await peer.end.receive()


async def test_a_link_that_is_renewed_comes_back(linked, peer, clock):
    link = linked()
    await link.renew("too early: nothing is open")
    await link.start()
    first = peer.end
    await link.renew("a word")
    assert link.state != "open"
    with pytest.raises(ConnectionLost, match="1000: a word"):
        await first.receive()
    await clock.advance(30)
    assert (link.state, link.counters.reconnects) == ("open", 1)


async def refuses(end):
    """A peer that says why, and hangs up before it has heard anything."""
    await end.send("closing:fatal")
    await end.close(1000)


async def test_a_refusal_is_read_even_where_our_first_words_did_not_get_through(linked, peer, wire):
    wire.first_frames, wire.ready_within = ("hello",), 5.0
    peer.always = refuses
    with pytest.raises(ConnectionLost, match="in words: fatal"):
        await linked().start()


async def test_first_words_that_do_not_get_through_where_open_means_ready(linked, peer, wire):
    wire.first_frames = ("hello",)
    peer.always = refuses
    link = linked()
    with pytest.raises(ConnectionLost, match="1000"):
        await link.start()
    assert link.counters.opened == 0


async def test_lost_before_it_was_ready(linked, peer, wire, clock):
    wire.ready_within = 5.0
    starting = asyncio.create_task(linked().start())
    await clock.settle()
    await peer.end.close(1008, "busy")
    with pytest.raises(ConnectionLost, match="busy"):
        await starting


# ------------------------------------------------------------------------------- stop from everywhere


async def during_token(link, peer, http):
    http.script.appendleft("hang")
    return asyncio.create_task(link.start())


async def during_dial(link, peer, http):
    peer.script.append("hang")
    return asyncio.create_task(link.start())


async def during_ready(link, peer, http):
    link._wire.ready_within = 60.0
    return asyncio.create_task(link.start())


async def during_back_off(link, peer, http):
    await link.start()
    peer.always = OFFLINE
    await peer.end.close(1006)
    return


async def while_open(link, peer, http):
    await link.start()
    return


async def while_deliver_is_full(link, peer, http):
    await link.start()
    await peer.end.send("e:full")
    return


@pytest.mark.parametrize(
    ("arrange", "state"),
    [
        (during_token, "authenticating"),
        (during_dial, "connecting"),
        (during_ready, "connecting"),
        (during_back_off, "waiting"),
        (while_open, "open"),
        (while_deliver_is_full, "open"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_stop_is_quick_from_every_state(linked, wire, rng, arrange, state):
    peer, http = Peer(SYSTEM), Http(token("a"))

    async def deliver(batch):
        await asyncio.Event().wait()

    source = tokens(wire, http, SYSTEM, rng)
    link = linked(clock=SYSTEM, dial=peer.dial, tokens=source, deliver=deliver)
    starting = await arrange(link, peer, http)
    for _ in range(20):
        await asyncio.sleep(0)
    assert link.state == state
    began = time.perf_counter()
    await link.stop()
    assert time.perf_counter() - began < 0.1
    assert link.state == "stopped"
    if starting:
        with pytest.raises(ConnectionLost):
            await starting
    await source.close()


async def test_stop_from_within_a_delivery(linked, peer, clock):
    async def deliver(batch):
        await link.stop()

    link = linked(deliver=deliver)
    await link.start()
    await peer.end.send("e:1")
    await clock.settle()
    assert link.state == "stopped"


async def test_stop_does_not_wait_for_a_delivery_that_will_not_end(linked, peer, clock):
    gate = asyncio.Event()

    async def deliver(batch):
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                continue

    link = linked(deliver=deliver)
    await link.start()
    await peer.end.send("e:1")
    await clock.settle()
    began = time.perf_counter()
    await link.stop()
    assert time.perf_counter() - began < 0.2
    assert link.state == "stopped"
    gate.set()
    await clock.settle()
    await peer.end.close(1000)
    await clock.settle()


@pytest.mark.parametrize("arrange", [during_token, during_dial, during_ready], ids=lambda f: f.__name__)
async def test_cancelling_start_is_not_swallowed(linked, peer, wire, clock, rng, arrange):
    http = Http(token("a"))
    source = tokens(wire, http, clock, rng)
    link = linked(tokens=source)
    starting = await arrange(link, peer, http)
    await clock.settle()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert starting.cancelled()
    assert link.state == "stopped"
    await source.close()


async def test_a_task_that_is_cancelled_from_outside_is_a_stopped_link(linked, peer, clock):
    link = linked()
    await link.start()
    link._task.cancel()
    await clock.settle()
    assert link.state == "stopped"
