"""The words in which a verb is written: its arguments, its options, and the two bases of commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

__all__ = [
    "CellCommand",
    "Command",
    "Part",
    "argument",
    "flag",
    "limit_option",
    "number",
    "option",
    "out_option",
    "pair",
    "raw_flag",
    "target",
    "variable",
    "whole",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One argument or option of a verb.

    Attributes:
        name: As it is typed: ``--base-url``, or the metavar of an argument.
        key: The field it fills.
        help: A few words.
        metavar: What stands for its value; "" for a flag.
        convert: Text → value; a ValueError carries the words for the message.
        choices: The only values allowed, or ().
        values: Which list Tab offers: ``bots``, ``profiles``, ``handlers``, ``patterns`` …
        positional: It has no name on the line.
        required: It cannot be left out.
        rest: It takes all words that remain; an option of this kind may be given again.
    """

    name: str = ""
    key: str = ""
    help: str
    metavar: str = ""
    convert: Callable[[str], Any] = str
    choices: tuple[str, ...] = ()
    values: str = ""
    positional: bool = False
    required: bool = False
    rest: bool = False


def argument(metavar: str, help: str, *, required: bool = True, **more: Any) -> Any:
    """A word without a name on the line; `more` are fields of `Part`."""
    part = Part(metavar=metavar, help=help, positional=True, required=required, **more)
    return field(default=() if part.rest else "", metadata={"part": part})


def option(metavar: str, help: str, *, default: Any = None, **more: Any) -> Any:
    """A word after its name; `more` are fields of `Part`."""
    return field(default=default, metadata={"part": Part(metavar=metavar, help=help, **more)})


def flag(help: str) -> Any:
    """A name that stands alone."""
    return field(default=False, metadata={"part": Part(help=help)})


def whole(text: str) -> int:
    """1, 2, 3 …"""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ValueError("a whole number of 1 or more")
    return int(text)


def number(text: str) -> float:
    """Above 0."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 < found < float("inf"):
        raise ValueError("a number above 0")
    return found


def variable(text: str) -> str:
    """A name in the user's names."""
    if not text.isidentifier():
        raise ValueError("a name for a variable")
    return text


def target(text: str) -> str:
    """Whom a message goes to."""
    kind, _, ident = text.partition(":")
    if kind not in ("user", "group") or not ident:
        raise ValueError("an address: user:ID or group:ID")
    return text


def pair(text: str) -> tuple[str, str]:
    """A setting of a fault."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise ValueError("a setting such as seconds=2")
    return name, value


def out_option(what: str = "df") -> Any:
    """Where the value is kept."""
    return option(what, "also keep the result in this variable", convert=variable)


def limit_option() -> Any:
    """How many."""
    return option("N", "only the newest N", convert=whole)


def raw_flag() -> Any:
    """Nothing is filled in."""
    return flag("leave {{name}} as it is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Base of all commands.

    Attributes:
        verb: The words that name it.
        form: ``line`` for ``%bot``, ``cell`` for ``%%bot``.
        example: Shown by ``-h``.
    """

    verb: ClassVar[str] = ""
    form: ClassVar[Literal["line", "cell"]] = "line"
    example: ClassVar[str] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellCommand(Command):
    """Base of those that take a body.

    Attributes:
        body: The lines below the first one.
        fills: Whether ``{{name}}`` is filled in there.
    """

    form: ClassVar[Literal["line", "cell"]] = "cell"
    fills: ClassVar[bool] = False
    body: str = ""
