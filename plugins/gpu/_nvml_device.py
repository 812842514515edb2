"""Reads one GPU through NVML."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pynvml

from collector.batch import Batch
from collector.catalog import gpu
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from plugins.gpu import _nvml_fields as fields
from plugins.gpu._nvml_calls import ABSENT, NOTHING_NOW, Calls
from plugins.gpu._nvml_processes import Processes

MEGA = 1e6  # MHz to Hz
_LATE = 10.0  # seconds by which a time that NVML gives may differ from ours and be believed
_GA100 = 0x20  # upper byte of the PCI device ids of A100, A30 and their kin

_CLOCKS = (
    ("graphics", pynvml.NVML_CLOCK_GRAPHICS),
    ("sm", pynvml.NVML_CLOCK_SM),
    ("memory", pynvml.NVML_CLOCK_MEM),
)
_THRESHOLDS = (
    ("shutdown", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
    ("slowdown", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
    ("memory", pynvml.NVML_TEMPERATURE_THRESHOLD_MEM_MAX),
    ("gpu", pynvml.NVML_TEMPERATURE_THRESHOLD_GPU_MAX),
)
_REASONS = (
    ("gpu_idle", pynvml.nvmlClocksEventReasonGpuIdle),
    ("applications_clocks_setting", pynvml.nvmlClocksEventReasonApplicationsClocksSetting),
    ("sw_power_cap", pynvml.nvmlClocksEventReasonSwPowerCap),
    ("hw_slowdown", pynvml.nvmlClocksEventReasonHwSlowdown),
    ("sync_boost", pynvml.nvmlClocksEventReasonSyncBoost),
    ("sw_thermal_slowdown", pynvml.nvmlClocksEventReasonSwThermalSlowdown),
    ("hw_thermal_slowdown", pynvml.nvmlClocksEventReasonHwThermalSlowdown),
    ("hw_power_brake_slowdown", pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown),
    ("display_clock_setting", pynvml.nvmlClocksEventReasonDisplayClockSetting),
)
# nvmlDeviceGetViolationStatus, in ns, where a driver does not have the field.
_VIOLATIONS = (
    (fields.THROTTLED_BY_POWER, pynvml.NVML_PERF_POLICY_POWER),
    (fields.THROTTLED_BY_SYNC, pynvml.NVML_PERF_POLICY_SYNC_BOOST),
    (fields.THROTTLED_BY_HEAT, pynvml.NVML_PERF_POLICY_THERMAL),
)


class _Sample(NamedTuple):
    metric: Metric
    value: float | None
    labels: tuple[str, ...]
    at: float | None


class Device:
    """One GPU, known by its UUID; indices and handles change.

    Args:
        handle: NVML's handle.
        index: NVML's index.
        uuid: NVML's UUID.
        host: The host that it is in.
        now: Seconds since the epoch.
    """

    def __init__(self, handle: Any, index: int, uuid: str, host: Entity, now: float) -> None:  # noqa: ANN401
        self.index = index
        self.entity = Kind.GPU(host.key[0], uuid)
        self.calls = Calls(handle, uuid)
        self._host = host
        self._processes = Processes(self.calls, now)
        self._kept: list[_Sample] = []
        self._pids: list[str] = []
        self._reasons = 0

    def read(self, batch: Batch, driver: str, *, slow: bool) -> None:
        """Add this GPU's samples, links, and failures of single calls.

        Args:
            batch: Takes them.
            driver: The driver's version.
            slow: Read also what costs more or changes rarely; in between that is stated again.

        Raises:
            GoneError: The GPU does not answer; what was read stays.
            DriverError: The driver is gone.
        """
        self.calls.failures = []
        batch.link(self.entity, self._host)
        try:
            if slow:
                self._kept = []
                self.calls.renew()
                self._read_facts(driver)
                self._read_processes(batch.at)
            self._read_fields(batch, slow=slow)
            self._read_state(batch)
        finally:
            for metric, value, labels, at in self._kept:
                batch.add(metric, self.entity, value, *labels, at=at)
            for pid in self._pids:
                batch.link(Kind.PROCESS(self._host.key[0], pid), self.entity)
            for failure in self.calls.failures:
                batch.failed(self.entity, failure)

    def _read_fields(self, batch: Batch, *, slow: bool) -> None:
        """Read all field values in one call, then what stands in for missing ones."""
        absent = self.calls.absent
        asked = fields.FAST + fields.SLOW if slow else fields.FAST
        wanted = [field for field in asked if field not in absent]
        entries = self.calls.ask(
            pynvml.nvmlDeviceGetFieldValues,
            [(field.id, field.scope) for field in wanted],
            key="nvmlDeviceGetFieldValues",
        )
        have: set[fields.Field] = set()
        for field, entry in zip(wanted, fields.decode(bytes(entries or b"")), strict=False):
            code, value, at = entry
            if code in ABSENT or code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                absent.add(field)  # drivers do not know ids that are younger than they are
            elif code in NOTHING_NOW:
                continue
            elif code != pynvml.NVML_SUCCESS:
                self.calls.fail(f"field {field.id}", pynvml.NVMLError(code))
            elif any(other in have for other in fields.REDUNDANT.get(field, ())):
                absent.add(field)
            elif value is not None and not (field is fields.MEMORY_TEMPERATURE and value == 0):
                # Boards without the sensor (L4, L40S, T4) say 0.
                have.add(field)
                self._take(batch, field, value, at)
        self._read_instead(batch, have)
        if slow and not have.intersection(fields.MARGIN_LIMITS):
            for name, threshold in _THRESHOLDS:
                celsius = self.calls.ask(pynvml.nvmlDeviceGetTemperatureThreshold, threshold)
                self._keep(gpu.TEMPERATURE_LIMIT, celsius, name)

    def _take(self, batch: Batch, field: fields.Field, value: float, at: float) -> None:
        value /= field.per
        if field in fields.SLOW:
            self._keep(field.metric, value, *field.labels)
        else:
            # What a counter grew is divided by its times; a gauge's few ms do not matter.
            exact = field.metric.instrument is COUNTER and abs(at - batch.at) < _LATE
            batch.add(field.metric, self.entity, value, *field.labels, at=at if exact else None)

    def _read_instead(self, batch: Batch, have: set[fields.Field]) -> None:
        def instead(field: fields.Field, call: Callable[..., Any], *args: object) -> None:
            if field not in have:
                value = self.calls.ask(call, *args)
                if value is not None:
                    value = getattr(value, "violationTime", value) / field.per
                batch.add(field.metric, self.entity, value, *field.labels)

        if fields.ENERGY_SCOPED not in have:
            instead(fields.ENERGY, pynvml.nvmlDeviceGetTotalEnergyConsumption)
        instead(fields.POWER_LIMIT, pynvml.nvmlDeviceGetEnforcedPowerLimit)
        if not have.intersection((fields.POWER_INSTANT, fields.POWER_AVERAGE)):
            power = fields.POWER_AVERAGE if self._power_is_average() else fields.POWER_INSTANT
            instead(power, pynvml.nvmlDeviceGetPowerUsage)
        for field, policy in _VIOLATIONS:
            if not have.intersection(fields.REDUNDANT.get(field, ())):
                instead(field, pynvml.nvmlDeviceGetViolationStatus, policy)

    def _power_is_average(self) -> bool:
        """Say whether nvmlDeviceGetPowerUsage averages over 1 s: from Ampere on, but for GA100."""
        architecture = self.calls.ask(pynvml.nvmlDeviceGetArchitecture) or 0
        pci = self.calls.ask(pynvml.nvmlDeviceGetPciInfo)
        ga100 = pci is not None and pci.pciDeviceId >> 24 == _GA100
        return bool(architecture >= pynvml.NVML_DEVICE_ARCH_AMPERE and not ga100)

    def _read_state(self, batch: Batch) -> None:
        ask, entity = self.calls.ask, self.entity
        celsius = ask(pynvml.nvmlDeviceGetTemperatureV, pynvml.NVML_TEMPERATURE_GPU)
        if celsius is None:
            celsius = ask(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)
        batch.add(gpu.TEMPERATURE, entity, celsius)
        batch.add(gpu.TEMPERATURE_MARGIN, entity, ask(pynvml.nvmlDeviceGetMarginTemperature))
        for domain, clock in _CLOCKS:
            batch.add(gpu.CLOCK, entity, _hertz(ask(pynvml.nvmlDeviceGetClockInfo, clock)), domain)
        active = ask(pynvml.nvmlDeviceGetCurrentClocksEventReasons)
        if active is None:
            active = ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
        if active is not None:
            for reason, bit in _REASONS:
                if self._reasons & bit:
                    batch.add(gpu.THROTTLE_ACTIVE, entity, float(bool(active & bit)), reason)
        rates = ask(pynvml.nvmlDeviceGetUtilizationRates)
        if rates is not None:
            batch.add(gpu.UTILIZATION, entity, rates.gpu / fields.PERCENT)
            batch.add(gpu.MEMORY_UTILIZATION, entity, rates.memory / fields.PERCENT)
        memory = ask(pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)
        if memory is not None:
            batch.add(gpu.MEMORY_USED, entity, memory.used)
            batch.add(gpu.MEMORY_RESERVED, entity, memory.reserved)
        else:  # the first version counts as used what is reserved: only its total can be told
            memory = ask(pynvml.nvmlDeviceGetMemoryInfo)
        batch.add(gpu.MEMORY_LIMIT, entity, memory and memory.total)

    def _read_facts(self, driver: str) -> None:
        ask = self.calls.ask
        pci = ask(pynvml.nvmlDeviceGetPciInfo)
        self._keep(
            gpu.INFO,
            1.0,
            str(self.index),
            ask(pynvml.nvmlDeviceGetName) or "",
            ask(pynvml.nvmlDeviceGetSerial) or "",
            _bus_id(pci.busId) if pci else "",
            driver,
            ask(pynvml.nvmlDeviceGetVbiosVersion) or "",
        )
        for domain, clock in _CLOCKS:
            self._keep(
                gpu.CLOCK_LIMIT, _hertz(ask(pynvml.nvmlDeviceGetMaxClockInfo, clock)), domain
            )
        supported = ask(pynvml.nvmlDeviceGetSupportedClocksEventReasons)
        if supported is None:
            supported = ask(pynvml.nvmlDeviceGetSupportedClocksThrottleReasons)
        self._reasons = -1 if supported is None else supported

    def _read_processes(self, now: float) -> None:
        found = self._processes.read()
        self._pids = []
        if found is None:
            return
        self._keep(gpu.PROCESSES, float(len(found)), at=now)
        for process in found:
            self._pids.append(process.pid)
            self._keep(gpu.PROCESS_MEMORY, process.memory, process.pid, at=now)
            at = process.at if process.at and abs(process.at - now) < _LATE else now
            self._keep(gpu.PROCESS_UTILIZATION, process.utilization, process.pid, at=at)

    def _keep(
        self, metric: Metric, value: float | None, *labels: str, at: float | None = None
    ) -> None:
        self._kept.append(_Sample(metric, value, labels, at))


def _hertz(megahertz: int | None) -> float | None:
    return None if megahertz is None else megahertz * MEGA


def _bus_id(text: str) -> str:
    """Give NVML's bus id as sysfs has it: `00000000:8F:00.0` becomes `0000:8f:00.0`."""
    domain, _, rest = text.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"
