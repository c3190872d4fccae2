"""``{{name}}`` in a magic's text: names, attributes and indexes, strictly; nothing is evaluated.

IPython's own expansion runs code in braces and fails without a word (jupyter.md 3.6), so the magic
turns it off and this takes its place.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from botbook._errors import CommandError

__all__ = ["fill"]

_HOLE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME: Final = re.compile(r"\s*([^\W\d]\w*)")
_STEP: Final = re.compile(
    r"\.(?P<attribute>[^\W\d]\w*)|\[(?P<index>-?\d+)\]|\[(?P<quote>['\"])(?P<key>.*?)(?P=quote)\]"
)
#: What matters for knowing whether a place lies inside a JSON string.
_MARK: Final = re.compile(r"\{\{.*?\}\}|\\.|\"", re.DOTALL)


def fill(text: str, names: Mapping[str, Any]) -> str:
    """Put values into every ``{{name}}`` of a text.

    A text that is a JSON object or array gets JSON: a value where a value stands, escaped text
    inside a string. Any other text gets ``str(value)``. What was put in is not looked at again.

    Args:
        text: The text; without ``{{`` it comes back as it is.
        names: Where names are looked up, such as the user's namespace.

    Raises:
        CommandError: An unknown name, attribute, key or index, or anything else between the braces.
    """
    if "{{" not in text:
        return text
    if not _is_json(text):
        return _HOLE.sub(lambda hole: str(_look_up(hole[1], names)), text)
    return _each_hole(text, lambda path, quoted: _as_json(_look_up(path, names), path, quoted))


def _is_json(text: str) -> bool:
    """Whether the text, once its holes are filled, is a JSON object or array."""
    try:
        made = json.loads(_each_hole(text, lambda path, quoted: "x" if quoted else "null"))
    except ValueError:
        return False
    return isinstance(made, dict | list)


def _each_hole(text: str, value: Callable[[str, bool], str]) -> str:
    """Replace the holes of a JSON text; `value` is told whether one lies inside a string."""
    quoted = False

    def put(mark: re.Match[str]) -> str:
        nonlocal quoted
        if mark[0].startswith("{{"):
            return value(mark[0][2:-2], quoted)
        quoted ^= mark[0] == '"'
        return mark[0]

    return _MARK.sub(put, text)


def _as_json(value: Any, path: str, quoted: bool) -> str:
    if quoted:
        return json.dumps(str(value))[1:-1]
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        raise CommandError(
            f"{{{{{path}}}}} is a {type(value).__name__}, which JSON cannot hold",
            hint='Put it in quotes, as in "{{name}}", to send its text.',
        ) from None


def _plain(value: Any) -> Any:
    """A number or a time of another library, as JSON knows it."""
    for method in ("item", "isoformat"):
        if callable(convert := getattr(value, method, None)):
            return convert()
    raise TypeError


def _look_up(path: str, names: Mapping[str, Any]) -> Any:
    name, steps = _read(path)
    if name not in names:
        raise _unknown(f"there is no {name!r} to put into {{{{{path}}}}}", name, names)
    value = names[name]
    for step in steps:
        value = _go(value, step, path)
    return value


def _read(path: str) -> tuple[str, list[re.Match[str]]]:
    """Cut a path into its name and its steps, before anything is looked up."""
    start = _NAME.match(path)
    if start is None:
        raise _no_path(path)
    steps: list[re.Match[str]] = []
    rest = path[start.end() :].rstrip()
    while rest:
        step = _STEP.match(rest)
        if step is None or (step["attribute"] or "").startswith("_"):
            raise _no_path(path)
        steps.append(step)
        rest = rest[step.end() :]
    return start[1], steps


def _go(value: Any, step: re.Match[str], path: str) -> Any:
    """One attribute, index or key further."""
    if (attribute := step["attribute"]) is not None:
        try:
            return getattr(value, attribute)
        except AttributeError:
            public = [name for name in dir(value) if not name.startswith("_")]
            raise _unknown(f"{{{{{path}}}}}: no attribute {attribute!r}", attribute, public) from None
    key: int | str = int(step["index"]) if step["index"] is not None else step["key"]
    try:
        return value[key]
    except (LookupError, TypeError):
        known = [name for name in value if isinstance(name, str)] if isinstance(value, Mapping) else []
        raise _unknown(f"{{{{{path}}}}}: there is no [{key!r}]", str(key), known) from None


def _unknown(message: str, name: str, known: Iterable[str]) -> CommandError:
    near = difflib.get_close_matches(name, list(known), n=1)
    return CommandError(
        message, hint=f"Did you mean {near[0]!r}?" if near else "`--raw` leaves braces as they are."
    )


def _no_path(path: str) -> CommandError:
    return CommandError(
        f"{{{{{path}}}}} is no name",
        hint="Only names, attributes and indexes are filled in; `--raw` leaves braces as they are.",
    )
