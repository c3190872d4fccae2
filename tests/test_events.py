"""Events, messages and actions as values."""

from __future__ import annotations

import dataclasses

import pytest

from botbook._errors import LocalProtocolError
from botbook.actions import split_target
from botbook.messages import At, AtAll, Component, Image, MessageChain, Plain, Unknown
from tests.samples import message


class Recorder:
    def reply(self, event, text, *, markdown=True):
        return ("reply", event.event_id, text, markdown)

    def answer(self, event):
        return ("answer", event.event_id)


def test_an_event_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        message().text = "changed"


def test_a_bound_event_acts_and_an_unbound_one_says_how():
    event = message()
    with pytest.raises(LocalProtocolError) as caught:
        event.reply("x")
    assert "bot.reply" in caught.value.hint
    before = repr(event)
    event.bind(Recorder())
    assert event.reply("x", markdown=False) == ("reply", event.event_id, "x", False)
    assert event.answer() == ("answer", event.event_id)
    assert repr(event) == before


def test_where_an_answer_goes():
    assert message(user="ann").target == "user:ann"
    assert message(chat_type="group", chat="g7").target == "group:g7"


def test_raw_is_parsed_anew():
    event = message(raw_json='{"a": [1]}')
    event.raw["a"].append(2)
    assert event.raw == {"a": [1]}
    assert message().raw is None


def test_the_chain_of_plain_text_and_of_parts():
    assert message("hi").chain == MessageChain([Plain(text="hi")])
    assert message("").chain == MessageChain()
    parts = MessageChain(
        [At(target="u2", display="Bo"), Plain(text=" look "), Image(url="https://x.test/1.jpg")]
    )
    event = message("look", parts=parts)
    assert event.chain is parts
    assert str(parts) == "@Bo look [Image]"
    assert parts.text == " look "


def test_a_chain_is_a_sequence():
    chain = MessageChain([AtAll(), At(target="u"), Unknown(raw={"k": 1})])
    assert len(chain) == 3
    assert chain[0] == AtAll()
    assert chain[1:] == MessageChain([At(target="u"), Unknown(raw={"k": 1})])
    assert str(chain) == "@all@u[Unknown]"
    assert chain != [AtAll()]
    assert hash(chain[:2]) == hash(MessageChain([AtAll(), At(target="u")]))
    assert "AtAll" in repr(chain)
    assert str(Component()) == "[Component]"


@pytest.mark.parametrize(("to", "parts"), [("user:u1", ("user", "u1")), ("group:g:1", ("group", "g:1"))])
def test_addresses(to, parts):
    assert split_target(to) == parts


@pytest.mark.parametrize("to", ["u1", "user:", "team:x", ""])
def test_no_addresses(to):
    with pytest.raises(LocalProtocolError, match="no address"):
        split_target(to)
