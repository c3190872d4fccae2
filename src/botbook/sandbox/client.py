"""The client; see `botbook.sandbox`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import pkgutil
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from botbook._config import Secret, checked_url, settings
from botbook._errors import BotbookError, NotSupported
from botbook._net.loop import LoopThread, io_loop
from botbook._net.transport import Transport
from botbook.sandbox import files
from botbook.sandbox.link import BoxLink, OnOutput, at_home, open_box_socket
from botbook.sandbox.process import AsyncProcess
from botbook.wire.box import (
    SKILL_ACTIONS,
    Context,
    Dialect,
    ExecResult,
    LineJoiner,
    ProcessInfo,
    ProcessSpec,
    SessionInfo,
    Spec,
    apply_profile,
    file_chunks,
    identity_headers,
    relay_url,
)
from botbook.wire.contract import Opening

__all__ = ["AsyncBox"]

#: Starts the embedded runtime: called by name, so that a client of another runtime loads no server.
EMBEDDED: Final = "botbook._local.box_server:start"
DEFAULT_SESSION: Final = "default"
DEFAULT_TIMEOUT: Final = 30
OURSELVES: Final = "botbook"
#: A session of our own runtime outlives a lunch and a night, in seconds.
A_DAY: Final = 86_400
#: What a reply may take longer than its command, in seconds; a runtime may have to start a container.
_SLACK: Final = 60.0
_SHOWN_CMD: Final = 200
_WHOLE_OUTPUT: Final = 8 * 1024 * 1024


class _Server(Protocol):
    async def close(self) -> None: ...


class AsyncBox:
    """A client of one runtime. Its methods may be awaited from any loop.

    Args:
        url: ``ws://`` or ``wss://`` of a runtime; None takes BOTBOOK_BOX_URL or the profile ``box``, and
            starts the embedded runtime if there is neither.
        token: Its secret.
        instance: Who we are to a tenant runtime, which keeps the first name it sees; default that of the
            settings, else ``botbook``.
        workspace: Which tenant; default that of the settings, else ``botbook``.
        generation: Its placement generation.
        profile: Preset with locked fields and a longest timeout (protocols/box.md 6); "" for none.
        mount_roots: Embedded runtime only: directories below which sessions may mount.
        idle: Embedded runtime only: a session that nobody uses lives so long, in seconds.
        backend: Embedded runtime only: name of a backend; "" for the best.
        unsafe: Embedded runtime only: run commands with NO protection where no backend works.
        audit: Called with a row for each command, on the loop's thread: session, cmd (cut), status
            (``completed``, ``timed_out``, ``cancelled`` or ``failed``), exit_code, duration_ms,
            stdout_bytes, stderr_bytes, backend, error.
        home: Loop that holds the sockets; default the shared IO loop.

    Raises:
        ConfigError: The address is unfit.
        SandboxError: There is no such profile.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | Secret | None = None,
        *,
        instance: str = "",
        workspace: str = "",
        generation: int = 1,
        profile: str = "",
        mount_roots: Sequence[str] = (),
        idle: int = A_DAY,
        backend: str = "",
        unsafe: bool = False,
        audit: Callable[[dict[str, Any]], object] | None = None,
        home: LoopThread | None = None,
    ) -> None:
        found = settings("box", base_url=url, token=token, instance=instance, workspace=workspace)
        self.url = _rpc_url(found.base_url) if found.base_url else ""
        self._token = found.token
        self._context = Context(
            instance=found.instance or OURSELVES,
            workspace=found.workspace or OURSELVES,
            generation=generation,
        )
        self._profile = profile
        if profile:
            apply_profile(profile, {})
        self._embedded = {
            "mount_roots": tuple(mount_roots),
            "idle": idle,
            "backend": backend,
            "unsafe": unsafe,
        }
        self._server: _Server | None = None
        self._own: tuple[str, Secret] | None = None
        self._specs: dict[str, Spec] = {}
        self._link: BoxLink | None = None
        self._audit = audit
        self.home = home or io_loop()

    # ------------------------------------------------------------ connection

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @at_home
    async def open(self) -> str:
        """Connect; gives the name of the dialect. Every other method does it by itself.

        Raises:
            TransportError: The runtime cannot be reached.
            AuthError: The token was refused.
            SandboxError: No sandbox works on this machine.
        """
        return (await self._connected().ready()).name

    def _connected(self) -> BoxLink:
        if self._link is None:
            self._link = BoxLink(self._where, self._context)
        return self._link

    async def _where(self) -> Opening:
        url, token = await self._endpoint()
        return Opening(url=url, headers=identity_headers(self._context, token.reveal() if token else None))

    async def _endpoint(self) -> tuple[str, Secret | None]:
        if self.url:
            return self.url, self._token
        if self._own is None:
            self._server, endpoint = await pkgutil.resolve_name(EMBEDDED)(**self._embedded)
            self._own = (endpoint.url, Secret(endpoint.token))
        return self._own

    @at_home
    async def close(self) -> None:
        """Disconnect, and end the embedded runtime with all its sessions if it is ours."""
        if self._link is not None:
            await self._link.close()
            self._link = None
        if self._server is not None:
            await self._server.close()
            self._server, self._own = None, None

    @at_home
    async def call(self, action: str, *, timeout: float = 60.0, **data: Any) -> dict[str, Any]:
        """Any action of the wire by its name (protocols/box.md 5).

        Args:
            action: Such as ``box_status``.
            timeout: In seconds.
            **data: Its arguments.

        Raises:
            SandboxError: The runtime refused.
        """
        return await self._connected().call(action, data, timeout=timeout)

    # ------------------------------------------------------------ sessions

    def _spec(self, session: str, given: dict[str, Any]) -> Spec:
        """The whole specification: a runtime compares each request with the one that made the session."""
        known = self._specs.get(session)
        base = {} if known is None else known.to_json()
        wanted = {**base, **given}
        if self._profile:
            wanted = apply_profile(self._profile, wanted)
        return Spec.from_json({**wanted, "session_id": session})

    def _remember(self, spec: Spec) -> None:
        data = spec.to_json()
        for passing in ("cmd", "env", "timeout_sec", "workdir"):
            data.pop(passing, None)
        self._specs[spec.session_id] = Spec.from_json(data)

    @at_home
    async def create(self, session: str = DEFAULT_SESSION, **spec: Any) -> SessionInfo:
        """Make a session, or find it again.

        Args:
            session: Its name.
            **spec: Fields of `botbook.wire.box.Spec`; they are repeated with each command by themselves.

        Raises:
            SandboxError: A field is wrong, or the session exists and differs.
        """
        wanted = self._spec(session, spec)
        data = await self._connected().call("box_create_session", wanted.to_json(), timeout=_SLACK)
        self._remember(wanted)
        return SessionInfo.from_json(data)

    @at_home
    async def sessions(self) -> list[SessionInfo]:
        """Sessions that are alive and ours to see."""
        data = await self._connected().call("box_get_sessions")
        return [SessionInfo.from_json(one) for one in data.get("sessions", [])]

    @at_home
    async def delete(self, session: str = DEFAULT_SESSION) -> None:
        """End a session, what runs in it, and its files.

        Raises:
            SandboxError: There is none; code ``BoxSessionNotFoundError``.
        """
        self._specs.pop(session, None)
        await self._connected().call("box_delete_session", {"session_id": session})

    # ------------------------------------------------------------ commands

    @at_home
    async def exec(
        self,
        cmd: str,
        *,
        session: str = DEFAULT_SESSION,
        timeout: int = DEFAULT_TIMEOUT,
        env: dict[str, str] | None = None,
        workdir: str = "",
        stdin: bytes | str | None = None,
        on_output: OnOutput | None = None,
        **spec: Any,
    ) -> ExecResult:
        """Run shell text to its end. The session is made if there is none.

        Cancelled, or interrupted in `Box`, it ends the command where the runtime can.

        Args:
            cmd: For ``sh``.
            session: Where.
            timeout: Longest run, in seconds. Only the embedded runtime keeps the session's files after it.
            env: Variables.
            workdir: Where it starts; default the workspace.
            stdin: What it reads; only where the runtime takes input.
            on_output: Called with ``stdout`` or ``stderr`` and a piece of text while it runs, on the loop's
                thread; elsewhere once with all of it at the end.
            **spec: Further fields of `botbook.wire.box.Spec` for a new session.

        Raises:
            SandboxError: The runtime refused. A command that fails is no error: see `ExecResult.ok`.
            NotSupported: Input was given to a runtime that takes none.
            TransportError: The runtime is gone.
        """
        return await self._exec(
            cmd,
            session=session,
            timeout=timeout,
            env=env or {},
            workdir=workdir,
            stdin=stdin.encode() if isinstance(stdin, str) else stdin,
            on_output=on_output,
            spec=spec,
        )

    async def _exec(
        self,
        cmd: str,
        *,
        session: str,
        timeout: int = DEFAULT_TIMEOUT,
        env: dict[str, str] | None = None,
        workdir: str = "",
        stdin: bytes | None = None,
        on_output: OnOutput | None = None,
        spec: dict[str, Any] | None = None,
    ) -> ExecResult:
        once: dict[str, Any] = {"cmd": cmd, "timeout_sec": timeout, "env": env or {}}
        wanted = self._spec(session, {**(spec or {}), **once, **({"workdir": workdir} if workdir else {})})
        with self._audited(wanted) as note:
            result = await self._run(wanted, stdin=stdin, on_output=on_output)
            note(result)
        return result

    async def _run(self, wanted: Spec, *, stdin: bytes | None, on_output: OnOutput | None) -> ExecResult:
        link = self._connected()
        added = self._additions(await link.ready(), stdin=stdin, stream=on_output is not None)
        data = await link.call(
            "box_exec",
            {**wanted.to_json(), **added},
            timeout=wanted.timeout_sec + _SLACK,
            on_output=on_output,
        )
        self._remember(wanted)
        result = ExecResult.from_json(data)
        if on_output is not None and "stream" not in added:
            for name in ("stdout", "stderr"):
                if text := getattr(result, name):
                    on_output(name, text)
        return result

    @contextlib.contextmanager
    def _audited(self, wanted: Spec) -> Iterator[Callable[[ExecResult], None]]:
        """Have a row made of a command, also if it is refused or given up."""
        began = time.monotonic()
        row: dict[str, Any] = {
            "session": wanted.session_id,
            "cmd": _plain(wanted.cmd)[:_SHOWN_CMD],
            "status": "failed",
            "exit_code": None,
            "duration_ms": 0,
            "stdout_bytes": 0,
            "stderr_bytes": 0,
            "backend": "",
            "error": "",
        }
        try:
            yield lambda result: row.update(_ended(result))
        except asyncio.CancelledError:
            row["status"] = "cancelled"
            raise
        except BotbookError as error:
            row["error"] = _plain(str(error))
            raise
        finally:
            row["duration_ms"] = row["duration_ms"] or round((time.monotonic() - began) * 1000)
            if self._audit is not None:
                self._audit(row)

    @staticmethod
    def _additions(dialect: Dialect, *, stdin: bytes | None, stream: bool) -> dict[str, Any]:
        """What only a runtime that offers it is sent: a strict one refuses unknown keys."""
        added: dict[str, Any] = {}
        offered = dialect.extensions
        if "whole_output" in offered:
            added |= {"output_bytes": _WHOLE_OUTPUT, "strip": False}
        if stream and "stream" in offered:
            added["stream"] = True
        if stdin is not None:
            if "stdin" not in offered:
                raise NotSupported("input for a command", f"this Box runtime ({dialect.name})")
            added["stdin_base64"] = base64.b64encode(stdin).decode()
        return added

    @at_home
    async def keeps_files(self) -> bool:
        """Whether a session and its files outlive a command that ran out of time."""
        return "keep_after_timeout" in (await self._connected().ready()).extensions

    # ------------------------------------------------------------ processes

    @at_home
    async def start(
        self,
        command: str,
        args: Sequence[str] = (),
        *,
        session: str = DEFAULT_SESSION,
        process: str = "default",
        env: dict[str, str] | None = None,
        cwd: str = "/workspace",
    ) -> AsyncProcess:
        """Start a long-lived program and attach to it; one of that name is replaced.

        Args:
            command: Program.
            args: Its arguments.
            session: Where; made if there is none.
            process: Its name in the session.
            env: Variables.
            cwd: Where it starts.

        Raises:
            SandboxError: The runtime refused.
        """
        spec = ProcessSpec.from_json(
            {"command": command, "args": list(args), "process_id": process, "env": env or {}, "cwd": cwd}
        )
        link = self._connected()
        wanted = self._spec(session, {})
        await link.call("box_create_session", wanted.to_json(), timeout=_SLACK)
        self._remember(wanted)
        await link.call("box_start_managed_process", {"session_id": session, "spec": spec.to_json()})
        started = AsyncProcess(
            session, process, home=self.home, call=link.call, relay=lambda: self._relay(session, process)
        )
        await started.attach()
        return started

    @at_home
    async def processes(self, session: str = DEFAULT_SESSION) -> list[ProcessInfo]:
        """Managed processes of a session, ended ones too."""
        data = await self._connected().call("box_get_session", {"session_id": session})
        return [ProcessInfo.from_json(one) for one in data.get("managed_processes", {}).values()]

    async def _relay(self, session: str, process: str) -> tuple[Transport, LineJoiner]:
        url, token = await self._endpoint()
        dialect = await self._connected().ready()
        name = self._context.physical(session) if dialect.context else session
        headers = identity_headers(self._context, token.reveal() if token else None)
        transport = await open_box_socket(Opening(url=relay_url(url, name, process), headers=headers))
        return transport, LineJoiner(framed=dialect.name == "legacy")

    # ------------------------------------------------------------ files

    @at_home
    async def put(
        self, src: str | Path | bytes, dst: str, *, session: str = DEFAULT_SESSION, timeout: int = 60
    ) -> int:
        """Copy a file in.

        Args:
            src: Path of a file here, or its bytes.
            dst: Path inside; relative ones start in the workspace. Directories are made.
            session: Where.
            timeout: For each piece, in seconds.

        Returns:
            How many bytes went in.

        Raises:
            SandboxError: The file cannot be written there.
            ConfigError: The file here cannot be read.
        """
        data = src if isinstance(src, bytes) else await asyncio.to_thread(files.read_file, src)
        takes_input = "stdin" in (await self._connected().ready()).extensions
        await files.put(self._in_session(session, timeout), data, dst, takes_input=takes_input)
        return len(data)

    @at_home
    async def get(
        self,
        src: str,
        dst: str | Path | None = None,
        *,
        session: str = DEFAULT_SESSION,
        timeout: int = 60,
    ) -> bytes:
        """Copy a file out.

        Args:
            src: Path inside; relative ones start in the workspace.
            dst: Where to write it here; None writes nothing.
            session: Where from.
            timeout: For each piece, in seconds.

        Returns:
            Its bytes.

        Raises:
            SandboxError: There is no such file.
            ConfigError: It cannot be written here.
        """
        data = await files.get(self._in_session(session, timeout), src)
        if dst is not None:
            await asyncio.to_thread(files.write_file, dst, data)
        return data

    def _in_session(self, session: str, timeout: int) -> files.Run:
        async def run(cmd: str, stdin: bytes | None = None) -> ExecResult:
            return await self._exec(cmd, session=session, timeout=timeout, stdin=stdin)

        return run

    # ------------------------------------------------------------ the runtime

    @at_home
    async def doctor(self, *, every: bool = False) -> list[dict[str, Any]]:
        """Rows of ``backend``, ``protection``, ``on``, ``how``: what is in force.

        Only the embedded runtime tells; elsewhere there is one row with the backend's name. A backend that
        does not work has one row, with the reason.

        Args:
            every: Also what the other backends could do on this machine; each is tried.
        """
        link = self._connected()
        if (await link.ready()).name != "botbook":
            said = await link.call("box_get_backend_info")
            name = said.get("name")
            return [{"backend": name, "protection": "", "on": None, "how": "this runtime does not tell"}]
        reports = (await link.call("box_doctor", {"all": every}))["reports"]
        return [row for report in reports for row in _rows(report)]

    @at_home
    async def skill(self, verb: str, **data: Any) -> dict[str, Any]:
        """A skill action (protocols/box.md 9).

        Args:
            verb: Such as ``list_skills`` or ``read_skill_file``.
            **data: Its arguments; ``zip`` with the bytes of an archive is sent ahead of the verbs that
                take one.

        Raises:
            NotSupported: The runtime has no skills, or there is no such verb.
        """
        action, link = f"box_{verb}", self._connected()
        if action not in SKILL_ACTIONS or not (await link.ready()).skills:
            raise NotSupported(action, "this Box runtime", hint="Only runtimes up to 0.7.12 have skills.")
        if (archive := data.pop("zip", None)) is not None:
            data["file_key"] = f"ft1_{secrets.token_hex(32)}.zip"
            for piece in file_chunks(data["file_key"], archive):
                await link.call("__file_chunk", piece)
        return await link.call(action, data, timeout=120.0)


def _rpc_url(url: str) -> str:
    """The control socket's address; the path is added where only a host was named."""
    url = checked_url(url, schemes=("ws", "wss"))
    return url if url.endswith("/rpc/ws") else f"{url}/rpc/ws"


def _ended(result: ExecResult) -> dict[str, Any]:
    return {
        "status": result.status,
        "exit_code": result.exit_code,
        "duration_ms": result.duration_ms,
        "stdout_bytes": len(result.stdout.encode("utf-8", "surrogatepass")),
        "stderr_bytes": len(result.stderr.encode("utf-8", "surrogatepass")),
        "backend": result.backend,
    }


def _plain(text: str) -> str:
    """Text that can be written anywhere."""
    return text.encode("utf-8", "replace").decode()


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    name = report["backend"]
    if not report["available"]:
        return [{"backend": name, "protection": "", "on": False, "how": report["reason"]}]
    return [
        {"backend": name, "protection": one["name"], "on": one["on"], "how": one["how"]}
        for one in report["protections"]
    ]
