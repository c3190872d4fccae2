import asyncio
import inspect
import threading
import time
from types import SimpleNamespace

import pytest

from botbook._errors import BotbookError, BotInterrupted
from botbook._notebook.cells import CellLoop, lent


def test_a_bare_cell_connects_to_sim_and_says_so(cellar):
    made = cellar.run("%%bot\n@on_message\nasync def echo(event):\n    await event.reply(event.text)\n")
    assert made.error is None
    assert "Connected to sim" in made.bundles[0]["text/plain"]
    assert cellar.bot.registered["echo"].pattern == "message.received"
    assert len(cellar.run("%%bot\n1").bundles) == 0
    assert len(cellar.made) == 1


def test_the_names_are_at_hand_and_decorators_give_the_function_back(sim):
    cell = """%%bot
@on("message.*", name="all", when="text")
def first(event): return 1
@on_message(timeout=2)
def second(event): return 2
@on_group_at(when="text")
def third(event): return 3
(first(0), second(0), third(0), bot.name)"""
    made = sim.run(cell)
    assert made.value == (1, 2, 3, "sim")
    ready = "Ready on sim: all (message.*), second (message.received), third (message.received)."
    assert made.bundles[0]["text/plain"] == ready
    kept = sim.bot.registered
    assert (kept["all"].pattern, kept["all"].when) == ("message.*", "text")
    assert (kept["second"].when, kept["second"].timeout) == ("chat_type != 'group'", 2)
    assert kept["third"].when == "chat_type == 'group' and (text)"


@pytest.mark.parametrize(
    ("name", "kind", "other"), [("on_message", "private", "group"), ("on_group_at", "group", "private")]
)
def test_a_condition_that_is_a_function_counts_besides_the_kind_of_chat(sim, name, kind, other):
    sim.run(f"%%bot\n@{name}(when=lambda event: event.text)\ndef f(event): ...")
    when = sim.bot.registered["f"].when
    assert when(SimpleNamespace(chat_type=kind, text="x"))
    assert not when(SimpleNamespace(chat_type=kind, text=""))
    assert not when(SimpleNamespace(chat_type=other, text="x"))


def test_the_value_of_the_last_line_is_shown_unless_a_semicolon_ends_it(sim):
    assert sim.run("%%bot\nx = 2\nx + 1").value == 3
    assert sim.run("%%bot\nx + 1;").value is None
    assert sim.run("%%bot\nx = 5").value is None
    assert sim.shell.user_ns["x"] == 5


def test_await_is_allowed_anywhere_and_prints_reach_the_cell(sim):
    cell = "%%bot\nimport asyncio\nawait asyncio.sleep(0)\nprint('hi')\nawait asyncio.sleep(0, 'done')"
    made = sim.run(cell)
    assert made.value == "done"
    assert made.stdout.startswith("hi\n")


def test_a_task_lives_on_after_its_cell(sim):
    sim.run(
        "%%bot\nimport asyncio\ndone = []\n"
        "async def later():\n    await asyncio.sleep(0.01)\n    done.append(1)\n"
    )
    sim.run("%%bot\ntask = asyncio.create_task(later())\nawait asyncio.sleep(0)")
    sim.run("%%bot\nawait task")
    assert sim.shell.user_ns["done"] == [1]


def test_magics_work_inside_a_body(sim):
    assert sim.run("%%bot\ndf = %bot events\nlen(df)").value == 2
    assert len(sim.run("%%bot\n%bot handlers\n").bundles) == 1


def test_names_of_the_user_come_back_but_the_bot_stays(sim):
    sim.shell.user_ns["on"] = "mine"
    sim.run("%%bot\non_message")
    assert sim.shell.user_ns["on"] == "mine"
    assert sim.shell.user_ns["bot"] is sim.bot
    sim.run("%bot connect sim --as two")
    sim.run("%%bot\nbot")
    assert sim.shell.user_ns["bot"] is sim.bot
    assert sim.bot.name == "two"


def test_a_bot_that_the_user_called_so_by_hand_is_covered_only_while_the_body_runs():
    names = {"on": "mine"}
    with lent(names, {"on": 1, "bot": 2}, ours=lambda name, value: False):
        assert names == {"on": 1, "bot": 2}
        names["bot"] = "rebound"
    assert names == {"on": "mine", "bot": "rebound"}


def test_an_error_in_a_body_shows_the_cells_own_lines(sim):
    made = sim.run("%%bot\ndef f():\n    return 1 / 0\nf()")
    assert isinstance(made.error, ZeroDivisionError)
    assert "return 1 / 0" in made.stdout
    assert f"cell {len(sim.shell.history_manager.input_hist_raw) - 1}." in made.stdout
    assert ":3" in made.stdout
    assert "_notebook" not in made.stdout
    made = sim.run("%%bot\nimport asyncio\nawait asyncio.sleep(0)\nundefined_name")
    assert isinstance(made.error, NameError)
    assert "_notebook" not in made.stdout


def test_a_wrong_syntax_points_at_the_line(sim):
    made = sim.run("%%bot\nx = (\n")
    assert isinstance(made.error, SyntaxError)
    assert made.error.lineno == 2
    assert "x = (" in made.stdout


def test_botbooks_own_errors_in_a_body_are_short(sim):
    sim.bot.fail_with = BotbookError("no", hint="do this")
    made = sim.run("%%bot\nbot.send('user:a', 'x')")
    assert made.stdout.split("\n")[:2] == ["Hint: do this", "BotbookError: no"]


def test_the_source_of_a_handler_is_known(sim):
    sim.run("%%bot on *\nasync def echo(event):\n    return 'the body'")
    assert "'the body'" in inspect.getsource(sim.bot.registered["echo"].handler)
    assert sim.bot.registered["echo"].handler.__code__.co_firstlineno == 2


def test_the_timeout_of_a_body_is_its_own_error(sim):
    made = sim.run("%%bot\nimport asyncio\nawait asyncio.wait_for(asyncio.sleep(9), 0.01)")
    assert isinstance(made.error, TimeoutError)


def interrupted_after(seconds, work):
    """Run on a loop and press stop. Returns how long it took from the press."""
    loop = CellLoop()
    pressed = []

    def press():
        pressed.append(time.monotonic())
        signal.raise_signal(signal.SIGINT)

    import signal

    timer = threading.Timer(seconds, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        loop.run(work)
    return loop, time.monotonic() - pressed[0]


def test_stop_cancels_a_body_and_the_loop_goes_on():
    cancelled = []

    async def forever():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    loop, took = interrupted_after(0.05, forever())
    assert took < 0.3
    assert cancelled == [1]
    thread = loop._loop
    assert loop.run(asyncio.sleep(0, "next")) == "next"
    assert loop._loop is thread
    loop.close()


def test_stop_leaves_a_body_behind_that_holds_its_loop():
    async def stubborn():
        threading.Event().wait(0.8)

    loop, took = interrupted_after(0.05, stubborn())
    assert took < 0.3
    assert loop.run(asyncio.sleep(0, "next")) == "next"
    loop.close()


def test_a_keyboard_interrupt_in_a_body_is_one_line(sim):
    made = sim.run("%%bot\nraise KeyboardInterrupt")
    assert isinstance(made.error, BotInterrupted)
