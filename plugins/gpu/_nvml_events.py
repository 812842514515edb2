"""Xids of the GPUs, as NVML hands them out."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from ctypes import c_void_p, cast
from typing import Any

import pynvml

from collector.batch import Batch, Event
from collector.catalog import gpu
from collector.childmain import doing
from collector.entity import Entity
from collector.read.xid import lookup
from plugins.gpu._nvml_calls import NvmlError

_APART = 60.0  # seconds between two events of one Xid of one GPU; all are counted
_AT_ONCE = 1000  # events taken in one poll; one fault has made 11,760 within minutes


class Xids:
    """Registers GPUs for events and takes what came.

    Events from before the registration are lost, and some Xids never come this way: the kernel's
    log has them as well.
    """

    def __init__(self) -> None:
        self._set: Any = None
        self._watched: dict[int | None, Entity] = {}
        self._seen: Counter[tuple[Entity, str]] = Counter()
        self._untold: Counter[tuple[Entity, str]] = Counter()
        self._told: dict[tuple[Entity, str], float] = {}

    def watch(self, handles: Iterable[tuple[Any, Entity]], batch: Batch) -> None:
        """Register those GPUs that are not registered yet; report one that cannot be."""
        doing("nvmlEventSetCreate")
        try:
            if self._set is None:
                self._set = pynvml.nvmlEventSetCreate()
        except pynvml.NVMLError as error:
            batch.failed(None, NvmlError(f"nvmlEventSetCreate: {error}"))
            return
        for handle, entity in handles:
            address = _address(handle)
            if self._watched.get(address) == entity:
                continue
            doing(f"nvmlDeviceRegisterEvents of {entity.key[-1]}")
            # One that cannot tell is none that failed; one that is lost says so when it is read.
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlDeviceRegisterEvents(
                    handle, pynvml.nvmlEventTypeXidCriticalError, self._set
                )
                self._watched[address] = entity

    def read(self, batch: Batch) -> None:
        """Add how often each Xid of each GPU came, and an event for it, one in `_APART` seconds."""
        for _ in range(_AT_ONCE):
            if (one := self._next(batch)) is None:
                break
            self._seen[one] += 1
            self._untold[one] += 1
        for one, number in list(self._untold.items()):
            if one in self._told and 0 <= batch.at - self._told[one] < _APART:
                continue
            del self._untold[one]
            self._told[one] = batch.at
            entity, xid = one
            what = lookup(int(xid))
            text = f"Xid {xid} {what.name}".strip()
            attributes = (
                ("xid", xid),
                ("name", what.name),
                ("action", what.action),
                ("times", str(number)),
            )
            batch.event(Event("gpu.xid", entity, batch.at, what.severity, text, attributes))
        for (entity, xid), number in self._seen.items():
            batch.add(gpu.XIDS, entity, float(number), xid)

    def close(self) -> None:
        """Free the set."""
        if self._set is not None:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(self._set)
        self._set = None
        self._watched = {}

    def _next(self, batch: Batch) -> tuple[Entity, str] | None:
        if self._set is None:
            return None
        doing("nvmlEventSetWait")
        try:
            event = pynvml.nvmlEventSetWait_v2(self._set, 0)
        except pynvml.NVMLError as error:
            if error.value != pynvml.NVML_ERROR_TIMEOUT:
                # A lost GPU ends the whole set; a new one is made of those that are left.
                self.close()
                if error.value != pynvml.NVML_ERROR_GPU_IS_LOST:
                    batch.failed(None, NvmlError(f"nvmlEventSetWait: {error}"))
            return None
        entity = self._watched.get(_address(event.device))
        return None if entity is None else (entity, str(event.eventData))


def _address(handle: Any) -> int | None:  # noqa: ANN401 - a ctypes pointer
    return cast(handle, c_void_p).value
