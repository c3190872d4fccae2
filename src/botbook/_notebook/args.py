"""The grammar of ``%bot``: text → a frozen command. No effect, no IPython."""

from __future__ import annotations

import difflib
import shlex
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from botbook._errors import CommandError
from botbook._notebook.commands import COMMANDS, CellCommand, Command, Help, Part, Run, Status
from botbook._notebook.fill import fill

__all__ = ["find", "help_text", "parse", "parts", "split", "verbs"]

WIDTH: Final = 88
FLAGS: Final = ("-h", "--help")


def verbs(*, cell: bool | None = None) -> Iterator[str]:
    """The names of the verbs.

    Args:
        cell: Only those of ``%%bot`` (True) or of ``%bot`` (False); default both.
    """
    for command in COMMANDS:
        if command.verb and cell in (None, command.form == "cell"):
            yield command.verb


def parts(command: type[Command]) -> tuple[Part, ...]:
    """The arguments and options of a verb, in order."""
    return tuple(_part(f.name, f.metadata["part"]) for f in fields(command) if "part" in f.metadata)


def _part(key: str, bare: Part) -> Part:
    name = bare.metavar if bare.positional else "--" + key.strip("_").replace("_", "-")
    return replace(bare, name=name, key=key)


def split(line: str) -> list[str]:
    """Cut a line into words, with quotes as in a shell.

    Raises:
        CommandError: A quote is not closed.
    """
    try:
        return shlex.split(line)
    except ValueError:
        raise CommandError(
            "a quote or a backslash is left open", hint="Quotes work as in a shell: 'two words'."
        ) from None


def find(words: list[str], *, cell: bool) -> tuple[type[Command], list[str]]:
    """The verb that words begin with, and the words after it.

    Raises:
        CommandError: There is no such verb.
    """
    if not words or words[0].startswith("-"):
        return (Run if cell else Status), words
    for count in (2, 1):
        name = " ".join(words[:count])
        if found := [command for command in COMMANDS if command.verb == name]:
            fitting = [command for command in found if (command.form == "cell") == cell]
            return (fitting or found)[0], words[count:]
    raise _no_verb(words)


def _no_verb(words: list[str]) -> CommandError:
    if family := [verb for verb in verbs() if verb.split()[0] == words[0]]:
        given = f"{words[0]} {words[1]}" if len(words) > 1 else words[0]
        return CommandError(f"there is no verb {given!r}", hint=f"There is: {', '.join(family)}.")
    return CommandError(f"there is no verb {words[0]!r}", hint=_nearest(words[0], verbs()))


def _nearest(word: str, known: Iterable[str]) -> str | None:
    bare = {one.lstrip("-"): one for one in known}  # the dashes alone would make any two alike
    near = difflib.get_close_matches(word.lstrip("-"), bare, n=1)
    return f"Did you mean {bare[near[0]]!r}?" if near else None


def parse(line: str, cell: str | None = None, *, names: Mapping[str, Any] | None = None) -> Command:
    """Read a magic.

    Args:
        line: What follows ``%bot`` or ``%%bot``.
        cell: The lines below it; None for ``%bot``.
        names: Where ``{{name}}`` is looked up.

    Raises:
        CommandError: It cannot be understood; the hint says what comes nearest.
    """
    words = split(line)
    before = words[: words.index("--")] if "--" in words else words
    if any(word in FLAGS for word in before):
        return _help(before, cell is not None)
    command, rest = find(words, cell=cell is not None)
    values = _values(command, rest, {} if names is None else names)
    if issubclass(command, CellCommand):
        return command(body=_body(command, cell, values, names or {}), **values)
    if cell is not None and cell.strip():
        raise CommandError(f"{command.verb} takes no body", hint=f"Write it on one line: %bot {command.verb}")
    return command(**values)


def _help(words: list[str], cell: bool) -> Command:
    words = words[: next(index for index, word in enumerate(words) if word in FLAGS)]
    if len(words) == 1 and _is_family(words[0]) and not cell:
        return Help(topic=words[0])
    command, _ = find(words, cell=cell)
    return Help(topic=command.verb, cell=cell)


def _is_family(word: str) -> bool:
    """Whether there are verbs of two words that begin with it."""
    return any(verb.startswith(f"{word} ") for verb in verbs())


def _body(
    command: type[CellCommand], cell: str | None, values: dict[str, Any], names: Mapping[str, Any]
) -> str:
    if cell is None or not cell.strip():
        raise CommandError(
            f"{command.verb or '%%bot'} needs a body",
            hint=f"Write %%bot {command.verb} on the first line of a cell and the body below.",
        )
    return fill(cell, names) if command.fills and not values.get("raw") else cell


def _values(command: type[Command], words: list[str], names: Mapping[str, Any]) -> dict[str, Any]:
    """Words → fields."""
    named = {part.name: part for part in parts(command) if not part.positional}
    given, loose = _sorted_out(command, words, named)
    wanted = [part for part in parts(command) if part.positional]
    for part in wanted:
        taken, loose = (loose, []) if part.rest else (loose[:1], loose[1:])
        if taken:
            given.append((part, taken))
        elif part.required:
            raise CommandError(f"{_title(command)} needs {part.metavar}", hint=_usage_hint(command))
    if loose:
        raise CommandError(f"{_title(command)} does not take {loose[0]!r}", hint=_usage_hint(command))
    raw = any(part.key == "raw" for part, _ in given)
    values = {part.key: _value(part, texts, {} if raw else names, raw) for part, texts in given}
    for part in named.values():
        if part.required and part.key not in values:
            raise CommandError(
                f"{_title(command)} needs {part.name} {part.metavar}", hint=_usage_hint(command)
            )
    return values


def _sorted_out(
    command: type[Command], words: list[str], named: Mapping[str, Part]
) -> tuple[list[tuple[Part, list[str]]], list[str]]:
    """Options with their texts, and the words that belong to none."""
    given: list[tuple[Part, list[str]]] = []
    loose: list[str] = []
    queue = iter(words)
    for word in queue:
        if word == "--":
            loose.extend(queue)
        elif not word.startswith("--"):
            loose.append(word)
        else:
            name, sign, text = word.partition("=")
            part = _named(command, name, named)
            before = next((texts for known, texts in given if known is part), None)
            if before is not None and not part.rest:
                raise CommandError(f"{name} is given twice", hint=_usage_hint(command))
            texts = _texts(part, text if sign else None, queue)
            if before is None:
                given.append((part, texts))
            else:
                before += texts
    return given, loose


def _named(command: type[Command], name: str, named: Mapping[str, Part]) -> Part:
    if name in named:
        return named[name]
    raise CommandError(
        f"{_title(command)} has no option {name}", hint=_nearest(name, named) or _usage_hint(command)
    )


def _texts(part: Part, joined: str | None, queue: Iterator[str]) -> list[str]:
    """The text of an option, from behind ``=`` or the next word; none for a flag."""
    if not part.metavar:
        if joined is not None:
            raise CommandError(f"{part.name} takes no value", hint=f"Write {part.name} alone.")
        return []
    text = next(queue, None) if joined is None else joined
    if text is None:
        raise CommandError(f"{part.name} needs a value", hint=f"Write {part.name} {part.metavar}.")
    return [text]


def _value(part: Part, texts: list[str], names: Mapping[str, Any], raw: bool) -> Any:
    if not part.metavar:
        return True
    made = tuple(_converted(part, text if raw else fill(text, names)) for text in texts)
    return made if part.rest else made[0]


def _converted(part: Part, text: str) -> Any:
    if part.choices and text not in part.choices:
        raise CommandError(
            f"{part.name} cannot be {text!r}",
            hint=_nearest(text, part.choices) or f"One of: {', '.join(part.choices)}.",
        )
    try:
        return part.convert(text)
    except ValueError as error:
        raise CommandError(f"{part.name} cannot be {text!r}", hint=f"It is {error}.") from None


def _title(command: type[Command]) -> str:
    return command.verb or ("%%bot" if command.form == "cell" else "%bot")


def _usage_hint(command: type[Command]) -> str:
    return f"Write {' '.join(_usage(command))}"


def help_text(topic: str = "", *, cell: bool = False) -> str:
    """The help of a verb, of a family such as ``sim``, or of all; it fits a screen."""
    found = [c for c in COMMANDS if c.verb == topic and (topic or c.form == "cell")]
    own = next((c for c in found if (c.form == "cell") == cell), None)
    if cell or not (family := [c for c in COMMANDS if c.verb.startswith(f"{topic} ")] if topic else []):
        return _page(own or found[0]) if topic or cell else _overview()
    rows = _rows([(_head(c), _summary(c)) for c in (*found, *family)])
    return "\n".join([*([_page(own), ""] if own else []), *rows])


def _overview() -> str:
    """A row a verb; those of a family share one."""
    rows: dict[str, str] = {}
    for command in COMMANDS:
        family = command.verb.partition(" ")[0]
        members = [verb.partition(" ")[2] for verb in verbs() if verb.startswith(f"{family} ")]
        if " " in command.verb and len(members) > 1:
            rows[f"%bot {family} …"] = ", ".join(members)
        else:
            rows[_head(command)] = _summary(command)
    return "\n".join([*_rows(list(rows.items())), "", "Every verb takes -h. {{name}} puts in a variable."])


def _rows(pairs: list[tuple[str, str]]) -> list[str]:
    width = max(len(head) for head, _ in pairs) + 2
    return [f"{head:<{width}}{text}" for head, text in pairs]


def _head(command: type[Command]) -> str:
    return f"{'%%bot' if command.form == 'cell' else '%bot'} {command.verb}".strip()


def _summary(command: type[Command]) -> str:
    return (command.__doc__ or "").split("\n")[0]


def _page(command: type[Command]) -> str:
    usage = textwrap.wrap(
        "\0".join(_usage(command)).replace(" ", "\1").replace("\0", " "),
        WIDTH,
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    pairs = [
        (f"{p.name} {p.metavar}".strip() if not p.positional else p.metavar, p.help) for p in parts(command)
    ]
    page = [*(line.replace("\1", " ") for line in usage), "", _summary(command)]
    if pairs:
        page += ["", *(f"  {row}" for row in _rows(pairs))]
    if command.example:
        page += ["", "Example:", *(f"  {line}" for line in command.example.split("\n"))]
    return "\n".join(page)


def _usage(command: type[Command]) -> list[str]:
    """The pieces of the usage line; a line break may only stand between two."""
    pieces = [_head(command)]
    for part in parts(command):
        text = part.metavar + (" …" if part.rest else "")
        if not part.positional:
            text = f"{part.name} {text}".strip()
        pieces.append(text if part.required else f"[{text}]")
    return pieces
