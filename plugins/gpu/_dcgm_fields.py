"""DCGM's fields: their ids, their names over the releases, and what they mean.

Ids and names are those of dcgm_fields.h. DCGM 4.6.0 gave about 300 of them new names; the numbers
stayed. The new name stands first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from collector.catalog import gpu, nvlink
from collector.metric import Metric

MEGA = 1e6  # MHz
MEBI = 1 << 20  # MiB
MILLI = 1e3  # mJ in a J
NANO = 1e9  # ns in a s
PERCENT = 100.0

XID = 230
REASONS = 112
MEMORY_TEMPERATURE = 140
BOARD_POWER = 155
BOARD_POWER_INSTANT = 157


class Field(NamedTuple):
    """One field.

    Attributes:
        id: DCGM's number for it.
        names: Its names, newest first, without `DCGM_FI_`.
        metric: What is made of it; of the metric's unit a value is `times / per`.
        times: See there.
        per: See there.
        labels: Values of the metric's labels.
        by_instance: A row of a MIG instance is of the instance; else it repeats the whole GPU's.
        of_link: What is made of it in a row of one NVLink.
        profiling: It is counted by profiling hardware, which before Hopper serves one user only.
    """

    id: int
    names: tuple[str, ...]
    metric: Metric
    times: float = 1.0
    per: float = 1.0
    labels: tuple[str, ...] = ()
    by_instance: bool = False
    of_link: Metric | None = None
    profiling: bool = False


def _memory(id_: int, name: str, metric: Metric) -> Field:
    return Field(id_, (name,), metric, times=MEBI, by_instance=True)


def _power(id_: int, names: tuple[str, ...], metric: Metric, *labels: str) -> Field:
    return Field(id_, names, metric, labels=labels)


def _throttled(id_: int, name: str, reason: str) -> Field:
    # In nanoseconds, though the help text of older exporters speaks of microseconds
    # (NVIDIA/dcgm-exporter#589, NVIDIA/DCGM#266).
    return Field(id_, (name,), gpu.THROTTLE_TIME, per=NANO, labels=(reason,))


def _errors(id_: int, name: str, metric: Metric, memory: str, kind: str) -> Field:
    return Field(id_, (f"DEV_ECC_{name}",), metric, labels=(memory, kind))


def _profiled(id_: int, names: tuple[str, ...], metric: Metric, *labels: str) -> Field:
    # Ratios are 0 to 1, unlike DEV_GPU_UTIL_RATIO; bytes are bytes per second, whatever the name.
    named = tuple(f"PROF_{name}" for name in names)
    return Field(id_, named, metric, labels=labels, by_instance=True, profiling=True)


_VOLATILE, _LIFETIME = gpu.ECC_ERRORS, gpu.ECC_ERRORS_LIFETIME
_SETTING = gpu.POWER_LIMIT_SETTING
FIELDS = (
    Field(100, ("DEV_SM_CLOCK",), gpu.CLOCK, times=MEGA, labels=("sm",)),
    Field(101, ("DEV_MEM_CLOCK",), gpu.CLOCK, times=MEGA, labels=("memory",)),
    Field(113, ("DEV_MAX_SM_CLOCK",), gpu.CLOCK_LIMIT, times=MEGA, labels=("sm",)),
    Field(114, ("DEV_MAX_MEM_CLOCK",), gpu.CLOCK_LIMIT, times=MEGA, labels=("memory",)),
    Field(
        REASONS, ("DEV_CLOCKS_EVENT_REASONS", "DEV_CLOCK_THROTTLE_REASONS"), gpu.THROTTLE_ACTIVE
    ),
    Field(
        MEMORY_TEMPERATURE, ("DEV_MEMORY_TEMP_CELSIUS", "DEV_MEMORY_TEMP"), gpu.MEMORY_TEMPERATURE
    ),
    Field(150, ("DEV_GPU_TEMP_CELSIUS", "DEV_GPU_TEMP"), gpu.TEMPERATURE),
    Field(153, ("DEV_GPU_TEMP_MARGIN_CELSIUS", "DEV_GPU_TEMP_LIMIT"), gpu.TEMPERATURE_MARGIN),
    _power(BOARD_POWER, ("DEV_BOARD_POWER_WATTS", "DEV_POWER_USAGE"), gpu.POWER_AVERAGE),
    Field(156, ("DEV_TOTAL_ENERGY_CONSUMPTION",), gpu.ENERGY, per=MILLI),
    _power(
        BOARD_POWER_INSTANT,
        ("DEV_BOARD_POWER_RAW_WATTS", "DEV_POWER_USAGE_INSTANT"),
        gpu.POWER,
    ),
    _power(
        160,
        ("DEV_BOARD_POWER_LIMIT_REQUESTED_WATTS", "DEV_POWER_MGMT_LIMIT"),
        _SETTING,
        "requested",
    ),
    _power(161, ("DEV_BOARD_POWER_LIMIT_MIN_WATTS", "DEV_POWER_MGMT_LIMIT_MIN"), _SETTING, "min"),
    _power(162, ("DEV_BOARD_POWER_LIMIT_MAX_WATTS", "DEV_POWER_MGMT_LIMIT_MAX"), _SETTING, "max"),
    _power(
        163,
        ("DEV_BOARD_POWER_LIMIT_DEFAULT_WATTS", "DEV_POWER_MGMT_LIMIT_DEF"),
        _SETTING,
        "default",
    ),
    _power(
        164,
        ("DEV_BOARD_POWER_LIMIT_ENFORCED_WATTS", "DEV_ENFORCED_POWER_LIMIT"),
        gpu.POWER_LIMIT,
    ),
    Field(202, ("DEV_PCIE_REPLAY_TOTAL", "DEV_PCIE_REPLAY_COUNTER"), gpu.PCIE_REPLAYS),
    # A percentage under both names: DCGM hands NVML's utilization.gpu through.
    Field(203, ("DEV_GPU_UTIL_RATIO", "DEV_GPU_UTIL"), gpu.UTILIZATION, per=PERCENT),
    Field(204, ("DEV_MEM_COPY_UTIL",), gpu.MEMORY_UTILIZATION, per=PERCENT),
    Field(XID, ("DEV_XID_ERROR", "DEV_XID_ERRORS"), gpu.XIDS),
    Field(235, ("DEV_PCIE_MAX_LINK_GEN",), gpu.PCIE_GENERATION_LIMIT),
    Field(236, ("DEV_PCIE_MAX_LINK_WIDTH",), gpu.PCIE_WIDTH_LIMIT),
    Field(237, ("DEV_PCIE_LINK_GEN",), gpu.PCIE_GENERATION),
    Field(238, ("DEV_PCIE_LINK_WIDTH",), gpu.PCIE_WIDTH),
    _throttled(240, "DEV_POWER_VIOLATION", "sw_power_cap"),
    _throttled(241, "DEV_THERMAL_VIOLATION", "thermal"),
    _throttled(242, "DEV_SYNC_BOOST_VIOLATION", "sync_boost"),
    _throttled(243, "DEV_BOARD_LIMIT_VIOLATION", "board_limit"),
    _throttled(244, "DEV_LOW_UTIL_VIOLATION", "low_utilization"),
    _throttled(245, "DEV_RELIABILITY_VIOLATION", "reliability"),
    _memory(250, "DEV_FB_TOTAL", gpu.MEMORY_LIMIT),
    _memory(252, "DEV_FB_USED", gpu.MEMORY_USED),
    _memory(253, "DEV_FB_RESERVED", gpu.MEMORY_RESERVED),
    Field(300, ("DEV_ECC_MODE", "DEV_ECC_CURRENT"), gpu.ECC_ENABLED),
    _errors(318, "SBE_VOL_DEV", _VOLATILE, "dram", "corrected"),
    _errors(319, "DBE_VOL_DEV", _VOLATILE, "dram", "uncorrected"),
    _errors(328, "SBE_AGG_DEV", _LIFETIME, "dram", "corrected"),
    _errors(329, "DBE_AGG_DEV", _LIFETIME, "dram", "uncorrected"),
    _errors(342, "SBE_VOL_SRM", _VOLATILE, "sram", "corrected"),
    _errors(343, "DBE_VOL_SRM", _VOLATILE, "sram", "uncorrected"),
    _errors(344, "SBE_AGG_SRM", _LIFETIME, "sram", "corrected"),
    _errors(345, "DBE_AGG_SRM", _LIFETIME, "sram", "uncorrected"),
    Field(
        390, ("DEV_PAGE_RETIRED_SBE_TOTAL", "DEV_RETIRED_SBE"), gpu.PAGES_RETIRED,
        labels=("single_bit",),
    ),
    Field(
        391, ("DEV_PAGE_RETIRED_DBE_TOTAL", "DEV_RETIRED_DBE"), gpu.PAGES_RETIRED,
        labels=("double_bit",),
    ),
    Field(392, ("DEV_PAGE_RETIRED_PENDING", "DEV_RETIRED_PENDING"), gpu.PAGES_PENDING),
    Field(
        393, ("DEV_ROW_REMAP_UNCORRECTABLE_TOTAL", "DEV_UNCORRECTABLE_REMAPPED_ROWS"),
        gpu.ROWS_REMAPPED, labels=("uncorrected",),
    ),
    Field(
        394, ("DEV_ROW_REMAP_CORRECTABLE_TOTAL", "DEV_CORRECTABLE_REMAPPED_ROWS"),
        gpu.ROWS_REMAPPED, labels=("corrected",),
    ),
    Field(395, ("DEV_ROW_REMAP_FAILED", "DEV_ROW_REMAP_FAILURE"), gpu.ROWS_FAILED),
    Field(396, ("DEV_ROW_REMAP_PENDING",), gpu.ROWS_PENDING),
    _profiled(1001, ("GR_ENGINE_UTIL_RATIO", "GR_ENGINE_ACTIVE"), gpu.GRAPHICS_UTILIZATION),
    _profiled(1002, ("SM_UTIL_RATIO", "SM_ACTIVE"), gpu.SM_UTILIZATION),
    _profiled(1003, ("SM_OCCUPANCY_RATIO", "SM_OCCUPANCY"), gpu.SM_OCCUPANCY),
    _profiled(1004, ("TENSOR_UTIL_RATIO", "PIPE_TENSOR_ACTIVE"), gpu.TENSOR_UTILIZATION),
    _profiled(1005, ("DRAM_UTIL_RATIO", "DRAM_ACTIVE"), gpu.DRAM_UTILIZATION),
    _profiled(1006, ("FP64_UTIL_RATIO", "PIPE_FP64_ACTIVE"), gpu.PIPE_UTILIZATION, "fp64"),
    _profiled(1007, ("FP32_UTIL_RATIO", "PIPE_FP32_ACTIVE"), gpu.PIPE_UTILIZATION, "fp32"),
    _profiled(1008, ("FP16_UTIL_RATIO", "PIPE_FP16_ACTIVE"), gpu.PIPE_UTILIZATION, "fp16"),
    _profiled(1009, ("PCIE_TX_BYTES",), gpu.PCIE_THROUGHPUT, "transmit"),
    _profiled(1010, ("PCIE_RX_BYTES",), gpu.PCIE_THROUGHPUT, "receive"),
    _profiled(1011, ("NVLINK_TX_BYTES",), gpu.NVLINK_THROUGHPUT, "transmit"),
    _profiled(1012, ("NVLINK_RX_BYTES",), gpu.NVLINK_THROUGHPUT, "receive"),
    _profiled(
        1013, ("IMMA_UTIL_RATIO", "PIPE_TENSOR_IMMA_ACTIVE"), gpu.PIPE_UTILIZATION, "tensor_imma"
    ),
    _profiled(
        1014, ("HMMA_UTIL_RATIO", "PIPE_TENSOR_HMMA_ACTIVE"), gpu.PIPE_UTILIZATION, "tensor_hmma"
    ),
    _profiled(
        1015, ("DFMA_UTIL_RATIO", "PIPE_TENSOR_DFMA_ACTIVE"), gpu.PIPE_UTILIZATION, "tensor_dfma"
    ),
    _profiled(1016, ("INT_UTIL_RATIO", "PIPE_INT_ACTIVE"), gpu.PIPE_UTILIZATION, "integer"),
    Field(
        1201, ("DEV_NVLINK_TX_BYTES_TOTAL", "DEV_NVLINK_COUNT_TX_BYTES"), gpu.NVLINK_TRAFFIC,
        labels=("transmit",), of_link=nvlink.TRAFFIC,
    ),
    Field(
        1203, ("DEV_NVLINK_RX_BYTES_TOTAL", "DEV_NVLINK_COUNT_RX_BYTES"), gpu.NVLINK_TRAFFIC,
        labels=("receive",), of_link=nvlink.TRAFFIC,
    ),
    _throttled(1420, "DEV_CLOCKS_EVENT_REASON_SW_POWER_CAP_NS", "sw_power_cap"),
    _throttled(1421, "DEV_CLOCKS_EVENT_REASON_SYNC_BOOST_NS", "sync_boost"),
    _throttled(1422, "DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN_NS", "sw_thermal_slowdown"),
    _throttled(1423, "DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN_NS", "hw_thermal_slowdown"),
    _throttled(
        1424, "DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS", "hw_power_brake_slowdown"
    ),
    Field(
        1501, ("DEV_PCIE_CORRECTABLE_ERROR_TOTAL", "DEV_PCIE_COUNT_CORRECTABLE_ERRORS"),
        gpu.PCIE_ERRORS, labels=("correctable",),
    ),
)  # fmt: skip
"""What is read of DCGM; the rest is left alone."""

BY_ID: Mapping[int, Field] = {field.id: field for field in FIELDS}
BY_NAME: Mapping[str, Field] = {
    f"DCGM_FI_{name}": field for field in FIELDS for name in field.names
}
"""Fields by each of their names on an exporter's page."""

REDUNDANT = {241: (1422, 1423), 240: (1420,), 242: (1421,)}
"""Fields that say nothing new where one of those named has a value."""

METRICS = (
    *dict.fromkeys(field.metric for field in FIELDS if field.id != XID),
    nvlink.TRAFFIC,
    gpu.INFO,
)
"""All that is made of DCGM's fields."""
