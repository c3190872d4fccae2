"""The Box wire, both roles: Action RPC envelope, data types, relay framing (protocols/box.md).

Pure: text in, values out. The client in `botbook.sandbox` and the embedded runtime share it.
"""

from __future__ import annotations

from botbook.wire.box.envelope import (
    ERROR_NAMES,
    EXTENSIONS,
    SKILL_ACTIONS,
    Chunk,
    Dialect,
    Reply,
    Request,
    RequestJoiner,
    decode,
    encode_chunk,
    encode_error,
    encode_reply,
    encode_request,
    error_of,
    identity_headers,
    probe,
    relay_url,
)
from botbook.wire.box.presets import PROFILES, SCOPES, Profile, apply_profile, scope
from botbook.wire.box.text import CLIP_LIMIT, OUTPUT_LIMIT, LineJoiner, clip, file_chunks, output_text
from botbook.wire.box.values import (
    IMAGE,
    WORKSPACE,
    Context,
    ExecResult,
    Mount,
    ProcessInfo,
    ProcessSpec,
    SessionInfo,
    Spec,
)

__all__ = [
    "CLIP_LIMIT",
    "ERROR_NAMES",
    "EXTENSIONS",
    "IMAGE",
    "OUTPUT_LIMIT",
    "PROFILES",
    "SCOPES",
    "SKILL_ACTIONS",
    "WORKSPACE",
    "Chunk",
    "Context",
    "Dialect",
    "ExecResult",
    "LineJoiner",
    "Mount",
    "ProcessInfo",
    "ProcessSpec",
    "Profile",
    "Reply",
    "Request",
    "RequestJoiner",
    "SessionInfo",
    "Spec",
    "apply_profile",
    "clip",
    "decode",
    "encode_chunk",
    "encode_error",
    "encode_reply",
    "encode_request",
    "error_of",
    "file_chunks",
    "identity_headers",
    "output_text",
    "probe",
    "relay_url",
    "scope",
]
