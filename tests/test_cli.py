import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

import nbformat
import pytest

from botbook import cli
from botbook._errors import AuthError, BotbookError
from botbook._local import backends
from botbook._local.backends import BACKENDS
from botbook.sandbox import AsyncBox
from tests.local.box_fakes import FakeBackend


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "journal.sqlite"))
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "profiles.toml"))
    return tmp_path


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["-h"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    known = ["demo", "sim", "box", "report", "export", "import", "archive", "forget", "doctor"]
    assert re.findall(r"^    (\w+)", out, re.MULTILINE) == known


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["dmo"], "invalid choice: 'dmo'"),
        ([], "COMMAND"),
        (["sim", "--port", "x"], "invalid int value"),
        (["sim", "--scenario", "helo"], "no scenario 'helo'"),
        (["sim", "--host", "0.0.0.0"], "reachable from outside"),
        (["box", "--host", "0.0.0.0"], "reachable from outside"),
        (["sim", "--speed", "0"], "speed must be above 0"),
        (["doctor", "--nope"], "--nope"),
    ],
)
def test_a_wrong_command_is_two_lines_and_code_2(argv, words, capsys):
    assert cli.main(argv) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("botbook: ")
    assert words in first
    assert second.startswith("Hint: ")


def test_a_failure_is_code_1_and_the_stop_key_130(monkeypatch, capsys):
    def fail(options):
        raise BotbookError("it broke")

    monkeypatch.setattr(cli, "_doctor", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "botbook: it broke\n"

    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_doctor", stop)
    assert cli.main(["doctor"]) == 130


def test_doctor_tells_and_its_code_follows(capsys, monkeypatch):
    assert cli.main(["doctor"]) == 0
    assert "All is well." in capsys.readouterr().out
    monkeypatch.setenv("BOTBOOK_STORE", ":memory:")
    assert cli.main(["doctor"]) == 1
    assert "-> Name a file." in capsys.readouterr().out


class Served:
    """``botbook sim`` or ``botbook box`` as another program runs it."""

    def __init__(self, *options, stdin=subprocess.PIPE, verb="sim"):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "botbook", verb, *options],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.guard = threading.Timer(30, self.process.kill)
        self.guard.start()
        self.line = json.loads(self.process.stdout.readline())

    def end(self):
        out, err = self.process.communicate(timeout=10)
        self.guard.cancel()
        return self.process.returncode, out, err


def test_sim_serves_and_ends_with_the_process_that_holds_it():
    served = Served("--json", "--scenario", "quiet")
    request = urllib.request.Request(
        served.line["control"] + "/status",
        headers={"Authorization": f"Bearer {served.line['control_token']}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200
    assert served.line["miti"]["base_url"].startswith("http://127.0.0.1:")
    assert {"app_id", "app_secret"} <= set(served.line["miti"])
    assert served.end() == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sim_ends_on_a_signal(number):
    served = Served(stdin=subprocess.DEVNULL)
    served.process.send_signal(number)
    code, _, err = served.end()
    assert code == 0
    assert err == "The embedded world is up; Ctrl-C stops it.\n"


def test_sim_ends_after_its_time(capsys):
    assert cli.main(["sim", "--for", "0.1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["control"].endswith("/control")


async def test_sim_serves_a_sandbox_on_the_same_port():
    served = Served("--json", "--scenario", "quiet")
    line = served.line
    assert line["box"]["url"] == line["control"].replace("http", "ws").replace("/control", "/rpc/ws")
    async with AsyncBox(line["box"]["url"], line["box"]["token"]) as box:
        assert (await box.exec("echo hello")).stdout == "hello\n"
        process = await box.start("cat")
        await process.write_line("x")
        assert await process.readline() == "x"
    with pytest.raises(AuthError):
        await AsyncBox(line["box"]["url"], "wrong-token-of-the-tests").open()
    assert served.end() == (0, "", "")


def test_sim_without_a_sandbox_says_so(monkeypatch, capsys):
    monkeypatch.setattr(backends, "BACKENDS", {"broken": lambda: FakeBackend(available=False)})
    assert cli.main(["sim", "--for", "0.1", "--json"]) == 0
    said = capsys.readouterr()
    assert "box" not in json.loads(said.out)
    assert said.err.startswith("No sandbox: no sandbox works on this machine")


def test_a_sandbox_ends_with_a_world_that_cannot_be_served(monkeypatch, capsys):
    made = FakeBackend()
    monkeypatch.setattr(backends, "BACKENDS", {"fake": lambda: made})
    assert cli.main(["sim", "--host", "0.0.0.0"]) == 2
    assert made.closed


async def test_box_serves_commands_and_ends_with_the_process_that_holds_it():
    served = Served(verb="box")
    async with AsyncBox(served.line["url"], served.line["token"]) as box:
        assert (await box.exec("echo hello")).stdout == "hello\n"
    assert served.line["backend"] in BACKENDS
    assert served.end() == (0, "", "")


def test_box_ends_on_a_signal_and_after_its_time(capsys):
    served = Served(stdin=subprocess.DEVNULL, verb="box")
    served.process.send_signal(signal.SIGTERM)
    assert served.end() == (0, "", "")
    assert cli.main(["box", "--for", "0.1"]) == 0
    assert json.loads(capsys.readouterr().out)["url"].startswith("ws://127.0.0.1:")
    assert cli.main(["box", "--backend", "nonsense"]) == 1
    assert "no sandbox backend 'nonsense'" in capsys.readouterr().err


def test_only_a_pipe_that_somebody_holds_is_a_leash(tmp_path):
    reading, writing = os.pipe()
    assert cli._is_held(reading)
    os.write(writing, b"x")
    assert cli._is_held(reading)
    os.close(writing)
    assert not cli._is_held(reading)
    os.close(reading)
    with open(os.devnull) as nothing:
        assert not cli._is_held(nothing.fileno())
    assert not cli._is_held(reading)


def test_the_demo_says_when_its_notebook_is_missing(monkeypatch, capsys, place):
    monkeypatch.setattr(cli, "DEMO", place / "nothing.ipynb")
    assert cli.main(["demo"]) == 2
    assert "is not there" in capsys.readouterr().err


def test_the_demo_says_what_to_install(monkeypatch, capsys, place):
    (place / "book.ipynb").write_text(nbformat.writes(nbformat.v4.new_notebook()))
    monkeypatch.setattr(cli, "DEMO", place / "book.ipynb")
    monkeypatch.setitem(sys.modules, "nbclient", None)
    assert cli.main(["demo"]) == 2
    assert "pip install 'botbook[run]'" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "nbclient")
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    assert cli.main(["demo"]) == 2
    assert "the demo needs nbconvert" in capsys.readouterr().err


@pytest.mark.kernel
def test_the_demo_leaves_a_page_that_needs_no_other_machine(monkeypatch, capsys, place):
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A title"),
            nbformat.v4.new_code_cell("%load_ext botbook\n%bot connect sim"),
            nbformat.v4.new_code_cell("import os; print(os.environ['BOTBOOK_STORE'])"),
            nbformat.v4.new_code_cell("%bot nonsense"),
        ]
    )
    (place / "book.ipynb").write_text(nbformat.writes(book))
    monkeypatch.setattr(cli, "DEMO", place / "book.ipynb")
    assert cli.main(["demo", "--out", "out/page.html"]) == 1
    said = capsys.readouterr()
    assert str(place / "out" / "page.html") in said.out
    assert "the notebook failed: CommandError: there is no verb" in said.err
    html = (place / "out" / "page.html").read_text(encoding="utf-8")
    assert "A title" in html
    assert "sim (current)" in html
    assert str(place / "journal.sqlite") not in html
    fetched = re.findall(
        r"""(?:\bsrc|<link[^>]*href|\bimport|@import|url)\s*[=(\s]\s*["'(]*(https?:[^"')\s]+)""", html
    )
    assert fetched == []
    (place / "a-file").write_text("")
    assert cli.main(["demo", "--out", "a-file/page.html"]) == 2


def test_the_report_reads_a_journal_and_leaves_a_page(place, capsys):
    from datetime import UTC, datetime

    from botbook._data.store import Store
    from botbook.events import Event

    assert cli.main(["report"]) == 2
    assert "there is no journal" in capsys.readouterr().err
    assert not (place / "journal.sqlite").exists()
    store = Store(place / "journal.sqlite")
    for day in (1, 2):
        at = datetime(2026, 3, day, tzinfo=UTC)
        said = Event(
            event_id=f"e{day}", type="message.received", at=at, received_at=at, gateway="sim", bot="b",
            chat_id="c", user_id="u", role="user", message_id=f"m{day}", text="hi",
        )  # fmt: skip
        store.append([said], lambda rows: None)
    store.close()
    assert cli.main(["report", "--since", "2026-03-02", "--out", "out/page.html"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"User messages +1\n", out)
    assert "from 2026-03-02 00:00 UTC" in out
    html = (place / "out" / "page.html").read_text(encoding="utf-8")
    assert 'data-name="volume.user" data-number="1.0"' in html
    assert cli.main(["report", "--since", "yesterday"]) == 2
    assert cli.main(["report", "--tz", "Berlin"]) == 2
