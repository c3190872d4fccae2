"""The verbs of ``%bot``, one frozen dataclass each.

The fields are the arguments and options, the docstring is the help. From that alone come parsing,
``-h`` and completion, so that a name is written once. A new verb is a new class, its place in
`COMMANDS`, and its function in `verbs`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

__all__ = ["COMMANDS", "CellCommand", "Command", "Help", "Part", "Run", "Status"]

# -- the words a verb is written in ---------------------------------------------------------------


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


def _argument(metavar: str, help: str, *, required: bool = True, **more: Any) -> Any:
    part = Part(metavar=metavar, help=help, positional=True, required=required, **more)
    return field(default=() if part.rest else "", metadata={"part": part})


def _option(metavar: str, help: str, *, default: Any = None, **more: Any) -> Any:
    return field(default=default, metadata={"part": Part(metavar=metavar, help=help, **more)})


def _flag(help: str) -> Any:
    return field(default=False, metadata={"part": Part(help=help)})


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise ValueError("a whole number of 1 or more")
    return int(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise ValueError("a number above 0")
    return number


def _variable(text: str) -> str:
    if not text.isidentifier():
        raise ValueError("a name for a variable")
    return text


def _target(text: str) -> str:
    kind, _, ident = text.partition(":")
    if kind not in ("user", "group") or not ident:
        raise ValueError("an address: user:ID or group:ID")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise ValueError("a setting such as seconds=2")
    return name, value


def _out(what: str = "df") -> Any:
    return _option(what, "also keep the result in this variable", convert=_variable)


def _limit() -> Any:
    return _option("N", "only the newest N", convert=_whole)


def _raw() -> Any:
    return _flag("leave {{name}} as it is")


# -- the verbs ------------------------------------------------------------------------------------


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Help(Command):
    """Show how a verb is written."""

    topic: str = ""
    cell: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Command):
    """Show every connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(CellCommand):
    """Run the body as Python; bot, on, on_message and await are at hand."""

    example: ClassVar[str] = """%%bot
@on_message
async def echo(event):
    await event.reply(event.text)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect(Command):
    """Open a connection; it becomes the current bot."""

    verb: ClassVar[str] = "connect"
    example: ClassVar[str] = "%bot connect sim"
    gateway: str = _argument("GATEWAY", "which gateway", values="gateways")
    as_: str | None = _option("NAME", "name of the connection; default the gateway's", values="bots")
    profile: str | None = _option("P", "settings of this profile", values="profiles")
    base_url: str | None = _option("U", "where the gateway is")
    chat: str | None = _option("N", "agent: which chat")
    pipeline: str | None = _option("ID", "langbot: which pipeline")
    session: str | None = _option("S", "langbot: person or group", choices=("person", "group"))
    scenario: str | None = _option("S", "sim: what happens there", values="scenarios")
    speed: float | None = _option("X", "sim: how many times faster than life", convert=_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use(Command):
    """Make a connection the current bot."""

    verb: ClassVar[str] = "use"
    name: str = _argument("NAME", "which connection", values="bots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Command):
    """Close a connection; default the current one."""

    verb: ClassVar[str] = "close"
    name: str = _argument("NAME", "which connection", required=False, values="bots")
    all: bool = _flag("close every one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Events(Command):
    """Show the newest events; as a value, a DataFrame of all."""

    verb: ClassVar[str] = "events"
    example: ClassVar[str] = "df = %bot events --type message.* --since 1h"
    type: str | None = _option("P", "only this type, or a pattern", values="patterns")
    since: str | None = _option("T", "only since: 30m, 2h, 7d, or a date")
    bot: str | None = _option("B", "only of this bot", values="bots")
    limit: int | None = _limit()
    out: str | None = _out()


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Command):
    """Fetch a chat's earlier messages from the gateway."""

    verb: ClassVar[str] = "history"
    chat: str = _argument("CHAT", "id of the chat", values="chats")
    limit: int | None = _limit()
    out: str | None = _out()


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(CellCommand):
    """Send the body as a message."""

    verb: ClassVar[str] = "send"
    fills: ClassVar[bool] = True
    example: ClassVar[str] = "%%bot send --to user:ann\nHello **{{name}}**"
    to: str = _option("user:ID|group:ID", "to whom", default="", required=True, convert=_target)
    text: bool = _flag("the body is plain text, not markdown")
    raw: bool = _raw()
    out: str | None = _out("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(CellCommand):
    """Ask an agent; the answer streams in. The stop button stops it."""

    verb: ClassVar[str] = "ask"
    fills: ClassVar[bool] = True
    example: ClassVar[str] = "%%bot ask --out answer\nWhat is a monad, in one sentence?"
    attach: tuple[str, ...] = _option("PATH", "a file that the agent already has", default=(), rest=True)
    chat: str | None = _option("N", "agent: in this chat; opened on first use")
    timeout: float | None = _option("S", "longest answer, in seconds; default 600", convert=_number)
    raw: bool = _raw()
    out: str | None = _out("answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class On(CellCommand):
    """Define a handler; running the cell again replaces it."""

    verb: ClassVar[str] = "on"
    example: ClassVar[str] = """%%bot on message.received
async def echo(event):
    await event.reply(event.text)"""
    pattern: str = _argument("PATTERN", "which events: message.received, message.* or *", values="patterns")
    when: str | None = _option("EXPR", "only where this is true, such as 'help' in text")
    name: str | None = _option("N", "name; default the function's", values="handlers")
    timeout: float | None = _option("S", "longest run, in seconds", convert=_number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers(Command):
    """List the handlers: calls, times, failures."""

    verb: ClassVar[str] = "handlers"
    out: str | None = _out()


@dataclass(frozen=True, slots=True, kw_only=True)
class Off(Command):
    """Take a handler away."""

    verb: ClassVar[str] = "off"
    name: str = _argument("NAME", "which handler", values="handlers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors(Command):
    """Show what went wrong in handlers, with tracebacks."""

    verb: ClassVar[str] = "errors"
    limit: int | None = _limit()
    out: str | None = _out()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Command):
    """List events whose handler was cut off."""

    verb: ClassVar[str] = "interrupted"
    out: str | None = _out()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot(Command):
    """Draw a metric of the events; without a name, list the metrics."""

    verb: ClassVar[str] = "plot"
    example: ClassVar[str] = "%bot plot volume --freq h --since 7d"
    metric: str = _argument("METRIC", "which one", required=False, values="metrics")
    by: str | None = _option("WHAT", "split by", choices=("bot", "gateway", "chat_type"))
    since: str | None = _option("T", "only since: 30m, 2h, 7d, or a date")
    freq: str | None = _option("D", "width of a step, such as h, D, W", values="frequencies")
    tz: str | None = _option("Z", "time zone of days and hours, such as Europe/Berlin")
    out: str | None = _out("fig")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Command):
    """Write every event from now on to a file."""

    verb: ClassVar[str] = "record"
    example: ClassVar[str] = "%bot record events.jsonl"
    path: str = _argument("PATH", "which file", required=False)
    stop: bool = _flag("end it")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSay(Command):
    """Say something as a user of the embedded world."""

    verb: ClassVar[str] = "sim say"
    example: ClassVar[str] = "%bot sim say ann Hello there"
    user: str = _argument("USER", "who says it")
    text: tuple[str, ...] = _argument("TEXT", "what", rest=True)
    group: str | None = _option("G", "in this group, to the bot")
    raw: bool = _raw()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimFault(Command):
    """Make the embedded world misbehave."""

    verb: ClassVar[str] = "sim fault"
    example: ClassVar[str] = "%bot sim fault stall seconds=2"
    kind: str = _argument("KIND", "how", values="faults")
    options: tuple[tuple[str, str], ...] = _argument(
        "NAME=VALUE", "details", required=False, rest=True, convert=_pair
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimLog(Command):
    """List what the embedded world got from this bot."""

    verb: ClassVar[str] = "sim log"
    limit: int | None = _limit()
    out: str | None = _out()


@dataclass(frozen=True, slots=True, kw_only=True)
class NestOn(Command):
    """Let pasted code call asyncio.run() in a cell (nest-asyncio2)."""

    verb: ClassVar[str] = "nest on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor(Command):
    """Check this machine, and say how to mend what is wrong."""

    verb: ClassVar[str] = "doctor"


#: Every verb, in the order in which help lists them.
COMMANDS: Final[tuple[type[Command], ...]] = (
    Status,
    Run,
    Connect,
    Use,
    Close,
    Send,
    Ask,
    On,
    Handlers,
    Off,
    Errors,
    Interrupted,
    Events,
    History,
    Plot,
    Record,
    SimSay,
    SimFault,
    SimLog,
    NestOn,
    Doctor,
)
