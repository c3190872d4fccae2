"""The house rules that a linter cannot hold alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = (
    "pandas",
    "pyarrow",
    "matplotlib",
    "aiohttp",
    "IPython",
    "ipywidgets",
    "anywidget",
    "narwhals",
    "numpy",
)


def test_import_directions_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_import_loads_nothing_heavy():
    code = f"import sys, botbook; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "botbook")))
def test_every_module_says_what_it_is_for(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith('"""'), "a module opens with its docstring"
    assert "utils" not in path.name


def test_nothing_is_sent_home():
    """No telemetry: the only addresses in the code are the gateway's default, loopback and an example."""
    found = {
        (path.name, address)
        for path in SOURCES
        for address in re.findall(r"(?:https?|wss?)://[\w.-]+\.[a-z]{2,}", path.read_text(encoding="utf-8"))
    }
    assert {address for _, address in found} <= {"https://www.miti.chat", "https://example.org"}, found


def test_the_states_in_the_page_are_those_in_the_code():
    from botbook._net.link import state_diagram

    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    drawn = page.split("<!-- link-states -->")[1].split("<!-- /link-states -->")[0].strip()
    assert drawn == f"```mermaid\n{state_diagram().strip()}\n```"
