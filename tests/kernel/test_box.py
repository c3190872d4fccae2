"""The sandbox in a real kernel: the stop button ends what runs inside, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

#: The goal is 0.3 s on a quiet machine; a loaded one gets three times that.
STOPPED = 1.0
#: A time that nobody else sleeps, so that the process can be found.
NAP = "86421"


def napping() -> int:
    """How many processes of the machine sleep that long."""
    count = 0
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            count += place.read_bytes() == f"sleep\0{NAP}\0".encode()
        except OSError:  # it has just ended
            continue
    return count


def until(seconds: float, *, napping_is: int) -> float:
    """Wait until so many sleep; gives how long that took, in seconds."""
    began = time.monotonic()
    while napping() != napping_is:
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_the_stop_button_ends_a_command_with_all_that_it_started(kernel, figure):
    kernel.ok("%%bot box\necho kept > file")
    pressed = kernel.client.execute(f"%%bot box\n(setsid sleep {NAP} &)\necho started\nsleep {NAP}")
    until(10, napping_is=2)
    before = time.monotonic()
    kernel.manager.interrupt_kernel()
    figure("seconds until it is gone", until(STOPPED, napping_is=0))
    reply = kernel.client.get_shell_msg(timeout=20)
    assert time.monotonic() - before < STOPPED
    assert reply["parent_header"]["msg_id"] == pressed
    assert reply["content"]["ename"] == "BotInterrupted"
    assert reply["content"]["traceback"] == ["BotInterrupted: stopped; the session and its files are kept"]
    views = _views(kernel, pressed)
    assert views[-1].startswith("started\n")
    assert "stopped" in views[-1].split("\n")[-1]
    assert "kept\n" in _last_view(kernel.ok("%%bot box\ncat file"))


def _views(kernel, ident: str) -> list[str]:
    """What a cell showed, one after the other."""
    found = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=20)
        if message["parent_header"].get("msg_id") != ident:
            continue
        content = message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            return found
        if "data" in content:
            found.append(content["data"]["text/plain"])


def _last_view(done) -> str:
    return [content["data"]["text/plain"] for _, content in done.outputs if "data" in content][-1]


def test_output_grows_while_the_command_runs(kernel):
    done = kernel.ok("%%bot box\necho one; sleep 0.5; echo two")
    views = [content["data"]["text/plain"] for _, content in done.outputs if "data" in content]
    assert any("one\n" in view and "two" not in view for view in views)
    assert views[-1].startswith("one\ntwo\n")


def test_a_failure_turns_the_cell_red_in_two_lines(kernel):
    failed = kernel.run("%%bot box --out r\necho sorry >&2; exit 3")
    assert failed.content["status"] == "error"
    hint, error = failed.content["traceback"]
    assert hint.startswith("Hint: ")
    assert error.startswith("CommandFailed: exit code 3 after ")
    assert error.endswith(": sorry")
    assert kernel.value("import json\nprint(json.dumps([r.exit_code, r.stderr]))") == [3, "sorry\n"]


def test_every_command_is_in_the_events(kernel):
    kernel.run("%%bot box --session told\nexit 4")
    seen = kernel.value(
        "import json, time\ntime.sleep(0.2)\ne = %bot events --type box.exec\n"
        "print(e[['bot', 'chat_id', 'text', 'error']].iloc[-1].to_json())"
    )
    assert seen == {"bot": "sim", "chat_id": "told", "text": "exit 4", "error": "exit code 4"}


def test_the_end_of_the_extension_ends_what_runs(kernel):
    kernel.ok(f"box = %bot box\np = box.start('sleep', ['{NAP}'])")
    until(5, napping_is=1)
    kernel.ok("%unload_ext botbook")
    until(5, napping_is=0)
    kernel.ok("%load_ext botbook\n%bot connect sim --scenario quiet")
