"""Files in and out of a session, by commands that every runtime can run."""

from __future__ import annotations

import base64
import posixpath
import secrets
import shlex
from pathlib import Path
from typing import Final, Protocol

from botbook._errors import ConfigError, SandboxError
from botbook.wire.box import ExecResult

__all__ = ["Run", "get", "put", "read_file", "write_file"]

#: Bytes of a file in one command: as input, or in its text where the runtime takes no input. An argument
#: holds 128 KiB at most, and base64 makes four bytes of three.
_PUT_INPUT: Final = 6_000_000
_PUT_TEXT: Final = 45_000
#: Bytes of a file in one output; base64 of it stays under the 1 MiB that is kept (protocols/box.md 7).
_GET: Final = 750_000


class Run(Protocol):
    """Runs shell text in the session."""

    async def __call__(self, cmd: str, stdin: bytes | None = None) -> ExecResult: ...


async def put(run: Run, data: bytes, dst: str, *, takes_input: bool) -> None:
    """Write a file inside, whole or not at all.

    Args:
        run: Runs a command there.
        data: Its bytes.
        dst: Its path; directories are made.
        takes_input: Whether commands can be given input.

    Raises:
        SandboxError: It cannot be written.
    """
    name = dst if dst.startswith("/") else f"./{dst}"
    part = shlex.quote(f"{name}.{secrets.token_hex(4)}.part")
    step = _PUT_INPUT if takes_input else _PUT_TEXT
    before = f"mkdir -p {shlex.quote(posixpath.dirname(name))} && "
    for at in range(0, max(1, len(data)), step):
        piece, into = data[at : at + step], f"{'>>' if at else '>'} {part}"
        last = f" && mv -f {part} {shlex.quote(name)}" if at + step >= len(data) else ""
        if takes_input:
            await _done(run, f"{before}cat {into}{last}", piece)
        else:
            text = base64.b64encode(piece).decode()
            await _done(run, f"{before}printf %s {text} | base64 -d {into}{last}")
        before = ""


async def get(run: Run, src: str) -> bytes:
    """Read a file inside.

    Raises:
        SandboxError: There is no such file.
    """
    name = shlex.quote(src if src.startswith("/") else f"./{src}")
    parts: list[bytes] = []
    while not parts or len(parts[-1]) == _GET:
        start = len(parts) * _GET + 1
        there = f"[ -f {name} ] && [ -r {name} ] || {{ echo no such file: {name} >&2; exit 1; }}"
        text = await _done(run, f"{there}; tail -c +{start} {name} | head -c {_GET} | base64")
        parts.append(base64.b64decode(text))
    return b"".join(parts)


async def _done(run: Run, cmd: str, stdin: bytes | None = None) -> str:
    result = await run(cmd, stdin)
    if not result.ok:
        why = result.stderr.strip() or f"exit code {result.exit_code}"
        raise SandboxError(f"the file could not be copied: {why}", hint="Check the path inside.")
    return result.stdout


def read_file(path: str | Path) -> bytes:
    """A file of this machine.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="Check the path.") from None


def write_file(path: str | Path, data: bytes) -> None:
    """Write a file of this machine.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="Name another place.") from None
