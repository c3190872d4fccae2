"""What each verb does: a command in, something to show and a value out."""

from __future__ import annotations

import difflib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botbook._errors import CommandError, NotSupported
from botbook._notebook import commands, doctor, figures, render
from botbook._notebook.answers import Drawing, answer_view
from botbook._notebook.args import help_text
from botbook._notebook.box_verbs import BOX_ACTIONS
from botbook._notebook.cells import lent
from botbook._notebook.commands import Command
from botbook._notebook.data_verbs import DATA_ACTIONS
from botbook._notebook.desk import Desk
from botbook._notebook.handed import download_links, workspace
from botbook._notebook.nest import nest_on
from botbook._notebook.outcome import Outcome
from botbook._notebook.surface import Block
from botbook.events import Event

if TYPE_CHECKING:
    from botbook._asking import Asked
    from botbook.bot import Bot, Registration

When = str | Callable[[Event], Any] | None

__all__ = ["ACTIONS", "Outcome"]

#: Columns of the short events table, where they hold anything.
EVENT_COLUMNS: Final = (
    "at", "type", "bot", "chat_id", "user_name", "user_id", "role", "text", "latency_s", "feedback_type",
    "tokens", "error",
)  # fmt: skip
#: Longest wait for an answer to be over after it was stopped, in seconds.
STOP: Final = 0.2
#: Tracebacks that `%bot errors` shows at once.
TRACEBACKS: Final = 5


def _help(desk: Desk, command: commands.Help) -> Outcome:
    return Outcome(view=render.page(help_text(command.topic, cell=command.cell)))


# -- connections ----------------------------------------------------------------------------------


def _status(desk: Desk, command: commands.Status) -> Outcome:
    return _card(desk, [bot.status() for bot in desk.bots.values()])


def _card(desk: Desk, value: Any, block: Block | None = None) -> Outcome:
    statuses = [bot.status() for bot in desk.bots.values()]
    view = render.status(statuses, current=desk.current, folder=os.getcwd())
    return Outcome(view=view, value=value, block=block)


def _connect(desk: Desk, command: commands.Connect) -> Outcome:
    given = {
        "name": command.as_,
        "profile": command.profile,
        "base_url": command.base_url,
        "chat_id": command.chat,
        "pipeline": command.pipeline,
        "session_type": command.session,
        "scenario": command.scenario,
        "speed": command.speed,
    }
    options = {key: value for key, value in given.items() if value is not None}
    replaced = desk.would_replace(command.gateway, options)
    lost = list(replaced.handlers()["name"]) if replaced else []
    with desk.surface.waiting(f"Connecting to {command.gateway}") as block:
        bot = desk.connect(command.gateway, options)
    if lost:
        text = f"The connection before had handlers: {', '.join(lost)}."
        desk.surface.show(render.notice(text, "Run their cells again for this one."))
    return _card(desk, bot, block)


def _use(desk: Desk, command: commands.Use) -> Outcome:
    return _card(desk, desk.use(command.name))


def _close(desk: Desk, command: commands.Close) -> Outcome:
    if command.all:
        closed = desk.close_all()
    else:
        closed = [command.name or desk.bot().name]
        desk.close(closed[0])
    return Outcome(view=render.notice(f"Closed: {', '.join(closed) or 'nothing was open'}."))


# -- cells ----------------------------------------------------------------------------------------


def _run(desk: Desk, command: commands.Run) -> Outcome:
    bot, new = desk.bot_or_sim()
    if new:
        desk.surface.show(render.notice("Connected to sim, the embedded world: nothing was connected yet."))
    made: list[Registration] = []
    before, desk.loan = desk.loan, _at_hand(bot, made)

    def ours(name: str, value: Any) -> bool:
        return before.get(name) is value or (name == "bot" and isinstance(value, type(bot)))

    with lent(desk.names, desk.loan, ours=ours):
        value = desk.cells.run(command.body)
    if made:
        handlers = ", ".join(f"{one.name} ({one.pattern})" for one in made)
        desk.surface.show(render.notice(f"Ready on {bot.name}: {handlers}."))
    return Outcome(value=value)


def _at_hand(bot: Bot, made: list[Registration]) -> dict[str, Any]:
    """The names that a ``%%bot`` cell has at hand.

    Args:
        bot: The current bot.
        made: Gets what the decorators register.
    """

    def on(pattern: str, **options: Any) -> Callable[[Any], Any]:
        """Decorate a handler: ``@on("message.*")``; takes name, when, timeout."""

        def register(function: Any) -> Any:
            made.append(bot.on(pattern, function, **options))
            return function

        return register

    def on_message(function: Any = None, *, when: When = None, **options: Any) -> Any:
        """Decorate a handler of private messages; takes name, when, timeout."""
        register = on("message.received", when=_both(False, when), **options)
        return register if function is None else register(function)

    def on_group_at(function: Any = None, *, when: When = None, **options: Any) -> Any:
        """Decorate a handler of group messages to the bot; takes name, when, timeout."""
        register = on("message.received", when=_both(True, when), **options)
        return register if function is None else register(function)

    return {"bot": bot, "on": on, "on_message": on_message, "on_group_at": on_group_at}


def _both(group: bool, when: When) -> When:
    """A condition on the kind of chat, and the user's own."""
    if callable(when):
        return lambda event: (event.chat_type == "group") is group and when(event)
    kind = "chat_type == 'group'" if group else "chat_type != 'group'"
    return f"{kind} and ({when})" if when else kind


def _on(desk: Desk, command: commands.On) -> Outcome:
    bot = desk.bot()
    known = set(bot.handlers()["name"])
    function = desk.cells.define(command.body)
    made = bot.on(
        command.pattern, function, name=command.name or "", when=command.when, timeout=command.timeout
    )
    word = "replaced" if made.name in known else "ready"
    return Outcome(
        view=render.notice(f"Handler {made.name} is {word}: {made.pattern} on {bot.name}."), value=made
    )


def _send(desk: Desk, command: commands.Send) -> Outcome:
    bot = desk.bot()
    with desk.surface.waiting(f"Sending to {command.to}") as block:
        sent = bot.send(command.to, command.body.strip("\n"), markdown=not command.text)
    ident = f"Message {sent.message_id}." if sent.message_id else ""
    view = render.notice(f"Sent to {command.to} by {bot.name}.", ident)
    return Outcome(view=view, value=sent, block=block)


# -- handlers -------------------------------------------------------------------------------------


def _ask(desk: Desk, command: commands.Ask) -> Outcome:
    bot, new = desk.bot_or_sim()
    if new:
        desk.surface.show(render.notice("Connected to sim, the embedded world: nothing was connected yet."))
    options: dict[str, Any] = {"attachments": command.attach, "chat": command.chat}
    if command.timeout is not None:
        options["timeout"] = command.timeout
    with desk.surface.painted() as painter:
        asked = bot.aio.ask(command.body.strip(), watch=painter.wake, **options)
        if command.out:
            desk.names[command.out] = asked  # also where it fails or is stopped
        painter.draw(Drawing(asked).view)
        try:
            bot.aio.run(asked.whole())
        finally:
            _let_end(asked)
    links = download_links(asked.files, workspace(), _held(bot))
    return Outcome(view=answer_view(asked, links), value=asked, block=painter.block)


def _held(bot: Bot) -> Mapping[str, bytes]:
    """The files of an embedded agent."""
    try:
        return bot.sim.agent.files
    except NotSupported:
        return {}


def _let_end(asked: Asked) -> None:
    """The stop button does not wait for the stop; its words should be the last ones all the same."""
    until = time.monotonic() + STOP
    while not asked.done and time.monotonic() < until:
        time.sleep(0.005)


def _handlers(desk: Desk, command: commands.Handlers) -> Outcome:
    data = desk.bot().handlers()
    view = render.frame(data, columns=list(map(str, data)), what="handlers", shown=100)
    return Outcome(view=view, value=data)


def _off(desk: Desk, command: commands.Off) -> Outcome:
    bot = desk.bot()
    if not bot.off(command.name):
        raise CommandError(
            f"there is no handler {command.name!r}", hint=_nearest(command.name, bot.handlers()["name"])
        )
    return Outcome(view=render.notice(f"Handler {command.name} is off."))


def _errors(desk: Desk, command: commands.Errors) -> Outcome:
    data = _newest(desk.bot().errors(), command.limit)
    if not len(data):
        return Outcome(view=render.notice("No handler has failed."), value=data)
    newest = data.tail(TRACEBACKS)
    blocks = [
        (f"{at:%Y-%m-%d %H:%M:%S} {handler}: {error}", trace)
        for at, handler, error, trace in zip(
            newest["at"], newest["handler"], newest["error"], newest["traceback"], strict=True
        )
    ]
    return Outcome(view=render.listing(blocks), value=data)


def _interrupted(desk: Desk, command: commands.Interrupted) -> Outcome:
    data = desk.bot().interrupted()
    return Outcome(view=render.frame(data, what="interrupted calls"), value=data)


# -- what was seen --------------------------------------------------------------------------------


def _events(desk: Desk, command: commands.Events) -> Outcome:
    data = desk.bot().events(type=command.type, since=command.since, bot=command.bot, limit=command.limit)
    one = data["bot"].nunique() < 2  # one connection needs no column to tell which
    columns = [name for name in EVENT_COLUMNS if not (one and name == "bot")]
    return Outcome(view=render.frame(data, columns=columns, what="events"), value=data)


def _history(desk: Desk, command: commands.History) -> Outcome:
    bot = desk.bot()
    limit: dict[str, Any] = {"limit": command.limit} if command.limit else {}
    with desk.surface.waiting(f"Asking for the history of {command.chat}") as block:
        data = bot.history(command.chat, **limit)
    return Outcome(view=render.frame(data, what="messages", shown=100), value=data, block=block)


def _record(desk: Desk, command: commands.Record) -> Outcome:
    if bool(command.path) == command.stop:
        raise CommandError("record needs a PATH or --stop", hint="Write %bot record events.jsonl")
    desk.bot().record(command.path or None)
    text = "Recording has ended." if command.stop else f"Recording to {command.path}; --stop ends it."
    return Outcome(view=render.notice(text))


# -- the embedded world ---------------------------------------------------------------------------


def _sim_say(desk: Desk, command: commands.SimSay) -> Outcome:
    text = " ".join(command.text)
    desk.bot().sim.say(command.user, text, group=command.group)
    return Outcome(view=render.notice(f"{command.user}: {text}"))


def _sim_fault(desk: Desk, command: commands.SimFault) -> Outcome:
    desk.bot().sim.fault(command.kind, **dict(command.options))
    return Outcome(view=render.notice(f"The embedded world will misbehave: {command.kind}."))


def _logged(key: str, value: Any) -> Any:
    """One detail of the log, as people read it: times as times, bodies as JSON."""
    if key == "at" and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _sim_log(desk: Desk, command: commands.SimLog) -> Outcome:
    log = desk.bot().sim.log()
    log = log if command.limit is None else log[-command.limit :]
    columns = list(dict.fromkeys(key for row in log for key in row))
    rows = [[_logged(key, row.get(key)) for key in columns] for row in log[-render.SHOWN :]]
    view = (
        render.table(columns, rows, caption=f"{len(log)} entries") if log else render.notice("Nothing yet.")
    )
    return Outcome(view=view, value=log)


# -- this machine ---------------------------------------------------------------------------------


def _nest(desk: Desk, command: commands.NestOn) -> Outcome:
    return Outcome(view=render.notice(nest_on()))


def _doctor(desk: Desk, command: commands.Doctor) -> Outcome:
    found = doctor.collect(kernel=doctor.kernel_of(desk.shell))
    return Outcome(view=render.report(found), value=found)


def _newest(data: Any, limit: int | None) -> Any:
    return data if limit is None else data.tail(limit)


def _nearest(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else None


#: Command → what does it. `magics` knows no other way.
ACTIONS: Final[dict[type[Command], Callable[[Desk, Any], Outcome]]] = {
    commands.Help: _help,
    commands.Status: _status,
    commands.Run: _run,
    commands.Connect: _connect,
    commands.Use: _use,
    commands.Close: _close,
    commands.Send: _send,
    commands.Ask: _ask,
    commands.On: _on,
    commands.Handlers: _handlers,
    commands.Off: _off,
    commands.Errors: _errors,
    commands.Interrupted: _interrupted,
    commands.Events: _events,
    commands.History: _history,
    commands.Plot: figures.plot,
    commands.Dashboard: figures.dashboard,
    commands.Record: _record,
    commands.SimSay: _sim_say,
    commands.SimFault: _sim_fault,
    commands.SimLog: _sim_log,
    commands.NestOn: _nest,
    commands.Doctor: _doctor,
    **BOX_ACTIONS,
    **DATA_ACTIONS,
}
