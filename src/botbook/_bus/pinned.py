"""Time and chance as a handler finds them when it is replayed: the same at every replay.

Nothing is patched, for other threads live on. Instead the handler is run with names of its own: a
copy of its function, and of the functions beside it, in whose eyes ``time``, ``datetime``,
``random`` and ``uuid`` are stand-ins. What a library reads of the clock by itself is not pinned.
"""

from __future__ import annotations

import datetime as real_datetime
import functools
import random as real_random
import time as real_time
import types
import uuid as real_uuid
from collections.abc import Callable
from typing import Any, Final

__all__ = ["Pinned"]


class Pinned:
    """A clock and a die that are set for each event.

    Args:
        slept: Seconds slept so far, by the loop's clock.
        sleep: Sleeps for a plain ``def``: moves that clock on.
        stand_in: Gives the value that takes the place of another, or that itself.
    """

    def __init__(
        self,
        *,
        slept: Callable[[], float],
        sleep: Callable[[float], None],
        stand_in: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self.random = real_random.Random()
        self.sleep = sleep
        self._slept = slept
        self._stand_in = stand_in
        self._start = real_datetime.datetime.now(real_datetime.UTC)
        self._zero = 0.0
        self._spaces: dict[int, _Names] = {}
        self._copies: dict[int, tuple[Any, Any]] = {}
        self._swaps = self._table()

    def set(self, at: real_datetime.datetime, seed: str) -> None:
        """Set the clock and the die."""
        self._start, self._zero = at, self._slept()
        self.random.seed(seed)

    @property
    def elapsed(self) -> float:
        """Seconds slept since the clock was set."""
        return self._slept() - self._zero

    def now(self, tz: real_datetime.tzinfo | None = None) -> real_datetime.datetime:
        """What ``datetime.now`` gives."""
        now = self._start + real_datetime.timedelta(seconds=self.elapsed)
        return now.astimezone(tz) if tz else now.astimezone().replace(tzinfo=None)

    def timestamp(self) -> float:
        """What ``time.time`` gives."""
        return self._start.timestamp() + self.elapsed

    def copy(self, value: Any) -> Any:
        """The same value in whose eyes time and chance are pinned.

        Functions, methods, partials and what has a ``pinned`` method of its own are copied; all else
        is given back, or what stands in for it.
        """
        if id(value) in self._swaps:
            return self._swaps[id(value)][1]
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, types.MethodType) and isinstance(value.__func__, types.FunctionType):
            return types.MethodType(self._function(value.__func__), self._stand_in(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {name: self.copy(arg) for name, arg in value.keywords.items()}
            return functools.partial(self.copy(value.func), *map(self.copy, value.args), **keywords)
        if callable(pinned := getattr(type(value), "pinned_by", None)):
            return pinned(value, self.copy)
        return self._stand_in(value)

    def _function(self, function: types.FunctionType) -> types.FunctionType:
        known = self._copies.get(id(function))
        if known is not None:
            return known[1]  # type: ignore[no-any-return]
        space = function.__globals__
        names = self._spaces.setdefault(id(space), _Names(space, self))
        fresh = types.FunctionType(function.__code__, names, function.__name__, None, function.__closure__)
        self._copies[id(function)] = function, fresh  # the original is held, so that its id stays its own
        if function.__closure__:
            closure = tuple(map(self._cell, function.__closure__))
            fresh = types.FunctionType(function.__code__, names, function.__name__, None, closure)
            self._copies[id(function)] = function, fresh
        fresh.__defaults__ = function.__defaults__ and tuple(map(self.copy, function.__defaults__))
        fresh.__kwdefaults__ = function.__kwdefaults__ and {
            name: self.copy(value) for name, value in function.__kwdefaults__.items()
        }
        fresh.__dict__.update(function.__dict__)
        fresh.__qualname__, fresh.__module__ = function.__qualname__, function.__module__
        return fresh

    def _cell(self, cell: types.CellType) -> types.CellType:
        """A cell whose value is pinned; one that holds anything else stays shared."""
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            return cell
        fresh = self.copy(value)
        return cell if fresh is value else types.CellType(fresh)

    def _table(self) -> dict[int, tuple[Any, Any]]:
        """Stand-ins by the identity of what they stand in for."""
        clock, die = _Clock(self), _Die(self.random)
        moments, day, ids = _moments(self), _days(self), _Ids(self.random)
        dates = _Module(real_datetime, datetime=moments, date=day)
        pairs: list[tuple[Any, Any]] = [
            (real_time, clock),
            (real_random, die),
            (real_uuid, ids),
            (real_datetime, dates),
            (real_datetime.datetime, moments),
            (real_datetime.date, day),
            (real_uuid.uuid4, ids.uuid4),
            (real_uuid.uuid1, ids.uuid1),
        ]
        pairs += [(getattr(real_time, name), getattr(clock, name)) for name in _CLOCK_NAMES]
        pairs += [(getattr(real_random, name), getattr(die, name)) for name in _DIE_NAMES]
        return {id(real): (real, pinned) for real, pinned in pairs}


class _Names(dict[str, Any]):
    """The names of a module as a pinned function sees them.

    What it assigns stays here; the module itself is not touched.
    """

    def __init__(self, space: dict[str, Any], pinned: Pinned) -> None:
        super().__init__(__builtins__=space.get("__builtins__", __builtins__), __name__=space.get("__name__"))
        self._space = space
        self._pinned = pinned

    def __missing__(self, name: str) -> Any:
        return self._pinned.copy(self._space[name])


class _Module:
    """A module some of whose names are others."""

    def __init__(self, module: types.ModuleType, **names: Any) -> None:
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


_CLOCK_NAMES: Final = (
    *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    *("sleep", "gmtime", "localtime", "strftime", "ctime"),
)
_DIE_NAMES: Final = tuple(
    name
    for name in real_random.__all__
    if isinstance(getattr(real_random, name), types.MethodType | types.BuiltinMethodType)
)


class _Clock(_Module):
    def __init__(self, pinned: Pinned) -> None:
        super().__init__(real_time)
        self._pinned = pinned
        self.sleep = pinned.sleep

    def time(self) -> float:
        return self._pinned.timestamp()

    def time_ns(self) -> int:
        return round(self._pinned.timestamp() * 1e9)

    # Only differences of these mean anything, and those are right between events as well.
    monotonic = perf_counter = time
    monotonic_ns = perf_counter_ns = time_ns

    def gmtime(self, seconds: float | None = None) -> real_time.struct_time:
        return real_time.gmtime(self.time() if seconds is None else seconds)

    def localtime(self, seconds: float | None = None) -> real_time.struct_time:
        return real_time.localtime(self.time() if seconds is None else seconds)

    def strftime(self, form: str, when: Any = None) -> str:
        return real_time.strftime(form, self.localtime() if when is None else when)

    def ctime(self, seconds: float | None = None) -> str:
        return real_time.ctime(self.time() if seconds is None else seconds)


class _Die(_Module):
    """The module `random`, whose functions are those of one die."""

    def __init__(self, die: real_random.Random) -> None:
        super().__init__(real_random, **{name: getattr(die, name) for name in _DIE_NAMES})


class _Ids(_Module):
    def __init__(self, die: real_random.Random) -> None:
        super().__init__(real_uuid)
        self._die = die

    def uuid4(self) -> real_uuid.UUID:
        return real_uuid.UUID(int=self._die.getrandbits(128), version=4)

    def uuid1(self, node: int | None = None, clock_seq: int | None = None) -> real_uuid.UUID:
        return real_uuid.UUID(int=self._die.getrandbits(128), version=1)


class _Kind(type):
    """Makes a stand-in for a class that has the same instances."""

    real: type

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, cls.real)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, cls.real)

    def __eq__(cls, other: object) -> bool:
        return other is cls.real or other is cls

    def __hash__(cls) -> int:
        return hash(cls.real)


def _moments(pinned: Pinned) -> type:
    class datetime(real_datetime.datetime, metaclass=_Kind):  # noqa: N801 - it stands in for that name
        real = real_datetime.datetime

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real_datetime.datetime(*args, **kwargs)

        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> Any:
            return pinned.now(tz)

        @classmethod
        def utcnow(cls) -> Any:
            return pinned.now(real_datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return pinned.now()

    return datetime


def _days(pinned: Pinned) -> type:
    class date(real_datetime.date, metaclass=_Kind):  # noqa: N801 - it stands in for that name
        real = real_datetime.date

        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return real_datetime.date(*args, **kwargs)

        @classmethod
        def today(cls) -> Any:
            return pinned.now().date()

    return date
