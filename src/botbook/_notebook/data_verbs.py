"""What the verbs about what is kept do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from botbook._notebook import data_commands as data
from botbook._notebook import render
from botbook._notebook.commands import Command
from botbook._notebook.desk import Desk
from botbook._notebook.outcome import Outcome

__all__ = ["DATA_ACTIONS", "erased", "loaded", "moved", "written"]


def _export(desk: Desk, command: data.Export) -> Outcome:
    with desk.surface.waiting(f"Writing {command.path}") as block:
        told = desk.bot().export(
            command.path,
            format=command.format,
            raw=command.frames,
            anonymize=command.anonymous,
            texts=command.texts,
            type=command.type,
            since=command.since,
            bot=command.bot,
        )
    return Outcome(view=render.notice(*written(told)), value=told, block=block)


def _import(desk: Desk, command: data.Import) -> Outcome:
    given = {"bot": command.bot, "days": command.days, "seed": command.seed}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    with desk.surface.waiting(f"Reading {command.path}") as block:
        told = desk.bot().load(command.path, columns=dict(command.map) or None, **options)
    return Outcome(view=render.notice(*loaded(told)), value=told, block=block)


def _archive(desk: Desk, command: data.Archive) -> Outcome:
    bot = desk.bot()
    with desk.surface.waiting("Archiving") as block:
        told = bot.archive(before=command.before)
        dropped = bot.discard(before=command.drop) if command.drop else 0
    return Outcome(view=render.notice(*moved(told, dropped)), value=told, block=block)


def _forget(desk: Desk, command: data.Forget) -> Outcome:
    with desk.surface.waiting(f"Erasing {command.who}") as block:
        told = desk.bot().forget(command.who)
    return Outcome(view=render.notice(*erased(told)), value=told, block=block)


def written(told: Any) -> tuple[str, str]:
    """Two sentences about an export."""
    detail = "Ids are hashes whose key nobody has." if told.anonymous else ""
    return f"{told.rows:,} events are in {told.path}.", detail


def loaded(told: Any) -> tuple[str, str]:
    """Sentences about an import."""
    known = told.rows - told.new
    text = f"{told.new:,} new events from {told.path}" + (f"; {known:,} were there." if known else ".")
    left = f"{told.skipped:,} rows were left out, the first: {told.problem}. " if told.skipped else ""
    return text, left + " ".join(told.notes)


def moved(told: Any, dropped: int) -> tuple[str, str]:
    """Sentences about archiving."""
    files = len(told.segments)
    text = f"{told.rows:,} events moved into {files} file{'s' * (files != 1)}, {told.bytes / 1e6:.1f} MB."
    return text, f"{dropped:,} old events are gone for ever." if dropped else ""


def erased(told: Any) -> tuple[str, str]:
    """Sentences about an erasure."""
    text = f"{told.events:,} events and {told.calls:,} handler records of {told.user_id} are erased."
    more = f"The id was taken out of {told.edited:,} events of others. " if told.edited else ""
    again = "" if told.complete else "Another program reads the journal: run it again when that has ended."
    return text, more + again


DATA_ACTIONS: Final[dict[type[Command], Callable[[Desk, Any], Outcome]]] = {
    data.Export: _export,
    data.Import: _import,
    data.Archive: _archive,
    data.Forget: _forget,
}
