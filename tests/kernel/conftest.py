"""The same tests over two kernels: the newest here, and an old one that `make live` builds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.kernel.kernels import Kernel
from tests.live.environments import environment

#: The oldest kernel that is supported, with the oldest IPython: (ipykernel, ipython).
OLD = ("6.29.5", "8.20.0")


@pytest.fixture(scope="package", params=["here", pytest.param(f"ipykernel-{OLD[0]}", marks=pytest.mark.live)])
def python(request: pytest.FixtureRequest) -> Path:
    """Whose kernel is tested."""
    if request.param == "here":
        return Path(sys.executable)
    return environment("ipykernel", OLD[0], f"ipython=={OLD[1]}", botbook=True)


@pytest.fixture
def figure(record_property, python):
    """Keep a measured figure: in the report, and on the terminal with ``-s``."""

    def keep(name: str, value: float) -> None:
        record_property(name, value)
        where = "here" if python == Path(sys.executable) else python.parts[-3]
        sys.stdout.write(f"[{where}] {name}: {value:.3f}\n")

    return keep


@pytest.fixture(scope="module")
def kernel(python, tmp_path_factory):
    """A kernel with botbook loaded, connected to an embedded world in which nothing happens."""
    with Kernel(tmp_path_factory.mktemp("kernel"), python=python) as made:
        made.ok("%load_ext botbook\n%bot connect sim --scenario quiet")
        yield made
