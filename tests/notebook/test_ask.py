"""``%%bot ask``: what is shown, and that it does no harm."""

from __future__ import annotations

import _thread
import itertools
import re
import threading
import time
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.utils.capture import capture_output

from botbook._asking import Asked
from botbook._notebook import handed
from botbook._notebook.answers import Drawing, answer_view
from botbook._notebook.magics import load
from botbook._notebook.markdown import Growing, safe_html
from botbook._notebook.surface import Painter
from tests.notebook.conftest import bundles

# ---------------------------------------------------------------------------- safe markdown

#: What the renderer may make of a stranger's text, and nothing else.
TAGS = {
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code", "em", "strong",
    "s", "a", "br", "hr", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip
ATTRIBUTES = {
    "a": {"href", "rel", "target", "title"},
    "ol": {"start"},
    "code": {"class"},
    "th": {"style"},
    "td": {"style"},
}


class Reader(HTMLParser):
    """Tags and attributes as a browser sees them."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found = []
        self.text = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data!r}")

    handle_decl = handle_pi = unknown_decl = handle_comment


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def check(html):
    """Only known tags, attributes and addresses, and no control characters."""
    for tag, attributes in read(html).found:
        assert tag in TAGS, tag
        assert set(attributes) <= ATTRIBUTES.get(tag, set()), attributes
        if tag == "a":
            assert attributes["href"].lower().startswith(("http://", "https://", "mailto:"))
            assert attributes["rel"] == "noopener noreferrer nofollow"
        if "style" in attributes:
            assert re.fullmatch(r"text-align:(left|right|center)", attributes["style"])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)


NASTY = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](http://t/x.png)",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt:alert(1))",
    "[a](&#106;avascript:alert(1))",
    "[a](java\nscript:alert(1))",
    "<http://x.y>",
    "[a](data:text/html;base64,PHNjcmlwdD4=)",
    "[a](vbscript:x)",
    "[a](//x.y)",
    "[a](file:///etc/passwd)",
    "[a](http://x.y \"t' onmouseover='alert(1)\")",
    "[a]: javascript:alert(1)\n\n[a]",
    "<javascript:alert(1)>",
    "\x1b[31mred\x1b[0m",
    "\u202etxt.exe",
    "<!-- c -->",
    "<![CDATA[x]]>",
    "<?php x ?>",
    "</div></body>",
    "```<b>\n<b>\n```",
    "`<b>`",
    "| <b> |\n|:-:|\n| <i> |\n",
    "<style>*{display:none}</style>",
    "&lt;script&gt;",
    '<a href="http://x">',
    "[x](http://a.b/<script>)",
    '[x](http://a.b/"onclick=alert(1))',
    "\x00",
    "\x9b31m",
]


@pytest.mark.parametrize("text", NASTY)
def test_markdown_that_means_harm(text):
    check(safe_html(text))
    check(safe_html(f"- *x {text}\n\n{text}"))


@given(
    st.lists(
        st.one_of(st.sampled_from(NASTY), st.text(max_size=20), st.sampled_from("[]()<>!*_`#|\n&\"'\\")),
        max_size=12,
    )
)
def test_no_markdown_at_all_does_harm(pieces):
    check(safe_html("".join(pieces)))


def test_markdown_that_means_well():
    html = safe_html("# T\n\n**b** `c` ~~s~~ [l](https://x.y)\n\n| a |\n| --: |\n| 1 |\n\n```py\n<x>\n```\n")
    for part in (
        "<h1>T</h1>",
        "<strong>b</strong>",
        "<s>s</s>",
        'href="https://x.y"',
        '<td style="text-align:right">1</td>',
        '<pre><code class="language-py">&lt;x&gt;\n</code></pre>',
    ):
        assert part in html


BLOCKS = [
    "```\n",
    "\n\n",
    "- ",
    "1. ",
    "> ",
    "| a | b |\n|---|---|\n",
    "    ",
    "***\n",
    "===\n",
    "<b>",
    "  - ",
    "\x1b[",
]


@given(
    st.lists(
        st.one_of(st.sampled_from(BLOCKS), st.text("ab \n#*-`>|1.)(_~<&\\=+é\t\r31m", max_size=10)),
        max_size=20,
    )
)
def test_a_text_that_grows_ends_as_if_it_had_come_at_once(pieces):
    growing, text, html = Growing(), "", ""
    for piece in pieces:
        text += piece
        html = growing.html(text)
        check(html)
    assert html == (safe_html(text) if pieces else "")


def test_a_text_that_is_replaced_is_made_anew():
    growing = Growing()
    growing.html("one\n\ntwo\n\nthree\n\n")
    assert growing.html("other\n\nwords") == "<p>other</p>\n<p>words</p>\n"


def test_60_kb_in_pieces_cost_little_more_than_at_once():
    text = "Some *text* with `code`, going on for a while.\n\n- a\n- b\n\n```py\nx\n```\n" * 900
    assert len(text) > 60_000
    began = time.thread_time()
    safe_html(text)
    once = time.thread_time() - began
    growing, began = Growing(), time.thread_time()
    for end in range(600, len(text) + 600, 600):
        growing.html(text[:end])
    assert (
        time.thread_time() - began < 8 * once
    )  # 100 views; made anew each time they would cost 50 times as much


# ---------------------------------------------------------------------------- views


def asked(text="", **given):
    made = Asked("q", "what?", began=0.0, hop=None, cancel=None)
    made._pieces = [text]
    for name, value in given.items():
        setattr(made, name, value)
    return made


def tool(name="search", arguments=None, result=None, error=""):
    return {"id": "1", "name": name, "arguments": arguments, "result": result, "error": error}


def over(text="", **given):
    return answer_view(asked(text, **({"done": True, "seconds": 1.26} | given)))


def test_a_whole_answer():
    view = over(
        "Look. **Found**", tokens=1234, tools=[tool(arguments={"q": "<b>", "n": 2}, result=[1])], places=[6]
    )
    assert (
        view.html.index("Look.")
        < view.html.index("<summary><b>search</b>")
        < view.html.index("<strong>Found")
    )
    assert "q: &lt;b&gt;, n: 2 · done" in view.html
    assert (
        view.plain == "Tool search: q: <b>, n: 2: done\nLook. **Found**\n1.3 s · 1,234 tokens · 1 tool call"
    )
    assert view.markdown.endswith("*1.3 s · 1,234 tokens · 1 tool call*")


def test_an_answer_that_is_coming():
    view = Drawing(asked()).view()
    assert view.plain == "… the stop button stops the answer"
    coming = asked("So far", tools=[tool(arguments='{"q')], places=[3])
    coming.progress = [("read", 1.0), ("<w>", 0.25), ("<w>", 0.5), ("", None)]
    view = Drawing(coming).view()
    assert "{&quot;q · running …" in view.html
    assert '&lt;w&gt;</span><progress max="1" value="0.500"></progress><span>50%</span>' in view.html
    assert view.html.count("<progress") == 2
    assert "working" in view.html
    assert "6 characters so far; the stop button" in view.html
    assert (view.plain, view.markdown) == ("So far", "")


def test_a_drawing_follows_to_the_end():
    coming = asked("a [x]")
    drawing = Drawing(coming)
    drawing.view()
    coming._pieces.append("\n\n[x]: http://y.z\n")
    coming.done, coming.seconds = True, 1.0
    assert 'href="http://y.z"' in drawing.view().html


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("LLM_DOWN: <no> model", "Not finished: &lt;no&gt; model (LLM_DOWN)."),
        ("cancelled: the answer was stopped", "Stopped."),
        ("odd", "Not finished: odd."),
    ],
)
def test_an_answer_that_failed(error, words):
    view = over("half", error=error)
    assert f'<div class="failed">{words} What had arrived is above.</div>' in view.html
    assert words.replace("&lt;", "<").replace("&gt;", ">") in view.plain
    assert "above" not in over(error=error).html
    assert "failed" not in over("all").html.partition("</style><div")[2]


@pytest.mark.parametrize("tag", ["think", "thinking", "THINK"])
def test_thinking_is_folded(tag):
    html = over(f"<{tag}>Let me <see>.</{tag}>\n\nThe answer.").html
    assert '<summary><b>Thinking</b> <span class="soft">13 characters</span></summary>' in html
    assert "Let me &lt;see&gt;." in html
    assert '<div class="text"><p>The answer.</p>' in html
    later = over(f"First. <{tag}>Hm.</{tag}> Then.").html
    assert later.index("First.") < later.index("Hm.") < later.index("Then.")
    unfinished = Drawing(asked(f"<{tag}>Let me")).view().html
    assert "Let me</pre>" in unfinished
    assert 'class="text"' not in unfinished


def test_tools_of_every_kind():
    html = over(
        tools=[
            tool("", "x" * 5_000),
            tool("fetch", {"url": "u" * 100}, {"error": "timed\nout"}, "timed\nout"),
            tool("late", None, "done"),
        ],
        places=[0, 0, 0],
        voices={"tools:<x>": "hm"},
    ).html
    assert "<b>a tool without a name</b>" in html
    assert "… 1,000 more characters" in html
    assert "failed: timed out" in html
    assert "<b>&lt;x&gt;</b>" in html
    assert html.count("Arguments") == 2
    assert (
        "u" * 72 not in html.partition("</summary>")[2].partition("<summary>")[2].partition("</summary>")[0]
    )


def test_files_are_links_where_their_contents_are_known():
    done = asked(done=True, files=["a/<b>.md", "c.csv"])
    html = answer_view(done, {"a/<b>.md": "data:text/plain;base64,SGk="}).html
    assert (
        '<a download="&lt;b&gt;.md" href="data:text/plain;base64,SGk="><code>a/&lt;b&gt;.md</code></a>'
        in html
    )
    assert 'c.csv</code><span class="soft">in the agent\'s workspace' in html
    assert "File c.csv" in answer_view(done).plain


def test_only_files_of_the_workspace_become_links(tmp_path, monkeypatch):
    inside = tmp_path / "workspace"
    (inside / "a").mkdir(parents=True)
    (inside / "a" / "r.md").write_bytes(b"Hi")
    (inside / "long").write_bytes(b"x" * (handed.LONGEST + 1))
    (tmp_path / "secret").write_bytes(b"no")
    (inside / "link").symlink_to(tmp_path / "secret")
    monkeypatch.setenv("BOTBOOK_WORKSPACE", str(inside))
    paths = ["a/r.md", "long", "link", "../secret", "a", "missing", "\x00", "held", "held-long"]
    held = {"held": b"yo", "held-long": b"x" * (handed.LONGEST + 1)}
    assert handed.download_links(paths, handed.workspace(), held) == {
        "a/r.md": "data:application/octet-stream;base64,SGk=",
        "held": "data:application/octet-stream;base64,eW8=",
    }
    monkeypatch.delenv("BOTBOOK_WORKSPACE")
    assert str(handed.workspace()) == "/workspace"


@given(st.sampled_from(NASTY), st.text(max_size=30))
def test_a_stranger_s_words_stay_words_everywhere(nasty, text):
    words = nasty + text
    made = asked(
        words, done=True, error=f"{words}: {words}", files=[words], voices={words: words}, places=[0]
    )
    made.tools = [tool(words, {words: words}, words, words)]
    for view in (
        answer_view(made),
        Drawing(asked(words, progress=[(words, 0.5)], tools=made.tools, places=[1])).view(),
    ):
        inner = view.html.partition('<div class="answer">')[2]
        allowed = TAGS | {"div", "span", "details", "summary", "b", "progress"}
        for tag, attributes in read(inner).found:
            assert tag in allowed
            assert not [name for name in attributes if name.startswith("on")]
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", view.plain + view.markdown)
        assert "![" not in view.markdown


# ---------------------------------------------------------------------------- painting


def test_a_painter_keeps_its_pace():
    shown = []
    block = SimpleNamespace(update=lambda view: shown.append((time.monotonic(), view)), close=lambda: None)

    def slow():
        time.sleep(0.05)
        return "view"

    painter = Painter(lambda view: block)
    painter.wake()
    painter.close()
    painter.show()  # nothing was drawn yet
    assert shown == []
    painter = Painter(lambda view: block)
    painter.draw(slow)
    until = time.monotonic() + 1
    while time.monotonic() < until:
        painter.wake()
        time.sleep(0.002)
    painter.close()
    between = [after[0] - before[0] for before, after in itertools.pairwise(shown)]
    assert 2 <= len(shown) <= 6  # at most a fifth of the time
    assert min(between) > 0.1


# ---------------------------------------------------------------------------- cells


class Cells:
    def __init__(self, shell):
        self.shell = shell

    def run(self, cell):
        with capture_output() as captured:
            result = self.shell.run_cell(cell, store_history=True)
        return SimpleNamespace(
            value=result.result,
            error=result.error_in_exec or result.error_before_exec,
            views=[one for one in bundles(captured.outputs) if "text/html" in one],
            outputs=captured.outputs,
        )


@pytest.fixture
def cells(shell, monkeypatch, tmp_path):
    """A shell with the real thing in it, connected to the embedded world."""
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "journal.sqlite"))
    load(shell)
    made = Cells(shell)
    assert made.run("bot = %bot connect sim --scenario quiet --speed 50").error is None
    return made


def test_a_question_in_a_cell(cells):
    done = cells.run(
        "%%bot ask --out answer\nsearch for {{1 and 'cats'}} or cats".replace("{{1 and 'cats'}} or ", "")
    )
    answer = cells.shell.user_ns["answer"]
    assert (done.error, done.value) == (None, None)
    (view,) = done.views
    assert "<b>search</b>" in view["text/html"]
    assert view["text/plain"].endswith(f"{answer.tokens} tokens · 1 tool call")
    assert answer.text in view["text/plain"]
    assert {"message.delta", "agent.tool_call", "message.received"} <= set(answer.events["type"])
    assert answer.tools[0]["arguments"]["query"] == "search for cats"


def test_values_are_filled_in_and_may_be_left_alone(cells):
    cells.run("topic = 'cats'")
    cells.run("%%bot ask --out answer\nsearch for {{topic}}")
    assert cells.shell.user_ns["answer"].question == "search for cats"
    cells.run("%%bot ask --raw --out answer\nsay {{topic}}")
    assert cells.shell.user_ns["answer"].question == "say {{topic}}"


def test_the_value_of_a_cell_is_the_answer(cells):
    done = cells.run("x = get_ipython().run_cell_magic('bot', 'ask', 'Hello')\nx.text")
    assert done.value == cells.shell.user_ns["x"].text


def test_an_answer_that_fails_in_a_cell(cells):
    done = cells.run("%%bot ask --out answer\nboom")
    assert type(done.error).__name__ == "AnswerError"
    answer = cells.shell.user_ns["answer"]
    assert (answer.text, done.error.answer) == ("I will try. ", answer)
    assert "Not finished: the model does not answer (LLM_UNAVAILABLE)." in done.views[0]["text/html"]
    assert cells.run("%%bot ask\nHello").error is None


def test_a_file_is_a_link(cells):
    done = cells.run("%%bot ask\na report")
    assert (
        '<a download="report.md" href="data:application/octet-stream;base64,IyBSZXBvcnQ'
        in done.views[0]["text/html"]
    )


def test_attachments_and_chats(cells):
    done = cells.run("%%bot ask --attach in.csv --attach b.csv --chat 7 --out answer\nHello")
    assert "Thank you for in.csv, b.csv." in done.views[0]["text/plain"]
    assert set(cells.shell.user_ns["answer"].events["chat_id"]) == {"7"}


def test_nothing_is_connected_yet(shell, monkeypatch, tmp_path):
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "journal.sqlite"))
    load(shell)
    done = Cells(shell).run("%%bot ask\nHello")
    assert done.error is None
    assert "Connected to sim" in done.views[0]["text/plain"]


def test_the_stop_button(cells):
    threading.Timer(0.5, _thread.interrupt_main).start()
    began = time.monotonic()
    done = cells.run("%%bot ask --out answer\nslowly, a long story")
    assert 0.4 < time.monotonic() - began < 1.2
    assert isinstance(done.error, KeyboardInterrupt)
    assert "Stopped. What had arrived is above." in done.views[-1]["text/html"]
    assert cells.shell.user_ns["answer"].text.startswith("word0 ")
    again = cells.run("%%bot ask\nHello")
    assert again.error is None
    assert "word" not in again.views[0]["text/plain"]
    assert cells.shell.user_ns["bot"].status().state == "open"


def test_a_long_answer_is_drawn_at_most_ten_times_a_second(cells):
    began = time.monotonic()
    done = cells.run("%%bot ask\n60 kB")
    took = time.monotonic() - began
    assert done.error is None
    assert len(done.views[0]["text/plain"]) > 60_000
    assert 2 <= len(done.outputs) <= took / 0.1 + 3
