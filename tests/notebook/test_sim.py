"""The notebook face over the real bot and the embedded world."""

import asyncio
import time

import pytest
from IPython.utils.capture import capture_output

from botbook._local.server import serve
from botbook._local.world import World
from botbook._net.loop import io_loop
from botbook._notebook import magics
from botbook._notebook.desk import Desk
from botbook.bot import Bot, connect


class Notebook:
    """A shell with botbook in it, and all that was ever shown in it."""

    def __init__(self, shell, kept):
        self.shell = shell
        self.desk = Desk(
            shell, connect=lambda *given, **more: kept.append(connect(*given, **more)) or kept[-1]
        )
        self.seen = []
        magics.load(shell, self.desk)

    def run(self, cell):
        with capture_output() as captured:
            result = self.shell.run_cell(cell, store_history=True)
        bundles = [output.data for output in captured.outputs]
        self.seen += [captured.stdout, captured.stderr, repr(result.result), *map(repr, bundles)]
        return result, bundles, captured.stdout

    def shown(self, cell):
        """The one thing a cell shows, as plain text."""
        result, bundles, out = self.run(cell)
        assert result.success, out
        return bundles[-1]["text/plain"]

    def until(self, done, *, seconds=5.0):
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture(scope="module")
def kept():
    """Bots are held to the end of the tests, so that none is collected on a thread of its own loop."""
    return []


@pytest.fixture
def book(shell, kept, monkeypatch):
    monkeypatch.delenv("BOTBOOK_STORE", raising=False)
    return Notebook(shell, kept)


@pytest.fixture
def quiet(book):
    book.run("%bot connect sim --scenario quiet")
    return book


def replies(book):
    return book.desk.bot().events(type="message.sent")


def test_the_shortest_lesson(book):
    result, bundles, _ = book.run(
        "%%bot\n@on_message\nasync def echo(event):\n    await event.reply('you said ' + event.text)"
    )
    assert result.success
    assert "Connected to sim" in bundles[0]["text/plain"]
    book.run("%bot sim say ann hello there")
    book.until(lambda: "you said hello there" in list(replies(book)["text"]))
    assert "you said hello there" in book.shown("%bot events")
    assert "echo" in book.shown("%bot handlers")
    assert "sim (current)" in book.shown("%bot")


def test_running_a_handler_cell_again_replaces_it(quiet):
    for word in ("one", "two"):
        said = quiet.shown(
            f"%%bot on message.received --name h\nasync def h(event):\n    await event.reply('{word}')"
        )
        assert said.startswith("Handler h is ")
        quiet.run("%bot sim say ann hi")
        quiet.until(lambda word=word: word in list(replies(quiet)["text"]))
    assert list(replies(quiet)["text"]) == ["one", "two"]


def test_a_condition_decides_who_is_answered(quiet):
    quiet.run(
        "%%bot on message.received --when \"'yes' in text\"\n"
        "async def h(event):\n    await event.reply(event.text)"
    )
    quiet.run("%bot sim say ann no\n%bot sim say ann yes")
    quiet.until(lambda: len(replies(quiet)))
    assert list(replies(quiet)["text"]) == ["yes"]


def test_private_and_group_handlers_keep_apart(quiet):
    quiet.run(
        "%%bot\n@on_message\nasync def one(event):\n    await event.reply('private')\n"
        "@on_group_at\nasync def two(event):\n    await event.reply('group')"
    )
    quiet.run("%bot sim say ann hi")
    quiet.run("%bot sim say ann hi --group g1")
    quiet.until(lambda: len(replies(quiet)) == 2)
    assert sorted(replies(quiet)["text"]) == ["group", "private"]


def test_a_failing_handler_shows_its_own_line(quiet):
    quiet.run("%%bot on message.received\ndef broken(event):\n    return 1 / 0")
    quiet.run("%bot sim say ann hi")
    quiet.until(lambda: len(quiet.desk.bot().errors()))
    said = quiet.shown("%bot errors")
    assert "ZeroDivisionError" in said
    assert "return 1 / 0" in said
    assert "line 3" in said
    assert "_bus" not in said


def test_a_message_goes_out_and_is_in_the_events(quiet):
    quiet.run("name = 'Ann'")
    assert "Sent to user:ann" in quiet.shown("%%bot send --to user:ann --out r\nHello **{{name}}**")
    quiet.until(lambda: len(replies(quiet)))
    assert list(replies(quiet)["text"]) == ["Hello **Ann**"]
    assert quiet.shell.user_ns["r"].message_id
    log = quiet.shell.run_line_magic("bot", "sim log")
    assert [row["what"] for row in log][-1] == "send"
    assert "send" in quiet.shown("%bot sim log")


def test_await_in_a_cell_works_with_the_awaitable_twin(quiet):
    result, _, out = quiet.run("%%bot\nsent = await bot.aio.send('user:ann', 'hi')\nsent.message_id")
    assert result.success, out
    assert result.result


def test_history_plots_and_the_rest_of_the_verbs(quiet, tmp_path):
    quiet.run("%%bot on message.received\nasync def echo(event):\n    await event.reply(event.text)")
    for text in ("one", "two", "three"):
        quiet.run(f"%bot sim say ann {text}")
    quiet.until(lambda: len(replies(quiet)) == 3)
    chat = replies(quiet)["chat_id"].iloc[0]
    assert "three" in quiet.shown(f"%bot history {chat} --limit 5")
    assert "volume" in quiet.shown("%bot plot")
    result, bundles, out = quiet.run("%bot plot volume --freq h --out fig")
    assert result.success, out
    assert {"text/html", "text/markdown", "text/plain", "image/png"} == set(bundles[-1])
    assert type(quiet.shell.user_ns["fig"]).__name__ == "Plot"
    assert "per hour" in bundles[-1]["text/plain"]
    assert "per second" in quiet.shown("%bot plot volume")  # seconds of events, seconds for buckets
    assert "per day" in quiet.shown("%bot plot user_growth")
    assert "recording" in quiet.shown("%bot record frames.jsonl").lower()
    quiet.run("%bot sim say ann four")
    quiet.until(lambda: (tmp_path / "frames.jsonl").exists() and (tmp_path / "frames.jsonl").read_text())
    quiet.run("%bot record --stop")
    assert "No interrupted calls yet." in quiet.shown("%bot interrupted")
    assert "will misbehave" in quiet.shown("%bot sim fault fin")
    quiet.until(lambda: quiet.desk.bot().status().reconnects == 1)
    assert "off" in quiet.shown("%bot off echo")


def test_the_dashboard_is_one_page_over_the_current_journal(quiet):
    for name in ("ann", "bob"):
        quiet.run(f"%bot sim say {name} hello")
    quiet.until(lambda: len(quiet.desk.bot().events(type="message.received")) == 2)
    result, bundles, out = quiet.run("%bot dashboard --tz Europe/Berlin --out page")
    assert result.success, out
    (shown,) = bundles[-1:]
    assert {"text/html", "text/markdown", "text/plain"} == set(shown)
    assert shown["text/html"].count("<img") >= 5
    assert "<script" not in shown["text/html"]
    assert "User messages" in shown["text/markdown"]
    page = quiet.shell.user_ns["page"]
    assert shown["text/plain"] == page.text()
    assert {tile.name: tile.number for tile in page.tiles}["active_users.active"] == 2
    result, bundles, _ = quiet.run("none = %bot dashboard --bot nobody --since 1d")
    assert (result.success, bundles) == (True, [])
    assert quiet.shell.user_ns["none"].tiles[0].number == 0


@pytest.mark.parametrize(
    ("cell", "kind", "hint"),
    [
        ("%bot dashboard --since soon", "CommandError", "2026-03-01"),
        ("%bot dashboard --freq fortnight", "ConfigError", "One of s"),
        ("%bot connect nowhere", "ConfigError", "sim"),
        ("%bot connect miti", "ConfigError", "MITI_APP_ID"),
        ("%bot connect sim --scenario helo", "ConfigError", "hello"),
        ("%bot sim fault stal", "LocalProtocolError", "stall"),
        ("%bot events --since yesterdayish", "", ""),
        ("%%bot on mess..\ndef f(event): ...", "HandlerError", "message.received"),
        ("%%bot on message.received\ndef f(event, nope): ...", "HandlerError", ""),
        ("%%bot on message.received --when 'tex ='\ndef f(event): ...", "HandlerError", ""),
        ("%bot plot volume --tz Mars/Base", "", ""),
        ("%bot connect miti --base-url http://example.org", "ConfigError", ""),
    ],
)
def test_what_goes_wrong_is_two_lines_with_a_hint(quiet, cell, kind, hint, monkeypatch):
    for variable in ("MITI_APP_ID", "MITI_APP_SECRET"):
        monkeypatch.delenv(variable, raising=False)
    result, _, out = quiet.run(cell)
    assert not result.success
    lines = out.rstrip("\n").split("\n")
    assert len(lines) == 2, out
    assert lines[0].startswith("Hint: ")
    assert hint in lines[0]
    assert lines[1].startswith(kind)


def test_a_bot_connected_in_python_is_taken_over(book, kept):
    bot = connect("sim", scenario="quiet", name="mine")
    kept.append(bot)
    book.shell.user_ns["bot"] = bot
    try:
        assert "Sent to user:ann by mine" in book.shown("%%bot send --to user:ann\nhi")
        result, bundles, _ = book.run("%%bot\nbot.name")
        assert (result.result, bundles) == ("mine", [])
    finally:
        bot.stop()


def test_connecting_twice_leaves_one_and_close_stops_it(quiet):
    first = quiet.desk.bot()
    quiet.run("%bot connect sim --scenario quiet")
    assert first.status().state == "stopped"
    second = quiet.desk.bot()
    quiet.run("%bot close")
    assert second.status().state == "stopped"


def test_unload_closes_the_link(quiet):
    bot = quiet.desk.bot()
    magics.unload(quiet.shell)
    assert bot.status().state == "stopped"


def test_no_secret_is_ever_shown(book, monkeypatch, tmp_path):
    world = World(scenario="quiet")
    server = io_loop().run(serve(world))
    io_loop().run(world.start())
    try:
        given = server.description()["miti"]
        secrets = [given["app_secret"], "wr0ng-s3cret-of-the-fixture"]
        monkeypatch.setenv("MITI_API_BASE_URL", given["base_url"])
        monkeypatch.setenv("MITI_APP_ID", given["app_id"])
        monkeypatch.setenv("MITI_APP_SECRET", secrets[1])
        assert "AuthError" in book.run("%bot connect miti")[2]
        book.run("%tb")
        book.run("%xmode Verbose")
        book.run("%bot connect miti\n")
        book.run("%tb")
        monkeypatch.setenv("MITI_APP_SECRET", secrets[0])
        for cell in (
            "b = %bot connect miti",
            "%bot",
            "b",
            "b.settings",
            "vars(b.settings) if hasattr(b.settings, '__dict__') else str(b.settings)",
            "%%bot send --to user:ann\nhello",
            "%%bot send --to user:ann\n{{b.settings.app_secret}}",
            '%%bot send --to user:ann\n{"secret": {{b.settings.app_secret}}}',
            "%%bot\nbot.send('nobody', 'x')",
            "%tb",
            "%bot events",
            "%bot doctor",
            "df = %bot events\ndf.to_json()",
            "%bot sim say ann hi",
            "%tb",
        ):
            book.run(cell)
        book.run("%xmode Context")
        assert isinstance(book.shell.user_ns["b"], Bot)
        token_free = [text for text in book.seen if any(secret in text for secret in secrets)]
        assert token_free == []
        magics.unload(book.shell)
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert not any(secret.encode() in path.read_bytes() for secret in secrets), path
    finally:
        io_loop().run(world.stop())
        io_loop().run(server.close())


def test_a_magic_may_run_while_a_loop_runs_on_this_thread(quiet):
    quiet.run("%bot sim say ann hello")
    bot = quiet.desk.bot()
    quiet.until(lambda: len(bot.events(type="message.received")))
    chat = bot.events(type="message.received")["chat_id"].iloc[0]

    async def inside():
        return quiet.shell.run_line_magic("bot", f"history {chat}")

    assert "hello" in list(asyncio.run(inside())["text"])
