"""What answers cost and what breaks: tokens, tools, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import narwhals as nw
import numpy as np

from botbook._errors import ConfigError
from botbook.metrics._columns import Columns
from botbook.metrics._counts import cells_of, rates, spread_groups, tally
from botbook.metrics._frame import MESSAGES, Rows, Strings, read
from botbook.metrics._kinds import codes, micros_of
from botbook.metrics._statistics import NAN, rate
from botbook.metrics._time import Buckets, micros, positive
from botbook.metrics._turns import IDLE_S, PAIRING, SHARPER, Turns, find_turns, grouped

__all__ = ["error_rate", "tokens", "tool_failures"]

#: Prices of a model: one, or several with the time from which each holds; per million tokens.
Price = float | Sequence[tuple[datetime, float]]
#: A turn, its handler, its error.
Trouble = tuple[int, str, str]
MILLION: Final = 1_000_000
TIMEOUTS: Final = ("timeout", "timed out", "deadline")
CANCELS: Final = ("cancel",)
SPLITS: Final = ("", "handler", "error")


def tokens(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
    prices: Mapping[str, Price] | float | None = None,
) -> Any:
    """Tokens, and with `prices` their cost, of all rows that tell how many they used.

    Calls that failed are apart, for they may still be billed. A call whose model has no price at
    that time has no cost: then the sum is NaN and `unpriced` counts such calls (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes; a column ``model`` of your own or of the gateway's
            monitoring allows ``by="model"``.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.
        prices: Per million tokens: one price, or model → price, or model → [(from when, price), …].

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, calls and tokens (that succeeded), failed_calls, failed_tokens, empty_calls (succeeded
        with 0 tokens), tokens_per_answer and tokens_per_user (all tokens by the group's bot messages,
        by its distinct users in the bucket), and with `prices` cost, failed_cost, unpriced.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    wants = ("error", "user_id", "model")
    needs = ["tokens", "role", *(["model"] if isinstance(prices, Mapping) else [])]
    rows = read(frame, metric="tokens", needs=needs, wants=wants, tz=tz, freq=freq, by=by, as_of=as_of)
    calls = rows.only(~nw.col("tokens").is_null(), nw.col("tokens") >= 0)
    failed = np.asarray((calls["error"] != "").to_numpy(), dtype=bool)
    used, empty = calls["tokens"].to_numpy(), np.asarray((calls["tokens"] == 0).to_numpy(), dtype=bool)
    cut = rows.buckets()
    groups, keys = grouped(rows, [calls[name].to_list() for name in rows.by], len(calls))
    cells = cells_of(cut, micros_of(calls), keys)
    order = [(slot, group) for slot in range(len(cut or ())) for group in groups]
    every = [np.array(cells.get(cell, []), dtype=np.int64) for cell in order]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by], groups, cut)
    made.count("calls", [np.sum(~failed[cell]) for cell in every])
    made.count("tokens", [used[cell][~failed[cell]].sum() for cell in every])
    made.count("failed_calls", [failed[cell].sum() for cell in every])
    made.count("failed_tokens", [used[cell][failed[cell]].sum() for cell in every])
    made.count("empty_calls", [np.sum(empty[cell] & ~failed[cell]) for cell in every])
    _per_head(made, rows, cut, order, [float(used[cell].sum()) for cell in every])
    unpriced = _cost(made, calls, used, failed, every, prices) if prices is not None else 0
    notes = [f"{unpriced:,} calls without a price"] if unpriced else []
    return rows.give(made, used=len(calls), notes=notes, numbers={"unpriced": unpriced})


def _per_head(
    made: Columns,
    rows: Rows,
    cut: Buckets | None,
    order: list[tuple[int, tuple[str, ...]]],
    totals: list[float],
) -> None:
    said = rows.messages().filter(nw.col("role") == "assistant")
    people = rows.only(nw.col("role") == "user", nw.col("user_id") != "", nw.col("type").is_in(MESSAGES))
    people = people.with_columns(user=codes(people, "gateway", "user_id"))
    heads = {
        "answer": tally(said, cut, [*rows.by]),
        "user": tally(people, cut, [*rows.by], distinct="user"),
    }
    for name, found in heads.items():
        of = [found.get((slot, *group), 0) for slot, group in order]
        made.number(f"tokens_per_{name}", [rate(total, n) for total, n in zip(totals, of, strict=True)])


def _cost(
    made: Columns,
    calls: nw.DataFrame[Any],
    used: Any,
    failed: Any,
    cells: list[Any],
    prices: Mapping[str, Price] | float,
) -> int:
    models = calls["model"].to_list()
    price = np.array(
        [_price(prices, model, at) for model, at in zip(models, micros_of(calls).tolist(), strict=True)]
    )
    cost = used * price / MILLION if len(calls) else used
    made.number("cost", [cost[cell][~failed[cell]].sum() for cell in cells])
    made.number("failed_cost", [cost[cell][failed[cell]].sum() for cell in cells])
    made.count("unpriced", [np.isnan(price[cell]).sum() if len(cell) else 0 for cell in cells])
    return int(np.isnan(price).sum())


def _price(prices: Mapping[str, Price] | float, model: str, at_us: int) -> float:
    """What a million tokens cost then; NaN if nobody knows."""
    found = prices.get(model, NAN) if isinstance(prices, Mapping) else prices
    if isinstance(found, int | float):
        return float(found)
    known = [(micros(since), float(price)) for since, price in found]
    return max((pair for pair in known if pair[0] <= at_us), default=(0, NAN))[1]


def tool_failures(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = None,
    by: Strings = (),
    as_of: datetime | None = None,
) -> Any:
    """Share of tool calls that failed, a tool a row.

    The denominator is calls that came to an end: ok and failed. Cancelled ones are out, timeouts are a
    reason of failing; calls whose result never came are counted apart (bots.md 3c).

    Args:
        frame: Events of an agent, as `bot.events()` makes: ``agent.tool_call`` and
            ``agent.tool_result`` name the tool in ``user_name``.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket.
        by: More columns to group by.
        as_of: Leave out what happened later; default the time of the last row.

    Returns:
        One row per bucket, group and tool: start, end, bucket, hours, gap_s, unfinished, the columns
        of `by`, tool, calls (ok and failed), ok, failed, failed_rate, failed_low, failed_high (Wilson
        95 %), timeouts (of the failed), cancelled, no_result.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    needs = ["user_name", "error"]
    rows = read(frame, metric="tool_failures", needs=needs, tz=tz, freq=freq, by=by, as_of=as_of)
    table = rows.only(nw.col("type").is_in(["agent.tool_call", "agent.tool_result"]))
    call = np.asarray((table["type"] == "agent.tool_call").to_numpy(), dtype=bool)
    errors = [text.lower() for text in table["error"].to_list()]
    cancelled = ~call & np.array([_says(text, CANCELS) for text in errors], dtype=bool)
    failed = ~call & ~cancelled & np.array([text != "" for text in errors], dtype=bool)
    late = failed & np.array([_says(text, TIMEOUTS) for text in errors], dtype=bool)
    names = [*rows.by, "user_name"]
    keys: list[tuple[str, ...]] = list(table.select(*names).iter_rows())
    groups, cut = sorted(set(keys)), rows.buckets()
    cells = cells_of(cut, micros_of(table), keys)
    order = [(slot, group) for slot in range(len(cut or ())) for group in groups]
    every = [np.array(cells.get(cell, []), dtype=np.int64) for cell in order]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by, "tool"], groups, cut)
    done = [cell[~call[cell] & ~cancelled[cell]] for cell in every]
    counts = [(int(failed[cell].sum()), len(cell)) for cell in done]
    made.count("calls", [of for _, of in counts]).count("ok", [of - hits for hits, of in counts])
    rates(made.count("failed", [hits for hits, _ in counts]), "failed", counts)
    made.count("timeouts", [late[cell].sum() for cell in every])
    made.count("cancelled", [cancelled[cell].sum() for cell in every])
    open_ = call & ~_has_result(table, call)
    made.count("no_result", [open_[cell].sum() for cell in every])
    return rows.give(
        made, used=sum(of for _, of in counts), numbers={"no_result": int(open_.sum())}, by=["tool"]
    )


def _says(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)


def _has_result(table: nw.DataFrame[Any], call: Any) -> Any:
    """For each row whether a result has its call id."""
    ids = codes(table, "gateway", "bot", "chat_id", "message_id").to_numpy()
    found: Any = np.isin(ids, ids[~call])
    return found


def error_rate(
    frame: Any,
    *,
    tz: str = "UTC",
    freq: str | None = "D",
    by: Strings = (),
    as_of: datetime | None = None,
    idle: float = IDLE_S,
    split: Literal["", "handler", "error"] = "",
) -> Any:
    """Share of handled turns with an error that nobody caught.

    A turn is handled when it was answered or when its handler failed; it has an error when a
    ``handler.failed`` row names one of its messages or when its answer carries one. A turn counts once
    however often it fails (bots.md 3c).

    Args:
        frame: Events, as `bot.events()` makes.
        tz: Zone of the buckets.
        freq: ``h``, ``D``, ``W``, ``M``, or None for one bucket; turns are booked to their question.
        by: Columns to group by.
        as_of: Leave out what happened later; default the time of the last row.
        idle: Longest silence within a turn, in seconds.
        split: ``handler`` or ``error``: one row for each handler or kind of error, most first, in
            place of buckets and groups.

    Returns:
        One row per bucket and group: start, end, bucket, hours, gap_s, unfinished, the columns of
        `by`, handled, failed, failed_rate, failed_low, failed_high (Wilson 95 %). With `split` one
        row for each: the handler or error, handled, failed, and the same.

    Raises:
        ConfigError: A column is missing, or a parameter is wrong.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"split={split!r} is neither handler nor error", hint='For example split="handler".'
        )
    wants = (*SHARPER, "text")
    needs = [*PAIRING, "error"]
    rows = read(
        frame,
        metric="error_rate",
        needs=needs,
        wants=wants,
        tz=tz,
        freq=None if split else freq,
        by=() if split else by,
        as_of=as_of,
    )
    turns = find_turns(rows, idle=positive("idle", idle))
    troubles, loose = rows.once("troubles", idle, make=lambda rows: _troubles(rows, turns))
    failed = np.zeros(len(turns.answered), dtype=bool)
    failed[[turn for turn, _, _ in troubles]] = True
    handled = turns.answered | failed
    notes = [f"{loose:,} errors belong to no turn"] if loose else []
    if split:
        made = _split(troubles, int(handled.sum()), split)
        numbers = {"loose": loose}
        return rows.give(made, used=int(handled.sum()), notes=notes, numbers=numbers, by=[split])
    groups, keys = grouped(rows, [turns.column(name) for name in rows.by], len(failed))
    cut = rows.buckets()
    cells = cells_of(cut, turns.asked_us, keys)
    order = [(slot, group) for slot in range(len(cut or ())) for group in groups]
    every = [np.array(cells.get(cell, []), dtype=np.int64) for cell in order]
    made = rows.bucketed(cut, times=len(groups))
    spread_groups(made, [*rows.by], groups, cut)
    counts = [(int(failed[cell].sum()), int(handled[cell].sum())) for cell in every]
    made.count("handled", [of for _, of in counts])
    rates(made.count("failed", [hits for hits, _ in counts]), "failed", counts)
    return rows.give(made, used=int(handled.sum()), notes=notes, numbers={"loose": loose})


def _troubles(rows: Rows, turns: Turns) -> tuple[list[Trouble], int]:
    """Errors with the turn of each, and how many have none."""
    found: list[Trouble] = []
    talk = turns.talk
    errors, anchors = talk["error"].to_list(), turns.anchor
    for position in [k for k, text in enumerate(errors) if text and anchors[k] >= 0]:
        turn = int(turns.of_question(np.array([anchors[position]]))[0])
        found.append((turn, "answer", _kind(errors[position])))
    places = _questions(talk)
    loose = sum(1 for k, text in enumerate(errors) if text and anchors[k] < 0)
    failures = rows.only(nw.col("type") == "handler.failed")
    for gateway, bot, question, handler, error in failures.select(
        "gateway", "bot", "reply_to", "text", "error"
    ).iter_rows():
        place = places.get((gateway, bot, question)) if question else None
        if place is None:
            loose += 1
        else:
            turn = int(turns.of_question(np.array([place]))[0])
            found.append((turn, handler, _kind(error)))
    return found, loose


def _questions(talk: nw.DataFrame[Any]) -> dict[tuple[str, str, str], int]:
    """Position of each user message by its message id and, better, by its event id."""
    places: dict[tuple[str, str, str], int] = {}
    for name in ("message_id", "event_id"):
        columns = talk.select("gateway", "bot", name, "role").iter_rows()
        for position, (gateway, bot, ident, role) in enumerate(columns):
            if role == "user" and ident:
                places[gateway, bot, ident] = position
    return places


def _kind(error: str) -> str:
    """The name of an error, which stands before its first colon."""
    return error.split(":", 1)[0].strip().splitlines()[0][:80] if error.strip() else "unknown"


def _split(troubles: list[Trouble], handled: int, split: str) -> Columns:
    turns: dict[str, set[int]] = {}
    for turn, handler, kind in troubles:
        turns.setdefault(handler if split == "handler" else kind, set()).add(turn)
    names = sorted(turns, key=lambda name: (-len(turns[name]), name))
    counts = [(len(turns[name]), handled) for name in names]
    made = Columns().text(split, names).count("handled", [of for _, of in counts])
    return rates(made.count("failed", [hits for hits, _ in counts]), "failed", counts)
