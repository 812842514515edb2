"""Interfaces of the host: traffic, errors, state and rate, through /sys/class/net."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Event, Link, SeriesKey, Severity
from collector.catalog import network
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.counter import Counter
from collector.read.files import Files, record
from plugins.network._physical import FOLDER, chosen, device

# Documentation/ABI/testing/sysfs-class-net and sysfs-class-net-statistics
_COUNTERS: tuple[tuple[str, Metric, tuple[str, ...]], ...] = (
    ("statistics/rx_bytes", network.IO, ("receive",)),
    ("statistics/tx_bytes", network.IO, ("transmit",)),
    ("statistics/rx_packets", network.PACKETS, ("receive",)),
    ("statistics/tx_packets", network.PACKETS, ("transmit",)),
    ("statistics/rx_errors", network.ERRORS, ("receive",)),
    ("statistics/tx_errors", network.ERRORS, ("transmit",)),
    ("statistics/rx_dropped", network.DROPS, ("receive",)),
    ("statistics/tx_dropped", network.DROPS, ("transmit",)),
    ("carrier_changes", network.CARRIER_CHANGES, ()),
)
# net/core/net-sysfs.c, operstates
_STATES = (
    "unknown",
    "notpresent",
    "down",
    "lowerlayerdown",
    "testing",
    "dormant",
    "up",
)
_BYTES_PER_MEGABIT = 1e6 / 8
_UNKNOWN_SPEED = frozenset({-1, 0, 65535, 0xFFFFFFFF})  # SPEED_UNKNOWN, as 16 or 32 bits too


class _Interface(NamedTuple):
    name: str
    entity: Entity
    link: Link
    info: SeriesKey
    states: list[SeriesKey]
    counters: list[tuple[str, SeriesKey, Counter]]


class Interfaces(Plugin):
    """Reads what the kernel counts for each physical interface.

    Traffic of RDMA does not go through the kernel and is not in it: see the plugins `infiniband`
    and `ethtool`.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        network.INFO,
        network.STATE,
        network.RATE,
        network.MTU,
        network.CARRIER_CHANGES,
        network.IO,
        network.PACKETS,
        network.ERRORS,
        network.DROPS,
    )

    interval: float = Field(default=5.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `sys` is.")
    include: list[str] = Field(
        default=[],
        description="Interfaces to read, as shell patterns: bond*; those with a device if empty.",
    )
    exclude: list[str] = Field(default=[], description="Interfaces to leave alone.")

    _files: Files = PrivateAttr()
    _interfaces: list[_Interface] = PrivateAttr(default_factory=list)
    _last: dict[Entity, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the host has a physical interface."""
        return [{}] if chosen(Files(Path("/")), [], []) else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all interfaces; one that fails does not keep the others from being read.

        Raises:
            FileNotFoundError: There is no interface to read.
        """
        if self._files.changed(FOLDER):
            kept = {interface.entity: interface for interface in self._interfaces}
            found = self._discover(batch.host)
            self._interfaces = [kept.get(interface.entity, interface) for interface in found]
        if not self._interfaces:
            text = "no physical interface: name others by include in the config"
            raise FileNotFoundError(f"{self.root / FOLDER} has {text}")
        for interface in self._interfaces:
            try:
                self._read(batch, interface)
            except (OSError, ValueError) as error:
                batch.failed(interface.entity, error)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)

    def _discover(self, host: Entity) -> Iterator[_Interface]:
        for name in chosen(self._files, self.include, self.exclude):
            entity = Kind.INTERFACE(*host.key, name)
            yield _Interface(
                name,
                entity,
                Link(entity, host, 1.0),
                SeriesKey(network.INFO, entity, device(self._files, name)),
                [SeriesKey(network.STATE, entity, (state,)) for state in _STATES],
                [
                    (f"{FOLDER}/{name}/{file}", SeriesKey(metric, entity, labels), Counter())
                    for file, metric, labels in _COUNTERS
                ],
            )

    def _read(self, batch: Batch, interface: _Interface) -> None:
        number, path = self._files.number, f"{FOLDER}/{interface.name}"
        keys, values = [interface.info], [1.0]
        batch.extend_links([interface.link])
        try:
            for file, key, counter in interface.counters:
                if (raw := number(file)) is not None:
                    keys.append(key)
                    values.append(counter.update(raw))
        finally:
            batch.extend(keys, values)
        batch.add(network.MTU, interface.entity, number(f"{path}/mtu"))
        # The kernel refuses to tell the speed of an interface that is down.
        speed = number(f"{path}/speed")
        if speed is not None and speed not in _UNKNOWN_SPEED:
            batch.add(network.RATE, interface.entity, speed * _BYTES_PER_MEGABIT)
        self._read_state(batch, interface)

    def _read_state(self, batch: Batch, interface: _Interface) -> None:
        data = self._files.read(f"{FOLDER}/{interface.name}/operstate")
        state = (data or b"").decode(errors="replace").strip()
        if state not in _STATES:
            return
        batch.extend(interface.states, [float(state == one) for one in _STATES])
        entity = interface.entity
        before = self._last.get(entity, state)
        self._last[entity] = state
        if "up" in (before, state) and before != state:
            name = "up" if state == "up" else "down"
            severity = Severity.INFO if state == "up" else Severity.ERROR
            text = f"{interface.name} is {state}, it was {before}"
            batch.event(Event(f"interface.{name}", entity, batch.at, severity, text))
