"""What the package promises: names, docstrings, the error tree."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import botbook
from botbook import _errors

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(botbook.__path__, "botbook.")
    if not name.endswith("__main__") and name != "botbook._local.backends.launcher"
)


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_true(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", None)
    if names is None:
        # The jail's launcher runs as a script, far from the package.
        assert ".jail" in name or module.__spec__.submodule_search_locations is not None
        return
    assert list(names) == sorted(names, key=lambda n: (0 if n.isupper() else 1 if n[0].isupper() else 2, n))
    assert [missing for missing in names if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", botbook.__all__)
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(botbook, name)
    assert inspect.getdoc(thing)
    assert name in dir(botbook)


@pytest.mark.parametrize("face", ["AsyncBot", "Bot"])
def test_every_public_method_is_documented(face):
    cls = getattr(botbook, face)
    for name, member in vars(cls).items():
        if not name.startswith("_"):
            assert inspect.getdoc(member), f"{face}.{name}"


def test_both_faces_have_the_same_methods():
    def public(cls):
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(botbook.AsyncBot) - public(botbook.Bot) == {"answer", "run", "start"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonsense"):
        _ = botbook.nonsense


def test_the_error_tree_in_the_docstring_is_the_one_in_the_code():
    drawn = {}
    path = []
    for line in _errors.__doc__.splitlines():
        if match := re.match(r"    ((?:[│ ]  )*)(?:[├└]─ )?(\w+)", line):
            depth = (line.index(match[2]) - 4) // 3
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    real = {
        name: thing.__bases__[0].__name__
        for name, thing in vars(_errors).items()
        if inspect.isclass(thing) and issubclass(thing, Exception)
    }
    assert drawn == real


def test_every_error_is_a_botbook_error_with_a_hint_slot():
    for name in _errors.__all__:
        thing = getattr(_errors, name)
        if inspect.isclass(thing) and issubclass(thing, Exception):  # the stop button is no error
            assert issubclass(thing, _errors.BotbookError)
            assert isinstance(thing.default_hint, str)
