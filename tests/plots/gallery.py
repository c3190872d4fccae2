"""The pictures of docs/metrics.md, of three months that a seeded scenario makes up: ``make pictures``.

Run as ``python -m tests.plots.gallery FOLDER``.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import matplotlib as mpl
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from botbook import metrics, plots
from botbook._local.sample import conversations
from tests.metrics.reference import arrow, row

__all__ = ["DRAWN_BY", "FOLDER", "PICTURES", "THEMES", "drawn", "events", "png"]

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "plots"
THEMES = ("light", "dark")
#: Text is set in another way with each minor version of matplotlib: the pictures say which one drew them.
DRAWN_BY = "matplotlib " + ".".join(mpl.__version__.split(".")[:2])
ZONE = "Europe/Berlin"
START = datetime(2026, 1, 12, tzinfo=UTC)
WEEKS = 12
LAST = timedelta(days=7)
BOTS = ("atlas", "juno", "otto")
#: Name of the picture → metric, its options, those of the plot, and how much of the time it is drawn from.
PICTURES: dict[str, tuple[str, dict[str, Any], dict[str, Any], timedelta | None]] = {
    "volume": ("volume", {"freq": "D"}, {}, timedelta(days=28)),
    "volume-hours": ("volume", {"freq": "h"}, {}, LAST),
    "active_users": ("active_users", {"freq": "D"}, {}, None),
    "user_growth": ("user_growth", {"freq": "W"}, {}, None),
    "retention": ("retention", {"freq": "W"}, {}, None),
    "hour_weekday": ("hour_weekday", {}, {}, None),
    "response_latency": ("response_latency", {"freq": "D"}, {}, timedelta(days=28)),
    "response_latency-bots": ("response_latency", {"freq": None, "by": "bot"}, {}, None),
    "response_latency-ecdf": ("response_latency", {"ecdf": True}, {}, None),
    "first_response": ("first_response", {"histogram": "log"}, {}, None),
    "conversation_length": ("conversation_length", {"histogram": True}, {}, None),
    "containment": ("containment", {"freq": "W"}, {}, None),
    "unanswered": ("unanswered", {"freq": "W"}, {}, None),
    "tokens": ("tokens", {"freq": "W", "by": "bot"}, {}, None),
    "tool_failures": ("tool_failures", {}, {}, None),
    "error_rate": ("error_rate", {"freq": "W"}, {}, None),
    "error_rate-errors": ("error_rate", {"split": "error"}, {}, None),
    "feedback_state": ("feedback_state", {}, {}, LAST),
    "like_rate": ("like_rate", {"by": "bot"}, {}, None),
    "feedback_coverage": ("feedback_coverage", {"freq": "W"}, {}, None),
    "feedback_changes": ("feedback_changes", {}, {}, None),
    "dislike_reasons": ("dislike_reasons", {}, {}, None),
    "compare": ("compare", {"by": "bot", "base": "atlas"}, {}, None),
    "terms": ("terms", {"min_n": 5}, {}, None),
    "connection_health": ("connection_health", {}, {}, timedelta(days=42)),
}


@cache
def events() -> Any:
    """Three months of three bots, as an Arrow table."""
    chance = Random(2026)
    texts = [turn.text for talk in conversations() for turn in talk.turns if not turn.by_bot]
    rows = [*_links(chance)]
    for number in range(240):
        rows += _person(number, chance, texts)
    rows.sort(key=lambda one: one["at"])
    end = START + timedelta(weeks=WEEKS) - timedelta(hours=6)
    return arrow([one for one in rows if one["at"] < end])


def _person(number: int, chance: Random, texts: list[str]) -> Iterator[dict[str, Any]]:
    """Everything that one person does: comes some day, and perhaps again."""
    day = chance.randrange(WEEKS * 7)
    bot = BOTS[min(2, int(chance.random() ** 1.5 * 3))]
    visit = 0
    while day < WEEKS * 7:
        weekend = (START + timedelta(days=day)).weekday() > 4
        if not weekend or chance.random() < 0.4:
            at = START + timedelta(days=day, hours=min(23.5, max(0.0, chance.gauss(13, 3.5))))
            yield from _talk(f"u{number}", f"{number}-{visit}", bot, at, chance, texts)
            visit += 1
        if chance.random() < 0.35:
            return
        day += max(1, round(chance.expovariate(1 / 6)))


def _talk(
    user: str, name: str, bot: str, at: datetime, chance: Random, texts: list[str]
) -> Iterator[dict[str, Any]]:
    who = {"bot": bot, "chat_id": f"c-{user}", "chat_type": "private", "gateway": "miti"}
    slow = {"atlas": 0.3, "juno": 0.8, "otto": 0.1}[bot]
    for turn in range(1 + min(12, int(chance.lognormvariate(0.9, 0.7)))):
        ident = f"{name}-{turn}"
        text = chance.choice(texts)
        yield row(at=at, event_id=f"q{ident}", message_id=f"q{ident}", user_id=user, text=text, **who)
        if chance.random() < 0.3:
            yield from _tool(ident, at, chance, who)
        wait = chance.lognormvariate(slow, 0.7)
        if chance.random() < 0.04:
            at += timedelta(seconds=30)
            failed = chance.choice(
                ("TimeoutError: slow", "TimeoutError: slow", "KeyError: 'city'", "ValueError: no")
            )
            yield row(
                "failed",
                at=at,
                event_id=f"x{ident}",
                reply_to=f"q{ident}",
                text="answer",
                error=failed,
                **who,
            )
            continue
        said = at + timedelta(seconds=wait)
        tokens = int(chance.lognormvariate(5.5, 0.6))
        for part in range(2):
            yield row(
                "assistant" if part else "delta", at=said + timedelta(seconds=part * wait / 2),
                event_id=f"a{ident}-{part}", message_id=f"a{ident}", reply_to=f"q{ident}",
                tokens=tokens if part else None, **who,
            )  # fmt: skip
        if chance.random() < 0.35:
            yield from _click(
                user, ident, said, chance, who, like={"atlas": 0.8, "juno": 0.72, "otto": 0.62}[bot]
            )
        at = said + timedelta(seconds=chance.lognormvariate(3, 0.8))
    if chance.random() < 0.08:
        yield {**row("system", at=at, event_id=f"h{name}", **who), "type": "group.handoff"}


def _tool(ident: str, at: datetime, chance: Random, who: dict[str, str]) -> Iterator[dict[str, Any]]:
    tool, risk = chance.choice((("search", 0.05), ("search", 0.05), ("weather", 0.15), ("python", 0.3)))
    given = {"message_id": f"t{ident}", "user_name": tool, **who}
    yield row("call", at=at, event_id=f"t{ident}-0", **given)
    error = chance.choice(("timeout", "failed", "failed")) if chance.random() < risk else ""
    yield row("result", at=at + timedelta(seconds=0.4), event_id=f"t{ident}-1", error=error, **given)


def _click(
    user: str, ident: str, at: datetime, chance: Random, who: dict[str, str], *, like: float
) -> Iterator[dict[str, Any]]:
    kinds = [1 if chance.random() < like else 2]
    if chance.random() < 0.15:
        kinds.append(chance.choice((3, 3, 3 - kinds[0])))
    for step, kind in enumerate(kinds):
        reasons = chance.sample(("wrong", "too slow", "too long", "rude"), chance.choice((1, 1, 2)))
        yield row(
            "feedback", at=at + timedelta(seconds=20 * (step + 1)), event_id=f"f{ident}-{step}",
            feedback_id=f"f{ident}", feedback_type=kind, message_id=f"a{ident}", user_id=user,
            feedback_reasons=reasons if kind == 2 else [], **who,
        )  # fmt: skip


def _links(chance: Random) -> Iterator[dict[str, Any]]:
    """Connections that open, and now and then are away for some hours."""
    for bot in BOTS:
        at, who = START, {"bot": bot, "gateway": "miti"}
        for k in range(2 * WEEKS):
            yield row("opened", at=at, event_id=f"l{bot}{k}o", **who)
            at += timedelta(hours=chance.uniform(80, 900))
            yield row("closed", at=at, event_id=f"l{bot}{k}c", **who)
            at += timedelta(hours=chance.uniform(0.5, 7))


def drawn(name: str, theme: str) -> Any:
    """One of the pictures as a figure."""
    metric, options, looks, length = PICTURES[name]
    frame = events()
    if length:
        frame = frame.filter(_young(frame, length))
    zone = {} if metric == "compare" else {"tz": ZONE}
    return getattr(plots, metric)(getattr(metrics, metric)(frame, **options, **zone), theme=theme, **looks)


def _young(frame: Any, length: timedelta) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    since = START + timedelta(weeks=WEEKS) - length
    return pc.greater_equal(frame["at"], pa.scalar(since, frame["at"].type))


def png(figure: Any) -> bytes:
    """Small enough to be kept: 256 colours."""
    told = PngInfo()
    told.add_text("Software", DRAWN_BY)
    picture = Image.open(io.BytesIO(figure.png(scale=1.6))).convert("RGB").quantize(256)
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True, pnginfo=told)
    return out.getvalue()


def main(folder: Path) -> None:
    """Draw all of them into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        for theme in THEMES:
            (folder / f"{name}-{theme}.png").write_bytes(png(drawn(name, theme)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
