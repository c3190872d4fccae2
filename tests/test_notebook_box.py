"""The notebook of the sandbox, on a machine that has neither bubblewrap nor Docker."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from botbook import cli

pytestmark = pytest.mark.kernel

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02-box.ipynb"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The notebook as it ran with an empty PATH, its cells by id."""
    folder = tmp_path_factory.mktemp("box")
    (folder / "bin").mkdir()
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder / "bin"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setattr(cli, "_write_page", lambda book, page: kept.append(book))
        failure = cli.run_notebook(NOTEBOOK, folder / "page.html")
    return SimpleNamespace(failure=failure, cells={cell.id: cell for cell in kept[0].cells})


def texts(run, cell):
    """What a cell shows, as plain text."""
    return "\n".join(
        output.get("text") or output.get("data", {}).get("text/plain", "")
        for output in run.cells[cell].outputs
    )


def having(run, words):
    """The cell whose source has these words."""
    (found,) = [name for name, cell in run.cells.items() if cell.cell_type == "code" and words in cell.source]
    return found


def test_only_the_cell_that_is_meant_to_fails(run):
    assert run.failure == ""
    red = [
        output.evalue
        for cell in run.cells.values()
        for output in cell.get("outputs", [])
        if output.output_type == "error"
    ]
    assert len(red) == 1
    assert red[0].startswith("timed out after 1")


def test_commands_files_and_pictures(run):
    assert "Hello from box, I am box in /workspace\nstep 1\nstep 2" in texts(run, having(run, "Hello"))
    assert texts(run, having(run, "len(result.stdout)")).startswith("(0, ")
    assert "588895 numbers" in texts(run, having(run, "wc -c numbers"))
    (picture,) = run.cells[having(run, "box show rain.png")].outputs
    assert picture.data["image/png"]
    assert '"wetter"' in texts(run, having(run, "box get cities.json"))


def test_every_attack_is_held(run):
    told = texts(run, having(run, "attempts = {"))
    rows = re.findall(r"^\d +(\S.*?) +(completed|timed_out) +(\S+)", told, re.MULTILINE)
    assert len(rows) == 9
    assert {name for name, status, code in rows if status == "completed" and code == "0"} == {
        "list the processes of this machine"
    }
    assert "children, then: Resource temporarily" in told
    assert "still here\n" in texts(run, having(run, "--session attacker"))
    assert "protections are in force" in texts(run, having(run, "%bot box doctor"))


def test_a_program_stays_and_a_bot_has_a_tool(run):
    assert "CAN YOU HEAR ME?" in texts(run, having(run, "shouter ="))
    answers = texts(run, having(run, "%bot sim say ann"))
    assert "1267650600228229401496703205376" in answers
    assert "No such file or d" in answers
    assert "Command timed out after 2 seconds." in answers
    assert texts(run, having(run, "--type box.exec")).count("print(eval(input()))") == 3
