"""Writes down what NVML answers, as a scenario for the tests' library (tests/fakes/nvml/nvml.c)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ctypes import byref
from typing import Any

import pynvml

from plugins.gpu import _nvml_fields as fields
from plugins.gpu import _nvml_gpm as gpm

_TEXTS = (
    ("uuid", pynvml.nvmlDeviceGetUUID),
    ("name", pynvml.nvmlDeviceGetName),
    ("serial", pynvml.nvmlDeviceGetSerial),
    ("vbios", pynvml.nvmlDeviceGetVbiosVersion),
    ("arch", pynvml.nvmlDeviceGetArchitecture),
    ("power_mw", pynvml.nvmlDeviceGetPowerUsage),
    ("power_limit_mw", pynvml.nvmlDeviceGetEnforcedPowerLimit),
    ("energy_mj", pynvml.nvmlDeviceGetTotalEnergyConsumption),
    ("margin", pynvml.nvmlDeviceGetMarginTemperature),
    ("pcie.gen", pynvml.nvmlDeviceGetCurrPcieLinkGeneration),
    ("pcie.gen_max", pynvml.nvmlDeviceGetMaxPcieLinkGeneration),
    ("pcie.width", pynvml.nvmlDeviceGetCurrPcieLinkWidth),
    ("pcie.width_max", pynvml.nvmlDeviceGetMaxPcieLinkWidth),
    ("mig_max", pynvml.nvmlDeviceGetMaxMigDeviceCount),
    ("reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
    ("reasons_supported", pynvml.nvmlDeviceGetSupportedClocksThrottleReasons),
)
_BY_TYPE = (
    ("threshold", pynvml.nvmlDeviceGetTemperatureThreshold, 4),
    ("clock", pynvml.nvmlDeviceGetClockInfo, 3),
    ("clock_max", pynvml.nvmlDeviceGetMaxClockInfo, 3),
)


_LINKS = 36  # NVML_NVLINK_MAX_LINKS


def scenario() -> Iterator[str]:
    """Yield the lines for all GPUs; NVML must have been started. Xids are not in it."""
    yield f"driver = {pynvml.nvmlSystemGetDriverVersion()}"
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        for key, value in (*_answers(handle), *_fields(handle), *_fabric(handle), *_gpm(handle)):
            yield f"gpu.{index}.{key} = {value}"
        for slot in range(_ask(handle, pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0):
            one = _ask(handle, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, slot)
            if one is not None:
                for key, value in (*_answers(one), *_slice(one)):
                    yield f"gpu.{index}.mig.{slot}.{key} = {value}"
                instance = pynvml.nvmlDeviceGetGpuInstanceId(one)
                for key, value in _gpm(handle, instance):
                    yield f"gpu.{index}.gi.{instance}.{key} = {value}"


def _ask(handle: Any, call: Any, *args: object) -> Any:  # noqa: ANN401 - pynvml has no types
    try:
        return call(handle, *args)
    except pynvml.NVMLError:
        return None


def _answers(handle: Any) -> Iterator[tuple[str, object]]:  # noqa: ANN401 - a ctypes pointer
    for key, call in _TEXTS:
        if (value := _ask(handle, call)) is not None:
            yield key, value
    for key, call, types in _BY_TYPE:
        for kind in range(types):
            if (value := _ask(handle, call, kind)) is not None:
                yield f"{key}.{kind}", value
    for key, call, sensor in (
        ("temperature", pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
        ("temperature_max", pynvml.nvmlDeviceGetTemperatureV, pynvml.NVML_TEMPERATURE_GPU_MAX),
    ):
        if (value := _ask(handle, call, sensor)) is not None:
            yield key, value
    for policy in range(3):
        if (violation := _ask(handle, pynvml.nvmlDeviceGetViolationStatus, policy)) is not None:
            yield f"violation.{policy}", violation.violationTime
    for which in [
        (type_, counter, place) for type_ in (0, 1) for counter in (0, 1) for place in (2, 7)
    ]:
        if (value := _ask(handle, pynvml.nvmlDeviceGetMemoryErrorCounter, *which)) is not None:
            yield "ecc.{}.{}.{}".format(*which), value
    if (banks := _ask(handle, pynvml.nvmlDeviceGetRowRemapperHistogram)) is not None:
        yield "histogram", f"{banks.max} {banks.high} {banks.partial} {banks.low} {banks.none}"
    if (pci := _ask(handle, pynvml.nvmlDeviceGetPciInfo)) is not None:
        yield "bus_id", pci.busId
        yield "pci_device_id", hex(pci.pciDeviceId)
    if (mig := _ask(handle, pynvml.nvmlDeviceGetMigMode)) is not None:
        yield "mig", mig[0]
    if (rates := _ask(handle, pynvml.nvmlDeviceGetUtilizationRates)) is not None:
        yield "utilization.gpu", rates.gpu
        yield "utilization.memory", rates.memory
    if (memory := _ask(handle, pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)) is not None:
        yield "memory.total", memory.total
        yield "memory.reserved", memory.reserved
        yield "memory.used", memory.used
    for process in _ask(handle, pynvml.nvmlDeviceGetComputeRunningProcesses) or ():
        used = process.usedGpuMemory
        yield f"process.{process.pid}.memory", "n/a" if used is None else used
    for sample in _ask(handle, pynvml.nvmlDeviceGetProcessUtilization, 0) or ():
        yield f"process.{sample.pid}.sm", sample.smUtil


def _slice(handle: Any) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    yield "gi", _ask(handle, pynvml.nvmlDeviceGetGpuInstanceId)
    yield "ci", _ask(handle, pynvml.nvmlDeviceGetComputeInstanceId)
    if (has := _ask(handle, pynvml.nvmlDeviceGetAttributes_v2)) is not None:
        slices = f"{has.gpuInstanceSliceCount} {has.computeInstanceSliceCount}"
        yield "attributes", f"{has.multiprocessorCount} {slices} {has.memorySizeMB}"


def _fields(handle: Any) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    links = [field for link in range(_LINKS) for field in fields.of_link(link)]
    asked = [*fields.FAST, *fields.SLOW, fields.LINK_COUNT, *links]
    wanted = [(field.id, field.scope) for field in asked]
    found = _ask(handle, pynvml.nvmlDeviceGetFieldValues, wanted)
    for field, entry in zip(asked, fields.decode(bytes(found or b"")), strict=False):
        scope = f".{field.scope}" if field.scope else ""
        if entry.code not in (pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_NOT_SUPPORTED):
            yield f"field.{field.id}{scope}", f"error {entry.code}"
        elif entry.value is not None:
            width = " u32" if field.wide > entry.wide else ""
            yield f"field.{field.id}{scope}", f"{entry.value}{width}"


def _fabric(handle: Any) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    info = pynvml.c_nvmlGpuFabricInfo_v3_t()
    if _ask(handle, pynvml.nvmlDeviceGetGpuFabricInfoV, byref(info)) is not None:
        state = f"{info.state} {info.status} {info.cliqueId}"
        yield "fabric", f"{state} {info.healthMask:#x} {info.healthSummary}"
        yield "fabric_uuid", bytes(info.clusterUuid).hex()


def _gpm(handle: Any, instance: int | None = None) -> Iterator[tuple[str, object]]:  # noqa: ANN401
    support = _ask(handle, pynvml.nvmlGpmQueryDeviceSupport)
    if support is None or not support.isSupportedDevice:
        return
    samples = [pynvml.nvmlGpmSampleAlloc() for _ in range(2)]
    try:
        for sample in samples:
            if instance is None:
                pynvml.nvmlGpmSampleGet(handle, sample)
            else:
                pynvml.nvmlGpmMigSampleGet(handle, instance, sample)
            time.sleep(2 * gpm.APART)
        request = gpm.request(gpm.IDS)
        request.sample1, request.sample2 = samples
        pynvml.nvmlGpmMetricsGet(request)
        for id_, code, value in gpm.decode(request):
            if code == pynvml.NVML_SUCCESS:
                yield f"gpm.{id_}", value
    except pynvml.NVMLError:
        return  # a divided GPU has none of its own
    finally:
        for sample in samples:
            pynvml.nvmlGpmSampleFree(sample)
