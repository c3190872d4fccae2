from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from botbook._net.dedupe import Dedupe


def test_a_key_is_new_once():
    seen = Dedupe()
    assert seen.first("a")
    assert not seen.first("a")
    assert seen.first("b")
    assert len(seen) == 2


def test_the_empty_key_is_always_new():
    seen = Dedupe()
    assert seen.first("")
    assert seen.first("")
    assert len(seen) == 0


def test_a_forgotten_key_is_new_again():
    seen = Dedupe(count=3)
    for key in "abcd":
        seen.first(key)
    seen.forget("a")  # in the old generation
    seen.forget("d")  # in the young one
    seen.forget("z")
    assert seen.first("a")
    assert seen.first("d")
    assert not seen.first("b")


@given(st.integers(1, 20), st.lists(st.integers(0, 40).map(str), max_size=200))
def test_the_last_count_keys_are_remembered_and_twice_as_many_at_the_most(count, keys):
    seen = Dedupe(count=count)
    for i, key in enumerate(keys):
        lately: list[str] = []
        for earlier in reversed(keys[:i]):
            if earlier not in lately and len(lately) < count:
                lately.append(earlier)
        if key in lately:
            assert not seen.first(key)
        elif key not in keys[:i]:
            assert seen.first(key)
        else:
            seen.first(key)
        assert len(seen) <= 2 * count


def test_age():
    seen = Dedupe(age=10)
    seen.tick(100.0)
    seen.first("a")
    seen.tick(109.0)
    assert not seen.first("a")
    seen.tick(111.0)
    assert not seen.first("a"), "remembered for its age at least"
    seen.first("b")
    seen.tick(131.5)
    assert seen.first("a"), "forgotten after twice its age"
    assert seen.first("b")


def test_a_key_that_keeps_coming_back_stays():
    seen = Dedupe(age=10)
    seen.tick(0.0)
    assert seen.first("a")
    for now in range(5, 100, 5):
        seen.tick(float(now))
        assert not seen.first("a")
