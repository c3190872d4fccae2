"""The handlers of a notebook, without running it."""

from __future__ import annotations

import ast
import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from botbook._bus.handler import Handler, condition
from botbook._errors import ConfigError

__all__ = ["notebook_handlers"]

_MAGIC: Final = "%%bot"
#: What is run of a cell: what defines, and nothing that does anything.
_DEFINING: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def notebook_handlers(path: str | os.PathLike[str]) -> list[Handler]:
    """Find the handlers that a notebook's cells define.

    Of every cell only imports, functions, classes and constants are run; nothing is connected.

    Args:
        path: An ``.ipynb`` file.

    Returns:
        Handlers in the order in which they are defined; one that is defined again appears again.

    Raises:
        ConfigError: It is no notebook.
        Exception: What a definition raises.
    """
    found: list[Handler] = []
    names: dict[str, Any] = {"__name__": Path(path).stem, **_at_hand(found)}
    for source in _cells(Path(path)):
        first, _, body = source.partition("\n")
        words = first.split(maxsplit=2)
        if not words or words[0] != _MAGIC:
            _define(source, names, path)
        elif words[1:2] == ["on"]:
            found.append(_on(shlex.split(first)[2:], body, names, path))
        elif len(words) == 1:
            _define(body, names, path)
    return found


def _cells(path: Path) -> Iterator[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is no notebook: {type(error).__name__}") from None
    for source in sources:
        yield source if isinstance(source, str) else "".join(source)


def _define(source: str, names: dict[str, Any], path: str | os.PathLike[str]) -> list[str]:
    """Run what a cell defines. Returns the names of its functions."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        tree = ast.parse("\n".join(lines), str(path))
    except SyntaxError:
        return []  # a cell that is no plain Python defines nothing that we could test
    tree.body = [node for node in tree.body if isinstance(node, _DEFINING) or _is_constant(node)]
    exec(compile(tree, str(path), "exec"), names)  # the notebook is the user's own
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def _is_constant(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return False
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return True


def _on(words: list[str], body: str, names: dict[str, Any], path: str | os.PathLike[str]) -> Handler:
    """A cell ``%%bot on PATTERN [--when EXPR] [--name N] [--timeout S]``."""
    options = dict(zip(words[1::2], words[2::2], strict=False))
    functions = _define(body, names, path)
    if not words or not functions:
        raise ConfigError(f"a cell of {path} says `%%bot on` and defines no handler")
    return _made(
        names[functions[-1]],
        words[0],
        name=options.get("--name", ""),
        when=options.get("--when"),
        timeout=float(options.get("--timeout", 60)),
    )


def _made(
    function: Callable[..., Any],
    pattern: str,
    *,
    name: str = "",
    when: Any = None,
    timeout: float = 60.0,
) -> Handler:
    asked = condition(when) if isinstance(when, str) else when
    return Handler(function, pattern=pattern, name=name, when=asked, timeout=timeout)


def _at_hand(found: list[Handler]) -> dict[str, Any]:
    """The names that a ``%%bot`` cell has at hand, as far as they define handlers."""

    def on(pattern: str, **options: Any) -> Callable[[Any], Any]:
        def register(function: Any) -> Any:
            found.append(_made(function, pattern, **options))
            return function

        return register

    def only(group: bool, when: Any) -> Callable[[Any], Any]:
        asked = condition(when) if isinstance(when, str) else when
        return lambda event: (event.chat_type == "group") is group and (asked is None or asked(event))

    def on_message(function: Any = None, *, when: Any = None, **options: Any) -> Any:
        register = on("message.received", when=only(False, when), **options)
        return register if function is None else register(function)

    def on_group_at(function: Any = None, *, when: Any = None, **options: Any) -> Any:
        register = on("message.received", when=only(True, when), **options)
        return register if function is None else register(function)

    return {"on": on, "on_message": on_message, "on_group_at": on_group_at}
