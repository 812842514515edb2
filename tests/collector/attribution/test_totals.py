from __future__ import annotations

import math

import numpy as np

from collector.attribution import METRICS
from collector.attribution.totals import Totals
from collector.batch import Batch
from collector.catalog import attribution as derived
from collector.entity import Kind

NAN = np.nan
A, B, C = (Kind.HOST(name) for name in "abc")


def published(totals: Totals, at: float = 7.0) -> dict[tuple[str, ...], float]:
    """By metric, host and labels; every sample must be as of that time."""
    batch = Batch(A, 10.0, METRICS)
    batch.add(derived.GPU_ENERGY_ATTRIBUTED, Kind.GPU("a", "0"), 1.0)
    totals.publish(batch, at)
    batch.add(derived.GPU_ENERGY_ATTRIBUTED, Kind.GPU("a", "1"), 1.0)
    assert batch.times == dict.fromkeys(range(1, len(batch.keys) - 1), at)
    Batch(A, 10.0, METRICS).extend(batch.keys, batch.values)  # checks them
    found = zip(batch.keys[1:-1], batch.values[1:-1], strict=True)
    return {(key.metric.name, *key.entity.key, *key.labels): value for key, value in found}


def test_what_has_no_value_is_not_published() -> None:
    power = (derived.HOST_POWER, ("pdu",))
    totals = Totals((derived.HOST_ENERGY, ("pdu",)), (derived.HOST_ENERGY, ("components",)), power)
    assert [totals.row(host) for host in (A, B, A)] == [0, 1, 0]
    assert not published(totals)
    totals.add(np.array([NAN, 0.0]), derived.HOST_ENERGY, "pdu")
    totals.add(np.array([3.0, NAN]), derived.HOST_ENERGY, "components")
    totals.put(np.array([5.0, NAN]), derived.HOST_POWER, "pdu")
    assert published(totals) == {
        ("host.energy", "b", "pdu"): 0.0,
        ("host.energy", "a", "components"): 3.0,
        ("host.power", "a", "pdu"): 5.0,
    }
    assert totals.row(C) == 2
    assert len(totals) == 3
    totals.add(np.array([1.0, NAN, 4.0]), derived.HOST_ENERGY, "components")
    totals.put(np.array([NAN, 6.0, NAN]), derived.HOST_POWER, "pdu")
    ended = published(totals).pop(("host.power", "a", "pdu"))
    assert math.isnan(ended), "what has a value no longer is told so once"
    assert published(totals) == {
        ("host.energy", "b", "pdu"): 0.0,
        ("host.energy", "a", "components"): 4.0,
        ("host.energy", "c", "components"): 4.0,
        ("host.power", "b", "pdu"): 6.0,
    }
