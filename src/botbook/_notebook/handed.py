"""Files that an agent hands over: links that download them, as far as their contents can be had here."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

__all__ = ["WORKSPACE", "download_links", "workspace"]

#: What paths are relative to (protocols/agent.md), where the agent's container shares it with this one.
WORKSPACE: Final = "/workspace"
#: Longest file that goes into a link, and with it into the notebook, in bytes.
LONGEST: Final = 2**20


def workspace() -> Path:
    """The agent's workspace as seen from here: ``BOTBOOK_WORKSPACE``, else ``/workspace``."""
    return Path(os.environ.get("BOTBOOK_WORKSPACE") or WORKSPACE)


def download_links(paths: Iterable[str], folder: Path, held: Mapping[str, bytes] = {}) -> dict[str, str]:
    """Addresses that hold whole files: path → ``data:`` address. What is not there, or long, is left out.

    Args:
        paths: Relative to the workspace.
        folder: Where the workspace is; nothing outside it is read.
        held: Files that are at hand without it.
    """
    found = {path: held[path] if path in held else _read(path, folder) for path in paths}
    return {
        path: "data:application/octet-stream;base64," + base64.b64encode(data).decode()
        for path, data in found.items()
        if data is not None and len(data) <= LONGEST
    }


def _read(path: str, folder: Path) -> bytes | None:
    try:
        whole = (folder / path).resolve(strict=True)
        if (
            not whole.is_relative_to(folder.resolve())
            or not whole.is_file()
            or whole.stat().st_size > LONGEST
        ):
            return None
        return whole.read_bytes()
    except (OSError, ValueError):
        return None
