from __future__ import annotations

import logging
import time

from botbook._data.segments import folder_of
from botbook._data.upkeep import Upkeep
from botbook._errors import StoreError


def until(done) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_old_events_move_and_very_old_ones_go(store, keep, make):
    keep(make(0, 100))
    second = 1 / 86400
    upkeep = Upkeep(store, archive_days=second, keep_days=0, first=0.0, every=0.01, least=10)
    until(lambda: store.state().sealed == 100)
    upkeep.close()
    upkeep = Upkeep(store, archive_days=0, keep_days=second, first=0.0)
    until(lambda: store.read().num_rows == 0)
    upkeep.close()


def test_a_few_stay_where_they_are(store, keep, make):
    keep(make(0, 5))
    assert store.archive(before="1s", least=6).rows == 0
    assert store.archive(before="1s", least=5).rows == 5


def test_it_ends_in_the_middle_of_its_work(store, keep, make):
    keep(make(0, 2000))
    upkeep = Upkeep(store, archive_days=1 / 86400, first=0.0)
    until(lambda: list(folder_of(store.path).glob("*")) or not upkeep._thread.is_alive())
    began = time.monotonic()
    upkeep.close()
    assert time.monotonic() - began < 2
    assert store.read().num_rows == 2000


def test_trouble_is_logged(store, caplog, monkeypatch):
    def fail(**options):
        raise StoreError("no way")

    monkeypatch.setattr(store, "archive", fail)
    with caplog.at_level(logging.WARNING, logger="botbook"):
        upkeep = Upkeep(store, archive_days=1, first=0.0)
        until(lambda: "no way" in caplog.text)
        upkeep.close()


def test_nothing_is_asked(store):
    upkeep = Upkeep(store, archive_days=0)
    assert not upkeep._thread.is_alive()
    upkeep.close()
