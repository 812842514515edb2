from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.attribution.claims import Claims


def test_a_call_takes_the_energy_of_its_tokens() -> None:
    claims = Claims(900)
    claims.add(0, 10, 1000, 200)
    assert claims.claim(0, 10, 50) == pytest.approx((250, 50))
    assert claims.pending == pytest.approx(750)


def test_a_call_takes_from_slots_by_what_was_computed_while_it_ran() -> None:
    claims = Claims(900)
    claims.add(0, 10, 1000, 100)  # 10 J a token
    claims.add(10, 20, 600, 300)  # 2 J a token
    # Half of the first slot, all of the second: 50 and 300 tokens.
    assert claims.available(5, 20) == 350
    assert claims.claim(5, 20, 70) == pytest.approx((10 * 10 + 60 * 2, 70))


def test_what_a_full_slot_cannot_give_comes_from_the_others() -> None:
    claims = Claims(900)
    claims.add(0, 10, 1000, 100)
    claims.add(10, 20, 100, 100)
    assert claims.claim(0, 10, 90) == pytest.approx((900, 90))
    assert claims.claim(0, 20, 100) == pytest.approx((100 + 90, 100))


def test_no_more_is_given_than_there_is() -> None:
    claims = Claims(900)
    claims.add(0, 10, 1000, 100)
    assert claims.claim(0, 10, 300) == pytest.approx((1000, 100))
    assert claims.claim(0, 10, 1) == (0, 0)


def test_a_call_outside_of_all_slots_gets_nothing() -> None:
    claims = Claims(900)
    claims.add(0, 10, 1000, 100)
    assert claims.claim(10, 20, 5) == (0, 0)
    assert claims.claim(-5, 0, 5) == (0, 0)
    assert claims.available(10, 20) == 0


def test_energy_without_tokens_is_unattributed_at_once() -> None:
    claims = Claims(900)
    claims.add(0, 10, 1000, 0)
    assert (claims.unattributed, claims.pending) == (1000, 0)


def test_what_was_not_claimed_in_time_is_unattributed() -> None:
    claims = Claims(60)
    claims.add(0, 10, 1000, 100)
    claims.claim(0, 10, 25)
    claims.add(10, 70, 0, 0)
    assert (claims.unattributed, claims.pending) == pytest.approx((0, 750))
    claims.add(70, 71, 0, 0)
    assert (claims.unattributed, claims.pending) == pytest.approx((750, 0))


def test_slots_from_before_the_clock_was_set_back_do_not_stay() -> None:
    claims = Claims(60)
    claims.add(10_000, 10_010, 1000, 100)
    claims.add(0, 10, 500, 50)
    assert (claims.unattributed, claims.pending) == pytest.approx((1000, 500))
    claims.add(100, 110, 0, 0)
    assert (claims.unattributed, claims.pending) == pytest.approx((1500, 0))


AMOUNTS = st.floats(0, 1e9)
STEPS = st.tuples(st.just("add"), st.floats(0.1, 60), AMOUNTS, AMOUNTS)
CALLS = st.tuples(st.just("claim"), st.floats(-50, 300), st.floats(0, 200), st.floats(0, 1e9))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(STEPS, CALLS), max_size=40))
def test_claimed_unattributed_and_pending_are_what_was_put_in(events: list[Any]) -> None:
    claims, now, put, claimed, unattributed = Claims(120), 1.7e9, 0.0, 0.0, 0.0
    for what, first, second, third in events:
        if what == "add":
            claims.add(now, now + first, second, third)
            now += first
            put += second
        else:
            energy, matched = claims.claim(now - first - second, now - first, third)
            assert energy >= 0
            assert 0 <= matched <= third
            claimed += energy
        assert claims.pending >= 0
        assert claims.unattributed >= unattributed
        unattributed = claims.unattributed
        total = claimed + claims.unattributed + claims.pending
        assert math.isclose(total, put, rel_tol=1e-9, abs_tol=1e-12)
