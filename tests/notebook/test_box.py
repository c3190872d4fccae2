"""The verbs of the sandbox, over the embedded runtime of this machine."""

import base64
import json
import os
from types import SimpleNamespace

import pandas as pd
import pytest

from botbook._errors import BotInterrupted, CommandError, CommandFailed, ConfigError, SandboxError
from botbook._local import box_server
from botbook._net.loop import io_loop
from botbook._notebook import box_verbs, magics
from botbook._notebook.boxes import Boxes
from botbook._notebook.commands import COMMANDS
from botbook._notebook.verbs import ACTIONS

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def book(cellar, monkeypatch, tmp_path):
    """A shell whose sandbox is the one of this process."""
    for name in ("BOTBOOK_STORE", "BOTBOOK_BOX_URL", "BOTBOOK_BOX_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "profiles.toml"))
    return cellar


def shown(book, cell):
    """What a cell shows in the end, as plain text."""
    made = book.run(cell)
    assert made.error is None, made.stdout
    assert made.value is None
    return made.bundles[-1]["text/plain"]


def failed(book, cell, kind):
    made = book.run(cell)
    assert type(made.error) is kind, made.stdout
    hint, last = made.error._render_traceback_()
    assert hint.startswith("Hint: ")
    return made, hint, last


def rows(book):
    """The events of the sandbox's own journal."""
    journal = book.desk.boxes._journal
    journal.store.flush(5)
    return journal.frame(type="box.exec", raw=True)


def test_every_verb_has_its_deed():
    assert set(COMMANDS) <= set(ACTIONS)


def test_a_command_runs_and_its_result_is_kept(book):
    text = shown(
        book, "%%bot box --out r\necho out; sleep 0.3; echo err >&2; cat /nowhere 2> /dev/null; true"
    )
    assert text.startswith("out\nstderr: err\nsandbox default · exit code 0 · ")
    result = book.shell.user_ns["r"]
    assert (result.ok, result.stdout, result.stderr) == (True, "out\n", "err\n")
    bundle = book.run("%%bot box\necho again").bundles[-1]
    assert set(bundle) == {"text/html", "text/markdown", "text/plain"}


def test_the_braces_and_dollars_of_a_body_are_its_own(book):
    assert shown(book, "%%bot box\nx=5; echo '{{x}}' ${x}").startswith("{{x}} 5\n")


def test_python_runs_from_a_file_and_imports_from_the_workspace(book):
    shown(book, "%%bot box\necho 'answer = 42' > mine.py")
    text = shown(
        book, "%%bot box --lang python\nimport mine, sys\nprint(mine.answer, len(sys.stdin.read()))\n"
    )
    assert text.startswith("42 0\n")
    made, _, last = failed(book, "%%bot box --lang python\nprint('EOF')\nmine", CommandFailed)
    assert "NameError: name 'mine' is not defined" in last
    assert 'File "/tmp/cell.py", line 2' in made.bundles[-1]["text/plain"]


def test_a_failure_is_red_and_the_result_is_kept_all_the_same(book):
    made, _, last = failed(book, "%%bot box --out r\necho some; echo why >&2; exit 3", CommandFailed)
    assert last.startswith("CommandFailed: exit code 3 after ")
    assert last.endswith(": why")
    assert made.bundles[-1]["text/plain"].startswith("some\nstderr: why\nsandbox default · exit code 3")
    assert made.error.result is book.shell.user_ns["r"]
    assert "no such program" in failed(book, "%%bot box\nno-such-program", CommandFailed)[1]


def test_a_time_out_says_how_to_give_it_longer_and_keeps_the_files(book):
    shown(book, "%%bot box\necho kept > file")
    _, hint, last = failed(book, "%%bot box --timeout 1\nsleep 30", CommandFailed)
    assert "--timeout" in hint
    assert "timed out after 1" in last
    assert shown(book, "%%bot box\ncat file").startswith("kept\n")


def test_sessions_keep_apart_and_end(book):
    shown(book, "%%bot box --session one --net on\necho 1 > file")
    shown(book, "%%bot box --session two\ntest ! -e file")
    listed = shown(book, "%bot box ls")
    assert [line.split()[0] for line in listed.splitlines()[2:]] == ["one", "two"]
    assert "on" in listed.splitlines()[2]
    _, hint, last = failed(book, "%%bot box --session two --net on\ntrue", SandboxError)
    assert "already exists with network=off" in last
    assert "%bot box rm two" in hint
    assert "has ended" in shown(book, "%bot box rm two")
    assert "`%bot box ls`" in failed(book, "%bot box rm two", SandboxError)[1]
    shown(book, "%%bot box --session two --net on\ntrue")
    assert book.complete("%bot box rm t") == ["two"]
    assert book.complete("%%bot box --session o") == ["one"]
    assert {"ls", "ps", "stop", "rm", "put", "get", "show", "doctor"} <= set(book.complete("%bot box "))


def test_no_session_is_no_table_and_opens_no_sandbox_for_tab(book):
    assert book.complete("%bot box rm ") == ["--profile", "-h"]
    assert book.desk.boxes._open == {}
    assert "No session yet." in shown(book, "%bot box ls")
    assert "No managed process." in shown(book, "%bot box ps")


def test_the_box_itself_for_python(book):
    made = book.run(
        "box = %bot box\nresult = box.exec('echo hi')\np = box.start('cat')\np.write_line('x')\np.readline()"
    )
    assert made.error is None, made.stdout
    assert made.value == "x"
    assert book.shell.user_ns["result"].stdout == "hi\n"
    assert "cat" in shown(book, "%bot box ps --session default")
    assert "has ended" in shown(book, "%bot box stop default")
    assert "`%bot box ps`" in failed(book, "%bot box stop default", SandboxError)[1]
    assert "`%bot box ls`" in failed(book, "%bot box ps --session nobody", SandboxError)[1]


def test_files_go_in_and_come_out(book, tmp_path):
    (tmp_path / "in.txt").write_text("from here")
    assert "in.txt in session default: 9 bytes." in shown(book, "%bot box put in.txt")
    shown(book, "%bot box put in.txt deep/er.txt")
    assert shown(book, "%%bot box\ncat in.txt deep/er.txt").startswith("from herefrom here")
    shown(book, "%%bot box\nprintf out > out.txt")
    assert "out.txt: 3 bytes." in shown(book, "%bot box get out.txt")
    (tmp_path / "folder").mkdir()
    shown(book, "%bot box get out.txt folder")
    assert (tmp_path / "folder" / "out.txt").read_bytes() == (tmp_path / "out.txt").read_bytes() == b"out"
    os.remove(tmp_path / "out.txt")
    assert "variable r: 3 bytes." in shown(book, "%bot box get out.txt --out r")
    assert book.shell.user_ns["r"] == b"out"
    assert not (tmp_path / "out.txt").exists()
    failed(book, "%bot box get nothing.txt", SandboxError)
    failed(book, "%bot box put nothing.txt", ConfigError)
    failed(book, "%bot box get deep/er.txt /nowhere/at/all", ConfigError)


def test_variables_go_in_as_files(book):
    book.shell.user_ns |= {
        "raw": b"\x00\x01",
        "text": "täxt",
        "facts": {"a": [1, None]},
        "df": pd.DataFrame({"a": [1, 2]}),
        "odd": object(),
    }
    for name, place in (
        ("raw", "r"),
        ("text", "t"),
        ("facts", "f.json"),
        ("df", "d.csv"),
        ("df", "d.parquet"),
    ):
        shown(book, f"%bot box put --var {name} {place}")
    found = {
        place: book.shell.run_line_magic("bot", f"box get {place} --out x")
        for place in ("r", "t", "f.json", "d.csv")
    }
    assert found["r"] == b"\x00\x01"
    assert found["t"].decode() == "täxt"
    assert json.loads(found["f.json"]) == {"a": [1, None]}
    assert found["d.csv"] == b"a\n1\n2\n"
    assert book.shell.run_line_magic("bot", "box get d.parquet --out x").startswith(b"PAR1")
    assert "DataFrame into .csv" in failed(book, "%bot box put --var odd x.json", CommandError)[1]
    failed(book, "%bot box put --var df d.txt", CommandError)
    failed(book, "%bot box put --var nobody x", CommandError)
    failed(book, "%bot box put --var df a.csv b.csv", CommandError)


def test_pictures_and_texts_are_shown(book, monkeypatch):
    book.shell.user_ns |= {
        "png": PNG,
        "svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
        "junk": b"\xff\x00",
    }
    for name, place in (("png", "p.png"), ("svg", "s.svg"), ("junk", "junk")):
        shown(book, f"%bot box put --var {name} {place}")
    bundle = book.run("%bot box show p.png").bundles[-1]
    assert base64.b64decode(bundle["image/png"]) == PNG
    assert bundle["text/plain"] == f"p.png: a picture, {len(PNG)} bytes"
    assert "data:image/svg+xml;base64," in book.run("%bot box show s.svg").bundles[-1]["text/html"]
    shown(book, "%%bot box\necho '<b>text</b>' > t")
    bundle = book.run("%bot box show t").bundles[-1]
    assert bundle["text/plain"] == "<b>text</b>\n"
    assert "&lt;b&gt;" in bundle["text/html"]
    failed(book, "%bot box show junk", CommandError)
    monkeypatch.setattr(box_verbs, "SHOWN", 10)
    failed(book, "%bot box show p.png", CommandError)


def test_the_doctor_says_what_holds_and_what_does_not(book):
    text = shown(book, "%bot box doctor --out r")
    assert "protections are in force" in text
    assert "cannot see the machine's processes" in text
    assert {row["protection"] for row in book.shell.user_ns["r"]} >= {"files", "network", "memory"}
    row = {"backend": "b", "protection": "", "on": None, "how": "it does not tell"}
    assert box_verbs.protection_rows(
        [row, {**row, "on": False}, {**row, "protection": "files", "on": False}]
    ) == [
        ["b", "any of it", "not known", "it does not tell"],
        ["b", "cannot run here", "NO", "it does not tell"],
        ["b", "cannot read or write the machine's files outside the mounts", "NO", "it does not tell"],
    ]


def test_the_stop_button_keeps_the_session(book, monkeypatch):
    shown(book, "%%bot box\necho kept > file")

    def stopped(work):
        work.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(book.desk.boxes.get().aio, "home", SimpleNamespace(run=stopped))
    made = book.run("%%bot box\nsleep 60")
    assert isinstance(made.error, BotInterrupted)
    assert made.bundles[-1]["text/plain"] == "sandbox default · stopped"
    monkeypatch.undo()


def test_every_command_leaves_an_event(book):
    shown(book, "%%bot box --session s\necho " + "x" * 300)
    failed(book, "%%bot box --session s\nexit 4", CommandFailed)
    found = rows(book)
    assert list(found["text"].str.len()) == [200, 6]
    assert list(found["error"]) == ["", "exit code 4"]
    assert set(found["chat_id"]) == {"s"}
    assert set(found["bot"]) == {"box"}
    assert (found["latency_s"] > 0).all()
    assert json.loads(found["raw"].iloc[0])["stdout_bytes"] == 301


def test_events_go_to_the_current_bot_where_there_is_one(book):
    kept = []
    book.run("%bot connect sim")
    book.bot.audit = kept.append
    shown(book, "%%bot box\ntrue")
    assert [row["cmd"] for row in kept] == ["true"]
    assert book.desk.boxes._journal is None


def test_a_runtime_elsewhere_by_its_profile(book, tmp_path):
    server, endpoint = io_loop().run(box_server.start())
    try:
        (tmp_path / "profiles.toml").write_text(
            f'[lab]\ngateway = "box"\nbase_url = "{endpoint.url}"\ntoken = "{endpoint.token}"\n'
            'instance = "me"\nworkspace = "lab"\n'
        )
        shown(book, "%%bot box --profile lab --session there\ntrue")
        (session,) = server.runtime.boxes._sessions.values()
        assert session.key.session == "there"
        assert (session.key.context.instance, session.key.context.workspace) == ("me", "lab")
        assert "No session yet." in shown(book, "%bot box ls")
        assert "there" in shown(book, "%bot box ls --profile lab")
    finally:
        book.desk.boxes.close()
        io_loop().run(server.close())
    assert "no profile 'nowhere'" in failed(book, "%bot box ls --profile nowhere", ConfigError)[2]


def test_no_token_is_ever_shown(book, monkeypatch):
    server, endpoint = io_loop().run(box_server.start())
    monkeypatch.setenv("BOTBOOK_BOX_URL", endpoint.url)
    seen = []
    try:
        for token in ("a-token-that-is-wrong", endpoint.token):
            monkeypatch.setenv("BOTBOOK_BOX_TOKEN", token)
            for cell in (
                "%xmode Verbose",
                "box = %bot box",
                "%%bot box\nexit 3",
                "%tb",
                "from botbook.sandbox import Box\nbox = Box()\nbox.exec('exit 3').check()",
                "%tb",
                "box.delete('nobody')",
                "%tb",
                "box.aio.__dict__, box.aio._link.__dict__",
                "%bot doctor",
            ):
                made = book.run(cell)
                seen += [made.stdout, made.stderr, repr(made.value), *map(repr, made.bundles)]
                assert not [text for text in seen if token in text], cell
            book.run("box.close()")
            book.desk.boxes.close()
    finally:
        book.run("%xmode Context")
        io_loop().run(server.close())
    assert any("AuthError" in text for text in seen)
    assert any("CommandFailed" in text for text in seen)


def test_unload_ends_the_sandbox(book):
    shown(book, "%%bot box\ntrue")
    box = book.desk.boxes.get()
    magics.unload(book.shell)
    assert box.aio._server is None
    assert book.desk.boxes._open == {}
    Boxes(lambda: None).close()
