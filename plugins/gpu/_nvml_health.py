"""Errors, spare rows, the PCIe link and the NVLink fabric of one GPU, by NVML."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from ctypes import byref

import pynvml

from collector.catalog import gpu, nvlink
from collector.entity import Entity
from plugins.gpu._nvml_calls import Calls, Sample

_ECC_TYPES = (
    ("corrected", pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    ("uncorrected", pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
)
_ECC_MEMORIES = (
    ("dram", pynvml.NVML_MEMORY_LOCATION_DRAM),
    ("sram", pynvml.NVML_MEMORY_LOCATION_SRAM),
)
_ECC_COUNTERS = (
    (gpu.ECC_ERRORS, pynvml.NVML_VOLATILE_ECC),
    (gpu.ECC_ERRORS_LIFETIME, pynvml.NVML_AGGREGATE_ECC),
)
_PCIE = (
    (gpu.PCIE_GENERATION, pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
    (gpu.PCIE_GENERATION_LIMIT, pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
    (gpu.PCIE_WIDTH, pynvml.nvmlDeviceGetCurrPcieLinkWidth),
    (gpu.PCIE_WIDTH_LIMIT, pynvml.nvmlDeviceGetMaxPcieLinkWidth),
)
_BANKS = ("max", "high", "partial", "low", "none")

# NVML_GPU_FABRIC_STATE_* from 1 on; NVML_GPU_FABRIC_HEALTH_SUMMARY_* from 1 on.
_FABRIC_STATES = ("not_started", "in_progress", "completed")
_FABRIC_HEALTHS = ("healthy", "unhealthy", "limited_capacity")
_COMPLETED = pynvml.NVML_GPU_FABRIC_STATE_COMPLETED
# Parts of the health mask: name, where it begins, its width, the values that mean a fault. Zero
# is always "not supported" (NVML_GPU_FABRIC_HEALTH_MASK_*).
_FABRIC_FAULTS = (
    ("degraded_bandwidth", 0, 0x3, (1,)),
    ("route_recovery", 2, 0x3, (1,)),
    ("route_unhealthy", 4, 0x3, (1,)),
    ("access_timeout_recovery", 6, 0x3, (1,)),
    ("incorrect_configuration", 8, 0xF, range(2, 16)),
    ("no_partition", 12, 0x3, (2,)),
    ("manager_disconnected", 14, 0x3, (2,)),
)


def ecc(calls: Calls, entity: Entity, now: float) -> Iterator[Sample]:
    """Yield errors by memory and type, since the driver was loaded and ever.

    Raises:
        GoneError, DriverError: As `Calls.ask`; so do all functions here.
    """
    for metric, counter in _ECC_COUNTERS:
        for memory, location in _ECC_MEMORIES:
            for name, type_ in _ECC_TYPES:
                errors = calls.ask(pynvml.nvmlDeviceGetMemoryErrorCounter, type_, counter, location)
                yield Sample(metric, entity, errors, (memory, name), now)


def rows(calls: Calls, entity: Entity) -> Iterator[Sample]:
    """Yield how many banks have how many spare rows."""
    histogram = calls.ask(pynvml.nvmlDeviceGetRowRemapperHistogram)
    if histogram is not None:
        for name in _BANKS:
            yield Sample(gpu.ROW_BANKS, entity, getattr(histogram, name), (name,))


def pcie(calls: Calls, entity: Entity) -> Iterator[Sample]:
    """Yield generation and width of the link, now and at best."""
    for metric, call in _PCIE:
        yield Sample(metric, entity, calls.ask(call))


def fabric(calls: Calls, entity: Entity) -> Iterator[Sample]:
    """Yield state and health of the fabric; nothing where there is none, which is no fault."""
    info = _fabric_info(calls)
    if info is None or info.state == pynvml.NVML_GPU_FABRIC_STATE_NOT_SUPPORTED:
        return
    for code, name in enumerate(_FABRIC_STATES, 1):
        yield Sample(nvlink.FABRIC_STATE, entity, float(code == info.state), (name,))
    if info.state == _COMPLETED:  # else `status` says nothing
        failed = float(info.status != pynvml.NVML_SUCCESS)
        yield Sample(nvlink.FABRIC_FAULT, entity, failed, ("registration",))
    cluster = uuid.UUID(bytes=bytes(info.clusterUuid))
    if cluster.int:  # zero: in no cluster of several nodes
        labels = (str(cluster), str(info.cliqueId))
        yield Sample(nvlink.FABRIC_INFO, entity, 1.0, labels)
    summary = getattr(info, "healthSummary", 0)
    if summary:
        for code, name in enumerate(_FABRIC_HEALTHS, 1):
            yield Sample(nvlink.FABRIC_HEALTH, entity, float(code == summary), (name,))
    for name, shift, mask, faulty in _FABRIC_FAULTS:
        part = info.healthMask >> shift & mask
        if part:
            yield Sample(nvlink.FABRIC_FAULT, entity, float(part in faulty), (name,))


def _fabric_info(calls: Calls) -> pynvml.c_nvmlGpuFabricInfo_v3_t | None:
    for version in (pynvml.c_nvmlGpuFabricInfo_v3_t, pynvml.c_nvmlGpuFabricInfo_v2_t):
        info = version()
        key = f"nvmlDeviceGetGpuFabricInfoV of {version.__name__}"
        if calls.ask(pynvml.nvmlDeviceGetGpuFabricInfoV, byref(info), key=key) is not None:
            return info
    return None
