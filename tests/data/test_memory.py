from __future__ import annotations

from datetime import timedelta

import pytest

from botbook._data import memory
from botbook._data.archive import archive
from botbook._data.frames import LiveFrame
from botbook._data.memory import LargeFrame, free_bytes, warn_of_memory

from .conftest import START


def test_a_large_frame_is_announced(store, keep, make, monkeypatch):
    with pytest.warns(LargeFrame, match=r"1,000,000 events .* about 0.2 GB .*lazy=True"):
        warn_of_memory(1_000_000, free=500_000_000)
    warn_of_memory(1_000_000, free=5_000_000_000)
    warn_of_memory(10, free=0)
    keep(make(0, 100))
    late = START + timedelta(days=99)
    archive(store.path, before=late, now=late, segment_rows=30, sleep=lambda seconds: None)
    keep(make(100, 120))
    asked = []
    monkeypatch.setattr("botbook._data.frames.warn_of_memory", asked.append)
    frame = LiveFrame(store)
    frame.events()
    frame.events(limit=7)
    frame.events(since=START + timedelta(seconds=95))
    assert asked == [120, 7, 10 + 20]


def test_free_memory(tmp_path):
    assert 0 < (free_bytes() or 0) < 2**60
    (tmp_path / "proc").mkdir()
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable:     8 kB\n")
    assert free_bytes(root=tmp_path) == 8192
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("5000\n")
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("4000\n")
    assert free_bytes(root=tmp_path) == 1000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert free_bytes(root=tmp_path) == 8192


def test_a_system_that_does_not_tell(tmp_path, monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(memory.os, "sysconf", unknown)
    assert free_bytes(root=tmp_path) is None
