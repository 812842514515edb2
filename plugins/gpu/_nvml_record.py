"""Writes down what NVML answers, as a scenario for the tests' library (tests/fakes/nvml/nvml.c)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pynvml

from plugins.gpu import _nvml_fields as fields

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
    ("reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons),
    ("reasons_supported", pynvml.nvmlDeviceGetSupportedClocksThrottleReasons),
)
_BY_TYPE = (
    ("threshold", pynvml.nvmlDeviceGetTemperatureThreshold, 4),
    ("clock", pynvml.nvmlDeviceGetClockInfo, 3),
    ("clock_max", pynvml.nvmlDeviceGetMaxClockInfo, 3),
)


def scenario() -> Iterator[str]:
    """Yield the lines for all GPUs; NVML must have been started."""
    yield f"driver = {pynvml.nvmlSystemGetDriverVersion()}"
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        for key, value in _answers(handle):
            yield f"gpu.{index}.{key} = {value}"


def _answers(handle: Any) -> Iterator[tuple[str, object]]:  # noqa: ANN401 - a ctypes pointer
    def ask(call: Any, *args: object) -> Any:  # noqa: ANN401 - pynvml has no types
        try:
            return call(handle, *args)
        except pynvml.NVMLError:
            return None

    for key, call in _TEXTS:
        if (value := ask(call)) is not None:
            yield key, value
    for key, call, types in _BY_TYPE:
        for kind in range(types):
            if (value := ask(call, kind)) is not None:
                yield f"{key}.{kind}", value
    if (value := ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)) is not None:
        yield "temperature", value
    for policy in range(3):
        if (violation := ask(pynvml.nvmlDeviceGetViolationStatus, policy)) is not None:
            yield f"violation.{policy}", violation.violationTime
    if (pci := ask(pynvml.nvmlDeviceGetPciInfo)) is not None:
        yield "bus_id", pci.busId
        yield "pci_device_id", hex(pci.pciDeviceId)
    if (mig := ask(pynvml.nvmlDeviceGetMigMode)) is not None:
        yield "mig", mig[0]
    if (rates := ask(pynvml.nvmlDeviceGetUtilizationRates)) is not None:
        yield "utilization.gpu", rates.gpu
        yield "utilization.memory", rates.memory
    if (memory := ask(pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)) is not None:
        yield "memory.total", memory.total
        yield "memory.reserved", memory.reserved
        yield "memory.used", memory.used
    asked = fields.FAST + fields.SLOW
    found = ask(pynvml.nvmlDeviceGetFieldValues, [(field.id, field.scope) for field in asked])
    entries = fields.decode(bytes(found or b""))
    for field, (code, value, _) in zip(asked, entries, strict=False):
        scope = f".{field.scope}" if field.scope else ""
        if code not in (pynvml.NVML_SUCCESS, pynvml.NVML_ERROR_NOT_SUPPORTED):
            yield f"field.{field.id}{scope}", f"error {code}"
        elif value is not None:
            yield f"field.{field.id}{scope}", value
    for process in ask(pynvml.nvmlDeviceGetComputeRunningProcesses) or ():
        used = process.usedGpuMemory
        yield f"process.{process.pid}.memory", "n/a" if used is None else used
    for sample in ask(pynvml.nvmlDeviceGetProcessUtilization, 0) or ():
        yield f"process.{sample.pid}.sm", sample.smUtil
