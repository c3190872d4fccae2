"""LangBot's monitoring and resources as frames: `bot.monitoring`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, TypedDict, Unpack

from botbook._clock import Clock
from botbook._data.filters import Moment, time_of
from botbook._errors import BotbookError, LocalProtocolError, NotSupported
from botbook._langbot import Do, LangBot, LangBotCalls, typed_frame
from botbook._net.http import Rest
from botbook.events import Event
from botbook.wire.contract import HttpRequest, Wire
from botbook.wire.langbot import LangBotWire
from botbook.wire.langbot_rest import LangBotRest
from botbook.wire.monitoring import WINDOW, Page, Resources, empty_notice
from botbook.wire.monitoring_feedback import feedback_changes
from botbook.wire.monitoring_rows import Row, raw_session
from botbook.wire.monitoring_tables import TABLES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FeedbackWatch", "Filter", "Monitoring", "Progress", "langbot_side"]

log = logging.getLogger("botbook")

#: Told how a list gets on: its name, rows so far, rows in all or None where that is not known.
Progress = Callable[[str, int, int | None], None]

#: The server's clock may be ahead of ours by so much: newer rows still count.
_AHEAD: Final = timedelta(days=1)


class Filter(TypedDict, total=False):
    """What lists are narrowed by.

    Keys:
        since: From this time on: a datetime with zone, or ``15s``, ``30m``, ``1h``, ``2d`` ago; default all
            that the server keeps, which is 30 days unless it was told otherwise.
        until: To this time.
        limit: Only the newest so many.
        bots: Uuids of bots; the chat of a pipeline itself is ``websocket-proxy-bot``.
        pipelines: Uuids of pipelines.
        sessions: Session ids, for messages and tool calls.
        where: Other filters by the server's own names, such as ``{"feedbackType": "2"}``.
        progress: Told how it gets on, in place of `Monitoring.progress`.
    """

    since: Moment | None
    until: Moment | None
    limit: int | None
    bots: Sequence[str]
    pipelines: Sequence[str]
    sessions: Sequence[str]
    where: Mapping[str, str | Sequence[str]]
    progress: Progress | None


class Monitoring:
    """Lists of a LangBot server as frames with typed columns: times in UTC, JSON parsed, newest row first.

    Each method returns its result, or an awaitable of it on an `AsyncBot`. A list without rows on a
    server that is well says why in ``attrs["note"]``. A user token opens all of it; an API key opens
    messages, calls, sessions, errors, bots, logs and the resources on LangBot 4.11, and bots, logs,
    extensions and knowledge bases before (protocols/langbot.md 5, 9).

    Args:
        calls: Makes REST calls.
        rest: Writes them.
        do: Waits for a coroutine, or hands it on.
        clock: Time.

    Attributes:
        progress: Told how a long list gets on, or None.
    """

    def __init__(self, calls: LangBotCalls, rest: LangBotRest, *, do: Do, clock: Clock) -> None:
        self.progress: Progress | None = None
        self._calls, self._rest, self._do, self._clock = calls, rest, do, clock
        self._resources = Resources(rest)

    # What was said and done

    def messages(self, **filters: Unpack[Filter]) -> Any:
        """Questions and answers, one a row; `text` is the chain as text."""
        return self._do(self._listed("messages", filters))

    def llm_calls(self, **filters: Unpack[Filter]) -> Any:
        """Calls of models; `duration` in milliseconds."""
        return self._do(self._listed("llm_calls", filters))

    def tool_calls(self, **filters: Unpack[Filter]) -> Any:
        """Calls of tools; `duration` in milliseconds. LangBot 4.10.5 and later."""
        return self._do(self._listed("tool_calls", filters))

    def embedding_calls(self, **filters: Unpack[Filter]) -> Any:
        """Calls of embedding models; `duration` in milliseconds."""
        return self._do(self._listed("embedding_calls", filters))

    def sessions(self, **filters: Unpack[Filter]) -> Any:
        """Sessions, by their last activity."""
        return self._do(self._listed("sessions", filters))

    def errors(self, **filters: Unpack[Filter]) -> Any:
        """Errors of pipelines, with their stack traces."""
        return self._do(self._listed("errors", filters))

    def feedback(self, **filters: Unpack[Filter]) -> Any:
        """Ratings that stand: `feedback_type` 1 like, 2 dislike. What was taken back is not listed."""
        return self._do(self._listed("feedback", filters))

    def executions(self, **filters: Unpack[Filter]) -> Any:
        """Runs of pipelines and agents; `duration_ms` in milliseconds. LangBot 4.11 and later."""
        return self._do(self._listed("executions", filters))

    def details(self, message_id: str) -> Any:
        """One message with its calls and errors, as a dict; None if there is none such."""
        return self._do(self._calls(self._resources.details(message_id)))

    def session_analysis(self, session_id: str) -> Any:
        """What happened in a session, as a dict; None if there is none such."""
        return self._do(self._driven(self._resources.session_analysis(session_id)))

    # Sums

    def overview(self) -> Any:
        """Messages, calls, success rate in per cent and active sessions, as one row."""
        return self._do(self._one_row(self._resources.overview()))

    def token_statistics(
        self,
        *,
        bucket: Literal["hour", "day"] = "day",
        by: Literal["time", "model"] = "time",
        since: Moment | None = None,
        until: Moment | None = None,
    ) -> Any:
        """Tokens over time, or by model; ``attrs["summary"]`` has the sums. LangBot 4.10.2 and later.

        Args:
            bucket: Width of a row of time.
            by: ``time`` or ``model``.
            since: From this time on, as for lists.
            until: To this time.
        """
        start, end = self._span(since, until)
        request = self._resources.token_statistics(bucket=bucket, since=start, until=end)
        return self._do(self._tokens(request, by))

    def feedback_stats(self) -> Any:
        """Likes and dislikes by bot; ``attrs["summary"]`` has the sums. Those taken back are in neither."""
        return self._do(self._feedback_stats())

    # The server

    def bots(self) -> Any:
        """The bots of the server."""
        return self._do(self._resource("bots", self._resources.bots()))

    def logs(self, bot: str, *, limit: int = 200) -> Any:
        """The log of a bot; the server keeps 200 rows, in memory.

        Args:
            bot: Its uuid.
            limit: Only the newest so many.
        """
        return self._do(self._log(bot, limit))

    def box_status(self) -> Any:
        """Whether sandboxes can be had, and why not, as one row."""
        return self._do(self._one_row(self._resources.box_status()))

    def box_sessions(self) -> Any:
        """Sandboxes that run."""
        return self._do(self._resource("box_sessions", self._resources.box_sessions()))

    def box_errors(self) -> Any:
        """The last errors of the sandboxes."""
        return self._do(self._resource("box_errors", self._resources.box_errors()))

    def extensions(self) -> Any:
        """Plugins, MCP servers and skills."""
        return self._do(self._resource("extensions", self._resources.extensions()))

    def knowledge_bases(self) -> Any:
        """The knowledge bases."""
        return self._do(self._resource("knowledge_bases", self._resources.knowledge_bases()))

    def knowledge_files(self, base: str) -> Any:
        """The files of a knowledge base, by its uuid."""
        return self._do(self._resource("knowledge_files", self._resources.knowledge_files(base)))

    def retrieve(self, base: str, query: str, *, settings: Mapping[str, Any] | None = None) -> Any:
        """What a knowledge base finds, best first.

        Args:
            base: Its uuid.
            query: Not empty.
            settings: For its engine.
        """
        request = self._resources.retrieve(base, query, settings=settings)
        return self._do(self._resource("retrieved", request))

    def add_file(self, base: str, path: str | Path) -> Any:
        """Upload a document and put it into a knowledge base, which reads it in its own time.

        Args:
            base: Uuid of the knowledge base.
            path: The file.

        Returns:
            The server's name of the work.

        Raises:
            LocalProtocolError: It cannot be read, or is above 10 MB.
        """
        return self._do(self._add_file(base, Path(path)))

    def era(self) -> Any:
        """What kind of server it is, as a `botbook.wire.monitoring.Era`, found by asking."""
        return self._do(self._driven(self._resources.era()))

    # How it is done

    async def rows(self, name: str, filters: Filter) -> list[Row]:
        """All rows of a list, typed, newest first."""
        since, until = self._span(filters.get("since"), filters.get("until"))
        where = dict(filters.get("where", {}))
        if sessions := filters.get("sessions"):  # older servers know them by another name, too
            where["sessionId"] = [name for one in sessions for name in (one, raw_session(one))]
        steps = self._resources.rows(
            name,
            since=since,
            until=until,
            limit=filters.get("limit"),
            bots=filters.get("bots", ()),
            pipelines=filters.get("pipelines", ()),
            where=where,
        )
        known = since is None or until is None or until - since <= WINDOW
        tell = filters.get("progress", self.progress)
        rows: list[Row] = await self._driven(steps, name=name, tell=tell, known=known)
        return rows

    def _span(self, since: Moment | None, until: Moment | None) -> tuple[datetime | None, datetime | None]:
        """Both ends of a time; a start needs an end, for 4.11 refuses more than a year at once."""
        now = self._clock.now
        end = None if until is None else time_of(until, now=now)
        if since is None:
            return None, end
        return time_of(since, now=now), end or now() + _AHEAD

    async def _driven(
        self,
        steps: Generator[HttpRequest, Any, Any],
        *,
        name: str = "",
        tell: Progress | None = None,
        known: bool = False,
    ) -> Any:
        """Make the calls of a flow, one after another."""
        done = 0
        try:
            request = next(steps)
            while True:
                value = await self._calls(request)
                if tell is not None and isinstance(value, Page):
                    done += len(value.rows)
                    tell(name, done, value.total if known else None)
                request = steps.send(value)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    async def _listed(self, name: str, filters: Filter) -> pd.DataFrame:
        return _frame(name, await self.rows(name, filters))

    async def _resource(self, name: str, request: HttpRequest) -> pd.DataFrame:
        return _frame(name, await self._calls(request))

    async def _log(self, bot: str, limit: int) -> pd.DataFrame:
        return _frame("logs", await self._driven(self._resources.logs(bot, limit=limit)))

    async def _one_row(self, request: HttpRequest) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([await self._calls(request) or {}])

    async def _tokens(self, request: HttpRequest, by: str) -> pd.DataFrame:
        found = await self._calls(request)
        name, rows = ("models", "by_model") if by == "model" else ("token_series", "timeseries")
        frame = _frame(name, found[rows])
        frame.attrs["summary"] = found["summary"]
        return frame

    async def _feedback_stats(self) -> pd.DataFrame:
        import pandas as pd

        found = dict(await self._calls(self._resources.feedback_stats()) or {})
        frame = pd.DataFrame(found.pop("by_bot", []))
        frame.attrs["summary"] = found
        return frame

    async def _add_file(self, base: str, path: Path) -> Any:
        try:
            data = await asyncio.to_thread(path.read_bytes)
        except OSError as error:
            raise LocalProtocolError(
                f"{path} cannot be read: {error.strerror}", hint="Check the path."
            ) from None
        file_id = await self._calls(self._rest.upload_document(path.name, data))
        return await self._calls(self._resources.add_file(base, file_id))


def _frame(name: str, rows: Sequence[Row]) -> pd.DataFrame:
    """Rows of a list; one without rows says what that may mean."""
    frame = typed_frame(TABLES[name].columns, rows)
    if not rows:
        frame.attrs["note"] = empty_notice(name)
        log.info("%s", frame.attrs["note"])
    return frame


def langbot_side(
    wire: Wire, rest: Rest, *, api_key: str = "", do: Do, clock: Clock
) -> tuple[LangBot, Monitoring]:
    """What a LangBot connection can do besides chatting: `bot.langbot` and `bot.monitoring`.

    Args:
        wire: Of the connection.
        rest: Makes its REST calls.
        api_key: The API key, or "".
        do: Waits for a coroutine, or hands it on.
        clock: Time.

    Raises:
        NotSupported: It is a connection to another gateway.
    """
    if not isinstance(wire, LangBotWire):
        raise NotSupported("monitoring", wire.gateway, hint="Connect to `langbot` for that.")
    calls = LangBotCalls(rest, user=wire.token_request() is not None, api_key=api_key)
    return LangBot(calls, wire, do=do, clock=clock), Monitoring(calls, wire.rest, do=do, clock=clock)


class FeedbackWatch:
    """Polls the ratings and tells what is new, changed, or was taken back.

    The server deletes a rating that is taken back, so that only a poll before and a poll after show
    it (protocols/langbot.md 6). What was taken back while nobody polled is not seen.

    Args:
        monitoring: The lists.
        publish: Keeps events; what it has already is left out there by their ids.
        gateway: Name of the gateway.
        bot: Name of the connection.
        clock: Time.
        every: Seconds between polls.
        window: How far back ratings count.

    Attributes:
        polls: Polls that went well.
        error: Why the last one did not, or "".
    """

    def __init__(
        self,
        monitoring: Monitoring,
        publish: Callable[[Sequence[Event]], Awaitable[None]],
        *,
        gateway: str,
        bot: str,
        clock: Clock,
        every: float = 30.0,
        window: timedelta = timedelta(days=7),
    ) -> None:
        self.polls = 0
        self.error = ""
        self._monitoring, self._publish, self._clock = monitoring, publish, clock
        self._names = {"gateway": gateway, "bot": bot}
        self._every, self._window = every, window
        self._before: dict[str, Row] = {}

    async def run(self) -> NoReturn:
        """Poll for ever. A poll that fails is made again; `error` says why."""
        while True:
            try:
                await self.poll()
            except BotbookError as error:
                if not self.error:
                    log.warning("ratings could not be polled: %s", error)
                self.error = str(error)
            await self._clock.sleep(self._every)

    async def poll(self) -> int:
        """Poll once. Returns how many events came of it.

        Raises:
            BotbookError: The server cannot be asked.
        """
        since = self._clock.now() - self._window
        rows = await self._rows(since)
        events, self._before = feedback_changes(
            self._before, rows.values(), at=self._clock.now(), since=since, **self._names
        )
        if events:
            await self._publish(events)
        self.polls, self.error = self.polls + 1, ""
        return len(events)

    async def _rows(self, since: datetime) -> dict[str, Row]:
        """The ratings by id. One is gone if it is missing twice: pages may shift while they are read."""
        rows = await self._look(since)
        if not self._before.keys() <= rows.keys():
            rows |= await self._look(since)
        return rows

    async def _look(self, since: datetime) -> dict[str, Row]:
        found = await self._monitoring.rows("feedback", {"since": since, "progress": None})
        return {row["feedback_id"]: row for row in found if row["feedback_id"]}
