from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from collector.batch import Batch, Call, Link, SeriesKey
from collector.catalog import gpu
from collector.entity import Kind
from collector.metric import GAUGE, Metric

HOST = Kind.HOST("node1")
GPU = Kind.GPU("node1", "g0")
WIDE = Metric("wide", GAUGE, "", Kind.GPU, "Help.", tuple(f"l{i}" for i in range(13)))
DECLARED = (gpu.POWER, gpu.PROCESS_MEMORY, WIDE)


def batch(**known: Any) -> Batch:
    return Batch(HOST, 100.0, DECLARED, **known)


def test_samples_are_kept_in_order() -> None:
    found = batch()
    found.add(gpu.POWER, GPU, 1.5)
    found.add(gpu.PROCESS_MEMORY, GPU, 2.5, "42", at=99.0)
    assert found.keys == [
        SeriesKey(gpu.POWER, GPU, ()),
        SeriesKey(gpu.PROCESS_MEMORY, GPU, ("42",)),
    ]
    assert found.values == [1.5, 2.5]
    assert found.times == {1: 99.0}


def test_unknown_is_absent() -> None:
    found = batch()
    found.add(gpu.POWER, GPU, None)
    assert found.keys == []


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (lambda b: b.add(gpu.TEMPERATURE, GPU, 1.0), "gpu.temperature is not among the metrics"),
        (lambda b: b.add(gpu.POWER, HOST, 1.0), "gpu.power is of a gpu, not of host:node1"),
        (lambda b: b.add(gpu.POWER, GPU, 1.0, "x"), r"gpu.power takes labels \(\), not \('x',\)"),
        (lambda b: b.add(gpu.PROCESS_MEMORY, GPU, 1.0), "takes labels"),
        (lambda b: b.add(WIDE, GPU, 1.0, *WIDE.labels), "more than 15 labels"),
        (lambda b: b.extend([SeriesKey(gpu.POWER, HOST, ())], [1.0]), "not of host:node1"),
    ],
)
def test_what_does_not_fit_is_told(add: Callable[[Batch], None], message: str) -> None:
    found = batch()
    with pytest.raises(ValueError, match=message):
        add(found)
    assert found.keys == []
    assert found.values == []


def test_known_series_are_not_checked_again() -> None:
    odd = SeriesKey(gpu.POWER, HOST, ())
    found = batch(known={odd: 0})
    found.add(*odd[:2], 1.0)
    found.extend([odd], [2.0])
    assert found.values == [1.0, 2.0]


def test_a_sealed_batch_takes_no_more() -> None:
    found = batch()
    found.add(gpu.POWER, GPU, 1.0)
    found.seal()
    found.add(gpu.POWER, GPU, 2.0)
    found.extend([SeriesKey(gpu.POWER, GPU, ())], [2.0])
    found.link(GPU, HOST)
    found.extend_links([Link(GPU, HOST, 1.0)])
    found.call(Call("a", "m", 0, 1, 1, 0, 1))
    found.failed(GPU, OSError())
    assert found.values == [1.0]
    assert (found.links, found.calls) == ([], [])
    assert found.errors == []


class Stop(list[Any]):
    """Seals the batch once something is added, as happens while a thread is in `add`."""

    found: Batch

    def append(self, item: Any) -> None:
        super().append(item)
        self.found.seal()

    def __iadd__(self, items: Any) -> Any:  # type: ignore[misc]
        self.extend(items)
        self.found.seal()
        return self


def test_a_batch_that_is_sealed_just_before_adding_stays_as_it_was() -> None:
    class Raced(Batch):
        """Another thread seals it right after each look at whether it is sealed."""

        @property
        def _sealed(self) -> bool:
            sealed: bool = self.__dict__.get("sealed", False)
            if not sealed:
                self.seal()
            return sealed

        @_sealed.setter
        def _sealed(self, value: bool) -> None:
            self.__dict__["sealed"] = value

    for add in (
        lambda found: found.add(gpu.POWER, GPU, 1.0, at=99.0),
        lambda found: found.extend([SeriesKey(gpu.POWER, GPU, ())], [1.0]),
    ):
        found = Raced(HOST, 100.0, DECLARED)
        add(found)
        assert (found.keys, found.values, found.times) == ([], [], {})


@pytest.mark.parametrize("at", [None, 99.0])
@pytest.mark.parametrize("many", [False, True])
def test_a_batch_that_is_sealed_in_the_midst_of_adding_stays_whole(
    at: float | None, many: bool
) -> None:
    found = batch()
    found.add(gpu.POWER, GPU, 1.0, at=98.0)
    found.keys = Stop(found.keys)
    found.keys.found = found
    if many:
        found.extend([SeriesKey(gpu.POWER, GPU, ())] * 3, [2.0] * 3)
    else:
        found.add(gpu.POWER, GPU, 2.0, at=at)
    assert found.values == [1.0]
    assert len(found.keys) == 1
    assert found.times == {0: 98.0}
