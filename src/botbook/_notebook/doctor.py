"""What ``%bot doctor`` and ``botbook doctor`` find out about this machine. No IPython."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, Final

from botbook._config import ENVIRONMENT, SECRETS, Settings, profiles, profiles_path
from botbook._errors import BotbookError, ConfigError, StoreError
from botbook._notebook.nest import nest_state, refusal, version_of

__all__ = ["Finding", "collect", "kernel_of"]

#: (mark, name, finding, fix); the mark is ``ok``, ``note`` or ``fix``.
Finding = tuple[str, str, str, str]

#: Front end → a variable that it sets for its kernels.
FRONT_ENDS: Final = {
    "Binder": "BINDER_SERVICE_HOST",
    "Colab": "COLAB_RELEASE_TAG",
    "VS Code": "VSCODE_PID",
    "JupyterHub": "JUPYTERHUB_USER",
    "Jupyter": "JPY_PARENT_PID",
}
#: Longest wait for the embedded world, in seconds.
WORLD_SECONDS: Final = 15.0
_REQUIREMENT: Final = re.compile(r"[\w.-]+")


def collect(
    *, kernel: str = "", environ: Mapping[str, str] | None = None, world: bool = True
) -> dict[str, list[Finding]]:
    """Look at versions, kernel, journal, settings, the embedded world, the sandbox and patched loops.

    Args:
        kernel: What runs the cells, as `kernel_of` gives it; "" for the command line.
        environ: Default `os.environ`.
        world: Whether to serve and reach the embedded world over loopback, and to run a command in the
            sandbox, both well under a second.

    Returns:
        Section → findings. No secret is in them.
    """
    environ = os.environ if environ is None else environ
    return {
        "versions": list(_versions()),
        "notebook": list(_notebook(kernel, environ)),
        "journal": list(_journal()),
        "settings": list(_settings(environ)),
        **({"embedded world": [_world()], "sandbox": list(_sandbox())} if world else {}),
        "asyncio": [_nest()],
    }


def kernel_of(shell: Any) -> str:
    """What runs the cells, in words."""
    if hasattr(shell, "kernel"):
        return f"ipykernel {version_of('ipykernel')}"
    return f"{type(shell).__name__}, IPython {version_of('ipython')}"


def _versions() -> Iterator[Finding]:
    yield "ok", "python", f"{platform.python_version()} on {platform.system()}", ""
    yield "ok", "botbook", version_of("botbook") or "not installed, run from its sources", ""
    for name in _required():
        found = version_of(name)
        yield (("ok", name, found, "") if found else ("fix", name, "missing", f"pip install {name}"))


def _required() -> list[str]:
    """The packages that botbook itself asks for."""
    try:
        wanted = requires("botbook") or []
    except PackageNotFoundError:
        return []
    return sorted(m[0] for one in wanted if "extra ==" not in one and (m := _REQUIREMENT.match(one)))


def _notebook(kernel: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    yield "ok", "kernel", kernel or "none: this is the command line", ""
    seen = [name for name, variable in FRONT_ENDS.items() if environ.get(variable)]
    yield "ok", "front end", ", ".join(seen[:1]) or "unknown", ""


def _journal() -> Iterator[Finding]:
    from botbook._data.place import journal_path

    try:
        path = journal_path()
    except StoreError as error:
        yield "fix", "place", str(error), error.hint
        return
    size = f"{path.stat().st_size / 1e6:.1f} MB" if path.exists() else "not there yet"
    yield "ok", "place", f"{path} ({size})", ""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(path if path.exists() else folder, os.W_OK):
        yield "fix", "right to write", "none", "Name another file with BOTBOOK_STORE."


def _settings(environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        tables = profiles()
    except ConfigError as error:
        yield "fix", "profiles", str(error), error.hint
        return
    yield "ok", "profiles", f"{len(tables)} in {profiles_path()}", ""
    for name, table in tables.items():
        shown = ", ".join(f"{key}={_open(key, value)}" for key, value in table.items())
        yield "ok", f"profile {name}", shown or "empty", ""
    known = {variable for table in ENVIRONMENT.values() for variable in table.values()}
    if given := sorted(variable for variable in known if environ.get(variable)):
        yield "ok", "environment", f"set: {', '.join(given)}", ""


def _open(key: str, value: Any) -> str:
    """A setting as it may be shown: what is not known to be harmless is masked."""
    known = {f.name for f in fields(Settings)} - SECRETS
    return str(value) if key in known | {"gateway"} and "@" not in str(value) else "•••"


def _world() -> Finding:
    """Serve the embedded world on a loopback port and reach it, with a journal that is thrown away."""
    from botbook._net.loop import io_loop

    began = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="botbook-") as folder:
            state = io_loop().run(_reached(Path(folder) / "journal.sqlite"), timeout=WORLD_SECONDS)
    except BotbookError as error:
        return "fix", "over loopback", str(error), error.hint or "Look for a proxy or a firewall."
    return "ok", "over loopback", f"{state} after {time.perf_counter() - began:.2f} s", ""


async def _reached(store: Path) -> str:
    from botbook._local.server import serve
    from botbook._local.world import World
    from botbook.bot import AsyncBot

    world = World(scenario="quiet")
    server = await serve(world)
    try:
        await world.start()
        async with AsyncBot("miti", name="doctor", store=store, **server.description()["miti"]) as bot:
            return str(bot.status().state)
    finally:
        await world.stop()
        await server.close()


def _sandbox() -> Iterator[Finding]:
    """Run a command in the sandbox that ``%%bot box`` takes here, and say what holds."""
    from botbook._local.backends import probe_best
    from botbook._local.backends.base import PROTECTIONS
    from botbook._net.loop import io_loop

    try:
        report = io_loop().run(probe_best(), timeout=WORLD_SECONDS)
    except BotbookError as error:
        yield "note", "backend", str(error), "%bot box doctor --all tells more."
        return
    yield "ok", "backend", report.backend, ""
    for one in report.protections:
        held = "ok" if one.on else "note"
        yield held, PROTECTIONS[one.name], one.how if one.on else f"not in force: {one.how}", ""


def _nest() -> Finding:
    state = nest_state()
    if not state:
        return "ok", "loops", "not patched", ""
    why = refusal(state=state, library=version_of("nest-asyncio2"), ipykernel=version_of("ipykernel"))
    if why:
        return "fix", "loops", why, "pip install 'nest-asyncio2>=1.7.3' and restart the kernel."
    return "note", "loops", f"patched by {state}", ""
