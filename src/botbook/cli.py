"""The command line: ``botbook demo``, ``sim``, ``box``, ``report``, ``export``, ``import``, ``archive``,
``forget``, ``doctor``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from botbook._config import is_loopback
from botbook._errors import BotbookError, CommandError, ConfigError, HandlerError, SandboxError

if TYPE_CHECKING:
    from botbook._data.store import Store

__all__ = ["main"]

#: Longest run of one cell of the demo, in seconds.
CELL_SECONDS: Final = 60
DEMO: Final = Path("notebooks", "00-start.ipynb")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: The words after ``botbook``; default those of this process.

    Returns:
        The exit code: 0, 1 where something failed, 2 where the command or a setting is wrong.
    """
    try:
        options = _parser().parse_args(argv)
        code: int = options.run(options)
    except BotbookError as error:
        sys.stderr.write(f"botbook: {error}\nHint: {error.hint}\n" if error.hint else f"botbook: {error}\n")
        return 2 if isinstance(error, CommandError | ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    return code


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as botbook says everything."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(message, hint=f"See `{self.prog} -h`.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="botbook", description="A Jupyter toolkit for people who build chat bots.")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo = _verb(verbs, "demo", _demo, "run the first notebook on the embedded world and leave its page")
    demo.add_argument(
        "--out", type=Path, default=Path("botbook-demo.html"), help="the page; default %(default)s"
    )
    sim = _verb(verbs, "sim", _sim, "serve the embedded world on one port and print where, as a line of JSON")
    sim.add_argument("--host", default="127.0.0.1", help="a loopback address; default %(default)s")
    sim.add_argument("--port", type=int, default=0, help="default a free one")
    sim.add_argument("--scenario", default="hello", help="what happens there; default %(default)s")
    sim.add_argument("--speed", type=float, default=1.0, help="how many times faster than life")
    sim.add_argument("--persona", default="helper", help="who answers at the agent; default %(default)s")
    sim.add_argument("--langbot", default="4.11.2", help="the version LangBot is like; default %(default)s")
    sim.add_argument("--json", action="store_true", help="print the line of JSON and nothing else")
    sim.add_argument("--for", type=float, dest="seconds", help="stop after so many seconds")
    _box_options(_verb(verbs, "box", _box, "serve a sandbox and print where, as a line of JSON"))
    _report_options(_verb(verbs, "report", _report, "write everything about a journal as one page"))
    _data_options(verbs)
    _verb(verbs, "doctor", _doctor, "check this machine, and say how to mend what is wrong")
    return parser


def _verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(run=run)
    return verb


def _box_options(box: Any) -> None:
    box.add_argument("--host", default="127.0.0.1", help="a loopback address; default %(default)s")
    box.add_argument("--port", type=int, default=0, help="default a free one")
    box.add_argument("--backend", default="", help="what encloses; default the first that works here")
    box.add_argument("--mount", action="append", default=[], help="a directory that sessions may mount from")
    box.add_argument("--unsafe", action="store_true", help="run commands with NO protection if none works")
    box.add_argument("--for", type=float, dest="seconds", help="stop after so many seconds")


def _report_options(report: Any) -> None:
    report.add_argument("--store", type=Path, help="the journal; default that of this folder")
    for name, text in (
        ("bot", "only this connection"),
        ("gateway", "only this gateway"),
        ("since", "only since: 30m, 2h, 7d ago, or a date"),
        ("until", "only before: the same"),
        ("freq", "bucket: s, 10s, min, h, D, W, M; default by the length of the range"),
    ):
        report.add_argument(f"--{name}", help=text)
    report.add_argument("--chat-type", choices=("private", "group"), help="only such chats")
    report.add_argument("--tz", default="UTC", help="zone of days and hours; default %(default)s")
    report.add_argument(
        "--out", type=Path, default=Path("botbook-report.html"), help="the page; default %(default)s"
    )


# -- export, import, archive, forget --------------------------------------------------------------


def _data_options(verbs: Any) -> None:
    export = _verb(verbs, "export", _export, "write the events of a journal to a file")
    export.add_argument("path", type=Path, help="the file: .parquet, .csv or .jsonl")
    export.add_argument("--format", choices=("parquet", "csv", "jsonl", "delta"), help="default by the name")
    for name, text in (
        ("type", "only this type, or a pattern such as message.*"),
        ("since", "only since: 30m, 2h, 7d ago"),
        ("bot", "only this connection"),
    ):
        export.add_argument(f"--{name}", help=text)
    export.add_argument("--frames", action="store_true", help="with the frames as they came")
    export.add_argument("--anonymous", action="store_true", help="hashes for ids; no names, frames, texts")
    export.add_argument("--texts", action="store_true", help="keep texts where --anonymous drops them")
    load = _verb(verbs, "import", _import, "bring the events of a file into a journal")
    load.add_argument("path", type=Path, help="JSON lines, CSV, Parquet, LangBot's export or Topical-Chat")
    load.add_argument("--map", action="append", default=[], metavar="OURS=THEIRS", help="a column's name")
    load.add_argument("--bot", default="", help="for rows that do not say; default the file's name")
    load.add_argument("--days", type=float, default=28.0, help="Topical-Chat: days of its made-up clock")
    load.add_argument("--seed", type=int, default=0, help="Topical-Chat: of that clock")
    archive = _verb(verbs, "archive", _archive, "move old events of a journal into Parquet files beside it")
    archive.add_argument("--before", default="30d", help="what arrived longer ago; default %(default)s")
    archive.add_argument("--drop", help="also delete archived events older than this, for ever")
    forget = _verb(verbs, "forget", _forget, "erase a user from a journal")
    forget.add_argument("who", metavar="user:ID", help="whom; there is no way back")
    for verb in (export, load, archive, forget):
        verb.add_argument("--store", type=Path, help="the journal; default that of this folder")


def _export(options: argparse.Namespace) -> int:
    from botbook._data.exporting import export_events
    from botbook._notebook.data_verbs import written

    with _store(options.store) as store:
        told = export_events(
            store,
            options.path,
            format=options.format,
            raw=options.frames,
            anonymize=options.anonymous,
            texts=options.texts,
            type=options.type,
            since=options.since,
            bot=options.bot,
        )
    return _say(written(told))


def _import(options: argparse.Namespace) -> int:
    from botbook._notebook.data_verbs import loaded
    from botbook._transfer import load_file

    pairs = [text.partition("=") for text in options.map]
    if wrong := [ours for ours, sign, theirs in pairs if not (ours and sign and theirs)]:
        raise CommandError(f"--map {wrong[0]} maps nothing", hint="Write --map text=message.")
    columns = {ours: theirs for ours, _, theirs in pairs}
    with _store(options.store, made=True) as store:
        told = load_file(
            store, options.path, columns=columns, bot=options.bot, days=options.days, seed=options.seed
        )
    return _say(loaded(told))


def _archive(options: argparse.Namespace) -> int:
    from botbook._notebook.data_verbs import moved

    with _store(options.store) as store:
        told = store.archive(before=options.before)
        dropped = store.discard(before=options.drop) if options.drop else 0
    return _say(moved(told, dropped))


def _forget(options: argparse.Namespace) -> int:
    from botbook._notebook.data_verbs import erased
    from botbook._transfer import forget_user

    with _store(options.store) as store:
        told = forget_user(store, options.who)
    _say(erased(told))
    return 0 if told.complete else 1


def _say(sentences: Sequence[str]) -> int:
    print("\n".join(filter(None, sentences)))
    return 0


# -- report ---------------------------------------------------------------------------------------


def _report(options: argparse.Namespace) -> int:
    from botbook import report
    from botbook._data.filters import time_of

    made = report.build(
        _journal(options.store),
        bot=options.bot,
        gateway=options.gateway,
        chat_type=options.chat_type,
        since=time_of(options.since) if options.since else None,
        until=time_of(options.until) if options.until else None,
        tz=options.tz,
        freq=options.freq,
    )
    _write(options.out, made.page())
    print(made.text())
    print(f"The page is {options.out.absolute()} ({options.out.stat().st_size / 1e6:.1f} MB).")
    return 0


def _journal(path: Path | None) -> Any:
    """All events of a journal that is there already."""
    with _store(path) as store:
        return store.read()


@contextmanager
def _store(path: Path | None, *, made: bool = False) -> Iterator[Store]:
    """A journal; one that is there already, unless it may be made."""
    from botbook._data.place import journal_path
    from botbook._data.store import Store

    found = journal_path(path)
    if not made and not found.is_file():
        raise ConfigError(f"there is no journal {found}", hint="Name one with --store, or connect a bot.")
    store = Store(found)
    try:
        yield store
    finally:
        store.close()


# -- doctor ---------------------------------------------------------------------------------------


def _doctor(options: argparse.Namespace) -> int:
    from botbook._notebook import doctor, render

    found = doctor.collect()
    print(render.report(found))
    return int(any(mark == "fix" for findings in found.values() for mark, *_ in findings))


# -- sim ------------------------------------------------------------------------------------------


def _sim(options: argparse.Namespace) -> int:
    asyncio.run(_serve(options))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    """Serve until told to stop: a signal, the end of standard input, or the time that was given."""
    from botbook._local.server import serve
    from botbook._local.world import World

    world = World(
        scenario=options.scenario, speed=options.speed, persona=options.persona, langbot=options.langbot
    )
    server = await serve(world, host=options.host, port=options.port, box=await _sandbox())
    try:
        await world.start()
        told = _told_to_stop()
        print(json.dumps(server.description()), flush=True)
        if not options.json:
            sys.stderr.write("The embedded world is up; Ctrl-C stops it.\n")
        await _until(told, options.seconds)
    finally:
        await world.stop()
        await server.close()


async def _sandbox() -> Any:
    """A sandbox for the world, or a word on why there is none."""
    from botbook._local import box_server

    try:
        return await box_server.make()
    except SandboxError as error:
        sys.stderr.write(f"No sandbox: {error}\n")
        return None


async def _until(told: asyncio.Event, seconds: float | None) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(told.wait(), seconds)


# -- box ------------------------------------------------------------------------------------------


def _box(options: argparse.Namespace) -> int:
    if not is_loopback(options.host):
        raise ConfigError(
            f"{options.host} is reachable from outside", hint="Use 127.0.0.1, ::1 or localhost."
        )
    asyncio.run(_serve_box(options))
    return 0


async def _serve_box(options: argparse.Namespace) -> None:
    """Serve the sandbox until told to stop, as `_serve` does; then every session ends."""
    from botbook._local import box_server

    server, endpoint = await box_server.start(
        backend=options.backend,
        unsafe=options.unsafe,
        mount_roots=options.mount,
        host=options.host,
        port=options.port,
    )
    try:
        told = _told_to_stop()
        backend = (await server.runtime.report()).backend
        print(json.dumps({"url": endpoint.url, "token": endpoint.token, "backend": backend}), flush=True)
        await _until(told, options.seconds)
    finally:
        await server.close()


def _told_to_stop() -> asyncio.Event:
    """Set on SIGINT, SIGTERM, and when the process that holds our standard input goes away."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, told.set)
        except NotImplementedError:  # Windows: Ctrl-C comes as a KeyboardInterrupt
            break
    if _is_held(0):

        def watch() -> None:
            while os.read(0, 4096):
                pass
            loop.call_soon_threadsafe(told.set)

        threading.Thread(target=watch, name="botbook-stdin", daemon=True).start()
    return told


def _is_held(descriptor: int) -> bool:
    """Whether somebody holds the other end: a pipe or socket that has not ended yet.

    A terminal, /dev/null or a pipe that nobody ever held says nothing when it ends.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            return False
        readable, _, _ = select.select([descriptor], [], [], 0)
        return not readable or bool(os.read(descriptor, 4096))
    except OSError:
        return False


# -- demo -----------------------------------------------------------------------------------------


def _demo(options: argparse.Namespace) -> int:
    began = time.perf_counter()
    failure = run_notebook(demo_notebook(), options.out)
    took = time.perf_counter() - began
    print(f"The page is {options.out.absolute()} ({options.out.stat().st_size / 1e6:.1f} MB, {took:.0f} s).")
    if failure:
        raise HandlerError(f"the notebook failed: {failure}", hint="The page shows the cell and its error.")
    return 0


def demo_notebook() -> Path:
    """The first notebook: of the installed package, else of the checkout.

    Raises:
        ConfigError: It is in neither.
    """
    package = Path(__file__).parent
    for found in (package / "static" / DEMO, package.parents[1] / DEMO):
        if found.is_file():
            return found
    raise ConfigError(f"{DEMO} is not there", hint="Install botbook from its wheel, or use its checkout.")


def run_notebook(notebook: Path, page: Path) -> str:
    """Run a notebook with a journal of its own and leave its page, whole in one file.

    Args:
        notebook: Which one.
        page: Where the HTML goes.

    Returns:
        The last line of the error of the cell that failed, or "".

    Raises:
        ConfigError: The packages for it are missing, or the page cannot be written.
    """
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise _missing(error) from None
    book = nbformat.read(notebook, as_version=4)
    failure = ""
    with tempfile.TemporaryDirectory(prefix="botbook-demo-") as folder:
        client = NotebookClient(
            book,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": str(notebook.parent)}},
        )
        try:
            client.execute(env=os.environ | {"BOTBOOK_STORE": str(Path(folder, "journal.sqlite"))})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failure = str(error).strip().splitlines()[-1]
    _write_page(book, page)
    return failure


def _write_page(book: Any, page: Path) -> None:
    """Export to HTML that asks no other machine for anything."""
    try:
        from nbconvert import HTMLExporter
    except ImportError as error:
        raise _missing(error) from None
    nowhere = {name: "" for name in HTMLExporter.class_trait_names() if name.endswith("_url")}
    html, _ = HTMLExporter(embed_images=True, **nowhere).from_notebook_node(book)
    _write(page, html)


def _write(page: Path, html: str) -> None:
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{page} cannot be written: {error.strerror}", hint="Name another file with --out."
        ) from None


def _missing(error: ImportError) -> ConfigError:
    return ConfigError(f"the demo needs {error.name}", hint="Install it: pip install 'botbook[run]'")
