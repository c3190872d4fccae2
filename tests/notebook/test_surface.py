import threading
import time

from botbook._notebook.render import notice
from botbook._notebook.surface import Block, Surface, is_statement


class Handle:
    def __init__(self):
        self.seen = []

    def update(self, view):
        self.seen.append((time.monotonic(), view.plain))


def test_a_block_keeps_its_pace_and_ends_with_the_last_one():
    handle = Handle()
    block = Block(handle, period=0.05)
    began = time.monotonic()
    threads = [
        threading.Thread(
            target=lambda: [block.update(notice(str(n))) or time.sleep(0.001) for n in range(60)]
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    block.update(notice("last"))
    block.close()
    took = time.monotonic() - began
    assert handle.seen[-1][1] == "last"
    assert 2 <= len(handle.seen) <= took / 0.05 + 3


def test_a_late_update_comes_by_itself():
    handle = Handle()
    block = Block(handle, period=0.02)
    block.update(notice("first"))
    block.update(notice("second"))
    deadline = time.monotonic() + 2
    while len(handle.seen) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert [text for _, text in handle.seen] == ["first", "second"]
    block.close()
    assert len(handle.seen) == 2


def test_a_block_is_displayed_and_changed_in_place(cellar):
    import IPython.display

    shown = []

    class Publisher:
        def publish(self, **kwargs):
            shown.append(
                (kwargs["data"]["text/plain"], kwargs.get("update", False), kwargs["transient"]["display_id"])
            )

    publisher, cellar.shell.display_pub = cellar.shell.display_pub, Publisher()
    try:
        block = Surface().block(notice("one"))
        block.update(notice("two"))
        block.close()
    finally:
        cellar.shell.display_pub = publisher
    assert [(text, update) for text, update, _ in shown] == [("one", False), ("two", True)]
    assert len({ident for *_, ident in shown}) == 1
    assert IPython.display.display is not None


def test_outside_a_magic_nothing_is_a_statement():
    assert not is_statement()
