"""NVML's field values: which are asked for, and what they mean.

Ids, scopes, units and types are those of nvml.h (NVML_FI_*, NVML_POWER_SCOPE_*).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from collector.catalog import gpu, nvlink
from collector.metric import Metric

MILLI = 1e3  # mW in a W, mJ in a J
MICRO = 1e6  # us in a s
NANO = 1e9  # ns in a s
PERCENT = 100.0
KIBI = 1 / 1024  # KiB in a By

GPU, MODULE, MEMORY = 0, 1, 2  # NVML_POWER_SCOPE_*; fields without a scope take 0
ALL_LINKS = 0xFFFFFFFF  # the scope of NVLink's fields is the link, or this for their sum


class Field(NamedTuple):
    """One field value: what to ask for, the metric it is, units of NVML in one of the metric's.

    `wide` counters are of use only if they have 64 bits: bytes of PCIe wrap 32 in 70 ms.
    """

    id: int
    scope: int
    metric: Metric
    per: float
    labels: tuple[str, ...] = ()
    wide: bool = False


POWER_INSTANT = Field(186, GPU, gpu.POWER, MILLI)
POWER_AVERAGE = Field(185, GPU, gpu.POWER_AVERAGE, MILLI)
MODULE_POWER = Field(186, MODULE, gpu.MODULE_POWER, MILLI)
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
    MODULE_POWER,
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
# From Ada on NVML gives thresholds as margins of T.Limit, of any sign; before, as temperatures.
MARGIN_LIMITS = (
    Field(193, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("shutdown",)),
    Field(194, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("slowdown",)),
    Field(195, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("memory",)),
    Field(196, GPU, gpu.TEMPERATURE_MARGIN_LIMIT, 1.0, ("gpu",)),
)

RECOVERY_ACTION = Field(230, GPU, gpu.RECOVERY_ACTION, 1.0)  # NVML_GPU_RECOVERY_ACTION_*
# Asked for at the slow pace.
SLOW = (
    Field(187, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("min",)),
    Field(188, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("max",)),
    Field(189, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("default",)),
    Field(192, GPU, gpu.POWER_LIMIT_SETTING, MILLI, ("requested",)),
    *MARGIN_LIMITS,
    Field(1, GPU, gpu.ECC_ENABLED, 1.0),
    Field(29, GPU, gpu.PAGES_RETIRED, 1.0, ("single_bit",)),
    Field(30, GPU, gpu.PAGES_RETIRED, 1.0, ("double_bit",)),
    Field(31, GPU, gpu.PAGES_PENDING, 1.0),
    Field(142, GPU, gpu.ROWS_REMAPPED, 1.0, ("corrected",)),
    Field(143, GPU, gpu.ROWS_REMAPPED, 1.0, ("uncorrected",)),
    Field(144, GPU, gpu.ROWS_PENDING, 1.0),
    Field(145, GPU, gpu.ROWS_FAILED, 1.0),
    RECOVERY_ACTION,
    Field(94, GPU, gpu.PCIE_REPLAYS, 1.0),
    Field(169, GPU, gpu.PCIE_ERRORS, 1.0, ("l0_to_recovery",)),
    Field(173, GPU, gpu.PCIE_ERRORS, 1.0, ("correctable",)),
    Field(174, GPU, gpu.PCIE_ERRORS, 1.0, ("nak_received",)),
    Field(175, GPU, gpu.PCIE_ERRORS, 1.0, ("receiver",)),
    Field(176, GPU, gpu.PCIE_ERRORS, 1.0, ("bad_tlp",)),
    Field(177, GPU, gpu.PCIE_ERRORS, 1.0, ("nak_sent",)),
    Field(178, GPU, gpu.PCIE_ERRORS, 1.0, ("bad_dllp",)),
    Field(179, GPU, gpu.PCIE_ERRORS, 1.0, ("non_fatal",)),
    Field(180, GPU, gpu.PCIE_ERRORS, 1.0, ("fatal",)),
    Field(181, GPU, gpu.PCIE_ERRORS, 1.0, ("unsupported_request",)),
    Field(182, GPU, gpu.PCIE_ERRORS, 1.0, ("lcrc",)),
    Field(183, GPU, gpu.PCIE_ERRORS, 1.0, ("lane",)),
    Field(197, GPU, gpu.PCIE_TRAFFIC, 1.0, ("transmit",), wide=True),
    Field(198, GPU, gpu.PCIE_TRAFFIC, 1.0, ("receive",), wide=True),
    Field(138, ALL_LINKS, gpu.NVLINK_TRAFFIC, KIBI, ("transmit",)),
    Field(139, ALL_LINKS, gpu.NVLINK_TRAFFIC, KIBI, ("receive",)),
)
LINK_COUNT = Field(91, GPU, nvlink.STATE, 1.0)
# The scope, which is the link, is put in by `of_link`.
_LINK = (
    Field(165, GPU, nvlink.STATE, 1.0),
    Field(164, GPU, nvlink.SPEED, 1.0),  # MB/s
    Field(138, GPU, nvlink.TRAFFIC, KIBI, ("transmit",)),  # payload
    Field(139, GPU, nvlink.TRAFFIC, KIBI, ("receive",)),
    Field(202, GPU, nvlink.TRAFFIC, 1.0, ("transmit",)),  # from Blackwell on: all bytes
    Field(204, GPU, nvlink.TRAFFIC, 1.0, ("receive",)),
    Field(201, GPU, nvlink.PACKETS, 1.0, ("transmit",)),
    Field(203, GPU, nvlink.PACKETS, 1.0, ("receive",)),
    # Up to Hopper.
    Field(161, GPU, nvlink.ERRORS, 1.0, ("replay",)),
    Field(162, GPU, nvlink.ERRORS, 1.0, ("recovery",)),
    Field(163, GPU, nvlink.ERRORS, 1.0, ("crc",)),
    # From Blackwell on.
    Field(206, GPU, nvlink.ERRORS, 1.0, ("malformed_packet",)),
    Field(207, GPU, nvlink.ERRORS, 1.0, ("buffer_overrun",)),
    Field(208, GPU, nvlink.ERRORS, 1.0, ("receive",)),
    Field(209, GPU, nvlink.ERRORS, 1.0, ("receive_remote",)),
    Field(210, GPU, nvlink.ERRORS, 1.0, ("receive_general",)),
    Field(211, GPU, nvlink.ERRORS, 1.0, ("local_link_integrity",)),
    Field(212, GPU, nvlink.ERRORS, 1.0, ("transmit_discard",)),
    Field(219, GPU, nvlink.ERRORS, 1.0, ("effective",)),
    Field(221, GPU, nvlink.ERRORS, 1.0, ("symbol",)),
    Field(213, GPU, nvlink.RECOVERIES, 1.0, ("successful",)),
    Field(214, GPU, nvlink.RECOVERIES, 1.0, ("failed",)),  # 215 is the sum of both
    Field(220, GPU, nvlink.BIT_ERROR_RATIO, 1.0, ("effective",)),
    Field(222, GPU, nvlink.BIT_ERROR_RATIO, 1.0, ("symbol",)),
)


@cache
def of_link(link: int) -> tuple[Field, ...]:
    """All fields of one NVLink."""
    return tuple(field._replace(scope=link) for field in _LINK)


REDUNDANT = {
    ENERGY_SCOPED.id: (ENERGY.id,),
    THROTTLED_BY_HEAT.id: (THROTTLED_BY_SW_HEAT.id, THROTTLED_BY_HW_HEAT.id),
    202: (138,),
    204: (139,),
}
"""Fields that say nothing new where one of those named has a value in the same scope."""

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
_WIDE = frozenset((2, 3, 4))


class Entry(NamedTuple):
    """One answer: NVML's return code, the value in NVML's unit or None where there is none.

    `at` is in seconds since the epoch, `latency` is what the driver took, in s.
    """

    code: int
    value: float | None
    at: float
    latency: float
    wide: bool


def decode(entries: bytes) -> Iterator[Entry]:
    """Read an array of `nvmlFieldValue_t`."""
    for _, _, stamp, latency, kind, code, raw in _ENTRY.iter_unpack(entries):
        value: float | None = None
        if code == 0 and kind in _TYPES:
            layout, none = _TYPES[kind]
            (value,) = layout.unpack(raw)
            if value == none:
                value = None
        yield Entry(code, value, stamp / MICRO, max(latency, 0) / MICRO, kind in _WIDE)


def bit_error_ratio(packed: int) -> float:
    """Decode NVML's packed ratio: mantissa in bits 8 to 11, negative decimal exponent in 0 to 7."""
    return (packed >> 8 & 0xF) * 10.0 ** -(packed & 0xFF)
