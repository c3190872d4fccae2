"""The lists of LangBot's monitoring and resources: where they are and what columns they have.

Columns seen on 4.10.1, 4.10.11 and 4.11.2 (protocols/langbot.md 5, 6, 7, 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["SOURCES", "TABLES", "Table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One list of the server.

    Attributes:
        name: As in `bot.monitoring`.
        path: Where it is.
        field: Where the rows stand in ``data``; "" if it is the list itself.
        key: Column that names a row.
        columns: Column → kind: ``text``, ``int``, ``float``, ``bool``, ``time``, ``json`` or ``session``.
        since: First version that has it.
        api_key: Whether 4.11 gives it to an API key; 4.10 never does.
        when: Column of the time by which it is ordered, or "".
    """

    name: str
    path: str
    field: str
    key: str
    columns: Mapping[str, str]
    since: str = "4.10.0"
    api_key: bool = False
    when: str = "timestamp"


def _columns(**kinds: str) -> dict[str, str]:
    """Kind → names, turned around."""
    return {name: kind for kind, names in kinds.items() for name in names.split()}


_PLACE: Final = "bot_id bot_name pipeline_id pipeline_name"
_MONITORING: Final = "/api/v1/monitoring"

#: Column of a row → the key under which the server sends it, where the two differ.
SOURCES: Final = {
    "created_at": "created_at_ms",
    "started_at": "started_at_ms",
    "finished_at": "finished_at_ms",
}

TABLES: Final[dict[str, Table]] = {
    table.name: table
    for table in (
        Table(
            name="messages",
            path=f"{_MONITORING}/messages",
            field="messages",
            key="id",
            columns=_columns(
                text=f"id role status level {_PLACE} runner_name platform user_id user_name message_content "
                "text event_id parent_message_id run_id",
                time="timestamp",
                session="session_id",
                json="components variables",
            ),
            api_key=True,
        ),
        Table(
            name="llm_calls",
            path=f"{_MONITORING}/llm-calls",
            field="llm_calls",
            key="id",
            columns=_columns(
                text=f"id model_name status {_PLACE} message_id error_message",
                time="timestamp",
                session="session_id",
                int="input_tokens output_tokens total_tokens duration",
                float="cost",
                json="details",
            ),
            api_key=True,
        ),
        Table(
            name="tool_calls",
            path=f"{_MONITORING}/tool-calls",
            field="tool_calls",
            key="id",
            columns=_columns(
                text=f"id tool_name tool_source status {_PLACE} message_id error_message",
                time="timestamp",
                session="session_id",
                int="duration",
                json="arguments result",
            ),
            since="4.10.5",
            api_key=True,
        ),
        Table(
            name="embedding_calls",
            path=f"{_MONITORING}/embedding-calls",
            field="embedding_calls",
            key="id",
            columns=_columns(
                text="id model_name status call_type knowledge_base_id query_text message_id error_message",
                time="timestamp",
                session="session_id",
                int="prompt_tokens total_tokens duration input_count",
            ),
            api_key=True,
        ),
        Table(
            name="sessions",
            path=f"{_MONITORING}/sessions",
            field="sessions",
            key="session_id",
            columns=_columns(
                session="session_id",
                text=f"{_PLACE} platform user_id user_name",
                time="start_time last_activity",
                int="message_count",
                bool="is_active",
            ),
            api_key=True,
            when="last_activity",
        ),
        Table(
            name="errors",
            path=f"{_MONITORING}/errors",
            field="errors",
            key="id",
            columns=_columns(
                text=f"id error_type error_message stack_trace {_PLACE} message_id",
                time="timestamp",
                session="session_id",
            ),
            api_key=True,
        ),
        Table(
            name="feedback",
            path=f"{_MONITORING}/feedback",
            field="feedback",
            key="feedback_id",
            columns=_columns(
                text=f"id feedback_id feedback_content {_PLACE} platform user_id message_id stream_id",
                time="timestamp",
                session="session_id",
                int="feedback_type",
                json="inaccurate_reasons",
            ),
        ),
        Table(
            name="executions",
            path=f"{_MONITORING}/executions",
            field="items",
            key="id",
            columns=_columns(
                text="id source event_id event_type status status_group title target_kind target_id "
                f"target_name {_PLACE} runner_id platform user_id user_name input_preview",
                time="created_at started_at finished_at",
                session="session_id",
                int="duration_ms",
                float="cost",
                bool="debug has_error",
                json="usage",
            ),
            since="4.11",
            when="created_at",
        ),
        Table(
            name="bots",
            path="/api/v1/platform/bots",
            field="bots",
            key="uuid",
            columns=_columns(
                text="uuid name description adapter use_pipeline_uuid use_pipeline_name",
                time="created_at updated_at",
                bool="enable",
                json="adapter_config event_bindings plugin_processors pipeline_routing_rules",
            ),
            api_key=True,
            when="",
        ),
        Table(
            name="logs",
            path="/api/v1/platform/bots",
            field="logs",
            key="seq_id",
            columns=_columns(
                int="seq_id",
                text="level text",
                time="timestamp",
                session="message_session_id",
                json="images metadata",
            ),
            api_key=True,
        ),
        Table(
            name="box_sessions",
            path="/api/v1/box/sessions",
            field="",
            key="session_id",
            columns=_columns(
                text="session_id backend_name backend_session_id image network host_path host_path_mode "
                "mount_path",
                time="created_at last_used_at",
                int="memory_mb pids_limit workspace_quota_mb",
                float="cpus",
                bool="persistent read_only_rootfs",
            ),
            api_key=True,
            when="",
        ),
        Table(
            name="box_errors",
            path="/api/v1/box/errors",
            field="",
            key="",
            columns=_columns(time="timestamp", text="type message"),
            api_key=True,
            when="",
        ),
        Table(
            name="extensions",
            path="/api/v1/extensions",
            field="extensions",
            key="name",
            columns=_columns(text="type name status", bool="enabled", json="detail"),
            api_key=True,
            when="",
        ),
        Table(
            name="knowledge_bases",
            path="/api/v1/knowledge/bases",
            field="bases",
            key="uuid",
            columns=_columns(
                text="uuid name description emoji knowledge_engine_plugin_id collection_id",
                time="created_at updated_at",
                json="creation_settings retrieval_settings knowledge_engine",
            ),
            api_key=True,
            when="",
        ),
        Table(
            name="knowledge_files",
            path="/api/v1/knowledge/bases",
            field="files",
            key="uuid",
            columns=_columns(text="uuid file_name extension status kb_id", time="created_at"),
            api_key=True,
            when="",
        ),
        Table(
            name="retrieved",
            path="/api/v1/knowledge/bases",
            field="results",
            key="id",
            columns=_columns(text="id text", float="distance score", json="content metadata"),
            api_key=True,
            when="",
        ),
        Table(
            name="models",
            path=f"{_MONITORING}/token-statistics",
            field="by_model",
            key="model_name",
            columns=_columns(
                text="model_name",
                int="calls error_calls input_tokens output_tokens total_tokens avg_duration_ms "
                "avg_tokens_per_call",
                float="cost",
            ),
            since="4.10.2",
            when="",
        ),
        Table(
            name="token_series",
            path=f"{_MONITORING}/token-statistics",
            field="timeseries",
            key="bucket",
            columns=_columns(time="bucket", int="calls input_tokens output_tokens total_tokens"),
            since="4.10.2",
            when="",
        ),
    )
}
