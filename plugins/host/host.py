"""The host by /proc: processors, memory, pressure, faults, and what the kernel found wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import host
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.files import Files, field, record

# Units: Documentation/filesystems/proc.rst, Documentation/accounting/psi.rst.
_KB = 1024
_MICRO = 1_000_000
_TICKS = os.sysconf("SC_CLK_TCK")  # USER_HZ, the ticks in a second of /proc/stat
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_WINDOWS = ("1m", "5m", "15m")

# The kernel defines no "full" for cpu and reports 0, and has no "some" for irq.
_STALLS = {
    "cpu": (b"some",),
    "memory": (b"some", b"full"),
    "io": (b"some", b"full"),
    "irq": (b"full",),
}
_TOTAL = re.compile(rb"^(some|full) .*?total=(\d+)", re.MULTILINE)

_CPUS = "sys/devices/system/cpu"
_CPU = re.compile(r"cpu\d+")
# drivers/thermal/intel/therm_throt.c; the times came with Linux 5.6, in milliseconds.
_THROTTLES = (
    (host.CPU_THROTTLES, "throttle_count", 1),
    (host.CPU_THROTTLE_TIME, "throttle_total_time_ms", 1000),
)


class Host(Plugin):
    """Reads what /proc says of the host as a whole."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        host.INFO,
        host.UPTIME,
        host.CPU_COUNT,
        host.CPU_TIME,
        host.LOAD,
        host.PROCESSES_RUNNING,
        host.PROCESSES_BLOCKED,
        host.CONTEXT_SWITCHES,
        host.MEMORY_LIMIT,
        host.MEMORY_AVAILABLE,
        host.MEMORY_USAGE,
        host.SWAP_LIMIT,
        host.SWAP_FREE,
        host.PRESSURE_TIME,
        host.PAGE_FAULTS,
        host.OOM_KILLS,
        host.CPU_THROTTLES,
        host.CPU_THROTTLE_TIME,
        host.HUNG_TASKS,
    )

    interval: float = Field(default=1.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `proc`, `sys` and `etc` are.")

    _reader: _Reader = PrivateAttr()

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config on Linux."""
        return [{}] if Path("/proc/stat").exists() else []

    def open(self) -> None:
        """Read what does not change before the next boot.

        Raises:
            FileNotFoundError: There is no /proc below `root`.
        """
        if not (self.root / "proc/stat").exists():
            raise FileNotFoundError(f"{self.root} has no proc/stat: mount the host's /proc there")
        self._reader = _Reader(self.root)

    def poll(self, batch: Batch) -> None:
        """Read each file; one that cannot be read is reported and the others are kept."""
        self._reader.read(batch)

    def close(self) -> None:
        """Close the files."""
        self._reader.files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._reader.files, folder)


class _Reader:
    """The files, and what is kept between polls; apart, as fields of a model are slow to reach."""

    def __init__(self, root: Path) -> None:
        self.files = Files(root)
        self._throttles: dict[str, list[str]] = {}
        self._highest: dict[str, int] = {}
        text = self.files.text
        kernel = "proc/sys/kernel"
        self._info = (
            _os_name(text("etc/os-release") or text("usr/lib/os-release")),
            text(f"{kernel}/osrelease"),
            text(f"{kernel}/arch") or os.uname().machine,  # a file since Linux 6.1
            text(f"{kernel}/random/boot_id"),
        )

    def read(self, batch: Batch) -> None:
        batch.add(host.INFO, batch.host, 1.0, *self._info)
        for part in (
            self._stat,
            self._load,
            self._memory,
            self._pressure,
            self._vmstat,
            self._cpus,
            self._hung_tasks,
        ):
            try:
                part(batch)
            except (OSError, ValueError) as error:
                batch.failed(batch.host, error)

    def _stat(self, batch: Batch) -> None:
        text = self._read("proc/stat")
        ticks = text[: text.find(b"\n")].split()[1:]
        for mode, count in zip(_MODES, ticks, strict=False):
            batch.add(host.CPU_TIME, batch.host, self._rising(mode, int(count)) / _TICKS, mode)
        batch.add(host.CONTEXT_SWITCHES, batch.host, field(text, b"ctxt "))
        batch.add(host.PROCESSES_RUNNING, batch.host, field(text, b"procs_running "))
        batch.add(host.PROCESSES_BLOCKED, batch.host, field(text, b"procs_blocked "))

    def _load(self, batch: Batch) -> None:
        for window, load in zip(_WINDOWS, self._read("proc/loadavg").split(), strict=False):
            batch.add(host.LOAD, batch.host, float(load), window)
        uptime = self.files.read("proc/uptime")
        if uptime is not None:
            batch.add(host.UPTIME, batch.host, float(uptime.split()[0]))

    def _memory(self, batch: Batch) -> None:
        text = self._read("proc/meminfo")
        for name, metric, *labels in _MEMORY:
            kilobytes = field(text, name)
            if kilobytes is not None:
                batch.add(metric, batch.host, kilobytes * _KB, *labels)

    def _pressure(self, batch: Batch) -> None:
        for resource, stalls in _STALLS.items():
            # Absent where the kernel was built or booted without PSI.
            for stall, total in _TOTAL.findall(self.files.read(f"proc/pressure/{resource}") or b""):
                if stall in stalls:
                    seconds = int(total) / _MICRO
                    batch.add(host.PRESSURE_TIME, batch.host, seconds, resource, stall.decode())

    def _vmstat(self, batch: Batch) -> None:
        text = self._read("proc/vmstat")
        faults, major = field(text, b"pgfault "), field(text, b"pgmajfault ")
        if faults is not None and major is not None:
            # The kernel adds up its counts processor by processor, while they go on.
            minor = self._rising("minor", faults - major)
            batch.add(host.PAGE_FAULTS, batch.host, minor, "minor")
            batch.add(host.PAGE_FAULTS, batch.host, major, "major")
        batch.add(host.OOM_KILLS, batch.host, field(text, b"oom_kill "))

    def _cpus(self, batch: Batch) -> None:
        if self.files.changed(_CPUS):
            self._throttles = self._find_throttles()
        online = self.files.read(f"{_CPUS}/online")
        if online is not None:
            batch.add(host.CPU_COUNT, batch.host, _count(online.decode()))
        for scope, folders in self._throttles.items():
            for metric, name, divisor in _THROTTLES:
                paths = [f"{folder}/{scope}_{name}" for folder in folders]
                counts = [count for path in paths if (count := self.files.number(path)) is not None]
                if counts and len(counts) == len(paths):  # else a processor went off line just now
                    total = self._rising(f"{name} {scope}", sum(counts)) / divisor
                    batch.add(metric, batch.host, total, scope)

    def _hung_tasks(self, batch: Batch) -> None:
        count = self.files.read("proc/sys/kernel/hung_task_detect_count")
        if count is not None:
            batch.add(host.HUNG_TASKS, batch.host, int(count))

    def _find_throttles(self) -> dict[str, list[str]]:
        """Find one folder for each core and package: its threads all show the same count."""
        found: dict[str, dict[tuple[str, ...], str]] = {"core": {}, "package": {}}
        for cpu in filter(_CPU.fullmatch, self.files.names(_CPUS)):
            folder = f"{_CPUS}/{cpu}/thermal_throttle"
            if not self.files.names(folder):
                continue
            package = self.files.text(f"{_CPUS}/{cpu}/topology/physical_package_id")
            core = self.files.text(f"{_CPUS}/{cpu}/topology/core_id")
            for scope, place in (("core", (package, core)), ("package", (package,))):
                found[scope].setdefault(place, folder)
        return {scope: list(folders.values()) for scope, folders in found.items()}

    def _read(self, path: str) -> bytes:
        data = self.files.read(path)
        if not data:
            raise FileNotFoundError(f"{self.files.root / path} is not there or empty")
        return data

    def _rising(self, name: str, count: int) -> int:
        """Hold a count that may fall a little, as the kernel's iowait (proc.rst) or a sum can."""
        highest = max(count, self._highest.get(name, 0))
        self._highest[name] = highest
        return highest


_MEMORY = (
    (b"MemTotal:", host.MEMORY_LIMIT),
    (b"MemAvailable:", host.MEMORY_AVAILABLE),
    (b"MemFree:", host.MEMORY_USAGE, "free"),
    (b"Buffers:", host.MEMORY_USAGE, "buffers"),
    (b"Cached:", host.MEMORY_USAGE, "cached"),
    (b"SReclaimable:", host.MEMORY_USAGE, "slab_reclaimable"),
    (b"SwapTotal:", host.SWAP_LIMIT),
    (b"SwapFree:", host.SWAP_FREE),
)


def _os_name(release: str) -> str:
    """Take the name from os-release(5)."""
    for line in release.splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return ""


def _count(cpus: str) -> int:
    """Count a list such as `0-3,8,10-11` (Documentation/admin-guide/cputopology.rst)."""
    count = 0
    for part in filter(None, cpus.strip().split(",")):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count
