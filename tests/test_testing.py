"""Talking to handlers without a gateway, and the handlers of the notebooks that are shipped."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from botbook import testing
from botbook._bus.handler import Handler
from botbook._data.record import event_to_line
from botbook._errors import ConfigError, HandlerError, StoreError
from botbook.events import DISLIKE
from tests.samples import message

pytest_plugins = ["botbook.testing.plugin"]

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


async def greet(event):
    await event.reply(f"hello {event.user_name or event.user_id}, you said {event.text}")


async def slow(event):
    await asyncio.sleep(50)
    return "at last"


def broken(event):
    return event.text.uper()


seen: dict[str, int] = {}
turns = 0


def counts(event):
    global turns
    turns += 1
    return f"{event.user_id} {turns} {event.at:%H:%M:%S}"


def test_a_user_speaks_and_the_answer_is_read():
    with testing.conversation(greet) as c:
        turn = c.user("hi", name="Ann")
        assert turn.replies == ("hello Ann, you said hi",)
        assert "hello" in c.reply()
        assert c.silent
        with pytest.raises(HandlerError, match="no more answer after 'hi'") as caught:
            c.reply()
        assert "c.turns" in caught.value.hint
    c.close()


def test_answers_are_read_in_order():
    with testing.conversation(greet, slow) as c:
        c.user("one")
        c.user("two", user="bo")
        assert [c.reply() for _ in range(3)] == [
            "hello you, you said one",
            "at last",
            "hello bo, you said two",
        ]
        assert c.replies[-1] == "at last"
        assert not c.silent


def test_nothing_said_yet():
    with testing.conversation(greet) as c, pytest.raises(HandlerError, match="before anybody spoke"):
        c.reply()


def test_what_a_handler_raises_is_raised_where_the_user_speaks():
    with testing.conversation(broken) as c:
        with pytest.raises(AttributeError, match="uper"):
            c.user("hi")
        assert c.user("hi", check=False).outcomes[0].error.startswith("AttributeError")
        assert len(c.turns) == 2


def test_a_handler_that_runs_out_of_time():
    late = Handler(slow, pattern="message.*", timeout=10)
    with testing.conversation(late) as c, pytest.raises(HandlerError, match="slow: ran longer than 10 s"):
        c.user("hi")


def test_a_handler_that_hangs_is_broken_off_and_the_conversation_goes_on():
    def hangs(event):
        while event.text == "hang":
            pass
        return "fine"

    with testing.conversation(hangs, patience=0.05) as c:
        with pytest.raises(HandlerError, match="held its thread"):
            c.user("hang")
        c.user("do not")
        assert c.reply() == "fine"


def test_a_handler_keeps_what_it_keeps_and_time_passes():
    with testing.conversation(counts) as c:
        c.user("a")
        c.wait(60)
        c.user("b", user="bo")
        assert c.replies == ("you 1 12:00:00", "bo 2 12:01:01")
    assert turns == 0
    with testing.conversation(counts) as c:
        c.user("a")
        assert c.reply().startswith("you 1 ")


def test_groups_and_columns():
    def tells(event, chain):
        return f"{event.chat_type} {event.chat_id} {chain} {event.gateway}"

    with testing.conversation(tells) as c:
        c.user("hi", group="g7")
        c.user("hi", gateway="miti", chat_id="c")
        assert c.replies == ("group g7 @bothi sim", "private c hi miti")


def test_ratings_and_other_events():
    async def sorry(event, bot):
        await bot.send(event.target, f"{event.feedback_type} {event.reply_to} {event.feedback_reasons}")

    with testing.conversation(greet, Handler(sorry, pattern="feedback.*")) as c:
        c.rate(DISLIKE)
        c.user("hi", user="ann")
        c.rate(DISLIKE, reasons=["2"], user="ann")
        c.event({"type": "feedback.received", "feedback_type": 3, "user_id": "zoe", "stream_id": "s"})
        c.event(message("by hand"))
        assert [deed.text for deed in c.actions] == ["2  ()", "2 m-2 ('2',)", "3 s ()"]
        assert dict(c.actions[1].rest)["to"] == "user:ann"
        assert len(c.replies) == 2
    with testing.conversation(greet) as c, pytest.raises(AssertionError, match="1, 2 or 3"):
        c.rate(4)


def test_the_same_conversation_gives_the_same_answers():
    import random

    def chance(event):
        return str(random.random())

    def talk(**options):
        with testing.conversation(chance, **options) as c:
            c.user("a")
            c.user("b")
            return c.replies

    assert talk() == talk()
    assert talk(seed=1) != talk()


async def test_it_works_where_a_loop_runs():
    with testing.conversation(greet) as c:
        c.user("hi")
        assert c.reply()


def test_a_conversation_needs_a_handler():
    with pytest.raises(HandlerError, match="needs a handler"):
        testing.conversation()
    with pytest.raises(HandlerError, match="asks for 'user_nam'"):
        testing.conversation(lambda event, user_nam: None)


RECORD = [
    message("hi", user="ann", message_id="m1", chat="c"),
    message("hello ann, you said hi", type="message.sent", role="assistant", reply_to="m1", chat="c"),
    message("bye", user="ann", message_id="m2", chat="c"),
    message("go away", type="message.sent", role="assistant", reply_to="m2", chat="c"),
    message("", type="connection.closed", role="system"),
]


@pytest.mark.parametrize("form", ["events", "file"])
def test_the_users_side_of_a_conversation_is_played_again(form, tmp_path):
    path = tmp_path / "record.jsonl"
    path.write_text("".join(event_to_line(event) + "\n" for event in RECORD) + "\n", encoding="utf-8")
    with testing.conversation(greet) as c:
        turns = c.play(RECORD if form == "events" else path)
        assert [turn.event.text for turn in turns] == ["hi", "bye"]
        assert [turn.changed for turn in turns] == [False, True]
        assert turns[1].recorded == ("go away",)
        assert turns[1].replies == ("hello ann, you said bye",)
        assert c.turns == turns


def test_texts_are_played_too():
    with testing.conversation(broken) as c:
        assert [turn.outcomes[0].error[:9] for turn in c.play(["a", "b"])] == ["Attribute"] * 2
        with pytest.raises(AttributeError):
            c.play(["a"], check=True)


def test_a_file_that_is_no_record(tmp_path):
    path = tmp_path / "x"
    path.write_text("{}\n")
    with testing.conversation(greet) as c, pytest.raises(StoreError):
        c.play(path)


def test_the_fixture(conversation):
    c = conversation(greet)
    c.user("hi")
    assert "hello" in c.reply()


# ---------------------------------------------------------------------------- notebooks


def by_name(name):
    """All versions of each handler of a notebook, in the order in which they are defined."""
    found: dict[str, list[Handler]] = {}
    for handler in testing.notebook_handlers(NOTEBOOKS / name):
        found.setdefault(handler.name, []).append(handler)
    return found


def test_the_handlers_of_the_first_notebook(conversation):
    found = by_name("00-start.ipynb")
    first, second = found["greet"]
    c = conversation(first)
    c.user("one two three")
    assert c.reply() == "You wrote 3 words. Tell me more!"
    assert c.user("hi", group="g").outcomes == ()
    c = conversation(second)
    c.user("Do you like tea?")
    assert c.reply() == "In short: Do you like tea? … "
    with pytest.raises(AttributeError, match="uper"):
        conversation(found["clumsy"][0]).user("hi")


def written(tmp_path, *cells):
    path = tmp_path / "book.ipynb"
    rows = [{"cell_type": "code", "source": cell} for cell in cells]
    path.write_text(
        json.dumps({"cells": [{"cell_type": "markdown", "source": "text"}, *rows]}), encoding="utf-8"
    )
    return path


def test_cells_of_every_kind(tmp_path, conversation):
    path = written(
        tmp_path,
        "%load_ext botbook\nSIGN: str = 'π'\nLIMIT = max(1, 2)\nnonsense()\ndef helper():\n    return SIGN",
        [
            "%%bot\n",
            "from math import pi\n",
            "@on_message(when='text')\n",
            "async def a(event):\n",
            "    return helper()\n",
        ],
        "%%bot\n@on_group_at(when=lambda event: event.text)\ndef b(event):\n    return late()\n"
        "@on_group_at\ndef c(event): ...",
        "%%bot\n@on('message.*', name='d2', timeout=3)\ndef d(event): return 'd'\nsend()",
        "%%bot on feedback.received --when 'feedback_type == 2' --name sorry --timeout 5\n"
        "async def f(event):\n    return 'sorry'",
        "%%bot\n@on_message(when=lambda event: False)\ndef e(event): ...",
        "%%bot send --to user:x\nhello",
        "%%bot\nnot python at all",
        "",
        "def late():\n    return 'late'",
    )
    found = testing.notebook_handlers(path)
    assert [handler.name for handler in found] == ["a", "b", "c", "d2", "sorry", "e"]
    assert (found[3].timeout, found[4].timeout, found[4].pattern) == (3, 5.0, "feedback.received")
    c = conversation(*found)
    c.user("hi")
    c.user("hi", group="g")
    c.rate(DISLIKE)
    assert c.replies == ("π", "d", "late", "d", "sorry")


@pytest.mark.parametrize("cell", ["%%bot on", "%%bot on message.received\nx = 1"])
def test_an_on_cell_without_a_handler(tmp_path, cell):
    with pytest.raises(ConfigError, match="defines no handler"):
        testing.notebook_handlers(written(tmp_path, cell))


@pytest.mark.parametrize("text", ["", "{}", '{"cells": [1]}', '{"cells": [{"cell_type": "code"}]}'])
def test_no_notebook(tmp_path, text):
    path = tmp_path / "x.ipynb"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no notebook"):
        testing.notebook_handlers(path)
    with pytest.raises(ConfigError, match="no notebook"):
        testing.notebook_handlers(tmp_path / "missing.ipynb")


# ---------------------------------------------------------------------------- the pages


@pytest.mark.parametrize("page", ["handlers.md", "routing.md", "replay.md"])
def test_the_pages_run(page, capsys):
    """The examples of a page, one after the other, and what it says that they print."""
    text = (NOTEBOOKS.parent / "docs" / page).read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "page"}
    blocks = text.split("```")[1::2]
    for block in blocks:
        kind, _, code = block.partition("\n")
        if kind == "python":
            exec(compile(code, page, "exec"), names)
        else:
            assert (kind, capsys.readouterr().out.strip()) == ("text", code.strip())
    assert any(block.startswith("python") for block in blocks)
