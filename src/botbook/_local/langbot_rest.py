"""REST of the embedded LangBot: who may call what, and what each version answers."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import unquote

from botbook._clock import Clock
from botbook._errors import RemoteProtocolError
from botbook._local.langbot_accounts import Accounts
from botbook._local.langbot_chat import PROXY_BOT, Chat
from botbook._local.langbot_records import BadQuery, Era, Records
from botbook._local.query import Query
from botbook.wire.contract import Response
from botbook.wire.langbot_bodies import not_found_page, refusal, success, uploaded
from botbook.wire.langbot_frames import BROADCAST, encode
from botbook.wire.langbot_rest import IMAGE_TYPES, MAX_UPLOAD_BYTES
from botbook.wire.monitoring_tables import TABLES

__all__ = ["Call", "Documents", "LangBotRoutes", "Resources"]

_SESSIONS: Final = ("person", "group")
_BAD_SESSION: Final = "session_type must be person or group"
_NOT_A_PERSON: Final = "No valid user token provided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One REST call, taken apart.

    Attributes:
        method: Upper case.
        path: As it came.
        parts: The variable parts of the path.
        query: Decoded.
        headers: Lower-case names.
        body: Undecoded.
    """

    method: str
    path: str
    parts: tuple[str, ...] = ()
    query: Query
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as an object; {} for anything else."""
        try:
            value = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass(slots=True)
class Documents:
    """A knowledge base: its files, found again by their words."""

    name: str
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def find(self, query: str) -> list[dict[str, Any]]:
        """Files that share words with a query, the best first."""
        words = set(re.findall(r"\w+", query.lower()))
        found = []
        for ident, (_, data) in self.files.items():
            text = data.decode("utf-8", "replace")
            shared = words & set(re.findall(r"\w+", text.lower()))
            if shared:
                score = len(shared) / len(words)
                content = [{"type": "text", "text": text}]
                found.append(
                    {"id": ident, "content": content, "metadata": {}, "distance": 1 - score, "score": score}
                )
        return sorted(found, key=lambda row: -row["score"])


@dataclass(slots=True, kw_only=True)
class Resources:
    """What a server has besides its chats.

    Attributes:
        pipelines: Uuid → name.
        bots: Uuid → row.
        logs: Uuid of a bot → its log.
        images: Key → data.
        documents: File id → name and data.
        bases: Uuid → knowledge base.
        sent: Messages that bots were told to send: uuid of the bot, and the body.
    """

    pipelines: dict[str, str]
    bots: dict[str, dict[str, Any]]
    logs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    images: dict[str, bytes] = field(default_factory=dict)
    documents: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    bases: dict[str, Documents] = field(default_factory=dict)
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


_Handler = Callable[[Call], Response | Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class _Route:
    """A path and who may call it: ``none``, ``key``, ``user``; or both, by version ``chat`` and ``new``."""

    method: str
    path: re.Pattern[str]
    who: str
    handler: _Handler


class LangBotRoutes:
    """All REST calls.

    Args:
        era: Which version it behaves like.
        clock: Where times come from.
        accounts: Users, tokens and keys.
        chat: The chat.
        records: What it remembers.
        resources: What else there is.
        new_id: Makes ids.
    """

    def __init__(
        self,
        era: Era,
        *,
        clock: Clock,
        accounts: Accounts,
        chat: Chat,
        records: Records,
        resources: Resources,
        new_id: Callable[[], str],
    ) -> None:
        self._era, self._clock, self._accounts, self._chat = era, clock, accounts, chat
        self._records, self._has, self._new_id = records, resources, new_id
        self._routes = [
            _Route(method, re.compile(_pattern(path)), who, handler)
            for since, method, path, who, handler in self._table()
            if era.number >= since
        ]

    def _table(self) -> list[tuple[tuple[int, ...], str, str, str, _Handler]]:
        old, mon, pipe, emb = (4, 10), "/api/v1/monitoring", "/api/v1/pipelines/{}", "/api/v1/embed/{}"
        lists = [
            (_since(name), "GET", table.path, "new" if table.api_key else "user", self._list(name))
            for name in _LISTS
            for table in (TABLES[name],)
        ]
        return [
            *lists,
            (old, "GET", "/healthz", "none", lambda call: refusal(200, 0, "ok")),
            (old, "GET", "/api/v1/system/info", "none", self._info),
            (old, "POST", "/api/v1/user/auth", "none", self._login),
            (old, "GET", "/api/v1/user/check-token", "user", self._renew),
            ((4, 10, 7), "GET", "/api/v1/workspaces", "user", self._workspaces),
            (old, "GET", "/api/v1/pipelines", "both", self._pipelines),
            (old, "GET", f"{pipe}/ws/messages/{{}}", "chat", self._history),
            (old, "POST", f"{pipe}/ws/reset/{{}}", "chat", self._reset),
            (old, "GET", f"{pipe}/ws/connections", "chat", self._connections),
            (old, "POST", f"{pipe}/ws/broadcast", "chat", self._broadcast),
            ((4, 11), "POST", f"{pipe}/run", "both", self._run),
            (old, "GET", f"{pipe}", "both", self._pipeline),
            (old, "GET", f"{emb}/messages/{{}}", "none", self._page_history),
            (old, "POST", f"{emb}/reset/{{}}", "none", self._page_reset),
            (old, "POST", f"{emb}/feedback", "none", self._page_feedback),
            (old, "POST", "/api/v1/files/images", "both", self._image),
            (old, "POST", "/api/v1/files/documents", "both", self._document),
            (old, "GET", f"{mon}/overview", "user", lambda call: success(self._records.overview())),
            (old, "GET", f"{mon}/feedback/stats", "user", self._feedback_stats),
            ((4, 10, 2), "GET", f"{mon}/token-statistics", "user", self._tokens),
            (old, "GET", f"{mon}/messages/{{}}/details", "new", self._details),
            (old, "GET", f"{mon}/sessions/{{}}/analysis", "new", self._analysis),
            (old, "GET", "/api/v1/platform/bots", "both", self._bots),
            (old, "POST", "/api/v1/platform/bots/{}/logs", "both", self._logs),
            (old, "POST", "/api/v1/platform/bots/{}/send_message", "key", self._send_message),
            (old, "GET", "/api/v1/box/status", "new", self._box_status),
            (old, "GET", "/api/v1/box/sessions", "new", lambda call: success([])),
            (old, "GET", "/api/v1/box/errors", "new", lambda call: success([])),
            (old, "GET", "/api/v1/extensions", "both", self._extensions),
            (old, "GET", "/api/v1/knowledge/bases", "both", self._bases),
            (old, "GET", "/api/v1/knowledge/bases/{}/files", "both", self._files),
            (old, "POST", "/api/v1/knowledge/bases/{}/files", "both", self._add_file),
            (old, "POST", "/api/v1/knowledge/bases/{}/retrieve", "both", self._retrieve),
        ]

    async def answer(self, call: Call) -> Response:
        """Answer one call; what is not there is a page."""
        for route in self._routes:
            if route.method == call.method and (found := route.path.fullmatch(call.path)):
                parts = tuple(unquote(part) for part in found.groups())
                return self._dated(await self._allowed(route, _with_parts(call, parts)))
        return not_found_page(404 if call.method == "GET" else 405)

    async def _allowed(self, route: _Route, call: Call) -> Response:
        if route.who != "none":
            refused = self._accounts.refuse(
                call.headers, keys=self._keys(route.who), users=route.who != "key"
            )
            if refused:
                return refused
        try:
            made = route.handler(call)
            return made if isinstance(made, Response) else await made
        except BadQuery as error:
            if self._era.modern:
                return refusal(500, "internal_error", "Internal server error")
            return refusal(500, -2, str(error))

    def _keys(self, who: str) -> bool:
        """Whether an API key will do."""
        needed = {"key": (4, 10), "both": (4, 10), "chat": (4, 10, 7), "new": (4, 11), "user": (99,)}[who]
        return self._era.number >= needed

    def _dated(self, response: Response) -> Response:
        date = format_datetime(self._clock.now(), usegmt=True)
        return Response(response.status, response.body, {**response.headers, "date": date})

    def _unknown(self, text: str, *, old: int = 404) -> Response:
        """An object that is not there."""
        if self._era.authenticates:
            return refusal(404, "resource_not_found", "Resource not found")
        return refusal(old, -1 if old == 404 else -2, text)

    # ------------------------------------------------------------------------ accounts

    def _info(self, call: Call) -> Response:
        return success({"version": f"v{self._era.version}", "edition": "community", "debug": False})

    def _login(self, call: Call) -> Response:
        given = call.json()
        token = self._accounts.login(given.get("user"), given.get("password"))
        return success({"token": token}) if token else refusal(200, 1, "Invalid username or password")

    def _renew(self, call: Call) -> Response:
        return success({"token": self._accounts.new_token()})

    def _workspaces(self, call: Call) -> Response:
        row = {"uuid": self._accounts.workspace, "name": "Default Workspace", "slug": "default"}
        return success({"workspaces": [{**row, "type": "team", "status": "active", "source": "local"}]})

    # ------------------------------------------------------------------------ pipelines and their chat

    def _pipeline_row(self, uuid: str) -> dict[str, Any]:
        return {
            "uuid": uuid, "name": self._has.pipelines[uuid], "description": "", "emoji": "L",
            "is_default": False, "for_version": f"v{self._era.version}", "stages": [], "config": {},
            "extensions_preferences": {},
        }  # fmt: skip

    def _pipelines(self, call: Call) -> Response:
        return success({"pipelines": [self._pipeline_row(uuid) for uuid in self._has.pipelines]})

    def _pipeline(self, call: Call) -> Response:
        if call.parts[0] not in self._has.pipelines:
            return refusal(404, -1, "pipeline not found")
        return success({"pipeline": self._pipeline_row(call.parts[0])})

    def _history(self, call: Call) -> Response:
        if call.parts[1] not in _SESSIONS:
            return refusal(400, -1, _BAD_SESSION)
        return success({"messages": self._chat.room(*call.parts).messages})

    def _reset(self, call: Call) -> Response:
        if call.parts[1] not in _SESSIONS:
            return refusal(400, -1, _BAD_SESSION)
        self._chat.room(*call.parts).reset()
        return success({"message": "Session reset successfully"})

    def _connections(self, call: Call) -> Response:
        clients = [client for client in self._chat.clients if client.room.pipeline == call.parts[0]]
        kinds = [client.room.session_type for client in clients]
        rows = [
            {"connection_id": client.ident, "session_type": client.room.session_type, "is_active": True,
             "created_at": client.created, "last_active": client.created}
            for client in clients
        ]  # fmt: skip
        stats = {
            "total_connections": len(self._chat.clients),
            "pipelines": len({client.room.pipeline for client in self._chat.clients}),
            "connections_by_pipeline": {call.parts[0]: len(clients)},
            "connections_by_session_type": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        }
        return success({"connections": rows, "stats": stats})

    async def _broadcast(self, call: Call) -> Response:
        frame = encode(BROADCAST, message=call.json().get("message"), timestamp=self._chat.stamp())
        for session in _SESSIONS:
            await self._chat.tell(self._chat.room(call.parts[0], session), frame)
        return success({"message": "Broadcast sent successfully"})

    async def _run(self, call: Call) -> Response:
        if call.parts[0] not in self._has.pipelines:
            return refusal(404, -1, "pipeline not found")
        return success(await self._chat.run(call.parts[0], str(call.json().get("message", ""))))

    # ------------------------------------------------------------------------ pages

    def _page(self, call: Call) -> Any:
        bot = self._has.bots[call.parts[0]]
        visitor = call.query.get("session_id", "")
        return self._chat.room(bot["use_pipeline_uuid"], call.parts[1], bot=call.parts[0], visitor=visitor)

    def _page_history(self, call: Call) -> Response:
        if call.parts[0] not in self._has.bots:
            return self._unknown("Bot not found")
        return success({"messages": self._page(call).messages})

    def _page_reset(self, call: Call) -> Response:
        if call.parts[0] not in self._has.bots:
            return self._unknown("Bot not found")
        self._page(call).reset()
        return success({"message": "Session reset successfully"})

    def _page_feedback(self, call: Call) -> Response:
        given = call.json()
        kind, bot = given.get("feedback_type"), self._has.bots.get(call.parts[0])
        if bot is None:
            return self._unknown("Bot not found")
        if kind not in (1, 2, 3):
            return refusal(400, -1, "feedback_type must be 1 (like), 2 (dislike), or 3 (cancel)")
        ident = f"embed_{self._new_id().replace('-', '')[:12]}"
        where = {"bot_id": bot["uuid"], "bot_name": bot["name"], "pipeline_id": bot["use_pipeline_uuid"],
                 "pipeline_name": None}  # fmt: skip
        self._records.rate(
            kind, feedback_id=ident, bot=where, platform="web_page_bot",
            message_id=str(given.get("message_id", "")),
        )  # fmt: skip
        return success({"feedback_id": ident})

    # ------------------------------------------------------------------------ files and knowledge

    def _upload(self, call: Call) -> tuple[str, bytes] | Response:
        try:
            name, data = uploaded(call.body, call.headers.get("content-type", ""))
        except RemoteProtocolError:
            return refusal(200, 400, "No file provided")
        if len(data) > MAX_UPLOAD_BYTES:
            return refusal(200, 400, "File size exceeds 10MB limit.")
        return name, data

    def _image(self, call: Call) -> Response:
        file = self._upload(call)
        if isinstance(file, Response):
            return file
        stem, _, kind = file[0].rpartition(".")
        if kind.lower() not in IMAGE_TYPES:
            allowed = ", ".join(sorted(IMAGE_TYPES))
            return refusal(200, 400, f"Invalid image format. Allowed formats: {allowed}")
        short = self._new_id()[:8]
        key = f"v1/{short}/upload_image/{short}.{kind}" if self._era.modern else f"{stem}_{short}.{kind}"
        self._has.images[key] = file[1]
        return success({"file_key": key})

    def _document(self, call: Call) -> Response:
        file = self._upload(call)
        if isinstance(file, Response):
            return file
        stem, _, kind = file[0].rpartition(".")
        key = f"{stem}_{self._new_id()[:8]}.{kind}"
        self._has.documents[key] = file
        return success({"file_id": key})

    def _bases(self, call: Call) -> Response:
        rows = [
            {"uuid": uuid, "name": base.name, "description": "", "emoji": "K", "creation_settings": {},
             "knowledge_engine_plugin_id": "labs/words", "retrieval_settings": {}, "collection_id": uuid}
            for uuid, base in self._has.bases.items()
        ]  # fmt: skip
        return success({"bases": rows})

    def _files(self, call: Call) -> Response:
        base = self._has.bases.get(call.parts[0])
        if base is None:
            return self._unknown("Knowledge base not found", old=500)
        rows = [
            {"uuid": ident, "file_name": name, "extension": name.rpartition(".")[2], "status": "completed",
             "kb_id": call.parts[0]}
            for ident, (name, _) in base.files.items()
        ]  # fmt: skip
        return success({"files": rows})

    def _add_file(self, call: Call) -> Response:
        base, file_id = self._has.bases.get(call.parts[0]), call.json().get("file_id")
        if not file_id:
            return refusal(400, -1, "File ID is required")
        if base is None or file_id not in self._has.documents:
            return self._unknown("Knowledge base not found", old=500)
        base.files[self._new_id()] = self._has.documents[file_id]
        return success({"task_id": len(base.files)})

    def _retrieve(self, call: Call) -> Response:
        base, query = self._has.bases.get(call.parts[0]), str(call.json().get("query") or "").strip()
        if not query:
            return refusal(400, -1, "Query is required and cannot be empty")
        if base is None:
            return self._unknown("Knowledge base not found", old=500)
        return success({"results": base.find(query)})

    # ------------------------------------------------------------------------ monitoring and the rest

    def _list(self, name: str) -> _Handler:
        return lambda call: success(self._records.page(TABLES[name].field, call.query))

    def _feedback_stats(self, call: Call) -> Response:
        return success(self._records.feedback_stats())

    def _tokens(self, call: Call) -> Response:
        return success(self._records.token_statistics(call.query.get("bucket", "day")))

    def _details(self, call: Call) -> Response:
        found = self._records.details(call.parts[0])
        if found is None:
            if self._era.modern:
                return refusal(404, "resource_not_found", "Message not found")
            return refusal(500, -2, "'MonitoringRouterGroup' object has no attribute 'error'")
        return success(found)

    def _analysis(self, call: Call) -> Response:
        return success(self._records.analysis(call.parts[0]))

    def _bots(self, call: Call) -> Response:
        return success({"bots": list(self._has.bots.values())})

    def _logs(self, call: Call) -> Response:
        bot, given = call.parts[0], call.json()
        if bot not in self._has.bots and (bot != PROXY_BOT or self._era.authenticates):
            return self._unknown("Bot not found", old=500)
        rows = self._has.logs.get(bot, [])
        last, count = int(given.get("from_index", -1)), int(given.get("max_count", 10))
        end = len(rows) if last < 0 else last + 1
        return success({"logs": rows[max(0, end - count) : end], "total_count": len(rows)})

    def _send_message(self, call: Call) -> Response:
        if call.parts[0] not in self._has.bots:
            return self._unknown(f"Failed to send message: Bot not found: {call.parts[0]}", old=500)
        self._has.sent.append((call.parts[0], call.json()))
        return success({"sent": True})

    def _box_status(self, call: Call) -> Response:
        reason = "Box runtime is disabled in config (box.enabled = false)"
        row = {"available": False, "enabled": False, "profile": "default", "recent_error_count": 0}
        return success({**row, "connector_error": reason})

    def _extensions(self, call: Call) -> Response:
        if not self._era.modern:
            return success({"extensions": []})
        manifest = {"manifest": {"metadata": {"author": "labs", "name": "relay"}}}
        plugin = {"enabled": True, "status": "initialized", "manifest": manifest}
        return success({"extensions": [{"type": "plugin", "plugin": plugin}]})


#: Lists that are pages of the records.
_LISTS: Final = (
    "messages",
    "llm_calls",
    "tool_calls",
    "embedding_calls",
    "sessions",
    "errors",
    "feedback",
    "executions",
)


def _since(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in TABLES[name].since.split("."))


def _pattern(path: str) -> str:
    return re.escape(path).replace(r"\{\}", "([^/]+)")


def _with_parts(call: Call, parts: tuple[str, ...]) -> Call:
    return replace(call, parts=parts)
