import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._config import SECRETS
from botbook._errors import CommandError
from botbook._notebook import commands
from botbook._notebook.args import help_text, parse, parts, split, verbs
from botbook._notebook.commands import COMMANDS


@pytest.mark.parametrize(
    ("line", "cell", "command"),
    [
        ("", None, commands.Status()),
        ("", "x = 1\n", commands.Run(body="x = 1\n")),
        ("connect sim", None, commands.Connect(gateway="sim")),
        (
            "connect miti --as a --profile p --base-url https://x --speed 2",
            None,
            commands.Connect(gateway="miti", as_="a", profile="p", base_url="https://x", speed=2.0),
        ),
        ("use a", None, commands.Use(name="a")),
        ("close", None, commands.Close()),
        ("close --all", None, commands.Close(all=True)),
        ("close a", None, commands.Close(name="a")),
        (
            "events --type 'message.*' --since=1h --limit 5 --out df",
            None,
            commands.Events(type="message.*", since="1h", limit=5, out="df"),
        ),
        ("history si_a_b --limit 3", None, commands.History(chat="si_a_b", limit=3)),
        ("send --to user:u1 --text", "hi", commands.Send(to="user:u1", text=True, body="hi")),
        (
            'on message.* --when "len(text) > 3" --timeout 2',
            "def f(): ...",
            commands.On(pattern="message.*", when="len(text) > 3", timeout=2.0, body="def f(): ..."),
        ),
        ("off echo", None, commands.Off(name="echo")),
        ("plot", None, commands.Plot()),
        ("plot volume --by bot", None, commands.Plot(metric="volume", by="bot")),
        ("sim say ann 'hello  there' you", None, commands.SimSay(user="ann", text=("hello  there", "you"))),
        ("sim say ann -- --all", None, commands.SimSay(user="ann", text=("--all",))),
        ("sim fault stall seconds=2", None, commands.SimFault(kind="stall", options=(("seconds", "2"),))),
        ("sim log", None, commands.SimLog()),
        ("record x.jsonl", None, commands.Record(path="x.jsonl")),
        ("nest on", None, commands.NestOn()),
        ("doctor", "  \n", commands.Doctor()),
        ("-h", None, commands.Help()),
        ("send -h", "body", commands.Help(topic="send", cell=True)),
        ("send --help", None, commands.Help(topic="send")),
        ("sim -h", None, commands.Help(topic="sim")),
        ("-h", "body", commands.Help(cell=True)),
    ],
)
def test_a_line_becomes_a_command(line, cell, command):
    assert parse(line, cell) == command


@pytest.mark.parametrize(
    ("line", "cell", "words", "hint"),
    [
        ("conect sim", None, "no verb 'conect'", "'connect'"),
        ("qqqqqq", None, "no verb 'qqqqqq'", "%bot -h"),
        ("sim", None, "no verb 'sim'", "sim say"),
        ("sim sy ann x", None, "no verb 'sim sy'", "sim say"),
        ("events --tipe x", None, "no option --tipe", "'--type'"),
        ("events --qqqq x", None, "no option --qqqq", "%bot events"),
        ("events --limit", None, "--limit needs a value", "--limit N"),
        ("events --limit 0", None, "--limit cannot be '0'", "whole number"),
        ("events --limit 1 --limit 2", None, "given twice", "%bot events"),
        ("events extra", None, "does not take 'extra'", "%bot events"),
        ("events --out 1x", None, "cannot be '1x'", "variable"),
        ("events 'open", None, "left open", "Quotes"),
        ("connect", None, "connect needs GATEWAY", "GATEWAY"),
        ("connect sim --speed 0", None, "cannot be '0'", "above 0"),
        ("connect sim --speed nan", None, "cannot be 'nan'", "above 0"),
        ("connect sim --speed x", None, "cannot be 'x'", "above 0"),
        ("connect langbot --session grop", None, "cannot be 'grop'", "'group'"),
        ("connect langbot --session zz", None, "cannot be 'zz'", "person, group"),
        ("close --all=1", None, "takes no value", "alone"),
        ("sim say ann", None, "needs TEXT", "TEXT"),
        ("sim fault stall x", None, "cannot be 'x'", "seconds=2"),
        ("--nope", None, "%bot has no option --nope", "%bot"),
        ("send --to user:u1", None, "needs a body", "%%bot send"),
        ("send --to user:u1", "\n", "needs a body", "%%bot send"),
        ("send", "hi", "needs --to", "--to"),
        ("send --to u1", "hi", "cannot be 'u1'", "user:ID"),
        ("events", "body", "takes no body", "%bot events"),
        ("", "", "%%bot needs a body", "%%bot"),
    ],
)
def test_what_cannot_be_understood_is_an_error_with_a_hint(line, cell, words, hint):
    with pytest.raises(CommandError) as caught:
        parse(line, cell)
    assert words in str(caught.value)
    assert hint in caught.value.hint


def test_names_are_filled_in_after_the_line_is_cut():
    names = {"who": "--all", "text": "a b", "n": 7}
    assert parse("close {{who}}", names=names) == commands.Close(name="--all")
    assert parse("sim say u1 {{text}} c", names=names) == commands.SimSay(user="u1", text=("a b", "c"))
    assert parse("events --limit {{n}}", names=names) == commands.Events(limit=7)
    with pytest.raises(CommandError, match="no 'nn'"):
        parse("events --limit {{nn}}", names=names)


def test_raw_turns_filling_off():
    kept = parse("sim say u1 --raw {{text}}", names={})
    assert kept == commands.SimSay(user="u1", text=("{{text}}",), raw=True)
    assert parse("send --to user:u1 --raw", "{{x}}", names={}).body == "{{x}}"
    assert parse("send --to user:u1", "{{x}}", names={"x": 1}).body == "1"


def test_python_bodies_are_never_filled():
    body = 'def f(event):\n    return f"{{literal}}"'
    assert parse("on *", body, names={}).body == body
    assert parse("", body, names={}).body == body


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_the_help_of_every_verb_fits_a_screen(command):
    text = help_text(command.verb, cell=command.form == "cell")
    lines = text.split("\n")
    assert len(lines) <= (40 if command is commands.Status else 24)
    assert max(map(len, lines)) <= 88
    for part in parts(command):
        assert part.name in text
        assert part.help in text
    if command.example and command.form == "line":
        assert isinstance(parse(command.example.split("%bot ", 1)[1]), command)
    if command.example and command.form == "cell":
        line, _, body = command.example.partition("\n")
        assert isinstance(parse(line.removeprefix("%%bot"), body, names={"name": ""}), command)


def test_the_list_of_verbs_fits_a_screen_and_names_all():
    lines = help_text().split("\n")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 88
    assert all(any(f"bot {verb} " in line for line in lines) for verb in verbs() if " " not in verb)
    assert [line for line in lines if "%bot sim" in line] == ["%bot sim …        say, fault, log"]
    assert help_text("sim").count("%bot sim ") == 3
    assert {f"%bot {verb} " in help_text("box") for verb in verbs() if verb.startswith("box ")} == {True}
    assert help_text("box").startswith("%bot box [--profile P]")
    assert help_text("box", cell=True).startswith("%%bot box [--session S]")


def test_no_verb_takes_a_secret():
    names = {part.key for command in COMMANDS for part in parts(command)}
    assert names.isdisjoint(SECRETS)
    assert not any(word in name for name in names for word in ("secret", "token", "password", "key"))


def test_verbs_by_form():
    assert {"send", "ask", "on", "box"} == set(verbs(cell=True))
    assert "send" not in set(verbs(cell=False))
    for cell in (True, False):
        assert len(set(verbs(cell=cell))) == len(list(verbs(cell=cell)))


@given(st.lists(st.text()))
def test_quoting_is_as_in_a_shell(words):
    assert split(shlex.join(words)) == words


@given(st.text(), st.none() | st.text())
def test_any_text_is_a_command_or_an_error_with_a_hint(line, cell):
    try:
        made = parse(line, cell)
    except CommandError as error:
        made = error
    assert isinstance(made, commands.Command) or made.hint


@given(
    st.sampled_from([c for c in COMMANDS if c.verb]),
    st.lists(
        st.sampled_from(["--to", "user:u1", "--out", "df", "--limit", "3", "x", "--", "-h", "--raw", "a=1"])
    ),
)
def test_any_mix_of_known_words_is_a_command_or_an_error_with_a_hint(command, words):
    body = "text" if command.form == "cell" else None
    try:
        made = parse(f"{command.verb} {' '.join(words)}", body)
    except CommandError as error:
        made = error
    assert isinstance(made, command | commands.Help) or made.hint


@given(st.text(min_size=1), st.text())
def test_a_message_with_any_text_goes_through(user, text):
    line = f"sim say --raw {shlex.join(['--', user, text])}"
    assert parse(line) == commands.SimSay(user=user, text=(text,), raw=True)
