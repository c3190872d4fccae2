"""What a handler gives back: text to answer with, actions to take, or pieces that stream.

A handler may act by the methods of its event, or return or yield:

* nothing: nothing more is done;
* text, or a `MessageChain`: the answer;
* an `Action`: is put on the wire;
* a list or tuple of these: one after the other;
* what it yields: text is a piece of one streamed answer, the rest is done as it comes.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Final

from botbook._errors import HandlerError
from botbook.actions import Action, Sent
from botbook.events import Event
from botbook.messages import MessageChain

__all__ = ["Do", "Say", "carry_out", "perform"]

#: Says that a generator has nothing more.
_END: Final = object()


@dataclass(frozen=True, slots=True)
class Say:
    """Answer the event with this text, as markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class Do:
    """Put this action on the wire."""

    action: Action


def perform(result: Any) -> tuple[Say | Do, ...]:
    """What is to be done about what a handler returned, or about one thing that it yielded.

    Raises:
        HandlerError: Nobody can say what that would mean.
    """
    match result:
        case None | "" | Sent():
            return ()
        case str():
            return (Say(result),)
        case Action():
            return (Do(result),)
        case MessageChain():
            return perform(str(result))
        case list() | tuple():
            return tuple(deed for item in result for deed in perform(item))
    raise HandlerError(
        f"a handler gave back {type(result).__name__}",
        hint="Return text, an action, a list of them, or nothing.",
    )


async def carry_out(
    result: Any,
    event: Event,
    *,
    do: Callable[[Action], Awaitable[Any]],
    step: Callable[[Callable[[], Any]], Awaitable[Any]],
) -> None:
    """Do what a handler's result asks for.

    Args:
        result: What the handler returned: a value, an awaitable, or a generator of either kind.
        event: What it was called with; answers go through it.
        do: Puts an action on the wire.
        step: Runs a function where plain ``def`` handlers run; a plain generator is advanced by it.

    Raises:
        HandlerError: It gave back what nobody can say the meaning of.
        Exception: What the generator raises; an answer that was begun is marked as failed.
    """
    if inspect.isawaitable(result):
        result = await result
    if isinstance(result, AsyncGenerator):
        await _stream(result, event, do)
    elif isinstance(result, Generator):
        await _stream(_stepwise(result, step), event, do)
    elif result is not None:
        await _each(result, event, do)


async def _each(result: Any, event: Event, do: Callable[[Action], Awaitable[Any]]) -> None:
    for deed in perform(result):
        await (event.reply(deed.text) if isinstance(deed, Say) else do(deed.action))


async def _stream(
    pieces: AsyncGenerator[Any, None], event: Event, do: Callable[[Action], Awaitable[Any]]
) -> None:
    """Write pieces of text to one answer, which opens with the first of them."""
    answer: Any = None
    async with contextlib.aclosing(pieces), contextlib.AsyncExitStack() as stack:
        async for piece in pieces:
            if not isinstance(piece, str):
                await _each(piece, event, do)
                continue
            if answer is None:
                answer = await stack.enter_async_context(event.answer())
            await answer.write(piece)


async def _stepwise(
    pieces: Generator[Any, Any, Any], step: Callable[[Callable[[], Any]], Awaitable[Any]]
) -> AsyncGenerator[Any, None]:
    try:
        while (piece := await step(lambda: next(pieces, _END))) is not _END:
            yield piece
    finally:
        await step(pieces.close)
