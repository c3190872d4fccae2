"""What only a real kernel can show: the stop button, the shape of errors, the cost of loading."""

import os
import socket
import statistics
import sys
import time
from types import SimpleNamespace

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.kernel

LOAD = "%load_ext botbook\n%bot connect sim --scenario quiet"
#: The goal is 150 ms on a quiet machine; a loaded one gets four times that.
LOAD_MS = 600


class Kernel:
    """A kernel and its client, both ends bounded in time."""

    def __init__(self, folder, store):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(
            cwd=str(folder), env=os.environ | {"BOTBOOK_STORE": str(store)}, stderr=-3, stdout=-3
        )
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)

    def run(self, code, *, interrupt_after=None):
        """Run code. Returns outputs, reply, and seconds from the interrupt to the reply."""
        outputs = []
        ident = self.client.execute(code)
        pressed = None
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            pressed = time.monotonic()
            self.manager.interrupt_kernel()
        reply = self.client.get_shell_msg(timeout=30)
        ended = time.monotonic()
        while True:
            message = self.client.get_iopub_msg(timeout=30)
            if message["parent_header"].get("msg_id") != ident:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            outputs.append((message["msg_type"], message["content"]))
        return SimpleNamespace(
            outputs=outputs,
            content=reply["content"],
            seconds=None if pressed is None else ended - pressed,
            text="".join(content["text"] for kind, content in outputs if kind == "stream"),
        )

    def stop(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    made = Kernel(folder, folder / "journal.sqlite")
    assert made.run(LOAD).content["status"] == "ok"
    yield made
    made.stop()


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
def test_the_stop_button_ends_any_wait_and_keeps_the_link(kernel, prepare, code):
    if prepare:
        assert kernel.run(prepare).content["status"] == "ok"
    before = kernel.run("%bot use sim\nb = %bot use sim\nprint(b.status().reconnects, b.status().state)").text
    stopped = kernel.run(code, interrupt_after=0.4)
    assert stopped.content["ename"] == "BotInterrupted"
    assert stopped.content["traceback"] == ["BotInterrupted: stopped; the connection is kept"]
    assert stopped.seconds < 0.3
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
    assert stopped.seconds < 0.3
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


def test_loading_is_quick_and_loads_nothing_heavy(tmp_path, record_property):
    code = (
        "import time; t = time.perf_counter()\n%load_ext botbook\nprint((time.perf_counter() - t) * 1000)\n"
        "import sys\nheavy = {'pandas', 'pyarrow', 'matplotlib', 'aiohttp', 'narwhals', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    took = []
    for number in range(2):
        kernel = Kernel(tmp_path, tmp_path / f"{number}.sqlite")
        try:
            milliseconds, heavy = kernel.run(code).text.split("\n", 1)
        finally:
            kernel.stop()
        took.append(float(milliseconds))
        assert heavy == "[]\n"
    record_property("load_ext_ms", min(took))
    sys.stdout.write(f"%load_ext botbook: {statistics.median(took):.0f} ms\n")
    assert min(took) < LOAD_MS
