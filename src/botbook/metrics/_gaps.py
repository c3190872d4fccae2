"""When a connection was not there, read from the connection rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from botbook.metrics._facts import Gap
from botbook.metrics._time import MICROS, moment

__all__ = ["find_gaps", "merged"]

#: gateway, bot, type, at in microseconds, latency_s
LinkRow = tuple[str, str, str, int, float | None]
Span = tuple[int, int]


def find_gaps(rows: Iterable[LinkRow], *, end_us: int) -> Iterator[Gap]:
    """Gaps of each connection, in order, without overlap.

    A gap runs from ``connection.closed`` to the next ``connection.opened``, or to the end; a
    ``connection.gap`` row adds the ``latency_s`` seconds before it.

    Args:
        rows: Connection rows in the order of time.
        end_us: Where a gap that is still open is cut, in microseconds since 1970.
    """
    closed: dict[tuple[str, str], int] = {}
    spans: dict[tuple[str, str], list[Span]] = {}
    for gateway, bot, kind, at, seconds in rows:
        link = (gateway, bot)
        if kind == "connection.closed":
            closed.setdefault(link, at)
        elif kind == "connection.opened" and link in closed:
            spans.setdefault(link, []).append((closed.pop(link), at))
        elif kind == "connection.gap" and seconds and math.isfinite(seconds) and seconds > 0:
            spans.setdefault(link, []).append((at - round(seconds * MICROS), at))
    for link, since in closed.items():
        spans.setdefault(link, []).append((since, end_us))
    for (_, bot), found in sorted(spans.items()):
        for start, end in merged(found):
            yield Gap(bot=bot, start=moment(start), end=moment(end))


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans joined where they touch, without empty ones, sorted."""
    done: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if done and start <= done[-1][1]:
            done[-1] = (done[-1][0], max(end, done[-1][1]))
        else:
            done.append((start, end))
    return done
