"""Where the journal lies, and whether it may lie there."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from botbook._errors import StoreError, StoreFull

__all__ = ["DEFAULT_PLACE", "journal_path", "make_place", "network_kind"]

DEFAULT_PLACE: Final = Path(".botbook", "journal.sqlite")

#: File systems on which SQLite's shared memory is not shared (sqlite.org/wal.html: all processes
#: on one host). 9p and virtiofs are left out: sandboxes and virtual machines run on them.
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "beegfs", "glusterfs"}
    | {f"fuse.{name}" for name in ("sshfs", "rclone", "s3fs", "gcsfuse", "glusterfs", "ceph", "davfs2")}
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def journal_path(path: str | os.PathLike[str] | None = None) -> Path:
    """The file to use: the one given, else ``BOTBOOK_STORE``, else `DEFAULT_PLACE`; absolute.

    Raises:
        StoreError: It is no file name.
    """
    named = os.fspath(path) if path is not None else os.environ.get("BOTBOOK_STORE") or DEFAULT_PLACE
    if str(named) in ("", ":memory:") or str(named).startswith("file:") or "\0" in str(named):
        raise StoreError(f"{str(named)!r} is no file: a journal lies on a disk", hint="Name a file.")
    found = Path(named).expanduser().absolute()
    if found.is_dir():
        raise StoreError(f"{found} is a folder", hint="Name a file in it.")
    return found


def make_place(path: Path, *, mounts: Path = Path("/proc/mounts")) -> None:
    """Make the folder and an empty file, for the owner alone (mode 0600).

    A folder called ``.botbook`` gets a ``.gitignore`` of its own, so that no journal is committed.

    Args:
        path: The journal; left as it is if it is there.
        mounts: The system's list of mounts.

    Raises:
        StoreError: The place is on a network.
        StoreFull: It cannot be made.
    """
    if kind := network_kind(path, mounts=mounts):
        raise StoreError(
            f"{path} is on a network file system ({kind}), where a journal can break",
            hint="Name a file on a local disk with `store=` or BOTBOOK_STORE.",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.parent.name == DEFAULT_PLACE.parent.name:
            _write_once(path.parent / ".gitignore", "*\n")
        _write_once(path, "")
    except OSError as error:
        raise StoreFull(
            f"the journal {path} cannot be made: {error.strerror}",
            hint="Make the folder writable, or name another file with `store=` or BOTBOOK_STORE.",
        ) from None


def network_kind(path: Path, *, mounts: Path = Path("/proc/mounts")) -> str:
    """Name of the network file system a path is on; "" if it is local or cannot be told."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    real = Path(os.path.realpath(path))
    best, kind = -1, ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        at = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[1]))
        if real.is_relative_to(at) and len(at.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(at.parts), fields[2]
    return kind if kind in _NETWORK else ""


def _write_once(path: Path, text: str) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
