"""LangBot's monitoring and resources: requests, paging, and telling versions apart.

A flow is a generator of requests: it is sent the value of each (`HttpRequest.read`) and returns the
rows. So it knows nothing of the net, and whoever drives it can show how far it is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

from botbook._errors import ApiError, NotSupported
from botbook.wire.contract import HttpRequest, Response
from botbook.wire.langbot_bodies import object_field, read_data, rows_of
from botbook.wire.langbot_rest import LangBotRest
from botbook.wire.monitoring_rows import Row, raw_session, read_rows
from botbook.wire.monitoring_tables import TABLES, Table

__all__ = [
    "PAGE_ROWS",
    "WINDOW",
    "Era",
    "Flow",
    "Page",
    "Resources",
    "empty_notice",
    "windows",
]

#: Rows of one page; 4.11 gives no more (protocols/langbot.md 5).
PAGE_ROWS: Final = 1000

#: 4.11 refuses a start more than 365 days before the end.
WINDOW: Final = timedelta(days=364)

#: 4.11 counts no further.
_LAST_OFFSET: Final = 1_000_000

#: Newest rows that a bot's log keeps.
_LOG_ROWS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a list.

    Attributes:
        rows: Newest first.
        total: How many the server has for this query; None if it does not tell.
    """

    rows: list[Row]
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """What kind of server it is, found by asking (protocols/langbot.md 1).

    Attributes:
        version: As the server tells it, or "".
        workspaces: 4.10.7 and later: a chat has to authenticate.
        executions: 4.11 and later.
    """

    version: str
    workspaces: bool
    executions: bool


Flow = Generator[HttpRequest, Any, list[Row]]


def windows(
    since: datetime, until: datetime, *, width: timedelta = WINDOW
) -> Iterator[tuple[datetime, datetime]]:
    """Cut a time into windows that every version takes, newest first.

    Both ends of a window belong to it; neighbours are a microsecond apart.

    Args:
        since: Start, with zone.
        until: End, with zone.
        width: Longest window.
    """
    while until >= since:
        start = max(since, until - width)
        yield start, until
        until = start - timedelta(microseconds=1)


class Resources:
    """Requests and flows for one server.

    Args:
        rest: Its REST side.
    """

    def __init__(self, rest: LangBotRest) -> None:
        self._rest = rest

    # ------------------------------------------------------------------------ lists

    def page(
        self,
        name: str,
        *,
        limit: int = PAGE_ROWS,
        offset: int = 0,
        since: datetime | None = None,
        until: datetime | None = None,
        bots: Sequence[str] = (),
        pipelines: Sequence[str] = (),
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> HttpRequest:
        """One page of a monitoring list; reads as a `Page`.

        Args:
            name: Of the table.
            limit: Rows of the page.
            offset: Rows to leave out.
            since: Start, with zone; both ends belong to it.
            until: End, with zone.
            bots: Uuids; "" for all.
            pipelines: Uuids; "" for all.
            where: Other filters, by the server's names, such as ``{"feedbackType": "1"}``.
        """
        table = TABLES[name]
        query = [("limit", str(limit)), ("offset", str(offset))]
        query += [(key, _iso(at)) for key, at in (("startTime", since), ("endTime", until)) if at is not None]
        query += [("botId", bot) for bot in bots] + [("pipelineId", pipeline) for pipeline in pipelines]
        for key, value in (where or {}).items():
            query += [(key, one) for one in ([value] if isinstance(value, str) else value)]

        def read(data: Any) -> Page:
            total = object_field(data, "total")
            return Page(rows=read_rows(name, rows_of(data, table.field)), total=_count(total))

        return self._get(table, table.path, query=query, read=read)

    def rows(
        self,
        name: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        page_rows: int = PAGE_ROWS,
        bots: Sequence[str] = (),
        pipelines: Sequence[str] = (),
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> Flow:
        """All rows of a monitoring list, window by window and page by page, newest first, none twice.

        Args:
            name: Of the table.
            since: Start, with zone; None for all the server keeps.
            until: End, with zone; rows made while it pages are left out if it is given.
            limit: At most so many rows.
            page_rows: Rows of a page.
            bots: Uuids.
            pipelines: Uuids.
            where: Other filters, by the server's names.
        """
        spans: Iterable[tuple[datetime | None, datetime | None]] = [(since, until)]
        if since is not None and until is not None:
            spans = windows(since, until)
        seen: dict[Any, Row] = {}
        for start, end in spans:
            offset = 0
            while limit is None or len(seen) < limit:
                size = page_rows if limit is None else min(page_rows, limit - len(seen))
                page: Page = yield self.page(
                    name, limit=size, offset=offset, since=start, until=end, bots=bots, pipelines=pipelines,
                    where=where,
                )  # fmt: skip
                new = _add(seen, name, page.rows)
                offset += len(page.rows)
                if not page.rows or (page.total is not None and offset >= page.total):
                    break
                if offset >= _LAST_OFFSET:
                    end, offset = _oldest(TABLES[name], page.rows) or end, 0
                    if not new:
                        break
        return list(seen.values())[:limit]

    def logs(self, bot: str, *, limit: int = _LOG_ROWS) -> Flow:
        """The log of a bot, newest first; the server keeps 200 rows, in memory.

        Args:
            bot: Uuid.
            limit: At most so many rows.
        """
        seen: dict[Any, Row] = {}
        last, size = -1, 50
        while len(seen) < limit:
            rows: list[Row] = yield self._log_page(bot, last, min(size, limit - len(seen)))
            new = _add(seen, "logs", sorted(rows, key=lambda row: -(row["seq_id"] or 0)))
            last = min((row["seq_id"] for row in rows if row["seq_id"] is not None), default=0) - 1
            if last < 0 or not new:
                break
        return list(seen.values())

    def _log_page(self, bot: str, last: int, count: int) -> HttpRequest:
        """Up to `count` rows that end with number `last`; -1 is the newest."""
        table = TABLES["logs"]
        return self._rest.request(
            "POST", f"{table.path}/{quote(bot, safe='')}/logs", call="logs", repeatable=True,
            json={"from_index": last, "max_count": count},
            read=lambda data: read_rows("logs", rows_of(data, table.field)),
        )  # fmt: skip

    def bots(self) -> HttpRequest:
        """The bots; the chat of a pipeline itself is booked under ``websocket-proxy-bot``, not listed."""
        return self._list("bots")

    def box_sessions(self) -> HttpRequest:
        """Sandboxes that run."""
        return self._list("box_sessions")

    def box_errors(self) -> HttpRequest:
        """The last errors of the sandboxes."""
        return self._list("box_errors")

    def extensions(self) -> HttpRequest:
        """Plugins, MCP servers and skills."""
        return self._list("extensions")

    def knowledge_bases(self) -> HttpRequest:
        """The knowledge bases."""
        return self._list("knowledge_bases")

    def knowledge_files(self, base: str) -> HttpRequest:
        """The files of a knowledge base.

        Args:
            base: Uuid.
        """
        return self._list("knowledge_files", f"/{quote(base, safe='')}/files")

    def retrieve(self, base: str, query: str, *, settings: Mapping[str, Any] | None = None) -> HttpRequest:
        """What a knowledge base finds.

        Args:
            base: Uuid.
            query: Not empty.
            settings: For its engine.
        """
        table = TABLES["retrieved"]
        body = {"query": query, **({"retrieval_settings": dict(settings)} if settings else {})}
        return self._rest.request(
            "POST", f"{table.path}/{quote(base, safe='')}/retrieve", call="retrieve", json=body,
            repeatable=True, read=lambda data: read_rows("retrieved", rows_of(data, table.field)),
        )  # fmt: skip

    def add_file(self, base: str, file_id: str) -> HttpRequest:
        """Put an uploaded document into a knowledge base.

        Args:
            base: Uuid.
            file_id: What `LangBotRest.upload_document` read as.
        """
        path = f"/api/v1/knowledge/bases/{quote(base, safe='')}/files"
        return self._rest.request("POST", path, call="add_file", json={"file_id": file_id})

    def _list(self, name: str, more: str = "") -> HttpRequest:
        table = TABLES[name]
        return self._get(
            table, table.path + more, read=lambda data: read_rows(name, rows_of(data, table.field))
        )

    def _get(
        self, table: Table, path: str, *, read: Any, query: Iterable[tuple[str, str]] = (), call: str = ""
    ) -> HttpRequest:
        call = call or table.name

        def whole(response: Response) -> Any:
            try:
                return read(read_data(response, call=call))
            except NotSupported:
                hint = f"It came with LangBot {table.since}; this server is older."
                raise NotSupported(call, "langbot", hint=hint) from None

        return self._rest.request("GET", path, call=call, query=query, whole=whole)

    # ------------------------------------------------------------------------ sums

    def overview(self) -> HttpRequest:
        """Messages, calls, success rate and active sessions, as one object."""
        return self._sum("overview", "overview")

    def feedback_stats(self) -> HttpRequest:
        """Likes and dislikes, in all and by bot, as one object. Cancelled ones are in neither."""
        return self._sum("feedback_stats", "feedback/stats")

    def token_statistics(
        self, *, bucket: str = "day", since: datetime | None = None, until: datetime | None = None
    ) -> HttpRequest:
        """Tokens: reads as an object with ``summary``, and the rows ``by_model`` and ``timeseries``.

        Args:
            bucket: ``hour`` or ``day``.
            since: Start, with zone.
            until: End, with zone.
        """
        table = TABLES["models"]
        query = [("bucket", bucket)]
        query += [(key, _iso(at)) for key, at in (("startTime", since), ("endTime", until)) if at is not None]

        def read(data: Any) -> dict[str, Any]:
            return {
                "summary": object_field(data, "summary") or {},
                "by_model": read_rows("models", rows_of(data, "by_model")),
                "timeseries": read_rows("token_series", rows_of(data, "timeseries")),
            }

        return self._get(table, table.path, query=query, read=read, call="token_statistics")

    def box_status(self) -> HttpRequest:
        """Whether sandboxes can be had, and why not, as one object."""
        return self._rest.request("GET", "/api/v1/box/status", call="box_status")

    def details(self, message_id: str) -> HttpRequest:
        """One message with its calls and errors; None if there is none such.

        Args:
            message_id: The monitoring row's id.
        """
        return self._found(f"messages/{quote(message_id, safe='')}/details", "details")

    def session_analysis(self, session_id: str) -> Generator[HttpRequest, Any, dict[str, Any] | None]:
        """What happened in a session; None if there is none such. Older names of it are tried too.

        Args:
            session_id: As in the rows.
        """
        for name in (session_id, raw_session(session_id)):
            found: dict[str, Any] | None = yield self._found(
                f"sessions/{quote(name, safe='')}/analysis", "session_analysis"
            )
            if found is not None:
                return found
        return None

    def _sum(self, name: str, path: str) -> HttpRequest:
        return self._rest.request("GET", f"/api/v1/monitoring/{path}", call=name)

    def _found(self, path: str, call: str) -> HttpRequest:
        def read(data: Any) -> dict[str, Any] | None:
            return data if object_field(data, "found") else None

        return self._rest.request("GET", f"/api/v1/monitoring/{path}", call=call, read=read)

    # ------------------------------------------------------------------------ versions

    def era(self) -> Generator[HttpRequest, Any, Era]:
        """Find out what kind of server it is, by what it has and not by its version text."""
        info = yield self._rest.info()
        has = []
        for path in ("/api/v1/workspaces", "/api/v1/monitoring/executions?limit=1"):
            has.append((yield self._rest.request("GET", path, call="probe", whole=_exists)))
        version = object_field(info, "version")
        return Era(version=version if isinstance(version, str) else "", workspaces=has[0], executions=has[1])


def _exists(response: Response) -> bool:
    """Whether a path is known; a refusal comes from something that is there."""
    try:
        read_data(response, call="probe")
    except NotSupported:
        return False
    except ApiError:
        return True
    return True


def _add(seen: dict[Any, Row], name: str, rows: Iterable[Row]) -> int:
    """Keep rows once, the first of each; how many were new."""
    before, key = len(seen), TABLES[name].key
    for row in rows:
        seen.setdefault((row[key], row.get("bot_id") if name == "sessions" else None), row)
    return len(seen) - before


def _oldest(table: Table, rows: Iterable[Row]) -> datetime | None:
    return min((row[table.when] for row in rows if row[table.when] is not None), default=None)


def _iso(at: datetime) -> str:
    """A time as every version reads it: UTC, and no plus sign."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def empty_notice(name: str) -> str:
    """What to tell somebody who got no rows from a server that is well.

    Args:
        name: Of the table.
    """
    reasons = {
        "feedback": "nobody has rated an answer, or a cancelled rating was removed",
        "logs": "the log is kept in memory and starts anew with the server",
        "box_sessions": "no sandbox is running",
        "box_errors": "no sandbox has failed",
        "extensions": "no plugin, MCP server or skill is installed",
        "knowledge_bases": "there is no knowledge base",
        "retrieved": "the knowledge base has nothing like it",
    }
    monitored = (
        "nothing happened in that time, it is older than the server keeps (30 days by default), "
        "or the server cannot write its monitoring (LangBot 4.11 with SQLAlchemy 2.1)"
    )
    return f"LangBot is well and has no {name.replace('_', ' ')}: {reasons.get(name, monitored)}."
