"""The verbs of ``%bot``, one frozen dataclass each.

The fields are the arguments and options, the docstring is the help. From that alone come parsing,
``-h`` and completion, so that a name is written once. A new verb is a new class, its place in
`COMMANDS`, and its function in `verbs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from botbook._notebook.box_commands import BOX_COMMANDS
from botbook._notebook.data_commands import DATA_COMMANDS
from botbook._notebook.words import (
    CellCommand,
    Command,
    Part,
    argument,
    flag,
    limit_option,
    number,
    option,
    out_option,
    pair,
    raw_flag,
    target,
)

__all__ = ["COMMANDS", "CellCommand", "Command", "Help", "Part", "Run", "Status"]


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
    gateway: str = argument("GATEWAY", "which gateway", values="gateways")
    as_: str | None = option("NAME", "name of the connection; default the gateway's", values="bots")
    profile: str | None = option("P", "settings of this profile", values="profiles")
    base_url: str | None = option("U", "where the gateway is")
    chat: str | None = option("N", "agent: which chat")
    pipeline: str | None = option("ID", "langbot: which pipeline")
    session: str | None = option("S", "langbot: person or group", choices=("person", "group"))
    scenario: str | None = option("S", "sim: what happens there", values="scenarios")
    speed: float | None = option("X", "sim: how many times faster than life", convert=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Use(Command):
    """Make a connection the current bot."""

    verb: ClassVar[str] = "use"
    name: str = argument("NAME", "which connection", values="bots")


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Command):
    """Close a connection; default the current one."""

    verb: ClassVar[str] = "close"
    name: str = argument("NAME", "which connection", required=False, values="bots")
    all: bool = flag("close every one")


@dataclass(frozen=True, slots=True, kw_only=True)
class Events(Command):
    """Show the newest events; as a value, a DataFrame of all."""

    verb: ClassVar[str] = "events"
    example: ClassVar[str] = "df = %bot events --type message.* --since 1h"
    type: str | None = option("P", "only this type, or a pattern", values="patterns")
    since: str | None = option("T", "only since: 30m, 2h, 7d, or a date")
    bot: str | None = option("B", "only of this bot", values="bots")
    limit: int | None = limit_option()
    out: str | None = out_option()


@dataclass(frozen=True, slots=True, kw_only=True)
class History(Command):
    """Fetch a chat's earlier messages from the gateway."""

    verb: ClassVar[str] = "history"
    chat: str = argument("CHAT", "id of the chat", values="chats")
    limit: int | None = limit_option()
    out: str | None = out_option()


@dataclass(frozen=True, slots=True, kw_only=True)
class Send(CellCommand):
    """Send the body as a message."""

    verb: ClassVar[str] = "send"
    fills: ClassVar[bool] = True
    example: ClassVar[str] = "%%bot send --to user:ann\nHello **{{name}}**"
    to: str = option("user:ID|group:ID", "to whom", default="", required=True, convert=target)
    text: bool = flag("the body is plain text, not markdown")
    raw: bool = raw_flag()
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(CellCommand):
    """Ask an agent; the answer streams in. The stop button stops it."""

    verb: ClassVar[str] = "ask"
    fills: ClassVar[bool] = True
    example: ClassVar[str] = "%%bot ask --out answer\nWhat is a monad, in one sentence?"
    attach: tuple[str, ...] = option("PATH", "a file that the agent already has", default=(), rest=True)
    chat: str | None = option("N", "agent: in this chat; opened on first use")
    timeout: float | None = option("S", "longest answer, in seconds; default 600", convert=number)
    raw: bool = raw_flag()
    out: str | None = out_option("answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class On(CellCommand):
    """Define a handler; running the cell again replaces it."""

    verb: ClassVar[str] = "on"
    example: ClassVar[str] = """%%bot on message.received
async def echo(event):
    await event.reply(event.text)"""
    pattern: str = argument("PATTERN", "which events: message.received, message.* or *", values="patterns")
    when: str | None = option("EXPR", "only where this is true, such as 'help' in text")
    name: str | None = option("N", "name; default the function's", values="handlers")
    timeout: float | None = option("S", "longest run, in seconds", convert=number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers(Command):
    """List the handlers: calls, times, failures."""

    verb: ClassVar[str] = "handlers"
    out: str | None = out_option()


@dataclass(frozen=True, slots=True, kw_only=True)
class Off(Command):
    """Take a handler away."""

    verb: ClassVar[str] = "off"
    name: str = argument("NAME", "which handler", values="handlers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors(Command):
    """Show what went wrong in handlers, with tracebacks."""

    verb: ClassVar[str] = "errors"
    limit: int | None = limit_option()
    out: str | None = out_option()


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Command):
    """List events whose handler was cut off."""

    verb: ClassVar[str] = "interrupted"
    out: str | None = out_option()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot(Command):
    """Draw a metric of the events; without a name, list the metrics."""

    verb: ClassVar[str] = "plot"
    example: ClassVar[str] = "%bot plot volume --freq h --since 7d"
    metric: str = argument("METRIC", "which one", required=False, values="metrics")
    by: str | None = option("WHAT", "split by", choices=("bot", "gateway", "chat_type"))
    since: str | None = option("T", "only since: 30m, 2h, 7d, or a date")
    freq: str | None = option("D", "width of a step: s, 10s, min, h, D, W, M", values="frequencies")
    tz: str | None = option("Z", "time zone of days and hours, such as Europe/Berlin")
    out: str | None = out_option("fig")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard(Command):
    """Show everything on one page; run it again for what came since."""

    verb: ClassVar[str] = "dashboard"
    example: ClassVar[str] = "%bot dashboard --since 7d --tz Europe/Berlin"
    bot: str | None = option("B", "only of this bot", values="bots")
    gateway: str | None = option("G", "only of this gateway", values="gateways")
    chat_type: str | None = option("T", "only such chats", choices=("private", "group"))
    since: str | None = option("T", "only since: 30m, 2h, 7d, or a date")
    until: str | None = option("T", "only before: the same")
    freq: str | None = option("D", "width of a step; default by the range", values="frequencies")
    tz: str | None = option("Z", "time zone of days and hours, such as Europe/Berlin")
    out: str | None = out_option("page")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Command):
    """Write every event from now on to a file."""

    verb: ClassVar[str] = "record"
    example: ClassVar[str] = "%bot record events.jsonl"
    path: str = argument("PATH", "which file", required=False)
    stop: bool = flag("end it")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimSay(Command):
    """Say something as a user of the embedded world."""

    verb: ClassVar[str] = "sim say"
    example: ClassVar[str] = "%bot sim say ann Hello there"
    user: str = argument("USER", "who says it")
    text: tuple[str, ...] = argument("TEXT", "what", rest=True)
    group: str | None = option("G", "in this group, to the bot")
    raw: bool = raw_flag()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimFault(Command):
    """Make the embedded world misbehave."""

    verb: ClassVar[str] = "sim fault"
    example: ClassVar[str] = "%bot sim fault stall seconds=2"
    kind: str = argument("KIND", "how", values="faults")
    options: tuple[tuple[str, str], ...] = argument(
        "NAME=VALUE", "details", required=False, rest=True, convert=pair
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimLog(Command):
    """List what the embedded world got from this bot."""

    verb: ClassVar[str] = "sim log"
    limit: int | None = limit_option()
    out: str | None = out_option()


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
    Dashboard,
    Record,
    *DATA_COMMANDS,
    SimSay,
    SimFault,
    SimLog,
    *BOX_COMMANDS,
    NestOn,
    Doctor,
)
