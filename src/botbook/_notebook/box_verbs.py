"""What the verbs of the sandbox do."""

from __future__ import annotations

import asyncio
import base64
import json
import posixpath
import secrets
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from botbook._errors import BotInterrupted, CommandError, SandboxError
from botbook._notebook import box_commands as box
from botbook._notebook import render
from botbook._notebook.box_view import Screen
from botbook._notebook.commands import Command
from botbook._notebook.desk import Desk
from botbook._notebook.outcome import Outcome

if TYPE_CHECKING:
    from botbook.sandbox import AsyncBox, ExecResult, SessionInfo

__all__ = ["BOX_ACTIONS", "protection_rows"]

Work = Callable[[], "Coroutine[Any, Any, ExecResult]"]

#: Largest file that is shown, in bytes.
SHOWN: Final = 10_000_000
#: How often a running command tells its time, in seconds.
TICK: Final = 1.0
#: What a runtime says → what to do about it.
_NEXT: Final = {
    "BoxSessionConflictError": "End it with %bot box rm {session}, or name another with --session.",
    "BoxSessionNotFoundError": "`%bot box ls` lists the sessions.",
    "BoxManagedProcessNotFoundError": "`%bot box ps` lists the processes.",
}
#: First bytes → what a picture is.
_PICTURES: Final = {b"\x89PNG\r\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


# -- commands -------------------------------------------------------------------------------------


def _run(desk: Desk, command: box.Run) -> Outcome:
    sandbox, screen = desk.boxes.get(command.profile), Screen(command.session)
    with desk.surface.painted() as painter, _told(command.session):

        def on_output(stream: str, text: str) -> None:
            screen.take(stream, text)
            painter.wake()

        painter.draw(screen.view)
        result = _waited(sandbox.aio, screen, painter.wake, _work(sandbox.aio, command, on_output))
        screen.end(_ended(result))
        if command.out:
            desk.names[command.out] = result
        result.check()
    return Outcome(view=screen.view(), value=result, block=painter.block)


def _work(sandbox: AsyncBox, command: box.Run, on_output: Callable[[str, str], None]) -> Work:
    options: dict[str, Any] = {"network": command.net} if command.net else {}
    if command.timeout is not None:
        options["timeout"] = command.timeout
    text = _python(command.body) if command.lang == "python" else command.body
    return lambda: sandbox.exec(text, session=command.session, on_output=on_output, **options)


def _python(body: str) -> str:
    """Shell text that runs Python, from a file so that tracebacks show its lines, and can import what
    lies in the workspace."""
    mark = f"END-{secrets.token_hex(8)}"
    return (
        f"cat > /tmp/cell.py <<'{mark}'\n{body.rstrip()}\n{mark}\n"
        'PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec python3 /tmp/cell.py'
    )


def _waited(sandbox: AsyncBox, screen: Screen, wake: Callable[[], None], work: Work) -> ExecResult:
    """Wait for a command; the stop button ends it and keeps the session."""
    try:
        return sandbox.home.run(_ticking(work, wake))
    except KeyboardInterrupt:
        screen.end("stopped")
        raise BotInterrupted("stopped; the session and its files are kept") from None
    except BaseException:
        screen.end("not done")
        raise


async def _ticking(work: Work, wake: Callable[[], None]) -> ExecResult:
    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK)
            wake()

    ticker = asyncio.ensure_future(tick())
    try:
        return await work()
    finally:
        ticker.cancel()


def _ended(result: ExecResult) -> str:
    how = f"exit code {result.exit_code}" if result.status == "completed" else result.status.replace("_", " ")
    return f"{how} · {result.duration_ms / 1000:.3g} s"


@contextmanager
def _told(session: str) -> Iterator[None]:
    """Give what the runtime refuses a hint of the notebook's own."""
    try:
        yield
    except SandboxError as error:
        if error.code in _NEXT:
            error.hint = _NEXT[error.code].format(session=session)
        raise


# -- sessions and processes -----------------------------------------------------------------------


def _open(desk: Desk, command: box.Open) -> Outcome:
    sandbox = desk.boxes.get(command.profile)
    return Outcome(view=_sessions(sandbox.sessions()), value=sandbox)


def _ls(desk: Desk, command: box.Ls) -> Outcome:
    found = desk.boxes.get(command.profile).sessions()
    return Outcome(view=_sessions(found), value=found)


def _sessions(found: list[SessionInfo]) -> render.View:
    if not found:
        return render.notice("No session yet.", "The first %%bot box makes one.")
    columns = ["session", "state", "network", "memory MiB", "backend", "made", "used"]
    rows = [
        [s.session_id, s.status, s.network, s.memory_mb, s.backend_name, _time(s.created_at),
         _time(s.last_used_at)]
        for s in found
    ]  # fmt: skip
    return render.table(columns, rows)


def _time(stamp: str | None) -> datetime | None:
    return datetime.fromisoformat(stamp) if stamp else None


def _ps(desk: Desk, command: box.Ps) -> Outcome:
    sandbox = desk.boxes.get(command.profile)
    with _told(command.session or ""):
        names = [command.session] if command.session else [one.session_id for one in sandbox.sessions()]
        found = [process for name in names for process in sandbox.processes(name)]
    if not found:
        return Outcome(view=render.notice("No managed process.", "box.start(…) starts one."), value=found)
    columns = ["session", "process", "state", "command", "exit code", "started", "last errors"]
    rows = [
        [p.session_id, p.process_id, p.status, " ".join((p.command, *p.args)), p.exit_code,
         _time(p.started_at), p.stderr_preview]
        for p in found
    ]  # fmt: skip
    return Outcome(view=render.table(columns, rows), value=found)


def _stop(desk: Desk, command: box.Stop) -> Outcome:
    with _told(command.session):
        desk.boxes.get(command.profile).call(
            "box_stop_managed_process", session_id=command.session, process_id=command.process
        )
    return Outcome(view=render.notice(f"Process {command.process} of session {command.session} has ended."))


def _rm(desk: Desk, command: box.Rm) -> Outcome:
    with _told(command.session):
        desk.boxes.get(command.profile).delete(command.session)
    return Outcome(view=render.notice(f"Session {command.session} has ended, its files are gone."))


# -- files ----------------------------------------------------------------------------------------


def _put(desk: Desk, command: box.Put) -> Outcome:
    source: str | bytes = command.path
    place = command.to or posixpath.basename(command.path)
    if command.var is not None:
        if command.to:
            raise CommandError(
                "box put takes one place with --var", hint="Write %bot box put --var df data.csv"
            )
        source, place = _bytes_of(desk, command.var, command.path), command.path
    with desk.surface.waiting(f"Copying to {place}") as block:
        count = desk.boxes.get(command.profile).put(source, place, session=command.session)
    view = render.notice(f"{place} in session {command.session}: {count:,} bytes.")
    return Outcome(view=view, value=count, block=block)


def _bytes_of(desk: Desk, name: str, place: str) -> bytes:
    """A variable as a file: bytes and text as they are, a table by the file's ending, else JSON.

    Raises:
        CommandError: There is no such variable, or it has no such form.
    """
    if name not in desk.names:
        raise CommandError(f"there is no variable {name!r}", hint="`%who` lists your variables.")
    value, ending = desk.names[name], posixpath.splitext(place)[1]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if ending == ".csv" and hasattr(value, "to_csv"):
        return str(value.to_csv(index=False)).encode()
    if ending == ".parquet" and hasattr(value, "to_parquet"):
        value.to_parquet(into := BytesIO())
        return into.getvalue()
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except (TypeError, ValueError):
        raise CommandError(
            f"{name} is a {type(value).__name__}, which {place} cannot hold",
            hint="Text, bytes and what JSON knows go into any file, a DataFrame into .csv or .parquet.",
        ) from None


def _get(desk: Desk, command: box.Get) -> Outcome:
    target = command.to or ("" if command.out else posixpath.basename(command.path))
    if target and Path(target).is_dir():
        target = str(Path(target, posixpath.basename(command.path)))
    with desk.surface.waiting(f"Copying {command.path}") as block:
        sandbox = desk.boxes.get(command.profile)
        data = sandbox.get(command.path, target or None, session=command.session)
    where = target or f"variable {command.out}"
    return Outcome(view=render.notice(f"{where}: {len(data):,} bytes."), value=data, block=block)


def _show(desk: Desk, command: box.Show) -> Outcome:
    data = desk.boxes.get(command.profile).get(command.path, session=command.session)
    if len(data) > SHOWN:
        raise CommandError(
            f"{command.path} has {len(data):,} bytes, too many to show", hint="Copy it: %bot box get PATH"
        )
    return Outcome(view=_picture(command.path, data) or render.page(_text(command.path, data)), value=data)


def _picture(path: str, data: bytes) -> render.View | None:
    kind = next((kind for start, kind in _PICTURES.items() if data.startswith(start)), "")
    if path.endswith(".svg"):
        kind = "svg+xml"  # as a picture it can neither run nor load anything
    if not kind:
        return None
    words = f"{render.clean(path)}: a picture, {len(data):,} bytes"
    text = base64.b64encode(data).decode()
    image = f'<img alt="{escape(words)}" src="data:image/{kind};base64,{text}" style="max-width:100%">'
    return render.View(render.box(image), words, words, text if kind == "png" else "")


def _text(path: str, data: bytes) -> str:
    from botbook.wire.box import clip

    try:
        return clip(data.decode(), 20_000)
    except UnicodeDecodeError:
        raise CommandError(
            f"{path} is neither text nor a picture", hint="Copy it: %bot box get PATH --out r"
        ) from None


# -- protections ----------------------------------------------------------------------------------


def _doctor(desk: Desk, command: box.Doctor) -> Outcome:
    with desk.surface.waiting("Trying the sandbox") as block:
        found = desk.boxes.get(command.profile).doctor(every=command.all)
    told = [row for row in found if row["protection"]]
    caption = f"{sum(row['on'] for row in told)} of {len(told)} protections are in force" if told else ""
    view = render.table(
        ["backend", "what runs inside", "in force", "how"], protection_rows(found), caption=caption
    )
    return Outcome(view=view, value=found, block=block)


def protection_rows(found: list[dict[str, Any]]) -> list[list[str]]:
    """Rows of `Box.doctor` in words: backend, what is held, whether, how."""
    from botbook._local.backends.base import PROTECTIONS

    held = {True: "yes", False: "NO", None: "not known"}
    whole = {False: "cannot run here", None: "any of it"}
    return [
        [row["backend"], PROTECTIONS.get(row["protection"]) or whole[row["on"]], held[row["on"]], row["how"]]
        for row in found
    ]


#: Command → what does it.
BOX_ACTIONS: Final[dict[type[Command], Callable[[Desk, Any], Outcome]]] = {
    box.Run: _run,
    box.Open: _open,
    box.Ls: _ls,
    box.Ps: _ps,
    box.Stop: _stop,
    box.Rm: _rm,
    box.Put: _put,
    box.Get: _get,
    box.Show: _show,
    box.Doctor: _doctor,
}
