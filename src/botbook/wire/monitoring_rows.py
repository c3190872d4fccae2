"""Rows of LangBot's monitoring and resource lists: what columns they have, and how they are read.

Columns come and go between versions: every column named here is in every row, None where a server
does not have it, and what is not named here is kept under its own name. Times of these lists are
UTC without a zone, unlike those of the chat (protocols/langbot.md 5).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botbook.wire.langbot_frames import read_chain
from botbook.wire.monitoring_tables import SOURCES, TABLES

__all__ = [
    "Row",
    "normal_session",
    "raw_session",
    "read_row",
    "read_rows",
    "soft_json",
    "utc_time",
]

Row = dict[str, Any]

#: How an enum's name leaks into session ids of 4.10.0 to 4.10.4.
_LEAK: Final = "LauncherTypes."


# ---------------------------------------------------------------------------- values


def soft_json(value: Any) -> Any:
    """JSON inside a string as the value it means; plain text, and what is no string, as it came."""
    if not isinstance(value, str) or value[:1] not in ("[", "{", '"'):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def utc_time(value: Any) -> datetime | None:
    """A time in UTC with its zone: ISO text (no zone means UTC), or seconds or milliseconds of the epoch.

    Returns:
        None for what is no time.
    """
    try:
        if isinstance(value, str):
            when = datetime.fromisoformat(value)
            return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        number = _float(value)
        if number is None:
            return None
        seconds = number / 1000 if abs(number) > 1e11 else number
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return None


def normal_session(value: Any) -> str | None:
    """A session id as newer servers write it."""
    text = _text(value)
    if text is None or not text.startswith(_LEAK):
        return text
    kind, line, rest = text.removeprefix(_LEAK).partition("_")
    return kind.lower() + line + rest


def raw_session(session_id: str) -> str:
    """A session id as 4.10.0 to 4.10.4 write it."""
    kind, line, rest = session_id.partition("_")
    return f"{_LEAK}{kind.upper()}{line}{rest}"


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _int(value: Any) -> int | None:
    number = _float(value)
    return None if number is None else int(number)


def _float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


_KINDS: Final[dict[str, Callable[[Any], Any]]] = {
    "text": _text,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "time": utc_time,
    "json": soft_json,
    "session": normal_session,
}


# ---------------------------------------------------------------------------- rows


def read_row(name: str, raw: Mapping[str, Any]) -> Row:
    """One row: its columns typed, in order, then what else the server sent.

    Args:
        name: Of the table.
        raw: As it came.
    """
    raw = _SHAPES[name](raw) if name in _SHAPES else raw
    columns = TABLES[name].columns
    row: Row = {}
    for column, kind in columns.items():
        source = SOURCES.get(column, column)
        row[column] = _KINDS[kind](raw[source] if source in raw else raw.get(column))
    return row | {key: value for key, value in raw.items() if key not in row and key not in _USED}


#: Keys that became a column of another name.
_USED: Final = frozenset(SOURCES.values())


def read_rows(name: str, raws: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows of a table, in the order they came."""
    return [read_row(name, raw) for raw in raws]


def _message(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A message: its chain as components and as text; an error's content is plain text already."""
    content = soft_json(raw.get("message_content"))
    parts = content if isinstance(content, list) else []
    text = read_chain(parts).text if isinstance(content, list) else raw.get("message_content")
    return {**raw, "components": parts, "text": text}


def _extension(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin, an MCP server or a skill, whose name stands in another place each."""
    kind = _text(raw.get("type")) or next(iter(raw), "")
    detail = raw.get({"mcp": "server"}.get(kind, kind))
    detail = detail if isinstance(detail, dict) else {}
    return {
        "type": kind,
        "name": detail.get("display_name") or detail.get("name") or _plugin_name(detail),
        "status": detail.get("status"),
        "enabled": detail.get("enabled", detail.get("enable")),
        "detail": detail,
    }


def _plugin_name(detail: Any) -> str:
    """A plugin's name stands in the manifest of its manifest."""
    for key in ("manifest", "manifest", "metadata"):
        detail = detail.get(key) if isinstance(detail, dict) else None
    if not isinstance(detail, dict):
        return ""
    return "/".join(str(detail[key]) for key in ("author", "name") if detail.get(key))


def _retrieved(raw: Mapping[str, Any]) -> dict[str, Any]:
    content = raw.get("content")
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return {**raw, "text": "\n".join(texts)}


_SHAPES: Final[dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]] = {
    "messages": _message,
    "extensions": _extension,
    "retrieved": _retrieved,
}
