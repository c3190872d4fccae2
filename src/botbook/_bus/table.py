"""Which handlers an event goes to."""

from __future__ import annotations

from collections.abc import Iterator

from botbook._bus.handler import Handler
from botbook._bus.patterns import PATTERN, matches
from botbook._errors import HandlerError
from botbook.events import ASSISTANT, Event

__all__ = ["HandlerTable"]


class HandlerTable:
    """Handlers by name, in the order in which they were first defined.

    A pattern is ``*``, ``namespace.*`` or an exact type. One with a star never matches what a bot
    said itself: a handler that answers its own answers would never end.
    """

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}
        self._found: dict[tuple[str, bool], tuple[Handler, ...]] = {}

    def add(self, handler: Handler) -> None:
        """Register a handler; one of the same name gives up its place to it.

        Raises:
            HandlerError: Its pattern could never match.
        """
        if not PATTERN.fullmatch(handler.pattern):
            raise HandlerError(
                f"{handler.pattern!r} is no pattern",
                hint="Write a type such as message.received, or message.*, or *.",
            )
        self._handlers = {**self._handlers, handler.name: handler}
        self._found = {}

    def remove(self, name: str) -> Handler | None:
        """Take a handler away; None if there is none of that name."""
        gone = self._handlers.get(name)
        self._handlers = {key: handler for key, handler in self._handlers.items() if key != name}
        self._found = {}
        return gone

    def match(self, event: Event) -> tuple[Handler, ...]:
        """The handlers for an event, in order."""
        found = self._found  # one table for look-up and store: `add` may swap it meanwhile
        key = (event.type, event.role == ASSISTANT)
        if key not in found:
            found[key] = tuple(
                h for h in self._handlers.values() if matches(h.pattern, event.type, own=key[1])
            )
        return found[key]

    def get(self, name: str) -> Handler | None:
        """The handler of that name."""
        return self._handlers.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._handlers

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)
