"""What the embedded LangBot remembers of its chats: monitoring rows, sessions, errors and ratings.

Rows look as each version writes them (protocols/langbot.md 5, 6): UTC without a zone, JSON inside
strings, session ids that leak an enum's name on 4.10.0 to 4.10.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botbook._clock import Clock
from botbook._local.query import Query
from botbook._local.replies import tokens
from botbook.wire.monitoring_rows import raw_session, utc_time

__all__ = ["BadQuery", "Era", "Place", "Records"]

#: 4.11 gives no more rows at once, and refuses a longer time.
_PAGE_ROWS: Final = 1000
_LONGEST: Final = timedelta(days=365)

#: Rows of one kind that are kept; older ones go.
_KEPT: Final = 20_000

_MODEL: Final = "fake-chat"
_TOKENS: Final = ("input_tokens", "output_tokens", "total_tokens")


class BadQuery(Exception):
    """A query that the server answers with status 500."""


@dataclass(frozen=True, slots=True)
class Era:
    """What a version does, by its number.

    Attributes:
        version: Such as ``4.11.2``.
    """

    version: str

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to compare."""
        return tuple(int(part) for part in self.version.split("."))

    @property
    def leaks_enum(self) -> bool:
        """Session ids of monitoring rows begin with an enum's name."""
        return self.number < (4, 10, 5)

    @property
    def authenticates(self) -> bool:
        """The chat asks for a token, and there are workspaces."""
        return self.number >= (4, 10, 7)

    @property
    def modern(self) -> bool:
        """4.11: runners, executions, API keys for monitoring, text codes."""
        return self.number >= (4, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message belongs.

    Attributes:
        bot_id: The bot; the chat of a pipeline itself is ``websocket-proxy-bot``.
        bot_name: Its name.
        pipeline_id: The pipeline.
        pipeline_name: Its name.
        platform: ``person`` or ``group``.
        session_id: Such as ``person_websocket_…``.
        user_id: Who speaks with the bot.
    """

    bot_id: str
    bot_name: str
    pipeline_id: str
    pipeline_name: str
    platform: str
    session_id: str
    user_id: str


class Records:
    """The tables.

    Args:
        era: Which version they look like.
        clock: Where times come from.
        new_id: Makes ids.
        workspace: Uuid; in every row from 4.10.7 on.
    """

    def __init__(self, era: Era, *, clock: Clock, new_id: Callable[[], str], workspace: str) -> None:
        self._era, self._clock, self._new_id, self._workspace = era, clock, new_id, workspace
        self._tables: dict[str, list[dict[str, Any]]] = {}
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        names = ("messages", "llm_calls", "tool_calls", "embedding_calls", "sessions", "errors", "feedback")
        self._tables = {name: [] for name in (*names, "items")}

    # ------------------------------------------------------------------------ what happens

    def question(self, place: Place, components: list[dict[str, Any]], number: int) -> str:
        """Somebody asks; returns the row's id."""
        now = self._clock.now()
        source = {"type": "Source", "id": number, "timestamp": int(now.timestamp())}
        row = self._message(place, "user", [source, *components])
        row["variables"] = json.dumps(
            {"launcher_type": place.platform, "session_id": place.session_id, "sender_name": "User"}
        )
        self._meet(place)
        return str(row["id"])

    def answer(
        self, place: Place, question: str, asked: str, text: str, *, seconds: float, streamed: bool
    ) -> None:
        """The model answers.

        Args:
            place: Where.
            question: Id of the question's row.
            asked: Its text.
            text: The answer.
            seconds: How long it took.
            streamed: 4.10.1 counts no tokens then.
        """
        counted = not (streamed and self._era.leaks_enum)
        used = (tokens(asked), tokens(text)) if counted else (0, 0)
        self._settle(question, "success")
        self._call(place, question, "success", seconds, used)
        row = self._message(place, "assistant", [{"type": "Plain", "text": text}])
        if self._era.modern:
            row["parent_message_id"] = question
        self._execution(place, question, asked, "success", seconds)
        self._meet(place)

    def failure(self, place: Place, question: str, asked: str, error: str, *, seconds: float) -> None:
        """The model fails."""
        self._settle(question, "error")
        self._call(place, question, "error", seconds, (0, 0), error)
        self._add("errors", self._row(
            place, error_type="PipelineError", error_message=error, message_id=question,
            stack_trace=f"Traceback (most recent call last):\n{error}",
        ))  # fmt: skip
        self._execution(place, question, asked, "error", seconds)

    def rate(
        self,
        kind: int,
        *,
        feedback_id: str,
        place: Place | None = None,
        bot: Mapping[str, str] | None = None,
        platform: str = "WecomBotAdapter",
        message_id: str = "",
        stream_id: str = "",
        content: str = "",
        reasons: Iterable[int] = (),
    ) -> None:
        """A rating: one row for an id, overwritten in place; a cancel deletes it.

        Args:
            kind: 1 like, 2 dislike, 3 cancel.
            feedback_id: Which rating.
            place: Of the answer, where the platform tells.
            bot: Its id, name and pipeline, where the platform tells no more.
            platform: Class of the adapter.
            message_id: The platform's id of the answer.
            stream_id: Id of the question's row.
            content: What the user wrote.
            reasons: Codes the user ticked.
        """
        rows = self._tables["feedback"]
        rows[:] = [row for row in rows if row["feedback_id"] != feedback_id]
        if kind == 3:
            return
        codes = [str(code) for code in reasons]
        where = self._row(place) if place else self._bare(bot or {})
        where.update(
            platform=platform,
            feedback_id=feedback_id,
            feedback_type=kind,
            feedback_content=content or None,
            inaccurate_reasons=json.dumps(codes) if codes else None,
            session_id=place.session_id if place else None,
            user_id=place.user_id if place else None,
            message_id=message_id or None,
            stream_id=stream_id or None,
        )
        self._add("feedback", where)

    # ------------------------------------------------------------------------ rows

    def _message(self, place: Place, role: str, components: list[dict[str, Any]]) -> dict[str, Any]:
        content = json.dumps(components, ensure_ascii=False)
        row = self._row(
            place, role=role, status="pending" if role == "user" else "success", level="info",
            platform=place.platform, user_id=place.user_id, user_name="User", message_content=content,
            variables=None, runner_name="plugin:labs/relay/relay" if self._era.modern else "local-agent",
        )  # fmt: skip
        if self._era.modern:
            row.update(event_id=None, parent_message_id=None, run_id=None, execution_owner_id=None)
        return self._add("messages", row)

    def _settle(self, question: str, status: str) -> None:
        for row in reversed(self._tables["messages"]):
            if row["id"] == question:
                row["status"], row["level"] = status, "info" if status == "success" else "error"
                return

    def _call(
        self, place: Place, question: str, status: str, seconds: float, used: tuple[int, int], error: str = ""
    ) -> None:
        row = self._row(
            place, model_name=_MODEL, status=status, duration=round(seconds * 1000), input_tokens=used[0],
            output_tokens=used[1], total_tokens=sum(used), cost=None, message_id=question,
            error_message=error or None,
        )  # fmt: skip
        if self._era.modern:
            row["details"] = {
                "usage": {"prompt_tokens": used[0], "completion_tokens": used[1]},
                "error": None,
            }
        self._add("llm_calls", row)

    def _execution(self, place: Place, question: str, asked: str, status: str, seconds: float) -> None:
        if not self._era.modern:
            return
        end = round(self._clock.now().timestamp() * 1000)
        start = end - round(seconds * 1000)
        row = self._row(
            place, source="pipeline", status=status,
            status_group="completed" if status == "success" else "failed", title=asked[:60],
            target_kind="pipeline", target_id=place.pipeline_id, target_name=place.pipeline_name,
            runner_id="plugin:labs/relay/relay", platform=place.platform, user_id=place.user_id,
            user_name="User", input_preview=asked[:200], debug=place.bot_id == "websocket-proxy-bot",
            has_error=status != "success", created_at_ms=start, started_at_ms=start, finished_at_ms=end,
            duration_ms=end - start, usage=None, cost=None,
        )  # fmt: skip
        self._add("items", {**row, "id": question})

    def _meet(self, place: Place) -> None:
        """The session of a message: made at its first, counted at each."""
        now = self._now()
        for row in self._tables["sessions"]:
            if (row["bot_id"], row["session_id"]) == (place.bot_id, self._session(place)):
                row["message_count"] += 1
                row["last_activity"] = now
                return
        row = self._row(
            place, platform=place.platform, user_id=place.user_id, user_name="User", is_active=True,
            message_count=0 if self._era.leaks_enum else 1, start_time=now, last_activity=now,
        )  # fmt: skip
        del row["id"], row["timestamp"]
        self._add("sessions", row)

    def _row(self, place: Place, **fields: Any) -> dict[str, Any]:
        return (
            self._bare(
                {
                    "bot_id": place.bot_id,
                    "bot_name": place.bot_name,
                    "pipeline_id": place.pipeline_id,
                    "pipeline_name": place.pipeline_name,
                    "session_id": self._session(place),
                }
            )
            | fields
        )

    def _bare(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        more = {"workspace_uuid": self._workspace} if self._era.authenticates else {}
        return {"id": self._new_id(), "timestamp": self._now(), **fields, **more}

    def _session(self, place: Place) -> str:
        return raw_session(place.session_id) if self._era.leaks_enum else place.session_id

    def _now(self) -> str:
        return self._clock.now().astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")

    def _add(self, name: str, row: dict[str, Any]) -> dict[str, Any]:
        rows = self._tables[name]
        rows.append(row)
        del rows[:-_KEPT]
        return row

    # ------------------------------------------------------------------------ asked

    def page(self, name: str, query: Query) -> dict[str, Any]:
        """One page of a list, newest first.

        Raises:
            BadQuery: A time cannot be read, or the window is too long for 4.11.
        """
        span = self._window(query)
        rows = [row for row in reversed(self._tables[name]) if self._fits(row, span, query)]
        limit, offset = self._number(query, "limit", 100), self._number(query, "offset", 0)
        if self._era.modern:
            limit = min(max(limit, 1), _PAGE_ROWS)
        cut = rows[offset:] if limit < 0 else rows[offset : offset + limit]
        page = {name: cut, "total": len(rows), "limit": limit, "offset": offset}
        return page | ({"has_more": offset + len(cut) < len(rows)} if name == "items" else {})

    def _number(self, query: Query, key: str, default: int) -> int:
        try:
            return int(query.get(key, default))
        except ValueError:
            if self._era.modern:
                return default
            raise BadQuery(f"invalid literal for int() with base 10: {query[key]!r}") from None

    @staticmethod
    def _fits(row: Mapping[str, Any], span: tuple[datetime | None, datetime | None], query: Query) -> bool:
        start, end = span
        when = utc_time(row.get("timestamp") or row.get("last_activity") or row.get("created_at_ms"))
        assert when is not None
        if (start is not None and when < start) or (end is not None and when > end):
            return False
        wanted = (("botId", "bot_id"), ("pipelineId", "pipeline_id"), ("sessionId", "session_id"))
        if any(key in query and row.get(column) not in query.all(key) for key, column in wanted):
            return False
        return "feedbackType" not in query or query["feedbackType"] == str(row.get("feedback_type"))

    def _window(self, query: Query) -> tuple[datetime | None, datetime | None]:
        start, end = (self._time(query, key) for key in ("startTime", "endTime"))
        if self._era.modern and start is not None:
            length = (end or self._clock.now()) - start
            if not timedelta() <= length <= _LONGEST:
                raise BadQuery("the time range is too long")
        return start, end

    @staticmethod
    def _time(query: Query, key: str) -> datetime | None:
        if not query.get(key):
            return None
        when = utc_time(query[key])
        if when is None:
            raise BadQuery(f"Invalid isoformat string: {query[key]!r}")
        return when

    def overview(self) -> dict[str, Any]:
        """The sums that the dashboard shows."""
        messages, calls = self._tables["messages"], self._tables["llm_calls"]
        good = sum(row["status"] == "success" for row in messages)
        return {
            "total_messages": len(messages),
            "llm_calls": len(calls),
            "embedding_calls": 0,
            "model_calls": len(calls),
            "success_rate": round(100 * good / len(messages), 2) if messages else 100,
            "active_sessions": len(self._tables["sessions"]),
        }

    def feedback_stats(self) -> dict[str, Any]:
        """Likes and dislikes."""
        rows = self._tables["feedback"]
        likes = sum(row["feedback_type"] == 1 for row in rows)
        bots: dict[str, dict[str, Any]] = {}
        for row in rows:
            bot = bots.setdefault(
                row["bot_id"],
                {"bot_id": row["bot_id"], "bot_name": row["bot_name"], "likes": 0, "dislikes": 0, "total": 0},
            )
            bot["likes" if row["feedback_type"] == 1 else "dislikes"] += 1
            bot["total"] += 1
        return {
            "total_feedback": len(rows),
            "total_likes": likes,
            "total_dislikes": len(rows) - likes,
            "satisfaction_rate": round(100 * likes / len(rows), 2) if rows else 0,
            "by_bot": list(bots.values()),
        }

    def token_statistics(self, bucket: str) -> dict[str, Any]:
        """Tokens in all, by model and over time."""
        calls = self._tables["llm_calls"]
        sums = {
            key: sum(row[key] for row in calls) for key in ("input_tokens", "output_tokens", "total_tokens")
        }
        errors = sum(row["status"] == "error" for row in calls)
        duration = sum(row["duration"] for row in calls) // len(calls) if calls else 0
        model = {"model_name": _MODEL, "calls": len(calls), **sums, "cost": 0.0, "error_calls": errors}
        return {
            "bucket": bucket,
            "summary": {
                "total_calls": len(calls), "success_calls": len(calls) - errors, "error_calls": errors,
                **{f"total_{key.removeprefix('total_')}": value for key, value in sums.items()},
                "total_cost": 0.0, "avg_duration_ms": duration,
            },
            "by_model": [{**model, "avg_duration_ms": duration}] if calls else [],
            "timeseries": self._series(bucket),
            "by_model_truncated": False,
            "timeseries_truncated": False,
        }  # fmt: skip

    def _series(self, bucket: str) -> list[dict[str, Any]]:
        points: dict[str, dict[str, Any]] = {}
        for row in self._tables["llm_calls"]:
            day, _, time = row["timestamp"].partition("T")
            name = f"{day} {time[:2]}:00" if bucket == "hour" else day
            point = points.setdefault(name, {"bucket": name, "calls": 0, **dict.fromkeys(_TOKENS, 0)})
            point["calls"] += 1
            for key in _TOKENS:
                point[key] += row[key]
        return list(points.values())

    def details(self, message_id: str) -> dict[str, Any] | None:
        """One message with its calls and errors."""
        message = next((row for row in self._tables["messages"] if row["id"] == message_id), None)
        if message is None:
            return None
        calls, errors = (
            [row for row in self._tables[name] if row["message_id"] == message_id]
            for name in ("llm_calls", "errors")
        )
        return {
            "found": True,
            "message_id": message_id,
            "message": message,
            "llm_calls": calls,
            "llm_stats": _stats(calls),
            "errors": errors,
        }

    def analysis(self, session_id: str) -> dict[str, Any]:
        """What happened in a session."""
        of = {
            name: [row for row in self._tables[name] if row["session_id"] == session_id]
            for name in ("sessions", "messages", "llm_calls", "errors")
        }
        if not of["sessions"]:
            return {"found": False, "session_id": session_id}
        states = [row["status"] for row in of["messages"]]
        counts = {state: states.count(state) for state in ("success", "error", "pending")}
        return {
            "found": True,
            "session_id": session_id,
            "session": of["sessions"][0],
            "message_stats": {"total": len(states), **counts},
            "llm_stats": _stats(of["llm_calls"]),
            "errors": of["errors"],
            "session_duration_seconds": 0,
        }


def _stats(calls: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "total_calls": len(calls),
        "success_calls": sum(row["status"] == "success" for row in calls),
        "error_calls": sum(row["status"] == "error" for row in calls),
        "total_input_tokens": sum(row["input_tokens"] for row in calls),
        "total_output_tokens": sum(row["output_tokens"] for row in calls),
        "total_tokens": sum(row["total_tokens"] for row in calls),
        "average_duration_ms": sum(row["duration"] for row in calls) // len(calls) if calls else 0,
    }
