"""Before a request: is it fit to be sent? After it: why could the address not be reached?"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from botbook._errors import ConfigError, ConnectError, HandshakeError, TransportError

__all__ = ["check_headers", "origin", "unreachable"]


def origin(url: str) -> str:
    """Scheme, host and port of an address: what an error may show of it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse what would break a request apart.

    Raises:
        ConfigError: A value holds such a character; it stays unsaid, for it may be a token.
    """
    for name, value in headers.items():
        if not value.isascii() or not value.isprintable():
            raise ConfigError(
                f"the value of {name} holds a character that cannot be sent",
                hint="Look for a line break or a stray character at the end of the token.",
            )


def unreachable(error: OSError, where: str) -> TransportError:
    """Name the trouble.

    Args:
        error: As the system raised it.
        where: An `origin`.

    Returns:
        `HandshakeError` where TLS failed, for another try would not help, else `ConnectError`.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return HandshakeError(
            f"the certificate of {where} is not trusted: {error.verify_message}",
            hint="Check the host name and this machine's date; SSL_CERT_FILE adds an authority of your own.",
        )
    if isinstance(error, ssl.SSLError):
        return HandshakeError(
            f"{where} does not speak TLS: {getattr(error, 'reason', '') or 'the handshake failed'}",
            hint="Check the port; on this machine the address may have to start with http:// or ws://.",
        )
    if isinstance(error, socket.gaierror):
        return ConnectError(f"{where} has no address: {error.strerror}", hint="Check the name of the host.")
    return ConnectError(
        f"nobody answers at {where}" + (f": {os.strerror(error.errno)}" if error.errno else "")
    )
