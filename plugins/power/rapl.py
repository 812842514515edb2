"""Energy of processors and memory by RAPL, through /sys/class/powercap."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import power
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.counter import Counter
from collector.read.files import Files, record

_FOLDER = "sys/class/powercap"
_ZONE = re.compile(r"(intel-rapl(?:-mmio)?):\d+(?::\d+)?")
_MICRO = 1_000_000  # energy_uj is in µJ (Documentation/power/powercap/powercap.rst)

# No zone draws more. A counter that fell without having wrapped would look as if it had.
_MOST_WATTS = 10_000.0


@dataclass
class _Zone:
    """A zone, its counter, and the last reading: µJ, and seconds since the epoch."""

    path: str
    entity: Entity
    domain: str
    span: int
    counter: Counter
    resets: int = 0
    raw: int = 0
    at: float = 0.0


class Rapl(Plugin):
    """Reads the energy counter of each RAPL zone.

    A package contains its core and uncore zones but not its dram, and psys contains all; AMD's core
    zone is one core of the package. Nothing is added up here. A counter wraps after
    `max_energy_range_uj`: 262 kJ, that is 12.5 minutes at 350 W. A longer pause loses energy.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (power.CPU_ENERGY,)

    interval: float = Field(default=1.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `sys` is.")

    _files: Files = PrivateAttr()
    _zones: dict[str, _Zone] = PrivateAttr(default_factory=dict)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the host has a RAPL zone."""
        return [{}] if _zone_names(Files(Path("/"))) else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all zones.

        Raises:
            FileNotFoundError: There are no zones.
            OSError: None could be read; the message says what would help.
        """
        files = self._files
        if files.changed(_FOLDER):
            before = self._zones
            self._zones = {zone.path: zone for zone in self._discover(batch.host)}
            # The totals go on where the zone is the same.
            self._zones.update((path, before[path]) for path in before.keys() & self._zones.keys())
        if not self._zones:
            raise FileNotFoundError(
                f"{self.root / _FOLDER} has no zone intel-rapl:*: "
                "load the module intel_rapl_msr, or disable this source in a virtual machine"
            )
        errors: list[Exception] = []
        for zone in self._zones.values():
            batch.link(zone.entity, batch.host)
            try:
                raw = files.number(zone.path)
                if raw is not None:
                    joules = _total(zone, raw, batch.at) / _MICRO
                    batch.add(power.CPU_ENERGY, zone.entity, joules, zone.domain)
            except (OSError, ValueError) as error:
                errors.append(error)
                batch.failed(zone.entity, error)
        if len(errors) == len(self._zones):
            raise errors[0]

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)

    def _discover(self, host: Entity) -> Iterator[_Zone]:
        seen: set[str] = set()
        names: dict[str, str] = {}
        for zone in _zone_names(self._files):
            name = self._files.text(f"{_FOLDER}/{zone}/name") or zone
            parent = zone.rpartition(":")[0]
            full = f"{names[parent]}/{name}" if parent in names else name
            # Two packages of one name would be one series.
            names[zone] = full if full not in seen else f"{full}#{zone.partition(':')[2]}"
            seen.add(full)
            most = self._files.number(f"{_FOLDER}/{zone}/max_energy_range_uj")
            yield _Zone(
                path=f"{_FOLDER}/{zone}/energy_uj",
                entity=Kind.CPU(*host.key, names[zone]),
                domain=name.partition("-")[0],
                span=most + 1 if most else 0,
                counter=Counter(modulo=most + 1 if most else None),
            )


def _zone_names(files: Files) -> list[str]:
    """Zones in order. The same packages can be there through MSR and MMIO: MSR has all domains."""
    found = [name for name in files.names(_FOLDER) if _ZONE.fullmatch(name)]
    return [name for name in found if name.startswith("intel-rapl:")] or found


def _total(zone: _Zone, raw: int, at: float) -> float:
    """Take a reading; a fall is a wrap unless that would mean an impossible power."""
    if raw < zone.raw and at > zone.at:
        watts = (raw - zone.raw + zone.span) / _MICRO / (at - zone.at)
        zone.resets += watts > _MOST_WATTS
    zone.raw, zone.at = raw, at
    return zone.counter.update(raw, birth=zone.resets)
