"""A program written for the SDK, with one import changed: as a script, and in a notebook's cell."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import threading

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from botbook._local.server import serve
from botbook._local.world import World
from botbook._net.loop import io_loop
from tests.defects.rig import sent, until

#: The SDK's first example: `miti_agent_sdk` became `botbook.compat.miti`.
PROGRAM = """
from botbook.compat.miti import MitiAgent

agent = MitiAgent(
    app_id="{app_id}",
    app_secret="{app_secret}",
)

@agent.on_message
async def handle(event):
    user_text = event.event.message.content.get("text", "")
    await event.reply(f"you: {{user_text}}")

@agent.on_group_at
async def handle_group(event):
    text = event.event.message.content.get("text", "")
    await event.reply(f"group: {{text}}")

agent.run()
"""


def replies(world):
    bodies = [entry["body"] for entry in sent(world, "send")]
    return sorted(
        (body.get("to_user_id") or body["to_group_id"], body["content"]["content_list"][0]["content"])
        for body in bodies
    )


EXPECTED = [
    ("ann", '{"markdown": {"delta": "you: hi"}}'),
    ("garden", '{"markdown": {"delta": "group: @bot hello"}}'),
]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_as_a_script(place, tmp_path, ending):
    script = tmp_path / "program.py"
    credentials = place.world.credentials(place.server.base)
    script.write_text(PROGRAM.format(**credentials), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        script,
        cwd=tmp_path,
        env={**os.environ, "MITI_API_BASE_URL": credentials["base_url"]},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: place.world.miti.sockets == 1 or process.returncode is not None, seconds=30)
        place.world.say("ann", "hi")
        place.world.say("bob", "hello", group="garden")
        await until(lambda: len(sent(place.world, "send")) == 2 or process.returncode is not None)
        process.send_signal(ending)
        _, err = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err.decode()) == (0, "")
    assert replies(place.world) == EXPECTED
    assert place.world.miti.sockets == 0
    closed = sent(place.world, "closed")
    assert [entry["code"] for entry in closed] == [1001]  # it said goodbye


async def test_a_script_that_only_sends_ends_without_a_word(place, tmp_path):
    """Whatever was registered first for the exit of the process; a temporary folder turns that round."""
    credentials = place.world.credentials(place.server.base)
    code = f"""
import asyncio, tempfile
folder = tempfile.TemporaryDirectory()
from botbook.compat.miti import MitiAgent
agent = MitiAgent(**{credentials})
asyncio.run(agent.send_message(to_user_id="ann", content={{"text": "x"}}))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err.decode()) == (0, "")
    assert len(sent(place.world, "send")) == 1


@pytest.fixture
def elsewhere():
    """A world that lives on another thread, for cells that hold this one."""
    world = World(scenario="quiet")
    io_loop().run(world.start())
    server = io_loop().run(serve(world))
    yield world, server
    io_loop().run(server.close())
    io_loop().run(world.stop())


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.ipython_dir = str(tmp_path / "ipython")
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def run_cells(shell, *cells):
    """Run cells as a kernel does: on a loop that runs."""

    async def run(cell):
        cell = textwrap.dedent(cell)
        return await shell.run_cell_async(cell, transformed_cell=shell.transform_cell(cell))

    async def one_after_the_other():
        return [await run(cell) for cell in cells]

    loop = asyncio.new_event_loop()
    try:
        with capture_output():
            return loop.run_until_complete(one_after_the_other())
    finally:
        loop.close()


def test_in_a_cell_the_stop_button_ends_it_and_the_next_cell_runs(elsewhere, shell, monkeypatch):
    world, server = elsewhere
    credentials = world.credentials(server.base)
    monkeypatch.setenv("MITI_API_BASE_URL", credentials["base_url"])

    def people():
        opened = threading.Event()
        while not world.miti.sockets:
            opened.wait(0.01)
        world.say("ann", "hi")
        world.say("bob", "hello", group="garden")
        while len(sent(world, "send")) < 2:
            opened.wait(0.01)
        os.kill(os.getpid(), signal.SIGINT)  # what the stop button does

    thread = threading.Thread(target=people, daemon=True)
    thread.start()
    program, following = run_cells(shell, PROGRAM.format(**credentials), "ran = 1 + 1")
    thread.join(5)
    assert program.error_in_exec is None
    assert program.error_before_exec is None
    assert shell.user_ns["ran"] == 2
    assert following.success
    assert replies(world) == EXPECTED


def test_in_cells_as_a_task_beside_other_work(elsewhere, shell):
    world, server = elsewhere
    shell.user_ns |= {"world": world, "credentials": world.credentials(server.base)}
    results = run_cells(
        shell,
        """
        import asyncio
        from botbook.compat.miti import MitiAgent
        agent = MitiAgent(**credentials)
        heard = asyncio.Queue()          # belongs to this loop

        @agent.on_message
        async def handle(event):
            await heard.put(event.event.message.content["text"])
            await event.reply("heard")

        task = asyncio.create_task(agent.run_async())
        """,
        """
        while not world.miti.sockets:
            await asyncio.sleep(0.01)
        world.say("ann", "one")
        first = await asyncio.wait_for(heard.get(), 10)
        """,
        """
        @agent.on_message
        async def handle(event):
            await heard.put("replaced")

        world.say("ann", "two")
        second = await asyncio.wait_for(heard.get(), 10)
        """,
        """
        await agent.close()
        await asyncio.wait_for(task, 10)
        """,
    )
    assert [result.error_in_exec for result in results] == [None] * 4
    assert (shell.user_ns["first"], shell.user_ns["second"]) == ("one", "replaced")
