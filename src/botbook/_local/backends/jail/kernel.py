"""System calls that Python does not wrap."""

from __future__ import annotations

import ctypes
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REC, MS_PRIVATE = 0x4000, 0x40000
MNT_DETACH = 2

ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_IDMAP = 1, 2, 4, 0x00100000
AT_EMPTY_PATH, AT_RECURSIVE = 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 4, 22, 24
PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 28, 38, 47, 4
#: no root magic, no fix-ups, no keeping, no ambient; each locked
SECUREBITS = 0b1110_1111

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_SYS_OPENAT2, _RESOLVE_NO_SYMLINKS = 437, 0x04
_SYS_LANDLOCK_CREATE, _SYS_LANDLOCK_ADD, _SYS_LANDLOCK_SELF = 444, 445, 446
_CAP_VERSION_3 = 0x20080522
LAST_CAP = 63


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _long(value: int) -> ctypes.c_ulong:
    return ctypes.c_ulong(value)


def unshare(flags: int) -> None:
    _checked(libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    done = libc.mount(source.encode(), target.encode(), kind.encode(), _long(flags), data.encode())
    _checked(done, f"mount {kind or 'bind'} on {target}")


def detach(target: str) -> None:
    _checked(libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def pivot_root_here() -> None:
    """Make the working directory the root, and let go of the old one."""
    number = _PIVOT_ROOT[os.uname().machine]
    _checked(libc.syscall(_long(number), b".", b"."), "pivot_root")
    detach(".")
    os.chdir("/")


def open_tree(path: str, *, strict: bool = False) -> int:
    """A private copy of the mounts at `path`, as a file descriptor.

    Args:
        path: Where they are.
        strict: Fail if any part of the path is a symbolic link: it was resolved and checked before, so
            one that is there now was put there since.
    """
    place = _open_resolved(path) if strict else os.open(path, os.O_PATH | os.O_CLOEXEC)
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
    try:
        fd = libc.syscall(_long(_SYS_OPEN_TREE), ctypes.c_int(place), b"", ctypes.c_uint(flags))
        return _checked(fd, f"open_tree {path}")
    finally:
        os.close(place)


def _open_resolved(path: str) -> int:
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    number = _long(_SYS_OPENAT2)
    fd = libc.syscall(number, ctypes.c_int(-100), os.fsencode(path), how, _long(len(how)))
    return _checked(fd, f"open {path}")


def set_attributes(fd: int, add: int, *, remove: int = 0, userns: int = 0, recursive: bool = True) -> None:
    """Set mount flags on the mounts behind a descriptor."""
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    attr = struct.pack("QQQQ", add, remove, 0, userns)
    number = _long(_SYS_MOUNT_SETATTR)
    done = libc.syscall(number, ctypes.c_int(fd), b"", ctypes.c_uint(flags), attr, _long(len(attr)))
    _checked(done, "mount_setattr")


def attach(fd: int, target: str) -> None:
    """Put a copy made by `open_tree` at a place."""
    done = libc.syscall(
        _long(_SYS_MOVE_MOUNT),
        ctypes.c_int(fd),
        b"",
        ctypes.c_int(-100),
        os.fsencode(target),
        ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
    )
    _checked(done, f"move_mount to {target}")


def prctl(option: int, value: int = 0, third: int = 0) -> None:
    _checked(libc.prctl(option, _long(value), _long(third), _long(0), _long(0)), f"prctl {option}")


def no_capabilities() -> None:
    """Give up every capability in every set, for good."""
    for cap in range(LAST_CAP + 1):
        if libc.prctl(PR_CAPBSET_DROP, _long(cap), _long(0), _long(0), _long(0)) < 0:
            break
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    prctl(PR_SET_SECUREBITS, SECUREBITS)
    _checked(libc.capset(struct.pack("Ii", _CAP_VERSION_3, 0), bytes(24)), "capset")


def seccomp(program: bytes) -> None:
    """Load a filter; needs no_new_privs."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    _checked(libc.prctl(PR_SET_SECCOMP, _long(2), header, _long(0), _long(0)), "seccomp")


def landlock_abi() -> int:
    """Version of Landlock; 0 without."""
    found = libc.syscall(_long(_SYS_LANDLOCK_CREATE), None, _long(0), ctypes.c_uint(1))
    return max(0, int(found))


def landlock(handled: bytes, rules: list[tuple[int, str]]) -> None:
    """Allow below each path what its mask says, and nothing else of what is handled."""
    number = _long(_SYS_LANDLOCK_CREATE)
    ruleset = _checked(libc.syscall(number, handled, _long(len(handled)), ctypes.c_uint(0)), "landlock")
    for mask, path in rules:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", mask, parent)
        number = _long(_SYS_LANDLOCK_ADD)
        done = libc.syscall(number, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint(0))
        _checked(done, f"landlock rule for {path}")
        os.close(parent)
    _checked(libc.syscall(_long(_SYS_LANDLOCK_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0)), "landlock")
    os.close(ruleset)


def sethostname(name: str) -> None:
    _checked(libc.sethostname(name.encode(), ctypes.c_size_t(len(name))), "sethostname")
