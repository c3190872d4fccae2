"""Unified events: LangBot's JSON to events and back, every type and every recorded one."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook._data.record import event_from_line, event_to_line
from botbook._errors import LocalProtocolError, RemoteProtocolError
from botbook.events import EVENT_TYPES, Event, Group, Member, User, from_json, from_webhook
from botbook.messages import At, MessageChain, Plain, Source
from tests.samples import NOON, message

FRAMES = Path(__file__).parent / "wire" / "frames" / "langbot"
AT = 1795182206.0
WHEN = datetime.fromtimestamp(AT, UTC)

BASE = {
    "instance_uuid": None,
    "workspace_uuid": None,
    "placement_generation": None,
    "timestamp": AT,
    "bot_uuid": "b-1",
    "adapter_name": "onebot-v11",
    "source_platform_object": None,
}
ANN = {"id": 20002, "nickname": "Ann", "avatar_url": None, "is_bot": False, "username": None, "remark": None}
BO = {"id": 20005, "nickname": "", "avatar_url": None, "is_bot": False, "username": "bo", "remark": None}
LAB = {
    "id": 30003,
    "name": "Lab group",
    "description": None,
    "member_count": 4,
    "avatar_url": None,
    "owner_id": 1,
}
CHAIN = [
    {"type": "Source", "id": 502, "time": "2026-11-20T13:43:26"},
    {"type": "At", "target": "10001", "display": ""},
    {"type": "Plain", "text": " hello bot"},
]
MEMBER = {
    "user": ANN,
    "group_id": 30003,
    "role": "admin",
    "display_name": "Ann",
    "joined_at": 5.5,
    "title": "",
}
IN_LAB = {"chat_type": "group", "chat_id": "30003"}
RATING = {
    "feedback_id": "f1",
    "user_id": "zoe",
    "session_id": "person_zoe",
    "message_id": "b97",
    "stream_id": "a31",
}


def rating(kind, content, reasons):
    return RATING | {"feedback_type": kind, "feedback_content": content, "inaccurate_reasons": reasons}


RATED = {
    "user_id": "zoe",
    "chat_type": "private",
    "chat_id": "person_zoe",
    "message_id": "b97",
    "reply_to": "a31",
}

#: The samples of the source document and of 4.11 (protocols/langbot.md 8): type, fields, columns.
SAMPLES = {
    "a message in private": (
        "message.received",
        {
            "message_id": "7",
            "message_chain": [{"type": "Plain", "text": "hi"}],
            "sender": ANN,
            "chat_type": "private",
            "chat_id": 20002,
            "group": None,
            "sender_member": None,
            "bot_role": None,
        },
        {
            "chat_type": "private",
            "chat_id": "20002",
            "user_id": "20002",
            "user_name": "Ann",
            "role": "user",
            "message_id": "7",
            "text": "hi",
        },
    ),
    "a message in a group": (
        "message.received",
        {
            "message_id": 502,
            "message_chain": CHAIN,
            "sender": ANN,
            "chat_type": "group",
            "chat_id": 30003,
            "group": LAB,
            "sender_member": MEMBER,
            "bot_role": None,
        },
        {
            **IN_LAB,
            "user_id": "20002",
            "user_name": "Ann",
            "role": "user",
            "message_id": "502",
            "text": " hello bot",
        },
    ),
    "a message whose id stands in its source": (
        "message.received",
        {"message_chain": CHAIN, "sender": ANN, "chat_type": "person", "chat_id": ""},
        {"chat_type": "private", "chat_id": "20002", "message_id": "502"},
    ),
    "an edit": (
        "message.edited",
        {
            "message_id": 502,
            "new_content": [{"type": "Plain", "text": "better"}],
            "editor": ANN,
            "chat_type": "group",
            "chat_id": 30003,
            "group": LAB,
        },
        {**IN_LAB, "user_id": "20002", "message_id": "502", "text": "better", "role": "user"},
    ),
    "a message taken back": (
        "message.deleted",
        {"message_id": 502, "operator": ANN, "chat_type": "group", "chat_id": 30003, "group": LAB},
        {**IN_LAB, "user_id": "20002", "message_id": "502", "text": ""},
    ),
    "a message taken back by nobody we know": (
        "message.deleted",
        {"message_id": 502, "operator": None, "chat_type": "group", "chat_id": 30003, "group": LAB},
        {**IN_LAB, "user_id": "", "message_id": "502"},
    ),
    "a reaction": (
        "message.reaction",
        {
            "message_id": 502,
            "user": BO,
            "reaction": "👍",
            "is_add": True,
            "chat_type": "group",
            "chat_id": 30003,
            "group": LAB,
        },
        {**IN_LAB, "user_id": "20005", "user_name": "bo", "message_id": "502", "text": "👍"},
    ),
    "a like": (
        "feedback.received",
        rating(1, "", None),
        {**RATED, "feedback_type": 1, "feedback_reasons": ()},
    ),
    "a dislike": (
        "feedback.received",
        rating(2, "not what I asked", ["2", "4"]),
        {
            **RATED,
            "feedback_type": 2,
            "feedback_reasons": ("2", "4"),
            "text": "not what I asked",
            "role": "user",
        },
    ),
    "a rating taken back": (
        "feedback.received",
        rating(3, "", None),
        {**RATED, "feedback_type": 3, "feedback_id": "f1"},
    ),
    "a rating in a group": (
        "feedback.received",
        rating(1, None, None) | {"session_id": "group_g"},
        {"chat_type": "group", "chat_id": "group_g"},
    ),
    "a rating by nobody": (
        "feedback.received",
        {
            "feedback_id": "f",
            "feedback_type": True,
            "feedback_content": None,
            "inaccurate_reasons": "2",
            "user_id": None,
            "session_id": None,
            "message_id": None,
            "stream_id": None,
        },
        {"chat_type": "", "chat_id": "", "user_id": "", "feedback_type": None, "feedback_reasons": ()},
    ),
    "somebody comes": (
        "group.member_joined",
        {"group": LAB, "member": BO, "inviter": ANN, "join_type": "approve"},
        {**IN_LAB, "user_id": "20005", "user_name": "bo", "role": "user"},
    ),
    "somebody is made to leave": (
        "group.member_left",
        {"group": LAB, "member": BO, "is_kicked": True, "operator": ANN},
        {**IN_LAB, "user_id": "20005"},
    ),
    "somebody is muted": (
        "group.member_banned",
        {"group": LAB, "member": BO, "operator": ANN, "duration": 600},
        {**IN_LAB, "user_id": "20005"},
    ),
    "somebody is unmuted": ("group.member_unbanned", {"group": LAB, "member": BO, "operator": None}, IN_LAB),
    "a new name": (
        "group.info_updated",
        {"group": LAB, "operator": ANN, "changed_fields": ["name"]},
        {**IN_LAB, "user_id": "20002"},
    ),
    "a friend request": (
        "friend.request_received",
        {"request_id": "flag-1", "user": ANN, "message": "hi"},
        {"chat_type": "private", "chat_id": "20002", "user_id": "20002", "text": "hi"},
    ),
    "a friend": ("friend.added", {"user": ANN}, {"chat_type": "private", "user_id": "20002"}),
    "a friend no more": ("friend.removed", {"user": ANN}, {"chat_type": "private", "user_id": "20002"}),
    "the bot is invited": (
        "bot.invited_to_group",
        {"group": LAB, "inviter": ANN, "request_id": 9},
        {**IN_LAB, "user_id": "20002", "role": "system"},
    ),
    "the bot is put out": (
        "bot.removed_from_group",
        {"group": LAB, "operator": ANN},
        {**IN_LAB, "role": "system"},
    ),
    "the bot is muted": (
        "bot.muted",
        {"group": LAB, "operator": ANN, "duration": None},
        {**IN_LAB, "user_id": "20002"},
    ),
    "the bot is unmuted": ("bot.unmuted", {"group": LAB, "operator": ANN}, {**IN_LAB, "user_id": "20002"}),
    "an event of one platform": (
        "platform.specific",
        {"action": "voice_state_update", "data": {"channel": [1, 2]}},
        {"chat_type": "", "user_id": "", "role": "system"},
    ),
    "an event of one platform by its long name": (
        "platform.telegram.chat_member_updated",
        {"action": "chat_member_updated", "data": {}},
        {"type": "platform.telegram.chat_member_updated"},
    ),
    "a card": (
        "dingtalk.card_action",
        {"user": ANN, "data": {}},
        {"user_id": "20002", "chat_type": "private"},
    ),
    "an event of tomorrow": ("box.opened", {"lid": {"of": ["oak"]}}, {"type": "box.opened"}),
}
OLD_SAMPLES = {
    "FriendMessage": (
        {
            "type": "FriendMessage",
            "sender": {"id": 1, "nickname": "Ann", "remark": "A"},
            "message_chain": CHAIN,
            "time": AT,
        },
        {
            "type": "message.received",
            "chat_type": "private",
            "chat_id": "1",
            "user_id": "1",
            "user_name": "Ann",
            "message_id": "502",
            "text": " hello bot",
        },
    ),
    "GroupMessage": (
        {
            "type": "GroupMessage",
            "sender": {
                "id": 1,
                "member_name": "Ann",
                "permission": "ADMINISTRATOR",
                "special_title": "",
                "group": {"id": "g", "name": "Lab", "permission": "MEMBER"},
            },
            "message_chain": CHAIN,
            "time": AT,
        },
        {
            "type": "message.received",
            "chat_type": "group",
            "chat_id": "g",
            "user_id": "1",
            "user_name": "Ann",
            "message_id": "502",
        },
    ),
    "FeedbackEvent": (
        {"type": "FeedbackEvent", **rating(2, "x", ["1"]), "timestamp": AT},
        {"type": "feedback.received", **RATED, "feedback_type": 2},
    ),
}


def sample(name):
    kind, more, _ = SAMPLES[name]
    return {"type": kind, **BASE, **more}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_type_reads_as_columns_and_writes_itself(name):
    obj = sample(name)
    before = json.dumps(obj)
    event = from_json(obj)
    expected = {"type": obj["type"], "at": WHEN, "received_at": WHEN, "gateway": "langbot", "bot": "b-1"}
    expected |= SAMPLES[name][2]
    assert {key: getattr(event, key) for key in expected} == expected
    assert event.to_json() == obj
    assert json.dumps(obj) == before


@pytest.mark.parametrize("name", OLD_SAMPLES)
def test_the_events_before_4_11(name):
    obj, expected = OLD_SAMPLES[name]
    event = from_json(obj)
    assert {key: getattr(event, key) for key in expected} == expected
    assert event.at == WHEN
    assert event.old_name == name
    assert event.to_json() == obj


@pytest.mark.parametrize("name", SAMPLES)
def test_unknown_keys_survive(name):
    obj = sample(name) | {"of_tomorrow": {"deep": [None, {"er": 1}]}}
    assert from_json(obj).to_json() == obj


@pytest.mark.parametrize("name", SAMPLES)
def test_an_event_survives_a_record_file(name):
    obj = sample(name)
    event = from_json(obj, bot="lab", gateway="langbot", event_id="e1", received_at=NOON)
    back = event_from_line(event_to_line(event))
    assert back.to_json() == obj
    assert back.chain == event.chain
    assert (back.user, back.group, back.member) == (event.user, event.group, event.member)


def test_every_type_has_a_meaning():
    known = {kind for kind, _, _ in SAMPLES.values()} - {"dingtalk.card_action", "box.opened"}
    assert {kind for kind in known if not kind.startswith("platform.telegram")} <= EVENT_TYPES.keys()


def test_who_and_where():
    event = from_json(sample("a message in a group"))
    assert event.user == User(id="20002", nickname="Ann")
    assert event.group == Group(id="30003", name="Lab group", member_count=4, owner_id="1")
    assert event.member == Member(
        user=event.user,
        group_id="30003",
        role="admin",
        display_name="Ann",
        joined_at=datetime.fromtimestamp(5.5, UTC),
    )
    assert event.chain == MessageChain(
        [
            Source(id="502", at=datetime(2026, 11, 20, 13, 43, 26)),
            At(target="10001"),
            Plain(text=" hello bot"),
        ]
    )
    kicked = from_json(sample("somebody is made to leave"))
    assert (kicked.user.username, kicked.operator) == ("bo", User(id="20002", nickname="Ann"))
    assert (kicked.member, from_json(sample("a friend")).group) == (None, None)


def test_who_and_where_without_a_unified_event():
    event = message("hi", user="ann", user_name="Ann", chat_type="group", chat="g7")
    assert event.user == User(id="ann", nickname="Ann")
    assert event.group == Group(id="g7")
    assert (event.member, event.operator) == (None, None)
    assert message().group is None


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"id": 1, "nickname": "n", "remark": "r"}, User(id="1", nickname="n", remark="r")),
        ({"id": True, "nickname": 3}, User()),
        (
            {"id": "x", "username": "u", "is_bot": True, "avatar_url": "a"},
            User(id="x", username="u", is_bot=True, avatar_url="a"),
        ),
    ],
)
def test_users(item, expected):
    user = User.from_json(item)
    assert user == expected
    assert user.to_json() == item
    assert User.from_json(expected.to_json()) == expected


def test_members_of_old():
    item = {
        "id": 1,
        "member_name": "Ann",
        "permission": "ADMINISTRATOR",
        "special_title": "Dr",
        "group": {"id": 5},
    }
    member = Member.from_json(item)
    assert member == Member(
        user=User(id="1", nickname="Ann"), group_id="5", role="admin", display_name="Ann", title="Dr"
    )
    assert member.to_json() == item
    assert Member.from_json({"permission": "GOD"}).role == ""
    assert Member.from_json(member.to_json()) == member


@pytest.mark.parametrize(
    ("role", "read"), [("owner", "owner"), ("admin", "admin"), ("member", "member"), (None, ""), (7, "")]
)
def test_roles(role, read):
    assert Member.from_json({"user": ANN, "role": role}).role == read


def test_a_changed_entity_keeps_what_is_not_known_of_it():
    user = dataclasses.replace(User.from_json(ANN | {"mood": "fine"}), nickname="Anna")
    assert user.to_json() == ANN | {"mood": "fine", "nickname": "Anna"}
    group = dataclasses.replace(Group.from_json(LAB | {"x": 1}), name="Lab")
    assert group.to_json() == LAB | {"x": 1, "name": "Lab"}
    member = Member(user=User(id="1"), group_id="2", role="owner", joined_at=WHEN)
    assert Member.from_json(member.to_json()) == member


@pytest.mark.parametrize("kind", [User, Group, Member])
def test_an_entity_is_an_object(kind):
    with pytest.raises(RemoteProtocolError, match="no object"):
        kind.from_json([1])


def test_what_was_changed_is_written():
    event = from_json(sample("a message in a group"))
    chain = MessageChain([*event.chain[:2], Plain(text="bye")])
    fresh = dataclasses.replace(event, text="bye", parts=chain, user_name="Anna", message_id="503")
    assert fresh.to_json() == sample("a message in a group") | {
        "message_id": "503",
        "message_chain": [*CHAIN[:2], {"type": "Plain", "text": "bye"}],
        "sender": ANN | {"nickname": "Anna"},
    }


def test_somebody_else_said_it():
    event = dataclasses.replace(from_json(sample("a friend")), user_id="9", user_name="Zoe")
    assert event.user == User(id="9", nickname="Zoe")
    assert from_json(event.to_json()).user_id == "9"


def test_a_changed_column_without_a_key_is_kept_beside():
    event = dataclasses.replace(from_json(sample("a friend")), latency_s=0.5, recovered=True)
    assert event.to_json() == sample("a friend") | {"botbook": {"latency_s": 0.5, "recovered": True}}
    back = from_json(event.to_json())
    assert (back.latency_s, back.recovered) == (0.5, True)


OWN = {
    "a message": message("hi"),
    "in a group, with a mention": message(
        "hi", chat_type="group", parts=MessageChain([At(target="b"), Plain(text="hi")])
    ),
    "an answer": message(
        "yes", type="message.sent", role="assistant", latency_s=1.25, reply_to="m1", user_id="cli"
    ),
    "a rating": message(
        "so so",
        type="feedback.received",
        feedback_id="f",
        feedback_type=2,
        feedback_reasons=("1",),
        reply_to="s",
    ),
    "a tool": message("grep", type="agent.tool_call", role="assistant", tokens=12, error="no"),
    "a connection": Event(
        event_id="c1", type="connection.opened", at=NOON, received_at=NOON, gateway="miti", bot="m"
    ),
    "reasons without a rating": message("x", feedback_reasons=("1", "2")),
    "recovered": message("old", recovered=True, user_name="Ann"),
    "nobody": message("", user=""),
    "an edit": message("better", type="message.edited"),
    "a frame of another kind": message("x", raw_json='{"type": "response", "data": {}}'),
    "in the year 9000": message("x", at=datetime(9000, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("name", OWN)
def test_events_of_other_gateways_go_there_and_back(name):
    event = OWN[name]
    written = json.loads(json.dumps(event.to_json()))
    back = from_json(written)
    assert dataclasses.replace(back, raw_json=event.raw_json, parts=event.parts) == event
    assert back.chain == event.chain
    assert back.to_json() == written


def test_the_old_form_of_a_message():
    private, group = OWN["a message"], OWN["in a group, with a mention"]
    assert private.to_json(old=True) == {
        "type": "FriendMessage",
        "sender": {"id": "u1", "nickname": "", "remark": ""},
        "message_chain": [{"type": "Plain", "text": "hi"}],
        "time": private.at.timestamp(),
    }
    old = group.to_json(old=True)
    assert (old["type"], old["sender"]["group"]["id"]) == ("GroupMessage", "c1")
    assert from_json(old).text == "hi"
    rated = OWN["a rating"].to_json(old=True)
    assert (rated["type"], rated["feedback_type"]) == ("FeedbackEvent", 2)
    with pytest.raises(LocalProtocolError, match="no old form"):
        OWN["a connection"].to_json(old=True)
    assert OWN["a connection"].old_name == ""


@pytest.mark.parametrize("obj", [None, [], "x", 3, {}, {"type": 3}, {"type": ""}, {"type": "x", "y": {1, 2}}])
def test_no_event(obj):
    with pytest.raises(RemoteProtocolError, match="unified event"):
        from_json(obj)


def test_nested_without_end():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RemoteProtocolError, match="no JSON"):
        from_json({"type": "x", "deep": deep})


def test_a_time_that_is_none():
    for stamp in (None, "noon", True, float("nan"), 1e300):
        event = from_json({"type": "x.y", "timestamp": stamp}, received_at=NOON)
        assert (event.at, event.received_at) == (NOON, NOON)
    assert from_json({"type": "x.y"}).at == datetime(1970, 1, 1, tzinfo=UTC)


ODD = {
    "at": "noon",
    "received_at": "2026-01-01T00:00:00",
    "latency_s": True,
    "tokens": 1.5,
    "feedback_type": "1",
    "feedback_reasons": [1],
    "recovered": 1,
    "role": "king",
    "chat_type": "team",
    "text": 3,
    "unheard": 1,
}


def test_own_columns_of_a_wrong_shape_are_left_out():
    obj = sample("a friend") | {"botbook": ODD}
    event = from_json(obj)
    assert dataclasses.replace(event, raw_json="", event_id="") == dataclasses.replace(
        from_json(sample("a friend")), raw_json="", event_id=""
    )
    assert event.to_json() == obj


PUSHED = {
    "uuid": "c1251acc",
    "event_type": "bot.person_message",
    "data": {
        "bot_uuid": "b-1",
        "adapter_name": "WebSocketAdapter",
        "sender": {"id": "u-1", "name": ""},
        "message": [
            {"type": "Source", "id": 1, "timestamp": 1795181598},
            {"type": "Plain", "text": "hook me"},
        ],
        "timestamp": 1795181598.491827,
    },
}


def test_what_the_webhook_pushes():
    event = from_webhook(PUSHED, bot="lab")
    assert (
        event.type,
        event.bot,
        event.chat_type,
        event.chat_id,
        event.user_id,
        event.message_id,
        event.text,
    ) == (*("message.received", "lab", "private", "u-1", "u-1", "1", "hook me"),)
    grouped = {
        "event_type": "bot.group_message",
        "data": PUSHED["data"] | {"group": {"id": "30003", "name": "Lab group"}},
    }
    event = from_webhook(grouped)
    assert (event.chat_type, event.chat_id, event.group.name) == ("group", "30003", "Lab group")


@pytest.mark.parametrize(
    "obj", [None, {}, {"event_type": "bot.person_message"}, {"event_type": "x", "data": {}}]
)
def test_a_push_that_is_no_message(obj):
    with pytest.raises(RemoteProtocolError, match="no message"):
        from_webhook(obj)


def test_the_id_is_the_same_by_push_and_by_log_and_differs_with_what_was_said():
    log = {
        **BASE,
        "type": "message.received",
        "timestamp": 1795181598.491827,
        "message_id": "1",
        "chat_type": "private",
        "chat_id": "u-1",
        "sender": {"id": "u-1", "nickname": "User"},
        "adapter_name": "web_page_bot",
    }
    assert from_webhook(PUSHED).event_id == from_json(log).event_id
    ids = {from_json(sample(name)).event_id for name in SAMPLES}
    assert len(ids) == len(SAMPLES)
    assert from_json(sample("a like")).event_id == from_json(sample("a like")).event_id
    assert from_json(sample("a reaction") | {"is_add": False}).event_id not in ids
    long = {"type": "platform.specific", "data": {"x": "y" * 600}, "z": "\ud800"}
    assert from_json(long).event_id == from_json(long | {"data": "z" * 600}).event_id


def recorded_events():
    """Every unified event in the recorded bot logs."""
    for line in (FRAMES / "4.11.2.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["case"] == "bot-logs" and row.get("body"):
            for entry in json.loads(row["body"])["data"]["logs"]:
                if (entry["metadata"] or {}).get("kind") == "adapter_event_received":
                    yield entry["metadata"]["event_data"]


def test_events_recorded_from_a_real_server_come_back_as_they_were():
    found = list(recorded_events())
    assert found
    for obj in found:
        event = from_json(obj)
        assert event.to_json() == obj
        assert (event.type, event.text, event.chat_type) == (
            "message.received",
            "hello from the page",
            "private",
        )
        assert event.user_id == obj["sender"]["id"] == event.chat_id


KEYS = st.sampled_from(
    [
        "type",
        "timestamp",
        "sender",
        "user",
        "group",
        "id",
        "nickname",
        "message_chain",
        "message_id",
        "chat_type",
        "x",
        "chat_id",
        "session_id",
        "feedback_type",
        "inaccurate_reasons",
        "botbook",
        "at",
        "text",
        "role",
        "latency_s",
        "received_at",
        "operator",
        "sender_member",
        "new_content",
        "member_name",
        "name",
        "permission",
        "event_id",
    ]
)
TYPES = st.sampled_from([*sorted({kind for kind, _, _ in SAMPLES.values()}), *OLD_SAMPLES]) | st.text(
    min_size=1, max_size=8
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=14,
)


@settings(deadline=None, max_examples=300)
@given(TYPES, st.dictionaries(KEYS, JSON, max_size=9))
def test_any_object_with_a_type_comes_back_as_it_was(kind, more):
    obj = more | {"type": kind}
    event = from_json(obj)
    assert event.to_json() == obj
    assert from_json(json.loads(event.raw_json)) == event
    for name in ("user", "group", "member", "operator", "chain", "old_name", "target"):
        getattr(event, name)
