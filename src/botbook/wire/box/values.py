"""The values of the Box wire, read as laxly as the vendor reads them (protocols/box.md 6)."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any, Final, Self

from botbook._errors import CommandFailed, excerpt
from botbook.wire.box import fields
from botbook.wire.box.text import CLIP_LIMIT, clip

__all__ = [
    "IMAGE",
    "WORKSPACE",
    "Context",
    "ExecResult",
    "Mount",
    "ProcessInfo",
    "ProcessSpec",
    "SessionInfo",
    "Spec",
]

IMAGE: Final = "rockchin/langbot-sandbox:latest"
WORKSPACE: Final = "/workspace"
#: What the embedded runtime writes below the errors of a command that took too much memory.
_NO_MEMORY: Final = "Killed: out of memory."


def _mounts(value: Any) -> tuple[Mount, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("Input should be a valid list")
    return tuple(item if isinstance(item, Mount) else Mount.from_json(item) for item in value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A directory of the runtime's machine shown inside (box.md 6, BoxMountSpec).

    Attributes:
        host_path: Absolute path outside.
        mount_path: Absolute path inside.
        mode: ``rw``, ``ro`` or ``none``.
    """

    host_path: str = fields.known(fields.path)
    mount_path: str = fields.known(fields.path)
    mode: str = fields.known(fields.choice("none", "ro", "rw"), default="rw")

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: A field is missing or wrong.
        """
        return fields.read(cls, "BoxMountSpec", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object."""
        return fields.dump(self, defaults=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a session is made of, and what runs in it (box.md 6, BoxSpec).

    Attributes:
        session_id: Name of the session.
        cmd: Shell text; "" where none is run.
        workdir: Absolute; "" stands for `mount_path`.
        timeout_sec: Longest run, in seconds.
        network: ``off`` or ``on``.
        env: Variables of the command.
        image: Container image; backends without images ignore it.
        host_path: Directory outside that becomes `mount_path`, or None for an empty one.
        host_path_mode: ``rw``, ``ro`` or ``none``.
        mount_path: Where the workspace is, inside.
        extra_mounts: Further directories.
        persistent: Spare it when idle.
        cpus: Processors.
        memory_mb: Memory, in MiB.
        pids_limit: Processes and threads.
        read_only_rootfs: Only workspace, /tmp and home can be written.
        workspace_quota_mb: Room on disk, in MiB; 0 for the runtime's default.
    """

    session_id: str = fields.known(fields.name)
    cmd: str = fields.known(lambda value: fields.text(value).strip(), default="")
    workdir: str = fields.known(fields.path, default="")
    timeout_sec: int = fields.known(fields.whole(1), default=30)
    network: str = fields.known(fields.choice("off", "on"), default="off")
    env: dict[str, str] = field(metadata={"read": fields.env}, default_factory=dict, repr=False)
    image: str = fields.known(fields.text, default=IMAGE)
    host_path: str | None = fields.known(fields.maybe_path, default=None)
    host_path_mode: str = fields.known(fields.choice("none", "ro", "rw"), default="rw")
    mount_path: str = fields.known(fields.path, default=WORKSPACE)
    extra_mounts: tuple[Mount, ...] = fields.known(_mounts, default=())
    persistent: bool = fields.known(fields.flag, default=False)
    cpus: float = fields.known(fields.share, default=1.0)
    memory_mb: int = fields.known(fields.whole(32), default=512)
    pids_limit: int = fields.known(fields.whole(1), default=128)
    read_only_rootfs: bool = fields.known(fields.flag, default=True)
    workspace_quota_mb: int = fields.known(fields.whole(0), default=0)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: A field is missing or wrong; code ``BoxValidationError``.
        """
        return fields.read(cls, "BoxSpec", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object, without the keys that stand at their default."""
        return fields.dump(self, defaults=False)

    @property
    def directory(self) -> str:
        """Where a command starts."""
        return self.workdir or self.mount_path

    def conflict(self, other: Spec) -> str:
        """What of `other` a live session of this spec cannot be, as FIELD=VALUE, or ""."""
        for name in _FIXED:
            if (mine := getattr(self, name)) != getattr(other, name):
                return f"{name}={mine}"
        return ""


#: Fields in which a session cannot change (box.md 7).
_FIXED = (
    "network",
    "image",
    "host_path",
    "host_path_mode",
    "mount_path",
    "persistent",
    "cpus",
    "memory_mb",
    "pids_limit",
    "read_only_rootfs",
    "workspace_quota_mb",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A live session (box.md 6, BoxSessionInfo); fields of `Spec` mean the same here.

    Attributes:
        backend_name: What isolates it.
        backend_session_id: Its name there.
        created_at: ISO 8601, UTC.
        last_used_at: ISO 8601, UTC.
        status: ``idle``, ``running`` or ``closing``; "" from old runtimes.
    """

    session_id: str = fields.known(fields.text)
    backend_name: str = ""
    backend_session_id: str = ""
    image: str = ""
    network: str = "off"
    host_path: str | None = None
    host_path_mode: str = "rw"
    mount_path: str = WORKSPACE
    persistent: bool = False
    cpus: float = 1.0
    memory_mb: int = 512
    pids_limit: int = 128
    read_only_rootfs: bool = True
    workspace_quota_mb: int = 0
    created_at: str = ""
    last_used_at: str = ""
    status: str = ""

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: It is no session.
        """
        return fields.read(cls, "BoxSessionInfo", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object, every key."""
        return fields.dump(self, defaults=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command ended (box.md 6, BoxExecutionResult).

    Attributes:
        session: Name of the session.
        backend: What isolated it.
        status: ``completed`` or ``timed_out``.
        exit_code: 128+n for death by signal n; None on time-out.
        stdout: Whole text, undecodable bytes replaced.
        stderr: Whole text.
        duration_ms: In milliseconds.
    """

    session: str = field(metadata={"key": "session_id", "read": fields.text})
    backend: str = field(default="", metadata={"key": "backend_name"})
    status: str = fields.known(fields.text, default="completed")
    exit_code: int | None = None
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)
    duration_ms: int = 0

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: It is no result.
        """
        return fields.read(cls, "BoxExecutionResult", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object, every key."""
        return fields.dump(self, defaults=True)

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.status == "completed" and self.exit_code == 0

    def check(self) -> Self:
        """This result, if the command ended well.

        Raises:
            CommandFailed: It did not; `result` is this.
        """
        if self.ok:
            return self
        if self.status != "completed":
            ended, words = self.status.replace("_", " "), ""
        else:
            lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
            ended, words = f"exit code {self.exit_code}", excerpt("".join(lines[-1:]))
        after = f"{ended} after {self.duration_ms / 1000:.3g} s"
        raise CommandFailed(f"{after}: {words}" if words else after, result=self, hint=self._hint())

    def _hint(self) -> str | None:
        if self.status == "timed_out":
            return "Give it longer: `timeout=`, or --timeout in a cell."
        if _NO_MEMORY in self.stderr:
            return "Give the session more: `box.create(session, memory_mb=…)`."
        if self.exit_code in (126, 127):
            return "There is no such program in the sandbox, or it cannot be run."
        return None

    def shown(self, limit: int = CLIP_LIMIT) -> str:
        """Both streams for a screen, head and tail.

        Args:
            limit: Characters of each stream.
        """
        return "\n".join(clip(text, limit) for text in (self.stdout, self.stderr) if text)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """A long-lived program (box.md 6, BoxManagedProcessSpec).

    Attributes:
        process_id: Its name in the session.
        command: Program.
        args: Its arguments.
        env: Its variables.
        cwd: Absolute.
        memory_mb: In MiB; 0 for the session's.
    """

    command: str = fields.known(fields.name)
    process_id: str = fields.known(fields.name, default="default")
    args: tuple[str, ...] = fields.known(fields.texts, default=())
    env: dict[str, str] = field(metadata={"read": fields.env}, default_factory=dict, repr=False)
    cwd: str = fields.known(fields.path, default=WORKSPACE)
    memory_mb: int = fields.known(fields.whole(0), default=0)

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: A field is missing or wrong.
        """
        return fields.read(cls, "BoxManagedProcessSpec", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object, without the keys that stand at their default."""
        return fields.dump(self, defaults=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A managed process as listed (box.md 6, BoxManagedProcessInfo).

    Attributes:
        session_id: Its session.
        process_id: Its name.
        status: ``running`` or ``exited``.
        command: Program.
        args: Its arguments.
        cwd: Where it started.
        env_keys: Names of its variables, never their values.
        attached: Whether a relay is open.
        started_at: ISO 8601, UTC.
        exited_at: ISO 8601, UTC, or None.
        exit_code: 128+n for death by signal n, or None.
        stderr_preview: Last 4000 characters or so of its stderr.
    """

    session_id: str = fields.known(fields.text)
    process_id: str = "default"
    status: str = "running"
    command: str = ""
    args: tuple[str, ...] = fields.known(fields.texts, default=())
    cwd: str = WORKSPACE
    env_keys: tuple[str, ...] = fields.known(fields.texts, default=())
    attached: bool = False
    started_at: str = ""
    exited_at: str | None = None
    exit_code: int | None = None
    stderr_preview: str = ""

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: It is no process.
        """
        return fields.read(cls, "BoxManagedProcessInfo", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object, every key."""
        return fields.dump(self, defaults=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who a request is for (box.md 4); the same values travel as headers (box.md 3).

    Attributes:
        instance: Of the program that connects.
        workspace: Of the tenant.
        generation: Grows when a tenant moves.
    """

    instance: str = field(metadata={"key": "instance_uuid", "read": fields.name})
    workspace: str = field(metadata={"key": "workspace_uuid", "read": fields.name})
    generation: int = field(default=1, metadata={"key": "placement_generation", "read": fields.whole(1)})

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Read a peer's object.

        Raises:
            SandboxError: It names nobody.
        """
        return fields.read(cls, "ActionContext", data)

    def to_json(self) -> dict[str, Any]:
        """The wire's object."""
        return fields.dump(self, defaults=True)

    @property
    def namespace(self) -> str:
        """What a tenant runtime puts before the names of this tenant's sessions."""
        digest = hashlib.sha256(f"{self.instance}\0{self.workspace}".encode()).hexdigest()
        return f"ws-{digest[:24]}-g{self.generation}"

    def physical(self, session: str) -> str:
        """The name by which relay addresses and error texts of a tenant runtime call a session."""
        return f"{self.namespace}-{re.sub(r'[^A-Za-z0-9_.-]+', '-', session).strip('-')}"
