"""Stores with made-up series."""

from __future__ import annotations

from collections.abc import Iterable

from collector.batch import Batch, SeriesKey
from collector.entity import Kind
from collector.metric import Metric
from collector.store import Store

NOW = 1_700_000_000.0


def fill(
    store: Store, samples: Iterable[tuple[Metric, tuple[str, ...], float]], at: float = NOW
) -> None:
    """Write samples: a metric, the values of all its labels that are no constants, the value."""
    samples = list(samples)
    batch = Batch(Kind.HOST("node1"), at, {metric for metric, _, _ in samples})
    for metric, labels, value in samples:
        keys = len(metric.kind.keys)
        batch.add(metric, metric.kind(*labels[:keys]), value, *labels[keys:])
    store.write(batch, "test", 30.0)


def every(metrics: Iterable[Metric]) -> list[tuple[Metric, tuple[str, ...], float]]:
    """One sample of each metric, with a value of its own and one for each label."""
    return [
        (metric, tuple(f"{name} value" for name in (*metric.kind.keys, *metric.labels)), 0.5 + i)
        for i, metric in enumerate(metrics)
    ]


def keys(store: Store) -> list[SeriesKey]:
    """All series of a store."""
    return [key for key in store.series if key is not None]
