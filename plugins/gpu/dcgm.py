"""NVIDIA GPUs by DCGM's hostengine, through the Python bindings that DCGM installs.

How it is tested: specified, against bindings of our own with the published signatures
(github.com/NVIDIA/DCGM, testing/python3/dcgm_agent.py); not run against a hostengine yet.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field as Setting
from pydantic import PrivateAttr

from collector.batch import Batch
from collector.catalog import gpu
from collector.childmain import doing
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from plugins.gpu._dcgm_fields import BY_ID, METRICS, XID
from plugins.gpu._dcgm_samples import Reading, Samples
from plugins.gpu.nvml import Nvml

_PLACES = (
    "/usr/share/datacenter-gpu-manager-4/bindings/python3",
    "/usr/local/dcgm/bindings/python3",
)
_MICRO = 1e6  # us in a s
_STALE = 3  # intervals after which a value that was not renewed is none

# dcgm_structs.h, dcgmReturn_t
_VERSION_MISMATCH, _CONNECTION_NOT_VALID, _LIBRARY_NOT_FOUND = -12, -21, -25
_MENDS = {
    _LIBRARY_NOT_FOUND: "libdcgm is not found: install datacenter-gpu-manager beside its bindings",
    _CONNECTION_NOT_VALID: "no hostengine answers at {target}: start nvidia-dcgm.service "
    "(nv-hostengine), or set target",
    _VERSION_MISMATCH: "the bindings in {bindings} are of another version than libdcgm or the "
    "hostengine at {target}: set bindings to those of the running release",
}
_RECORDED = Kind.HOST("recorded")
_INT64, _DOUBLE = ord("i"), ord("d")  # dcgm_fields.h, DCGM_FT_*


class DcgmError(Exception):
    """DCGM cannot be used; the message says why, and what to do."""


class _Gpu(NamedTuple):
    entity: Entity
    info: tuple[str, ...]


class Dcgm(Plugin):
    """All NVIDIA GPUs of one DCGM hostengine.

    The hostengine is asked to watch the fields, and does so for as long as this is connected. Where
    NVML reads the same GPUs its values count. It is not detected: on Hopper and later NVML gives
    all of this by itself; before, `profiling` adds what NVML cannot count.
    """

    driver_bound: ClassVar[bool] = True
    precedence: ClassVar[int] = -1
    metrics: ClassVar[tuple[Metric, ...]] = (*METRICS, gpu.COUNT)

    target: str = Setting(
        default="127.0.0.1:5555", description="Address and port of nv-hostengine."
    )
    interval: float = Setting(default=10.0, gt=0, description="Seconds between two polls.")
    bindings: str = Setting(
        default="",
        description="Folder that holds dcgm_agent.py; by default where DCGM 4 or 3 installs it.",
    )
    profiling: bool = Setting(
        default=False,
        description="Watch what profiling counts, too. Before Hopper that takes the profiling "
        "hardware, which Nsight and others then cannot use.",
    )
    host: str = Setting(
        default="", description="Name of the host whose GPUs these are; by default this one."
    )

    _agent: Any = PrivateAttr(default=None)
    _handle: Any = PrivateAttr(default=None)
    _folder: str = PrivateAttr(default="")
    _fields: list[int] = PrivateAttr(default_factory=list)
    _ids: list[int] = PrivateAttr(default_factory=list)
    _gpus: dict[int, _Gpu] = PrivateAttr(default_factory=dict)
    _samples: Samples = PrivateAttr(default_factory=Samples)
    _nvml: bool = PrivateAttr(default=False)

    def open(self) -> None:
        """Load the bindings, connect, and have the fields watched.

        Raises:
            DcgmError: There are no bindings, no libdcgm, or no hostengine.
        """
        self._folder = self.bindings or next(filter(_is_there, _PLACES), "")
        if not self._folder or not _is_there(self._folder):
            raise DcgmError(
                f"no dcgm_agent.py in {self._folder or ' or '.join(_PLACES)}: install "
                "datacenter-gpu-manager-4-core, or set bindings"
            )
        if self._folder not in sys.path:
            sys.path.insert(0, self._folder)  # its modules import each other by their bare names
        try:
            self._agent = importlib.import_module("dcgm_agent")
        except Exception as error:
            raise DcgmError(f"the bindings in {self._folder} cannot be used: {error!r}") from error
        structs, known = self._agent.dcgm_structs, self._agent.dcgm_fields
        self._nvml = bool(Nvml.detect())
        doing("dcgmConnect_v2")
        try:
            structs._dcgmInit()  # noqa: SLF001 - there is no public way to load the library
            self._agent.dcgmInit()
            parameters = structs.c_dcgmConnectV2Params_v2()
            parameters.timeoutMs = int(self.timeout * 1000)
            self._handle = self._agent.dcgmConnect_v2(self.target, parameters)
            wanted = [one for one, field in BY_ID.items() if self.profiling or not field.profiling]
            # A hostengine that is older than a field refuses the whole group.
            self._fields = [one for one in wanted if known.DcgmFieldGetById(one) is not None]
            self._watch()
        except structs.DCGMError as error:
            raise self._explained(error) from error

    def poll(self, batch: Batch) -> None:
        """Read the latest values.

        Raises:
            DcgmError: The connection is lost.
        """
        agent, structs = self._agent, self._agent.dcgm_structs
        doing("dcgmGetAllSupportedDevices")
        try:
            ids = list(agent.dcgmGetAllSupportedDevices(self._handle))
            if ids != self._ids:
                self._identify(ids, batch.host)
        except structs.DCGMError as error:
            raise self._explained(error) from error
        host = Kind.HOST(self.host) if self.host else batch.host
        batch.add(gpu.COUNT, host, float(len(ids)))
        readings: list[Reading] = []
        for number, one in self._gpus.items():
            batch.link(one.entity, host)
            if not self._nvml or host != batch.host:  # one GPU must not have two descriptions
                batch.add(gpu.INFO, one.entity, 1.0, *one.info)
            doing(f"dcgmEntityGetLatestValues of {one.entity.key[1]}")
            try:
                values = self._latest(number)
            except structs.DCGMError as error:
                if error.value == _CONNECTION_NOT_VALID:
                    raise self._explained(error) from error
                batch.failed(one.entity, DcgmError(f"dcgmEntityGetLatestValues: {error}"))
                continue
            readings += self._read(values, one, batch.at)
        self._samples.add(batch, readings)

    def close(self) -> None:
        """Disconnect; the hostengine then ends the watches."""
        if self._handle is not None:
            self._agent.dcgmDisconnect(self._handle)
            self._handle = None

    def record(self, folder: Path) -> None:
        """Save the latest values, UUIDs included, as `input/hostengine.toml`."""
        self.open()
        try:
            self._identify(list(self._agent.dcgmGetAllSupportedDevices(self._handle)), _RECORDED)
            path = folder / "input" / "hostengine.toml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(map(self._toml, self._gpus)), encoding="utf-8")
        finally:
            self.close()

    def _toml(self, number: int) -> str:
        (entity, info) = self._gpus[number]
        lines = [f"[gpu.{number}]", f'uuid = "{entity.key[1]}"', f'model = "{info[1]}"']
        lines += [f'bus_id = "{info[3]}"', f"[gpu.{number}.fields]"]
        for one in self._latest(number):
            value = one.value.dbl if one.fieldType == _DOUBLE else one.value.i64
            lines.append(f"{one.fieldId} = [{value}, {one.status}, 0.0]")
        return "\n".join(lines) + "\n"

    def _watch(self) -> None:
        """Have all fields of all GPUs watched at our pace, and wait for their first values."""
        agent = self._agent
        name = f"w2t-{id(self)}-{len(self._ids)}"
        group = agent.dcgmGroupCreate(self._handle, agent.dcgm_structs.DCGM_GROUP_DEFAULT, name)
        fields = agent.dcgmFieldGroupCreate(self._handle, self._fields, name)
        kept = _STALE * self.interval
        agent.dcgmWatchFields(self._handle, group, fields, int(self.interval * _MICRO), kept, 0)
        doing("dcgmUpdateAllFields")
        agent.dcgmUpdateAllFields(self._handle, 1)

    def _identify(self, ids: list[int], here: Entity) -> None:
        if self._ids:  # the group holds the GPUs that there were
            self._watch()
        self._gpus = {}
        for number in ids:
            said = self._agent.dcgmGetDeviceAttributes(self._handle, number).identifiers
            domain, _, rest = _text(said.pciBusId).lower().partition(":")
            info = (
                str(number),
                _text(said.deviceName),
                _text(said.serial),
                f"{domain[-4:]}:{rest}" if rest else "",
                _text(said.driverVersion),
                _text(said.vbios),
            )
            entity = Kind.GPU(self.host or here.key[0], _text(said.uuid))
            self._gpus[number] = _Gpu(entity, info)
        self._ids = ids

    def _latest(self, number: int) -> Any:  # noqa: ANN401 - an array of ctypes
        agent = self._agent
        return agent.dcgmEntityGetLatestValues(
            self._handle, agent.dcgm_fields.DCGM_FE_GPU, number, self._fields
        )

    def _read(self, values: Any, one: _Gpu, now: float) -> Iterator[Reading]:  # noqa: ANN401 - ctypes
        for value in values:
            if value.status != 0 or value.fieldType not in (_INT64, _DOUBLE):
                continue
            number = value.value.dbl if value.fieldType == _DOUBLE else value.value.i64
            at = value.ts / _MICRO
            # An Xid keeps the time at which it came; all else is read anew at each interval.
            if value.fieldId == XID or at > now - _STALE * self.interval - self.timeout:
                yield Reading(BY_ID[value.fieldId], one.entity, float(number), one.info[1], at)

    def _explained(self, error: Any) -> DcgmError:  # noqa: ANN401 - a class of the bindings
        mend = _MENDS.get(error.value, f"DCGM: {error}")
        return DcgmError(mend.format(target=self.target, bindings=self._folder))


def _is_there(folder: str) -> bool:
    return Path(folder, "dcgm_agent.py").exists()


def _text(value: bytes | str) -> str:
    """Give a string of the bindings, which release 3 does not decode."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return "" if text == "<<<NULL>>>" else text
