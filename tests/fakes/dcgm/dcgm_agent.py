# mypy: ignore-errors
# ruff: noqa: A002, N802, N803
"""A hostengine in a file: `W2T_FAKE_DCGM` names a TOML file, which is read with each call.

`error = -21` fails what comes after the connection, `connect_error` the connection. `[gpu.0]` has
`uuid`, `model`, `error`, and `[gpu.0.fields]` the values by field id; a value of type float is a
double, and one that is a list is `[value, status, seconds of age]`. Calls have the published
signatures; those that are made are kept in `calls`.
"""

from __future__ import annotations

import ctypes
import os
import time
import tomllib
from pathlib import Path
from typing import Any

import dcgm_fields
import dcgm_structs

calls: list[tuple[Any, ...]] = []
_handles: set[int] = set()


def _scenario(handle: Any = None) -> dict[str, Any]:
    found = tomllib.loads(Path(os.environ["W2T_FAKE_DCGM"]).read_text())
    if handle is not None:
        assert isinstance(handle, ctypes.c_void_p)
        if found.get("error"):
            raise dcgm_structs.DCGMError(found["error"])
    return found


def dcgmInit() -> int:
    return 0


def dcgmConnect_v2(ip_address: str, connectParams: Any, version: int = 2) -> ctypes.c_void_p:
    found = _scenario()
    assert isinstance(connectParams, dcgm_structs.c_dcgmConnectV2Params_v2)
    calls.append(("dcgmConnect_v2", ip_address, connectParams.timeoutMs))
    if found.get("connect_error"):
        raise dcgm_structs.DCGMError(found["connect_error"])
    return ctypes.c_void_p(1)


def dcgmDisconnect(dcgm_handle: Any) -> int:
    calls.append(("dcgmDisconnect",))
    return 0


def dcgmGetAllSupportedDevices(dcgm_handle: Any) -> list[int]:
    return [int(number) for number in _scenario(dcgm_handle).get("gpu", {})]


def dcgmGetDeviceAttributes(dcgm_handle: Any, gpuId: int, version: int = 3) -> Any:
    found = _scenario(dcgm_handle)["gpu"][str(gpuId)]
    made = dcgm_structs.c_dcgmDeviceAttributes_v3()
    made.identifiers.uuid = found["uuid"].encode()
    made.identifiers.deviceName = found.get("model", "NVIDIA H100 80GB HBM3").encode()
    made.identifiers.pciBusId = found.get("bus_id", "00000000:1A:00.0").encode()
    made.identifiers.serial = b"<<<NULL>>>"
    made.identifiers.driverVersion = b"580.105.08"
    return made


def dcgmGroupCreate(dcgm_handle: Any, type: int, groupName: str) -> ctypes.c_void_p:
    _scenario(dcgm_handle)
    assert type == dcgm_structs.DCGM_GROUP_DEFAULT
    return ctypes.c_void_p(7)


def dcgmFieldGroupCreate(
    dcgm_handle: Any, fieldIds: list[int], fieldGroupName: str
) -> ctypes.c_void_p:
    _scenario(dcgm_handle)
    if not fieldIds or any(dcgm_fields.DcgmFieldGetById(one) is None for one in fieldIds):
        raise dcgm_structs.DCGMError(-1)
    calls.append(("dcgmFieldGroupCreate", list(fieldIds)))
    return ctypes.c_void_p(8)


def dcgmWatchFields(
    dcgm_handle: Any,
    groupId: Any,
    fieldGroupId: Any,
    updateFreq: int,
    maxKeepAge: float,
    maxKeepSamples: int,
) -> int:
    assert (groupId.value, fieldGroupId.value) == (7, 8)
    ctypes.c_int64(updateFreq), ctypes.c_double(maxKeepAge), ctypes.c_int32(maxKeepSamples)
    calls.append(("dcgmWatchFields", updateFreq))
    return 0


def dcgmUpdateAllFields(dcgm_handle: Any, waitForUpdate: int) -> int:
    calls.append(("dcgmUpdateAllFields", waitForUpdate))
    return 0


def dcgmEntityGetLatestValues(
    dcgmHandle: Any, entityGroup: int, entityId: int, fieldIds: list[int]
) -> Any:
    found = _scenario(dcgmHandle)["gpu"][str(entityId)]
    assert entityGroup == dcgm_fields.DCGM_FE_GPU
    if found.get("error"):
        raise dcgm_structs.DCGMError(found["error"])
    values = (dcgm_structs.c_dcgmFieldValue_v1 * len(fieldIds))()
    for one, number in zip(values, fieldIds, strict=True):
        entry = found["fields"].get(str(number), [0, -16, 0.0])
        value, status, age = entry if isinstance(entry, list) else (entry, 0, 0.0)
        one.fieldId, one.status = number, status
        one.ts = int((time.time() - age) * 1e6)
        if isinstance(value, float):
            one.fieldType, one.value.dbl = ord("d"), value
        elif isinstance(value, str):
            one.fieldType, one.value.str = ord("s"), value.encode()
        else:
            one.fieldType, one.value.i64 = ord("i"), value
    return values
