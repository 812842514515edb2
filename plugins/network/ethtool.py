"""Statistics of NICs, as `ethtool -S` and `ethtool -I` show them: by netlink and by ioctl."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Link, SeriesKey
from collector.catalog import network
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from collector.plugin import Plugin
from collector.read.counter import Counter
from collector.read.files import Files, record
from plugins.network._driver import Table
from plugins.network._netlink import NOT_SET, Netlink, Statistic
from plugins.network._physical import FOLDER, chosen, device
from plugins.network._vocabulary import Meaning, of_driver, of_kernel

# Names that one interface may add where the config says `all`: a driver has some 20 a queue.
_MOST_OTHERS = 4096


class _Nic:
    """One interface: its table of statistics, and what has become of each of them."""

    def __init__(self, name: str, driver: str, host: Entity, others: bool) -> None:
        self.name = name
        self.driver = driver
        self.entity = Kind.INTERFACE(*host.key, name)
        self.link = Link(self.entity, host, 1.0)
        self.table = Table(name)
        self.raw: list[int] = []
        self.standard: dict[Statistic, int] = {}
        self._others = others
        self._names: list[str] = []
        self._meanings: list[tuple[int, Meaning]] = []
        self._counters: dict[SeriesKey, Counter] = {}
        self._bits: dict[Metric, float] = {}

    def read(self, netlink: Netlink | None) -> dict[SeriesKey, float]:
        """Read all statistics that have a metric.

        Raises:
            OSError: The interface could not be asked.
            ValueError: What it answered makes no sense.
        """
        self.raw = self.table.read()
        # What the driver calls by a name of its own is better documented: it goes first.
        self.standard = {} if netlink is None else netlink.read(self.name)
        if self.table.names is not self._names:
            self._names = self.table.names
            self._meanings = list(self._understand())
        found: dict[SeriesKey, float] = {}
        for index, meaning in self._meanings:
            self._add(found, meaning, self.raw[index])
        for statistic, value in self.standard.items():
            if (standard := of_kernel(statistic)) is not None:
                self._add(found, standard, value)
        found.update(self._bit_error_rate(found))
        return found

    def _understand(self) -> Iterator[tuple[int, Meaning]]:
        others: set[str] = set()
        for index, name in enumerate(self._names):
            if (meaning := of_driver(self.driver, name)) is not None:
                yield index, meaning
            elif self._others and name not in others and len(others) < _MOST_OTHERS:
                others.add(name)
                yield index, Meaning(network.DRIVER_STATISTIC, (name,))

    def _add(self, found: dict[SeriesKey, float], meaning: Meaning, raw: int) -> None:
        key = SeriesKey(meaning.metric, self.entity, meaning.labels)
        if key in found or raw == NOT_SET:
            return
        value: float = raw
        if meaning.metric.instrument is COUNTER:
            value = self._counters.setdefault(key, Counter()).update(raw)
        elif meaning.metric is network.PCI_STALLED and raw > meaning.divisor:
            return  # no percentage
        found[key] = value / meaning.divisor if meaning.divisor != 1 else value

    def _bit_error_rate(self, found: Mapping[SeriesKey, float]) -> dict[SeriesKey, float]:
        now = {
            metric: found[SeriesKey(metric, self.entity, ())]
            for metric in (network.FEC_BITS_CORRECTED, network.LINE_IO)
            if SeriesKey(metric, self.entity, ()) in found
        }
        before, self._bits = self._bits, now
        if not len(now) == len(before) == 2:
            return {}
        errors, received = (now[metric] - before[metric] for metric in now)
        bits = 8 * received
        # 0 bits: a link that is down; more errors than bits: one of the two was reset.
        if not 0 <= errors <= bits or not bits:
            return {}
        return {SeriesKey(network.BIT_ERROR_RATE, self.entity, ()): errors / bits}


class Ethtool(Plugin):
    """Reads what NICs count: RDMA traffic, pauses, discards, congestion, errors, PCIe stalls.

    Statistics that a driver names itself are understood for mlx5, bnxt, ice, ena and gve; those
    that the kernel standardised (IEEE 802.3, RMON, pause, FEC) for all drivers. One poll holds the
    kernel's network lock for as long as the driver asks its firmware, some milliseconds a NIC.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        network.PHY_IO,
        network.PHY_PACKETS,
        network.PHY_ERRORS,
        network.LINE_IO,
        network.FEC_BITS_CORRECTED,
        network.FEC_BLOCKS,
        network.BIT_ERROR_RATE,
        network.LINK_DOWN_EVENTS,
        network.RDMA_IO,
        network.RDMA_PACKETS,
        network.PRIORITY_IO,
        network.PRIORITY_PACKETS,
        network.PAUSE_PACKETS,
        network.PAUSE_TIME,
        network.PAUSE_STORMS,
        network.DISCARDS,
        network.ECN_MARKED,
        network.ALLOWANCE_EXCEEDED,
        network.TRANSMIT_TIMEOUTS,
        network.PCI_STALLED,
        network.PCI_STALL_TIME,
        network.PCI_ERRORS,
        network.MODULE_EVENTS,
        network.CONTROL_PACKETS,
        network.DRIVER_STATISTIC,
    )

    root: Path = Field(default=Path("/"), description="Where `sys` is.")
    include: list[str] = Field(
        default=[],
        description="Interfaces to read, as shell patterns: eth*; those with a device if empty.",
    )
    exclude: list[str] = Field(default=[], description="Interfaces to leave alone.")
    all: bool = Field(
        default=False,
        description="Pass on, too, what drivers count under names that have no metric.",
    )

    _files: Files = PrivateAttr()
    _netlink: Netlink | None = PrivateAttr(default=None)
    _nics: list[_Nic] = PrivateAttr(default_factory=list)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the host has a physical interface."""
        return [{}] if chosen(Files(Path("/")), [], []) else []

    def open(self) -> None:
        """Open a socket to the kernel; one before Linux 5.6 has no ethtool by netlink."""
        self._files = Files(self.root)
        try:
            self._netlink = Netlink()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
                raise

    def poll(self, batch: Batch) -> None:
        """Read all interfaces; one that fails does not keep the others from being read.

        Raises:
            FileNotFoundError: There is no interface to read.
        """
        if self._files.changed(FOLDER):
            self._discover(batch.host)
        if not self._nics:
            text = "no physical interface: name others by include in the config"
            raise FileNotFoundError(f"{self.root / FOLDER} has {text}")
        for nic in self._nics:
            try:
                found = nic.read(self._netlink)
            except (OSError, ValueError) as error:
                batch.failed(nic.entity, error)
                continue
            batch.extend(list(found), list(found.values()))
            batch.extend_links([nic.link])

    def close(self) -> None:
        """Close files and sockets."""
        self._files.close()
        while self._nics:
            self._nics.pop().table.close()
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def record(self, folder: Path) -> None:
        """Save what one poll reads: the files, and the statistics as `statistics.toml`."""

        def files() -> Files:
            path = folder / "input" / "statistics.toml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(_written(nic) for nic in self._nics))
            return self._files

        record(self, files, folder)

    def _discover(self, host: Entity) -> None:
        before = {nic.name: nic for nic in self._nics}
        self._nics = []
        for name in chosen(self._files, self.include, self.exclude):
            driver = device(self._files, name)[0]
            nic = before.get(name)
            if nic is not None and nic.driver == driver:
                self._nics.append(before.pop(name))
            else:
                self._nics.append(_Nic(name, driver, host, self.all))
        for nic in before.values():
            nic.table.close()


def _written(nic: _Nic) -> str:
    name = json.dumps(nic.name)
    own = zip(nic.table.names, nic.raw, strict=True)
    lines = [f"[driver.{name}]"]
    lines += [f"{json.dumps(one)} = {value}" for one, value in dict(own).items()]
    lines += [f"[standard.{name}]"]
    lines += [f'"{one.group}.{one.number}" = {value}' for one, value in nic.standard.items()]
    return "\n".join(lines) + "\n"
