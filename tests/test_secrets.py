"""No secret is in anything that a notebook leaves behind, also when everything goes wrong."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from botbook import cli
from tests.kernel.strict import StrictGateway

SECRET = "Sq8mZ4vTnW2kXr7pLd5hYc9b"
TOKEN = "Tk3fJ6wQzB8nVx2mRs7gHy4d"
WRONG = "Wg5tN9cKpD3rMv8xFj6bLz2s"
#: Where the user has put secrets; everything else that appears in the folder is looked through.
OWN = "profiles.toml"
PROFILES = """
[wrong]
gateway = "miti"
app_secret = "{wrong}"

[nowhere]
gateway = "miti"
base_url = "http://127.0.0.1:{closed}/chat"
app_secret = "{secret}"

[locked]
gateway = "miti"
app_id = "cli_locked"

[mistyped]
gateway = "miti"
app_secrett = "{secret}"

[misset]
gateway = "miti"
app_secret = "{secret}"
speed = "fast"
"""
#: Cell by cell: what a user may do, and what may go wrong.
CELLS = (
    "import logging\nlogging.basicConfig(level=logging.DEBUG, filename='everything.log', force=True)",
    "%xmode Verbose\n%load_ext botbook\nbot = %bot connect miti",
    # A connection that is refused is tried for nine seconds, so this is awaited at the end.
    "import botbook\nfrom concurrent.futures import ThreadPoolExecutor\n"
    "nowhere = ThreadPoolExecutor().submit(botbook.connect, 'miti', profile='nowhere')",
    "%bot record record.jsonl\n%bot",
    "bot.settings",
    "display(bot, vars(bot), vars(bot.aio), bot.status())",
    "display(str(bot.settings), f'{bot.settings.app_secret}', [bot.settings.app_secret])",
    "import pickle\npickle.dumps(bot.settings)",
    "%%bot\n@on_message\nasync def echo(event):\n    await event.reply(event.text)",
    "bot.wait('message.sent', count=3)",
    "%%bot\n@on_message\nasync def echo(event):\n    return bot.settings.app_secret + event.text",
    "bot.wait('handler.failed', count=2)\n%bot errors",
    "%bot off echo\n%bot handlers\nbot.errors()",
    "bot.events(raw=True)",
    *[
        cell
        for text in ("please refuse me", "please fail", "please say no", "please hang up")
        for cell in (f"bot.send('user:ann', '{text}')", "%tb", f"%%bot send --to user:ann\n{text}", "%tb")
    ],
    "%bot history si_ann_cli",
    "%tb",
    "%%bot\nawait bot.aio.history('si_ann_cli')",
    "%bot connect miti --profile wrong",
    "%tb",
    "botbook.connect('miti', profile='wrong')",
    *[
        cell
        for profile in ("locked", "mistyped", "misset", "missing")
        for cell in (
            f"%bot connect miti --profile {profile}",
            "%tb",
            f"botbook.connect('miti', profile={profile!r})",
            "%tb",
        )
    ],
    "botbook.connect('miti', app_secret=bot.settings.app_secret, chat=3)",
    "%bot doctor",
    "%whos",
    "%bot\n%bot events --limit 5\n%history",
    "%bot plot volume --freq s",
    "nowhere.result()",
    "%tb",
    "%bot close --all\n%unload_ext botbook",
    "logging.shutdown()",
)


def spellings(secret: str) -> list[bytes]:
    """Ways in which a text may stand in a file."""
    plain = secret.encode()
    tails = [base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)]
    return [plain, plain[::-1], plain.hex().encode(), plain.decode().encode("utf-16-le"), *tails]


def leaks(folder: Path) -> dict[str, list[str]]:
    """Files with a secret in them, and where."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != OWN):
        content = path.read_bytes()
        for name, secret in (("secret", SECRET), ("token", TOKEN), ("wrong secret", WRONG)):
            for spelling in spellings(secret):
                for hit in re.finditer(re.escape(spelling), content):
                    around = content[max(0, hit.start() - 300) : hit.end() + 40].decode(errors="replace")
                    found.setdefault(str(path.relative_to(folder)), []).append(f"{name}: …{around}…")
    return found


def test_a_secret_is_found_however_it_is_written(tmp_path):
    for number, spelling in enumerate(spellings(SECRET)):
        (tmp_path / str(number)).write_bytes(b"before" + spelling + b"after")
    (tmp_path / "none").write_text("nothing here")
    assert set(leaks(tmp_path)) == {str(number) for number in range(len(spellings(SECRET)))}


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory):
    """The folder after the notebook has run, and the notebook."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / OWN).write_text(PROFILES.format(wrong=WRONG, secret=SECRET, closed=1))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    with StrictGateway(app_secret=SECRET, token=TOKEN) as gateway:
        environ = (
            os.environ
            | gateway.environ
            | {
                "BOTBOOK_PROFILES": str(folder / OWN),
                "BOTBOOK_STORE": str(folder / "journal.sqlite"),
                "IPYTHONDIR": str(folder / "ipython"),
            }
        )
        with (folder / "kernel.log").open("wb") as noise:
            client = NotebookClient(
                book,
                kernel_name="python3",
                timeout=60,
                ipython_hist_file=str(folder / "history.sqlite"),
                allow_errors=True,
                resources={"metadata": {"path": str(folder)}},
            )
            client.execute(env=environ, stdout=noise, stderr=noise)
        assert {"POST /chat/agent/v1/auth/token", "GET /chat/agent/gateway"} <= set(gateway.paths)
    (folder / "book.ipynb").write_text(nbformat.writes(book))
    cli._write_page(book, folder / "book.html")
    return folder, book


def errors(book):
    return {
        cell.source: output.ename
        for cell in book.cells
        for output in cell.outputs
        if output.output_type == "error"
    }


def test_what_should_go_wrong_went_wrong_and_nothing_else(left_behind):
    _, book = left_behind
    found = errors(book)
    assert found["bot.send('user:ann', 'please refuse me')"] == "AuthError"
    assert found["bot.send('user:ann', 'please fail')"] == "ApiError"
    assert found["bot.send('user:ann', 'please say no')"] == "ApiError"
    assert found["bot.send('user:ann', 'please hang up')"] == "ConnectionLost"
    assert found["%bot connect miti --profile wrong"] == "AuthError"
    assert found["nowhere.result()"] == "ConnectError"
    assert found["%bot connect miti --profile locked"] == "AuthError"
    assert found["%bot connect miti --profile mistyped"] == "ConfigError"
    assert found["%bot connect miti --profile misset"] == "ConfigError"
    assert found["import pickle\npickle.dumps(bot.settings)"] == "TypeError"
    unplanned = [
        s for s in found if not re.search("please|profile|nowhere|history|%tb|pickle|app_secret=", s)
    ]
    assert unplanned == []


def test_every_kind_of_thing_was_left_behind(left_behind):
    folder, book = left_behind
    sizes = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    for name in (
        "everything.log",
        "journal.sqlite",
        "record.jsonl",
        "history.sqlite",
        "book.ipynb",
        "book.html",
    ):
        assert sizes[name] > 500, name
    log = (folder / "everything.log").read_text()
    assert "DEBUG" in log
    assert "Authorization" not in log
    long = [o for cell in book.cells if cell.source == "%tb" for o in cell.outputs]
    assert all(len("\n".join(output.traceback).splitlines()) > 10 for output in long)


def test_no_secret_and_no_token_is_anywhere(left_behind):
    folder, _ = left_behind
    assert leaks(folder) == {}
