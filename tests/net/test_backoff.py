from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._net.backoff import backoff, retry_after

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = [1, 2, 4, 8, 16, 32, 60, 60, 60]


@given(st.integers())
def test_every_delay_lies_between_half_and_the_whole_of_its_step(seed):
    delays = list(islice(backoff(random.Random(seed)), len(STEPS)))
    assert all(step / 2 <= delay <= step for step, delay in zip(STEPS, delays, strict=True))


def test_every_delay_is_jittered():
    crowd = [list(islice(backoff(random.Random(seed)), len(STEPS))) for seed in range(50)]
    for step, delays in zip(STEPS, zip(*crowd, strict=True), strict=True):
        assert max(delays) - min(delays) > step * 0.4
        assert len(set(delays)) == 50


def test_the_first_step_keeps_the_limit():
    assert next(backoff(random.Random(1), first=9.0, limit=2.0)) <= 2.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("9999", 300.0),
        ("inf", None),
        ("nan", None),
        ("soon", None),
        ("", None),
        (format_datetime(NOW + timedelta(seconds=12), usegmt=True), 12.0),
        ("Thu, 01 Jan 2026 00:00:05 -0000", 5.0),
        (format_datetime(NOW - timedelta(hours=1)), 0.0),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value, now=NOW) == seconds


@given(st.text())
def test_retry_after_takes_any_text(value):
    seconds = retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= 300
