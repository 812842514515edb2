"""GPM: how busy the parts of a Hopper or later GPU were between two samples of its counters."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pynvml

from collector.catalog import gpu, mig
from collector.entity import Entity, Kind
from collector.metric import Metric
from plugins.gpu._nvml_calls import ABSENT, Calls, Sample
from plugins.gpu._nvml_fields import PERCENT

APART = 0.1  # seconds; NVIDIA's least distance of two samples
_MEBI = 1 << 20  # bytes in a MiB
_OVER = 105.0  # percent up to which a reading above 100 is the two counters' different times

# NVML_GPM_METRIC_*: id, metric of the GPU and of a slice, labels.
_PERCENT: tuple[tuple[int, Metric, Metric, tuple[str, ...]], ...] = (
    (1, gpu.GRAPHICS_UTILIZATION, mig.GRAPHICS_UTILIZATION, ()),
    (2, gpu.SM_UTILIZATION, mig.SM_UTILIZATION, ()),
    (3, gpu.SM_OCCUPANCY, mig.SM_OCCUPANCY, ()),
    (5, gpu.TENSOR_UTILIZATION, mig.TENSOR_UTILIZATION, ()),
    (10, gpu.DRAM_UTILIZATION, mig.DRAM_UTILIZATION, ()),
    *(
        (id_, gpu.PIPE_UTILIZATION, mig.PIPE_UTILIZATION, (pipe,))
        for id_, pipe in (
            (4, "integer"),
            (6, "tensor_dfma"),
            (7, "tensor_hmma"),
            (8, "tensor_dmma"),
            (9, "tensor_imma"),
            (11, "fp64"),
            (12, "fp32"),
            (13, "fp16"),
        )
    ),
)
_MEBI_PER_SECOND = (  # of the whole GPU alone
    (20, gpu.PCIE_THROUGHPUT, ("transmit",)),
    (21, gpu.PCIE_THROUGHPUT, ("receive",)),
    (60, gpu.NVLINK_THROUGHPUT, ("receive",)),
    (61, gpu.NVLINK_THROUGHPUT, ("transmit",)),
)
_METRIC = struct.Struct("<IId24x")  # nvmlGpmMetric_t: id, return, value, three names
_FIRST = pynvml.c_nvmlGpmMetricsGet_t.metrics.offset
IDS = (*(row[0] for row in _PERCENT), *(row[0] for row in _MEBI_PER_SECOND))


def request(ids: Iterable[int]) -> pynvml.c_nvmlGpmMetricsGet_t:
    """Make what asks for these metrics, without its samples."""
    made = pynvml.c_nvmlGpmMetricsGet_t()
    made.version = pynvml.NVML_GPM_METRICS_GET_VERSION
    for id_ in ids:
        made.metrics[made.numMetrics].metricId = id_
        made.numMetrics += 1
    return made


def decode(asked: pynvml.c_nvmlGpmMetricsGet_t) -> Iterator[tuple[int, int, float]]:
    """Yield id, return code and value of each metric that was asked for."""
    end = _FIRST + asked.numMetrics * _METRIC.size
    return _METRIC.iter_unpack(bytes(memoryview(asked).cast("B")[_FIRST:end]))


class Gpm:
    """Keeps the last sample of one GPU or GPU instance, to compare the next one with.

    Args:
        calls: Calls for the whole GPU.
        entity: The GPU, or the slice.
        instance: NVML's id of the GPU instance in which the slice is; None for a GPU.
    """

    def __init__(self, calls: Calls, entity: Entity, instance: int | None = None) -> None:
        self._calls = calls
        self._entity = entity
        self._instance = instance
        self._last: Any = None
        self._next: Any = None
        self._taken: float | None = None
        of_gpu = entity.kind is Kind.GPU
        self._asked = {
            **{id_: (whole if of_gpu else part, x) for id_, whole, part, x in _PERCENT},
            **({id_: (metric, x) for id_, metric, x in _MEBI_PER_SECOND} if of_gpu else {}),
        }
        self._request = request(self._asked)

    def read(self) -> Iterator[Sample]:
        """Yield what went on since the sample before; nothing at first and where there is no GPM.

        Raises:
            GoneError, DriverError: As `Calls.ask`.
        """
        now = time.monotonic()
        if (self._taken is not None and now - self._taken < APART) or not self._take():
            return
        taken, self._taken = self._taken, now
        self._last, self._next = self._next, self._last
        if taken is None:
            return
        self._request.sample1, self._request.sample2 = self._next, self._last
        try:
            pynvml.nvmlGpmMetricsGet(self._request)
        except pynvml.NVMLError as error:
            if error.value in ABSENT:
                self._calls.absent.add(self)
            else:
                self._calls.fail("nvmlGpmMetricsGet", error)
            return
        yield from self._samples()

    def close(self) -> None:
        """Free the samples."""
        for sample in (self._last, self._next):
            if sample is not None:
                with contextlib.suppress(pynvml.NVMLError):
                    pynvml.nvmlGpmSampleFree(sample)
        self._last = self._next = self._taken = None

    def _take(self) -> bool:
        """Take a sample into `_next`; say whether that could be done."""
        if self in self._calls.absent:
            return False
        try:
            if self._next is None:
                support = self._calls.ask(pynvml.nvmlGpmQueryDeviceSupport)
                if support is None or not support.isSupportedDevice:
                    self._calls.absent.add(self)
                    return False
                self._last, self._next = (
                    pynvml.nvmlGpmSampleAlloc(),
                    pynvml.nvmlGpmSampleAlloc(),
                )
        except pynvml.NVMLError as error:
            self._calls.fail("nvmlGpmSampleAlloc", error)
            return False
        if self._instance is None:
            done = self._calls.ask(pynvml.nvmlGpmSampleGet, self._next, key=self)
        else:
            done = self._calls.ask(pynvml.nvmlGpmMigSampleGet, self._instance, self._next, key=self)
        if done is None:
            self._taken = None
        return done is not None

    def _samples(self) -> Iterator[Sample]:
        for id_, code, value in decode(self._request):
            metric, labels = self._asked[id_]
            if code != pynvml.NVML_SUCCESS or not value >= 0:  # NaN as well
                continue
            if metric.unit == "By/s":
                yield Sample(metric, self._entity, value * _MEBI, labels)
            elif value <= _OVER:
                yield Sample(metric, self._entity, min(value / PERCENT, 1.0), labels)
