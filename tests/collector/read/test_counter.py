from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.read.counter import Counter


def totals(counter: Counter, *readings: Any) -> list[float]:
    return [
        counter.update(*reading) if isinstance(reading, tuple) else counter.update(reading)
        for reading in readings
    ]


def test_it_starts_with_what_was_counted_before() -> None:
    assert Counter().total is None
    assert totals(Counter(), 500, 500, 520) == [500, 500, 520]


def test_a_fall_is_a_reset() -> None:
    assert totals(Counter(), 100, 150, 30, 40) == [100, 150, 180, 190]


def test_a_fall_of_a_counter_that_wraps_is_a_wrap() -> None:
    assert totals(Counter(modulo=256), 250, 255, 4) == [250, 255, 260]


def test_a_new_birth_is_a_reset_even_if_nothing_fell() -> None:
    assert totals(Counter(), (100, "a"), (150, "a"), (180, "b"), (190, "b")) == [100, 150, 330, 340]
    assert totals(Counter(modulo=256), (250, 1.0), (4, 2.0)) == [250, 254]


@pytest.mark.parametrize("births", [(None, "a", "a"), ("a", None, "a"), ("a", "a", None)])
def test_an_unknown_birth_is_no_new_one(births: tuple[str | None, ...]) -> None:
    readings = zip((100, 150, 200), births, strict=True)
    assert totals(Counter(), *readings) == [100, 150, 200]


STEPS = st.lists(st.tuples(st.integers(0, 10**6), st.booleans(), st.booleans()), max_size=50)


@given(STEPS, st.integers(0, 10**6))
def test_the_total_is_the_truth_if_births_are_known(
    steps: list[tuple[int, bool, bool]], first: int
) -> None:
    """What was counted between the last reading and a restart cannot be known, so is none here."""
    counter, truth, raw, birth = Counter(), first, first, 0
    assert counter.update(raw, birth) == truth
    for counted, restart, read in steps:
        if restart:
            counter.update(raw, birth)
            raw, birth = 0, birth + 1
        raw += counted
        truth += counted
        if read:
            assert counter.update(raw, birth) == truth
    assert counter.update(raw, birth) == truth


@given(STEPS, st.integers(2, 2000))
def test_wraps_lose_nothing_if_read_in_time(
    steps: list[tuple[int, bool, bool]], modulo: int
) -> None:
    counter, truth = Counter(modulo=modulo), 0
    counter.update(0)
    for counted, _, _ in steps:
        truth += counted % modulo
        assert counter.update(truth % modulo) == truth


@given(
    st.lists(st.tuples(st.floats(0, 1e12), st.sampled_from([None, "a", "b"]))),
    st.sampled_from([None, 1e12 + 1]),
)
def test_the_total_never_falls(
    readings: list[tuple[float, str | None]], modulo: float | None
) -> None:
    found = totals(Counter(modulo), *readings)
    assert found == sorted(found)
