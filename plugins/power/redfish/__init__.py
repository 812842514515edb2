"""BMCs, power shelves, rack PDUs and cooling units by Redfish (DMTF DSP0266)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr, field_validator

from collector.batch import Batch, SeriesKey
from collector.catalog import host, power, thermal
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.coolant import Coolant
from collector.read.snmp.energy import Energy
from collector.secret import Secret
from plugins.power.redfish import chassis, cooling, equipment, sensor
from plugins.power.redfish.client import Auth, Client
from plugins.power.redfish.reader import Reader
from plugins.power.redfish.record import Recorder
from plugins.power.redfish.transport import Transport, context
from plugins.power.redfish.walk import Reader as Read
from plugins.power.redfish.walk import Role, Walk

READERS: dict[Role, Read] = {
    Role.PDU: equipment.pdu,
    Role.PDU_METRICS: equipment.pdu_metrics,
    Role.MAINS: equipment.mains,
    Role.BRANCH: equipment.branch,
    Role.OUTLET: equipment.outlet,
    Role.POWER_SUPPLY: equipment.supply,
    Role.POWER_SUPPLY_METRICS: equipment.supply_metrics,
    Role.COOLING_UNIT: cooling.unit,
    Role.LOOP: cooling.loop,
    Role.PUMP: cooling.pump,
    Role.RESERVOIR: cooling.reservoir,
    Role.FILTER: cooling.filter_,
    Role.UNIT_ENVIRONMENT: cooling.environment,
    Role.CHASSIS: chassis.chassis,
    Role.CHASSIS_ENVIRONMENT: chassis.chassis_environment,
    Role.SENSOR: sensor.sensor,
    Role.POWER_SUBSYSTEM: chassis.power_subsystem,
    Role.THERMAL_SUBSYSTEM: chassis.thermal_subsystem,
    Role.THERMAL_METRICS: chassis.thermal_metrics,
    Role.FAN: chassis.fan,
    Role.LEAK_DETECTION: chassis.leak_detection,
    Role.LEAK_DETECTOR: chassis.leak_detector,
    Role.POWER: chassis.legacy_power,
    Role.THERMAL: chassis.legacy_thermal,
}


class Redfish(Plugin):
    """One Redfish service: that of a server, a power shelf, a rack PDU or a cooling unit.

    What it has is found by links. A BMC that takes minutes for an answer holds up nobody: what it
    said last is told with the time at which it was true, until that is long ago.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        power.PDU_INFO,
        power.PDU_POWER,
        power.PDU_OUTPUT_POWER,
        power.PDU_EFFICIENCY,
        power.PDU_APPARENT_POWER,
        power.PDU_POWER_FACTOR,
        power.PDU_ENERGY,
        power.INLET_POWER,
        power.INLET_APPARENT_POWER,
        power.INLET_CURRENT,
        power.INLET_CURRENT_LIMIT,
        power.INLET_VOLTAGE,
        power.INLET_POWER_FACTOR,
        power.INLET_FREQUENCY,
        power.INLET_ENERGY,
        power.PHASE_POWER,
        power.PHASE_APPARENT_POWER,
        power.PHASE_CURRENT,
        power.PHASE_VOLTAGE,
        power.PHASE_POWER_FACTOR,
        power.BREAKER_CURRENT,
        power.BREAKER_CURRENT_LIMIT,
        power.OUTLET_POWER,
        power.OUTLET_APPARENT_POWER,
        power.OUTLET_CURRENT,
        power.OUTLET_VOLTAGE,
        power.OUTLET_POWER_FACTOR,
        power.OUTLET_FREQUENCY,
        power.OUTLET_ENERGY,
        power.OUTLET_INFO,
        power.ENVIRONMENT_TEMPERATURE,
        power.ENVIRONMENT_HUMIDITY,
        power.POWER_SUPPLY_INFO,
        power.POWER_SUPPLY_INPUT_POWER,
        power.POWER_SUPPLY_INPUT_VOLTAGE,
        power.POWER_SUPPLY_INPUT_CURRENT,
        power.POWER_SUPPLY_OUTPUT_POWER,
        power.POWER_SUPPLY_OUTPUT_VOLTAGE,
        power.POWER_SUPPLY_OUTPUT_CURRENT,
        power.POWER_SUPPLY_ENERGY,
        power.POWER_SUPPLY_POWER_LIMIT,
        power.POWER_SUPPLY_TEMPERATURE,
        power.POWER_SUPPLY_STATE,
        power.POWER_SUPPLY_HEALTH,
        power.SENSOR_POWER,
        power.SENSOR_ENERGY,
        power.HOST_INPUT_POWER,
        power.SOURCE_CLOCK_OFFSET,
        host.SENSOR_INFO,
        host.TEMPERATURE,
        host.SENSOR_VOLTAGE,
        host.SENSOR_CURRENT,
        *(metric for metric in vars(thermal).values() if isinstance(metric, Metric)),
    )
    spread: ClassVar[float] = 1.0

    target: str = Field(description="Address of the service, or its URL; https unless it says.")
    user: str = Field(default="", description="User; empty where the service asks for none.")
    password: Secret | None = Field(default=None, description="Password of the user.")
    auth: Auth = Field(
        default="session",
        description="session, which falls back to basic where there are none, basic or none.",
    )
    verify: bool = Field(default=True, description="Check the service's certificate.")
    ca_file: Path | None = Field(default=None, description="Certificates to check it by.")
    host: str = Field(
        default="", description="host.name of the server; by default what the service says it is."
    )
    name: str = Field(
        default="", description="Name of the PDU or cooling unit; by default that of the target."
    )
    coolant: Coolant = Field(default="water", description="What flows in the loops.")
    slow_interval: float = Field(
        default=60.0, gt=0, description="Seconds between two reads of what changes rarely."
    )
    requests: int = Field(default=2, ge=1, le=8, description="Requests at once, at most.")
    request_timeout: float = Field(
        default=150.0, gt=0, description="Seconds that one answer may take; BMCs can take minutes."
    )

    _client: Client = PrivateAttr()
    _reader: Reader = PrivateAttr()
    _cycle: asyncio.Task[None] | None = PrivateAttr(default=None)
    _recorder: Recorder | None = PrivateAttr(default=None)

    @field_validator("target")
    @classmethod
    def _is_address(cls, target: str) -> str:
        url = urlsplit(_url(target))
        if url.scheme not in ("http", "https") or not url.hostname or url.username:
            raise ValueError(f"{target!r} is no address such as https://bmc-17")
        return target

    async def open(self) -> None:
        """Prepare; nothing is sent yet."""
        url = _url(self.target)
        tls = None
        if url.startswith("https:"):
            tls = await asyncio.to_thread(context, verify=self.verify, ca_file=self.ca_file)
        seen = self._recorder.save if self._recorder else None
        transport = Transport(url, tls, self.request_timeout, self.requests)
        transport.open()
        self._client = Client(transport, self.user, self.password, self.auth, seen)
        self._reader = Reader(
            self._client, self._walk, self.interval, self.slow_interval, self.requests
        )

    async def poll(self, batch: Batch) -> None:
        """Tell what is known; the cycle that reads it may take longer than a poll."""
        if self._cycle is None:
            self._cycle = asyncio.create_task(self._reader.cycle(self.timeout))
        await asyncio.wait({self._cycle}, timeout=0.9 * self.timeout)
        done = self._cycle.done()
        cycle, self._cycle = self._cycle, None if done else self._cycle
        if not self._tell(batch) and not done:
            raise TimeoutError(f"{self._client.url}: no answer so far; it is waited for")
        if done:
            for error in self._reader.errors:
                batch.failed(None, error)
            cycle.result()

    async def close(self) -> None:
        """Stop reading and log out."""
        if self._cycle is not None:
            self._cycle.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._cycle
            self._cycle = None
        await self._client.close()

    async def record(self, folder: Path) -> None:
        """Save all documents that discovery and one poll read."""
        self._recorder = Recorder(folder / "input" / "redfish")
        await self.open()
        try:
            while not self._reader.complete:
                await self._reader.cycle(self.timeout)
        finally:
            await self.close()
        await asyncio.to_thread(self._recorder.write)

    def _walk(self, energies: dict[SeriesKey, Energy]) -> Walk:
        address = str(urlsplit(_url(self.target)).hostname)
        return Walk(READERS, address, self.host, self.name, self.coolant, energies)

    def _tell(self, batch: Batch) -> bool:
        """Tell what is known; give whether there is a reading."""
        told = set()
        for key, value, at in self._reader.readings(time.monotonic()):
            told.add(key.entity)
            batch.add(*key[:2], value, *key.labels, at=at if at < batch.at else None)
        walk = self._reader.walk
        if walk is None:
            return False
        for info in walk.bindings.infos.values():
            if info.entity.kind is Kind.SENSOR and info.entity not in told:
                continue  # an empty bay has a sensor, too
            batch.add(info.metric, info.entity, 1.0, *info.labels)
        batch.extend_links(list(walk.bindings.links.values()))
        if self._client.clock.known:
            source = Kind.SOURCE("redfish", self.target)
            batch.add(power.SOURCE_CLOCK_OFFSET, source, self._client.clock.offset)
        return bool(told)


def _url(target: str) -> str:
    url = target if "://" in target else f"https://{target}"
    return url.rstrip("/").removesuffix("/redfish/v1").rstrip("/")
