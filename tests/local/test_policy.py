from __future__ import annotations

import os
import pwd
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._errors import SandboxError
from botbook._local.policy import MountRoots, Policy, Rules
from botbook.wire.box import Mount, Spec


def spec(**change: object) -> Spec:
    return Spec(session_id="s", **change)


@pytest.fixture
def roots(tmp_path: Path) -> MountRoots:
    (tmp_path / "root" / "data").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return MountRoots([str(tmp_path / "root")])


def refused(roots: MountRoots, path: object) -> str:
    with pytest.raises(SandboxError) as caught:
        roots.resolve(Mount(host_path=str(path), mount_path="/workspace"))
    assert caught.value.code == "BoxValidationError"
    return str(caught.value)


def test_what_lies_below_a_root_is_shown(roots: MountRoots, tmp_path: Path) -> None:
    mount = Mount(host_path=f"{tmp_path}/root/../root/data", mount_path="/x", mode="ro")
    assert roots.resolve(mount).host_path == str(tmp_path / "root" / "data")
    (tmp_path / "root" / "file").write_text("x")
    assert roots.resolve(Mount(host_path=str(tmp_path / "root" / "file"), mount_path="/x"))


def test_what_lies_elsewhere_is_not(roots: MountRoots, tmp_path: Path) -> None:
    assert "outside the allowed mount roots" in refused(roots, tmp_path / "outside")
    assert "outside the allowed mount roots" in refused(roots, f"{tmp_path}/root/../outside")
    assert "does not exist" in refused(roots, tmp_path / "root" / "nothing")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    assert "outside" in refused(roots, tmp_path / "root" / "link")
    (tmp_path / "root" / "etc").symlink_to("/etc")
    assert "blocked" in refused(roots, tmp_path / "root" / "etc")
    assert "(none)" in refused(MountRoots(), tmp_path)


@pytest.mark.parametrize("path", ["/etc", "/etc/ssl", "/proc/1", "/sys", "/dev/null", "/boot", "/run"])
def test_the_system_is_blocked(roots: MountRoots, path: str) -> None:
    assert "blocked" in refused(roots, path)


@pytest.mark.parametrize("path", ["", "homes", "homes/ann"])
def test_roots_and_homes_are_too_wide(
    roots: MountRoots, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "homes" / "ann" / "project").mkdir(parents=True)
    people = [
        pwd.struct_passwd(("ann", "x", 1000, 1000, "", str(tmp_path / "homes" / "ann"), "/bin/sh")),
        pwd.struct_passwd(("daemon", "x", 1, 1, "", "/usr/sbin", "/bin/false")),
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: people)
    place = str(tmp_path / path) if path else "/"
    assert "too wide" in refused(roots, place)
    with pytest.raises(SandboxError, match="too wide"):
        MountRoots([place])
    assert MountRoots([str(tmp_path / "homes" / "ann" / "project")]).roots


def test_a_root_is_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="no directory"):
        MountRoots([str(tmp_path / "nothing")])


def test_sockets_lead_out(roots: MountRoots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "root" / "data")  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("docker.sock")
        assert "holds a socket" in refused(roots, tmp_path / "root" / "data")
        assert "neither a directory nor a file" in refused(roots, tmp_path / "root" / "data" / "docker.sock")


def test_a_directory_that_cannot_be_read(roots: MountRoots, tmp_path: Path, monkeypatch) -> None:
    def closed(_: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", closed)
    assert "cannot be read" in refused(roots, tmp_path / "root" / "data")


@pytest.mark.parametrize("place", ["/", "/etc/x", "/usr", "/proc", "/workspace/../etc", "//workspace", "/x/"])
def test_places_inside_that_belong_to_the_sandbox(place: str) -> None:
    with pytest.raises(SandboxError, match="mount_path"):
        Rules().checked(spec(mount_path=place))


def test_mounts_are_checked_one_and_all(roots: MountRoots, tmp_path: Path) -> None:
    rules = Rules(mounts=roots)
    good = Mount(host_path=str(tmp_path / "root" / "data"), mount_path="/workspace/.skills/a", mode="ro")
    _, mounts = rules.checked(spec(host_path=str(tmp_path / "root"), extra_mounts=(good,)))
    assert [(one.mount_path, one.mode) for one in mounts] == [
        ("/workspace", "rw"),
        ("/workspace/.skills/a", "ro"),
    ]
    for bad in (
        Mount(host_path="/etc", mount_path="/x"),
        Mount(host_path=str(tmp_path / "outside"), mount_path="/x"),
        Mount(host_path=str(tmp_path / "root"), mount_path="/usr/x"),
    ):
        with pytest.raises(SandboxError):
            rules.checked(spec(extra_mounts=(bad,)))
    with pytest.raises(SandboxError, match="two mounts"):
        rules.checked(spec(extra_mounts=(good, good)))
    with pytest.raises(SandboxError, match="workdir"):
        rules.checked(spec(host_path=str(tmp_path / "root"), workdir="/workspace/../tmp"))
    unused = Mount(host_path="/etc", mount_path="/x", mode="none")
    assert rules.checked(spec(host_path="/etc", host_path_mode="none", extra_mounts=(unused,)))[1] == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timeout_sec": 100_000}, "timeout_sec may be 86400"),
        ({"memory_mb": 10**6}, "memory_mb may be 8192"),
        ({"cpus": 1000.0}, "cpus may be 64"),
        ({"pids_limit": 10**6}, "pids_limit may be 4096"),
        ({"workspace_quota_mb": 10**6}, "workspace_quota_mb may be 65536"),
        ({"image": "--privileged"}, "is no image name"),
        ({"image": ""}, "is no image name"),
    ],
)
def test_nobody_asks_for_more_than_there_is(change: dict, words: str) -> None:
    with pytest.raises(SandboxError, match=words):
        Rules().checked(spec(**change))


def test_a_locked_profile_overrules() -> None:
    rules = Rules(profile="offline_readonly", network=False)
    checked, _ = rules.checked(spec(network="on", read_only_rootfs=False, timeout_sec=60))
    assert (checked.network, checked.read_only_rootfs, checked.host_path_mode) == ("off", True, "ro")
    with pytest.raises(SandboxError, match="timeout_sec may be 60"):
        rules.checked(spec(timeout_sec=61))
    with pytest.raises(SandboxError, match="no sandbox profile"):
        Rules(profile="x")


def test_read_only_callers(roots: MountRoots, tmp_path: Path) -> None:
    rules = Rules(mounts=roots, read_only=True)
    checked, mounts = rules.checked(spec(host_path=str(tmp_path / "root"), read_only_rootfs=False))
    assert checked.read_only_rootfs
    assert [one.mode for one in mounts] == ["ro"]
    assert rules.checked(spec(host_path_mode="none"))[0].host_path_mode == "none"


def test_the_network_is_off_for_whom_it_is_off() -> None:
    with pytest.raises(SandboxError, match="may not switch the network on"):
        Rules(network=False).checked(spec(network="on"))
    assert Rules().checked(spec(network="on"))[0].network == "on"


def test_callers_are_known_by_their_tokens() -> None:
    policy = Policy({"a" * 16: Rules(name="a"), "b" * 16: Rules(name="b", actions=frozenset({"box_exec"}))})
    assert policy.caller("a" * 16).name == "a"
    assert policy.caller("b" * 16).name == "b"
    for wrong in (None, "", "a" * 15, "a" * 17, "é" * 16, "\udc80"):
        assert policy.caller(wrong) is None
    with pytest.raises(SandboxError, match="16 characters"):
        Policy({"short": Rules()})


@pytest.mark.parametrize(
    ("rules", "action", "passes"),
    [
        (Rules(), "box_init", True),
        (Rules(elevated=False), "box_init", False),
        (Rules(elevated=False), "box_shutdown", False),
        (Rules(elevated=False), "box_exec", True),
        (Rules(actions=frozenset({"box_status"})), "box_exec", False),
        (Rules(actions=frozenset({"box_status"})), "box_status", True),
        (Rules(actions=frozenset()), "__ping", True),
    ],
)
def test_actions_pass_or_not(rules: Rules, action: str, passes: bool) -> None:
    if passes:
        Policy.allow(rules, action)
    else:
        with pytest.raises(SandboxError) as caught:
            Policy.allow(rules, action)
        assert caught.value.code == "PermissionError"


@given(st.text(alphabet="/.aetc", max_size=12))
def test_no_path_leads_out_of_no_roots(text: str) -> None:
    assert refused(MountRoots(), "/" + text)
