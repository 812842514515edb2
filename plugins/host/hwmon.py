"""Sensors of the host by /sys/class/hwmon: temperatures, fans, power meters, rails."""

from __future__ import annotations

import re
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Link, SeriesKey
from collector.catalog import host, power
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.counter import Counter
from collector.read.files import Files, record

_FOLDER = "sys/class/hwmon"
_VALUE = re.compile(r"(temp|fan|in|curr|power|energy)\d+_(input|average)")
_PCI = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_ENUMERATED = re.compile(r"[a-z]+\d+")

_ACPI_METER = "power_meter"  # drivers/hwmon/acpi_power_meter.c
# NVIDIA Grace names its meters so (Grace Performance Tuning Guide, Power Telemetry).
_GRACE = re.compile(r"(Module|Grace|CPU|SysIO) Power Socket (\d+)")
# An ACPI meter without a name, or with one of these in it, measures what the machine takes in.
_WHOLE = re.compile(r"|.*\b(?:chassis|node|platform|server|system|total)\b.*", re.IGNORECASE)


class _Quantity(NamedTuple):
    """What an attribute is: its metric, units per base unit, and what a working sensor can read."""

    metric: Metric
    divisor: float
    low: float
    high: float
    sentinel: int | None = None


# Units by Documentation/hwmon/sysfs-interface.rst. The limits shut out what drivers hand through
# from a sensor that is not there: -128 and 255 °C (open diode), -273 (NVMe that reports 0 K), 127
# (an 8-bit register at its end), 65535 rpm (thinkpad_acpi), 0xffffffff mW (an ACPI meter that
# does not know, ACPI 6.5, 10.4.1).
_QUANTITIES = {
    "temp": _Quantity(host.TEMPERATURE, 1e3, -100_000, 250_000, sentinel=127_000),
    "fan": _Quantity(host.FAN_SPEED, 1, 0, 65_534),
    "in": _Quantity(host.SENSOR_VOLTAGE, 1e3, -1_000_000, 1_000_000),
    "curr": _Quantity(host.SENSOR_CURRENT, 1e3, -10_000_000, 10_000_000),
    "power": _Quantity(power.SENSOR_POWER, 1e6, 0, 1_000_000_000_000),
    "energy": _Quantity(power.SENSOR_ENERGY, 1e6, 0, float("inf")),
}


class _Sensor(NamedTuple):
    path: str
    fault: str | None
    quantity: _Quantity
    key: SeriesKey
    counter: Counter | None


class Hwmon(Plugin):
    """Reads each sensor of each hwmon chip.

    A sensor's `hw.id` is made of its device's address, not of `hwmonN`, which differs from boot to
    boot. Power meters can contain one another, so nothing is added up; `label` tells them apart.
    Each is one series: those of NVIDIA Grace are `w2t.cpu.power` of their socket, and an ACPI meter
    of the whole machine, if there is one alone, is `w2t.host.input_power`.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        *(quantity.metric for quantity in _QUANTITIES.values()),
        host.SENSOR_INFO,
        power.CPU_POWER,
        power.HOST_INPUT_POWER,
    )

    interval: float = Field(default=5.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `sys` is.")

    _files: Files = PrivateAttr()
    _sensors: list[_Sensor] = PrivateAttr()
    _infos: list[SeriesKey] = PrivateAttr()
    _links: list[Link] = PrivateAttr()
    _counters: dict[Entity, Counter] = PrivateAttr(default_factory=dict)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the host has a sensor."""
        files = Files(Path("/"))
        return [{}] if any(_folder(files, hwmon) for hwmon in files.names(_FOLDER)) else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all sensors.

        Raises:
            FileNotFoundError: There are no sensors.
        """
        if self._files.changed(_FOLDER):
            found = list(self._discover(batch.host))
            if sum(sensor.key.metric is power.HOST_INPUT_POWER for sensor, _ in found) > 1:
                # Which of them contains the others is not told.
                found = list(self._discover(batch.host, whole=False))
            self._sensors = [sensor for sensor, _ in found]
            self._infos = [
                SeriesKey(host.SENSOR_INFO, sensor.key.entity, info)
                for sensor, info in found
                if sensor.key.entity.kind is Kind.SENSOR
            ]
            parts = dict.fromkeys(sensor.key.entity for sensor in self._sensors)
            self._links = [Link(part, batch.host, 1.0) for part in parts if part != batch.host]
        if not self._sensors:
            raise FileNotFoundError(f"{self.root / _FOLDER} has no sensors: load a hwmon driver")
        number, keys, values = self._files.number, list[SeriesKey](), list[float]()
        for path, fault, (_, divisor, low, high, sentinel), key, counter in self._sensors:
            try:
                raw = number(path)
                if raw is None or not low <= raw <= high or raw == sentinel:
                    continue
                if fault is not None and number(fault):
                    continue
            except (OSError, ValueError) as error:
                batch.failed(key.entity, error)
                continue
            keys.append(key)
            values.append((raw if counter is None else counter.update(raw)) / divisor)
        batch.extend(keys, values)
        batch.extend(self._infos, [1.0] * len(self._infos))
        batch.extend_links(self._links)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)

    def _discover(
        self, host_: Entity, *, whole: bool = True
    ) -> Iterator[tuple[_Sensor, tuple[str, str, str]]]:
        """Yield each sensor with its driver, its name there and its label.

        Args:
            host_: This host.
            whole: Take an ACPI meter that can be of the whole machine for that.
        """
        files, chips, taken = self._files, Tally[str](), set[SeriesKey]()
        for hwmon in files.names(_FOLDER):
            folder = _folder(files, hwmon)
            if folder is None:
                continue
            names = files.names(folder)
            driver = files.text(f"{folder}/name")
            chip = _address(files.resolve(f"{_FOLDER}/{hwmon}/device"), driver or hwmon)
            chips[chip] += 1
            chip += f"#{chips[chip]}" if chips[chip] > 1 else ""
            for name in filter(_VALUE.fullmatch, names):
                sensor, _, kind = name.partition("_")
                if kind == "input" and f"{sensor}_average" in names:
                    continue
                quantity = _QUANTITIES[sensor.rstrip("0123456789")]
                entity = Kind.SENSOR(*host_.key, f"{chip}/{sensor}")
                labels = [n for n in (f"{sensor}_label", f"{sensor}_oem_info") if n in names]
                label = files.text(f"{folder}/{labels[0]}") if labels else ""
                key = SeriesKey(quantity.metric, entity, ())
                if driver == _ACPI_METER and (grace := _GRACE.fullmatch(label)):
                    socket = Kind.CPU(*host_.key, f"socket-{grace[2]}")
                    of_socket = SeriesKey(power.CPU_POWER, socket, (grace[1].lower(),))
                    key = of_socket if of_socket not in taken else key
                elif (
                    driver == _ACPI_METER
                    and whole
                    and _WHOLE.fullmatch(label)
                    and files.text(f"{folder}/{sensor}_is_battery") != "1"
                ):
                    key = SeriesKey(power.HOST_INPUT_POWER, host_, ("hwmon",))
                taken.add(key)
                counter = None
                if quantity.metric is power.SENSOR_ENERGY:
                    counter = self._counters.setdefault(entity, Counter())
                found = _Sensor(
                    path=f"{folder}/{name}",
                    fault=f"{folder}/{sensor}_fault" if f"{sensor}_fault" in names else None,
                    quantity=quantity,
                    key=key,
                    counter=counter,
                )
                yield found, (driver, sensor, label)


def _folder(files: Files, hwmon: str) -> str | None:
    """Find a chip's attributes: older drivers (acpi_power_meter) have them on the device."""
    for folder in (f"{_FOLDER}/{hwmon}", f"{_FOLDER}/{hwmon}/device"):
        if any(map(_VALUE.fullmatch, files.names(folder))):
            return folder
    return None


def _address(device: str | None, name: str) -> str:
    """Name a chip by what stays the same from boot to boot.

    That is the PCI address it sits at, if any, and its name on its bus (`3-0048`, `coretemp.0`)
    unless that is one the kernel counts up (`nvme0`), then the driver's name for it.
    """
    parts = (device or "").split("/")
    place = [part for part in parts if _PCI.fullmatch(part)][-1:]
    if parts[-1] not in place and not (place and _ENUMERATED.fullmatch(parts[-1])):
        place += [parts[-1]] if parts[-1] else []
    return "/".join(place if place and place[-1].startswith(name) else [*place, name])
