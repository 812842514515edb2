"""Processes on a GPU, by NVML."""

from __future__ import annotations

from typing import Any, NamedTuple

import pynvml

from plugins.gpu._nvml_calls import Calls
from plugins.gpu._nvml_fields import MICRO, PERCENT

_PID_MAX = 1 << 22  # the largest that Linux allows (include/linux/threads.h, PID_MAX_LIMIT)
_LISTS = (
    pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
    pynvml.nvmlDeviceGetComputeRunningProcesses_v2,
)


class GpuProcess(NamedTuple):
    """A process with a compute context: memory in bytes, kernel time as a ratio, when sampled."""

    pid: str
    memory: int | None
    utilization: float | None
    at: float | None


class Processes:
    """Lists the processes of one GPU and what they used since the list before."""

    def __init__(self, calls: Calls, since: float) -> None:
        self._calls = calls
        self._since = int(since * MICRO)

    def read(self) -> list[GpuProcess] | None:
        """Return all processes with a compute context, None where NVML does not tell."""
        found = self._list()
        if found is None:
            return None
        used = self._utilization() if found else {}
        # NVML samples only processes that had some utilization: one that is not named had none.
        idle = (None, None) if used is None else (0.0, None)
        return [
            GpuProcess(
                str(process.pid), process.usedGpuMemory, *(used or {}).get(process.pid, idle)
            )
            for process in found
        ]

    def _list(self) -> list[Any] | None:
        for function in _LISTS:
            found = self._calls.ask(function)
            if found is None:
                continue
            if all(0 < process.pid <= _PID_MAX for process in found):
                return list(found)
            # Drivers 535.43 to 535.98 changed the struct of version 3, so that from the second
            # entry on fields are mixed up (nvitop#88); version 2 is as it was.
            self._calls.absent.add((function.__name__,))
        return None

    def _utilization(self) -> dict[int, tuple[float | None, float | None]] | None:
        """Map pid to the ratio and time of its newest sample; None where not supported."""
        key = "nvmlDeviceGetProcessUtilization"
        before = len(self._calls.failures)
        samples = self._calls.ask(pynvml.nvmlDeviceGetProcessUtilization, self._since, key=key)
        if samples is None:
            failed = key in self._calls.absent or len(self._calls.failures) > before
            return None if failed else {}
        used: dict[int, tuple[float | None, float | None]] = {}
        for sample in sorted(samples, key=lambda s: s.timeStamp):
            self._since = max(self._since, sample.timeStamp)
            if sample.smUtil <= 100:  # what a race in the driver left behind can be anything
                used[sample.pid] = (sample.smUtil / PERCENT, sample.timeStamp / MICRO)
        return used
