"""Every backend that works here holds every attempt; what a backend cannot give is told by its report."""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from botbook._local.backends import BACKENDS
from botbook._local.backends.base import PROTECTIONS

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "src"
NOBODY = 65534


def _attempts() -> object:
    spec = importlib.util.spec_from_file_location("attempts", HERE / "attempts.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["attempts"] = module
    spec.loader.exec_module(module)
    return module


ROWS = _attempts().ROWS


def _interpreters() -> list[str]:
    """Those that an ordinary user can start, too."""
    found = [sys.executable, shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""]
    return [one for one in found if one and _starts(one)]


def _starts(python: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import sys; assert sys.version_info >= (3, 11)"],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            timeout=20,
        )
    except OSError:
        return False
    return done.returncode == 0


def _users() -> list[str]:
    """As whom the attempts can be made: as we are, and, from root, as an ordinary user."""
    if os.geteuid() == 0 and _interpreters():
        return ["root", "ordinary"]
    return ["root" if os.geteuid() == 0 else "ordinary"]


@functools.cache
def everything() -> dict[tuple[str, str], dict]:
    """Every backend as every user, side by side."""
    pairs = [(backend, user) for backend in BACKENDS for user in _users()]
    with concurrent.futures.ThreadPoolExecutor(len(pairs)) as pool:
        return dict(zip(pairs, pool.map(lambda pair: attempt(*pair), pairs), strict=True))


def tried(backend: str, user: str) -> dict:
    return everything()[backend, user]


def attempt(backend: str, user: str) -> dict:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    drop = user == "ordinary" and os.geteuid() == 0
    done = subprocess.run(
        [_interpreters()[0] if drop else sys.executable, HERE / "attempts.py", backend, SOURCES, packages],
        capture_output=True,
        timeout=120,
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if drop else {}),
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", _users())
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_a_backend_says_what_it_holds_or_why_it_does_not_work(backend: str, user: str) -> None:
    found = tried(backend, user)
    if found["available"]:
        assert set(found["protections"]) == set(PROTECTIONS)
        assert set(found["rows"]) == {row.name for row in ROWS}
    else:
        assert found["reason"]
        assert not found["rows"]


def test_a_sandbox_works_here() -> None:
    """Without one, every row below would hold for want of a try."""
    assert any(tried(backend, _users()[0])["available"] for backend in BACKENDS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(" ", "-"))
@pytest.mark.parametrize("user", _users())
@pytest.mark.parametrize("backend", list(BACKENDS))
def test_an_attempt_is_held(backend: str, user: str, row: object) -> None:
    found = tried(backend, user)
    promised = found["protections"].get(row.protection, row.must)
    if found["available"] and promised:
        assert found["rows"][row.name]["held"], found["rows"][row.name]
