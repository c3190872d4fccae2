"""Presets on the client's side: profiles and session scopes (langbot_box.txt; protocols/box.md 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botbook._errors import SandboxError

__all__ = ["PROFILES", "SCOPES", "Profile", "apply_profile", "scope"]

#: Session scopes, as LangBot presets them (langbot_box.txt, session scope design 4.2).
SCOPES: Final = {
    "chat": "{launcher_type}_{launcher_id}",
    "user": "{launcher_type}_{launcher_id}_{sender_id}",
    "conversation": "{launcher_type}_{launcher_id}_{conversation_id}",
    "message": "{query_id}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A preset of a client; it never travels (box.md 6, BoxProfile).

    Attributes:
        settings: Fields of `Spec`.
        max_timeout_sec: Longest run that may be asked for, in seconds.
        locked: Fields that a caller cannot change.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    max_timeout_sec: int = 120
    locked: frozenset[str] = frozenset()


PROFILES: Final[dict[str, Profile]] = {
    "default": Profile(),
    "offline": Profile(),
    "offline_readonly": Profile(
        settings={"host_path_mode": "ro", "cpus": 0.5, "memory_mb": 256, "pids_limit": 64},
        max_timeout_sec=60,
        locked=frozenset({"network", "host_path_mode", "read_only_rootfs"}),
    ),
    "network_basic": Profile(settings={"network": "on"}),
    "network_extended": Profile(
        settings={
            "network": "on",
            "cpus": 2.0,
            "memory_mb": 1024,
            "pids_limit": 256,
            "read_only_rootfs": False,
        },
        max_timeout_sec=300,
    ),
}


def apply_profile(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `Spec`: the profile's, then what was given, then what the profile locks.

    Args:
        name: One of `PROFILES`.
        given: Fields of `Spec`; those that are locked are overruled, the timeout is cut to the longest.

    Raises:
        SandboxError: There is no such profile.
    """
    if (profile := PROFILES.get(name)) is None:
        known = ", ".join(sorted(PROFILES))
        raise SandboxError(f"there is no sandbox profile {name!r}", hint=f"Known: {known}.")
    spec = {**profile.settings, **given}
    for key in profile.locked:
        spec.pop(key, None)
        if key in profile.settings:
            spec[key] = profile.settings[key]
    if (wanted := spec.get("timeout_sec")) is not None:
        spec["timeout_sec"] = min(wanted, profile.max_timeout_sec)
    return spec


def scope(template: str, variables: Mapping[str, object]) -> str:
    """The session name of a scope template; an unknown variable becomes ``unknown``.

    Args:
        template: Text with ``{name}``, or a key of `SCOPES`.
        variables: ``launcher_type``, ``launcher_id``, ``sender_id``, ``conversation_id``, ``query_id``.
    """
    return re.sub(
        r"\{(\w+)\}", lambda found: str(variables.get(found[1], "unknown")), SCOPES.get(template, template)
    )
