"""Every shipped metric, declared once; by layer and what it is of.

`from collector.catalog import gpu` and name them `gpu.POWER`.
"""

from __future__ import annotations

from collector.catalog import (
    agents,
    attribution,
    fabric,
    facility,
    gpu,
    hangs,
    host,
    metering,
    mig,
    network,
    nvlink,
    power,
    selfmetrics,
    serving,
    site,
    thermal,
)
from collector.metric import Metric

LAYERS = (
    power,
    metering,
    site,
    thermal,
    gpu,
    mig,
    nvlink,
    fabric,
    hangs,
    network,
    host,
    serving,
    agents,
    attribution,
    facility,
    selfmetrics,
)


def metrics() -> tuple[Metric, ...]:
    """All declared metrics, in the order of their declaration."""
    return tuple(
        value for layer in LAYERS for value in vars(layer).values() if isinstance(value, Metric)
    )
