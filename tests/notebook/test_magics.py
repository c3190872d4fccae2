import time

import pytest

from botbook._errors import BotbookError, BotInterrupted, CommandError, ConnectionLost
from botbook._notebook import magics, surface

TWINS = {"text/html", "text/markdown", "text/plain"}


@pytest.mark.parametrize(
    "cell",
    [
        "%bot",
        "%bot -h",
        "%bot connect sim --as two",
        "%bot use sim",
        "%bot events",
        "%bot events --type 'message.*' --limit 1",
        "%bot history c1",
        "%%bot send --to user:ann\nhello",
        "%%bot on message.received\nasync def echo(event): ...",
        "%bot handlers",
        "%bot errors",
        "%bot interrupted",
        "%bot sim say ann hello there",
        "%bot sim fault stall seconds=2",
        "%bot sim log",
        "%bot record frames.jsonl",
        "%bot plot",
        "%bot close",
        "%bot close --all",
        "%%bot send -h\nbody",
        "%%bot -h",
    ],
)
def test_everything_is_shown_once_with_three_twins(sim, cell):
    made = sim.run(cell)
    assert made.error is None
    assert made.value is None
    (bundle,) = made.bundles
    assert set(bundle) == TWINS
    assert all(bundle.values())
    assert made.stderr == ""


def test_a_magic_is_shown_wherever_it_stands_in_a_cell(sim):
    made = sim.run("%bot events\nfor n in range(2):\n    %bot handlers\nx = 1")
    assert len(made.bundles) == 3


def test_a_magic_whose_value_is_taken_shows_nothing(sim):
    made = sim.run("df = %bot events --since 1h\nrows = len(df)")
    assert made.bundles == []
    assert sim.shell.user_ns["rows"] == 2
    assert sim.bot.asked == [{"type": None, "since": "1h", "bot": None, "limit": None}]
    assert type(sim.shell.user_ns["df"]).__name__ == "DataFrame"


def test_a_magic_called_from_a_program_gives_its_value(sim):
    assert len(sim.shell.run_line_magic("bot", "events")) == 2
    made = sim.run("def f():\n    return get_ipython().run_line_magic('bot', 'events')\nn = len(f())")
    assert made.bundles == []
    assert sim.shell.user_ns["n"] == 2


def test_out_keeps_the_value_and_shows_it_too(sim):
    assert len(sim.run("%bot events --out df").bundles) == 1
    assert len(sim.shell.user_ns["df"]) == 2
    sim.run("%%bot send --to user:ann --out r\nhi")
    assert sim.shell.user_ns["r"].message_id == "m1"


def test_connect_passes_on_what_was_given_alone(cellar):
    cellar.run("b = %bot connect miti --as a --profile p --base-url https://x")
    assert cellar.bot.options == {"name": "a", "profile": "p", "base_url": "https://x"}
    assert cellar.shell.user_ns["b"] is cellar.bot
    cellar.run("%bot connect sim --scenario s --speed 3")
    assert cellar.bot.options == {"scenario": "s", "speed": 3.0}
    assert cellar.desk.current == "sim"


def test_connecting_again_closes_the_one_before(sim):
    sim.run("%bot connect sim")
    assert [bot.stopped for bot in sim.made] == [True, False]


def test_connecting_again_says_which_handlers_are_gone(sim):
    sim.run("%%bot on *\ndef echo(event): ...")
    card, words = sim.run("%bot connect sim").bundles
    assert "sim (current)" in card["text/plain"]
    assert "had handlers: echo" in words["text/plain"]


def test_a_wait_tells_its_time_and_gives_its_place_to_the_result(sim, monkeypatch):
    monkeypatch.setattr(surface, "TICK", 0.02)
    monkeypatch.setattr(surface, "PERIOD", 0.0)
    views = []
    monkeypatch.setattr(surface.Block, "update", lambda block, view: views.append(view.plain))
    send = sim.bot.send
    sim.bot.send = lambda *args, **options: time.sleep(0.1) or send(*args, **options)
    (bundle,) = sim.run("%%bot send --to user:ann\nhi").bundles
    assert bundle["text/plain"] == "Sending to user:ann …"
    assert views[0] == "Sending to user:ann … 0 s; the stop button ends it"
    assert views[-1].startswith("Sent to user:ann by sim.")


def test_a_wait_that_fails_says_so_in_its_place(sim):
    sim.bot.fail_with = ConnectionLost(1006)
    made = sim.run("%%bot send --to user:ann\nhi")
    assert made.bundles[0]["text/plain"] == "Sending to user:ann: not done."
    assert isinstance(made.error, ConnectionLost)


def test_use_and_close_move_the_current_bot(sim):
    sim.run("%bot connect sim --as two")
    sim.run("%bot use sim")
    assert sim.desk.current == "sim"
    sim.run("%bot close")
    assert sim.desk.current == "two"
    sim.run("%bot close two")
    assert sim.desk.current == ""
    assert "Nothing is connected" in sim.run("%bot").bundles[0]["text/plain"]


@pytest.mark.parametrize(
    ("cell", "kind", "last", "hint"),
    [
        ("%bot conect", CommandError, "no verb 'conect'", "'connect'"),
        ("%bot events --nope", CommandError, "no option --nope", "%bot events"),
        ("%bot use smi", CommandError, "no connection 'smi'", "'sim'"),
        ("%bot close zzz", CommandError, "no connection 'zzz'", "Open: sim."),
        ("%bot off ecoh", CommandError, "no handler 'ecoh'", "%bot -h"),
        ("%bot connect broken", BotbookError, "it broke here", "mend it"),
        ("%bot record", CommandError, "PATH or --stop", "%bot record"),
        ("%bot plot volme", CommandError, "no metric 'volme'", "'volume'"),
        ("%%bot on message.*\nx = 1", CommandError, "defines no function", "async def"),
        ("%%bot send --to user:ann\n{{nobody}}", CommandError, "no 'nobody'", "--raw"),
        ("%%bot nope\nbody", CommandError, "no verb 'nope'", ""),
        ("%%bot send --to user:ann", CommandError, "needs a body", "%%bot send"),
    ],
)
def test_a_failure_is_a_red_cell_of_two_lines_hint_first(sim, cell, kind, last, hint):
    made = sim.run(cell)
    assert type(made.error) is kind
    lines = made.error._render_traceback_()
    assert len(lines) == 2
    assert lines[0].startswith("Hint: ")
    assert hint in lines[0]
    assert lines[1].startswith(f"{kind.__name__}: ")
    assert last in lines[1]
    assert lines[1] in made.stdout
    assert "Traceback" not in made.stdout + made.stderr


def test_except_catches_the_errors_own_type(sim):
    sim.bot.fail_with = ConnectionLost(1006)
    sim.run(
        "import botbook\ntry:\n    %bot events\nexcept botbook.errors.ConnectionLost as e:\n    code = e.code"
    )
    assert sim.shell.user_ns["code"] == 1006


def test_an_error_of_another_kind_is_short_too_and_tb_shows_it_whole(sim):
    sim.bot.fail_with = ZeroDivisionError("by zero")
    made = sim.run("%bot events")
    assert made.stdout.split("\n")[1] == "ZeroDivisionError: by zero"
    assert "%tb" in made.stdout.split("\n")[0]
    assert "--> " in sim.run("%tb").stdout


def test_nothing_connected_is_an_error_with_the_way_out(cellar):
    assert "%bot connect sim" in cellar.run("%bot events").error.hint


def test_the_stop_button_is_one_line_and_keeps_the_bot(sim):
    sim.bot.fail_with = KeyboardInterrupt()
    made = sim.run("%bot events")
    assert isinstance(made.error, BotInterrupted)
    assert made.error._render_traceback_() == ["BotInterrupted: stopped; the connection is kept"]
    assert not sim.bot.stopped


def test_send_sends_markdown_or_text_and_fills_names_in(sim):
    sim.shell.user_ns["name"] = "Ann"
    sim.run("%%bot send --to user:ann\nhello **{{name}}** {x} $5\n")
    sim.run("%%bot send --to group:g --text --raw\n{{name}}\nbye\n")
    assert sim.bot.sent == [
        ("user:ann", "hello **Ann** {x} $5", True),
        ("group:g", "{{name}}\nbye", False),
    ]


def test_on_registers_the_last_function_and_replaces_it(sim):
    line = "%%bot on message.* --when \"'x' in text\" --timeout 2\n"
    cell = line + "def helper(): ...\nasync def echo(event):\n    ...\n"
    assert "echo is ready" in sim.run(cell).bundles[0]["text/plain"]
    assert "echo is replaced" in sim.run(cell).bundles[0]["text/plain"]
    made = sim.bot.registered["echo"]
    assert (made.pattern, made.when, made.timeout) == ("message.*", "'x' in text", 2.0)
    sim.run("%%bot on * --name other\ndef f(event): ...")
    assert set(sim.bot.registered) == {"echo", "other"}
    sim.run("%bot off echo")
    assert set(sim.bot.registered) == {"other"}


def test_sim_verbs_reach_the_embedded_world(sim):
    sim.run("%bot sim say ann hello there --group g")
    sim.run("%bot sim fault stall seconds=2 why=x")
    assert sim.bot.world.said == [("ann", "hello there", "g")]
    assert sim.bot.world.faults == [("stall", {"seconds": "2", "why": "x"})]
    log = sim.shell.run_line_magic("bot", "sim log --limit 1")
    assert log == [{"at": 1.5, "path": "/0", "body": {"n": 0}}]
    assert '00:00:01  /0    {"n": 0}' in sim.run("%bot sim log").bundles[0]["text/plain"]


def test_record_starts_and_ends(sim):
    sim.run("%bot record a.jsonl")
    sim.run("%bot record --stop")
    assert sim.bot.recording == ["a.jsonl", None]


def test_errors_show_their_tracebacks(sim):
    sim.run("%%bot on *\ndef echo(event): ...")
    bundle = sim.run("%bot errors").bundles[0]
    assert "line\nline" in bundle["text/plain"]
    assert "&lt;no&gt;" in bundle["text/html"]


def test_dollars_and_braces_of_the_line_are_left_alone(sim):
    sim.shell.user_ns["n"] = 5
    sim.run("%bot sim say ann $n {n} {{n}}")
    assert sim.bot.world.said == [("ann", "$n {n} 5", None)]


def test_unload_closes_and_takes_everything_out_and_load_brings_it_back(sim):
    shell = sim.shell
    sim.run("%%bot\nimport asyncio\nawait asyncio.sleep(0)")
    bot = sim.bot
    magics.unload(shell)
    assert bot.stopped
    assert shell.find_line_magic("bot") is None
    assert shell.find_cell_magic("bot") is None
    assert magics._line_for_empty_cell not in shell.input_transformers_cleanup
    assert not any("bot_matcher" in one.__qualname__ for one in shell.Completer.custom_matchers)
    magics.unload(shell)
    magics.load(shell, sim.desk)
    magics.load(shell, sim.desk)
    assert len([one for one in shell.input_transformers_cleanup if one is magics._line_for_empty_cell]) == 1
    assert len([one for one in shell.Completer.custom_matchers if "bot_matcher" in one.__qualname__]) == 1
    assert sim.run("%bot connect sim").error is None


def test_the_extension_loads_and_unloads_by_name(shell):
    shell.run_line_magic("load_ext", "botbook")
    assert shell.find_cell_magic("bot") is not None
    shell.run_line_magic("unload_ext", "botbook")
    assert shell.find_cell_magic("bot") is None
