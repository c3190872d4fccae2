"""Messages between runtime, keeper and session: JSON in an anonymous file, descriptors beside it.

The file takes bodies of any size, where one message of a socket does not.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

MOST_FDS = 16
#: Longest body that is read, in bytes.
LIMIT = 32 * 1024 * 1024


def send(sock: socket.socket, body: dict[str, Any], fds: list[int] | None = None) -> None:
    """Send a message; the descriptors stay open on this side."""
    file = os.memfd_create("message")
    try:
        with open(file, "wb", closefd=False) as out:
            out.write(json.dumps(body).encode())
        socket.send_fds(sock, [b"m"], [file, *(fds or [])])
    finally:
        os.close(file)


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Read a message and its descriptors, which now are ours; None at the end."""
    try:
        data, fds, _, _ = socket.recv_fds(sock, 1, MOST_FDS)
    except ConnectionResetError:
        return None
    if not data or not fds:
        return None
    for fd in fds:
        os.set_inheritable(fd, False)
    with open(fds[0], "rb") as file:
        file.seek(0)
        return json.loads(file.read(LIMIT)), fds[1:]
