"""NVML's field values: which are asked for, and what they mean.

Ids, scopes, units and types are those of nvml.h (NVML_FI_*, NVML_POWER_SCOPE_*).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from collector.catalog import gpu
from collector.metric import Metric

MILLI = 1e3  # mW in a W, mJ in a J
MICRO = 1e6  # us in a s
NANO = 1e9  # ns in a s
PERCENT = 100.0

GPU, MODULE, MEMORY = 0, 1, 2  # NVML_POWER_SCOPE_*; fields without a scope take 0


class Field(NamedTuple):
    """One field value: what to ask for, the metric it is, units of NVML in one of the metric's."""

    id: int
    scope: int
    metric: Metric
    per: float
    labels: tuple[str, ...] = ()


POWER_INSTANT = Field(186, GPU, gpu.POWER, MILLI)
POWER_AVERAGE = Field(185, GPU, gpu.POWER_AVERAGE, MILLI)
POWER_LIMIT = Field(190, GPU, gpu.POWER_LIMIT, MILLI)
ENERGY = Field(83, GPU, gpu.ENERGY, MILLI)
ENERGY_SCOPED = Field(191, GPU, gpu.ENERGY, MILLI)
MEMORY_TEMPERATURE = Field(82, GPU, gpu.MEMORY_TEMPERATURE, 1.0)
# Nanoseconds, whatever older texts say; nvidia-smi prints them in microseconds.
THROTTLED_BY_POWER = Field(74, GPU, gpu.THROTTLE_TIME, NANO, ("sw_power_cap",))
THROTTLED_BY_HEAT = Field(75, GPU, gpu.THROTTLE_TIME, NANO, ("thermal",))
THROTTLED_BY_SYNC = Field(76, GPU, gpu.THROTTLE_TIME, NANO, ("sync_boost",))
THROTTLED_BY_SW_HEAT = Field(269, GPU, gpu.THROTTLE_TIME, NANO, ("sw_thermal_slowdown",))
THROTTLED_BY_HW_HEAT = Field(270, GPU, gpu.THROTTLE_TIME, NANO, ("hw_thermal_slowdown",))
THROTTLED_BY_BRAKE = Field(271, GPU, gpu.THROTTLE_TIME, NANO, ("hw_power_brake_slowdown",))

# Asked for with every poll.
FAST = (
    POWER_INSTANT,
    POWER_AVERAGE,
    Field(186, MODULE, gpu.MODULE_POWER, MILLI),
    Field(185, MEMORY, gpu.MEMORY_POWER, MILLI),
    POWER_LIMIT,
    ENERGY,
    ENERGY_SCOPED,
    MEMORY_TEMPERATURE,
    THROTTLED_BY_POWER,
    THROTTLED_BY_SYNC,
    THROTTLED_BY_SW_HEAT,
    THROTTLED_BY_HW_HEAT,
    THROTTLED_BY_HEAT,
    THROTTLED_BY_BRAKE,
)
REDUNDANT = {
    ENERGY_SCOPED: (ENERGY,),
    THROTTLED_BY_HEAT: (THROTTLED_BY_SW_HEAT, THROTTLED_BY_HW_HEAT),
}
"""Fields that say nothing new where one of those named has a value."""

# From Ada on NVML gives thresholds as margins of T.Limit, of any sign; before, as temperatures.
MARGIN_LIMITS = (
    Field(193, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("shutdown",)),
    Field(194, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("slowdown",)),
    Field(195, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("memory",)),
    Field(196, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("gpu",)),
)
# Asked for at the slow pace.
SLOW = (
    Field(187, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("min",)),
    Field(188, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("max",)),
    Field(189, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("default",)),
    Field(192, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("requested",)),
    *MARGIN_LIMITS,
)

_ENTRY = struct.Struct("<IIqqII8s")  # nvmlFieldValue_t: id, scope, us, latency, type, return, value
# nvmlValueType_t: how the eight bytes of the union are to be read, and the value for "none".
_TYPES = {
    0: (struct.Struct("<d"), None),
    1: (struct.Struct("<I4x"), 0xFFFFFFFF),
    2: (struct.Struct("<Q"), 0xFFFFFFFFFFFFFFFF),
    3: (struct.Struct("<Q"), 0xFFFFFFFFFFFFFFFF),
    4: (struct.Struct("<q"), None),
    5: (struct.Struct("<i4x"), None),
    6: (struct.Struct("<H6x"), 0xFFFF),
}


def decode(entries: bytes) -> Iterator[tuple[int, float | None, float]]:
    """Read an array of `nvmlFieldValue_t`.

    Yields:
        NVML's return code for the entry, its value in NVML's unit or None where there is none, and
        when that was read, in seconds since the epoch.
    """
    for _, _, stamp, _, kind, code, raw in _ENTRY.iter_unpack(entries):
        value: float | None = None
        if code == 0 and kind in _TYPES:
            layout, none = _TYPES[kind]
            (value,) = layout.unpack(raw)
            if value == none:
                value = None
        yield code, value, stamp / MICRO
