"""A real kernel and its client, both ends bounded in time."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager

__all__ = ["Kernel"]

#: Longest wait for one message, in seconds.
PATIENCE = 60


class Kernel:
    """Runs cells.

    Args:
        folder: Its working folder; the journal is there too.
        python: Whose kernel; default this Python's.
        environ: Variables beside those of this process.
    """

    def __init__(
        self,
        folder: Path,
        *,
        python: Path | str = sys.executable,
        environ: Mapping[str, str] = {},
    ) -> None:
        self.folder = folder
        self.store = folder / "journal.sqlite"
        self.manager = KernelManager(kernel_name="tested", kernel_spec_manager=_spec(folder, str(python)))
        given = {"BOTBOOK_STORE": str(self.store), "IPYTHONDIR": str(folder / "ipython"), **environ}
        # Everything that is said outside cells goes to a file, where tests may look for it.
        self.noise = folder / "kernel.log"
        with self.noise.open("wb") as noise:
            self.manager.start_kernel(cwd=str(folder), env=os.environ | given, stdout=noise, stderr=noise)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    def run(self, code: str, *, interrupt_after: float | None = None) -> SimpleNamespace:
        """Run a cell.

        Returns:
            outputs, the reply's content, the printed text, and the seconds from the stop button to
            the reply.
        """
        outputs: list[tuple[str, dict[str, Any]]] = []
        ident = self.client.execute(code, store_history=True)
        pressed = None
        if interrupt_after is not None:
            time.sleep(interrupt_after)
            pressed = time.monotonic()
            self.manager.interrupt_kernel()
        reply = self.client.get_shell_msg(timeout=PATIENCE)
        ended = time.monotonic()
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != ident:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            outputs.append((message["msg_type"], message["content"]))
        return SimpleNamespace(
            outputs=outputs,
            content=reply["content"],
            seconds=None if pressed is None else ended - pressed,
            text="".join(content["text"] for kind, content in outputs if kind == "stream"),
        )

    def ok(self, code: str) -> SimpleNamespace:
        """Run a cell that must not fail."""
        done = self.run(code)
        assert done.content["status"] == "ok", "\n".join(done.content.get("traceback", []))
        return done

    def value(self, code: str) -> Any:
        """The JSON that a cell prints."""
        return json.loads(self.ok(code).text)

    def complete(self, code: str) -> list[str]:
        """What Tab offers at the end of a text."""
        self.client.complete(code, len(code))
        found: list[str] = self.client.get_shell_msg(timeout=PATIENCE)["content"]["matches"]
        return found


def _spec(folder: Path, python: str) -> KernelSpecManager:
    """The kernel of any Python, under the name "tested"."""
    home = folder / "kernels"
    (home / "tested").mkdir(parents=True, exist_ok=True)
    spec = {"argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    (home / "tested" / "kernel.json").write_text(json.dumps({**spec, "display_name": "tested"}))
    return KernelSpecManager(kernel_dirs=[str(home)], ensure_native_kernel=False)
