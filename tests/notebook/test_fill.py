import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._config import Secret
from botbook._errors import CommandError
from botbook._notebook.fill import fill

NAMES = {
    "name": "Ann",
    "n": 3,
    "row": {"text": 'say "hi"', "tags": ["a", "b"], "two words": 2},
    "event": SimpleNamespace(user=SimpleNamespace(id="u1"), _hidden="no"),
    "trap": "{{name}}",
    "token": Secret("s3cr3t-value"),
}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("Hello {{name}}", "Hello Ann"),
        ("Hello {{ name }}", "Hello Ann"),
        ("{{event.user.id}}", "u1"),
        ("{{row['tags'][1]}} {{row['tags'][-1]}}", "b b"),
        ('{{row["two words"]}}', "2"),
        ("{name} $name {{n}}", "{name} $name 3"),
        ("{{trap}}", "{{name}}"),
        ("{{token}}", "Secret(•••)"),
        ("[{{name}}](x) {{n}}", "[Ann](x) 3"),
    ],
)
def test_text_gets_text(text, made):
    assert fill(text, NAMES) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('{"a": {{n}}, "b": {{name}}}', {"a": 3, "b": "Ann"}),
        ('{"a": "to {{name}}", "b": {{row}}}', {"a": "to Ann", "b": NAMES["row"]}),
        ('{"a": "{{row["text"]}}"}', {"a": 'say "hi"'}),
        ('["\\"{{name}}", {{n}}]', ['"Ann', 3]),
        ('{"a": "{{token}}"}', {"a": "Secret(•••)"}),
    ],
)
def test_json_gets_json(text, made):
    assert json.loads(fill(text, NAMES)) == made


def test_numbers_and_times_of_pandas_are_json():
    import pandas as pd

    names = {"n": pd.Series([1]).iloc[0], "t": pd.Timestamp("2026-01-01", tz="UTC")}
    assert json.loads(fill('{"n": {{n}}, "t": {{t}}}', names)) == {"n": 1, "t": "2026-01-01T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("{{nmae}}", "there is no 'nmae'", "'name'"),
        ("{{zzz}}", "there is no 'zzz'", "--raw"),
        ("{{event.usr}}", "no attribute 'usr'", "'user'"),
        ("{{row['txt']}}", "there is no ['txt']", "'text'"),
        ("{{row['tags'][9]}}", "there is no [9]", "--raw"),
        ("{{n[0]}}", "there is no [0]", "--raw"),
        ("{{n + 1}}", "is no name", "--raw"),
        ("{{print(1)}}", "is no name", "--raw"),
        ("{{event.__class__}}", "is no name", "--raw"),
        ("{{}}", "is no name", "--raw"),
        ('{"a": {{token}}}', "which JSON cannot hold", "quotes"),
    ],
)
def test_what_cannot_be_filled_is_an_error_with_a_hint(text, words, hint):
    with pytest.raises(CommandError) as caught:
        fill(text, NAMES)
    assert words in str(caught.value)
    assert hint in caught.value.hint


def test_nothing_is_called_on_the_way():
    class Bomb:
        def __getitem__(self, key):
            raise AssertionError

        def __getattr__(self, name):
            raise AttributeError(name)

    with pytest.raises(CommandError):
        fill("{{bomb.go()}}", {"bomb": Bomb()})


@given(st.text())
def test_a_text_without_holes_is_left_alone(text):
    assert fill(text.replace("{{", ""), NAMES) == text.replace("{{", "")


@given(st.text())
def test_a_value_goes_in_as_it_is_and_only_once(value):
    assert fill("<{{v}}>", {"v": value}) == f"<{value}>"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_any_value_survives_a_json_body(value):
    body = '{"value": {{v}}, "text": "<{{v}}>"}'
    assert json.loads(fill(body, {"v": value})) == {"value": value, "text": f"<{value}>"}


@given(st.text())
def test_any_text_fills_or_says_why_not(text):
    try:
        made = fill(text + "{{" + text + "}}", NAMES)
    except CommandError as error:
        made = error.hint
    assert isinstance(made, str)
