"""What the README shows runs, and what it names is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CELLS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_make_target_that_the_readme_names_is_there_and_documented():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"^make (\w+) +\S", listed, re.MULTILINE))
    named = re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE)
    assert set(named) <= known
    assert {"demo", "lab", "test", "check", "browser", "bench", "live", "notebooks"} <= known


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"[`(]((?:docs|notebooks|[A-Z]+\.md)[\w/.-]*)[`)]", README)))
)
def test_every_file_that_the_readme_names_is_there(path):
    assert (ROOT / path).exists()


def test_the_readmes_cells_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "journal.sqlite"))
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    try:
        for cell in CELLS:
            result = shell.run_cell(cell)
            assert result.success, (cell, result.error_in_exec)
    finally:
        shell.run_cell("%unload_ext botbook")
        InteractiveShell.clear_instance()
    assert "Tell me more!" in README
