from __future__ import annotations

import socket
import ssl

import pytest

from botbook._errors import ConfigError, ConnectError, HandshakeError
from botbook._net.reach import check_headers, origin, unreachable


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (ssl.SSLCertVerificationError(1, "self-signed"), HandshakeError, "not trusted"),
        (ssl.SSLError(1, "x"), HandshakeError, "the handshake failed"),
        (socket.gaierror(-2, "Name or service not known"), ConnectError, "has no address: Name"),
        (ConnectionRefusedError(111, "Connect call failed"), ConnectError, "refused"),
        (OSError("Multiple exceptions"), ConnectError, "nobody answers at here$"),
    ],
)
def test_what_the_system_says(error, kind, match):
    error.verify_message = "self-signed certificate"
    named = unreachable(error, "here")
    assert type(named) is kind
    assert named.hint
    with pytest.raises(kind, match=match):
        raise named


def test_origin_leaves_path_and_query_out():
    assert origin("wss://example.org:444/path?token=x") == "wss://example.org:444"


def test_headers():
    check_headers({"Authorization": "Bearer abc.def-_="})
    with pytest.raises(ConfigError, match="the value of X"):
        check_headers({"X": "a\x00b"})
