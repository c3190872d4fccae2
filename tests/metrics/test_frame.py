"""What comes in and how it goes out: kinds of frames, bad frames, zones, facts."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from botbook import metrics
from botbook._errors import ConfigError
from tests.metrics.reference import arrow, frames, pandas, row

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
ROWS = [row(at=NOON, event_id="a", user_id="u"), row("assistant", at=NOON + timedelta(hours=1), event_id="b")]


def test_a_missing_column_is_named_with_its_maker():
    with pytest.raises(ConfigError, match="volume needs a column 'role'") as caught:
        metrics.volume(pandas(ROWS).drop(columns="role"))
    assert "bot.events()" in caught.value.hint


def test_an_unknown_group_is_named():
    with pytest.raises(ConfigError, match="'model'"):
        metrics.volume(arrow(ROWS), by="model")


def test_columns_that_only_tell_rows_apart_may_be_missing():
    frame = pandas(ROWS)[["type", "at", "role"]]
    assert metrics.volume(frame)["messages"].tolist() == [1, 1]


@pytest.mark.parametrize("kind", ["pandas", "pyarrow"])
def test_a_column_that_is_there_twice_is_an_error(kind):
    table = arrow(ROWS)
    doubled = table.append_column("role", table["role"])
    frame = doubled if kind == "pyarrow" else pd.concat([pandas(ROWS), pandas(ROWS)[["role"]]], axis=1)
    with pytest.raises(ConfigError, match="twice"):
        metrics.volume(frame)


@pytest.mark.parametrize("frame", [None, [], {"at": []}, "frame.csv", 7])
def test_what_is_no_frame_is_an_error(frame):
    with pytest.raises(ConfigError, match="no frame"):
        metrics.volume(frame)


@pytest.mark.parametrize(
    ("tz", "meant"),
    [("Europe/Berln", "Europe/Berlin"), ("berlin", "Europe/Berlin"), ("new york", "America/New_York")],
)
def test_an_unknown_zone_names_the_nearest(tz, meant):
    with pytest.raises(ConfigError, match="no time zone") as caught:
        metrics.volume(arrow(ROWS), tz=tz)
    assert meant in caught.value.hint


@pytest.mark.parametrize("tz", ["", "../etc/passwd", "/etc/localtime", "Europe", "x" * 300, None, 3])
def test_a_zone_that_is_none_is_an_error(tz):
    with pytest.raises(ConfigError, match="no time zone"):
        metrics.volume(arrow(ROWS), tz=tz)


def test_an_unknown_bucket_is_an_error():
    with pytest.raises(ConfigError, match="no bucket 'fortnight'"):
        metrics.volume(arrow(ROWS), freq="fortnight")
    assert metrics.facts(metrics.volume(arrow(ROWS), freq="d")).freq == "D"


@pytest.mark.parametrize("as_of", [datetime(2026, 1, 1), "2026-01-01", 5])
def test_as_of_is_a_time_with_a_zone(as_of):
    with pytest.raises(ConfigError, match="as_of"):
        metrics.volume(arrow(ROWS), as_of=as_of)


def test_times_without_a_zone_are_an_error_and_not_a_guess():
    frame = pandas(ROWS)
    frame["at"] = frame["at"].dt.tz_localize(None)
    with pytest.raises(ConfigError, match="without a zone") as caught:
        metrics.volume(frame)
    assert "tz_localize('UTC')" in caught.value.hint


def test_times_that_are_text_are_an_error():
    frame = pandas(ROWS)
    frame["at"] = frame["at"].astype(str)
    with pytest.raises(ConfigError, match="no times"):
        metrics.volume(frame)


def test_a_column_of_the_wrong_kind_is_an_error():
    frame = pandas(ROWS)
    frame["latency_s"] = ["soon", "late"]
    with pytest.raises(ConfigError, match="'latency_s' holds"):
        metrics.volume(frame)


def test_a_column_of_mixed_kinds_is_an_error():
    frame = pandas(ROWS)
    frame["role"] = pd.Series([b"\xff", 5], dtype=object)
    with pytest.raises(ConfigError, match="mixes"):
        metrics.volume(frame)


def test_times_of_other_zones_and_units_are_the_same_instants():
    table = arrow(ROWS)
    usual = metrics.volume(table, tz="Asia/Tokyo").to_pylist()
    moved = table["at"].cast(pa.timestamp("ns", tz="America/New_York"))
    table = table.set_column(table.column_names.index("at"), "at", moved)
    assert metrics.volume(table, tz="Asia/Tokyo").to_pylist() == usual
    assert metrics.volume(pl.from_arrow(table), tz="Asia/Tokyo").to_arrow().to_pylist() == usual


def test_rows_without_a_time_are_left_out_and_said():
    frame = pandas([*ROWS, row(at=NOON, event_id="c")])
    frame.loc[2, "at"] = pd.NaT
    made = metrics.volume(frame)
    assert made["messages"].tolist() == [1, 1]
    assert metrics.facts(made).numbers["no_time"] == 1


def test_a_wrong_clock_does_not_make_a_million_buckets():
    rows = [*ROWS, row(at=datetime(8026, 1, 1, tzinfo=UTC), event_id="c")]
    with pytest.raises(ConfigError, match="too long"):
        metrics.volume(arrow(rows))
    made = metrics.volume(arrow(rows), as_of=NOON + timedelta(days=1))
    assert metrics.facts(made).numbers["later"] == 1


def test_as_of_is_the_end_even_when_nothing_happened_then():
    made = metrics.volume(arrow(ROWS), as_of=NOON + timedelta(days=2)).to_pylist()
    assert [r["messages"] for r in made] == [1, 1, 0, 0, 0, 0]
    assert [r["unfinished"] for r in made] == [False] * 4 + [True] * 2


def test_the_first_arrival_of_an_event_wins():
    late = row(at=NOON + timedelta(days=1), event_id="a", received_at=NOON + timedelta(days=1))
    made = metrics.volume(arrow([late, row(at=NOON, event_id="a")])).to_pylist()
    assert [r["bucket"] for r in made] == ["2026-01-05"] * 2


def test_two_edits_of_one_message_are_two_events():
    edits = [row("edited", at=NOON + timedelta(seconds=k), message_id="m") for k in (1, 1, 2)]
    assert metrics.facts(metrics.volume(arrow(edits))).duplicates == 1


def test_no_rows_give_an_empty_frame_with_all_columns():
    for kind, frame in frames([]).items():
        made = metrics.volume(frame, by="bot")
        columns = made.columns if kind != "pyarrow" and kind != "duckdb" else made.column_names
        assert list(columns)[-4:] == ["bot", "role", "messages", "per_hour"]
        assert metrics.facts(made).since is None
    assert len(metrics.volume(pd.DataFrame(columns=["type", "at", "role"]))) == 0


def test_the_frame_that_came_in_is_left_alone():
    frame = pandas(ROWS)
    before = frame.copy(deep=True)
    metrics.volume(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert frame.attrs == {}


def test_facts_last_through_a_selection_and_a_file(tmp_path):
    made = metrics.volume(
        pandas([*ROWS, row("closed", at=NOON), row("opened", at=NOON + timedelta(hours=2))])
    )
    facts = metrics.facts(made)
    assert len(facts.gaps) == 1
    assert metrics.facts(made[made["role"] == "user"]) == facts
    made.to_parquet(tmp_path / "volume.parquet")
    assert metrics.facts(pd.read_parquet(tmp_path / "volume.parquet")) == facts
    assert metrics.facts(metrics.volume(arrow(ROWS)).slice(0, 1)).metric == "volume"
    assert metrics.facts(pd.DataFrame()) is None
    assert metrics.facts(pl.DataFrame()) is None
    assert metrics.facts(pa.table({})) is None


def test_facts_from_a_newer_version_still_read():
    made = metrics.facts(metrics.volume(arrow(ROWS)))
    assert metrics.Facts.from_json(made.to_json() | {"weather": "fine"}) == made


@pytest.mark.parametrize(
    ("kinds", "hours"),
    [
        (["closed", "opened"], [1]),
        (["opened", "closed"], [1]),  # to the end
        (["closed", "closed", "opened"], [2]),
        (["opened", "opened"], [1]),  # the kernel died: from its last row
        (["opened"], [0]),
    ],
)
def test_gaps_are_read_from_the_connection_rows(kinds, hours):
    rows = [row(k, at=NOON + timedelta(hours=n), event_id=f"{n}") for n, k in enumerate(kinds)]
    rows.append(row(at=NOON + timedelta(hours=max(len(kinds), 2)), event_id="end"))
    gaps = metrics.facts(metrics.volume(arrow(rows))).gaps
    assert [gap.end - gap.start for gap in gaps] == [timedelta(hours=h) for h in hours if h]


def test_metrics_need_no_matplotlib():
    code = "import sys, botbook.metrics; print('matplotlib' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


@pytest.mark.parametrize("name", ["at", "tokens", "feedback_reasons"])
def test_times_and_numbers_are_nothing_to_group_by(name):
    with pytest.raises(ConfigError, match="nothing to group by"):
        metrics.volume(arrow(ROWS), by=name)


def test_a_group_that_is_named_twice_counts_once():
    assert metrics.volume(arrow(ROWS), by=["bot", "bot", "role"]).column_names[-4:-2] == ["bot", "role"]


def test_seconds_and_minutes_are_buckets_too():
    rows = [row(at=NOON, event_id="a"), row(at=NOON + timedelta(seconds=130), event_id="b")]
    for freq, many in (("s", 131), ("10s", 14), ("min", 3)):
        made = metrics.volume(arrow(rows), freq=freq, tz="Asia/Kolkata").to_pylist()
        assert [r["messages"] for r in made if r["role"] == "user"] == [1, *[0] * (many - 2), 1]
        assert made[0]["bucket"] == "2026-01-05T17:30:00+05:30"
