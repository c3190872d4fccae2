"""The report: its numbers are those of the metrics, its page is whole, whatever strangers wrote."""

from __future__ import annotations

import inspect
import math
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from types import SimpleNamespace

import pandas as pd
import polars as pl
import pytest

from botbook import metrics, plots, report
from botbook._errors import ConfigError
from botbook.metrics._frame import prepare
from tests.metrics.reference import arrow, row
from tests.plots.test_plots import journal

START = datetime(2026, 3, 27, tzinfo=UTC)
ZONE = "Europe/Berlin"
#: Figures of the page that are drawn from a call without options.
PLAIN = ("hour_weekday", "feedback_changes", "dislike_reasons", "terms", "tool_failures", "connection_health")


class Page(HTMLParser):
    """Tiles, figures with their tables, and what is fetched, of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tiles: dict[str, float] = {}
        self.figures: list[SimpleNamespace] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.policy = ""
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.fetched += [given[key] for key in ("src", "srcset", "href") if key in given]
        if "data-name" in given:
            self.tiles[given["data-name"]] = float(given["data-number"] or "nan")
        elif tag == "figure":
            self.figures.append(SimpleNamespace(metric=given["data-metric"], alt="", rows=[]))
        elif tag == "img":
            self.figures[-1].alt = given["alt"]
        elif tag == "tr":
            self.figures[-1].rows.append([])
        elif tag in ("td", "th"):
            self._cell = []
        elif tag == "meta" and "content" in given and given.get("http-equiv"):
            self.policy = given["content"]

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self._cell is not None:
            self.figures[-1].rows[-1].append("".join(self._cell))
            self._cell = None

    def data(self, metric):
        """The table of the first figure of a metric, as columns."""
        found = next(figure for figure in self.figures if figure.metric == metric)
        head, *rows = found.rows
        return {name: [r[k] for r in rows] for k, name in enumerate(head)}


@pytest.fixture(scope="module")
def frame():
    return arrow(journal()).to_pandas()


@pytest.fixture(scope="module")
def built(frame):
    return report.build(frame, tz=ZONE)


@pytest.fixture(scope="module")
def page(built):
    return Page(built.page())


def same(shown: str, value) -> bool:
    if value is None or value != value:
        return shown == ""
    if isinstance(value, float):
        return math.isclose(float(shown), value, rel_tol=1e-5)
    return shown == str(value)


@pytest.mark.parametrize("metric", sorted(set(metrics.__all__) & set(plots.__all__)))
def test_a_frame_that_is_read_once_gives_the_same(frame, metric):
    """Also for what the first one left behind, by groups, and as of a time."""
    read_once = prepare(frame)
    measure = getattr(metrics, metric)
    ways = [{}, {}, {"as_of": START + timedelta(hours=30)}]
    ways += [{"by": "bot"}] if "by" in inspect.signature(measure).parameters else []
    for options in ways:
        made, again = measure(arrow(journal()), **options), measure(read_once, **options)
        pd.testing.assert_frame_equal(again.to_pandas(), made.to_pandas())
        assert metrics.facts(again) == metrics.facts(made)


def test_what_is_read_once_still_names_the_column_that_is_missing(frame):
    read_once = prepare(frame.drop(columns="role").assign(shop="north"))
    with pytest.raises(ConfigError, match="volume needs a column 'role'"):
        metrics.volume(read_once)
    with pytest.raises(ConfigError, match="tokens needs a column 'model'"):
        metrics.tokens(prepare(frame), prices={})
    groups = metrics.like_rate(prepare(frame.assign(shop="north")), by="shop")
    assert groups["shop"].to_pylist() == ["north"]


@pytest.mark.parametrize("metric", PLAIN)
def test_a_table_is_the_metric(frame, page, metric):
    made = getattr(metrics, metric)(pl.from_pandas(frame), tz=ZONE)
    shown = page.data(metric)
    assert list(shown) == made.columns
    for name in made.columns:
        if made[name].dtype.is_numeric() or made[name].dtype == pl.String:
            values = made[name].to_list()
            assert all(same(*pair) for pair in zip(shown[name], values, strict=True)), name


def test_what_is_drawn_over_time_is_the_metric_too(frame, page):
    volume = metrics.volume(frame, tz=ZONE, freq="h")
    assert [int(n) for n in page.data("volume")["messages"]] == volume["messages"].tolist()
    growth = metrics.user_growth(frame, tz=ZONE, freq="D")
    assert [int(n) for n in page.data("user_growth")["new"]] == growth["new"].tolist()
    errors = metrics.error_rate(frame, tz=ZONE, freq="D")
    assert [int(n) for n in page.data("error_rate")["failed"]] == errors["failed"].tolist()


def test_the_tiles_are_the_metrics(frame, page):
    def first(name, **options):
        return getattr(metrics, name)(frame, tz=ZONE, freq=None, **options).iloc[0]

    said = metrics.volume(frame, tz=ZONE, freq=None).set_index("role")["messages"]
    waits, tools = first("response_latency"), metrics.tool_failures(frame)
    assert page.tiles == {
        "volume.user": said["user"],
        "volume.assistant": said["assistant"],
        "active_users.active": first("active_users")["active"],
        "conversation_length.n": first("conversation_length")["n"],
        "conversation_length.turns_p50": first("conversation_length")["turns_p50"],
        "response_latency.p50_s": pytest.approx(waits["p50_s"]),
        "response_latency.p95_s": pytest.approx(waits["p95_s"]),
        "unanswered.missed_rate": pytest.approx(first("unanswered")["missed_rate"]),
        "like_rate.like_rate": pytest.approx(first("like_rate")["like_rate"]),
        "like_rate.coverage_rate": pytest.approx(first("like_rate")["coverage_rate"]),
        "error_rate.failed_rate": pytest.approx(first("error_rate")["failed_rate"]),
        "tool_failures.failed": tools["failed"].sum(),
        "tokens.tokens": first("tokens")["tokens"],
        "connection_health.connected_rate": pytest.approx(
            metrics.connection_health(frame)["connected_rate"].min()
        ),
    }


def test_the_page_needs_nothing_and_every_picture_has_words(page):
    assert page.fetched
    assert all(address.startswith("data:") for address in page.fetched)
    assert not {"script", "iframe", "object", "form"} & set(page.tags)
    assert page.policy.startswith("default-src 'none'")
    assert all(len(figure.alt) > 60 and figure.rows for figure in page.figures)
    assert page.tags.count("source") == len(page.figures) == page.tags.count("details")


def test_the_fragment_has_one_look_and_no_page_around_it(built):
    made = built.fragment()
    assert made.startswith("<div class=")
    assert built._repr_html_() == made
    assert "<source" not in made
    assert "<html" not in made
    assert Page(made).tiles.keys() == Page(built.page()).tiles.keys()


def test_it_is_narrowed(frame):
    mine = frame[(frame["bot"] == "helper") & (frame["at"] >= START + timedelta(hours=20))]
    mine = mine[mine["at"] < START + timedelta(hours=40)]
    made = report.build(
        frame, bot="helper", since=START + timedelta(hours=20), until=START + timedelta(hours=40)
    )
    tiles = {tile.name: tile.number for tile in made.tiles}
    said = metrics.volume(mine, freq=None).set_index("role")["messages"]
    assert (tiles["volume.user"], tiles["volume.assistant"]) == (said["user"], said["assistant"])
    assert made.about[0] == "Only bot helper, from 2026-03-27 20:00 UTC, before 2026-03-28 16:00 UTC."


def test_new_is_new_to_the_journal_and_not_to_the_range(frame):
    made = report.build(frame, since=START + timedelta(days=2))
    growth = next(p for s in made.sections for p in s.panels if p.metric == "user_growth")
    assert growth.data["new"].to_pylist() == [7, 0, 0]
    assert "whole journal" in growth.words


def test_a_kind_of_chat_keeps_the_gaps(frame):
    made = report.build(frame, chat_type="private")
    assert "1 gap of 10 h" in made.about[-1]
    assert report.build(frame, chat_type="group").tiles[0].number == 0


@pytest.mark.parametrize("rows", [[], [row("opened")], [row(message_id="m1", user_id="u", chat_id="c")]])
def test_little_makes_a_page_too(rows):
    made = report.build(arrow(rows))
    page = Page(made.page())
    assert page.tiles.keys() == {tile.name for tile in made.tiles}
    assert len(made.sections) == 8
    assert "No ratings." in made.page()


def test_words_of_strangers_stay_words():
    bad = "<script>alert(1)</script>\x1b[31m\u202e\"'"
    rows = [row(message_id=f"m{k}", user_id=f"u{k}", chat_id="c", text="evil", bot=bad) for k in range(3)]
    rows.append(row("failed", reply_to="m1", text=bad, error=f"{bad}: no", bot=bad))
    made = report.build(arrow(rows), title=bad).page()
    assert "<script" not in made
    assert "\x1b" not in made
    assert "\u202e" not in made
    assert "&lt;script&gt;" in made


def test_what_cannot_be_done_is_said(frame):
    with pytest.raises(ConfigError, match="no frame"):
        report.build([1, 2])
    with pytest.raises(ConfigError, match="no column 'gateway'"):
        report.build(frame.drop(columns="gateway"), gateway="miti")
    with pytest.raises(ConfigError, match="no time zone"):
        report.build(frame, since=datetime(2026, 3, 27))
    with pytest.raises(ConfigError, match="no time zone 'Berlin'"):
        report.build(frame, tz="Berlin")


def test_its_text_has_every_tile(built):
    lines = built.text().splitlines()
    assert lines[0] == "What the bots did"
    assert repr(built) == built.text()
    assert any(line.startswith("Liked") and "20 of 30" in line for line in lines)
    assert len(lines) == 1 + len(built.about) + len(built.tiles)


@pytest.mark.parametrize(
    ("seconds", "usual", "most", "freq"),
    [
        (0, "D", 90, "s"),
        (90, "D", 90, "s"),
        (91, "D", 90, "10s"),
        (3_600, "D", 90, "min"),
        (86_400, "D", 90, "h"),
        (7 * 86_400, "D", 90, "D"),
        (365 * 86_400, "D", 90, "W"),
        (3_650 * 86_400, "D", 90, "M"),
        (9e9, "D", 90, "M"),
        (60, "W", 90, "D"),
        (27 * 86_400, "W", 90, "D"),
        (28 * 86_400, "W", 90, "W"),
        (3_650 * 86_400, "W", 90, "M"),
        (3_600, "D", 4, "h"),
    ],
)
def test_the_bucket_suits_the_range(seconds, usual, most, freq):
    rows = [row(at=datetime(1990, 1, 1, tzinfo=UTC) + timedelta(seconds=s)) for s in (0, seconds)]
    assert metrics.freq_for(arrow(rows), usual=usual, most=most) == freq


def test_without_rows_it_is_days():
    assert metrics.freq_for(arrow([])) == "D"
    with pytest.raises(ConfigError, match="needs a column 'at'"):
        metrics.freq_for(arrow([]).drop_columns("at"))
