"""Virtual environments with the official clients, built on first use under ``.live/``."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["environment"]

ROOT = Path(__file__).parents[2] / ".live"
#: Longest build, in seconds.
PATIENCE = 300


def environment(package: str, version: str) -> Path:
    """An environment with one package in one version.

    Args:
        package: Its name on the package index.
        version: Exactly this one.

    Returns:
        The environment's Python.
    """
    home = ROOT / f"{package}-{version}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = home / "bin" / "python"
    built = home / "built"
    if not built.exists():
        venv.create(home, with_pip=True, clear=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, f"{package}=={version}"], check=True, timeout=PATIENCE)
        built.touch()
    return python
