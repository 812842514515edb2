from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.attribution.curve import MAX_GAP, Curve


def curve(*readings: tuple[float, float], integrate: bool, span: float = 900.0) -> Curve:
    made = Curve(integrate=integrate, span=span)
    for at, value in readings:
        made.feed(at, value)
    return made


def test_a_rate_is_integrated_by_trapezoids() -> None:
    made = curve((0, 100), (10, 200), (30, 200), integrate=True)
    assert made.at(10) == 1500
    assert made.at(30) == 5500
    assert made.at(20) == 3500


def test_a_counter_counts_from_its_first_reading() -> None:
    made = curve((0, 7000), (10, 7100), integrate=False)
    assert made.at(10) == 100
    assert made.at(5) == 50


def test_nothing_is_known_outside_of_the_readings() -> None:
    made = curve((0, 5), (10, 105), integrate=False)
    assert (made.at(-100), made.at(100)) == (0, 100)
    assert made.end == 10
    empty = Curve(integrate=True)
    assert (empty.end, empty.at(5)) == (float("-inf"), 0)


def test_a_counter_that_fell_was_reset() -> None:
    assert curve((0, 100), (10, 150), (20, 30), integrate=False).at(20) == 80


def test_a_reading_that_is_not_newer_is_left_out() -> None:
    assert curve((0, 100), (10, 150), (5, 900), (10, 900), integrate=False).at(10) == 50


def test_a_long_gap_of_a_rate_stays_a_gap() -> None:
    readings = (0.0, 100.0), (10.0, 100.0), (11.0 + MAX_GAP, 100.0), (21.0 + MAX_GAP, 100.0)
    assert curve(*readings, integrate=True).at(1000) == 2000


def test_a_gap_is_as_long_as_the_source_is_slow() -> None:
    made = Curve(integrate=True)
    for at in (0, 300, 600):
        made.feed(at, 10, 900)
    assert made.at(600) == 6000


def test_a_gap_of_a_counter_is_counted() -> None:
    assert curve((0, 100), (5000, 600), integrate=False).at(5000) == 500


def test_a_rate_below_zero_takes_nothing_back() -> None:
    made = curve((0, 10), (10, -10), (20, -10), (30, 10), integrate=True)
    assert made.at(30) == 100


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 59), st.floats(0, 1e6)), min_size=1, max_size=30),
    st.booleans(),
    st.lists(st.floats(-100, 2000), min_size=3, max_size=3).map(sorted),
)
def test_amounts_add_up(
    readings: list[tuple[float, float]], integrate: bool, times: list[float]
) -> None:
    made, now, before, truth = Curve(integrate=integrate, span=1e9), 0.0, None, 0.0
    for passed, value in readings:
        now += passed
        made.feed(now, value)
        if before is not None and integrate:
            truth += (before + value) / 2 * passed
        elif before is not None:
            truth += value - before if value >= before else value
        before = value
    assert made.at(now) == pytest.approx(truth)
    a, b, c = (made.at(time) for time in times)
    assert 0 <= a <= b <= c <= truth * (1 + 1e-9)
    assert (b - a) + (c - b) == pytest.approx(c - a)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.1, 50), min_size=2, max_size=60))
def test_the_past_is_forgotten_and_the_span_is_not(steps: list[float]) -> None:
    made, whole = Curve(integrate=False, span=100), Curve(integrate=False, span=1e9)
    now = 0.0
    for step in steps:
        now += step
        for one in (made, whole):
            one.feed(now, now * 3)
    for back in range(0, 101, 10):
        if now - back >= steps[0]:
            assert made.at(now - back) == pytest.approx(whole.at(now - back))
    assert len(made._times) <= 2 + 100 / min(steps) + 1
