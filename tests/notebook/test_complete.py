import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._notebook.args import verbs
from botbook._notebook.complete import candidates

LISTS = {
    "bots": lambda: ["sim", "two"],
    "handlers": lambda: 1 / 0,
    "patterns": lambda: ["message.received", "message.*", "*"],
    "metrics": lambda: ["volume"],
    "profiles": lambda: ["work"],
    "gateways": lambda: ["sim", "miti"],
    "chats": list,
    "frequencies": lambda: ["D"],
}


@pytest.mark.parametrize(
    ("line", "cell", "piece", "first"),
    [
        ("con", False, "con", ["connect"]),
        ("s", False, "s", ["sim"]),
        ("s", True, "s", ["send"]),
        ("sim ", False, "", ["say", "fault", "log"]),
        ("sim s", False, "s", ["say"]),
        ("use ", False, "", ["sim", "two", "-h"]),
        ("use t", False, "t", ["two"]),
        ("connect m", False, "m", ["miti"]),
        ("connect miti --pro", False, "--pro", ["--profile"]),
        ("connect miti --profile ", False, "", ["work"]),
        ("connect miti --profile=w", False, "w", ["work"]),
        ("connect langbot --session ", False, "", ["person", "group"]),
        ("events --o", False, "--o", ["--out"]),
        ("events --type message.r", False, "message.r", ["message.received"]),
        ("events --limit ", False, "", []),
        ("on m", True, "m", ["message.received", "message.*"]),
        ("off ", False, "", ["-h"]),
        ("plot --freq D v", False, "v", ["volume"]),
        ("plot volume --by ", False, "", ["bot", "gateway", "chat_type"]),
        ("events 'op", False, "'op", []),
        ("events \"a b", False, "b", []),
        ("zzz ", False, "", []),
        ("nest ", False, "", ["on"]),
    ],
)  # fmt: skip
def test_what_may_stand_here(line, cell, piece, first):
    assert candidates(line, cell=cell, lists=LISTS) == (piece, first)


def test_an_empty_line_offers_every_verb():
    assert candidates("", cell=False, lists=LISTS)[1] == [
        *dict.fromkeys(verb.split()[0] for verb in verbs(cell=False)),
        "-h",
    ]


def test_an_option_is_offered_once():
    assert "--type" not in candidates("events --type x ", cell=False, lists=LISTS)[1]


@given(st.text(), st.booleans())
def test_any_line_gives_a_list(line, cell):
    piece, found = candidates(line, cell=cell, lists=LISTS)
    assert all(text.startswith(piece) for text in found)


def test_tab_in_a_shell_offers_ours_alone(sim):
    assert sim.complete("%bot con") == ["connect"]
    assert sim.complete("df = %bot ev") == ["events"]
    assert set(sim.complete("%%bot ")) == {"send", "ask", "on", "box", "-h"}
    assert sim.complete("%bot use s") == ["sim"]
    assert sim.complete("%bot off ") == ["-h"]
    assert sim.complete("%bot history c") == ["c1"]
    assert sim.complete("%bot connect mi") == ["miti"]
    assert "volume" in sim.complete("%bot plot v")
    assert "feedback.*" in sim.complete("%bot events --type feedback")


def test_the_body_of_a_cell_completes_as_python(sim):
    sim.shell.user_ns["connection_count"] = 1
    assert "connection_count" in sim.complete("%%bot\nconnection_c")
    assert "connection_count" in sim.complete("%%bot\n%%bot con\nconnection_c")
