"""Virtual environments with what botbook is run against, built on first use under ``.live/``."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

__all__ = ["environment"]

CHECKOUT = Path(__file__).parents[2]
ROOT = CHECKOUT / ".live"
#: Longest build, in seconds.
PATIENCE = 300


def environment(package: str, version: str, *beside: str, botbook: bool = False) -> Path:
    """An environment with one package in one version.

    Args:
        package: Its name on the package index.
        version: Exactly this one.
        beside: What else is to be there, as pip takes it.
        botbook: Whether this checkout is to be there too; built anew when its dependencies change.

    Returns:
        The environment's Python.
    """
    home = ROOT / f"{package}-{version}-py{sys.version_info.major}.{sys.version_info.minor}"
    python = home / "bin" / "python"
    built = home / "built"
    stale = (
        botbook and built.exists() and built.stat().st_mtime < (CHECKOUT / "pyproject.toml").stat().st_mtime
    )
    if stale or not built.exists():
        venv.create(home, with_pip=True, clear=True)
        wanted = [f"{package}=={version}", *beside, *(["--editable", str(CHECKOUT)] if botbook else [])]
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, *wanted], check=True, timeout=PATIENCE)
        built.touch()
    return python
