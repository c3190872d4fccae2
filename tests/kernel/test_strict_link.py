"""A link to a gateway without patience, in a kernel that is busy (jupyter.md 3.1, 3.4)."""

from __future__ import annotations

import time

import pytest

from tests.kernel.kernels import Kernel
from tests.kernel.strict import EVENTS_PER_SECOND, StrictGateway

pytestmark = pytest.mark.kernel

BUSY = 6.0
#: Longer than the gateway waits for a pong.
TOO_LONG = 4.0
#: An event is on time within this, in seconds; about 0.01 is usual.
LATE = 1.0
#: The stop button has acted within this, in seconds; the promise is 0.3 on a machine with time to spare.
STOPPED = 1.0
FRAME = """
import json
df = bot.events(type="message.received")
late = (df["received_at"] - df["at"]).dt.total_seconds()
print(json.dumps(dict(zip(df["event_id"], late))))
"""


@pytest.fixture(scope="module")
def gateway():
    with StrictGateway() as made:
        yield made


@pytest.fixture(scope="module")
def connected(python, gateway, tmp_path_factory):
    with Kernel(tmp_path_factory.mktemp("strict"), python=python, environ=gateway.environ) as kernel:
        kernel.ok("%load_ext botbook\nbot = %bot connect miti")
        yield kernel


def reconnects(kernel):
    return kernel.value("print(bot.status().reconnects)")


def missing(kernel, wanted):
    """Those that the frame has not, after a moment for the last ones; and how late each was."""
    until = time.monotonic() + 2
    while True:
        late = kernel.value(FRAME)
        if wanted <= late.keys() or time.monotonic() > until:
            return wanted - late.keys(), late


def all_on_time(kernel, gateway, figure, sent, *, seconds):
    """What was sent in that time is in the frame, was on time, and the link was kept."""
    lost, late = missing(kernel, sent)
    assert len(sent) >= 0.9 * seconds * EVENTS_PER_SECOND
    assert lost == set()
    worst = max(late[ident] for ident in sent)
    figure("events in the cell", len(sent))
    figure("worst delay, s", worst)
    assert worst < LATE
    assert (reconnects(kernel), gateway.opened, gateway.ended) == (0, 1, [])


def test_events_arrive_on_time_while_a_cell_sleeps(connected, gateway, figure):
    begin = time.time()
    connected.ok(f"import time; time.sleep({BUSY})")
    all_on_time(connected, gateway, figure, gateway.between(begin, time.time()), seconds=BUSY)


def test_events_arrive_on_time_while_a_cell_computes_and_a_handler_blocks_its_loop(
    connected, gateway, figure
):
    sleep = f"time.sleep({TOO_LONG - 0.5}); bot.off('stuck')"
    connected.ok(f"%%bot\nimport time\n@on_message\nasync def stuck(event):\n    {sleep}")
    begin = time.time()
    connected.ok(f"end = time.time() + {TOO_LONG}\nwhile time.time() < end: sum(range(100))")
    all_on_time(connected, gateway, figure, gateway.between(begin, time.time()), seconds=TOO_LONG)
    assert connected.value("import json; print(json.dumps(list(bot.handlers()['name'])))") == []


def test_a_handler_answers_while_a_cell_sleeps(connected, gateway, figure):
    connected.ok(
        "%%bot\n@on_message\nasync def echo(event):\n    await event.reply(event.event_id, markdown=False)"
    )
    begin = time.time()
    connected.ok("import time; time.sleep(2)")
    end = time.time()
    connected.ok("%bot off echo")
    answered = {body["content"]["text"]: at for at, body in gateway.answers}
    took = [answered[ident] - gateway.sent[ident] for ident in gateway.between(begin, end - 0.5)]
    assert len(took) >= 0.9 * EVENTS_PER_SECOND
    figure("slowest answer, s", max(took))
    assert max(took) < LATE


@pytest.mark.parametrize(
    ("waits", "name"),
    [
        ("bot.wait('feedback.received', timeout=60)", "BotInterrupted"),
        ("%%bot\nimport asyncio\nawait asyncio.sleep(60)", "BotInterrupted"),
        ("import time; time.sleep(60)", "KeyboardInterrupt"),
    ],
    ids=["bot.wait", "await", "sleep"],
)
def test_the_stop_button_ends_the_cell_and_keeps_the_link(connected, gateway, figure, waits, name):
    stopped = connected.run(waits, interrupt_after=0.6)
    assert stopped.content["ename"] == name
    figure("seconds to stop", stopped.seconds)
    assert stopped.seconds < STOPPED
    begin = time.time()
    connected.ok("time.sleep(0.5)")
    lost, _ = missing(connected, gateway.between(begin, begin + 0.4))
    assert lost == set()
    assert (reconnects(connected), gateway.opened, gateway.ended) == (0, 1, [])


def test_the_gateway_is_as_strict_as_it_says(python, tmp_path_factory):
    """A client on the kernel's own loop loses this link: the tests above could fail."""
    with StrictGateway() as gateway:
        code = f"""
import time, websockets
headers = {{"Authorization": "Bearer {gateway.token}"}}
link = await websockets.connect("ws{gateway.base_url[4:]}/agent/gateway", additional_headers=headers)
time.sleep({TOO_LONG})
print(time.time())
"""
        with Kernel(tmp_path_factory.mktemp("plain"), python=python) as kernel:
            woke = kernel.value(code)
            assert len(gateway.ended) == 1
            assert gateway.ended[0] < woke
