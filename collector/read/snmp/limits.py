"""What no device can truly read."""

from __future__ import annotations

from collector.entity import Kind
from collector.metric import Metric

# By the metric's unit, the lowest and the highest that can be. An outlet carries at most 63 A in
# three phases of 400 V, about 44 kW; a floor PDU some hundred kW.
RANGES = {
    "W": (0.0, 1e6),
    "{VA}": (0.0, 1e6),
    "A": (0.0, 2000.0),
    "V": (0.0, 1000.0),
    "Hz": (0.0, 1000.0),
    "J": (0.0, 1e16),
    "Cel": (-60.0, 150.0),
    "1": (0.0, 1.0),
    "s": (0.0, 1e10),
    "{rpm}": (0.0, 1e5),
    "{Pa}": (-1e5, 1e7),  # by a gauge, so a suction reads below zero
    "m3/s": (0.0, 1.0),
}
OUTLET_RANGES = {"W": (0.0, 5e4), "{VA}": (0.0, 5e4), "A": (0.0, 125.0)}
POWER_FACTOR = (-1.0, 1.0)  # the sign tells leading from lagging on some devices
HEAT = (-1e6, 1e7)  # a unit that starts up can give heat off


def limits(metric: Metric) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have."""
    if metric.name.endswith("power_factor"):
        return POWER_FACTOR
    if ".heat" in metric.name:
        return HEAT
    if metric.kind is Kind.OUTLET and metric.unit in OUTLET_RANGES:
        return OUTLET_RANGES[metric.unit]
    return RANGES[metric.unit]
