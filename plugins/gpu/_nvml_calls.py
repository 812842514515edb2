"""Calls into NVML for one GPU, and what NVML's return codes mean to us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pynvml

from collector.batch import Batch, SeriesKey
from collector.childmain import doing
from collector.entity import Entity
from collector.metric import Metric
from plugins.gpu._nvml_fields import REDUNDANT, Field, decode

_ABSENT_FOR = 300.0  # seconds for which what is not supported is not asked for again

ABSENT = frozenset(
    (
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
    )
)
"""There is no such reading here: absent, and remembered for a while."""

NOTHING_NOW = frozenset((pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_NO_DATA))
"""There is no value at the moment: absent, and asked for again."""

_LOST = frozenset((pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_GPU_NOT_FOUND))
_DRIVER = frozenset(
    (
        pynvml.NVML_ERROR_UNINITIALIZED,
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH,
    )
)


class NvmlError(Exception):
    """A call into NVML failed; the message names the call and NVML's reason."""


class GoneError(NvmlError):
    """The GPU does not answer; nothing else of it is worth the wait."""


class LostError(GoneError):
    """The GPU has fallen off the bus, or is not accessible for another reason."""


class DriverError(NvmlError):
    """The driver is gone or another than the library; only a fresh start helps."""


class Sample(NamedTuple):
    """A sample to be added; `at` None is the time of the poll that adds it."""

    metric: Metric
    entity: Entity
    value: float | None
    labels: tuple[str, ...] = ()
    at: float | None = None


class Kept:
    """Samples of the slow tier, stated again with each poll until they are read anew.

    Args:
        samples: What there is at first.
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._keys: list[SeriesKey] = []
        self._values: list[float] = []
        self._times: dict[int, float] = {}
        self.extend(samples)

    def extend(self, samples: Iterable[Sample]) -> None:
        """Keep more of them; a value of None is none."""
        for metric, entity, value, labels, at in samples:
            if value is not None:
                if at is not None:
                    self._times[len(self._keys)] = at
                self._keys.append(SeriesKey(metric, entity, labels))
                self._values.append(value)

    def state(self, batch: Batch) -> None:
        """Add all."""
        base = len(batch.keys)
        batch.times.update({base + position: at for position, at in self._times.items()})
        batch.extend(self._keys, self._values)


class Calls:
    """Calls for one GPU or slice; what it does not support is remembered.

    Args:
        handle: NVML's handle of it.
        uuid: Its UUID, for messages.

    Attributes:
        failures: Calls that failed, until the caller takes them.
        absent: What is not supported.
        seconds: Time that the driver took for field values, until the caller takes it.
        mig: Whether the GPU is divided, as of the last `renew`.
    """

    def __init__(self, handle: Any, uuid: str) -> None:  # noqa: ANN401 - a ctypes pointer
        self.handle = handle
        self.failures: list[NvmlError] = []
        self.absent: set[object] = set()
        self.seconds = 0.0
        self._uuid = uuid
        self._renewed = time.monotonic()
        self.mig = False

    def ask(
        self, call: Callable[..., Any], *args: object, key: object = None, new: bool = False
    ) -> Any:  # noqa: ANN401
        """Return what a call gives, or None where that is absent or failed; see `failures`.

        Args:
            call: A function of pynvml that takes the handle first.
            args: Its further arguments.
            key: What to remember it by if it is not supported, in place of name and arguments.
            new: An argument is so new that drivers may not know it and call it invalid.

        Raises:
            GoneError: The GPU is lost, or did not answer NVML in time.
            DriverError: The driver is gone.
        """
        name = call.__name__
        key = key or (name, *args)
        if key in self.absent:
            return None
        doing(f"{name} of {self._uuid}")
        try:
            return call(self.handle, *args)
        except pynvml.NVMLError as error:
            if error.value in ABSENT or (new and error.value == pynvml.NVML_ERROR_INVALID_ARGUMENT):
                self.absent.add(key)
            elif error.value not in NOTHING_NOW:
                self.fail(name, error)
        return None

    def values(self, asked: Sequence[Field]) -> dict[Field, tuple[float, float]]:
        """Ask for field values in one call.

        Returns:
            Those that there are, in NVML's unit, and when they were read, in s since the epoch.

        Raises:
            GoneError, DriverError: As `ask`.
        """
        wanted = [field for field in asked if field not in self.absent]
        entries = self.ask(
            pynvml.nvmlDeviceGetFieldValues,
            [(field.id, field.scope) for field in wanted],
            key="nvmlDeviceGetFieldValues",
        )
        have: dict[Field, tuple[float, float]] = {}
        found: set[tuple[int, int]] = set()
        for field, entry in zip(wanted, decode(bytes(entries or b"")), strict=False):
            self.seconds += entry.latency
            if entry.code in ABSENT or entry.code == pynvml.NVML_ERROR_INVALID_ARGUMENT:
                self.absent.add(field)  # drivers do not know ids that are younger than they are
            elif entry.code in NOTHING_NOW:
                continue
            elif entry.code != pynvml.NVML_SUCCESS:
                self.fail(f"field {field.id}", pynvml.NVMLError(entry.code))
            elif field.wide > entry.wide or any(
                (other, field.scope) in found for other in REDUNDANT.get(field.id, ())
            ):
                self.absent.add(field)
            elif entry.value is not None:
                found.add((field.id, field.scope))
                have[field] = entry.value, entry.at
        return have

    def fail(self, name: str, error: Any) -> None:  # noqa: ANN401 - pynvml has no types
        """Take a failure of one call: note it, or raise it if it says more than that."""
        text = f"{name}: {error}"
        if error.value in _DRIVER:
            raise DriverError(text) from error
        if error.value in _LOST:
            raise LostError(text) from error
        if error.value == pynvml.NVML_ERROR_TIMEOUT:
            raise GoneError(text) from error
        self.failures.append(NvmlError(text))

    def renew(self) -> None:
        """Forget what is not supported after some time, and when MIG mode is switched."""
        mode = self.ask(pynvml.nvmlDeviceGetMigMode)
        mig = mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE
        now = time.monotonic()
        if mig != self.mig or now - self._renewed > _ABSENT_FOR:
            self.absent.clear()
            self._renewed = now
        self.mig = mig
