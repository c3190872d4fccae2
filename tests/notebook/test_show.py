"""How an error of botbook looks when a cell called a method, not a magic."""

import pytest

from botbook._errors import BotbookError, ConfigError
from botbook._notebook import magics

CELL = "from botbook._config import settings\n\ndef mine():\n    settings('miti', nope=1)\n\nmine()"


def test_it_shows_the_users_lines_the_hint_and_itself(cellar):
    failed = cellar.run(CELL)
    assert isinstance(failed.error, ConfigError)
    lines = failed.stdout.strip().splitlines()
    assert lines[-1] == "ConfigError: unknown setting: nope"
    assert lines[-2].startswith("Hint: Known: ")
    assert "----> 6 mine()" in lines
    assert any("settings('miti', nope=1)" in line and "4" in line for line in lines)
    assert "_config.py" not in failed.stdout


def test_the_whole_is_there_in_the_next_cell(cellar):
    cellar.run(CELL)
    whole = cellar.run("%tb").stdout
    assert "_config.py" in whole
    assert "Hint:" not in whole


def test_without_a_hint_it_is_the_error_alone(cellar):
    failed = cellar.run("from botbook._errors import BotbookError\nraise BotbookError('it broke')")
    assert "Hint" not in failed.stdout
    assert failed.stdout.strip().endswith("BotbookError: it broke")


def test_a_magic_keeps_to_two_lines(cellar):
    assert cellar.run("%bot nonsense").stdout.strip().splitlines()[0].startswith("Hint: ")


def test_it_comes_and_goes_with_the_extension(cellar):
    assert hasattr(BotbookError, "_render_traceback_")
    magics.unload(cellar.shell)
    assert not hasattr(BotbookError, "_render_traceback_")
    magics.unload(cellar.shell)
    with pytest.raises(BotbookError):
        raise BotbookError("plain")
