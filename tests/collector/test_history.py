from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.history import CHUNK, OPEN, SLOTS, History

START = 1_700_000_000.0
NAN_WITH_PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
ODD = [
    0.0, -0.0, math.inf, -math.inf, math.nan, NAN_WITH_PAYLOAD, 5e-324, 1.7976931348623157e308,
    0.1 + 0.2, 2.0**53, 2.0**53 + 2, -(2.0**63), 1e22, 123456.789, -1.5, 1e-6, 1e-7,
]  # fmt: skip


class Model:
    """What a history is to do, by a dict."""

    def __init__(self, resolution: float, span: float) -> None:
        self.resolution, self.slots = resolution, math.ceil(span / resolution)
        self.values: dict[tuple[int, int], float] = {}
        self.newest = 0
        self.old: set[tuple[int, int]] = set()  # was out of reach once, and may be gone
        self.born: dict[int, int] = {}

    def slot(self, at: float) -> int:
        return int(at / self.resolution)

    def put(self, rows: list[int], values: list[float], at: float) -> None:
        slot = self.slot(at)
        if slot > self.newest - self.slots:
            self.newest = max(self.newest, slot)
            mine = {(row, slot): value for row, value in zip(rows, values, strict=True)}
            self.values.update(mine)
            self.old -= set(mine)
            self.old |= {key for key in self.values if key[1] <= self.newest - self.slots}

    def rewind(self, at: float) -> None:
        self.newest = self.slot(at)
        self.values = {key: v for key, v in self.values.items() if key[1] <= self.newest}
        self.born = {row: min(slot, self.newest) for row, slot in self.born.items()}

    def read(self, rows: list[int], start: float, end: float) -> dict[tuple[int, int], float]:
        first = max(math.ceil(start / self.resolution), self.newest - self.slots + 1)
        last = min(self.slot(end), self.newest)
        return {
            (row, slot): value
            for (row, slot), value in self.values.items()
            if first <= slot <= last and row in rows and not math.isnan(value)
            and slot >= self.born.get(row, 0)
        }  # fmt: skip


def bits(values: dict[tuple[int, int], float]) -> dict[tuple[int, int], bytes]:
    return {key: struct.pack("<d", value) for key, value in values.items()}


def found(
    history: History, rows: list[int], start: float, end: float
) -> dict[tuple[int, int], float]:
    times, values = history.read(np.array(rows, np.int64), start, end)
    assert values.shape == (len(times), len(rows))
    assert list(times) == sorted(set(times))
    return {
        (row, round(time / history.resolution)): float(values[place, column])
        for place, time in enumerate(times)
        for column, row in enumerate(rows)
        if not math.isnan(values[place, column])
    }


VALUES = st.one_of(
    st.sampled_from(ODD), st.floats(), st.integers(-(10**6), 10**6).map(lambda i: i / 100)
)
EVENTS = st.one_of(
    st.tuples(st.just("put"), st.floats(0, 3), VALUES),
    st.tuples(st.just("put"), st.floats(0, 90), VALUES),
    st.tuples(st.just("late"), st.floats(0, 400), VALUES),
    st.tuples(st.just("grow"), st.just(0.0), st.just(0.0)),
    st.tuples(st.just("clear"), st.floats(0, 100), st.just(0.0)),
    st.tuples(st.just("jump"), st.sampled_from([3600.0, 100.0]), VALUES),
    st.tuples(st.just("rewind"), st.sampled_from([3600.0, 100.0, 5.0]), VALUES),
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([1.0, 0.5, 10.0]),
    st.sampled_from([30.0, 250.0, 600.0]),
    st.lists(EVENTS, min_size=1, max_size=40),
    st.floats(-20, 700),
    st.floats(-700, 20),
)
def test_it_is_a_dict_of_slots(
    resolution: float, span: float, events: list[Any], since: float, until: float
) -> None:
    history, model = History(resolution, span), Model(resolution, span)
    now, rows = START, 2
    history.grow(rows)
    for number, (what, seconds, value) in enumerate(events):
        at = now
        if what == "grow":
            rows += CHUNK - 3
            history.grow(rows)
        elif what == "clear":
            row = number % rows
            history.clear(row, now - seconds)
            model.born[row] = model.slot(now - seconds)
        elif what == "rewind":
            now -= seconds
            history.rewind(now)
            model.rewind(now)
        if what in ("put", "jump"):
            now = at = now + seconds
        elif what == "late":
            at = now - seconds
        if what in ("put", "late", "jump", "rewind"):
            mine = sorted({number % rows, (number * 7) % rows, rows - 1})
            values = [value, -value, value / 3][: len(mine)]
            history.put(np.array(mine, np.int64), np.array(values), min(at, now))
            model.put(mine, values, min(at, now))
    every = list(range(rows))
    for mine, start, end in ((every, -1e9, 1e10), (every[::3], now - since, now + until)):
        got, expected = found(history, mine, start, end), model.read(mine, start, end)
        for key in model.old:
            if key not in got:
                expected.pop(key, None)
        assert bits(got) == bits(expected)


@pytest.mark.parametrize("value", ODD)
def test_a_sealed_double_is_exact(value: float) -> None:
    history = History(1.0, 3600.0)
    history.grow(3)
    history.put(np.array([0, 1]), np.array([value, 1.5]), START)
    for block in range(OPEN + 2):
        history.put(np.array([2]), np.array([1.0]), START + block * SLOTS)
    assert history._sealed
    expected = {} if math.isnan(value) else {(0, int(START)): value}
    assert bits(found(history, [0], START, START)) == bits(expected)


def test_a_last_value_in_a_slot_wins() -> None:
    history = History(10.0, 3600.0)
    history.grow(1)
    for seconds, value in ((0, 1.0), (9.9, 2.0), (10, 3.0), (5, 4.0)):
        history.put(np.array([0]), np.array([value]), START + seconds)
    assert [*found(history, [0], START, START + 20).values()] == [4.0, 3.0]


def test_gaps_are_nan_and_times_are_those_of_slots() -> None:
    history = History(1.0, 3600.0)
    history.grow(2)
    history.put(np.array([0]), np.array([7.0]), START + 0.7)
    history.put(np.array([0]), np.array([8.0]), START + 2.2)
    times, values = history.read(np.array([0, 1]), START, START + 100)
    assert times.tolist() == [START, START + 1, START + 2]
    assert np.array_equal(values, [[7, np.nan], [np.nan, np.nan], [8, np.nan]], equal_nan=True)


def test_reading_does_not_change_what_is_kept() -> None:
    history = History(1.0, 3600.0)
    history.grow(1)
    for second in range(SLOTS * (OPEN + 3)):
        history.put(np.array([0]), np.array([float(second)]), START + second)
    sealed = set(history._sealed)
    _, values = history.read(np.array([0]), 0, 1e10)
    values[:] = -1
    assert [*found(history, [0], 0, 1e10).values()] == list(range(SLOTS * (OPEN + 3)))
    assert set(history._sealed) == sealed


def test_nothing_is_kept_beyond_the_span() -> None:
    history = History(1.0, 300.0)
    history.grow(1)
    for second in range(3000):
        history.put(np.array([0]), np.array([1.0]), START + second)
    assert len(history._open) + len(history._sealed) <= 300 / SLOTS + 2
    times, _ = history.read(np.array([0]), 0, 1e10)
    assert (times[0], times[-1]) == (START + 2700, START + 2999)


def test_sealed_readings_take_little_room() -> None:
    rows = np.arange(CHUNK)
    history = History(1.0, 7200.0)
    history.grow(CHUNK)
    rng = np.random.default_rng(1)
    for second in range(SLOTS * (OPEN + 10)):
        history.put(rows, np.round(300 + rng.normal(size=CHUNK), 1), START + second)
    sealed = sum(len(chunk) for chunks in history._sealed.values() for chunk in chunks)
    assert sealed / (CHUNK * SLOTS * len(history._sealed)) < 2.5  # bytes a value; a double has 8
