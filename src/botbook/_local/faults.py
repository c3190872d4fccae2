"""The faults of the embedded Miti gateway: one table, and its malformed frames."""

from __future__ import annotations

from typing import Final

from botbook._errors import LocalProtocolError
from botbook._local.mischief import EVER, FaultKind, nearest
from botbook.wire.contract import Frame

__all__ = ["FAULTS", "POISON", "poison"]

_TIMES: Final = {"times": 1}
_WAIT: Final = {"retry_after": -1.0}

#: Every fault. `times` -1 means until `clear`; `retry_after` below 0 means no such header.
FAULTS: Final[dict[str, FaultKind]] = {
    "rst": FaultKind("reset the TCP connection", now=True),
    "fin": FaultKind("end the TCP connection without a closing frame", now=True),
    "close": FaultKind("close with a code", {"code": 1001, "reason": ""}, now=True),
    "duplicate": FaultKind(
        "send the last events again, now or on reconnect", {"last": 20, "when": "now"}, now=True
    ),
    "poison": FaultKind("send malformed frames", {"which": "all"}, now=True),
    "raw": FaultKind(
        "write bytes on the TCP connection, past the WebSocket", {"data": b"\xff\xff"}, now=True
    ),
    "stall": FaultKind("fall silent for some seconds", {"seconds": 2.0}, now=True),
    "slow": FaultKind("answer REST and upgrades late", {"seconds": 0.5, "times": EVER}),
    "http": FaultKind("answer REST with a status", {"status": 503, "where": "", **_WAIT, **_TIMES}),
    "upgrade_status": FaultKind("refuse the upgrade", {"status": 503, **_WAIT, **_TIMES}),
    "redirect": FaultKind(
        "answer REST with a redirect", {"location": "http://127.0.0.1:9/", "where": "", **_TIMES}
    ),
    "token_status": FaultKind("refuse the token", {"status": 200, "code": 10002, **_TIMES}),
    "token_ttl": FaultKind("give tokens of a short life", {"seconds": 2.0, "times": EVER}),
    "token_revoked": FaultKind("forget every token given so far", now=True),
    "ack_lost": FaultKind("take an answer without acknowledging it", {**_TIMES}),
    "ack_refused": FaultKind("refuse an answer", {"error": "busy", **_TIMES}),
    "no_permission": FaultKind("refuse a message with code 10012", {**_TIMES}),
    "no_data": FaultKind("take a message and answer without data", {**_TIMES}),
    "bare_history": FaultKind("leave ids and times out of histories", {"times": EVER}),
    "drop_while_away": FaultKind("throw events away while no socket is open", {"times": EVER}),
}

#: Frames that break a rule each, by name (protocols/miti.md 10, defect 16).
POISON: Final[dict[str, Frame]] = {
    "binary": b"\xff\xfe\x00",
    "not_json": "this is no JSON",
    "array": "[1, 2, 3]",
    "header": '{"schema": "1.0", "header": "none", "event": {}}',
    "type_list": '{"schema": "1.0", "header": {"event_type": ["im.message.receive"]}, "event": {}}',
    "body_list": '{"schema": "1.0", "header": {"event_type": "im.message.receive"}, "event": []}',
    "deep": "[" * 200_000,
}
#: Above the 1 MiB that clients accept; sent only when asked for by name.
HUGE: Final = "huge"
_HUGE_BYTES: Final = 2**20 + 1


def poison(which: str) -> list[Frame]:
    """The malformed frames of a name, or ``all`` of them but the oversized one.

    Raises:
        LocalProtocolError: There is no such frame.
    """
    if which == "all":
        return list(POISON.values())
    if which == HUGE:
        return ["x" * _HUGE_BYTES]
    if which not in POISON:
        raise LocalProtocolError(f"there is no poison {which!r}", hint=nearest(which, [*POISON, HUGE]))
    return [POISON[which]]
