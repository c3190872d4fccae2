"""What every sandbox shows of the machine, and what its programs are told: shared by the backends."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = [
    "BECOME",
    "HOME",
    "WRITABLE",
    "cpu_set",
    "environment",
    "etc_files",
    "handed",
    "interpreter",
    "resolver",
    "system",
]

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_ETC: Final = (
    "alternatives",
    "ca-certificates",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "pki/ca-trust",
    "pki/tls/certs",
    "ssl/certs",
    "ssl/openssl.cnf",
)
_PREFIX_PARTS: Final = ("bin", "include", "lib", "lib64", "pyvenv.cfg", "share", "ssl")
HOME: Final = "/home/box"
#: Takes the variables out of BOTBOOK_0, BOTBOOK_1, …, so that neither their values stand on a command line
#: nor their names mean anything to the helper's own program; then becomes the command.
BECOME: Final = (
    'n=0; while eval "one=\\${BOTBOOK_$n-}"; [ -n "$one" ]; do '
    'unset "BOTBOOK_$n"; export "$one"; n=$((n+1)); done; '
    'unset n one; mkdir -p "$0"; cd "$0" && exec "$@"'
)
#: Places that can always be written, besides the workspace.
WRITABLE: Final = ("/tmp", "/var/tmp", "/run", HOME, "/dev/shm")


def system() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Directories of the machine to show read-only, and links to make."""
    binds: list[dict[str, Any]] = []
    links: dict[str, str] = {}
    for place in _SYSTEM:
        if os.path.islink(place):
            links[place] = os.readlink(place)
        elif os.path.isdir(place):
            binds.append(_read_only(place))
    return binds + [_read_only(f"/etc/{name}") for name in _ETC if os.path.exists(f"/etc/{name}")], links


def _read_only(place: str) -> dict[str, Any]:
    return {"source": place, "target": place, "mode": "ro", "optional": True}


def interpreter() -> list[dict[str, Any]]:
    """The parts of this Python, unless they lie in /usr; not a pip.conf that may hold a password."""
    parts = (f"{prefix}/{part}" for prefix in _prefixes() for part in _PREFIX_PARTS)
    return [_read_only(part) for part in parts if os.access(part, os.R_OK)]


def _prefixes() -> list[str]:
    found = dict.fromkeys((sys.prefix, sys.base_prefix))
    return [one for one in found if not one.startswith(("/usr/", "/bin")) and one not in ("/", "/usr")]


def resolver() -> list[dict[str, Any]]:
    """What finding a name takes when the network is on."""
    names = ("resolv.conf", "nsswitch.conf", "services", "protocols")
    return [_read_only(f"/etc/{name}") for name in names if os.path.exists(f"/etc/{name}")]


def etc_files() -> dict[str, str]:
    """Small files that the sandbox has of its own."""
    return {
        "/etc/passwd": f"root:x:0:0::/:/bin/sh\nbox:x:1000:1000::{HOME}:/bin/sh\n",
        "/etc/group": "root:x:0:\nbox:x:1000:\n",
        "/etc/hosts": "127.0.0.1 localhost box\n::1 localhost\n",
        "/etc/hostname": "box\n",
    }


def environment(binds: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Variables of every command.

    Args:
        binds: What is shown; an interpreter among them comes first on the path.
    """
    places = {bind["source"] for bind in binds}
    shown = [f"{one}/bin" for one in _prefixes() if f"{one}/bin" in places]
    return {
        "PATH": ":".join([*shown, "/usr/local/bin", "/usr/bin", "/bin"]),
        "HOME": HOME,
        "USER": "box",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def handed(env: Mapping[str, str]) -> dict[str, str]:
    """Variables as `BECOME` takes them."""
    return {f"BOTBOOK_{at}": f"{key}={value}" for at, (key, value) in enumerate(env.items())}


def cpu_set(cpus: float, turn: int) -> list[int]:
    """Which processors a session is held to, where no control group shares them out."""
    ours = sorted(os.sched_getaffinity(0))
    count = min(len(ours), math.ceil(cpus))
    return [ours[(turn + at) % len(ours)] for at in range(count)]
