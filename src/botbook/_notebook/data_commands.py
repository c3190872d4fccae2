"""The verbs about what is kept: files out, files in, the archive, erasing somebody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from botbook._notebook.words import Command, argument, flag, number, option, out_option, pair, whole

__all__ = ["DATA_COMMANDS", "Archive", "Export", "Forget", "Import"]


def _person(text: str) -> str:
    kind, _, ident = text.partition(":")
    if kind != "user" or not ident:
        raise ValueError("a user: user:ID")
    return text


def _format() -> Any:
    return option("F", "default by the name's end", choices=("parquet", "csv", "jsonl", "delta"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(Command):
    """Write events to a file; with --anonymous without who it was."""

    verb: ClassVar[str] = "export"
    example: ClassVar[str] = "%bot export events.parquet --since 7d --anonymous"
    path: str = argument("PATH", "which file: .parquet, .csv or .jsonl")
    type: str | None = option("P", "only this type, or a pattern", values="patterns")
    since: str | None = option("T", "only since: 30m, 2h, 7d ago")
    bot: str | None = option("B", "only of this bot", values="bots")
    format: str | None = _format()
    frames: bool = flag("with the frames as they came")
    anonymous: bool = flag("hashes for ids; no names, frames and texts")
    texts: bool = flag("keep texts where --anonymous drops them")
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import(Command):
    """Bring the events of a file into the journal; no handler runs."""

    verb: ClassVar[str] = "import"
    example: ClassVar[str] = "%bot import chats.csv --map text=message --map user_id=author"
    path: str = argument("PATH", "JSON lines, CSV, Parquet, LangBot's export or Topical-Chat")
    map: tuple[tuple[str, str], ...] = option(
        "OURS=THEIRS", "a column that has another name there", default=(), rest=True, convert=pair
    )
    bot: str | None = option("B", "for rows that do not say", values="bots")
    days: float | None = option("N", "Topical-Chat: days of its made-up clock; default 28", convert=number)
    seed: int | None = option("N", "Topical-Chat: of that clock", convert=whole)
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive(Command):
    """Move old events from the journal into Parquet files beside it."""

    verb: ClassVar[str] = "archive"
    example: ClassVar[str] = "%bot archive --before 30d"
    before: str = option("T", "what arrived longer ago; default 30d", default="30d")
    drop: str | None = option("T", "also delete archived events older than this, for ever")
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget(Command):
    """Erase a user: events, private chats, answers to them, handler records."""

    verb: ClassVar[str] = "forget"
    example: ClassVar[str] = "%bot forget user:ann"
    who: str = argument("user:ID", "whom; there is no way back", convert=_person)
    out: str | None = out_option("r")


DATA_COMMANDS: Final[tuple[type[Command], ...]] = (Export, Import, Archive, Forget)
