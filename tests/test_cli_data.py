"""The command line over a journal: export, import, archive, forget."""

from __future__ import annotations

import json

import pytest

from botbook.cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOTBOOK_STORE", raising=False)
    rows = [{"at": 1767261600 + n, "who": f"u{n % 2}", "text": f"text {n}"} for n in range(4)]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_in_out_archive_forget(here, capsys):
    assert main(["import", "chat.jsonl", "--map", "user_id=who"]) == 0
    assert "4 new events from chat.jsonl." in capsys.readouterr().out
    assert main(["archive", "--before", "1s"]) == 0
    assert "4 events moved into 1 file," in capsys.readouterr().out
    assert main(["export", "e.csv", "--type", "message.*"]) == 0
    assert "4 events are in e.csv." in capsys.readouterr().out
    assert main(["export", "a.jsonl", "--anonymous"]) == 0
    assert "u1" not in (here / "a.jsonl").read_text()
    assert main(["forget", "user:u1"]) == 0
    assert "2 events and 0 handler records of u1 are erased." in capsys.readouterr().out
    assert main(["archive", "--before", "1s", "--drop", "1s"]) == 0
    assert "2 old events are gone for ever." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["export", "e.csv"], 2, "there is no journal"),
        (["forget", "user:u1"], 2, "there is no journal"),
        (["import", "none.csv"], 2, "there is no file"),
        (["import", "chat.jsonl", "--map", "text"], 2, "maps nothing"),
    ],
)
def test_what_is_refused(here, capsys, words, code, told):
    assert main(words) == code
    assert told in capsys.readouterr().err


def test_who_is_no_user(here, capsys):
    main(["import", "chat.jsonl"])
    assert main(["forget", "ann"]) == 2
    assert "'ann' is no user" in capsys.readouterr().err
