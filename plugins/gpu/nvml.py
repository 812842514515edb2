"""NVIDIA GPUs by NVML (nvidia-ml-py), in a child process.

How it is tested: specified, by the real pynvml over a library of our own that speaks NVML's binary
interface, with the figures of real boards; not run on a GPU yet.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Event, Severity
from collector.catalog import gpu, mig, nvlink
from collector.childmain import doing
from collector.metric import Metric
from collector.plugin import Plugin

if TYPE_CHECKING:
    from plugins.gpu._nvml_device import Device
    from plugins.gpu._nvml_events import Xids

log = logging.getLogger(__name__)

LIBRARY = "libnvidia-ml.so.1"
_DRIVER_FILES = ("/dev/nvidiactl", "/proc/driver/nvidia")
_LIBRARY_CACHE = "/etc/ld.so.cache"


class Nvml(Plugin):
    """All NVIDIA GPUs of this host, through the driver's management library.

    Per GPU and poll there is one `nvmlDeviceGetFieldValues`, one sample of GPM and a handful of
    cheap calls. What is not supported is absent and not asked for again for 5 minutes. A GPU that
    fails is reported and does not keep the others from being read; one that is lost is an event
    (`gpu.lost`), and so is each Xid (`gpu.xid`). PCIe rates before Hopper are not read: NVML would
    block for 20 ms to measure one.

    A process is linked to each GPU on which it has a compute context, always with share 1: the link
    says that it is there. How much of the GPU it used is `w2t.gpu.process.utilization`, which has
    its own time, so that links do not come and go with the load. A process in a slice (MIG) is
    linked to the slice, and the slice to its GPU with the share of the compute slices that it has.
    """

    driver_bound: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        value
        for catalog in (gpu, mig, nvlink)
        for value in vars(catalog).values()
        if isinstance(value, Metric)
    )

    interval: float = Field(default=1.0, gt=0, description="Seconds between two polls.")
    slow_interval: float = Field(
        default=10.0,
        gt=0,
        description="Seconds between two reads of what is dear or rarely changes: processes, "
        "slices, errors, PCIe, NVLinks, limits, names. NVML serialises callers, so dear calls slow "
        "down the workload.",
    )

    gpm: bool = Field(
        default=True,
        description="Read the counters of SMs, pipes and links (GPM, Hopper and later) with every "
        "poll. They do not get into the way of profilers.",
    )

    _nvml: Any = PrivateAttr(default=None)
    _driver: str = PrivateAttr(default="")
    _devices: dict[str, Device] = PrivateAttr(default_factory=dict)
    _unlisted: dict[int, Exception] = PrivateAttr(default_factory=dict)
    _count: int = PrivateAttr(default=-1)
    _expected: int = PrivateAttr(default=0)
    _xids: Xids | None = PrivateAttr(default=None)
    _slow_due: float = PrivateAttr(default=0.0)
    _kept_due: float = PrivateAttr(default=0.0)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where a driver or its library is there; neither is touched."""
        folders = os.environ.get("LD_LIBRARY_PATH", "").split(":")
        places = (*_DRIVER_FILES, *(f"{folder}/{LIBRARY}" for folder in folders if folder))
        if any(Path(place).exists() for place in places):
            return [{}]
        try:
            return [{}] if LIBRARY.encode() in Path(_LIBRARY_CACHE).read_bytes() else []
        except OSError:
            return []

    def open(self) -> None:
        """Load and start NVML.

        Raises:
            NvmlError: There is no library, or no driver; the message says what to do.
        """
        import pynvml

        from plugins.gpu._nvml_calls import NvmlError

        doing("nvmlInit")
        try:
            pynvml.nvmlInit()
            self._nvml = pynvml
            self._driver = pynvml.nvmlSystemGetDriverVersion()
        except pynvml.NVMLError_LibraryNotFound as error:
            raise NvmlError(
                f"{LIBRARY} is not found: install NVIDIA's driver, or run the container with "
                "NVIDIA's container toolkit (NVIDIA_DRIVER_CAPABILITIES=utility)"
            ) from error
        except pynvml.NVMLError_DriverNotLoaded as error:
            raise NvmlError(
                "NVIDIA's driver is not loaded: modprobe nvidia, or see the kernel log"
            ) from error
        except pynvml.NVMLError as error:
            raise NvmlError(f"nvmlInit: {error}") from error

    def poll(self, batch: Batch) -> None:
        """Read all GPUs.

        Raises:
            NvmlError: The driver is gone.
        """
        from plugins.gpu._nvml_calls import GoneError, LostError

        count = self._ask_count()
        slow = not 0 < self._slow_due - batch.at <= self.slow_interval
        if slow or count != self._count:
            self._list(count, batch)
            self._slow_due = batch.at + self.slow_interval
            slow = True
        # A sample lasts for three intervals and the timeout: until then nothing is said twice.
        kept = slow or not 0 < self._kept_due - batch.at <= self.timeout
        if kept:
            self._kept_due = batch.at + self.timeout
        if self._xids is not None:
            self._xids.read(batch)
        for index, error in self._unlisted.items():
            batch.failed(None, type(error)(f"GPU with index {index}: {error}"))
        boards: set[str] = set()
        answering = 0
        for device in self._devices.values():
            try:
                device.read(batch, self._driver, boards, slow=slow, kept=kept)
                device.lost = False
                answering += 1
            except GoneError as error:
                batch.failed(device.entity, error)
                if isinstance(error, LostError):
                    self._lose(device, str(error), batch)
        self._expected = max(self._expected, count)
        batch.add(gpu.COUNT, batch.host, float(answering))
        batch.add(gpu.COUNT_EXPECTED, batch.host, float(self._expected))

    def close(self) -> None:
        """Free what was taken, then end NVML."""
        for device in self._devices.values():
            device.close()
        if self._xids is not None:
            self._xids.close()
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
            self._nvml = None

    def record(self, folder: Path) -> None:
        """Save what NVML answers, serial numbers and UUIDs included, as `input/scenario.conf`."""
        self.open()
        from plugins.gpu import _nvml_record

        path = folder / "input" / "scenario.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(_nvml_record.scenario()) + "\n", encoding="utf-8")
        self.close()

    def _ask_count(self) -> int:
        from plugins.gpu._nvml_calls import NvmlError

        doing("nvmlDeviceGetCount")
        try:
            return int(self._nvml.nvmlDeviceGetCount())
        except self._nvml.NVMLError as error:
            raise NvmlError(f"nvmlDeviceGetCount: {error}") from error

    def _list(self, count: int, batch: Batch) -> None:
        """Find the GPUs that are there; those that stay keep what is known of them."""
        from plugins.gpu._nvml_calls import NvmlError
        from plugins.gpu._nvml_device import Device
        from plugins.gpu._nvml_events import Xids

        by_index = {device.index: device for device in self._devices.values()}
        devices: dict[str, Device] = {}
        self._unlisted = {}
        for index in range(count):
            doing(f"nvmlDeviceGetHandleByIndex of {index}")
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = self._nvml.nvmlDeviceGetUUID(handle)
            except self._nvml.NVMLError as error:
                # A lost GPU can keep its index but give no handle; what we know as that one fails
                # by itself when it is read.
                if index in by_index:
                    devices[by_index[index].entity.key[-1]] = by_index[index]
                else:
                    self._unlisted[index] = NvmlError(str(error))
                continue
            device = self._devices.get(uuid)
            if device is None:
                device = Device(handle, index, uuid, batch.host, time.time(), gpm=self.gpm)
            device.index, device.calls.handle = index, handle
            devices[uuid] = device
        for uuid in self._devices.keys() - devices.keys():
            self._lose(self._devices[uuid], "the driver does not list it any more", batch)
            self._devices[uuid].close()
        self._devices = devices
        self._count = count
        self._xids = self._xids or Xids()
        self._xids.watch([(one.calls.handle, one.entity) for one in devices.values()], batch)

    def _lose(self, device: Device, why: str, batch: Batch) -> None:
        """Say once that a GPU is gone."""
        if not device.lost:
            device.lost = True
            uuid = device.entity.key[-1]
            log.warning("%s is no longer among the GPUs that answer: %s", uuid, why)
            batch.event(Event("gpu.lost", device.entity, batch.at, Severity.FATAL, why))
