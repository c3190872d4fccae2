"""Every picture: drawn on light, dark and transparent paper, with facts, words and its data."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random

import matplotlib as mpl
import pandas as pd
import polars as pl
import pytest

from botbook import metrics, plots
from botbook._errors import ConfigError
from botbook.plots._theme import THEMES, contrast, theme_named
from botbook.plots._words import facts_line, seconds, share
from tests.metrics.reference import arrow, row

START = datetime(2026, 3, 27, tzinfo=UTC)
#: Metric → the ways it can be asked for that have a picture of their own.
WAYS = {
    "active_users": [{}, {"by": "bot"}],
    "compare": [{"min_n": 0}, {"min_n": 0, "measure": "response_latency", "draws": 20}, {}],
    "connection_health": [{}, {"freq": "D"}],
    "containment": [{}, {"handoff": "agent.tool_call", "by": "bot", "freq": "D"}],
    "conversation_length": [{}, {"histogram": True}, {"freq": "D"}],
    "dislike_reasons": [{}, {"by": "bot"}],
    "error_rate": [{}, {"split": "error"}, {"by": "bot", "freq": None}],
    "feedback_changes": [{}, {"by": "bot"}],
    "feedback_coverage": [{}, {"freq": None, "by": "bot"}],
    "feedback_state": [{}],
    "first_response": [{}, {"histogram": "log"}, {"histogram": "bands"}, {"freq": "D"}],
    "hour_weekday": [{}, {"by": "bot"}],
    "like_rate": [{}, {"min_n": 0, "by": "bot"}, {"min_n": 0, "freq": "D"}],
    "response_latency": [
        {},
        {"by": "bot"},
        {"freq": None, "by": "bot"},
        {"ecdf": True},
        {"ecdf": True, "by": "bot"},
    ],
    "retention": [{}, {"freq": "D"}],
    "terms": [{"min_n": 1}],
    "tokens": [{}, {"by": "bot", "freq": "h"}, {"freq": None, "by": "bot", "prices": 2.0}],
    "tool_failures": [{}, {"freq": "D"}],
    "unanswered": [{}, {"by": "bot"}, {"freq": None, "by": "bot"}],
    "user_growth": [{}, {"by": "bot", "freq": "D"}],
    "volume": [{}, {"by": "bot"}, {"freq": "h"}, {"freq": "s", "until": 100}],
}
ALL = [(name, options) for name, ways in WAYS.items() for options in ways]


def journal(many=60):
    """Some days of two bots, with ratings, tools, errors and a gap."""
    chance, rows = Random(7), []
    for k in range(many):
        at = START + timedelta(hours=k)
        who = {"bot": ("helper", "小助手")[k % 2], "chat_id": f"c{k % 5}", "chat_type": "private"}
        rows.append(
            row(
                at=at,
                event_id=f"q{k}",
                message_id=f"q{k}",
                user_id=f"u{k % 7}",
                text=("退款 please", "thanks")[k % 3 > 0],
                **who,
            )
        )
        if k % 9:
            late = at + timedelta(seconds=chance.lognormvariate(0.5, 1))
            said = {"message_id": f"a{k}", "reply_to": f"q{k}", "tokens": 10 * k, **who}
            said["error"] = "" if k % 11 else "ValueError: x"
            rows.append(row("assistant", at=late, event_id=f"a{k}", **said))
        if k % 3:
            click = {"feedback_id": f"f{k}", "feedback_type": (1, 2, 1, 3)[k % 4], "message_id": f"a{k}"}
            click |= {"feedback_reasons": ["too slow", "错误"][: k % 3], "user_id": f"u{k % 7}"}
            rows.append(row("feedback", at=at + timedelta(minutes=5), event_id=f"f{k}", **click, **who))
        if k % 4 == 0:
            error = "" if k % 8 else "Timeout: slow"
            rows.append(row("result", at=at, event_id=f"t{k}", user_name="search", error=error, **who))
    for k, kind in enumerate(("opened", "closed", "opened")):
        rows.append(row(kind, at=START + timedelta(hours=10 * k), event_id=f"l{k}"))
    return rows


@pytest.fixture(scope="module")
def frame():
    return arrow(journal()).to_pandas()


def measured(frame, name, options):
    options = dict(options)
    if "until" in options:
        options.pop("until")
        frame = frame[frame["at"] < frame["at"].min() + pd.Timedelta(seconds=100)]
    return getattr(metrics, name)(frame, **options)


def names_of(module):
    return {
        name
        for name in module.__all__
        if inspect.isfunction(getattr(module, name)) and name not in ("attach", "facts", "freq_for", "style")
    }


def test_every_metric_has_its_picture_under_the_same_name():
    assert names_of(metrics) == names_of(plots) == set(WAYS)
    assert metrics.__all__ == sorted(metrics.__all__)
    assert plots.__all__ == sorted(plots.__all__)


@pytest.mark.parametrize(("name", "options"), ALL, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ALL)])
def test_a_picture_is_drawn_and_says_what_it_is_made_of(frame, name, options):
    made = measured(frame, name, options)
    theme = sorted(THEMES)[len(str(options)) % 3]
    figure = getattr(plots, name)(made, theme=theme)
    assert figure.png(scale=0.3).startswith(b"\x89PNG")
    facts = metrics.facts(made)
    assert figure.data is made
    assert figure.alt.startswith(figure.get_suptitle().strip())
    assert f"n = {facts.used:,}" in figure.alt
    assert "UTC" in figure.alt
    printed = figure.get_supxlabel().replace("\n", " ").replace("\u00a0", " ")
    assert f"n = {facts.used:,} · 2026-03-27 to" in printed
    assert "duplicates dropped" in printed
    assert ("1 gap of" in printed) == bool(facts.gaps)


@pytest.mark.parametrize(("name", "options"), ALL, ids=[f"{n}-{i}" for i, (n, _) in enumerate(ALL)])
@pytest.mark.parametrize("many", [0, 1])
def test_a_picture_of_nothing_or_of_one_row_is_drawn(frame, name, options, many):
    made = measured(frame.iloc[:many], name, options)
    figure = getattr(plots, name)(made, theme="dark", title="空")
    if many:
        figure.draw_without_rendering()
    assert figure.get_suptitle().strip() == "空"
    assert "n = " in figure.alt


@pytest.mark.parametrize("name", sorted(WAYS))
def test_a_wrong_frame_or_theme_is_an_error(frame, name):
    draw = getattr(plots, name)
    with pytest.raises(ConfigError, match=f"plots.{name} needs a column") as caught:
        draw(pd.DataFrame({"x": [1]}))
    assert f"botbook.metrics.{name}" in caught.value.hint
    with pytest.raises(ConfigError, match="no metric frame"):
        draw([1, 2])
    with pytest.raises(ConfigError, match="no theme 'pink'") as caught:
        draw(measured(frame, name, WAYS[name][0]), theme="pink")
    assert "dark" in caught.value.hint


def test_every_kind_of_frame_is_drawn_the_same(frame):
    alts = {
        plots.volume(metrics.volume(kind)).alt for kind in (frame, pl.from_pandas(frame), arrow(journal()))
    }
    assert len(alts) == 1


def test_a_frame_that_lost_its_facts_is_not_drawn_until_it_has_them_again(frame):
    whole = metrics.volume(pl.from_pandas(frame), by="bot")
    made = whole.filter(pl.col("role") == "user")
    with pytest.raises(ConfigError, match="facts were lost") as caught:
        plots.volume(made)
    assert "botbook.metrics.attach" in caught.value.hint
    assert "小助手: user" in plots.volume(metrics.attach(made, metrics.facts(whole))).alt


def test_nothing_global_is_changed(frame):
    before = dict(mpl.rcParams)
    plots.volume(metrics.volume(frame)).png(scale=0.3)
    plots.style("dark")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_loaded():
    code = "import sys, botbook.plots; print('matplotlib.pyplot' in sys.modules, 'IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_a_notebook_gets_a_picture_with_its_words(frame):
    figure = plots.volume(metrics.volume(frame), title='"Mess" & <more>')
    bundle = figure._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "image/png", "text/html"}
    assert bundle["text/html"].startswith('<img alt="&quot;Mess&quot; &amp; &lt;more')
    assert bundle["text/plain"] == figure.alt


@pytest.mark.parametrize("name", ["light", "dark"])
def test_words_and_marks_stand_out_from_their_paper(name):
    theme = theme_named(name)
    assert contrast(theme.ink, theme.paper) >= 4.5
    assert contrast(theme.muted, theme.paper) >= 4.5
    assert all(contrast(theme.edge(color), theme.paper) >= 4.5 for color in theme.colors)


@pytest.mark.parametrize("paper", ["#ffffff", "#111111"])
def test_the_transparent_theme_can_be_read_on_both_papers(paper):
    """4.5 : 1 on both is out of reach for one ink, as 21 : 1 is all there is: 4.1 it is."""
    theme = theme_named("auto")
    assert theme.paper is None
    assert contrast(theme.ink, paper) >= 4.1
    assert all(contrast(theme.edge(color), paper) >= 3 for color in theme.colors)


@pytest.mark.parametrize("name", sorted(THEMES))
def test_the_style_is_fit_for_matplotlib(name):
    with mpl.rc_context(plots.style(name)):
        assert mpl.rcParams["axes.facecolor"] == (THEMES[name].paper or "none")
    with pytest.raises(ConfigError, match="no theme"):
        plots.style("pink")


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.0004, "0.4 ms"), (0.25, "250 ms"), (1.5, "1.5 s"), (90, "90 s"), (120, "2 min"), (7200, "2 h"),
     (86400 * 3, "3 d"), (86400 * 2000, "2,000 d"), (-0.5, "-500 ms"), (0, "0 ms")],
)  # fmt: skip
def test_lengths_of_time_in_words(value, words):
    assert seconds(value) == words


def test_shares_in_words():
    assert (share(0.123), share(float("nan"))) == ("12.3%", "–")


def test_the_facts_line_of_nothing():
    assert facts_line(metrics.Facts(metric="volume")).replace("\u00a0", " ") == (
        "n = 0 · UTC · 0 duplicates dropped · no gaps"
    )


def test_latency_has_two_kinds(frame):
    made = metrics.response_latency(frame)
    assert "end of the answer" in plots.response_latency(made, kind="complete").alt
    with pytest.raises(ConfigError, match="kind"):
        plots.response_latency(made, kind="middle")


def test_widely_spread_times_go_on_a_logarithmic_axis():
    rows = []
    for k, wait in enumerate((0.1, 100, 0.1, 100)):
        at = START + timedelta(hours=k)
        rows.append(row(at=at, event_id=f"q{k}", message_id=f"q{k}", chat_id="c", user_id="u"))
        late = at + timedelta(seconds=wait)
        rows.append(row("assistant", at=late, event_id=f"a{k}", reply_to=f"q{k}", chat_id="c"))
    figure = plots.response_latency(metrics.response_latency(arrow(rows), freq="h"))
    assert figure.axes[0].get_yscale() == "log"
    figure.draw_without_rendering()


def test_more_buckets_than_fit_become_lines(frame):
    bars = plots.volume(metrics.volume(frame, freq="D")).axes[0]
    lines = plots.volume(metrics.volume(frame, freq="h", as_of=START + timedelta(days=4))).axes[0]
    assert len(bars.patches) > 6 > len(lines.patches)


def test_a_gap_is_shaded_and_an_open_bucket_hatched(frame):
    axes = plots.volume(metrics.volume(frame)).axes[0]
    assert "gap" in {text.get_text() for text in axes.texts}
    assert any(patch.get_hatch() for patch in axes.patches)


def test_eleven_groups_are_drawn_as_six():
    rows = [row(at=START + timedelta(minutes=k), event_id=f"e{k}", bot=f"b{k % 11}") for k in range(50)]
    figure = plots.volume(metrics.volume(arrow(rows), by="bot"))
    assert len(figure.axes) == 6
    assert [bool(axes.get_xlabel()) for axes in figure.axes] == [False] * 3 + [True] * 3
    assert len(figure.data) == 22


def test_names_at_the_ends_of_lines_do_not_touch():
    rows = []
    for k in range(8):
        at, who = START + timedelta(minutes=k), {"chat_id": f"c{k % 4}", "bot": f"b{k % 4}"}
        rows.append(row(at=at, event_id=f"q{k}", user_id="u", **who))
        rows.append(row("assistant", at=at + timedelta(seconds=2), event_id=f"a{k}", **who))
    figure = plots.response_latency(metrics.response_latency(arrow(rows), by="bot"))
    figure.draw_without_rendering()
    names = [text for text in figure.axes[0].texts if text.get_text().startswith("p")]
    boxes = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
    assert len(boxes) == 8
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))


def test_curves_with_the_same_half_share_their_words(frame):
    alike = plots.response_latency(metrics.response_latency(frame, ecdf=True))
    assert "first, complete: half within 925 ms" in alike.alt
    assert sum("half within" in text.get_text() for text in alike.findobj(mpl.text.Text)) == 1
    apart = plots.response_latency(metrics.response_latency(frame, ecdf=True, by="bot"))
    assert sum("half within" in text.get_text() for text in apart.findobj(mpl.text.Text)) == 2
