from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from botbook._data.importing import Tally, read_file
from botbook._data.record import event_to_line
from botbook._errors import BotbookError, CommandError, StoreError

from .conftest import START, event


def read(path, **columns):
    tally = Tally()
    events = list(read_file(path, columns=columns or None, gateway="import", bot="f", tally=tally))
    assert tally.read == len(events)
    return events, tally


def test_record_files(tmp_path):
    path = tmp_path / "r.jsonl.gz"
    made = [event(n, feedback_reasons=("ü",)) for n in range(3)]
    broken = ["{", "[1]", '{"event_id": "x", "received_at": 1}', ""]
    naive = json.dumps(
        {"event_id": "x", "type": "t", "at": "2026-01-01", "received_at": "2026-01-01", "gateway": "g"}
    )
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("\n".join([*map(event_to_line, made), *broken, naive]))
    events, tally = read(path)
    assert events == made
    assert tally.skipped == 4
    assert tally.problem.startswith("line 4: ")


def test_csv_with_other_names(tmp_path):
    path = tmp_path / "chat.csv"
    path.write_text(
        "\ufeffwhen,who,what,stars\n"
        '2026-01-01 10:00,ann,"Hi, ""you""\nthere",like\n'
        "1767261600,ann,Bye,\n"
        "1767261600000,ann,Bye,\n"
        "2026-01-01T10:00:00+02:00,ann,Bye,\n"
        "never,ann,Bye,\n"
        "a,b\n",
        encoding="utf-8",
    )
    events, tally = read(path, at="when", user_id="who", text="what", feedback_type="stars")
    assert [one.at for one in events] == [
        datetime(2026, 1, 1, 10, tzinfo=UTC),
        *[datetime(2026, 1, 1, 10, tzinfo=UTC)] * 2,
        datetime(2026, 1, 1, 8, tzinfo=UTC),
    ]
    assert events[0].text == 'Hi, "you"\nthere'
    assert (events[0].type, events[0].feedback_type, events[1].type) == (
        "feedback.received",
        1,
        "message.received",
    )
    assert (events[0].gateway, events[0].bot, events[0].role) == ("import", "f", "user")
    assert len({one.event_id for one in events}) == 4
    assert [
        one.event_id for one in read(path, at="when", user_id="who", text="what", feedback_type="stars")[0]
    ] == [one.event_id for one in events]
    assert tally.skipped == 2
    assert tally.notes == ["Times without a zone were taken as UTC."]


def test_parquet(tmp_path):
    path = tmp_path / "chat.parquet"
    at = pa.array([START, START + timedelta(seconds=1), None], pa.timestamp("us", tz="UTC"))
    reasons = pa.array([["a"], [], None])
    table = pa.table(
        {"at": at, "feedback_reasons": reasons, "role": ["assistant", "user", "user"], "tokens": [3, None, 1]}
    )
    pq.write_table(table, path)
    events, tally = read(path)
    assert [(one.type, one.tokens, one.feedback_reasons) for one in events] == [
        ("message.sent", 3, ("a",)),
        ("message.received", None, ()),
    ]
    assert (tally.skipped, tally.problem) == (1, "row 4: it has no time")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"role": "boss"}, "role is"),
        ({"feedback_type": "9"}, "feedback_type is"),
        ({"feedback_type": "soso"}, "soso"),
        ({"tokens": "many"}, "many"),
        ({"at": "nan"}, "no time"),
        ({"at": "1e300"}, ""),
        ({"feedback_reasons": "[1"}, ""),
    ],
)
def test_rows_that_make_no_event(tmp_path, row, words):
    path = tmp_path / "r.jsonl"
    path.write_text(
        json.dumps({"at": "2026-01-01T00:00:00Z"} | row)
        + "\n"
        + json.dumps({"at": 0.5, "feedback_reasons": "slow"})
    )
    events, tally = read(path)
    assert words in tally.problem
    assert tally.skipped == 1
    assert events[0].feedback_reasons == ("slow",)


def test_files_that_cannot_be_read(tmp_path):
    for name, data in {
        "a.xlsx": b"",
        "b.csv": b"",
        "c.csv": b"x,y\n1,2\n",
        "d.parquet": b"PAR1",
        "e.jsonl": b"\xff\xfe",
        "f.jsonl.gz": b"no gzip",
        "g.csv": b"at,text\n\xff\xff,1\n",
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises((CommandError, StoreError)):
            read(tmp_path / name)
    with pytest.raises(CommandError, match="has no column 'at' for at") as caught:
        read(tmp_path / "c.csv")
    assert "It has x, y" in caught.value.hint
    with pytest.raises(CommandError, match="no column 'colour'"):
        read(tmp_path / "c.csv", colour="x")


MESSAGES = (
    "\ufeffid,timestamp,bot_id,bot_name,pipeline_id,pipeline_name,runner_name,message_content,message_text,"
    "session_id,status,level,platform,user_id\n"
    "m3,2026-01-01 00:00:02,b,Bot,p,P,r,Error: no model,Error: no model,person_u1,error,error,person,u1\n"
    'm2,2026-01-01 00:00:01,b,Bot,p,P,r,"[{""type"":""Plain"",""text"":""Hello""}]",Hello,person_u1,'
    "success,info,person,u1\n"
    'm1,2026-01-01 00:00:01,b,Bot,p,P,r,"[{""type"":""Source"",""id"":1},'
    '{""type"":""Plain"",""text"":""Hi""}]",,'
    "group_g,success,info,group,u1\n"
    "m0,soon,b,Bot,p,P,r,,,person_u1,success,info,person,u1\n"
)
FEEDBACK = (
    "\ufeffid,timestamp,feedback_id,feedback_type,feedback_content,inaccurate_reasons,bot_id,bot_name,pipeline_id,"
    "pipeline_name,session_id,message_id,stream_id,user_id,platform\n"
    'x1,2026-01-01 00:00:09,f1,dislike,bad,"[""slow"",""wrong""]",b,Bot,p,P,person_u1,m2,s2,u1,wecom\n'
    "x2,2026-01-01 00:00:08,f2,like,,,b,Bot,p,P,,m2,s2,u1,wecom\n"
    "x3,2026-01-01 00:00:08,f3,meh,,,b,Bot,p,P,,m2,s2,u1,wecom\n"
)


def test_langbots_export_of_messages(tmp_path):
    path = tmp_path / "monitoring-messages.csv"
    path.write_text(MESSAGES, encoding="utf-8")
    events, tally = read(path)
    assert [(one.event_id, one.role, one.type, one.text, one.chat_type) for one in events] == [
        ("message:m1", "user", "message.received", "Hi", "group"),
        ("message:m2", "assistant", "message.sent", "Hello", "private"),
        ("message:m3", "assistant", "message.sent", "Error: no model", "private"),
    ]
    assert events[2].error == "Error: no model"
    assert {(one.gateway, one.bot, one.user_id) for one in events} == {("langbot", "Bot", "u1")}
    assert events[0].at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert tally.skipped == 1
    assert "does not say who spoke" in tally.notes[0]


def test_langbots_export_of_feedback(tmp_path):
    path = tmp_path / "monitoring-feedback.csv"
    path.write_text(FEEDBACK, encoding="utf-8")
    events, tally = read(path)
    assert [(one.feedback_id, one.feedback_type, one.feedback_reasons, one.text) for one in events] == [
        ("f2", 1, (), ""),
        ("f1", 2, ("slow", "wrong"), "bad"),
    ]
    assert events[1].reply_to == "s2"
    assert "meh" in tally.problem


def test_langbots_other_exports_hold_no_events(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("id,timestamp,model_name,total_tokens,pipeline_id\n")
    with pytest.raises(CommandError, match="llm-calls holds no events"):
        read(path)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([".csv", ".jsonl", ".parquet", ".jsonl.gz"]),
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: f"at,text\n{text}".encode("utf-8", "replace")),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, suffix, data):
    path = tmp_path_factory.mktemp("i") / f"f{suffix}"
    path.write_bytes(data)
    try:
        events, _ = read(path)
    except BotbookError:
        return
    assert all(one.at.utcoffset() is not None for one in events)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


FIELDS = """at received_at text role tokens feedback_type feedback_reasons event_id recovered latency_s
gateway type"""


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS.split()), JSON))
def test_any_row_is_read_or_counted(tmp_path_factory, row):
    path = tmp_path_factory.mktemp("i") / "f.jsonl"
    path.write_text(json.dumps(row))
    events, tally = read(path)
    assert len(events) + tally.skipped == 1
