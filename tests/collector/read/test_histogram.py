"""Windows and quantiles of cumulative histograms."""

import math
from bisect import bisect_left
from itertools import accumulate

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from collector.read.histogram import Distribution, Histogram, Quantile, total

INF = math.inf
BOUNDS = (0.1, 0.5, 1.0, 30.0, INF)


def cumulative(values: list[float], bounds: tuple[float, ...] = BOUNDS) -> list[float]:
    counts = [0.0] * len(bounds)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    return list(accumulate(counts))


def distribution(values: list[float], bounds: tuple[float, ...] = BOUNDS) -> Distribution:
    buckets = cumulative(values, bounds)
    counts = tuple(b - a for a, b in zip([0.0, *buckets], buckets, strict=False))
    return Distribution(bounds, counts, math.fsum(values), 60.0)


def follow(*readings: tuple[float, list[float]], born: float | None = None) -> Histogram:
    histogram = Histogram(60.0)
    for at, values in readings:
        histogram.update(at, BOUNDS, cumulative(values), sum(values), born)
    return histogram


def test_estimate_is_between_the_bounds():
    found = distribution([0.2, 0.3, 0.7, 0.8]).quantile(0.5)
    assert found == Quantile(0.5, 0.1, 0.5)


def test_first_bucket_has_no_estimate():
    assert distribution([20e-6] * 40).quantile(0.5) == Quantile(None, 0.0, 0.1)


def test_first_bucket_of_values_below_zero_has_no_lower_bound():
    bounds = (-1.0, 0.0, INF)
    assert distribution([-5.0] * 3, bounds).quantile(0.5) == Quantile(None, -INF, -1.0)


def test_past_the_last_bound_only_the_lower_is_known():
    assert distribution([0.2, 40.0, 50.0, 60.0]).quantile(0.5) == Quantile(None, 30.0, INF)


def test_only_bucket():
    assert distribution([1.0, 2.0], (INF,)).quantile(0.5) == Quantile(None, 0.0, INF)


@pytest.mark.parametrize(("q", "needed"), [(0.5, 2), (0.95, 20), (0.99, 100)])
def test_withheld_with_few_observations(q, needed):
    assert distribution([0.2] * (needed - 1)).quantile(q) is None
    assert distribution([0.2] * needed).quantile(q) is not None


def test_mean_is_exact():
    assert distribution([0.2, 40.0]).mean == 20.1
    assert distribution([]).mean is None
    assert distribution([]).quantile(0.5) is None


VALUES = st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS[:-1]), min_size=2, max_size=150)
AT = st.floats(0.01, 0.99)


@given(VALUES, AT)
@example([1.0, 0.5, 0.5, 0.5], 0.75)
def test_true_quantile_is_within_the_bounds(values, q):
    found = distribution(values).quantile(q)
    if found is None:
        reject()
    truth = sorted(values)[max(1, math.ceil(q * len(values) - 1e-9)) - 1]
    # The lowest bucket holds zero too.
    assert found.lower < truth <= found.upper or truth == found.lower == 0
    if found.estimate is not None:
        assert found.lower < found.estimate <= found.upper


@given(VALUES, AT, AT)
def test_quantiles_rise_with_q(values, a, b):
    low, high = (distribution(values).quantile(q) for q in sorted((a, b)))
    if low is not None and high is not None:
        assert (low.lower, low.upper) <= (high.lower, high.upper)
        if low.estimate is not None and high.estimate is not None:
            assert low.estimate <= high.estimate


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_total_conserves_counts_and_sums(ranks):
    found = total(distribution(values) for values in ranks)
    assert found is not None
    assert found.counts == distribution([v for values in ranks for v in values]).counts
    assert found.observations == sum(map(len, ranks))
    assert found.sum == pytest.approx(math.fsum(v for values in ranks for v in values))


def test_total_of_unlike_buckets_is_unknown():
    assert total([distribution([1.0]), distribution([1.0], (1.0, INF))]) is None
    assert total([]) is None


def test_window_needs_two_readings():
    assert follow((0.0, [0.2])).window() is None


def test_window_is_what_came_since():
    window = follow((0.0, [0.2]), (5.0, [0.2, 0.7, 40.0])).window()
    assert window is not None
    assert list(window.counts) == [0, 0, 1, 0, 1]
    assert window.seconds == 5.0
    assert window.sum == pytest.approx(40.7)


def test_window_forgets():
    histogram = follow((0.0, []), (5.0, [0.2]))
    for at in range(10, 70, 5):
        histogram.repeat(float(at))
    window = histogram.window()
    assert window is not None
    assert (window.observations, window.seconds) == (0, 60.0)
    assert histogram.count.total == 1


def test_after_a_gap_the_window_starts_anew():
    histogram = follow((0.0, []), (5.0, [0.2]), (300.0, [0.2] * 50))
    gap = histogram.window()
    assert gap is None
    assert histogram.count.total == 50
    histogram.update(305.0, BOUNDS, cumulative([0.2] * 53), 10.6)
    window = histogram.window()
    assert window is not None
    assert (window.observations, window.seconds) == (3, 5.0)


def test_restart_that_passed_the_old_values_is_seen_by_birth():
    histogram = follow((0.0, []), (5.0, [0.2] * 3), born=-100.0)
    histogram.update(65.0, BOUNDS, cumulative([0.2] * 4), 0.8, born=50.0)
    window = histogram.window()
    assert window is not None
    assert (window.observations, window.seconds) == (4, 15.0)  # since the birth
    assert histogram.count.total == 7
    assert histogram.sum.total == pytest.approx(1.4)


def test_restart_resets_all_buckets_when_one_fell():
    # The bucket of slow requests rose, that of fast ones fell: all of it is new.
    histogram = follow((0.0, []), (5.0, [0.2, 0.2]), (10.0, [0.7, 0.7, 40.0]))
    window = histogram.window()
    assert window is not None
    assert list(window.counts) == [0, 0, 2, 0, 1]
    assert histogram.count.total == 5


def test_other_buckets_are_another_life():
    histogram = follow((0.0, []), (5.0, [0.2, 0.2]))
    histogram.update(10.0, (1.0, INF), [3.0, 3.0], 0.9)
    window = histogram.window()
    assert window is not None
    assert (window.bounds, window.counts) == ((1.0, INF), (3.0, 0.0))
    assert histogram.count.total == 5


def test_birth_unknown_for_once_is_no_restart():
    histogram = follow((0.0, [0.2]), (5.0, [0.2] * 2), born=1.0)
    histogram.update(10.0, BOUNDS, cumulative([0.2] * 3), 0.6)
    histogram.update(15.0, BOUNDS, cumulative([0.2] * 4), 0.8, born=1.0)
    assert histogram.count.total == 4


LIVES = st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=3)


@given(LIVES)
def test_counts_are_conserved_over_restarts(lives):
    """Every observation that was on a page is counted once, whatever restarts."""
    histogram = Histogram(1e9)
    at, seen = 0.0, 0
    for born, life in enumerate(lives, 1):
        so_far: list[float] = []
        for more in life:
            at += 1.0
            so_far += more
            histogram.update(at, BOUNDS, cumulative(so_far), math.fsum(so_far), -float(born))
        seen += len(so_far)
    assert histogram.count.total == seen
    window = histogram.window()
    if window is not None:
        # The window covers the last life; of the first one what came after the first reading.
        before = len(lives[0][0]) if len(lives) == 1 else 0
        assert window.observations == sum(map(len, lives[-1])) - before
