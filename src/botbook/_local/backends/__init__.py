"""Ways to enclose a session, one file each; the first that works here is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from botbook._errors import SandboxError
from botbook._local.backends.base import Backend, Report
from botbook._local.backends.bubblewrap import BubblewrapBackend
from botbook._local.backends.container import DockerBackend, PodmanBackend
from botbook._local.backends.native import NativeBackend
from botbook._local.backends.nsjail import NsjailBackend
from botbook._local.backends.unsafe import UnsafeBackend

__all__ = ["BACKENDS", "choose", "doctor", "probe_best"]

#: In the order in which they are tried: what starts in milliseconds comes first.
BACKENDS: Final[dict[str, Callable[[], Backend]]] = {
    "native": NativeBackend,
    "bubblewrap": BubblewrapBackend,
    "nsjail": NsjailBackend,
    "docker": DockerBackend,
    "podman": PodmanBackend,
}


async def choose(name: str = "", *, unsafe: bool = False) -> Backend:
    """A backend that works here.

    Args:
        name: Which one; "" for the first that works.
        unsafe: Take none at all if none works.

    Raises:
        SandboxError: None works; the reasons are in the text. Or there is none of that name.
    """
    if name and name not in BACKENDS:
        raise SandboxError(f"there is no sandbox backend {name!r}", hint=f"Known: {', '.join(BACKENDS)}.")
    reasons = []
    for one in [name] if name else list(BACKENDS):
        backend = BACKENDS[one]()
        report = await backend.probe()
        if report.available:
            return backend
        await backend.close()
        reasons.append(f"{one}: {report.reason}")
    if unsafe:
        return UnsafeBackend()
    raise SandboxError(
        f"no sandbox works on this machine ({'; '.join(reasons)})",
        code="BoxBackendUnavailableError",
        hint="`%bot box doctor` tells more; `unsafe=True` runs commands with NO protection.",
    )


async def probe_best() -> Report:
    """What holds in the backend that is taken here.

    Raises:
        SandboxError: None works.
    """
    backend = await choose()
    report = await backend.probe()
    await backend.close()
    return report


async def doctor() -> list[Report]:
    """What each backend can do here; each is tried."""
    backends = [make() for make in BACKENDS.values()]
    reports = await asyncio.gather(*(one.probe() for one in backends))
    await asyncio.gather(*(one.close() for one in backends))
    return list(reports)
