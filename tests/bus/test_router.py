"""Rules: who answers an event, in both of LangBot's spellings, and why."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook._bus.fields import FIELDS, Facts
from botbook._bus.filters import OPERATORS, Filter
from botbook._bus.patterns import matches
from botbook._bus.router import TARGETS, Router, Rule
from botbook._errors import ConfigError
from botbook.events import from_json
from botbook.messages import At, Image, MessageChain, Plain
from tests.samples import message

FRAMES = Path(__file__).parent.parent / "wire" / "frames" / "langbot"

#: The whole example of the source document, section 2.4.
HANDLERS = [
    {
        "event_type": "message.received",
        "handler_type": "pipeline",
        "handler_config": {"pipeline_uuid": "default-pipeline-uuid"},
        "enabled": True,
        "priority": 10,
        "description": "messages go to the pipeline",
    },
    {
        "event_type": "group.member_joined",
        "handler_type": "agent",
        "handler_config": {
            "runner": "local-agent",
            "runner_config": {"model_uuid": "m", "prompt": "{member_name}"},
        },
        "enabled": True,
        "priority": 0,
        "description": "a welcome",
    },
    {
        "event_type": "friend.request_received",
        "handler_type": "webhook",
        "handler_config": {"url": "https://example.org/api/friend-request", "response_actions": True},
        "enabled": True,
        "priority": 0,
        "description": "friend requests go elsewhere",
    },
    {
        "event_type": "*",
        "handler_type": "plugin",
        "handler_config": {},
        "enabled": True,
        "priority": -100,
        "description": "the rest",
    },
]
BINDINGS = [
    {
        "id": "b-1",
        "event_pattern": "message.received",
        "target_type": "pipeline",
        "target_uuid": "p-1",
        "filters": [{"field": "chat_type", "operator": "eq", "value": "person"}],
        "priority": 0,
        "order": 0,
        "enabled": True,
        "description": "",
    },
    {
        "id": "b-2",
        "event_pattern": "message.received",
        "target_type": "agent",
        "target_uuid": "a-1",
        "filters": [
            {"field": "chat_type", "operator": "eq", "value": "group"},
            {"path": "message_element_types", "operator": "contains", "value": "At"},
        ],
        "priority": 0,
        "order": 1,
        "enabled": True,
        "description": "",
    },
    {
        "id": "b-3",
        "event_pattern": "*",
        "target_type": "discard",
        "target_uuid": "",
        "filters": [],
        "priority": 0,
        "order": 2,
        "enabled": True,
        "description": "",
    },
]
GROUP = {"id": 30003, "name": "Lab group", "owner_id": None}
IN_GROUP = {
    "type": "message.received",
    "timestamp": 1795182206.0,
    "bot_uuid": "b",
    "adapter_name": "onebot-v11",
    "message_id": 502,
    "message_chain": [
        {"type": "Source", "id": 502, "time": "2026-11-20T13:43:26"},
        {"type": "At", "target": "10001", "display": ""},
        {"type": "Plain", "text": "/help "},
        {"type": "Plain", "text": "me"},
        {"type": "Hologram"},
    ],
    "sender": {"id": 20002, "nickname": "Ann"},
    "chat_type": "group",
    "chat_id": 30003,
    "group": GROUP,
}
IN_PRIVATE = IN_GROUP | {"chat_type": "private", "chat_id": 20002, "group": None, "message_chain": []}
JOINED = {"type": "group.member_joined", "group": GROUP, "member": {"id": 20005}, "timestamp": 1.0}
LIKED = {
    "type": "feedback.received",
    "feedback_type": 1,
    "feedback_id": "f",
    "session_id": "person_z",
    "timestamp": 1.0,
}


def rule(name, pattern="message.received", target="handler", *filters, **more):
    return Rule(name=name, pattern=pattern, target=target, filters=tuple(filters), **more)


def asks(field, operator, value):
    return Filter(field=field, operator=operator, value=value)


def winner(router, event):
    found = router.match(event)
    assert router.explain(event).winner is found
    return found.name if found else None


# ---------------------------------------------------------------------------- both spellings


@pytest.mark.parametrize(("doc", "style"), [(HANDLERS, "event_handlers"), (BINDINGS, "event_bindings")])
@pytest.mark.parametrize("form", ["list", "bot", "text"])
def test_rules_are_written_as_they_were_read(doc, style, form):
    given = {"list": doc, "bot": {"uuid": "x", "name": "b", style: doc}, "text": {style: json.dumps(doc)}}[
        form
    ]
    router = Router.from_json(given)
    written = router.to_json(style=style)
    assert list(written) == [style]
    for was, now in zip(doc, written[style], strict=True):
        assert {key: now[key] for key in was} == was
        assert now.keys() - was.keys() <= {"name", "order", "filters"} - was.keys()
    assert Router.from_json(written).rules == router.rules


def test_exactly_as_they_were_read_where_nothing_is_missing():
    bindings = [{key: value for key, value in item.items() if key != "path"} for item in BINDINGS]
    assert Router.from_json(bindings).to_json() == {"event_bindings": bindings}
    named = [item | {"name": f"n{index}", "x": index} for index, item in enumerate(HANDLERS)]
    assert Router.from_json(named).to_json(style="event_handlers") == {"event_handlers": named}


@pytest.mark.parametrize("style", ["event_handlers", "event_bindings"])
def test_one_spelling_becomes_the_other_and_comes_back(style):
    doc = {"event_handlers": BINDINGS, "event_bindings": HANDLERS}[style]
    router = Router.from_json([item | {"of_tomorrow": 1} for item in doc])
    there = Router.from_json(json.loads(json.dumps(router.to_json(style=style))))
    assert there.rules == router.rules
    assert all(item["of_tomorrow"] == 1 for item in there.to_json(style=style)[style])


def test_what_a_target_needs_stands_where_each_spelling_has_it():
    router = Router.from_json(BINDINGS)
    assert [one.config for one in router] == [{"pipeline_uuid": "p-1"}, {"agent_uuid": "a-1"}, {}]
    (written,) = Router([rule("w", "*", "webhook", config={"url": "u", "target_uuid": "x"})]).to_json()[
        "event_bindings"
    ]
    assert (written["target_uuid"], written["target_config"]) == ("x", {"url": "u"})
    assert [one.target for one in Router.from_json(HANDLERS)] == ["pipeline", "agent", "webhook", "handler"]


def test_bindings_recorded_from_a_real_server():
    bodies = [
        json.loads(row["body"])
        for line in (FRAMES / "4.11.2.jsonl").read_text(encoding="utf-8").splitlines()
        if (row := json.loads(line))["case"] == "bots"
    ]
    bots = [bot for body in bodies for bot in body["data"]["bots"]]
    assert bots
    for bot in bots:
        router = Router.from_json(bot)
        assert router.to_json()["event_bindings"] == bot["event_bindings"]
        assert router.match(from_json(IN_GROUP)).name == bot["event_bindings"][0]["id"]


def test_an_edited_rule_is_written_anew():
    router = Router.from_json(BINDINGS)
    first = dataclasses.replace(router.rules[0], priority=5, filters=(asks("chat_type", "eq", "group"),))
    written = router.with_rule(first).to_json()["event_bindings"]
    assert written[0] == BINDINGS[0] | {
        "priority": 5,
        "filters": [{"field": "chat_type", "operator": "eq", "value": "group"}],
    }
    assert written[1:] == BINDINGS[1:]


# ---------------------------------------------------------------------------- who wins


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("message.received", "rule-1"),
        ("group.member_joined", "rule-2"),
        ("friend.request_received", "rule-3"),
        ("message.edited", "rule-4"),
        ("platform.telegram.x", "rule-4"),
    ],
)
def test_the_example_of_the_source_document(kind, expected):
    assert winner(Router.from_json(HANDLERS), from_json({"type": kind})) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (IN_PRIVATE, "b-1"),
        (IN_GROUP, "b-2"),
        (IN_GROUP | {"message_chain": [{"type": "Plain", "text": "hi"}]}, "b-3"),
        (JOINED, "b-3"),
    ],
)
def test_the_bindings_of_4_11(event, expected):
    assert winner(Router.from_json(BINDINGS), from_json(event)) == expected


def test_priority_then_order_then_place():
    rules = [rule("a"), rule("b", priority=1), rule("c", priority=1), rule("d", order=-1, priority=1)]
    router = Router(rules)
    for expected in ("d", "b", "c", "a", None):
        assert winner(router, message()) == expected
        if expected:
            router = router.without(expected)


def test_a_rule_that_is_off_does_not_count():
    assert winner(Router([rule("a", enabled=False), rule("b")]), message()) == "b"


def test_a_star_never_takes_what_the_bot_said():
    router = Router([rule("all", "*"), rule("own", "message.sent")])
    assert winner(router, message(type="message.sent", role="assistant")) == "own"
    assert winner(router.without("own"), message(type="message.sent", role="assistant")) is None


#: The semantics of 4.11.2's filters: field, operator, value, does it hold for IN_GROUP.
HOLDS = [
    ("chat_type", "eq", "group", True),
    ("chat_type", "eq", "person", False),
    ("chat_id", "eq", 30003, True),
    ("chat_id", "eq", "30003", False),  # as on the server: a number is no text
    ("chat_id", "contains", "300", True),
    ("chat_id", "regex", "^3", True),
    ("group.id", "eq", 30003, True),
    ("group.name", "starts_with", "Lab", True),
    ("group.owner_id", "eq", None, True),
    ("group.name.x", "eq", None, True),
    ("sender.nickname", "neq", "Bo", True),
    ("sender.nickname", "neq", "Ann", False),
    ("message_text", "eq", "/help me", True),
    ("message_text", "contains", "elp", True),
    ("message_text", "not_contains", "elp", False),
    ("message_text", "not_contains", "zzz", True),
    ("message_text", "starts_with", "/help", True),
    ("message_text", "starts_with", "help", False),
    ("message_text", "regex", r"help\s+me$", True),
    ("message_text", "regex", r"^me", False),
    ("message_text", "regex", r"(?i)HELP", True),
    ("message_element_types", "contains", "At", True),
    ("message_element_types", "contains", "Hologram", True),
    ("message_element_types", "contains", "Ima", False),
    ("message_element_types", "not_contains", "Image", True),
    ("message_element_types", "eq", ["Source", "At", "Plain", "Plain", "Hologram"], True),
    ("is_at_bot", "eq", True, True),
    ("is_at_bot", "eq", "true", True),
    ("is_at_bot", "neq", "True", False),
    ("message_id", "eq", 502, True),
    ("reaction", "eq", None, True),
    ("reaction", "contains", "", True),
    ("reaction", "starts_with", "x", False),
    ("reaction", "regex", "x", False),
    ("text", "eq", "/help me", True),
    ("type", "eq", "message.received", True),
    ("gateway", "eq", "langbot", True),
    ("timestamp", "eq", 1795182206, True),
    ("bot_uuid", "eq", ["b"], False),
]


@pytest.mark.parametrize(("field", "operator", "value", "holds"), HOLDS)
def test_filters_decide_as_the_server_does(field, operator, value, holds):
    router = Router([rule("asked", "*", "handler", asks(field, operator, value))])
    event = from_json(IN_GROUP)
    assert winner(router, event) == ("asked" if holds else None)


@pytest.mark.parametrize(
    ("obj", "field", "value"),
    [
        (IN_PRIVATE, "chat_type", "person"),
        (LIKED, "chat_type", None),
        (LIKED, "message_text", None),
        (LIKED, "message_element_types", None),
        (LIKED, "feedback_type", 1),
        (LIKED, "is_at_bot", False),
        (JOINED, "chat_type", "group"),
        (JOINED, "member.id", 20005),
        (IN_PRIVATE, "message_text", ""),
    ],
)
def test_fields_of_other_unified_events(obj, field, value):
    assert Facts(from_json(obj)).get(field) == value


PARTS = MessageChain([At(target="bot"), Plain(text="look"), Image(url="https://example.org/a.png")])


@pytest.mark.parametrize(
    ("event", "field", "value"),
    [
        (message("hi"), "chat_type", "person"),
        (message("hi", chat_type="group"), "chat_type", "group"),
        (message("hi", chat_type=""), "chat_type", None),
        (message("hi"), "message_text", "hi"),
        (message("hi", type="handler.failed"), "message_text", None),
        (message("hi"), "message_element_types", ["Plain"]),
        (message("hi", parts=PARTS), "message_element_types", ["At", "Plain", "Image"]),
        (message("hi", user="ann"), "user_id", "ann"),
        (message("hi", user="ann"), "sender.id", "ann"),
        (message("hi", user="ann"), "sender.id.x", None),
        (message("hi"), "is_at_bot", False),
        (message("hi", chat_type="group"), "is_at_bot", True),
        (message("hi", chat_type="group", type="message.edited"), "is_at_bot", False),
        (message("hi", parts=PARTS), "is_at_bot", True),
    ],
)
def test_fields_of_events_of_other_gateways(event, field, value):
    assert Facts(event).get(field) == value


def test_a_mention_of_somebody_else():
    doc = [rule("at", "*", "handler", asks("is_at_bot", "eq", True))]
    event = message("hi", parts=PARTS)
    assert winner(Router(doc, own_ids={"bot"}), event) == "at"
    assert winner(Router(doc, own_ids={"other"}), event) is None


# ---------------------------------------------------------------------------- why


def test_every_rule_says_why():
    router = Router(
        [
            rule("off", enabled=False),
            rule("other", "group.*"),
            rule("no", "message.*", "discard", asks("message_text", "contains", "bye")),
            rule("low", "*", "agent"),
            rule("late", priority=1),
            rule("best", priority=1, order=0),
            rule("also", "*", "agent", priority=1),
        ]
    )
    found = router.explain(message("hello"))
    assert found.winner.name == "best"
    assert [(reason.rule.name, reason.verdict) for reason in found.reasons] == [
        ("off", "disabled"),
        ("other", "other type"),
        ("no", "filtered"),
        ("low", "outranked"),
        ("late", "outranked"),
        ("best", "won"),
        ("also", "outranked"),
    ]
    text = str(found)
    assert text.startswith("best wins\n")
    assert "message_text contains 'bye': no, it is 'hello'" in text
    assert "best has a higher priority" in text
    assert "best stands before it" in text


def test_when_nobody_wins():
    found = Router([rule("x", "*")]).explain(message(type="message.sent", role="assistant"))
    assert (found.winner, found.reasons[0].verdict) == (None, "own words")
    assert str(found).startswith("no rule wins")


# ---------------------------------------------------------------------------- what cannot be

WRONG = {
    "two of one name": ([BINDINGS[0], BINDINGS[0]], "two rules are called 'b-1'", "name of its own"),
    "an unknown field": (
        [BINDINGS[0] | {"filters": [{"field": "chat_typ", "value": 1}]}],
        "rule 'b-1': no event has a field 'chat_typ'",
        "Did you mean chat_type",
    ),
    "a field of nothing": (
        [BINDINGS[0] | {"filters": [{"field": "zzz"}]}],
        "no event has a field",
        "Known: ",
    ),
    "an unknown operator": (
        [BINDINGS[0] | {"filters": [{"field": "text", "operator": "contain"}]}],
        "no operator 'contain'",
        "Did you mean contains",
    ),
    "an operator like none": (
        [BINDINGS[0] | {"filters": [{"field": "text", "operator": "%%"}]}],
        "no operator",
        "Known: eq",
    ),
    "an unknown target": (
        [BINDINGS[0] | {"target_type": "agnet"}],
        "no target 'agnet'",
        "Did you mean agent",
    ),
    "a target like none": ([BINDINGS[0] | {"target_type": "%%"}], "no target", "Known: agent"),
    "an event processor": (
        [BINDINGS[0] | {"target_type": "event_processor"}],
        "no target 'event_processor'",
        "",
    ),
    "no target": ([{"event_pattern": "*"}], "rule 'rule-1': target_type is missing", "handler"),
    "no pattern": ([{"target_type": "discard"}], "'' is no pattern", "message.received"),
    "half a pattern": ([{"event_type": "mess*", "handler_type": "plugin"}], r"'mess\*' is no pattern", ""),
    "a pipeline for a star": (
        [BINDINGS[0] | {"event_pattern": "*"}],
        "takes message.received alone",
        "another target",
    ),
    "no regular expression": (
        [BINDINGS[0] | {"filters": [{"field": "text", "operator": "regex", "value": "(["}]}],
        "rule 'b-1': '\\(\\[' is no regular expression",
        "re.search",
    ),
    "private": (
        [BINDINGS[0] | {"filters": [{"field": "chat_type", "value": "private"}]}],
        "never 'private'",
        "person",
    ),
    "a filter that is none": ([BINDINGS[0] | {"filters": [3]}], "names no field", "field"),
    "filters that are none": ([BINDINGS[0] | {"filters": {"a": 1}}], "no list", ""),
    "a priority that is none": ([BINDINGS[0] | {"priority": "high"}], "priority is 'high'", ""),
    "an order that is none": ([BINDINGS[0] | {"order": True}], "order is True", ""),
    "a configuration that is none": (
        [{"event_type": "*", "handler_type": "webhook", "handler_config": [1]}],
        "handler_config is no object",
        "",
    ),
    "two spellings": ({"event_handlers": [], "event_bindings": []}, "two spellings", ""),
    "no rules": ({"rules": []}, "no rules", "event_handlers"),
    "no list": ({"event_bindings": 3}, "list of objects", ""),
    "no objects": ([1], "list of objects", ""),
    "no JSON": ("[", "no JSON", ""),
}


@pytest.mark.parametrize(("doc", "text", "hint"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_refused_with_the_nearest_right_thing(doc, text, hint):
    with pytest.raises(ConfigError, match=text) as caught:
        Router.from_json(doc)
    assert hint in caught.value.hint


def test_a_target_of_ones_own():
    assert "carrier_pigeon" not in TARGETS
    doc = [{"event_type": "*", "handler_type": "carrier_pigeon"}]
    router = Router.from_json(doc, targets=TARGETS | {"carrier_pigeon"})
    assert winner(router.with_rule(rule("b")), message()) == "rule-1"


def test_editing_gives_a_new_router():
    router = Router([rule("a"), rule("b")])
    assert len(router.with_rule(rule("c"))) == 3
    assert [one.target for one in router.with_rule(rule("a", target="discard"))] == ["discard", "handler"]
    assert len(router) == 2
    assert "2 rules" in repr(router)
    with pytest.raises(ConfigError, match="no rule 'aa'") as caught:
        router.without("aa")
    assert "Did you mean a" in caught.value.hint
    with pytest.raises(ConfigError) as caught:
        router.without("%%")
    assert "route" in caught.value.hint


# ---------------------------------------------------------------------------- a hundred cost as one

WORDS = ["", "a", "ab", "b", "bab", "abba", "5", "hello", "/a"]
FILTERS = st.builds(
    asks,
    st.sampled_from(
        ["message_text", "chat_type", "user_id", "message_element_types", "chat_id", "group.id", "latency_s"]
    ),
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from([*WORDS, "Plain", "group", 5, None, True, ["a"], 30003]),
)
REGEXES = st.builds(
    asks,
    st.just("message_text"),
    st.just("regex"),
    st.sampled_from(["a|b", "^a", "b$", "(a)(b)?", r"(a)\1", "(?i)A", "(?P<x>a)", "", r"\bab\b", "a{2}"]),
)
RULES = st.lists(
    st.tuples(
        st.sampled_from(["message.received", "message.*", "*", "group.*"]),
        st.lists(FILTERS | REGEXES, max_size=3),
        st.integers(-1, 1),
        st.none() | st.integers(0, 2),
        st.booleans(),
    ),
    max_size=12,
)
EVENTS = st.builds(
    lambda text, user, kind, unified: (
        from_json(event.to_json())
        if (event := message(text, user=user, chat=user, chat_type=kind)) and unified
        else event
    ),
    st.sampled_from(WORDS),
    st.sampled_from(["a", "5", "30003"]),
    st.sampled_from(["private", "group"]),
    st.booleans(),
)


def plainly(rules, event):
    """The winner, found by asking every rule."""
    facts = Facts(event)
    hits = [
        (-one.priority, index if one.order is None else one.order, index, one.name)
        for index, one in enumerate(rules)
        if one.enabled and matches(one.pattern, event.type) and all(f.holds(facts) for f in one.filters)
    ]
    return min(hits)[3] if hits else None


@settings(deadline=None, max_examples=400)
@given(RULES, EVENTS)
def test_the_plan_decides_as_asking_every_rule_would(rows, event):
    rules = [
        rule(f"r{index}", pattern, "handler", *filters, priority=priority, order=order, enabled=enabled)
        for index, (pattern, filters, priority, order, enabled) in enumerate(rows)
    ]
    assert winner(Router(rules), event) == plainly(rules, event)


@settings(deadline=None)
@given(
    st.sampled_from(sorted(FIELDS)),
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from([IN_GROUP, JOINED, LIKED]),
)
def test_every_field_may_be_asked_everything(field, operator, obj):
    router = Router([rule("x", "*", "handler", asks(field, operator, "a"))])
    winner(router, from_json(obj))
    winner(router, message())


def test_values_that_are_no_keys_of_a_table():
    router = Router([rule("x", "*", "handler", asks("message_element_types", "eq", "Plain"))])
    assert winner(router, from_json(IN_GROUP)) is None


def test_a_hundred_rules_are_not_asked_one_by_one(monkeypatch):
    """Counted, not timed: how many conditions are tried for one event."""
    tried = []

    def counted(condition):
        test = made(condition)
        return lambda actual: tried.append(condition) or test(actual)

    made = Filter.test
    monkeypatch.setattr(Filter, "test", counted)
    kinds = [
        ("message_text", "contains"),
        ("chat_id", "eq"),
        ("message_text", "starts_with"),
        ("message_text", "regex"),
    ]
    rules = [rule(f"r{n}", "*", "handler", asks(*kinds[n % 4], f"w{n}.")) for n in range(100)]
    router = Router(rules)
    assert router.match(message("nothing of that")) is None
    assert tried == []
    assert router.match(message("a w8. in it")).name == "r8"
    assert router.match(message("w10. in front")).name == "r10"
    assert router.match(message("x", chat="w9.")).name == "r9"
    assert tried == []
    assert router.match(message("only w7!")).name == "r7"
    assert len(tried) == 2  # regular expressions alone, the first that holds ends it
