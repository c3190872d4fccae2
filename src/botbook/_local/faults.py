"""How the embedded gateway can misbehave: one table, and what is armed at the moment."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from botbook._errors import LocalProtocolError
from botbook.wire.contract import Frame

__all__ = ["FAULTS", "POISON", "Fault", "FaultKind", "Faults", "fault", "poison"]

#: Lasts until it is cleared.
EVER: Final = -1


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One way to misbehave.

    Attributes:
        about: What it does.
        options: Its details and their defaults; a default's type is the option's type.
        now: It strikes the open sockets at once; otherwise it is armed and waits.
    """

    about: str
    options: dict[str, Any] = field(default_factory=dict)
    now: bool = False


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


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault with all its options filled in."""

    kind: str
    options: dict[str, Any]

    def __getitem__(self, option: str) -> Any:
        return self.options[option]


def fault(kind: str, **options: Any) -> Fault:
    """Check a fault and fill in what was not given.

    Args:
        kind: One of `FAULTS`.
        options: Its options; text is converted, as ``seconds=2`` on a command line; bytes are written
            in hex digits.

    Raises:
        LocalProtocolError: There is no such fault or option, or a value is of the wrong type.
    """
    if kind not in FAULTS:
        raise LocalProtocolError(f"there is no fault {kind!r}", hint=_hint(kind, FAULTS))
    defaults = FAULTS[kind].options
    for name in options:
        if name not in defaults:
            raise LocalProtocolError(f"fault {kind} has no option {name!r}", hint=_hint(name, defaults))
    given = {name: _converted(kind, name, value, defaults[name]) for name, value in options.items()}
    return Fault(kind, {**defaults, **given})


def _converted(kind: str, name: str, value: Any, default: Any) -> Any:
    try:
        return bytes.fromhex(value) if isinstance(default, bytes) else type(default)(value)
    except (TypeError, ValueError):
        wanted = type(default).__name__
        raise LocalProtocolError(
            f"option {name!r} of fault {kind} is no {wanted}: {value!r}", hint=f"Its default is {default!r}."
        ) from None


def _hint(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, 1)
    return f"Did you mean {near[0]}?" if near else f"Known: {', '.join(names) or 'none'}."


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
        raise LocalProtocolError(f"there is no poison {which!r}", hint=_hint(which, [*POISON, HUGE]))
    return [POISON[which]]


class Faults:
    """What is armed. A newer fault of a kind takes the place of the older one."""

    def __init__(self) -> None:
        self._armed: dict[str, Fault] = {}
        self._left: dict[str, int] = {}

    def arm(self, armed: Fault) -> None:
        """Let a fault wait for its occasion; one for 0 times takes its kind back."""
        self._armed[armed.kind] = armed
        self._left[armed.kind] = armed.options.get("times", 1)
        if not self._left[armed.kind]:
            del self._armed[armed.kind]

    def take(self, kind: str, *, where: str = "") -> Fault | None:
        """Use up one time of a fault, if it is armed.

        Args:
            kind: Which.
            where: The place that asks; a fault that names another place is left alone.
        """
        armed = self._armed.get(kind)
        if armed is None or armed.options.get("where", "") not in ("", where):
            return None
        if self._left[kind] > 0:
            self._left[kind] -= 1
        if not self._left[kind]:
            del self._armed[kind]
        return armed

    def clear(self) -> None:
        """Behave again."""
        self._armed.clear()
