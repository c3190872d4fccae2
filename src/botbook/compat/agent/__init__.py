"""The public face of the Lambda agent SDK, 1.0 and 1.1, over botbook's core.

A program written for that SDK runs with its imports changed from ``lambda_agent_api``::

    from botbook.compat.agent.agent_api import AgentApi
    from botbook.compat.agent.server import MsgEventTextChunk

All names are here too. What is different is for the better: an answer fails at once when its
connection ends, with what had arrived kept; it has a deadline; it can be stopped; a connection
that was lost comes back by itself; and everything is in the journal.
"""

from __future__ import annotations

from botbook.compat.agent.agent_api import AgentApi, AgentStream
from botbook.compat.agent.errors import AgentBusyException, AgentException
from botbook.compat.agent.server import (
    OM,
    AgentEventUnion,
    EServerMessage,
    MsgError,
    MsgEventCustomUpdate,
    MsgEventEnd,
    MsgEventSendFile,
    MsgEventTextChunk,
    MsgEventToolCallChunk,
    MsgEventToolResult,
    MsgGracefulDisconnect,
    MsgStatus,
    ServerMessage,
)

__all__ = [
    "OM",
    "AgentApi",
    "AgentBusyException",
    "AgentEventUnion",
    "AgentException",
    "AgentStream",
    "EServerMessage",
    "MsgError",
    "MsgEventCustomUpdate",
    "MsgEventEnd",
    "MsgEventSendFile",
    "MsgEventTextChunk",
    "MsgEventToolCallChunk",
    "MsgEventToolResult",
    "MsgGracefulDisconnect",
    "MsgStatus",
    "ServerMessage",
]
