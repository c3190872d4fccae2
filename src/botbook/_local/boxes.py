"""The sessions of the sandbox runtime: made on first use, held to their limits, ended in the end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botbook._clock import Clock
from botbook._errors import SandboxError
from botbook._local.backends.base import Backend, Cell, CellPlan, Child, Command, disk_mb
from botbook._local.execution import Managed, OnOutput, Outcome, collect
from botbook._local.policy import Rules
from botbook.wire.box import OUTPUT_LIMIT, Context, Mount, ProcessSpec, SessionInfo, Spec

__all__ = ["Boxes", "Limits", "Session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the runtime takes on (protocols/box.md 5 and 10 for the first three).

    Attributes:
        max_sessions: Sessions of all callers together.
        max_managed_processes: Running managed processes of all callers together.
        completed_process_retention_sec: How long an ended one stays listed, in seconds.
        session_ttl_sec: An idle session lives so long, in seconds.
        reap_sec: How often idle ones are looked for, in seconds.
        output_bytes: Of each stream, unless a caller asks for more.
        most_output_bytes: What a caller may ask for.
    """

    max_sessions: int = 64
    max_managed_processes: int = 64
    completed_process_retention_sec: int = 300
    session_ttl_sec: int = 300
    reap_sec: int = 30
    output_bytes: int = OUTPUT_LIMIT
    most_output_bytes: int = 8 * OUTPUT_LIMIT


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a session one and the same.

    Attributes:
        caller: Name of the rules.
        context: Who it is for, or None where nobody said.
        session: Its name, exactly as given.
    """

    caller: str
    context: Context | None
    session: str


@dataclass(slots=True, eq=False)
class Session:
    """One session, from the first request on.

    Attributes:
        key: Its identity.
        spec: What it was made with.
        mounts: What is shown in it.
        rules: Of its caller.
        started: Done when the cell stands, or failed.
        created_at: Wall clock.
        used_at: Wall clock.
        used: Monotonic, in seconds.
        turn: One command at a time.
        children: Commands that run.
        processes: Managed processes by name, ended ones too.
    """

    key: Key
    spec: Spec
    mounts: tuple[Mount, ...]
    rules: Rules
    started: asyncio.Future[Cell]
    created_at: datetime
    used_at: datetime
    used: float
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    children: set[Child] = field(default_factory=set)
    processes: dict[str, Managed] = field(default_factory=dict)
    closing: bool = False

    @property
    def writable_mounts(self) -> list[str]:
        """Directories of the machine that it can fill; measured only where a quota was asked for."""
        if not self.spec.workspace_quota_mb:
            return []
        return [one.host_path for one in self.mounts if one.mode == "rw"]

    @property
    def running(self) -> list[Managed]:
        """Managed processes that have not ended."""
        return [one for one in self.processes.values() if one.running]

    def process(self, name: str) -> Managed:
        """A managed process.

        Raises:
            SandboxError: There is none; code ``BoxManagedProcessNotFoundError``.
        """
        if (found := self.processes.get(name)) is None:
            raise SandboxError(
                f"session {self.key.session} has no managed process with process_id={name}",
                code="BoxManagedProcessNotFoundError",
            )
        return found

    def info(self, backend: str) -> SessionInfo:
        """As it is listed."""
        cell = self.started.result() if self.started.done() and not self.started.exception() else None
        same = ("network", "image", "host_path", "host_path_mode", "mount_path", "persistent", "cpus")
        more = ("memory_mb", "pids_limit", "read_only_rootfs", "workspace_quota_mb")
        busy = "running" if self.children else "idle"
        return SessionInfo(
            session_id=self.key.session,
            backend_name=backend,
            backend_session_id=cell.id if cell else "",
            created_at=_stamp(self.created_at),
            last_used_at=_stamp(self.used_at),
            status="closing" if self.closing else busy,
            **{name: getattr(self.spec, name) for name in (*same, *more)},
        )


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Boxes:
    """All sessions of a runtime. No lock is held while one starts.

    Args:
        backend: What encloses them.
        limits: How many, how long.
        clock: For idle time.
    """

    def __init__(self, backend: Backend, *, limits: Limits, clock: Clock) -> None:
        self.backend, self.limits = backend, limits
        self._clock = clock
        self._sessions: dict[Key, Session] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ looking

    def of(self, caller: str, context: Context | None) -> list[Session]:
        """Sessions of one caller and tenant."""
        return [
            one for one in self._sessions.values() if (one.key.caller, one.key.context) == (caller, context)
        ]

    def of_caller(self, caller: str) -> list[Session]:
        """Sessions of one caller, whoever they are for."""
        return [one for one in self._sessions.values() if one.key.caller == caller]

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, key: Key) -> Session:
        """A session that is there.

        Raises:
            SandboxError: It is not; code ``BoxSessionNotFoundError``.
        """
        if (found := self._sessions.get(key)) is None:
            raise SandboxError(f"session {key.session} not found", code="BoxSessionNotFoundError")
        return found

    def find_for_relay(self, caller: str, context: Context | None, name: str) -> Session:
        """A session by its own name or by the one that tenant clients make of it (protocols/box.md 6).

        Raises:
            SandboxError: There is none; code ``BoxSessionNotFoundError``.
        """
        for one in self.of_caller(caller):
            if one.key.context == context and one.key.session == name:
                return one
            if one.key.context is not None and one.key.context.physical(one.key.session) == name:
                return one
        return self.find(Key(caller, None, name))

    # ------------------------------------------------------------ making

    async def get(self, key: Key, spec: Spec, rules: Rules) -> Session:
        """The session of this name: a live one that fits, or a new one.

        Raises:
            SandboxError: It does not fit, there are too many, or it cannot be made.
        """
        spec, mounts = await asyncio.to_thread(rules.checked, spec)
        session = self._sessions.get(key)
        if session is not None and _is_over(session):
            await self.end(session)
            session = None
        if session is None:
            session = self._register(key, spec, mounts, rules)
        elif words := session.spec.conflict(spec):
            raise SandboxError(
                f"Box session {key.session} already exists with {words}", code="BoxSessionConflictError"
            )
        cell = await asyncio.shield(session.started)
        await self._add_mounts(session, cell, mounts)
        self._touch(session)
        return session

    def _register(self, key: Key, spec: Spec, mounts: tuple[Mount, ...], rules: Rules) -> Session:
        mine = len(self.of_caller(key.caller))
        for count, most in ((len(self._sessions), self.limits.max_sessions), (mine, rules.max_sessions)):
            if count >= most:
                raise SandboxError(f"Box session capacity reached ({most})", code="BoxCapacityExceededError")
        now = self._clock.now()
        started: asyncio.Future[Cell] = asyncio.get_running_loop().create_future()
        session = Session(key, spec, mounts, rules, started, now, now, self._clock.monotonic())
        self._sessions[key] = session
        self._later(self._start(session))
        if self._reaper is None:
            self._reaper = asyncio.ensure_future(self._reap())
        return session

    async def _start(self, session: Session) -> None:
        words = re.sub(r"[^A-Za-z0-9]+", "-", session.key.session).strip("-")[:24]
        name = "-".join(part for part in (words, secrets.token_hex(4)) if part)
        try:
            cell = await self.backend.open(CellPlan(name=name, spec=session.spec, mounts=session.mounts))
        except Exception as error:
            self._sessions.pop(session.key, None)
            session.started.set_exception(error)
            session.started.exception()  # whoever asked may be gone
            return
        session.started.set_result(cell)
        if session.closing:
            await cell.close()

    async def _add_mounts(self, session: Session, cell: Cell, mounts: tuple[Mount, ...]) -> None:
        """Mounts that appear later are shown to what runs from then on."""
        for mount in mounts:
            if mount in session.mounts:
                continue
            if any(one.mount_path == mount.mount_path for one in session.mounts):
                raise SandboxError(
                    f"Box mounts differ at {mount.mount_path} of session {session.key.session}",
                    code="BoxSessionConflictError",
                )
            session.mounts += (mount,)
            try:
                await cell.mount(mount)
            except SandboxError:
                session.mounts = tuple(one for one in session.mounts if one is not mount)
                raise

    def _touch(self, session: Session) -> None:
        session.used, session.used_at = self._clock.monotonic(), self._clock.now()

    # ------------------------------------------------------------ running

    async def execute(
        self,
        session: Session,
        spec: Spec,
        *,
        limit: int,
        stdin: bytes | None = None,
        on_output: OnOutput | None = None,
    ) -> Outcome:
        """Run a command to its end; the session's files outlive a time-out.

        Args:
            session: Where.
            spec: With the command, its directory, variables and timeout.
            limit: Bytes of each stream to keep.
            stdin: What it reads; None for nothing.
            on_output: Called with each piece of output.

        Raises:
            SandboxError: The session is gone or the command cannot be enclosed.
        """
        async with session.turn:
            cell = session.started.result()
            command = Command(
                argv=("/bin/sh", "-lc", spec.cmd),
                env=spec.env,
                cwd=spec.directory,
                stdin=stdin is not None,
            )
            child = await cell.run(command)
            session.children.add(child)
            try:
                return await collect(
                    child,
                    timeout=spec.timeout_sec,
                    limit=limit,
                    stdin=stdin or b"",
                    on_output=on_output,
                    watched=(*cell.watched, *session.writable_mounts),
                    quota=disk_mb(session.spec) << 20,
                )
            finally:
                session.children.discard(child)
                self._touch(session)

    async def start_process(self, session: Session, spec: ProcessSpec) -> Managed:
        """Start a managed process; one of that name that still runs is replaced.

        Raises:
            SandboxError: There are too many, or it cannot be enclosed.
        """
        old = session.processes.pop(spec.process_id, None)
        if old is not None:
            await old.stop()
        if sum(len(one.running) for one in self._sessions.values()) >= self.limits.max_managed_processes:
            raise SandboxError(
                f"Box managed process capacity reached ({self.limits.max_managed_processes})",
                code="BoxCapacityExceededError",
            )
        cell = session.started.result()
        command = Command(argv=(spec.command, *spec.args), env=spec.env, cwd=spec.cwd, stdin=True)
        child = await cell.run(command)
        managed = Managed(
            session.key.session,
            spec,
            child,
            lambda: _stamp(self._clock.now()),
            watched=(*cell.watched, *session.writable_mounts),
            quota=disk_mb(session.spec) << 20,
        )
        session.processes[spec.process_id] = managed
        self._touch(session)
        return managed

    # ------------------------------------------------------------ ending

    async def end(self, session: Session) -> None:
        """End a session and all that runs in it. Never raises."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
        session.closing = True
        with contextlib.suppress(Exception):
            cell = await asyncio.shield(session.started)
            await asyncio.gather(*(one.stop(grace=0) for one in session.processes.values()))
            await cell.close()

    async def end_all(self, sessions: list[Session]) -> None:
        """End several, side by side."""
        await asyncio.gather(*(self.end(one) for one in sessions))

    async def close(self) -> None:
        """End everything."""
        if self._reaper is not None:
            self._reaper.cancel()
        await self.end_all(list(self._sessions.values()))
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.backend.close()

    async def _reap(self) -> None:
        while True:
            await self._clock.sleep(self.limits.reap_sec)
            now = self._clock.monotonic()
            for session in list(self._sessions.values()):
                idle = now - session.used > self.limits.session_ttl_sec
                busy = session.children or session.running or not session.started.done()
                if _is_over(session) or (idle and not busy and not session.spec.persistent):
                    self._later(self.end(session))
                else:
                    self._forget_ended(session)

    def _forget_ended(self, session: Session) -> None:
        """Ended managed processes stay listed for a while."""
        oldest = self._clock.now().timestamp() - self.limits.completed_process_retention_sec
        for name, one in list(session.processes.items()):
            at = one.info().exited_at
            if at and datetime.fromisoformat(at).timestamp() < oldest:
                del session.processes[name]
                self._later(one.stop(grace=0))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _is_over(session: Session) -> bool:
    done = session.started
    return done.done() and (done.exception() is not None or done.result().ended.is_set())
