"""The embedded Box runtime: server side of the Action RPC (protocols/box.md 4 to 8, 14).

It speaks to the vendor's clients of all dialects, with or without context; what it adds is listed in
`botbook.wire.box.EXTENSIONS` and used only by a client that asks.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from botbook._clock import SYSTEM, Clock
from botbook._errors import SandboxError
from botbook._local.backends import doctor
from botbook._local.backends.base import Backend, Report
from botbook._local.boxes import Boxes, Key, Limits, Session
from botbook._local.execution import OnOutput, Outcome
from botbook._local.policy import ELEVATED, OPEN, Policy, Rules
from botbook.wire.box import (
    EXTENSIONS,
    Chunk,
    Context,
    ExecResult,
    ProcessSpec,
    Request,
    Spec,
    encode_chunk,
    encode_error,
    encode_reply,
)

__all__ = ["BoxRuntime", "Caller"]

#: An old client closes its connection at 1 MiB, a new one at 16 (protocols/box.md 4).
_OLD_BYTES: Final = 1_000_000
_NEW_BYTES: Final = 15 * 1024 * 1024
#: Unfinished requests of one connection (protocols/box.md 4).
_BUSY: Final = 128
_SHOWN_CMD: Final = 200

Audit = Callable[[dict[str, Any]], None]
Send = Callable[[str], Awaitable[None]]


class BoxRuntime:
    """Sessions, commands and processes for those who hold a token.

    Args:
        backend: What encloses them.
        policy: Who may do what.
        limits: How much the runtime takes on.
        clock: For idle time and stamps.
        configured: False refuses all work until ``box_init``.
        audit: Called with a row for each command: caller, session, cmd, status, exit_code, duration_ms,
            stdout_bytes, stderr_bytes, backend.
    """

    def __init__(
        self,
        backend: Backend,
        policy: Policy,
        *,
        limits: Limits | None = None,
        clock: Clock = SYSTEM,
        configured: bool = True,
        audit: Audit | None = None,
    ) -> None:
        self.policy = policy
        self.boxes = Boxes(backend, limits=limits or Limits(), clock=clock)
        self._backend, self._audit = backend, audit
        self._configured = configured
        self._report: Report | None = None
        self._generations: dict[tuple[str, str, str], int] = {}

    async def report(self) -> Report:
        """What holds here; tried once."""
        if self._report is None:
            self._report = await self._backend.probe()
        return self._report

    async def close(self) -> None:
        """End all sessions and the backend."""
        await self.boxes.close()

    # ------------------------------------------------------------ actions

    async def act(self, caller: Caller, request: Request) -> dict[str, Any]:
        """Carry out one action.

        Raises:
            SandboxError: It is refused or fails; `code` is the name that travels.
        """
        action = _ACTIONS.get(request.action)
        if action is None:
            raise SandboxError(f"Action {request.action} not found", code="ValueError")
        if request.data is None:
            raise SandboxError("'data'", code="KeyError")
        self.policy.allow(caller.rules, request.action)
        if not self._configured and request.action not in OPEN | ELEVATED:
            raise SandboxError("the runtime waits for box_init", code="BoxReadinessError")
        await self._admit(caller, request.context)
        return await action(self, caller, request)

    async def _admit(self, caller: Caller, context: Context | None) -> None:
        """A tenant that moved leaves its older sessions behind (protocols/box.md 6)."""
        if context is None:
            return
        tenant = (caller.rules.name, context.instance, context.workspace)
        newest = self._generations.get(tenant, context.generation)
        if context.generation < newest:
            raise SandboxError("Stale Box placement generation", code="PermissionError")
        if context.generation > newest:
            await self.boxes.end_all(self.boxes.of(caller.rules.name, replace(context, generation=newest)))
        self._generations[tenant] = context.generation

    async def _nothing(self, _: Caller, __: Request) -> dict[str, Any]:
        return {}

    async def _health(self, _: Caller, __: Request) -> dict[str, Any]:
        report = await self.report()
        return {
            "name": report.backend if report.available else None,
            "available": report.available,
            "extensions": list(EXTENSIONS),
            **({"unsafe_direct_execution": True} if report.backend == "unsafe" else {}),
        }

    async def _doctor(self, _: Caller, request: Request) -> dict[str, Any]:
        """What holds here; on request also what the other backends could do, each of which is tried."""
        reports = [await self.report()]
        if _data(request).get("all") is True:
            reports += [one for one in await doctor() if one.backend != self._backend.name]
        return {"reports": [asdict(one) for one in reports]}

    async def _init(self, _: Caller, request: Request) -> dict[str, Any]:
        """Configure: it can narrow what the operator gave, never widen it."""
        config = _data(request)
        if (wanted := config.get("backend", "")) in ("host", "e2b", "unsafe"):
            raise SandboxError(f"{wanted} is not chosen from outside", code="BoxValidationError")
        limits = config.get("limits", {})
        for name, most in (("max_sessions", 5000), ("max_managed_processes", 1024)):
            if name in limits:
                self._narrow(name, limits[name], most)
        self._configured = True
        return {"initialized": True}

    def _narrow(self, name: str, value: object, most: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise SandboxError(f"box.limits.{name} must be an integer", code="ValueError")
        if not 0 <= value <= most:
            raise SandboxError(f"box.limits.{name} must be between 0 and {most}", code="ValueError")
        least = min(value, getattr(self.boxes.limits, name))
        self.boxes.limits = replace(self.boxes.limits, **{name: least})

    async def _status(self, caller: Caller, request: Request) -> dict[str, Any]:
        report, limits = await self.report(), self.boxes.limits
        mine = self.boxes.of(caller.rules.name, request.context)
        used = len(self.boxes)
        return {
            "backend": {"name": report.backend, "available": report.available},
            "active_sessions": len(mine),
            "managed_processes": sum(len(one.running) for one in mine),
            "session_ttl_sec": limits.session_ttl_sec,
            "limits": {
                "max_sessions": limits.max_sessions,
                "max_managed_processes": limits.max_managed_processes,
            },
            "capacity": {
                "limit": limits.max_sessions,
                "used": used,
                "remaining": max(0, limits.max_sessions - used),
            },
        }

    async def _create(self, caller: Caller, request: Request) -> dict[str, Any]:
        session = await self._session(caller, request)
        return session.info(self._backend.name).to_json()

    async def _session(self, caller: Caller, request: Request) -> Session:
        report = await self.report()
        if not report.available:
            raise SandboxError(report.reason, code="BoxBackendUnavailableError")
        spec = Spec.from_json(_data(request))
        return await self.boxes.get(_key(caller, request, spec.session_id), spec, caller.rules)

    async def _exec(self, caller: Caller, request: Request) -> dict[str, Any]:
        data = _data(request)
        spec = Spec.from_json(data)
        if not spec.cmd:
            raise SandboxError("cmd must not be empty", code="BoxValidationError")
        limit = _output_limit(data, self.boxes.limits)
        stdin = _stdin(data)
        session = await self._session(caller, request)
        on_output = caller.chunks(request) if data.get("stream") else None
        outcome = await self.boxes.execute(session, spec, limit=limit, stdin=stdin, on_output=on_output)
        self._note(caller, spec, outcome)
        return _result(self._backend.name, spec, outcome, strip=data.get("strip") is not False)

    def _note(self, caller: Caller, spec: Spec, outcome: Outcome) -> None:
        if self._audit is not None:
            self._audit(
                {
                    "caller": caller.rules.name,
                    "session": spec.session_id,
                    "cmd": spec.cmd[:_SHOWN_CMD],
                    "status": "timed_out" if outcome.exit_code is None else "completed",
                    "exit_code": outcome.exit_code,
                    "duration_ms": round(outcome.seconds * 1000),
                    "stdout_bytes": outcome.stdout.total,
                    "stderr_bytes": outcome.stderr.total,
                    "backend": self._backend.name,
                }
            )

    def _live(self, caller: Caller, request: Request) -> Session:
        return self.boxes.find(_key(caller, request, _wanted(_data(request), "session_id")))

    async def _get(self, caller: Caller, request: Request) -> dict[str, Any]:
        session = self._live(caller, request)
        info = session.info(self._backend.name).to_json()
        processes = {name: one.info().to_json() for name, one in session.processes.items()}
        if processes:
            info["managed_processes"] = processes
        if "default" in processes:
            info["managed_process"] = processes["default"]
        return info

    async def _list(self, caller: Caller, request: Request) -> dict[str, Any]:
        mine = self.boxes.of(caller.rules.name, request.context)
        return {"sessions": [one.info(self._backend.name).to_json() for one in mine]}

    async def _delete(self, caller: Caller, request: Request) -> dict[str, Any]:
        await self.boxes.end(self._live(caller, request))
        return {"deleted": _data(request)["session_id"]}

    async def _start_process(self, caller: Caller, request: Request) -> dict[str, Any]:
        data = _data(request)
        session = self._live(caller, request)
        spec = ProcessSpec.from_json(_wanted(data, "spec"))
        await asyncio.shield(session.started)
        return (await self.boxes.start_process(session, spec)).info().to_json()

    async def _get_process(self, caller: Caller, request: Request) -> dict[str, Any]:
        name = _data(request).get("process_id", "default")
        return self._live(caller, request).process(name).info().to_json()

    async def _stop_process(self, caller: Caller, request: Request) -> dict[str, Any]:
        name = _data(request).get("process_id", "default")
        session = self._live(caller, request)
        managed = session.process(name)
        await managed.stop()
        if session.processes.get(name) is managed:
            del session.processes[name]
        return {"stopped": name}

    async def _shutdown(self, caller: Caller, _: Request) -> dict[str, Any]:
        """End the sessions of this caller; the runtime itself stays up."""
        await self.boxes.end_all(self.boxes.of_caller(caller.rules.name))
        return {}

    async def _cancel(self, caller: Caller, request: Request) -> dict[str, Any]:
        return {"cancelled": caller.cancel(_data(request).get("seq_id"))}


_ACTIONS: Final[dict[str, Callable[[BoxRuntime, Caller, Request], Awaitable[dict[str, Any]]]]] = {
    "__ping": BoxRuntime._nothing,
    "__stream_ack": BoxRuntime._nothing,
    "__cancel_action": BoxRuntime._cancel,
    "box_health": BoxRuntime._health,
    "box_get_backend_info": BoxRuntime._health,
    "box_doctor": BoxRuntime._doctor,
    "box_init": BoxRuntime._init,
    "box_status": BoxRuntime._status,
    "box_create_session": BoxRuntime._create,
    "box_exec": BoxRuntime._exec,
    "box_get_session": BoxRuntime._get,
    "box_get_sessions": BoxRuntime._list,
    "box_delete_session": BoxRuntime._delete,
    "box_start_managed_process": BoxRuntime._start_process,
    "box_get_managed_process": BoxRuntime._get_process,
    "box_stop_managed_process": BoxRuntime._stop_process,
    "box_shutdown": BoxRuntime._shutdown,
}


class Caller:
    """One control connection.

    Args:
        runtime: Whom it speaks to.
        rules: What it may do.
        send: Sends one message.
        modern: It takes long messages.
    """

    def __init__(self, runtime: BoxRuntime, rules: Rules, send: Send, *, modern: bool) -> None:
        self.rules = rules
        self._runtime, self._send = runtime, send
        self._most = _NEW_BYTES if modern else _OLD_BYTES
        self._tasks: dict[asyncio.Task[None], Any] = {}

    def take(self, request: Request) -> None:
        """Answer a request when it is done; several go on side by side."""
        task = asyncio.ensure_future(self._answer(request, busy=len(self._tasks) >= _BUSY))
        self._tasks[task] = request.seq_id
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _answer(self, request: Request, *, busy: bool) -> None:
        modern = self._most if request.context is None else _NEW_BYTES
        try:
            if busy and request.action not in OPEN:
                raise SandboxError(f"Runtime connection is busy (max {_BUSY} concurrent actions)")
            text = _fitting(request.seq_id, await self._runtime.act(self, request), modern)
        except SandboxError as error:
            text = encode_error(request.seq_id, error.code or "BoxError", str(error))
        except asyncio.CancelledError:
            text = encode_error(request.seq_id, "BoxError", "cancelled")
        except Exception as error:  # the connection outlives every fault of one request
            text = encode_error(request.seq_id, type(error).__name__, str(error))
        await self._send(text)

    def chunks(self, request: Request) -> OnOutput:
        """Sends output while a command runs."""

        async def send(stream: str, text: str) -> None:
            await self._send(encode_chunk(Chunk(seq_id=request.seq_id, stream=stream, text=text)))

        return send

    def cancel(self, seq_id: Any) -> bool:
        """End what a request started; it is answered as cancelled."""
        found = [task for task, one in self._tasks.items() if one == seq_id]
        for task in found:
            task.cancel()
        return bool(found)

    async def close(self) -> None:
        """The connection is gone: nobody will read the answers, so what makes them is ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _data(request: Request) -> dict[str, Any]:
    assert request.data is not None
    return request.data


def _wanted(data: Mapping[str, Any], key: str) -> Any:
    if key not in data:
        raise SandboxError(f"'{key}'", code="KeyError")
    return data[key]


def _key(caller: Caller, request: Request, session: object) -> Key:
    return Key(caller.rules.name, request.context, str(session).strip())


def _output_limit(data: Mapping[str, Any], limits: Limits) -> int:
    wanted = data.get("output_bytes", limits.output_bytes)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or not 0 < wanted <= limits.most_output_bytes:
        raise SandboxError(
            f"output_bytes must be a whole number up to {limits.most_output_bytes}", code="BoxValidationError"
        )
    return wanted


def _stdin(data: Mapping[str, Any]) -> bytes | None:
    if (text := data.get("stdin_base64")) is None:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise SandboxError("stdin_base64 is not base64", code="BoxValidationError") from None


def _result(backend: str, spec: Spec, outcome: Outcome, *, strip: bool) -> dict[str, Any]:
    stderr = outcome.stderr.text(strip=strip)
    timed_out = outcome.exit_code is None
    note = outcome.note or (f"Command timed out after {spec.timeout_sec} seconds." if timed_out else "")
    if outcome.note or (timed_out and not stderr):
        stderr = f"{stderr}\n{note}" if stderr else note
    return ExecResult(
        session=spec.session_id,
        backend=backend,
        status="timed_out" if timed_out else "completed",
        exit_code=outcome.exit_code,
        stdout=outcome.stdout.text(strip=strip),
        stderr=stderr,
        duration_ms=round(outcome.seconds * 1000),
    ).to_json()


def _fitting(seq_id: Any, data: dict[str, Any], most: int) -> str:
    """The reply as text, its output cut until the client can take it."""
    text = encode_reply(seq_id, data)
    while (size := _bytes(text)) > most and (data.get("stdout") or data.get("stderr")):
        data = _cut(data, most / size)
        text = encode_reply(seq_id, data)
    return text


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _cut(data: dict[str, Any], share: float) -> dict[str, Any]:
    name = max(("stdout", "stderr"), key=lambda one: len(data[one]))
    kept = data[name][: int(len(data[name]) * min(share, 0.9) * 0.98)]
    return {**data, name: kept and f"{kept}\n... [output cut to what this client can take]"}
