"""When a connection was not there, read from the connection rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from botbook.metrics._facts import Gap
from botbook.metrics._time import MICROS, moment

__all__ = ["find_gaps", "merged"]

#: gateway, bot, type, at in microseconds, latency_s
LinkRow = tuple[str, str, str, int, float | None]
Span = tuple[int, int]
Link = tuple[str, str]
LastSeen = Callable[[str, str, int], int | None]


def find_gaps(rows: Iterable[LinkRow], *, end_us: int, last_seen: LastSeen) -> Iterator[Gap]:
    """Gaps of each connection, in order, without overlap.

    A gap runs from ``connection.closed`` to the next ``connection.opened``, or to the end. Where a
    connection opens twice without having closed, its kernel died: the gap runs from the last row
    before. A ``connection.gap`` row with a length adds the ``latency_s`` seconds before it.

    Args:
        rows: Connection rows in the order of time.
        end_us: Where a gap that is still open is cut, in microseconds since 1970.
        last_seen: Gateway, bot, time → the time of that bot's last row before, or None.
    """
    since: dict[Link, int | None] = {}  # None: it is open
    spans: dict[Link, list[Span]] = {}
    for gateway, bot, kind, at, seconds in rows:
        link = (gateway, bot)
        if kind == "connection.closed":
            since[link] = at if since.get(link) is None else since[link]
        elif kind == "connection.opened":
            down = last_seen(gateway, bot, at) if since.get(link, at) is None else since.get(link, at)
            spans.setdefault(link, []).append((at if down is None else down, at))
            since[link] = None
        elif kind == "connection.gap" and seconds and math.isfinite(seconds) and seconds > 0:
            spans.setdefault(link, []).append((at - round(seconds * MICROS), at))
    for link, down in since.items():
        if down is not None:
            spans.setdefault(link, []).append((down, end_us))
    for (gateway, bot), found in sorted(spans.items()):
        for start, end in merged(found):
            yield Gap(gateway=gateway, bot=bot, start=moment(start), end=moment(end))


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans joined where they touch, without empty ones, sorted."""
    done: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if done and start <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((start, end))
    return done
