"""What a sandboxed program may ask of the kernel: a seccomp filter and a Landlock rule set, as data."""

from __future__ import annotations

import struct

__all__ = ["DENIED", "landlock_handled", "landlock_masks", "seccomp_program"]

_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
#: Calls newer than this list are answered as unknown; also the x32 ones (bit 30).
_NEWEST = 470

#: Refused with EPERM: name → number on x86_64 and aarch64, None where there is none.
DENIED: dict[str, tuple[int | None, int | None]] = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sched_setaffinity": (203, 122),
    "set_mempolicy": (238, 237),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "uselib": (134, None),
    "vhangup": (153, 58),
}
#: Answered as unknown, so that the C library takes its older form, which can be looked into.
_UNKNOWN = {"clone3": (435, 435), "openat2": (437, 437), "memfd_secret": (447, 447)}
#: clone with any CLONE_NEW* flag
_NAMESPACES = 0x7E020000
_CLONE = (56, 220)
#: unix, inet, inet6, netlink; no vsock, which no namespace holds back, no packets, no kernel crypto
_SOCKET, _FAMILIES = (41, 198), (1, 2, 10, 16)
_IOCTL, _TERMINAL_TRICKS = (16, 29), (0x5412, 0x541C)
#: Calls that set a file mode: numbers, index of the mode; set-user-id and set-group-id are refused, as a
#: writable mount could carry such a file out of the sandbox.
_MODES: tuple[tuple[tuple[int | None, int | None], int], ...] = (
    ((90, None), 1),  # chmod
    ((91, 52), 1),  # fchmod
    ((268, 53), 2),  # fchmodat
    ((452, 452), 2),  # fchmodat2
    ((85, None), 1),  # creat
    ((133, None), 1),  # mknod
    ((259, 33), 2),  # mknodat
)
_OPENS = (((2, None), 1), ((257, 56), 2))
_SETID = 0o6000
_CREATES = 0o100 | 0o20000000


def _ins(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, jump_true, jump_false, k & 0xFFFFFFFF)


def _load(offset: int) -> bytes:
    return _ins(0x20, offset)


def _ret(value: int) -> bytes:
    return _ins(0x06, value)


def _errno(number: int) -> bytes:
    return _ret(_ERRNO | number)


def _argument(index: int) -> bytes:
    """Low half of an argument; both machines are little-endian."""
    return _load(16 + 8 * index)


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """If the call is this one, do `body`, which ends in an answer; the number stays loaded otherwise."""
    return [_ins(0x15, number, 0, len(body)), *body]


def _any_bits(mask: int, then: bytes) -> list[bytes]:
    return [_ins(0x45, mask, 0, 1), then, _ret(_ALLOW)]


def _one_of(values: tuple[int, ...], yes: bytes, no: bytes) -> list[bytes]:
    return [part for value in values for part in (_ins(0x15, value, 0, 1), yes)] + [no]


def seccomp_program(machine: str) -> bytes:
    """The filter as the kernel takes it; b"" for a machine it is not written for."""
    if machine not in _ARCH:
        return b""
    column = list(_ARCH).index(machine)
    code = [_load(4), _ins(0x15, _ARCH[machine], 1, 0), _ret(_KILL), _load(0)]
    code += [_ins(0x25, _NEWEST, 0, 1), _errno(_ENOSYS)]
    for numbers, answer in [(n, _EPERM) for n in DENIED.values()] + [(n, _ENOSYS) for n in _UNKNOWN.values()]:
        if (number := numbers[column]) is not None:
            code += _when(number, [_errno(answer)])
    code += _when(_CLONE[column], [_argument(0), *_any_bits(_NAMESPACES, _errno(_EPERM))])
    code += _when(_SOCKET[column], [_argument(0), *_one_of(_FAMILIES, _ret(_ALLOW), _errno(_EAFNOSUPPORT))])
    code += _when(_IOCTL[column], [_argument(1), *_one_of(_TERMINAL_TRICKS, _errno(_EPERM), _ret(_ALLOW))])
    for numbers, at in _MODES:
        if (number := numbers[column]) is not None:
            code += _when(number, [_argument(at), *_any_bits(_SETID, _errno(_EPERM))])
    for numbers, at in _OPENS:
        if (number := numbers[column]) is not None:
            mode = [_argument(at + 1), *_any_bits(_SETID, _errno(_EPERM))]
            code += _when(number, [_argument(at), _ins(0x45, _CREATES, 1, 0), _ret(_ALLOW), *mode])
    return b"".join([*code, _ret(_ALLOW)])


# Landlock rights on files by the version that brought them (landlock.h)
_EXECUTE, _WRITE, _READ, _READ_DIR = 1, 2, 4, 8
_RIGHTS = {1: 0x1FFF, 2: 0x2000, 3: 0x4000, 5: 0x8000}
#: no making of device nodes
_NO_DEVICES = ~(0x40 | 0x800)
_SCOPES = 0b11


def _all_rights(abi: int) -> int:
    return sum(bits for since, bits in _RIGHTS.items() if since <= abi)


def landlock_handled(abi: int) -> bytes:
    """What the rule set speaks of: files, and from version 6 signals and abstract sockets to outside."""
    handled = struct.pack("=Q", _all_rights(abi))
    if abi >= 4:
        handled += struct.pack("=Q", 0)
    if abi >= 6:
        handled += struct.pack("=Q", _SCOPES)
    return handled


def landlock_masks(abi: int) -> tuple[int, int, int]:
    """Rights to read, to read and write, and to write one file."""
    everything = _all_rights(abi)
    return _EXECUTE | _READ | _READ_DIR, everything & _NO_DEVICES, _READ | _WRITE | (everything & 0xC000)
