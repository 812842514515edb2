"""Slices of one GPU (MIG), by NVML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pynvml

from collector.batch import Batch
from collector.catalog import mig
from collector.entity import Entity, Kind
from plugins.gpu._nvml_calls import Calls, Kept, LostError, Sample
from plugins.gpu._nvml_gpm import Gpm
from plugins.gpu._nvml_processes import Processes


class Slice:
    """One slice: a compute instance in a GPU instance.

    Args:
        calls: Calls for the slice.
        whole: Calls for the GPU that it is of.
        entity: The slice.
        slots: Slices that the GPU can have at most, which is its number of compute slices.
        now: Seconds since the epoch.
    """

    def __init__(self, calls: Calls, whole: Calls, entity: Entity, slots: int, now: float) -> None:
        self.calls = calls
        self.entity = entity
        self.instance = calls.ask(pynvml.nvmlDeviceGetGpuInstanceId)
        self.pids: list[str] = []
        self.gpm: Gpm | None = None
        self._whole = whole
        self._slots = slots
        self._share: float | None = None
        self._processes = Processes(calls, now)
        self._kept = Kept()

    def read(self, batch: Batch, *, slow: bool, kept: bool) -> None:
        """Add the slice's samples, links and failures; as `Device.read`."""
        self.calls.failures = []
        try:
            if slow:
                self.calls.absent.clear()
                self._kept = Kept(self._facts(batch.at))
            memory = self.calls.ask(pynvml.nvmlDeviceGetMemoryInfo, pynvml.nvmlMemory_v2)
            if memory is not None:
                batch.add(mig.MEMORY_USED, self.entity, memory.used)
                batch.add(mig.MEMORY_RESERVED, self.entity, memory.reserved)
                batch.add(mig.MEMORY_LIMIT, self.entity, memory.total)
            for sample in self.gpm.read() if self.gpm else ():
                batch.add(sample.metric, sample.entity, sample.value, *sample.labels)
        finally:
            host, parent, _ = self.entity.key
            if self._share is not None:
                batch.link(self.entity, Kind.GPU(host, parent), self._share)
            for pid in self.pids:
                batch.link(Kind.PROCESS(host, pid), self.entity)
            if kept:
                self._kept.state(batch)
            for failure in self.calls.failures:
                batch.failed(self.entity, failure)

    def watch(self, *, alone: bool) -> None:
        """Sample the GPU instance, if this is the one compute instance in it.

        NVML samples GPU instances: what of it was a compute instance's cannot be told.
        """
        if alone and self.gpm is None and self.instance is not None:
            self.gpm = Gpm(self._whole, self.entity, self.instance)
        elif not alone:
            self.close()

    def close(self) -> None:
        """Free what the slice holds."""
        if self.gpm is not None:
            self.gpm.close()
            self.gpm = None

    def _facts(self, now: float) -> Iterator[Sample]:
        ask, entity = self.calls.ask, self.entity
        name = ask(pynvml.nvmlDeviceGetName) or ""
        compute = ask(pynvml.nvmlDeviceGetComputeInstanceId)
        ids = ("" if id_ is None else str(id_) for id_ in (self.instance, compute))
        yield Sample(mig.INFO, entity, 1.0, (name.rpartition(" MIG ")[2], *ids))
        attributes = ask(pynvml.nvmlDeviceGetAttributes_v2)
        if attributes is not None:
            yield Sample(mig.MULTIPROCESSORS, entity, attributes.multiprocessorCount)
            self._share = min(attributes.computeInstanceSliceCount / self._slots, 1.0)
        errors = ask(
            pynvml.nvmlDeviceGetMemoryErrorCounter,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
            pynvml.NVML_MEMORY_LOCATION_SRAM,
        )  # the only errors that NVML tells of a slice
        yield Sample(mig.ECC_ERRORS, entity, errors, ("sram", "uncorrected"), now)
        self.pids = []
        processes = self._processes.read()
        if processes is not None:
            yield Sample(mig.PROCESSES, entity, float(len(processes)), (), now)
            for process in processes:
                self.pids.append(process.pid)
                yield Sample(mig.PROCESS_MEMORY, entity, process.memory, (process.pid,), now)


class Slices:
    """All slices of one GPU.

    Args:
        calls: Calls for the GPU.
        device: The GPU.
    """

    def __init__(self, calls: Calls, device: Entity) -> None:
        self._calls = calls
        self._device = device
        self._known: dict[str, Slice] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def list(self, now: float) -> None:
        """Find the slices that there are; those that stay keep what is known of them.

        Raises:
            GoneError, DriverError: As `Calls.ask`.
        """
        ask = self._calls.ask
        slots = ask(pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0 if self._calls.mig else 0
        found: dict[str, Slice] = {}
        for slot in range(slots):
            handle = ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, slot)  # NOT_FOUND: empty slot
            if handle is not None and (one := self._slice(handle, slots, now)) is not None:
                found[one.entity.key[-1]] = one
        for uuid in self._known.keys() - found.keys():
            self._known[uuid].close()
        self._known = found
        instances = Counter(one.instance for one in found.values())
        for one in found.values():
            one.watch(alone=instances[one.instance] == 1)

    def read(self, batch: Batch, *, slow: bool, kept: bool) -> None:
        """Add what there is to know of each slice.

        Raises:
            GoneError, DriverError: As `Calls.ask`.
        """
        for uuid, one in list(self._known.items()):
            try:
                one.read(batch, slow=slow, kept=kept)
            except LostError:  # taken apart since it was listed; of the GPU its own calls tell
                one.close()
                del self._known[uuid]

    def close(self) -> None:
        """Free what the slices hold."""
        for one in self._known.values():
            one.close()

    def _slice(self, handle: Any, slots: int, now: float) -> Slice | None:  # noqa: ANN401
        calls = Calls(handle, f"a slice of {self._device.key[-1]}")
        uuid = calls.ask(pynvml.nvmlDeviceGetUUID)
        self._calls.failures += calls.failures
        if uuid is None:
            return None
        known = self._known.get(uuid)
        if known is None:
            entity = Kind.MIG(*self._device.key, uuid)
            known = Slice(Calls(handle, uuid), self._calls, entity, slots, now)
        known.calls.handle = handle
        return known
