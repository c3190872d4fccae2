"""A Jupyter toolkit for people who build, study and teach chat bots.

``%load_ext botbook`` in a notebook, or `connect` from Python.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botbook import _errors as errors
    from botbook import actions, events, messages, metrics, plots, testing, wrappers
    from botbook._bus.filters import Filter
    from botbook._bus.router import Router, Rule
    from botbook.bot import AsyncBot, Bot, connect

__all__ = [
    "AsyncBot",
    "Bot",
    "Filter",
    "Router",
    "Rule",
    "actions",
    "connect",
    "errors",
    "events",
    "messages",
    "metrics",
    "plots",
    "testing",
    "wrappers",
]

__version__ = "0.1.0"

#: Public name → where it lives. Looked up on first use, so that the import stays cheap.
_NAMES = {"AsyncBot": "botbook.bot", "Bot": "botbook.bot", "connect": "botbook.bot"}
_NAMES |= {"Filter": "botbook._bus.filters", "Router": "botbook._bus.router", "Rule": "botbook._bus.router"}
_MODULES = {
    name: f"botbook.{name}"
    for name in ("actions", "events", "messages", "metrics", "plots", "testing", "wrappers")
}
_MODULES["errors"] = "botbook._errors"


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'botbook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Entry point of ``%load_ext botbook``."""
    from botbook._notebook.magics import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Entry point of ``%unload_ext botbook``: closes every connection."""
    from botbook._notebook.magics import unload

    unload(shell)
