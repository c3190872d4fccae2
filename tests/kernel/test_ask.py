"""``%%bot ask`` in a real kernel, with the agent in another process."""

from __future__ import annotations

import statistics
import time

import pytest

from botbook._local.server import serve
from botbook._local.world import World
from botbook._net.loop import io_loop
from botbook.wire.agent_frames import encode
from tests.kernel.kernels import PATIENCE, Kernel

pytestmark = pytest.mark.kernel

#: The stop button has acted within this, in seconds; the promise is 0.3 on a machine with time to spare.
STOPPED = 1.0
#: A piece is seen within this, in seconds; the promise is 0.05 over the wire's time.
SEEN = 0.4


@pytest.fixture(scope="module")
def world():
    """An agent in this process, behind a loopback port."""
    made = World(scenario="quiet", speed=20.0)
    io = io_loop()
    io.run(made.start())
    server = io.run(serve(made))
    made.base_url = server.description()["agent"]["base_url"]
    yield made
    io.run(server.close())
    io.run(made.stop())


@pytest.fixture(scope="module")
def asking(python, world, tmp_path_factory):
    with Kernel(tmp_path_factory.mktemp("ask"), python=python) as kernel:
        kernel.ok(f"%load_ext botbook\nbot = %bot connect agent --base-url {world.base_url}")
        yield kernel


def views(done):
    """Every view of the answer, first to last."""
    return [
        content["data"]
        for kind, content in done.outputs
        if kind in ("display_data", "update_display_data")
        and 'class="answer"' in content["data"]["text/html"]
    ]


def test_an_answer_streams_into_the_cell(asking):
    done = asking.ok("%%bot ask --out answer\nsearch for cats")
    seen = views(done)
    assert len(seen) > 1
    assert [kind for kind, _ in done.outputs if kind == "execute_result"] == []
    assert "the stop button stops the answer" in seen[0]["text/html"]
    assert "<b>search</b>" in seen[-1]["text/html"]
    assert seen[-1]["text/plain"].endswith("1 tool call")
    text = asking.ok("print(answer.text, end='')").text
    assert text in seen[-1]["text/plain"]


def test_the_stop_button_in_mid_answer(asking, world, figure):
    world.fault("endless", gateway="agent", seconds=1.0)
    stopped = asking.run("%%bot ask --out answer\ngo on", interrupt_after=1.0)
    assert stopped.content["ename"] == "BotInterrupted"
    figure("seconds to stop", stopped.seconds)
    assert stopped.seconds < STOPPED
    last = views(stopped)[-1]["text/html"]
    assert "and so on" in last
    assert "Stopped. What had arrived is above." in last
    assert (
        asking.ok("print(bot.status().state, bot.status().reconnects, answer.done)").text == "open 0 True\n"
    )
    again = views(asking.ok("%%bot ask\nHello"))[-1]["text/plain"]
    assert "and so on" not in again
    assert "tokens" in again


def test_a_cell_that_sleeps_does_not_break_the_stream_of_another_chat(asking, figure):
    done = asking.value(
        "import json, time\n"
        "other = bot.aio.ask('a long story, slowly', chat='7')\n"
        "time.sleep(2.5)\n"
        "print(json.dumps([other.done, len(other.text)]))"
    )
    assert done[1] > 300
    late = asking.value(
        "bot.aio.run(other.whole())\n"
        "rows = bot.events(type='message.delta').query('chat_id == \"7\"')\n"
        "gaps = rows['received_at'].diff().dt.total_seconds().dropna()\n"
        "print(json.dumps([other.error, len(rows), gaps.max()]))"
    )
    assert late[:2] == ["", 120]
    figure("longest gap between pieces, s", late[2])
    assert late[2] < 0.5


def test_the_first_piece_is_seen_at_once(asking, world, figure):
    """From the moment when the agent sends it to the message that shows it."""
    took = []
    for turn in range(8):
        word = f"piece{turn}"
        world.fault("silent", gateway="agent")
        ident = asking.client.execute(f"%%bot ask\nquestion {turn}")
        time.sleep(0.4)
        sent = time.time()
        world.fault("raw", gateway="agent", frame=encode("AGENT_EVENT_TEXT_CHUNK", text=word))
        took.append(seen_at(asking, ident, word) - sent)
        world.fault("raw", gateway="agent", frame=encode("AGENT_EVENT_END", tokens_used=1))
        asking.client.get_shell_msg(timeout=PATIENCE)
        seen_at(asking, ident, None)
    figure("first piece to display, median s", statistics.median(took))
    figure("first piece to display, worst s", max(took))
    assert statistics.median(took) < SEEN


def seen_at(kernel, ident, word):
    """When a word was shown, by the kernel's own stamp; without one, waits for the end of the cell."""
    while True:
        message = kernel.client.get_iopub_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") != ident:
            continue
        content = message["content"]
        if word and word in content.get("data", {}).get("text/html", ""):
            return message["header"]["date"].timestamp()
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            assert word is None
            return 0.0


def test_60_kb_stay_smooth(asking, figure):
    """At most ten views a second, and little more work than the same answer without a display."""
    asking.ok("import json, time\ndef cpu(): return time.process_time()\nbefore = bot.status().reconnects")
    bare = asking.value("began = cpu()\nplain = bot.ask('60 kB')\nprint(json.dumps(cpu() - began))")
    asking.ok("began, clock = cpu(), time.monotonic()")
    done = asking.ok("%%bot ask --out answer\n60 kB")
    shown, seconds, length = asking.value(
        "print(json.dumps([cpu() - began, time.monotonic() - clock, len(answer.text)]))"
    )
    seen = views(done)
    assert length == asking.value("print(len(plain.text))") > 59_000
    assert len(seen[-1]["text/html"]) > 59_000
    assert len(seen) <= seconds / 0.1 + 3
    figure("60 kB: views", len(seen))
    figure("60 kB: seconds", seconds)
    figure("60 kB: CPU without display, s", bare)
    figure("60 kB: CPU with display, s", shown)
    assert asking.value("print(bot.status().reconnects - before)") == 0
