"""Files out, files in, the archive and erasing, over the real bot and the embedded world."""

from __future__ import annotations

import json

import pytest

from botbook._errors import CommandError
from botbook._notebook.desk import Desk
from botbook._notebook.magics import load, unload
from botbook.bot import connect


@pytest.fixture
def run(shell, tmp_path, monkeypatch):
    """Run a line; gives its value."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "j.sqlite"))
    bot = connect("sim", scenario="quiet")
    desk = Desk(shell, connect=lambda *given, **more: bot)
    load(shell, desk)
    shell.run_line_magic("bot", "connect sim")
    yield lambda line: shell.run_line_magic("bot", line)
    unload(shell)


def test_out_in_away(run, tmp_path):
    rows = [{"at": 1767261600 + n, "author": f"u{n % 2}", "message": f"text {n}"} for n in range(6)]
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = run("import chat.jsonl --map text=message --map user_id=author --bot old")
    assert (told.rows, told.new) == (6, 6)
    assert run("import chat.jsonl --map text=message --map user_id=author --bot old").new == 0
    told = run("export out.csv --bot old --type message.* --frames")
    assert told.rows == 6
    told = run("export out.parquet --bot old --anonymous --format parquet")
    assert told.anonymous
    assert b"text 1" not in (tmp_path / "out.parquet").read_bytes()
    told = run("archive --before 0s")
    assert told.rows >= 6
    assert len(run("events --bot old")) == 6
    told = run("forget user:u1")
    assert (told.events, told.complete) == (3, True)
    frame = run("events --bot old")
    assert set(frame["user_id"]) == {"u0"}
    run("archive --before 0s --drop 0s")
    assert len(run("events --bot old")) == 0


@pytest.mark.parametrize(
    "line", ["forget ann", "forget group:g", "export a.xlsx", "import none.csv", "archive --before x"]
)
def test_what_is_refused(run, line):
    with pytest.raises(CommandError):
        run(line)


def test_sentences():
    from types import SimpleNamespace as Told

    from botbook._notebook.data_verbs import erased, loaded, moved, written

    assert written(Told(rows=1200, path="e.csv", anonymous=True))[1].startswith("Ids are hashes")
    text, more = loaded(Told(path="f", rows=9, new=7, skipped=1, problem="row 2: x", notes=("Made up.",)))
    assert text == "7 new events from f; 2 were there."
    assert more == "1 rows were left out, the first: row 2: x. Made up."
    assert moved(Told(rows=1, segments=("a", "b"), bytes=2_000_000), 3) == (
        "1 events moved into 2 files, 2.0 MB.",
        "3 old events are gone for ever.",
    )
    told = Told(events=1, calls=2, user_id="u", edited=3, complete=False)
    assert "run it again" in erased(told)[1]


def test_events_that_stay_on_the_disk(tmp_path):
    import pyarrow.dataset as ds

    with connect("sim", scenario="quiet", store=tmp_path / "j.sqlite") as bot:
        bot.wait("connection.opened")
        assert isinstance(bot.events(lazy="arrow"), ds.Dataset)
        found = bot.events(lazy=True, type="connection.*").to_arrow_table()
        assert found["type"].to_pylist() == ["connection.opened"]
