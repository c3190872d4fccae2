"""What a caller of the sandbox runtime may do: decided here, and nowhere else (langbot_box.txt S1, S2, S5).

A caller is known by its token. Each request passes `Policy.allow`, each specification `Rules.checked`,
each directory `MountRoots.resolve`.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import posixpath
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from botbook._errors import SandboxError
from botbook.wire.box import PROFILES, Mount, Spec, apply_profile

__all__ = ["MountRoots", "Policy", "Rules"]

#: Never shown, whatever the roots say; the vendor's list (protocols/box.md 12).
_BLOCKED: Final = ("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/run")
#: Places inside that belong to the sandbox itself.
_RESERVED: Final = (
    "/bin",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
)
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}\Z")
#: Entries of a directory that are looked at for sockets.
_LOOKED_AT: Final = 10_000
#: Actions that act on the runtime as a whole.
ELEVATED: Final = frozenset({"box_init", "box_shutdown"})
#: Always answered: they tell nothing of anyone.
OPEN: Final = frozenset({"__ping", "__cancel_action", "box_health", "box_get_backend_info"})


class MountRoots:
    """Directories below which callers may mount.

    Args:
        roots: Absolute. ``/``, homes and what holds a home are refused.

    Raises:
        SandboxError: A root is too wide, or is no directory.
    """

    def __init__(self, roots: Sequence[str] = ()) -> None:
        self.roots = tuple(self._root(one) for one in roots)

    def _root(self, path: str) -> str:
        real = os.path.realpath(path)
        if not os.path.isdir(real):
            raise _refused(f"the mount root {path} is no directory")
        _refuse_wide(real, path)
        return real

    def resolve(self, mount: Mount) -> Mount:
        """The mount with its real path, symbolic links followed.

        Raises:
            SandboxError: It may not be shown; code ``BoxValidationError``.
        """
        real = os.path.realpath(mount.host_path)
        _refuse_wide(real, mount.host_path)
        if not any(_inside(real, root) for root in self.roots):
            roots = ", ".join(self.roots) or "none"
            raise _refused(
                f"host_path {mount.host_path} is outside the allowed mount roots ({roots})",
                hint="Name its directory in `mount_roots` when the runtime is started.",
            )
        _refuse_kind(real, mount.host_path)
        return replace(mount, host_path=real)


def _refused(text: str, *, hint: str | None = None) -> SandboxError:
    return SandboxError(text, code="BoxValidationError", hint=hint)


def _inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _homes() -> set[str]:
    listed = {str(Path.home())}
    with contextlib.suppress(ImportError):  # there is none on Windows
        import pwd

        listed |= {entry.pw_dir for entry in pwd.getpwall()}
    return {os.path.realpath(home) for home in listed if home not in ("", "/", "/nonexistent")}


def _refuse_wide(real: str, path: str) -> None:
    """``/``, homes, what holds a home, and the system's own places."""
    blocked = next((one for one in _BLOCKED if _inside(real, one)), "")
    if blocked:
        raise _refused(f"host_path {path} is blocked for security")
    if real == "/" or _is_home(real):
        raise _refused(f"host_path {path} is too wide: it is /, a home, or holds one")


def _is_home(real: str) -> bool:
    """A home that people live in; services have theirs in /var, /usr or /bin."""
    return any(_inside(home, real) for home in _homes() if not _inside(home, "/usr") and os.path.isdir(home))


def _refuse_kind(real: str, path: str) -> None:
    try:
        mode = os.stat(real).st_mode
    except OSError:
        raise _refused(f"host_path {path} does not exist") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise _refused(f"host_path {path} is neither a directory nor a file")
    if stat.S_ISDIR(mode) and _holds_socket(real):
        raise _refused(f"host_path {path} holds a socket, which would lead out of the sandbox")


def _holds_socket(real: str) -> bool:
    try:
        with os.scandir(real) as entries:
            for _, entry in zip(range(_LOOKED_AT), entries, strict=False):
                if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                    return True
    except OSError as error:
        raise _refused(f"host_path {real} cannot be read: {error.strerror}") from None
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What one caller may do.

    Attributes:
        name: Of the caller, as it stands in audit rows.
        actions: The only actions it may ask for; None for all.
        network: Whether it may switch the network on.
        read_only: Mounts and root are read-only, whatever it asks.
        profile: Preset whose locked fields it cannot change (protocols/box.md 6).
        mounts: Where it may mount from; nowhere by default.
        max_timeout_sec: Longest run, in seconds.
        max_memory_mb: Most memory of a session, in MiB.
        max_cpus: Most processors of a session.
        max_pids: Most processes of a session.
        max_quota_mb: Most room on disk of a session, in MiB.
        max_sessions: Most sessions at a time.
        elevated: Whether it may configure and empty the runtime.
    """

    name: str = "owner"
    actions: frozenset[str] | None = None
    network: bool = True
    read_only: bool = False
    profile: str = "default"
    mounts: MountRoots = field(default_factory=MountRoots)
    max_timeout_sec: int = 86_400
    max_memory_mb: int = 8192
    max_cpus: float = 64.0
    max_pids: int = 4096
    max_quota_mb: int = 65_536
    max_sessions: int = 64
    elevated: bool = True

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise SandboxError(f"there is no sandbox profile {self.profile!r}")

    def checked(self, spec: Spec) -> tuple[Spec, tuple[Mount, ...]]:
        """The specification as it will be carried out, and its directories by their real paths.

        Raises:
            SandboxError: It asks for more than these rules give.
        """
        spec = self._locked(spec)
        if spec.network == "on" and not self.network:
            raise SandboxError(f"{self.name} may not switch the network on", code="BoxValidationError")
        self._within_limits(spec)
        if not _IMAGE.match(spec.image):
            raise _refused(f"{spec.image[:80]!r} is no image name")
        _check_place(spec.mount_path)
        wanted = [mount for mount in (*_main_mount(spec), *spec.extra_mounts) if mount.mode != "none"]
        return spec, self._mounts(wanted)

    def _locked(self, spec: Spec) -> Spec:
        profile = PROFILES[self.profile]
        forced = apply_profile(self.profile, {key: getattr(spec, key) for key in profile.locked})
        changes = {key: forced.get(key, getattr(Spec(session_id="x"), key)) for key in profile.locked}
        if self.read_only:
            changes |= {"read_only_rootfs": True, "host_path_mode": _weaker(spec.host_path_mode)}
        return replace(spec, **changes)

    def _within_limits(self, spec: Spec) -> None:
        longest = (
            self.max_timeout_sec if self.profile == "default" else PROFILES[self.profile].max_timeout_sec
        )
        for name, most in (
            ("timeout_sec", min(self.max_timeout_sec, longest)),
            ("memory_mb", self.max_memory_mb),
            ("cpus", self.max_cpus),
            ("pids_limit", self.max_pids),
            ("workspace_quota_mb", self.max_quota_mb),
        ):
            if getattr(spec, name) > most:
                raise _refused(f"{name} may be {most} at the most")

    def _mounts(self, wanted: Sequence[Mount]) -> tuple[Mount, ...]:
        seen: set[str] = set()
        for mount in wanted:
            _check_place(mount.mount_path)
            if mount.mount_path in seen:
                raise _refused(f"two mounts at {mount.mount_path}")
            seen.add(mount.mount_path)
        limited = [replace(one, mode=_weaker(one.mode)) if self.read_only else one for one in wanted]
        return tuple(self.mounts.resolve(mount) for mount in limited)


def _main_mount(spec: Spec) -> tuple[Mount, ...]:
    if spec.host_path is None or spec.host_path_mode == "none":
        return ()
    if not _inside(posixpath.normpath(spec.directory), spec.mount_path):
        raise _refused(f"workdir must be {spec.mount_path} or below it")
    return (Mount(host_path=spec.host_path, mount_path=spec.mount_path, mode=spec.host_path_mode),)


def _weaker(mode: str) -> str:
    return "ro" if mode == "rw" else mode


def _check_place(path: str) -> None:
    if path != posixpath.normpath(path) or path.startswith("//"):
        raise _refused(f"mount_path {path} is not in its simplest form")
    if path == "/" or any(_inside(path, one) for one in _RESERVED):
        raise _refused(f"mount_path {path} belongs to the sandbox itself")


class Policy:
    """Who is known, and under which rules.

    Args:
        callers: Token → rules. Tokens are at least 16 characters.

    Raises:
        SandboxError: A token is too short to be one.
    """

    def __init__(self, callers: Mapping[str, Rules]) -> None:
        if any(len(token) < 16 for token in callers):
            raise SandboxError("a sandbox token needs at least 16 characters")
        self._callers = {token.encode(): rules for token, rules in callers.items()}

    def caller(self, token: str | None) -> Rules | None:
        """The rules of whoever holds this token; every one is compared, in constant time."""
        given = (token or "").encode("utf-8", "surrogateescape")
        found = None
        for known, rules in self._callers.items():
            if hmac.compare_digest(known, given):
                found = rules
        return found

    @staticmethod
    def allow(rules: Rules, action: str) -> None:
        """Let an action pass.

        Raises:
            SandboxError: The caller may not ask for it; code ``PermissionError``.
        """
        if action in OPEN:
            return
        barred = rules.actions is not None and action not in rules.actions
        if barred or (action in ELEVATED and not rules.elevated):
            raise SandboxError(f"{rules.name} may not {action}", code="PermissionError")
