"""A client for any Box runtime: sessions, commands, managed processes, files (protocols/box.md).

`AsyncBox` is the client, `Box` its blocking face. The runtime's dialect is found by asking; what only the
embedded runtime can do (streamed output, input, whole output) is used where it is offered.
"""

from __future__ import annotations

from botbook.sandbox.blocking import Box, Process
from botbook.sandbox.client import AsyncBox
from botbook.sandbox.process import AsyncProcess
from botbook.wire.box import SCOPES, ExecResult, ProcessInfo, SessionInfo, scope

__all__ = [
    "SCOPES",
    "AsyncBox",
    "AsyncProcess",
    "Box",
    "ExecResult",
    "Process",
    "ProcessInfo",
    "SessionInfo",
    "scope",
]
