"""The body of a ``%%bot`` cell as Python: compiled with ``await`` allowed, run in the user's names.

Code without ``await`` runs where it stands. Code with it runs on a loop of its own, because the
kernel's loop is busy with the very cell (jupyter.md 3.1); the stop button cancels it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import itertools
import linecache
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager, suppress
from types import CodeType
from typing import Any, Final

from botbook._errors import BotbookError, CommandError
from botbook._notebook.show import own_code_failed

__all__ = ["CellLoop", "Cells", "lent"]

#: How often a wait looks up for the stop button, in seconds; how long it then waits for the body.
STEP: Final = 0.1
GRACE: Final = 0.15


class CellLoop:
    """A loop on a thread of its own, for bodies with ``await``."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run to the end. On the stop button the work is cancelled, and left behind if it does not heed.

        Raises:
            KeyboardInterrupt: The stop button.
        """
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_noted(work, ended), self._running())
        try:
            while True:
                with suppress(NotYet):
                    return future.result(STEP)
                if future.done():  # a TimeoutError of the work itself
                    return future.result()
        except KeyboardInterrupt:
            future.cancel()
            self._leave_if_stuck(ended)
            raise

    def close(self) -> None:
        """Stop the loop. Its tasks end with it."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), name="botbook-cells", daemon=True).start()
        return self._loop

    def _leave_if_stuck(self, ended: threading.Event) -> None:
        """Give the work a moment to end; a loop that it holds by force is not used again."""
        beat = threading.Event()
        self._running().call_soon_threadsafe(beat.set)
        if not ended.wait(GRACE) and not beat.is_set():
            self.close()


async def _noted(work: Coroutine[Any, Any, Any], ended: threading.Event) -> Any:
    try:
        return await work
    finally:
        ended.set()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(_cancel_the_rest())
    finally:
        loop.close()


async def _cancel_the_rest() -> None:
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


class Cells:
    """Runs bodies.

    Args:
        shell: The IPython shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._loop = CellLoop()
        self._numbers = itertools.count(1)

    def close(self) -> None:
        """Stop the loop."""
        self._loop.close()

    def run(self, body: str) -> Any:
        """Run a body.

        Returns:
            The value of its last line, if that is an expression without a semicolon.

        Raises:
            Exception: What the body raises, shown without the lines of the magic.
        """
        filename, tree = self._read(body)
        with self._named(filename):
            return self._execute(filename, *_halves(tree, body))

    def define(self, body: str) -> Callable[..., Any]:
        """Run a body and give back the last function it defines.

        Raises:
            CommandError: It defines none.
            Exception: What the body raises.
        """
        filename, tree = self._read(body)
        names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not names:
            raise CommandError(
                "the body defines no function",
                hint="Write a handler: async def echo(event): await event.reply(event.text)",
            )
        with self._named(filename):
            self._execute(filename, tree, None)
        function: Callable[..., Any] = self._shell.user_ns[names[-1]]
        return function

    def _read(self, body: str) -> tuple[str, ast.Module]:
        """Parse a body, and keep its lines where tracebacks look for them.

        Line numbers count from the magic's own line, as the cell shows them.
        """
        # The shell's own counter is one ahead in newer versions of IPython, so the inputs are counted.
        cell = len(self._shell.history_manager.input_hist_raw) - 1
        filename = f"<%%bot cell {cell}.{next(self._numbers)}>"
        with self._named(filename):
            text = "\n" + self._shell.transform_cell(body)
            linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
            return filename, ast.parse(text, filename)

    @contextmanager
    def _named(self, filename: str) -> Iterator[None]:
        try:
            yield
        except BotbookError:
            raise
        except Exception as error:
            own_code_failed(self._shell, error, filename)
            raise

    def _execute(self, filename: str, statements: ast.Module, last: ast.Expression | None) -> Any:
        codes = [compile(statements, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)]
        if last is not None:
            codes.append(compile(last, filename, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        names = self._shell.user_ns
        if any(code.co_flags & inspect.CO_COROUTINE for code in codes):
            return self._loop.run(_awaited(codes, names))
        return [eval(code, names) for code in codes][-1]  # running the user's code is the purpose


async def _awaited(codes: list[CodeType], names: dict[str, Any]) -> Any:
    value: Any = None
    for code in codes:
        value = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            value = await value
    return value


def _halves(tree: ast.Module, body: str) -> tuple[ast.Module, ast.Expression | None]:
    """The statements, and the expression at the end if its value is to be shown."""
    if tree.body and isinstance(last := tree.body[-1], ast.Expr) and not body.rstrip().endswith(";"):
        return ast.Module(tree.body[:-1], tree.type_ignores), ast.Expression(last.value)
    return tree, None


@contextmanager
def lent(
    names: dict[str, Any], loan: Mapping[str, Any], *, ours: Callable[[str, Any], bool]
) -> Iterator[None]:
    """Put names at hand while a body runs, and give back what they covered.

    They stay afterwards where nothing of the user's had that name, so that handlers find them.

    Args:
        names: The user's names.
        loan: What is put there.
        ours: Whether a value that stood there came from here: (name, value).
    """
    covered = {key: names[key] for key in loan if key in names and not ours(key, names[key])}
    names.update(loan)
    try:
        yield
    finally:
        names.update({key: value for key, value in covered.items() if names.get(key) is loan[key]})
