"""The metrics once more, slowly and in plain Python, and journals to try them on."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

from botbook._data.schema import arrow_schema

#: How many journals each property is tried on; and where the same is tried on every kind of frame.
EXAMPLES = 20
KINDS_EXAMPLES = 3
MESSAGES = ("message.received", "message.sent")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")
#: The days before clocks change: Berlin loses an hour, New York wins one, Lord Howe wins half of one.
BASES = (
    datetime(2026, 3, 28, 20, tzinfo=UTC),
    datetime(2026, 10, 31, 20, tzinfo=UTC),
    datetime(2026, 4, 4, 10, tzinfo=UTC),
)
DAYS = (0, 0, 0, 0, 1, 1, 2, 6, 7, 8, 27, 28, 29, 40)
EMPTY = {
    "event_id": "",
    "type": "platform.specific",
    "gateway": "miti",
    "bot": "helper",
    "chat_type": "private",
    "chat_id": "",
    "user_id": "",
    "user_name": "",
    "role": "system",
    "message_id": "",
    "reply_to": "",
    "text": "",
    "latency_s": None,
    "feedback_id": "",
    "feedback_type": None,
    "feedback_reasons": [],
    "tokens": None,
    "error": "",
    "recovered": False,
}
KINDS = (
    *("user",) * 6,
    *("assistant",) * 5,
    *("delta", "feedback", "feedback", "feedback", "edited", "system"),
    *("opened", "closed", "gap", "failed", "call", "result", "result"),
)
ROLES = {"user": "user", "assistant": "assistant", "delta": "assistant", "edited": "user", "feedback": "user"}
TYPES = {
    "user": "message.received",
    "assistant": "message.sent",
    "delta": "message.delta",
    "feedback": "feedback.received",
    "edited": "message.edited",
    "system": "message.received",
    "opened": "connection.opened",
    "closed": "connection.closed",
    "gap": "connection.gap",
    "failed": "handler.failed",
    "call": "agent.tool_call",
    "result": "agent.tool_result",
}


def row(kind="user", at=BASES[0], **values):
    """One event."""
    made = {**EMPTY, "type": TYPES[kind], "role": ROLES.get(kind, "system"), "at": at, "received_at": at}
    return {**made, **values}


@st.composite
def journals(draw, *, largest=24):
    """Rows in the order of their arrival: doubled, echoed, cancelled, out of order, without ids."""
    base = draw(st.sampled_from(BASES))
    small = st.integers(0, 5)
    drawn = draw(
        st.lists(
            st.tuples(
                st.sampled_from(KINDS),
                st.sampled_from(DAYS),
                st.integers(0, 90) | st.integers(0, 86_399),
                small,
                small,
                st.integers(0, 11),
                st.integers(0, 63),
            ),
            max_size=largest,
        )
    )
    rows = []
    for k, (kind, day, second, where, who, ref, flags) in enumerate(drawn):
        if rows and flags % 8 == 7:  # delivered again, perhaps with another text
            again = dict(rows[ref % len(rows)])
            arrival = base + timedelta(seconds=k - 3 * (flags & 8))
            later = again["at"] + timedelta(days=bool(flags & 16))
            rows.append({**again, "text": f"again {k}", "received_at": arrival, "at": later})
            continue
        named = {"message_id": f"m{ref if flags % 8 == 6 else k}", "event_id": "" if flags & 8 else f"e{k}"}
        values = {
            "gateway": ("miti", "agent")[where % 2],
            "bot": ("helper", "小助手")[where // 3],
            "chat_id": f"c{who % 3}" if flags & 16 else "",
            "chat_type": ("private", "group")[who % 3 == 2],
            "user_id": f"u{who}" if who else "",
            "reply_to": f"m{ref}" if flags & 32 and kind != "user" else "",
            "text": ("one two", "three", "", "你好世界")[ref % 4],
            **named,
        }
        if kind == "feedback":
            values |= {
                "feedback_id": f"f{ref % 4}",
                "feedback_type": 1 + flags % 3,
                "message_id": f"m{ref}",
                "feedback_reasons": [["wrong"], ["slow", "wrong"], []][who % 3],
            }
        if kind in ("result", "failed", "assistant"):
            values["error"] = ("", "", "Timeout: too slow", "ValueError: no")[flags % 4] or (
                "ValueError: x" if kind == "failed" else ""
            )
        if kind in ("call", "result"):
            values["user_name"] = f"tool{who % 2}"
        if kind == "assistant":
            values["tokens"] = (None, 0, 10, 250)[ref % 4]
        if kind == "gap":
            values["latency_s"] = (None, 0.0, 30.5, 4000.0)[ref % 4]
        at = base + timedelta(days=day, seconds=second)
        rows.append(row(kind, at, **{**values, "received_at": base + timedelta(seconds=k)}))
    return rows


# ------------------------------------------------------------------------------------- frames


def arrow(rows):
    columns = {name: [r[name] for r in rows] for name in arrow_schema().names}
    return pa.table(columns, schema=arrow_schema())


def pandas(rows):
    return arrow(rows).to_pandas()


def frames(rows):
    """The same rows as every kind of frame."""
    table = arrow(rows)
    connection = duckdb.connect()
    connection.execute("set timezone = 'Asia/Tokyo'")
    return {
        "pandas": table.to_pandas(),
        "polars": pl.from_arrow(table),
        "pyarrow": table,
        "duckdb": connection.from_arrow(table),
    }


def records(frame):
    """Any small frame as a list of dicts, NaN as None."""
    if isinstance(frame, pd.DataFrame):
        made = frame.to_dict("records")
    elif isinstance(frame, pl.DataFrame):
        made = frame.to_dicts()
    else:
        made = frame.to_pylist()
    return [{key: plain(value) for key, value in record.items()} for record in made]


def plain(value):
    if isinstance(value, float):
        return None if math.isnan(value) else nine_digits(value)
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def nine_digits(value):
    return float(f"{value:.9g}")


def rounded(value):
    """A number as `records` gives it."""
    return None if value is None or math.isnan(value) else nine_digits(float(value))


# ------------------------------------------------------------------------------------- rules


def known(rows, as_of=None):
    """Rows up to `as_of`, first arrival of each event, in the order of arrival."""
    rows = [r for r in rows if as_of is None or r["at"] <= as_of]
    rows = [r for _, r in sorted(enumerate(rows), key=lambda pair: (pair[1]["received_at"], pair[0]))]
    seen, kept = set(), []
    for r in rows:
        if r["event_id"]:
            key = (r["gateway"], r["bot"], r["event_id"])
        elif r["message_id"] and r["type"] in (*MESSAGES, "message.edited"):
            revision = r["at"] if r["type"] == "message.edited" else None
            key = (r["gateway"], r["bot"], r["chat_id"], r["message_id"], r["type"], r["role"], revision)
        else:
            key = (len(kept), None)
        if key not in seen:
            seen.add(key)
            kept.append(r)
    return kept


def spoken(rows, roles=("user", "assistant", "system")):
    """One row a message: the first of a sent one and its echoes."""
    mine = [r for r in rows if r["type"] in MESSAGES and r["role"] in roles]
    homes = {(r["gateway"], r["bot"], r["role"], r["message_id"]) for r in mine if r["chat_id"]}
    seen, kept = set(), []
    for r in mine:
        key = (r["gateway"], r["bot"], r["role"], r["message_id"])
        if r["message_id"]:
            if (key, r["chat_id"]) in seen or (not r["chat_id"] and key in homes):
                continue
            seen.add((key, r["chat_id"]))
        kept.append(r)
    return kept


def label(at, freq, tz):
    """The local bucket of a time, by name."""
    here = at.astimezone(ZoneInfo(tz))
    if freq == "h":
        return f"{here:%Y-%m-%dT%H}", here.utcoffset()
    if freq == "D":
        return here.date().isoformat()
    if freq == "W":
        year, week, _ = here.isocalendar()
        return f"{year}-W{week:02d}"
    return f"{here:%Y-%m}"


def labels(rows, freq, tz, as_of=None):
    """Every bucket from the first row to the last, empty ones too."""
    if not rows:
        return []
    at, end = min(r["at"] for r in rows), as_of or max(r["at"] for r in rows)
    at -= timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond)
    step = timedelta(minutes=15)
    found = {}
    while at <= end:
        found.setdefault(label(at, freq, tz))
        at += step
    return list(found)


def wilson(hits, of):
    """By the textbook: the roots of (share - p)^2 = z^2 p (1 - p) / n."""
    if not of:
        return None, None
    z2, share = 1.959963984540054**2, hits / of
    a, b, c = 1 + z2 / of, -(2 * share + z2 / of), share * share
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return rounded((-b - root) / (2 * a)), rounded((-b + root) / (2 * a))


def percentile(values, percent):
    """Linear interpolation between the two neighbours."""
    if not values:
        return None
    values = sorted(values)
    at = (len(values) - 1) * percent / 100
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return rounded(values[low] + (values[high] - values[low]) * (at - low))


def turns(rows, idle=1800.0):
    """User turns of every chat: dicts with the question row, its time, and the answer's times."""
    mine = [r for r in rows if r["type"] == "message.delta" and r["role"] == "assistant"]
    whole = spoken(rows, ("user", "assistant"))
    order = {id(r): k for k, r in enumerate(rows)}
    chats = {}
    for r in sorted([*whole, *mine], key=lambda r: (r["at"], order[id(r)])):
        chats.setdefault(chat_of(r), []).append(r)
    found = []
    for talk in chats.values():
        found += _turns_of(talk, idle)
    return found


def chat_of(r):
    """What names a chat: its id, or where there is none, the other side."""
    return r["gateway"], r["bot"], r["chat_id"], "" if r["chat_id"] else r["user_id"]


def sessions(rows, as_of, idle=1800.0):
    """Sessions with a user in them: dicts with their messages, turns and what became of them."""
    chats, order = {}, {id(r): k for k, r in enumerate(rows)}
    whole = spoken(rows, ("user", "assistant"))
    for r in sorted(whole, key=lambda r: (r["at"], order[id(r)])):
        talks = chats.setdefault(chat_of(r), [[]])
        if talks[-1] and (r["at"] - talks[-1][-1]["at"]).total_seconds() > idle:
            talks.append([])
        talks[-1].append(r)
    asked = turns(rows, idle)
    found = []
    for talk in [talk for talks in chats.values() for talk in talks]:
        users = [r for r in talk if r["role"] == "user"]
        if not users:
            continue
        place = next(k for k, r in enumerate(talk) if r["role"] == "user")
        replies = [r for r in talk[place:] if r["role"] == "assistant"]
        ids = {id(r) for r in talk}
        mine = [t for t in asked if id(t["row"]) in ids]
        last = max(mine, key=lambda t: (t["asked"], order[id(t["row"])]))
        end = talk[-1]["at"]
        found.append(
            {
                "talk": talk,
                "start": talk[0]["at"],
                "end": end,
                "reply": (replies[0]["at"] - users[0]["at"]).total_seconds() if replies else None,
                "turns": len(mine),
                "answered": bool(last["answer"]) and last["answer"]["at"] <= end,
                "closed": (as_of - end).total_seconds() > idle,
            }
        )
    return found


def _turns_of(talk, idle):
    asked = [r for r in talk if r["role"] == "user"]
    answers = {}
    for k, r in enumerate(talk):
        if r["role"] != "assistant":
            continue
        named = [a for a in asked if r["reply_to"] and a["message_id"] == r["reply_to"]]
        named = named or [a for a in asked if r["reply_to"] and a["event_id"] == r["reply_to"]]
        before = [a for a in talk[:k] if a["role"] == "user"]
        for question in (named or before)[-1:]:
            answers.setdefault(id(question), []).append(r)
    found, run = [], []
    for k, r in enumerate(asked):
        run.append(r)
        after = asked[k + 1] if k + 1 < len(asked) else None
        if (
            after is None
            or id(r) in answers
            or after["user_id"] != r["user_id"]
            or (after["at"] - r["at"]).total_seconds() > idle
        ):
            found.append(_turn(run, answers.get(id(r), [])))
            run = []
    return found


def _turn(run, answer):
    turn = {
        "run": list(run),
        "row": run[-1],
        "start": run[0]["at"],
        "asked": run[-1]["at"],
        "messages": len(run),
    }
    if not answer:
        return {**turn, "answer": None, "first": None, "complete": None, "outputs": []}
    opening = answer[0]
    same = [
        r
        for r in answer
        if r is opening or r["reply_to"] or (r["message_id"] and r["message_id"] == opening["message_id"])
    ]
    ends = {"first": opening["at"], "complete": max(r["at"] for r in same)}
    waits = {kind: (at - turn["asked"]).total_seconds() for kind, at in ends.items()}
    return {**turn, "answer": opening, "outputs": answer, **waits}


def of_turn(turn, name):
    """A column of the question, or where that is empty, of its answer."""
    return turn["row"][name] or (turn["answer"][name] if turn["answer"] else "")
