import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._notebook import render

HOSTILE = "<img src=x onerror=alert(1)> | [a](javascript:b) \x1b[31mred\x07 \u202eback `x` $y$\nnext"

ALLOWED = set(
    "div style p pre table caption thead tbody tr th td details summary img".split()  # noqa: SIM905
)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


class Drawn:
    dpi = 100

    def __init__(self, alt, data):
        self.alt = alt
        self.data = data

    def get_figwidth(self):
        return 8.0

    def png(self):
        return b"picture"


def views(text):
    frame = pd.DataFrame({"text": [text], "n": [1]})
    return [
        render.notice(text, text),
        render.page(text),
        render.listing([(text, text)]),
        render.table(["text"], [[text]], caption=text),
        render.frame(frame, what="events"),
        render.report({"about": [("fix", text, text, text)]}),
        render.figure(Drawn(text, frame)),
    ]


@given(st.text() | st.just(HOSTILE))
def test_what_strangers_wrote_is_text_in_every_twin(text):
    for view in views(text):
        tags = Tags()
        tags.feed(view.html)
        assert {tag for tag, _ in tags.seen} <= ALLOWED
        assert not any(name.startswith("on") for _, attrs in tags.seen for name in attrs)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]|\u202e", view.plain + view.html + view.markdown)
        if "```" not in view.markdown:
            assert "<" not in view.markdown
            assert "](" not in view.markdown


def test_the_twins_of_a_table():
    view = render.table(["who", "n"], [["Ann | x", 3], ["Bo", None]], caption="two")
    assert view.plain == "two\nwho      n\nAnn | x  3\nBo"
    assert view.markdown == "two\n\n| who | n |\n| --- | --- |\n| Ann \\| x | 3 |\n| Bo |  |"
    assert '<td class="n">3</td>' in view.html
    assert repr(view) == view.plain
    assert set(view._repr_mimebundle_()) == {"text/html", "text/markdown", "text/plain"}


def test_a_long_frame_shows_its_newest_rows_and_says_how_many_there_are():
    frame = pd.DataFrame({"n": range(100), "empty": [""] * 100, "other": [None] * 100})
    view = render.frame(frame, columns=("n", "empty", "missing"), what="events")
    assert view.plain.startswith("the newest 20 of 100 events")
    assert "\n99" in view.plain
    assert "\n79" not in view.plain
    assert "empty" not in view.plain
    assert "No events yet." in render.frame(frame.head(0), what="events").plain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (pd.NaT, ""),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02 03:04:05"),
        (0.123456, "0.1235"),
        (["a", "b"], "a, b"),
        (pd.Series([1, 2]).to_numpy(), "1, 2"),
        ("x" * 300, "x" * 199 + "…"),
        (True, "True"),
    ],
)
def test_cells_are_short(value, text):
    assert render._cell(value) == text


def test_pandas_missing_values_are_empty_cells():
    frame = pd.DataFrame(
        {"n": pd.array([1, None], dtype="Int64"), "s": pd.array(["a", None], dtype="string")}
    )
    assert render.frame(frame).plain == "2 rows\nn  s\n1  a\n"


def test_the_status_card_names_the_current_bot_and_its_trouble():
    one = SimpleNamespace(
        name="a", gateway="sim", state="open", since=datetime(2026, 1, 1, tzinfo=UTC), events=1, handled=2,
        queued=3, backlog=4, reconnects=5, error="", store="j.sqlite",
    )  # fmt: skip
    view = render.status([one], current="a")
    assert "a (current)" in view.plain
    assert "j.sqlite" in view.plain
    assert "trouble" not in view.plain
    one.store = "/home/me/work/.botbook/j.sqlite"
    assert "journal: .botbook/j.sqlite;" in render.status([one], folder="/home/me/work").plain
    assert "journal: /home/me/work/.botbook/j.sqlite;" in render.status([one], folder="/home/me/wor").plain
    one.error = "disk <full>"
    assert "disk &lt;full&gt;" in render.status([one]).html
    assert "Nothing is connected" in render.status([]).plain


def test_a_day_that_all_times_share_stands_in_the_caption():
    noon, later = datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 2, 12, tzinfo=UTC)
    one = render.table(["at", "text"], [[noon, "2026-01-01 is a day"], [pd.NaT, " x"]], caption="2 rows")
    assert one.plain.splitlines()[0] == "2 rows; 2026-01-01 in UTC"
    assert one.plain.splitlines()[2] == "12:00:00  2026-01-01 is a day"
    assert '<div class="t">12:00:00</div>' in one.html
    two = render.table(["at"], [[noon], [later]])
    assert two.plain.splitlines() == ["times in UTC", "at", "2026-01-01 12:00:00", "2026-01-02 12:00:00"]


def test_colours_come_from_the_host_and_both_ends_are_set():
    html = render.notice("x").html
    assert re.search(r"color:var\(--jp-[\w-]+,var\(--vscode-[\w-]+,CanvasText\)\)", html)
    assert re.search(r"background:var\(--jp-[\w-]+,var\(--vscode-[\w-]+,Canvas\)\)", html)
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb\(|opacity", html)


def test_a_page_keeps_its_lines_and_cannot_break_its_fence():
    view = render.page("a\n```\nb")
    assert view.plain == "a\n```\nb"
    assert view.markdown == "````text\na\n```\nb\n````"


def test_a_report_counts_what_is_to_mend():
    assert "All is well." in render.report({"a": [("ok", "x", "y", "")]}).plain
    assert "To mend: 1." in render.report({"a": [("fix", "x", "y", "do")]}).plain
    assert "note  x: y" in render.report({"a": [("note", "x", "y", "")]}).plain
