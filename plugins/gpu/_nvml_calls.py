"""Calls into NVML for one GPU, and what NVML's return codes mean to us."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pynvml

from collector.childmain import doing

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

_GONE = frozenset(
    (
        pynvml.NVML_ERROR_GPU_IS_LOST,
        pynvml.NVML_ERROR_GPU_NOT_FOUND,
        pynvml.NVML_ERROR_TIMEOUT,
    )
)
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


class DriverError(NvmlError):
    """The driver is gone or another than the library; only a fresh start helps."""


class Calls:
    """Calls for one GPU; what it does not support is remembered.

    Args:
        handle: NVML's handle of the GPU.
        uuid: Its UUID, for messages.
    """

    def __init__(self, handle: Any, uuid: str) -> None:  # noqa: ANN401 - a ctypes pointer
        self.handle = handle
        self.failures: list[NvmlError] = []
        self.absent: set[object] = set()
        self._uuid = uuid
        self._renewed = time.monotonic()
        self._mig: object = None

    def ask(self, call: Callable[..., Any], *args: object, key: object = None) -> Any:  # noqa: ANN401
        """Return what a call gives, or None where that is absent or failed; see `failures`.

        Args:
            call: A function of pynvml that takes the handle first.
            args: Its further arguments.
            key: What to remember it by if it is not supported, in place of name and arguments.

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
            if error.value in ABSENT:
                self.absent.add(key)
            elif error.value not in NOTHING_NOW:
                self.fail(name, error)
        return None

    def fail(self, name: str, error: Any) -> None:  # noqa: ANN401 - pynvml has no types
        """Take a failure of one call: note it, or raise it if it says more than that."""
        text = f"{name}: {error}"
        if error.value in _DRIVER:
            raise DriverError(text) from error
        if error.value in _GONE:
            raise GoneError(text) from error
        self.failures.append(NvmlError(text))

    def renew(self) -> None:
        """Forget what is not supported after some time, and when MIG mode is switched."""
        mig = self.ask(pynvml.nvmlDeviceGetMigMode)
        now = time.monotonic()
        if mig != self._mig or now - self._renewed > _ABSENT_FOR:
            self.absent.clear()
            self._renewed = now
        self._mig = mig
