# mypy: ignore-errors
# ruff: noqa: N802, N803
"""What dcgm_structs has of all that the plugin needs; written after the published one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

DCGM_GROUP_DEFAULT = 0
_TEXTS = {-12: "API version mismatch", -18: "GPU is lost", -21: "Host engine connection invalid"}


class DCGMError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(_TEXTS.get(value, f"DCGM error {value}"))
        self.value = value


class c_dcgmConnectV2Params_v2(ctypes.Structure):  # noqa: N801
    _fields_ = (
        ("version", ctypes.c_uint),
        ("persistAfterDisconnect", ctypes.c_uint),
        ("timeoutMs", ctypes.c_uint),
        ("addressIsUnixSocket", ctypes.c_uint),
    )


class _Value(ctypes.Union):
    _fields_ = (
        ("i64", ctypes.c_int64),
        ("dbl", ctypes.c_double),
        ("str", ctypes.c_char * 256),
        ("blob", ctypes.c_byte * 4096),
    )


class c_dcgmFieldValue_v1(ctypes.Structure):  # noqa: N801
    _fields_ = (
        ("version", ctypes.c_uint),
        ("fieldId", ctypes.c_ushort),
        ("fieldType", ctypes.c_short),
        ("status", ctypes.c_int),
        ("ts", ctypes.c_int64),
        ("value", _Value),
    )


class c_dcgmDeviceIdentifiers_v1(ctypes.Structure):  # noqa: N801
    _fields_ = (
        ("version", ctypes.c_uint),
        ("brandName", ctypes.c_char * 256),
        ("deviceName", ctypes.c_char * 256),
        ("pciBusId", ctypes.c_char * 256),
        ("serial", ctypes.c_char * 256),
        ("uuid", ctypes.c_char * 256),
        ("vbios", ctypes.c_char * 256),
        ("inforomImageVersion", ctypes.c_char * 256),
        ("pciDeviceId", ctypes.c_uint32),
        ("pciSubSystemId", ctypes.c_uint32),
        ("driverVersion", ctypes.c_char * 256),
        ("virtualizationMode", ctypes.c_uint32),
    )


class c_dcgmDeviceAttributes_v3(ctypes.Structure):  # noqa: N801
    _fields_ = (("version", ctypes.c_uint), ("identifiers", c_dcgmDeviceIdentifiers_v1))


def _dcgmInit(libDcgmPath: str | None = None) -> None:
    if "no library" in Path(os.environ["W2T_FAKE_DCGM"]).read_text():
        raise DCGMError(-25)
