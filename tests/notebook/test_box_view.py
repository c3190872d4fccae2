import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._notebook.box_view import HEAD, TAIL, Screen, terminal_text


def screen(*pieces, end="exit code 0", at=lambda: 0.0):
    made = Screen("s", clock=at)
    for stream, text in pieces:
        made.take(stream, text)
    made.end(end)
    return made.view()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m and \x1b[1;38;5;200mmore\x1b[m", "red and more"),
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPorders\x1b\\text", "text"),
        ("\x1b(Btext\x1b7\x1b[?25l", "text"),
        ("cut off\x1b[3", "cut off"),
        ("cut off\x1b", "cut off"),
        ("10 %\r50 %\r100 %\ndone\r\n", "100 %\ndone\n"),
        ("50 %\r", "50 %"),
        ("bell\x07 back\x08 nul\0 \u202eright", "bell back nul right"),
        ("never ended \x1b]0;title\nnext line", "never ended \nnext line"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_shown(text, shown):
    assert terminal_text(text) == shown


@given(st.text(alphabet="\x1b[]0;mP\\\x07\r\nab\u202e"))
def test_any_text_is_harmless_and_clean_text_stays_as_it_is(text):
    shown = terminal_text(text)
    assert not set(shown) & {"\x1b", "\x07", "\r", "\u202e"}
    assert terminal_text(shown) == shown


def test_both_streams_are_told_apart_in_every_twin():
    view = screen(("stdout", "one\n"), ("stderr", "two\nthree\n"), ("stdout", "<four>"))
    assert view.plain == "one\nstderr: two\nstderr: three\n<four>\nsandbox s · exit code 0"
    assert '<pre style="border-left' in view.html
    assert "behind a bar: stderr" in view.html
    assert "&lt;four&gt;" in view.html
    assert view.markdown.count("*stderr*") == 1
    alone = screen(("stdout", "one"))
    assert "stderr" not in alone.html + alone.markdown


def test_pieces_of_a_stream_are_one_text_wherever_they_were_cut():
    assert screen(("stdout", "a\x1b[3"), ("stdout", "1mb")).plain.startswith("ab\n")
    assert screen(("stdout", "1 %\r"), ("stdout", "2 %")).plain.startswith("2 %\n")


def test_a_running_command_tells_its_time_and_the_way_to_end_it():
    now = [0.0]
    made = Screen("s", clock=lambda: now[0])
    now[0] = 3.2
    assert made.view().plain == "sandbox s · running, 3 s · the stop button ends it"


def test_a_command_without_output_is_one_line():
    view = screen()
    assert view.plain == "sandbox s · exit code 0"
    assert "<pre" not in view.html


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.integers(0, 3 * HEAD)), max_size=12))
def test_head_and_tail_of_any_output_are_kept_and_the_rest_is_counted(sizes):
    made, whole = Screen("s", clock=lambda: 0.0), ""
    for number, (stream, size) in enumerate(sizes):
        text = chr(ord("a") + number) * size
        whole += text
        made.take(stream, text)
    kept = "".join(text for _, text in made._head), "".join(text for _, text in made._tail)
    assert kept[0] == whole[:HEAD]
    assert whole[HEAD:].endswith(kept[1])
    assert len(kept[1]) < 2 * TAIL
    assert len(kept[0]) + len(kept[1]) + made._left_out == len(whole)
    if made._left_out:
        assert len(kept[1]) >= TAIL
        assert f"[… {made._left_out:,} characters …]\n" in made.view().plain
        assert made.view().plain.endswith(f"{made._left_out:,} characters not shown, the result has all")
