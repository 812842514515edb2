"""Reads one GPU through NVML."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import pynvml

from collector.batch import Batch, Link
from collector.catalog import gpu
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from plugins.gpu import _nvml_fields as fields
from plugins.gpu import _nvml_health as health
from plugins.gpu import _nvml_links as links
from plugins.gpu._nvml_calls import Calls, GoneError, Kept, Sample
from plugins.gpu._nvml_gpm import Gpm
from plugins.gpu._nvml_mig import Slices
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


# NVML_GPU_RECOVERY_ACTION_*, in their order, and one for those that are younger than this list.
_RECOVERY = (
    "none",
    "reset",
    "reboot",
    "drain_p2p",
    "drain_and_reset",
    "imex",
    "bus_reset",
    "system_reboot",
    "unknown",
)


class Device:
    """One GPU, known by its UUID; indices and handles change.

    Args:
        handle: NVML's handle.
        index: NVML's index.
        uuid: NVML's UUID.
        host: The host that it is in.
        now: Seconds since the epoch.
        gpm: Whether to read GPM.

    Attributes:
        lost: It has fallen off the bus, and that was said.
    """

    def __init__(
        self,
        handle: Any,  # noqa: ANN401 - a ctypes pointer
        index: int,
        uuid: str,
        host: Entity,
        now: float,
        *,
        gpm: bool = True,
    ) -> None:
        self.index = index
        self.entity = Kind.GPU(host.key[0], uuid)
        self.calls = Calls(handle, uuid)
        self.lost = False
        self._host = host
        self._board = uuid
        self._processes = Processes(self.calls, now)
        self._gpm = Gpm(self.calls, self.entity) if gpm else None
        self._slices = Slices(self.calls, self.entity)
        self._kept = Kept()
        self._links: list[Link] = []
        self._reasons = 0

    def read(self, batch: Batch, driver: str, boards: set[str], *, slow: bool, kept: bool) -> None:
        """Add this GPU's samples, links, and failures of single calls.

        Args:
            batch: Takes them.
            driver: The driver's version.
            boards: Serial numbers of boards whose module's power was stated in this poll.
            slow: Read also what costs more or changes rarely.
            kept: State again what was last read of that.

        Raises:
            GoneError: The GPU does not answer; what was read stays.
            DriverError: The driver is gone.
        """
        self.calls.failures, self.calls.seconds = [], 0.0
        batch.link(self.entity, self._host)
        try:
            if slow:
                self._kept, self._links = Kept(), []
                self.calls.renew()
                self._slices.list(batch.at)
                self._read_facts(driver)
                self._read_processes(batch.at)
                self._kept.extend(health.ecc(self.calls, self.entity, batch.at))
                for part in (health.rows, health.pcie, health.fabric):
                    self._kept.extend(part(self.calls, self.entity))
                found = list(links.read(self.calls, self.entity))
                self._kept.extend(found)
                self._links += (
                    Link(link, self.entity, 1.0) for link in {sample.entity: 0 for sample in found}
                )
            self._read_fields(batch, boards, slow=slow)
            self._read_state(batch)
            for sample in self._gpm.read() if self._gpm else ():
                batch.add(sample.metric, sample.entity, sample.value, *sample.labels)
            self._slices.read(batch, slow=slow, kept=kept)
        except GoneError:
            self._kept, self._links = Kept(), []  # of one that is away nothing is known
            raise
        finally:
            if kept:
                self._kept.state(batch)
            batch.extend_links(self._links)
            for failure in self.calls.failures:
                batch.failed(self.entity, failure)

    def close(self) -> None:
        """Free what NVML holds for this GPU."""
        self._slices.close()
        if self._gpm is not None:
            self._gpm.close()

    def _read_fields(self, batch: Batch, boards: set[str], *, slow: bool) -> None:
        """Read all field values in one call, then what stands in for missing ones."""
        have = self.calls.values(fields.FAST + fields.SLOW if slow else fields.FAST)
        for field, (value, at) in have.items():
            if field is fields.MEMORY_TEMPERATURE and value == 0:
                continue  # boards without the sensor (L4, L40S, T4) say 0
            if field is fields.MODULE_POWER:  # all GPUs of a board report the same module
                if self._board in boards:
                    continue
                boards.add(self._board)
            self._take(batch, field, value, at)
        batch.add(gpu.QUERY_TIME, self.entity, self.calls.seconds if have else None)
        self._read_instead(batch, have.keys())
        if slow and not have.keys() & set(fields.MARGIN_LIMITS):
            for name, threshold in _THRESHOLDS:
                celsius = self.calls.ask(pynvml.nvmlDeviceGetTemperatureThreshold, threshold)
                self._keep(gpu.TEMPERATURE_LIMIT, celsius, name)

    def _take(self, batch: Batch, field: fields.Field, value: float, at: float) -> None:
        value /= field.per
        # What a counter grew is divided by its times; a gauge's few ms do not matter.
        exact = field.metric.instrument is COUNTER and abs(at - batch.at) < _LATE
        if field is fields.RECOVERY_ACTION:
            code = min(int(value), len(_RECOVERY) - 1)
            for number, name in enumerate(_RECOVERY):
                self._keep(field.metric, float(number == code), name)
        elif field in fields.SLOW:
            counted = batch.at if field.metric.instrument is COUNTER else None
            self._keep(field.metric, value, *field.labels, at=at if exact else counted)
        else:
            batch.add(field.metric, self.entity, value, *field.labels, at=at if exact else None)

    def _read_instead(self, batch: Batch, have: Set[fields.Field]) -> None:
        def instead(field: fields.Field, call: Callable[..., Any], *args: object) -> None:
            if field not in have:
                value = self.calls.ask(call, *args)
                if value is not None:
                    value = getattr(value, "violationTime", value) / field.per
                batch.add(field.metric, self.entity, value, *field.labels)

        if fields.ENERGY_SCOPED not in have:
            instead(fields.ENERGY, pynvml.nvmlDeviceGetTotalEnergyConsumption)
        instead(fields.POWER_LIMIT, pynvml.nvmlDeviceGetEnforcedPowerLimit)
        if not have & {fields.POWER_INSTANT, fields.POWER_AVERAGE}:
            power = fields.POWER_AVERAGE if self._power_is_average() else fields.POWER_INSTANT
            instead(power, pynvml.nvmlDeviceGetPowerUsage)
        for field, policy in _VIOLATIONS:
            if not {other.id for other in have}.intersection(fields.REDUNDANT.get(field.id, ())):
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
        highest = ask(pynvml.nvmlDeviceGetTemperatureV, pynvml.NVML_TEMPERATURE_GPU_MAX, new=True)
        batch.add(gpu.TEMPERATURE_HIGHEST, entity, highest)
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
        serial = ask(pynvml.nvmlDeviceGetSerial) or ""
        self._board = serial or self.entity.key[-1]
        self._keep(
            gpu.INFO,
            1.0,
            str(self.index),
            ask(pynvml.nvmlDeviceGetName) or "",
            serial,
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
        found = None if self._slices else self._processes.read()  # theirs are told by slice
        if found is None:
            return
        self._keep(gpu.PROCESSES, float(len(found)), at=now)
        for process in found:
            one = Kind.PROCESS(self._host.key[0], process.pid)
            self._links.append(Link(one, self.entity, 1.0))
            self._keep(gpu.PROCESS_MEMORY, process.memory, process.pid, at=now)
            at = process.at if process.at and abs(process.at - now) < _LATE else now
            self._keep(gpu.PROCESS_UTILIZATION, process.utilization, process.pid, at=at)

    def _keep(
        self, metric: Metric, value: float | None, *labels: str, at: float | None = None
    ) -> None:
        self._kept.extend((Sample(metric, self.entity, value, labels, at),))


def _hertz(megahertz: int | None) -> float | None:
    return None if megahertz is None else megahertz * MEGA


def _bus_id(text: str) -> str:
    """Give NVML's bus id as sysfs has it: `00000000:8F:00.0` becomes `0000:8f:00.0`."""
    domain, _, rest = text.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"
