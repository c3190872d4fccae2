import asyncio
import subprocess
import sys

import pytest

from botbook._errors import ConfigError
from botbook._notebook import nest


@pytest.mark.parametrize(
    ("state", "library", "ipykernel", "why"),
    [
        ("", "1.7.4", "7.4.0", ""),
        ("", "1.7.3", "7.3.0", ""),
        ("", "1.7.2", "7.3.0", "loses queued cells"),
        ("", "1.7.2", "6.29.5", ""),
        ("nest-asyncio", "1.7.4", "7.4.0", "nest-asyncio is applied already"),
        ("nest-asyncio", "1.7.4", "6.29.5", ""),
        ("nest-asyncio2", "1.7.4", "7.4.0", ""),
        ("", "", "7.4.0", "not installed"),
        ("", "1.7.4", "", ""),
        ("", "1.8.0rc1", "7.4.0", ""),
    ],
)
def test_the_unfixed_library_is_refused_on_ipykernel_7(state, library, ipykernel, why):
    said = nest.refusal(state=state, library=library, ipykernel=ipykernel)
    assert why in said
    assert bool(why) == bool(said)


def test_refused_says_how_to_mend(monkeypatch):
    monkeypatch.setattr(nest, "version_of", lambda package: {"ipykernel": "7.4.0"}.get(package, "1.7.2"))
    with pytest.raises(ConfigError, match=r"1\.7\.2 with ipykernel 7\.4\.0") as caught:
        nest.nest_on()
    assert "nest-asyncio2>=1.7.3" in caught.value.hint


def test_state_tells_who_patched(monkeypatch):
    assert nest.nest_state() == ""
    monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
    assert nest.nest_state() == "nest-asyncio"
    assert nest.version_of("no-such-package-here") == ""


def test_on_patches_once_in_a_process_of_its_own():
    code = (
        "import asyncio, warnings\n"
        "from botbook._notebook.nest import nest_on, nest_state\n"
        "async def inner(): return 7\n"
        "async def main():\n"
        "    print(nest_on()); print(nest_on()); print(nest_state())\n"
        "    print(asyncio.run(inner()))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    said = done.stdout.splitlines()
    assert "is on: asyncio.run() works" in said[0]
    assert said[1:] == ["nest-asyncio2 is on already.", "nest-asyncio2", "7"]
