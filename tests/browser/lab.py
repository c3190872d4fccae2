"""JupyterLab on a free loopback port, and a page of Chromium to look at it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

__all__ = ["Lab", "browser"]

#: Longest wait for the server, and for a page, in seconds.
PATIENCE = 60
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: A look of its own: no news, no update check, no cell left out of the page because it is out of sight.
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}
#: The last cell has run, or one has failed.
_ENDED = """() => {
    const cells = window.jupyterapp.shell.currentWidget.content.widgets;
    const code = cells.filter(cell => cell.model.type === 'code').map(cell => cell.model);
    const failed = code.some(one => one.outputs.toJSON().some(output => output.output_type === 'error'));
    return failed || code[code.length - 1].executionCount !== null;
}"""


class Lab:
    """A server over a folder; enter it to start it.

    Args:
        folder: What it shows.
        home: Where its settings, log and journal go.
        environ: Variables for the kernels.
    """

    def __init__(self, folder: Path, home: Path, environ: Mapping[str, str] = {}) -> None:
        self.folder = folder
        self.home = home
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._environ = os.environ | {
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "IPYTHONDIR": str(home / "ipython"),
            "BOTBOOK_STORE": str(home / "journal.sqlite"),
            **environ,
        }

    def __enter__(self) -> Lab:
        for name, text in SETTINGS.items():
            path = self.home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._log = (self.home / "lab.log").open("wb")
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
                f"--port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.folder}",
                "--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True",
                "--LabApp.collaborative=False",
            ],
            env=self._environ, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/status", timeout=1).close()
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.2)
            else:
                return self
        self.__exit__()
        raise RuntimeError((self.home / "lab.log").read_text()[-3000:])

    def __exit__(self, *exc: object) -> None:
        self._process.terminate()  # the server ends its kernels with it
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def open(self, page: Page, notebook: str) -> None:
        """Open a notebook and wait for its kernel."""
        page.goto(f"http://127.0.0.1:{self.port}/lab/workspaces/test/tree/{notebook}?reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE * 1000)
        _idle(page)
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")

    def run_all(self, page: Page, *, timeout: float) -> None:
        """Run all cells and wait for the last one, or for one that fails.

        Args:
            page: Where the notebook is open.
            timeout: Longest wait, in seconds.
        """
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.wait_for_function(_ENDED, timeout=timeout * 1000)
        _idle(page)

    def theme(self, page: Page, name: str) -> None:
        """Put a theme on, such as "JupyterLab Dark"."""
        page.evaluate(
            "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name
        )
        page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")


def _idle(page: Page) -> None:
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
        timeout=PATIENCE * 1000,
    )


@contextmanager
def browser(home: Path, **options: Any) -> Iterator[tuple[Page, list[str]]]:
    """A page, and the list of errors that its scripts raise.

    Raises:
        RuntimeError: There is no browser.
    """
    names = [os.environ.get("CHROMIUM", ""), *BROWSERS]
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        raise RuntimeError("Chromium is needed: run `make browser`, or name one in CHROMIUM.")
    errors: list[str] = []
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            home / "profile", headless=True, args=list(FLAGS), executable_path=program, **options
        )
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page, errors
        context.close()
