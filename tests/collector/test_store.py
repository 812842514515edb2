from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import Batch, SeriesKey
from collector.catalog import gpu
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.store import FUTURE, SET_BACK, Store

HOST = Kind.HOST("node1")
START = 1_700_000_000.0


def device(name: str) -> Entity:
    return Kind.GPU("node1", name)


def write(
    store: Store, at: float, *samples: tuple[Any, ...], source: str = "s", lifetime: float = 30.0,
    limit: int = 1 << 31, precedence: int = 0,
) -> int:  # fmt: skip
    """Write (metric, entity, value[, time]); times are seconds since `START`."""
    batch = Batch(HOST, START + at, {gpu.POWER, gpu.ENERGY})
    for metric, entity, value, *time in samples:
        batch.add(metric, entity, value, at=START + time[0] if time else None)
    return store.write(batch, source, lifetime, limit, precedence)


def latest(store: Store, name: str, now: float, metric: Metric = gpu.POWER) -> float | None:
    return store.latest(START + now, metric, device(name))


def history(store: Store, name: str, metric: Metric = gpu.POWER) -> dict[float, float]:
    rows = np.array([store.index[SeriesKey(metric, device(name), ())]])
    times, values = store.read(rows, START - 1e6, START + 1e9)
    return {
        time - START: value
        for time, value in zip(times.tolist(), values[:, 0].tolist(), strict=True)
        if not math.isnan(value)
    }


def test_the_newest_sample_is_the_latest_and_goes_stale() -> None:
    store = Store()
    write(store, 0, (gpu.POWER, device("a"), 100.0))
    write(store, 10, (gpu.POWER, device("a"), 200.0))
    assert latest(store, "a", 39.9) == 200
    assert latest(store, "a", 40) is None
    assert list(store.live(START + 39.9)) == [0]
    assert list(store.live(START + 40)) == []
    assert latest(store, "b", 10) is None


def test_a_late_sample_goes_into_history_only() -> None:
    store = Store()
    write(store, 0, (gpu.POWER, device("a"), 1.0))
    write(store, 20, (gpu.POWER, device("a"), 3.0, 18.5))
    write(store, 21, (gpu.POWER, device("a"), 2.0, 9.0))
    assert latest(store, "a", 21) == 3
    assert history(store, "a") == {0: 1, 18: 3, 9: 2}


def test_late_samples_of_a_new_series_are_kept() -> None:
    store = Store()
    write(store, 0, (gpu.POWER, device("a"), 1.0, -50.0), (gpu.POWER, device("a"), 2.0, -20.0))
    assert history(store, "a") == {-50: 1, -20: 2}


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_newest_of_two_samples_in_one_batch_is_the_latest(order: tuple[int, int]) -> None:
    store = Store()
    write(store, 5, *((gpu.POWER, device("a"), float(i), float(i)) for i in order))
    assert latest(store, "a", 5) == 2
    assert history(store, "a") == {1: 1, 2: 2}


@pytest.mark.parametrize("at", [FUTURE + 100, -3601.0, -1.7e9, 1e12])
def test_a_time_that_cannot_be_is_taken_as_now(at: float) -> None:
    store = Store()
    write(store, 5, (gpu.POWER, device("a"), 1.0, at))
    assert history(store, "a") == {5: 1}


def test_a_source_has_no_more_series_than_its_limit() -> None:
    store = Store()
    samples = [(gpu.POWER, device(str(i)), float(i)) for i in range(5)]
    assert write(store, 0, *samples, limit=3) == 2
    assert write(store, 1, *samples, limit=3) == 2
    assert write(store, 1, *samples[3:], source="other", limit=3) == 0
    assert (store.owned("s"), store.owned("other")) == (3, 2)
    assert [latest(store, str(i), 1) for i in range(5)] == [0, 1, 2, 3, 4]
    assert write(store, 2, (gpu.POWER, device("new"), 1.0), source="full", limit=0) == 1


def test_an_evicted_series_makes_room_and_leaves_nothing_to_the_next() -> None:
    store = Store(history=100)
    write(store, 0, (gpu.POWER, device("old"), 1.0), (gpu.POWER, device("kept"), 1.0), limit=2)
    write(store, 120, (gpu.POWER, device("kept"), 2.0))
    store.evict(START + 129.9)
    assert store.owned("s") == 2
    generation = store.generation
    store.evict(START + 130.1)
    assert store.owned("s") == 1
    assert store.generation > generation
    assert SeriesKey(gpu.POWER, device("old"), ()) not in store.by_metric[gpu.POWER]
    assert write(store, 131, (gpu.POWER, device("new"), 3.0), limit=2) == 0
    assert len(store.series) == 2
    assert history(store, "new") == {131: 3}


def test_a_counter_starts_anew_when_it_falls_and_a_gauge_does_not() -> None:
    store = Store()
    for at, value in ((0, 10.0), (10, 20.0), (20, 5.0)):
        write(store, at, (gpu.ENERGY, device("a"), value), (gpu.POWER, device("a"), value))
    energy = store.index[SeriesKey(gpu.ENERGY, device("a"), ())]
    power = store.index[SeriesKey(gpu.POWER, device("a"), ())]
    assert (store.start[energy] - START, store.start[power] - START) == (10, 0)


def test_a_start_is_never_after_the_sample() -> None:
    store = Store()
    write(store, 10, (gpu.ENERGY, device("a"), 1.0, 7.0))
    assert store.start[0] <= store.time[0]


class TestPrecedence:
    """Of sources of one series the best that is there counts."""

    def test_a_worse_source_is_silent_until_the_better_one_is_stale(self) -> None:
        store = Store()
        write(store, 0, (gpu.POWER, device("a"), 1.0), source="good", lifetime=30)
        for at in (10, 29.9):
            sample = (gpu.POWER, device("a"), 2.0)
            assert write(store, at, sample, source="poor", precedence=-1) == 0, "is not refused"
            assert latest(store, "a", at) == 1
        assert latest(store, "a", 30) is None, "what is dropped keeps nothing alive"
        assert history(store, "a") == {0: 1}
        write(store, 30, (gpu.POWER, device("a"), 2.0), source="poor", precedence=-1)
        assert latest(store, "a", 30) == 2
        write(store, 31, (gpu.POWER, device("a"), 3.0), source="good")
        write(store, 32, (gpu.POWER, device("a"), 4.0), source="poor", precedence=-1)
        assert latest(store, "a", 32) == 3

    def test_what_a_worse_source_alone_has_is_kept(self) -> None:
        store = Store()
        write(store, 0, (gpu.POWER, device("a"), 1.0))
        samples = (gpu.POWER, device("a"), 2.0), (gpu.ENERGY, device("a"), 3.0)
        write(store, 1, *samples, source="poor", precedence=-2)
        assert (latest(store, "a", 1), latest(store, "a", 1, gpu.ENERGY)) == (1, 3)

    def test_a_source_that_is_better_than_all_takes_over_at_once(self) -> None:
        store = Store()
        write(store, 0, (gpu.POWER, device("a"), 1.0))
        write(store, 1, (gpu.POWER, device("a"), 2.0), source="best", precedence=7)
        write(store, 2, (gpu.POWER, device("a"), 3.0))
        assert latest(store, "a", 2) == 2

    def test_of_equals_the_last_writer_counts(self) -> None:
        store = Store()
        for at, source in ((0, "x"), (1, "y"), (2, "x")):
            write(store, at, (gpu.POWER, device("a"), float(at)), source=source, precedence=-1)
            assert latest(store, "a", at) == at

    def test_a_full_source_of_another_precedence_is_refused_and_breaks_nothing(self) -> None:
        store = Store()
        sample = (gpu.POWER, device("a"), 1.0)
        assert write(store, 0, sample, source="poor", precedence=-1, limit=0) == 1
        assert len(store.index) == 0

    def test_a_row_that_is_used_again_does_not_inherit_a_rank(self) -> None:
        store = Store(history=100)
        write(store, 0, (gpu.POWER, device("old"), 1.0), precedence=5, lifetime=10)
        store.evict(START + 200)
        write(store, 200, (gpu.POWER, device("new"), 2.0), precedence=-1)
        assert latest(store, "new", 200) == 2
        assert store.rank[store.index[SeriesKey(gpu.POWER, device("new"), ())]] == -1

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.floats(0, 20),  # seconds since the write before
                st.sampled_from([(0, 30.0), (-1, 12.0), (-2, 50.0), (3, 5.0)]),
                st.sets(st.sampled_from("abc"), min_size=1),
            ),
            max_size=40,
        )
    )
    def test_no_write_is_seen_over_a_live_better_one(self, writes: list[Any]) -> None:
        store, now = Store(), 0.0
        model: dict[str, tuple[float, int, float]] = {}  # value, precedence, expiry
        for number, (passed, (precedence, lifetime), names) in enumerate(writes):
            now += passed
            samples = [(gpu.POWER, device(name), float(number)) for name in sorted(names)]
            source = f"source {precedence}"
            refused = write(
                store, now, *samples, source=source, lifetime=lifetime, precedence=precedence
            )
            assert refused == 0
            for name in names:
                _, rank, expiry = model.get(name, (0.0, precedence, -math.inf))
                if rank <= precedence or START + expiry <= START + now:
                    model[name] = (float(number), precedence, now + lifetime)
            for name, (value, _, expiry) in model.items():
                alive = START + expiry > START + now
                assert latest(store, name, now) == (value if alive else None)


class TestClock:
    def test_set_back_nothing_lasts_until_it_has_caught_up(self) -> None:
        store = Store()
        year = 365 * 86400.0
        write(store, year, (gpu.POWER, device("a"), 1.0), (gpu.POWER, device("gone"), 1.0))
        for at in range(3):
            write(store, at, (gpu.POWER, device("a"), 2.0 + at))
        assert latest(store, "a", 3) == 4
        assert latest(store, "gone", 29) == 1
        assert latest(store, "gone", 31) is None
        assert history(store, "a") == {0: 2, 1: 3, 2: 4}

    def test_set_back_what_lies_ahead_is_forgotten_and_the_past_is_kept(self) -> None:
        store = Store()
        for at in range(0, 2000, 10):
            write(store, at, (gpu.POWER, device("a"), 1.0))
        back = 2000 - SET_BACK - 105
        before: dict[float, float] = dict.fromkeys(range(0, int(back), 10), 1.0)
        write(store, back, (gpu.POWER, device("a"), 2.0))
        assert history(store, "a") == before | {back: 2}
        assert latest(store, "a", back) == 2

    def test_set_back_a_little_the_newest_reading_is_shown_at_once(self) -> None:
        store = Store()
        write(store, 300, (gpu.POWER, device("a"), 1.0))
        write(store, 0, (gpu.POWER, device("a"), 2.0))
        assert latest(store, "a", 0) == 2
        assert latest(store, "a", 31) is None

    def test_a_poll_that_took_long_sets_nothing_back(self) -> None:
        store = Store()
        write(store, 590, (gpu.POWER, device("a"), 1.0))
        write(store, 0, (gpu.POWER, device("b"), 2.0), lifetime=1800, source="slow")
        assert history(store, "a") == {590: 1}
        assert latest(store, "a", 619) == 1
        assert latest(store, "b", 600) == 2

    def test_ahead_everything_is_stale_until_it_is_read_again(self) -> None:
        store = Store()
        write(store, 0, (gpu.POWER, device("a"), 1.0))
        store.evict(START + 7200)
        assert store.index == {}
        write(store, 7200, (gpu.POWER, device("a"), 2.0))
        assert history(store, "a") == {7200: 2}


EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.tuples(
        st.just("write"),
        st.integers(0, 160).map(lambda quarters: quarters / 4),
        st.lists(
            st.tuples(
                st.integers(0, 300),
                st.floats(-1e6, 1e6),
                st.one_of(st.none(), st.integers(-1600, 400).map(lambda quarters: quarters / 4)),
            ),
            max_size=12,
        ),
    ),
    st.tuples(st.just("evict"), st.integers(0, 400).map(float), st.just([])),
    st.tuples(st.just("jump"), st.sampled_from([3600.0, -3600.0, -300.0, -20.0]), st.just([])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(EVENTS, min_size=1, max_size=30), st.sampled_from([2, 5, 1000]))
def test_it_is_a_dict_of_series(events: list[Any], limit: int) -> None:
    store, now, span, lifetime = Store(history=200), 0.0, 200.0, 25.0
    model: dict[int, tuple[float, float, float]] = {}  # series to time, value, expiry
    newest = -math.inf
    for what, seconds, samples in events:
        generation, known = store.generation, set(model)
        now += seconds
        if what == "evict":
            store.evict(START + now)
            model = {n: entry for n, entry in model.items() if entry[2] >= now - span}
        elif what == "write" and samples:
            if START + now < newest - SET_BACK:
                by = newest - START - now
                model = {n: (t - by, v, e - by) for n, (t, v, e) in model.items()}
                newest = START + now
            newest = max(newest, START + now)
            taken = [
                (now + (0 if offset is None or not -span < offset < FUTURE else offset), n, value)
                for n, value, offset in samples
            ]
            new = list(dict.fromkeys(n for n, _, _ in samples if n not in model))
            refused = new[max(limit - len(model), 0) :]
            found = [
                (gpu.POWER, device(str(n)), value, *(() if offset is None else (now + offset,)))
                for n, value, offset in samples
            ]
            result = write(store, now, *found, lifetime=lifetime, limit=limit)
            assert result == sum(n in refused for n, _, _ in samples)
            for time, n, value in sorted(taken, key=lambda sample: sample[0]):
                if n not in refused:
                    last = model.get(n, (-math.inf, math.nan, 0.0))
                    if time >= last[0] or last[0] > now + lifetime:
                        last = (time, value, 0.0)
                    model[n] = (last[0], last[1], now + lifetime)
        assert (store.generation != generation) == (set(model) != known)
        assert {int(key.entity.key[1]) for key in store.index} == set(model)
        assert store.by_metric[gpu.POWER] == store.index
        assert store.owned("s") == len(model)
        assert all(store.series[row] is not None for row in store.index.values())
        live = {n for n, entry in model.items() if entry[2] > now}
        rows = {store.index[SeriesKey(gpu.POWER, device(str(n)), ())] for n in live}
        assert set(store.live(START + now).tolist()) == rows
        for n, (time, value, expiry) in model.items():
            row = store.index[SeriesKey(gpu.POWER, device(str(n)), ())]
            assert store.value[row] == value
            assert store.time[row] == pytest.approx(START + time, abs=1e-3)
            assert latest(store, str(n), now) == (value if expiry > now else None)
