"""A shell to run cells in, and a bot that only remembers what it was asked."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

from botbook._errors import BotbookError, NotSupported
from botbook._notebook.desk import Desk
from botbook._notebook.magics import load, unload
from botbook.actions import Sent

AT = datetime(2026, 11, 20, 14, 3, 22, tzinfo=UTC)
EVENTS = pd.DataFrame(
    {
        "event_id": ["e1", "e2"],
        "type": ["message.received", "message.sent"],
        "at": pd.to_datetime([AT, AT]),
        "bot": ["sim", "sim"],
        "chat_id": ["c1", "c1"],
        "user_name": ["<b>Ann</b>", ""],
        "role": ["user", "assistant"],
        "text": ["hello | *you*", "hello"],
        "latency_s": [None, 0.25],
        "error": ["", ""],
    }
)


@dataclass
class FakeWorld:
    said: list = field(default_factory=list)
    faults: list = field(default_factory=list)

    def say(self, user, text, *, group=None):
        self.said.append((user, text, group))

    def fault(self, kind, **options):
        self.faults.append((kind, options))

    def log(self):
        return [{"at": 1.5 + n, "path": f"/{n}", "body": {"n": n}} for n in range(len(self.said))]


class FakeBot:
    """Stands where a Bot stands."""

    def __init__(self, gateway, **options):
        self.gateway = gateway
        self.options = options
        self.name = options.get("name") or gateway
        self.world = FakeWorld()
        self.registered = {}
        self.sent = []
        self.asked = []
        self.recording = []
        self.stopped = False
        self.fail_with = None

    @property
    def sim(self):
        if self.gateway != "sim":
            raise NotSupported("embedded world", self.gateway)
        return self.world

    def status(self):
        return SimpleNamespace(
            name=self.name, gateway=self.gateway, base_url="", state="stopped" if self.stopped else "open",
            since=AT, events=2, handled=1, duplicates=0, malformed=0, reconnects=0, gaps=0, queued=0,
            spilled=0, backlog=0, lag_s=0.0, error="", store="journal.sqlite",
        )  # fmt: skip

    def on(self, pattern, handler, *, name="", when=None, timeout=None):
        made = SimpleNamespace(
            name=name or handler.__name__, pattern=pattern, handler=handler, when=when, timeout=timeout
        )
        self.registered[made.name] = made
        return made

    def off(self, name):
        return self.registered.pop(name, None) is not None

    def handlers(self):
        rows = [{"name": one.name, "pattern": one.pattern, "calls": 0} for one in self.registered.values()]
        return pd.DataFrame(rows, columns=["name", "pattern", "calls"])

    def errors(self):
        rows = [
            {
                "at": AT,
                "handler": "echo",
                "event_id": "e1",
                "error": "ValueError: <no>",
                "traceback": "line\nline",
            }
        ]
        return pd.DataFrame(
            rows if self.registered else [], columns=["at", "handler", "event_id", "error", "traceback"]
        )

    def interrupted(self):
        return pd.DataFrame(columns=["seq", "handler", "event_id", "type", "text"])

    def events(self, **filters):
        self.asked.append(filters)
        if self.fail_with:
            raise self.fail_with
        return EVENTS.copy()

    def history(self, chat_id, *, limit=10, before=""):
        self.asked.append((chat_id, limit))
        return pd.DataFrame({"role": ["user"], "text": ["earlier"]})

    def send(self, to, text, *, markdown=False):
        if self.fail_with:
            raise self.fail_with
        self.sent.append((to, text, markdown))
        return Sent(message_id="m1")

    def record(self, path):
        self.recording.append(path)

    def stop(self, *, drain=1.0):
        self.stopped = True


def bundles(outputs):
    """What is seen in the end: an update takes the place of what it updates."""
    seen = {}
    for number, output in enumerate(outputs):
        seen[(output.transient or {}).get("display_id", number)] = output.data
    return list(seen.values())


class Cellar:
    """A shell with botbook in it.

    Attributes:
        made: Every bot that was connected.
    """

    def __init__(self, shell):
        self.shell = shell
        self.made = []
        self.desk = Desk(shell, connect=self.connect)
        load(shell, self.desk)

    def connect(self, gateway, **options):
        if gateway == "broken":
            raise BotbookError("it\x1b[31m broke\nhere", hint="mend it")
        self.made.append(FakeBot(gateway, **options))
        return self.made[-1]

    @property
    def bot(self):
        return self.made[-1]

    def run(self, cell):
        """Run a cell. Returns (result, outputs, error text); the cell must not fail unless asked."""
        with capture_output() as captured:
            result = self.shell.run_cell(cell, store_history=True)
        return SimpleNamespace(
            value=result.result,
            error=result.error_in_exec or result.error_before_exec,
            bundles=bundles(captured.outputs),
            stdout=captured.stdout,
            stderr=captured.stderr,
        )

    def complete(self, text, cursor=None):
        """What Tab offers at the end of a text, and whether other offers are held back."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.shell.Completer, "use_jedi", False)
            with __import__("warnings").catch_warnings():
                __import__("warnings").simplefilter("ignore")
                found = list(self.shell.Completer.completions(text, len(text) if cursor is None else cursor))
        return [one.text for one in found]


@pytest.fixture(scope="session")
def ipython(tmp_path_factory):
    """One shell for all tests: making one takes half a second."""
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.ipython_dir = str(tmp_path_factory.mktemp("ipython"))
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(ipython, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(ipython.user_ns)
    yield ipython
    unload(ipython)
    ipython.user_ns.clear()
    ipython.user_ns.update(before)


@pytest.fixture
def cellar(shell):
    return Cellar(shell)


@pytest.fixture
def sim(cellar):
    """The same, connected to `sim`."""
    cellar.run("%bot connect sim")
    return cellar
