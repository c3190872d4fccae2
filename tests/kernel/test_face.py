"""What only a real kernel can show: the stop button, the shape of errors, Tab, the cost of loading."""

from __future__ import annotations

import socket

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.kernel.kernels import Kernel

pytestmark = pytest.mark.kernel

LOAD = "%load_ext botbook\n%bot connect sim --scenario quiet"
#: The goal is 150 ms on a quiet machine; a loaded one gets four times that.
LOAD_MS = 600
#: The goal is 0.3 s on a quiet machine.
STOPPED = 1.0


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        ("", "%%bot\nbot.wait(count=99, timeout=60)"),
        ("", "%%bot\nimport asyncio\nawait asyncio.sleep(60)"),
        ("", "%%bot\nimport time\ntime.sleep(60)"),
        ("", "%%bot\nimport asyncio, time\nawait asyncio.sleep(0)\ntime.sleep(5)"),
        ("%bot sim fault slow seconds=60", "%bot history c1"),
        ("%bot sim fault slow seconds=60", "%%bot send --to user:ann\nhello"),
    ],
)
def test_the_stop_button_ends_any_wait_and_keeps_the_link(kernel, figure, prepare, code):
    if prepare:
        assert kernel.run(prepare).content["status"] == "ok"
    before = kernel.run("%bot use sim\nb = %bot use sim\nprint(b.status().reconnects, b.status().state)").text
    stopped = kernel.run(code, interrupt_after=0.4)
    assert stopped.content["ename"] == "BotInterrupted"
    assert stopped.content["traceback"] == ["BotInterrupted: stopped; the connection is kept"]
    figure("seconds to stop", stopped.seconds)
    assert stopped.seconds < STOPPED
    kernel.run("b.sim.reset()")
    after = kernel.run("print(b.status().reconnects, b.status().state)").text
    assert after == before == "0 open\n"
    assert kernel.run("%%bot\nimport asyncio\nawait asyncio.sleep(0, 'alive')").content["status"] == "ok"


def test_the_stop_button_ends_a_connection_that_is_being_opened(kernel):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        kernel.run("%env MITI_APP_ID=a\n%env MITI_APP_SECRET=b")
        stopped = kernel.run(f"%bot connect miti --base-url {address}", interrupt_after=0.6)
    assert stopped.content["ename"] == "BotInterrupted"
    assert stopped.seconds < STOPPED
    assert "sim (current)" in kernel.run("%bot").outputs[-1][1]["data"]["text/plain"]


def test_an_error_is_two_lines_in_the_reply_and_in_the_output(kernel):
    failed = kernel.run("%bot conect sim")
    assert failed.content["status"] == "error"
    lines = ["Hint: Did you mean 'connect'?", "CommandError: there is no verb 'conect'"]
    assert failed.content["traceback"] == lines
    assert [content["traceback"] for kind, content in failed.outputs if kind == "error"] == [lines]
    assert failed.text == ""
    whole = [content["traceback"] for kind, content in kernel.run("%tb").outputs if kind == "error"]
    assert len(whole[0]) > 2
    assert "CommandError" in whole[0][-1]


def test_a_table_and_its_twins(kernel):
    kernel.ok("%bot sim say bob 'good morning'\nimport time\ntime.sleep(0.5)")
    kind, content = kernel.ok("%bot events --limit 5").outputs[-1]
    assert kind == "display_data"
    assert set(content["data"]) == {"text/html", "text/markdown", "text/plain"}
    assert all("good morning" in twin for twin in content["data"].values())
    taken = kernel.ok("df = %bot events\nprint(type(df).__name__, 'good morning' in set(df['text']))")
    assert [kind for kind, _ in taken.outputs if kind != "status"] == ["execute_input", "stream"]
    assert taken.text == "DataFrame True\n"


def test_tab_offers_verbs_options_and_values_and_nothing_else(kernel):
    assert kernel.complete("%bot ev") == ["events"]
    assert {"--type", "--since", "--limit"} <= set(kernel.complete("%bot events --"))
    assert kernel.complete("%bot connect s") == ["sim"]
    assert "on" in kernel.complete("%%bot o")
    kernel.ok("%config IPCompleter.use_jedi = False\nevening = 1")
    assert "evening" in kernel.complete("eve")


def test_handlers_answer_while_a_cell_sleeps(kernel):
    kernel.run(
        "%%bot on message.received\nasync def echo(event):\n    await event.reply('re: ' + event.text)"
    )
    kernel.run("%bot sim say ann hello\nimport time\ntime.sleep(1)")
    said = kernel.run(
        "e = %bot events --type message.*\nprint(list(e['text'])[-2:], e['latency_s'].iloc[-1] < 0.5)"
    )
    assert said.text == "['hello', 're: hello'] True\n"


def test_unload_and_load_again(kernel):
    assert kernel.run("%unload_ext botbook").content["status"] == "ok"
    assert kernel.run("%bot").content["status"] == "error"
    assert kernel.run(LOAD).content["status"] == "ok"
    assert "sim (current)" in kernel.run("%bot").outputs[-1][1]["data"]["text/plain"]


def test_a_notebook_fails_in_nbclient_and_keeps_the_error(tmp_path):
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(LOAD), nbformat.v4.new_code_cell("%bot events --nope")]
    )
    with pytest.raises(CellExecutionError, match="no option --nope"):
        NotebookClient(
            book, timeout=30, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    (output,) = book.cells[1].outputs
    assert output.output_type == "error"
    assert output.ename == "CommandError"
    assert output.traceback[-1] == "CommandError: events has no option --nope"
    assert set(book.cells[0].outputs[-1].data) == {"text/html", "text/markdown", "text/plain"}


def test_loading_is_quick_and_loads_nothing_heavy(python, tmp_path, figure):
    code = (
        "import time; t = time.perf_counter()\n%load_ext botbook\nprint((time.perf_counter() - t) * 1000)\n"
        "import sys\nheavy = {'pandas', 'pyarrow', 'matplotlib', 'aiohttp', 'narwhals', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    took = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with Kernel(tmp_path / name, python=python) as kernel:
            milliseconds, heavy = kernel.run(code).text.split("\n", 1)
        took.append(float(milliseconds))
        assert heavy == "[]\n"
    figure("%load_ext botbook, ms", min(took))
    assert min(took) < LOAD_MS
