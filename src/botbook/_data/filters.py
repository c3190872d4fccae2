"""What `bot.events()` can be narrowed by: one value, said once to SQLite and once to Arrow."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

from botbook._data.schema import micros
from botbook._errors import CommandError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Asked", "Filters", "Moment", "filters", "time_of", "utcnow"]

#: A time with zone, how long ago (``15s``, ``30m``, ``1h``, ``2d``), or a day in UTC (``2026-03-01``).
Moment = datetime | str

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SPAN: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])\Z", re.ASCII)
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
_SPAN_HINT: Final = "Write 15s, 30m, 1h or 2d, a day such as 2026-03-01, or give a datetime with a time zone."


def utcnow() -> datetime:
    """The wall clock, in UTC with zone."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which rows are asked for.

    Attributes:
        type: Exact type, or what it begins with when it ends in ".", or None.
        since: First `at` that counts, in UTC microseconds.
        until: First `at` that does not count any more.
        gateway: Exact, or None.
        bot: Exact, or None.
        chat_id: Exact, or None.
        after_seq: Only rows behind this seq.
        before_seq: Only rows before this seq, or None.
        limit: Only the newest so many, or None.
    """

    type: str | None = None
    since: int | None = None
    until: int | None = None
    gateway: str | None = None
    bot: str | None = None
    chat_id: str | None = None
    after_seq: int = 0
    before_seq: int | None = None
    limit: int | None = None

    @property
    def narrow(self) -> bool:
        """Whether anything but `limit` narrows."""
        return bool(self.after_seq) or any(
            value is not None
            for value in (self.type, self.since, self.until, self.before_seq, *self._exact().values())
        )

    def where(self) -> tuple[str, list[Any]]:
        """The condition in SQL, and its values."""
        parts, values = ["seq > ?"], [self.after_seq]
        terms: list[tuple[str, Any]] = [
            ("at >= ?", self.since),
            ("at < ?", self.until),
            ("seq < ?", self.before_seq),
        ]
        terms += [(f"{name} = ?", value) for name, value in self._exact().items()]
        if self.type is not None:
            terms.append(("type = ?", self.type) if self.type[-1:] != "." else (_BEGINS, self.type))
        for part, value in terms:
            if value is not None:
                parts.append(part)
                values += [value] * part.count("?")
        return " AND ".join(parts), values

    def pick(self, table: pa.Table) -> pa.Table:
        """The rows of a table, with column ``seq``, that are asked for.

        Chunks that are wanted whole are handed on as they are, without a copy.
        """
        import pyarrow as pa

        if self.narrow:
            table = pa.Table.from_batches(map(self._pick, table.to_batches()), table.schema)
        return table if self.limit is None else table.slice(max(0, len(table) - self.limit))

    def expression(self) -> Any:
        """The same for a dataset, without `limit`; None where nothing narrows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        at, field = pa.timestamp("us", tz="UTC"), pc.field
        terms = [field(name) == value for name, value in self._exact().items() if value is not None]
        if self.type is not None:
            begins = self.type[-1:] == "."
            terms.append(pc.starts_with(field("type"), self.type) if begins else field("type") == self.type)
        if self.after_seq:
            terms.append(field("seq") > self.after_seq)
        if self.before_seq is not None:
            terms.append(field("seq") < self.before_seq)
        if self.since is not None:
            terms.append(field("at") >= pa.scalar(self.since, at))
        if self.until is not None:
            terms.append(field("at") < pa.scalar(self.until, at))
        return reduce(operator.and_, terms) if terms else None

    def _pick(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        import pyarrow.compute as pc

        mask = pc.greater(batch["seq"], self.after_seq)
        for term in self._terms(batch):
            mask = pc.and_(mask, term)
        return batch if mask.true_count == len(batch) else batch.filter(mask)

    def _exact(self) -> dict[str, str | None]:
        return {"gateway": self.gateway, "bot": self.bot, "chat_id": self.chat_id}

    def _terms(self, table: pa.RecordBatch) -> list[Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        at = pa.timestamp("us", tz="UTC")
        terms = [pc.equal(table[name], value) for name, value in self._exact().items() if value is not None]
        if self.type is not None:
            match = pc.starts_with if self.type[-1:] == "." else pc.equal
            terms.append(match(table["type"], self.type))
        if self.before_seq is not None:
            terms.append(pc.less(table["seq"], self.before_seq))
        if self.since is not None:
            terms.append(pc.greater_equal(table["at"], pa.scalar(self.since, at)))
        if self.until is not None:
            terms.append(pc.less(table["at"], pa.scalar(self.until, at)))
        return terms


_BEGINS: Final = "substr(type, 1, length(?)) = ?"


class Asked(TypedDict, total=False):
    """What people narrow events by.

    Keys:
        type: An exact type, ``message.*`` or ``*``.
        since: From this time on, by `at`: a datetime with zone, or ``15s``, ``30m``, ``1h``, ``2d`` ago.
        until: Before this time, by `at`.
        gateway: Only this gateway.
        bot: Only this connection.
        chat_id: Only this conversation.
        after_seq: Only rows behind this one; default 0.
        limit: Only so many.
    """

    type: str | None
    since: Moment | None
    until: Moment | None
    gateway: str | None
    bot: str | None
    chat_id: str | None
    after_seq: int
    limit: int | None


def filters(*, now: Callable[[], datetime] = utcnow, **asked: Unpack[Asked]) -> Filters:
    """Read what people write.

    Args:
        now: The wall clock, for times such as ``1h``.
        **asked: See `Asked`.

    Raises:
        CommandError: One of them cannot be understood.
    """
    if unknown := sorted(set(asked) - Asked.__annotations__.keys()):
        known = ", ".join(Asked.__annotations__)
        raise CommandError(f"events have no filter {', '.join(unknown)}", hint=f"There are {known}.")
    limit = asked.get("limit")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
        raise CommandError(f"limit is {limit!r}, which is no number of rows", hint="Write limit=100.")
    return Filters(
        type=_pattern(asked.get("type")),
        since=_micros(asked.get("since"), now),
        until=_micros(asked.get("until"), now),
        gateway=asked.get("gateway"),
        bot=asked.get("bot"),
        chat_id=asked.get("chat_id"),
        after_seq=asked.get("after_seq", 0),
        limit=limit,
    )


def time_of(moment: Moment, *, now: Callable[[], datetime] = utcnow) -> datetime:
    """A point in time: a datetime with zone as it is, ``1h`` so long before now, a day from its start in UTC.

    Raises:
        CommandError: It is none of these.
    """
    if isinstance(moment, datetime):
        if moment.utcoffset() is None:
            raise CommandError(f"{moment} has no time zone", hint="Write datetime(…, tzinfo=UTC).")
        return moment
    text = moment.strip() if isinstance(moment, str) else ""
    if _DAY.match(text):
        return _day(text)
    found = _SPAN.match(text)
    if found is None:
        raise CommandError(f"{moment!r} is no time", hint=_SPAN_HINT)
    try:
        return now() - timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        raise CommandError(f"{moment!r} is too long ago", hint=_SPAN_HINT) from None


def _day(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"there is no day {text}", hint=_SPAN_HINT) from None


def _micros(moment: Moment | None, now: Callable[[], datetime]) -> int | None:
    return None if moment is None else micros(time_of(moment, now=now))


def _pattern(pattern: str | None) -> str | None:
    """``a.*`` as ``a.``, ``*`` as None, anything else as it is."""
    if pattern is None or pattern == "*":
        return None
    stem = pattern.removesuffix(".*")
    if not stem or stem.endswith(".") or "*" in stem or "\0" in stem:
        raise CommandError(
            f"{pattern!r} is no pattern of event types",
            hint="Write message.received, message.* or *.",
        )
    return pattern[:-1] if stem != pattern else pattern
