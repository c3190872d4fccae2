"""The parts of the launcher that are data: filters, rules, control groups, messages."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from botbook._local.backends.jail import cgroups, channel, filters

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = list(ARCH)


def answer(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run the filter as the kernel does."""
    program = filters.seccomp_program(machine)
    data = struct.pack(
        "=IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *arguments, *[0] * (6 - len(arguments))
    )
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = loaded = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            loaded = struct.unpack_from("=I", data, value)[0]
        elif operation == 0x06:
            return value
        else:
            jump = {0x15: loaded == value, 0x25: loaded > value, 0x45: bool(loaded & value)}[operation]
            at += yes if jump else no


def number(machine: str, pair: tuple) -> int:
    return pair[MACHINES.index(machine)]


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_denied_is_denied(machine: str) -> None:
    for name, pair in filters.DENIED.items():
        if (at := number(machine, pair)) is not None:
            assert answer(machine, at) == ERRNO | 1, name


@pytest.mark.parametrize("machine", MACHINES)
def test_ordinary_calls_pass(machine: str) -> None:
    for pair in ((0, 63), (1, 64), (59, 221), (9, 222), (39, 172), (318, 278), (257, 56), (16, 29)):
        assert answer(machine, number(machine, pair)) == ALLOW
    assert answer(machine, 480) == ERRNO | 38
    assert answer(machine, 0x40000000) == ERRNO | 38
    assert answer(machine, 0, arch=0x40000003) == KILL


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_that_are_looked_into(machine: str) -> None:
    clone, sock, ioctl = number(machine, (56, 220)), number(machine, (41, 198)), number(machine, (16, 29))
    assert answer(machine, clone, 17) == ALLOW
    for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000):
        assert answer(machine, clone, flag | 17) == ERRNO | 1
    assert [answer(machine, sock, family) == ALLOW for family in (1, 2, 10, 16, 17, 38, 40)] == [
        True,
        True,
        True,
        True,
        False,
        False,
        False,
    ]
    assert answer(machine, ioctl, 0, 0x5413) == ALLOW
    assert answer(machine, ioctl, 0, 0x5412) == ERRNO | 1
    fchmodat, openat = number(machine, (268, 53)), number(machine, (257, 56))
    assert answer(machine, fchmodat, 0, 0, 0o777) == ALLOW
    assert answer(machine, fchmodat, 0, 0, 0o4755) == ERRNO | 1
    assert answer(machine, openat, 0, 0, os.O_CREAT, 0o644) == ALLOW
    assert answer(machine, openat, 0, 0, 0, 0o7777) == ALLOW  # without O_CREAT the mode means nothing
    assert answer(machine, openat, 0, 0, os.O_CREAT, 0o2755) == ERRNO | 1


def test_an_unknown_machine_has_no_filter() -> None:
    assert filters.seccomp_program("riscv64") == b""


@pytest.mark.parametrize(("abi", "size"), [(1, 8), (3, 8), (4, 16), (6, 24), (7, 24)])
def test_landlock_speaks_of_what_its_version_knows(abi: int, size: int) -> None:
    handled = filters.landlock_handled(abi)
    assert len(handled) == size
    known = struct.unpack_from("=Q", handled)[0]
    for mask in filters.landlock_masks(abi):
        assert mask & ~known == 0
    read, write, _ = filters.landlock_masks(abi)
    assert (read & 2, write & 2, write & 0x840) == (0, 2, 0)


# ------------------------------------------------------------------ control groups


def group(place: Path, *files: str) -> Path:
    place.mkdir(parents=True)
    for name in ("cgroup.procs", *files):
        (place / name).write_text("")
    return place


def own(tmp_path: Path, text: str) -> str:
    (tmp_path / "own").write_text(text)
    return str(tmp_path / "own")


def test_version_one_has_a_tree_for_each_controller(tmp_path: Path) -> None:
    memory = group(tmp_path / "memory" / "mine")
    cpu = group(tmp_path / "cpu,cpuacct")
    found = cgroups.parents(
        str(tmp_path), own(tmp_path, "4:memory:/mine\n3:cpuset:/\n2:pids:/gone\n1:cpu,cpuacct:/\n0::/\n")
    )
    assert found == {"memory": str(memory), "cpu": str(cpu)}


def test_version_two_hands_controllers_down(tmp_path: Path) -> None:
    above = group(tmp_path / "slice", "cgroup.subtree_control", "cgroup.controllers")
    group(above / "scope", "cgroup.subtree_control")
    where = own(tmp_path, "0::/slice/scope\n")
    assert cgroups.parents(str(tmp_path), where) == {}
    (above / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert cgroups.parents(str(tmp_path), where) == dict.fromkeys(("memory", "pids", "cpu"), str(above))


def test_a_machine_without_control_groups(tmp_path: Path) -> None:
    assert cgroups.parents(str(tmp_path), str(tmp_path / "nothing")) == {}


LIMITS = {"memory_bytes": 64 << 20, "pids": 8, "cpus": 1.5}


def test_a_group_is_made_joined_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"memory": str(group(tmp_path / "a")), "pids": str(group(tmp_path / "b"))}
    one = cgroups.Group("box-1", places)
    one.make(LIMITS)
    assert one.controllers == ["memory", "pids"]
    assert (tmp_path / "a/box-1/memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (tmp_path / "b/box-1/pids.max").read_text() == "8"
    one.join()
    assert (tmp_path / "a/box-1/cgroup.procs").read_text() == str(os.getpid())
    assert one.oom_file() == ""
    (tmp_path / "a/box-1/memory.oom_control").write_text("oom_kill 0")
    assert one.oom_file().endswith("memory.oom_control")
    assert not one.remove()  # a real one has no files that keep it
    for file in (tmp_path / "a/box-1", tmp_path / "b/box-1"):
        for inner in file.iterdir():
            inner.unlink()
    assert one.remove()
    assert one.remove()


def test_a_controller_that_refuses_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one = cgroups.Group("box-1", {"memory": str(tmp_path / "file"), "pids": str(group(tmp_path / "b"))})
    one.make(LIMITS)
    assert one.controllers == ["pids"]


@pytest.mark.parametrize(
    ("controller", "unified", "first"),
    [
        ("memory", True, ("memory.max", "67108864")),
        ("memory", False, ("memory.limit_in_bytes", "67108864")),
        ("cpu", True, ("cpu.max", "150000 100000")),
        ("cpu", False, ("cpu.cfs_quota_us", "150000")),
        ("pids", True, ("pids.max", "8")),
    ],
)
def test_what_is_written_into_a_group(controller: str, unified: bool, first: tuple) -> None:
    assert cgroups.settings(controller, unified=unified, limits=LIMITS)[0] == first


def test_groups_of_a_keeper_that_was_killed_are_swept(tmp_path: Path) -> None:
    place = group(tmp_path / "a")
    for name in ("box-999999999-1", f"box-{os.getpid()}-1", "other", "box-x"):
        (place / name).mkdir()
    cgroups.sweep({"memory": str(place), "pids": str(tmp_path / "gone")}, "box-")
    assert sorted(one.name for one in place.iterdir() if one.is_dir()) == [
        f"box-{os.getpid()}-1",
        "box-x",
        "other",
    ]


# ------------------------------------------------------------------ messages


def test_a_message_of_any_size_travels_with_descriptors() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        out, into = os.pipe()
        channel.send(left, {"text": "x" * 2_000_000}, [into])
        os.close(into)
        body, fds = channel.receive(right)
        assert len(body["text"]) == 2_000_000
        os.write(fds[0], b"through")
        os.close(fds[0])
        assert os.read(out, 10) == b"through"
        os.close(out)
        left.close()
        assert channel.receive(right) is None
