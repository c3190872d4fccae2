"""What a link can be doing, and what may follow: one table, from which the picture is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["LINK_STATES", "LinkState", "state_diagram"]


class LinkState(StrEnum):
    """What a link is doing."""

    IDLE = "idle"
    AUTHENTICATING = "authenticating"
    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


_S = LinkState

#: State → the states that may follow, and what leads there.
LINK_STATES: Final[Mapping[LinkState, Mapping[LinkState, str]]] = MappingProxyType(
    {
        _S.IDLE: {_S.AUTHENTICATING: "start()", _S.STOPPED: "stop()"},
        _S.AUTHENTICATING: {
            _S.CONNECTING: "a token, or none is needed",
            _S.WAITING: "no token yet",
            _S.FAILED: "credentials refused",
            _S.STOPPING: "stop()",
        },
        _S.CONNECTING: {
            _S.OPEN: "upgraded, and ready",
            _S.WAITING: "no connection yet, or token refused once",
            _S.FAILED: "refused for good",
            _S.STOPPING: "stop()",
        },
        _S.OPEN: {_S.WAITING: "lost", _S.FAILED: "ended for good", _S.STOPPING: "stop()"},
        _S.WAITING: {_S.AUTHENTICATING: "the delay is over", _S.STOPPING: "stop()"},
        _S.FAILED: {_S.STOPPING: "stop()"},
        _S.STOPPING: {_S.STOPPED: "closed"},
        _S.STOPPED: {},
    }
)


def state_diagram() -> str:
    """`LINK_STATES` as a Mermaid state diagram."""
    arrows = [
        f"    {state} --> {following}: {why}"
        for state, followers in LINK_STATES.items()
        for following, why in followers.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {_S.IDLE}", *arrows, f"    {_S.STOPPED} --> [*]"])
