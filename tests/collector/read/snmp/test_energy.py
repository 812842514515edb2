"""Energy counters that restart, jump and lie."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.read.snmp.energy import Energy


def test_starts_at_what_the_device_counted_before():
    assert Energy(1000, 360).update(7.2e6, 0) == 7.2e6


@given(st.lists(st.integers(0, 10_000), max_size=50))
def test_follows_a_counter_that_rises(steps):
    energy, raw = Energy(1000, 0), 0.0
    for now, step in enumerate(steps):
        raw += step
        assert energy.update(raw, 10.0 * now) == raw


@given(st.lists(st.floats(0, 1e12), max_size=60), st.floats(1, 1e5))
def test_never_falls_and_never_rises_more_than_it_can(readings, watts):
    energy, last, since = Energy(watts, 3600), None, 0.0
    for step, raw in enumerate(readings):
        now = 10.0 * step
        try:
            total = energy.update(raw, now)
        except ValueError:
            continue
        if total is None:
            continue
        if last is not None:
            assert last <= total <= (last + watts * (now - since) + 7200) * (1 + 1e-12)
        last, since = total, now


def test_one_wrong_reading_leaves_no_trace():
    energy = Energy(1000, 360)
    assert energy.update(1e9, 0) == 1e9
    assert energy.update(5.0, 10) is None
    assert energy.update(1e9 + 3600, 20) == 1e9 + 3600
    with pytest.raises(ValueError, match="rose by"):
        energy.update(4e15, 30)
    assert energy.update(1e9 + 7200, 40) == 1e9 + 7200


def test_what_is_counted_after_a_reset_is_added():
    energy = Energy(1000, 360)
    energy.update(1e9, 0)
    assert energy.update(3600, 10) is None
    assert energy.update(7200, 20) == 1e9 + 7200
    assert energy.update(10_800, 30) == 1e9 + 10_800


def test_the_past_of_another_device_is_not_added():
    energy = Energy(1000, 360)
    energy.update(1e9, 0)
    assert energy.update(4e8, 10) is None
    assert energy.update(4e8 + 3600, 20) == 1e9 + 3600
    with pytest.raises(ValueError, match="rose"):
        energy.update(9e12, 30)
    assert energy.update(9e12 + 3600, 40) == 1e9 + 7200
