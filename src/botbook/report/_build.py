"""A frame of events → a report: the metrics of every section, and the tiles read from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import narwhals as nw

from botbook import metrics
from botbook._errors import ConfigError
from botbook.metrics import Facts, facts, freq_for
from botbook.metrics._frame import prepare
from botbook.metrics._kinds import arrow
from botbook.plots._words import many, seconds
from botbook.report._values import Panel, Report, Section, Tile

__all__ = ["build"]

#: Rows that every report keeps, whatever it is narrowed to: they tell of gaps.
LINKS: Final = "connection."
#: Fewer ratings than this, and a bot's like rate is not drawn; the tile keeps to the same.
MIN_N: Final = 30
#: User turns that a point of a rate over time should rest on.
ENOUGH: Final = 20
#: Buckets of such a picture, at most and at least.
MOST: Final = 90
FEWEST: Final = 4
NOTHING: Final = "nothing to show"


def build(
    frame: Any,
    *,
    bot: str | None = None,
    gateway: str | None = None,
    chat_type: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    tz: str = "UTC",
    freq: str | None = None,
    title: str = "What the bots did",
) -> Report:
    """Measure everything for one page.

    Args:
        frame: Events, as `bot.events()` makes: the whole journal, of which it takes what is asked for.
        bot: Only this connection.
        gateway: Only this gateway.
        chat_type: Only ``private`` or ``group``.
        since: From this time on. Growth and retention are still counted over the whole frame: new means
            new to the journal.
        until: Before this time.
        tz: Zone of days and hours.
        freq: Bucket of what is drawn over time; default by the length of the range.
        title: Its heading.

    Raises:
        ConfigError: A column is missing, or there is no such zone.
    """
    wanted = {"bot": bot, "gateway": gateway, "chat_type": chat_type}
    every = nw.from_native(arrow(frame), eager_only=True)
    whole = _picked(every, {name: value for name, value in wanted.items() if value is not None})
    events = _between(whole, since, until)
    step = freq or freq_for(events)
    made = _Measured(events, tz=tz)
    kept = _Measured(_between(whole, None, until), tz=tz) if since else made
    broad = freq or _broad(made)
    sections = (
        Section(title="Volume", panels=_volume(made, step)),
        Section(title="People", panels=_people(made, kept, step)),
        Section(title="Latency", panels=_latency(made, broad)),
        Section(title="Conversations", panels=_conversations(made)),
        Section(title="Feedback", panels=_feedback(made)),
        Section(title="Tools and tokens", panels=_tools(made, step)),
        Section(title="Errors", panels=_errors(made, broad)),
        Section(title="Health", panels=_health(made)),
    )
    about = _about(made, wanted, since, until)
    return Report(title=title, about=about, tiles=_tiles(made), sections=sections)


class _Measured:
    """Metrics of one frame, each computed once.

    Args:
        events: The frame.
        tz: Zone.
    """

    def __init__(self, events: Any, *, tz: str) -> None:
        self.events = events
        self._prepared = prepare(events)
        self._tz = tz
        self._known: dict[tuple[Any, ...], Any] = {}

    def __call__(self, name: str, **options: Any) -> Any:
        """A metric by name."""
        key = (name, *sorted(options.items()))
        if key not in self._known:
            self._known[key] = getattr(metrics, name)(self._prepared, tz=self._tz, **options)
        return self._known[key]

    def row(self, name: str, **options: Any) -> dict[str, Any]:
        """The first row of a metric over the whole range; nothing where there is none."""
        rows = _rows(self(name, freq=None, **options))
        return rows[0] if rows else {}

    def facts(self) -> Facts:
        """What the frame says of itself."""
        found = facts(self("volume", freq=None))
        assert found is not None
        return found


def _broad(made: _Measured) -> str:
    """A bucket for rates and percentiles: about `ENOUGH` turns in each, if there are so many."""
    turns = made.row("response_latency").get("user_turns", 0)
    return freq_for(made.events, most=min(MOST, max(FEWEST, turns // ENOUGH)))


def _rows(data: Any) -> list[dict[str, Any]]:
    return list(nw.from_native(data, eager_only=True).iter_rows(named=True))


# -- the frame ------------------------------------------------------------------------------------


def _picked(table: nw.DataFrame[Any], wanted: dict[str, str]) -> nw.DataFrame[Any]:
    for name, value in wanted.items():
        if name not in table.columns:
            raise ConfigError(f"the events have no column {name!r}", hint="`bot.events()` has it.")
        keep = nw.col(name) == value
        table = table.filter(keep | nw.col("type").str.starts_with(LINKS) if name == "chat_type" else keep)
    return table


def _between(table: nw.DataFrame[Any], since: datetime | None, until: datetime | None) -> Any:
    for moment in (since, until):
        if moment is not None and moment.utcoffset() is None:
            raise ConfigError(f"{moment} has no time zone", hint="Write datetime(…, tzinfo=UTC).")
    terms = [nw.col("at") >= since.astimezone(UTC)] if since else []
    terms += [nw.col("at") < until.astimezone(UTC)] if until else []
    return (table.filter(*terms) if terms else table).to_native()


def _about(
    made: _Measured, wanted: dict[str, str | None], since: datetime | None, until: datetime | None
) -> tuple[str, ...]:
    known = made.facts()
    only = [f"{name.replace('_', ' ')} {value}" for name, value in wanted.items() if value]
    asked = [f"{word} {at:%Y-%m-%d %H:%M} UTC" for word, at in _asked(since, until)]
    lines = [f"Only {', '.join([*only, *asked])}."] if only or asked else []
    if known.since is None or known.as_of is None:
        return (*lines, "No events.")
    spans = [(gap.end - gap.start).total_seconds() for gap in known.gaps]
    gaps = f"{many(len(spans), 'gap')} of {seconds(sum(spans))}" if spans else "no gaps"
    first, last = (at.astimezone(ZoneInfo(known.tz)) for at in (known.since, known.as_of))
    return (
        *lines,
        f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} {known.tz}.",
        f"{many(known.rows, 'row')}, {many(known.duplicates, 'duplicate')} dropped, {gaps}.",
    )


def _asked(since: datetime | None, until: datetime | None) -> list[tuple[str, datetime]]:
    return [(word, at.astimezone(UTC)) for word, at in (("from", since), ("before", until)) if at]


# -- the sections ---------------------------------------------------------------------------------


def _panel(
    data: Any, metric: str, words: str = "", *, none: str = NOTHING, some: str = "", **options: Any
) -> Panel:
    """A picture, or the words for why there is none.

    Args:
        data: The metric frame.
        metric: Its name.
        words: A sentence below the picture.
        none: What stands in place of an empty picture.
        some: The column that must hold anything but 0; default any row does.
        **options: Of the picture.
    """
    values = [row.get(some, 1) for row in _rows(data)]
    if not any(value and not math.isnan(value) for value in values):
        return Panel(metric=metric, data=None, words=none)
    return Panel(metric=metric, data=data, words=words, options=options)


def _volume(made: _Measured, step: str) -> tuple[Panel, ...]:
    return (
        _panel(made("volume", freq=step), "volume", none="No messages.", some="messages"),
        _panel(made("hour_weekday"), "hour_weekday", none="No user messages.", some="messages"),
    )


def _people(made: _Measured, kept: _Measured, step: str) -> tuple[Panel, ...]:
    usual = freq_for(kept.events, usual="W")
    return (
        _panel(made("active_users", freq=step), "active_users", none="Nobody.", some="active"),
        _panel(
            kept("user_growth", freq=usual),
            "user_growth",
            "Over the whole journal: new means new to it.",
            none="Nobody new.",
            some="active",
        ),
        _panel(
            kept("retention", freq=usual),
            "retention",
            "Over the whole journal.",
            none="Nobody to come back.",
            some="users",
        ),
    )


def _latency(made: _Measured, step: str) -> tuple[Panel, ...]:
    none = "No answer was timed."
    return (
        _panel(made("response_latency", freq=step), "response_latency", none=none, some="n"),
        _panel(made("response_latency", ecdf=True), "response_latency", none=none),
        _panel(made("unanswered", freq=step), "unanswered", none="No user turns.", some="user_turns"),
    )


def _conversations(made: _Measured) -> tuple[Panel, ...]:
    none = "No conversation is over yet."
    return (
        _panel(made("conversation_length", histogram=True), "conversation_length", none=none),
        _panel(made("containment", freq=None), "containment", none=none, some="sessions"),
        _panel(made("first_response", histogram="log"), "first_response", none="No replies.", some="n"),
    )


def _feedback(made: _Measured) -> tuple[Panel, ...]:
    none = "No ratings."
    return (
        _panel(made("like_rate", by="bot", min_n=MIN_N), "like_rate", none=none, some="n"),
        _panel(made("feedback_changes"), "feedback_changes", none=none, some="changes"),
        _panel(made("dislike_reasons"), "dislike_reasons", none="No reasons.", some="named"),
        _panel(made("terms"), "terms", none="No term of 3 users or more."),
    )


def _tools(made: _Measured, step: str) -> tuple[Panel, ...]:
    return (
        _panel(made("tool_failures"), "tool_failures", none="No tool was called.", some="calls"),
        _panel(made("tokens", freq=step), "tokens", none="No tokens were told.", some="calls"),
    )


def _errors(made: _Measured, step: str) -> tuple[Panel, ...]:
    return (
        _panel(made("error_rate", freq=step), "error_rate", none="No turn was handled.", some="handled"),
        _panel(made("error_rate", split="error"), "error_rate", none="No errors.", some="failed"),
    )


def _health(made: _Measured) -> tuple[Panel, ...]:
    data = made("connection_health")
    return (_panel(data, "connection_health", none="No connection was seen.", some="connected_s"),)


# -- the tiles ------------------------------------------------------------------------------------


def _tiles(made: _Measured) -> tuple[Tile, ...]:
    said = {row["role"]: row["messages"] for row in _rows(made("volume", freq=None))}
    people, talk = made.row("active_users"), made.row("conversation_length")
    waits = made.row("response_latency")  # its first kind is `first`
    missed, broken = made.row("unanswered"), made.row("error_rate")
    liked, spent = made.row("like_rate", min_n=MIN_N), made.row("tokens")
    return (
        _tile("volume.user", "User messages", said.get("user", 0), _count),
        _tile("volume.assistant", "Bot messages", said.get("assistant", 0), _count),
        _tile("active_users.active", "People", people.get("active", 0), _count),
        _tile("conversation_length.n", "Conversations", talk.get("n", 0), _count, _open(talk)),
        _tile("conversation_length.turns_p50", "Turns, median", talk.get("turns_p50"), _plain),
        _tile("response_latency.p50_s", "Answer, median", waits.get("p50_s"), seconds, _timed(waits)),
        _tile("response_latency.p95_s", "Answer, 95 % within", waits.get("p95_s"), seconds),
        _rate("unanswered", "Without an answer", missed, "missed", hits="missed", of="user_turns"),
        _rate("like_rate", "Liked", liked, "like", hits="likes", of="n"),
        _tile("like_rate.coverage_rate", "Answers rated", liked.get("coverage_rate"), _share, _of(liked)),
        _rate("error_rate", "Turns with an error", broken, "failed", hits="failed", of="handled"),
        _tools_tile(made),
        _tile("tokens.tokens", "Tokens", spent.get("tokens", 0), _count, _calls(spent)),
        _link_tile(made),
    )


def _tile(
    name: str, title: str, number: float | None, words: Callable[[float], str], detail: str = ""
) -> Tile:
    known = math.nan if number is None else float(number)
    value = "–" if math.isnan(known) else words(known)
    return Tile(name=name, title=title, number=known, value=value, detail=detail)


def _rate(metric: str, title: str, row: dict[str, Any], name: str, *, hits: str, of: str) -> Tile:
    """A share with what it is a share of, and its interval."""
    whole, low, high = row.get(of, 0), row.get(f"{name}_low"), row.get(f"{name}_high")
    detail = f"{row.get(hits, 0):,} of {whole:,}" if whole else "nothing to divide by"
    if low is not None and not math.isnan(low):
        detail += f", {_share(low)} to {_share(high or 0.0)}"
    elif row.get("hidden"):
        detail += f", hidden below {MIN_N}"
    return _tile(f"{metric}.{name}_rate", title, row.get(f"{name}_rate"), _share, detail)


def _tools_tile(made: _Measured) -> Tile:
    rows = _rows(made("tool_failures"))
    failed, calls = (sum(row[name] for row in rows) for name in ("failed", "calls"))
    detail = f"of {calls:,} in {many(len(rows), 'tool')}" if calls else "no tool was called"
    return _tile("tool_failures.failed", "Tool calls failed", failed, _count, detail)


def _link_tile(made: _Measured) -> Tile:
    """The connection that was away longest."""
    rows = [row for row in _rows(made("connection_health")) if not math.isnan(row["connected_rate"])]
    worst = min(rows, key=lambda row: row["connected_rate"], default={})
    detail = f"{worst['bot']}: no gaps" if worst else ""
    if worst.get("gaps"):
        detail = f"{worst['bot']}: {many(worst['gaps'], 'gap')}, longest {seconds(worst['longest_gap_s'])}"
    name = "connection_health.connected_rate"
    return _tile(name, "Connected, at least", worst.get("connected_rate"), _share, detail)


def _open(talk: dict[str, Any]) -> str:
    return f"{talk['open']:,} more still open" if talk.get("open") else ""


def _timed(waits: dict[str, Any]) -> str:
    return f"{waits['n']:,} of {waits['user_turns']:,} turns timed" if waits else ""


def _of(liked: dict[str, Any]) -> str:
    return f"of {liked['answers']:,} that could be" if liked else ""


def _calls(spent: dict[str, Any]) -> str:
    return f"of {many(spent['calls'], 'call')}" if spent.get("calls") else ""


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _plain(value: float) -> str:
    return f"{value:.3g}"


def _share(value: float) -> str:
    return f"{value:.1%}"
