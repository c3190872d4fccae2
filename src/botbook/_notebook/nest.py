"""``%bot nest on``: patched loops, for pasted code that calls ``asyncio.run`` in a cell.

Never applied by itself. On ipykernel 7 the unfixed libraries drop the cells that wait behind a
nested run (jupyter.md 3.2), so they are refused there.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from botbook._errors import ConfigError

__all__ = ["nest_on", "nest_state", "version_of"]

#: The first release that keeps queued cells on ipykernel 7 (jupyter.md 3.2).
FIXED: Final = (1, 7, 3)


def version_of(package: str) -> str:
    """The installed version, or ""."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def nest_state() -> str:
    """Who patched asyncio: ``nest-asyncio2``, ``nest-asyncio``, or "" for nobody."""
    if not hasattr(asyncio, "_nest_patched"):
        return ""
    return "nest-asyncio2" if hasattr(asyncio, "_nest_asyncio2") else "nest-asyncio"


def refusal(*, state: str, library: str, ipykernel: str) -> str:
    """Why it must not be applied, or "".

    Args:
        state: As `nest_state` gives it.
        library: Version of nest-asyncio2, "" where it is missing.
        ipykernel: Version of ipykernel, "" where it is missing.
    """
    if not library:
        return "nest-asyncio2 is not installed"
    if _numbers(ipykernel) < (7,):
        return ""
    if state == "nest-asyncio":
        return f"nest-asyncio is applied already, and with ipykernel {ipykernel} it loses queued cells"
    if _numbers(library) < FIXED:
        return f"nest-asyncio2 {library} with ipykernel {ipykernel} loses queued cells"
    return ""


def nest_on() -> str:
    """Patch asyncio in this process.

    Returns:
        What was done, in words.

    Raises:
        ConfigError: The library is missing, or would lose queued cells.
    """
    state = nest_state()
    library = version_of("nest-asyncio2")
    if why := refusal(state=state, library=library, ipykernel=version_of("ipykernel")):
        hint = "Run %pip install 'nest-asyncio2>=1.7.3', then restart the kernel."
        raise ConfigError(why, hint=hint)
    if state:
        return f"{state} is on already."
    import nest_asyncio2

    nest_asyncio2.apply()
    return f"nest-asyncio2 {library} is on: asyncio.run() works in cells until the kernel restarts."


def _numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version."""
    numbers: list[int] = []
    for piece in text.split("."):
        if not piece.isdigit():
            break
        numbers.append(int(piece))
    return tuple(numbers)
