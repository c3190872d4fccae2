"""Recorded events through handlers, without sending: what would they say, and is it what they said?"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botbook._bus.handler import Handler
from botbook._bus.rehearsal import Outcome, Rehearsal, TooLong
from botbook.events import Event

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Record", "Replay", "Replayed", "Said", "replay", "said_now"]

T = TypeVar("T")

#: Longest single call, in real seconds: what holds its thread longer than this is broken off.
PATIENCE: Final = 10.0
#: How often a wait looks up, in seconds.
_LOOK: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What was said to an event.

    Attributes:
        replies: The texts of the answers.
        actions: What else was sent, as objects.
        error: One line, or "".
    """

    replies: tuple[str, ...] = ()
    actions: tuple[Mapping[str, Any], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One event through one handler.

    Attributes:
        outcome: What came of it now.
        before: What it is held against: the record, or another handler; None if there is nothing.
    """

    outcome: Outcome
    before: Said | None

    @property
    def now(self) -> Said:
        """What was said now."""
        return said_now(self.outcome)

    @property
    def changed(self) -> bool | None:
        """Whether that differs; None if there is nothing to hold it against."""
        return None if self.before is None else self.now != self.before


def said_now(outcome: Outcome) -> Said:
    """What a call said."""
    actions = tuple(deed.to_json() for deed in outcome.actions)
    return Said(replies=outcome.replies, actions=actions, error=outcome.error)


class Record:
    """What handlers did when the events were new, from the journal or a record file.

    Where the journal kept each call with what it sent, that is the record. Else it is put together
    from the rows: an answer is a ``message.sent`` that names the message it answers, a failure is a
    ``handler.failed``. Those rows do not say which handler spoke.

    Args:
        events: The rows, those that botbook wrote itself among them.
        calls: The journal's calls: objects with ``event_id``, ``handler``, ``error`` and ``calls``,
            which is the text that `deeds_json` gave.
    """

    def __init__(self, events: Iterable[Event] = (), calls: Iterable[Mapping[str, Any]] = ()) -> None:
        self._calls = {(row["event_id"], row["handler"]): _said(row) for row in calls if row.get("calls")}
        self._answers: dict[tuple[str, str], list[str]] = {}
        self._errors: dict[tuple[str, str], str] = {}
        self._known = False
        for event in events:
            self._note(event)

    def _note(self, event: Event) -> None:
        self._known = True
        if event.type == "message.sent" and event.reply_to:
            self._answers.setdefault((event.chat_id, event.reply_to), []).append(event.text)
        elif event.type == "handler.failed":
            self._errors[event.reply_to, event.text] = event.error

    def of(self, event: Event, handler: str) -> Said | None:
        """What a handler said to an event; None if nothing is known of that."""
        kept = self._calls.get((event.event_id, handler))
        if kept is not None or not self._known:
            return kept
        answers = self._answers.get((event.chat_id, event.message_id), ()) if event.message_id else ()
        return Said(replies=tuple(answers), error=self._errors.get((event.event_id, handler), ""))


def _said(row: Mapping[str, Any]) -> Said:
    deeds = json.loads(row["calls"])
    answers = tuple(deed["text"] for deed in deeds if deed["call"] in ("reply", "answer"))
    rest = tuple(deed for deed in deeds if deed["call"] not in ("reply", "answer"))
    return Said(replies=answers, actions=rest, error=row.get("error") or "")


class Replay:
    """A replay on a thread of its own.

    Each event goes through each handler whose pattern and condition it meets, in order, one after
    the other. Nothing is sent. The handler finds the time at which the event arrived, the same chance
    at each replay, and sleeps without waiting.

    Args:
        events: What happened, oldest first.
        handlers: One or more. The first is held against the second, the rest against the first.
        record: What to hold a single handler against.
        seed: Of chance.
        extra: What handlers may ask for besides the event's own columns.
        stands_for: Live bots, in whose place the handlers find one that sends nothing.
        patience: Longest single call, in real seconds; one that holds its thread longer is broken off.
        stage: Go on where an earlier replay ended, with what its handlers keep; `stage` of that one.
            Whoever hands it in closes it.

    Attributes:
        stage: Where the handlers run.
        done: Events that are through.
        total: Events in all.
        rows: What came of them so far.
        holding: Name of the handler that runs at the moment, or "".
    """

    def __init__(
        self,
        events: Sequence[Event],
        handlers: Sequence[Handler],
        *,
        record: Record | None = None,
        seed: int = 0,
        extra: Mapping[str, Any] | None = None,
        stands_for: Iterable[object] = (),
        patience: float = PATIENCE,
        stage: Rehearsal | None = None,
    ) -> None:
        self._events, self._handlers = events, handlers
        self._record = record if len(handlers) == 1 else None
        self._seed, self._extra, self._bots = seed, dict(extra or {}), tuple(stands_for)
        self._patience = patience
        self._borrowed = stage is not None
        self.stage = stage or self._stage()
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self._began: float | None = None
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="botbook-replay", daemon=True)
        self.total = len(events)
        self.done = 0
        self.rows: list[Replayed] = []
        self.holding = ""

    def start(self) -> Replay:
        """Begin."""
        self._thread.start()
        return self

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end, breaking off what holds its thread too long.

        Args:
            seconds: At most so long; default until the end.

        Returns:
            Whether it has ended.

        Raises:
            BaseException: What went wrong with the replay itself, no fault of a handler.
        """
        until = None if seconds is None else monotonic() + seconds
        while not self._ended.wait(_LOOK if until is None else max(0.0, min(_LOOK, until - monotonic()))):
            self._break_off(self._patience)
            if until is not None and monotonic() >= until:
                return False
        if self._problem is not None:
            raise self._problem
        return True

    def stop(self) -> None:
        """End after the event at hand; a call that does not end by itself is broken off."""
        self._stopped.set()
        if not self._ended.wait(_LOOK):
            self._break_off(0.0)

    def _break_off(self, patience: float) -> None:
        with self._turn:
            if self._began is None or monotonic() - self._began < patience:
                return
            self._began = None  # once is enough
            thread = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TooLong))

    # On the thread

    def _run(self) -> None:
        try:
            for event in self._events:
                if self._stopped.is_set():
                    break
                self._through(event)
                self.done += 1
        except BaseException as problem:
            self._problem = problem
        finally:
            if not self._borrowed:
                with suppress(Exception):
                    self.stage.close()
            self._ended.set()

    def _stage(self) -> Rehearsal:
        return Rehearsal(seed=self._seed, extra=self._extra, stands_for=self._bots)

    def _through(self, event: Event) -> None:
        """One event through all handlers."""
        outcomes: list[Outcome | None] = []
        for handler in self._handlers:
            began = monotonic()
            try:
                outcomes.append(self._timed(handler, partial(self.stage.call, handler, event)))
            except TooLong:
                with suppress(TooLong, Exception):  # it may hold the rest of what was broken off
                    self._timed(handler, self.stage.close)
                self.stage = self._stage()
                seconds = monotonic() - began
                error = "was stopped" if self._stopped.is_set() else f"held its thread for {seconds:.1f} s"
                outcomes.append(Outcome(event=event, handler=handler.name, error=error, seconds=seconds))
        self.rows += self._compared(event, outcomes)

    def _compared(self, event: Event, outcomes: Sequence[Outcome | None]) -> list[Replayed]:
        """Rows: a single handler beside the record, the first beside the second, the rest beside the first.

        A handler that an event is not for has said nothing to it, and gets no row.
        """
        said = [Said() if outcome is None else said_now(outcome) for outcome in outcomes]
        rows: list[Replayed] = []
        for index, outcome in enumerate(outcomes):
            if outcome is None:
                continue
            if len(outcomes) > 1:
                before: Said | None = said[1] if index == 0 else said[0]
            else:
                before = self._record.of(event, outcome.handler) if self._record else None
            rows.append(Replayed(outcome=outcome, before=before))
        return rows

    def _timed(self, handler: Handler, work: Callable[[], T]) -> T:
        """Run something that may be broken off."""
        self.holding = handler.name
        with self._turn:
            self._began = monotonic()
        try:
            return work()
        finally:
            with self._turn:
                self._began = None
            for _ in range(3):  # a stop that was asked for meanwhile strikes here, and not later
                self.holding = ""

    def frame(self) -> pd.DataFrame:
        """What came of it so far.

        Returns:
            One row for each event and handler: event_id, handler, replies (texts), actions (objects
            with ``call``, ``text`` and more), error, seconds, changed (True, False, or None where
            there is nothing to hold it against).
        """
        import pandas as pd

        rows = [
            (
                row.outcome.event.event_id,
                row.outcome.handler,
                list(row.now.replies),
                list(row.now.actions),
                row.outcome.error,
                row.outcome.seconds,
                row.changed,
            )
            for row in self.rows
        ]
        columns = ["event_id", "handler", "replies", "actions", "error", "seconds", "changed"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"seconds": "float64", "changed": "boolean"})


def replay(
    events: Sequence[Event],
    handlers: Sequence[Handler],
    *,
    watch: Callable[[Replay], None] | None = None,
    **options: Any,
) -> Replay:
    """Replay events to the end, and wait for it; see `Replay` for the options.

    Args:
        events: What happened, oldest first.
        handlers: One or more.
        watch: Called some ten times a second, for a progress bar.
        **options: As for `Replay`.

    Raises:
        KeyboardInterrupt: The stop button; what runs is broken off.
    """
    run = Replay(events, handlers, **options).start()
    try:
        while not run.wait(_LOOK):
            if watch is not None:
                watch(run)
    except KeyboardInterrupt:
        run.stop()
        raise
    if watch is not None:
        watch(run)
    return run
