"""Ports of RDMA devices (InfiniBand, RoCE, EFA), through /sys/class/infiniband."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Event, Link, SeriesKey, Severity
from collector.catalog import fabric
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.files import Files, record
from plugins.fabric._infiniband_port import Port

_FOLDER = "sys/class/infiniband"
_BYTES_PER_GIGABIT = 1e9 / 8


class _Place:
    """A port with what does not change while its link is as it is."""

    def __init__(self, files: Files, device: str, number: str, host: Entity, retry: float) -> None:
        self.base = f"{_FOLDER}/{device}"
        self.driver = Path(files.resolve(f"{self.base}/device/driver") or "").name
        entity = Kind.PORT(*host.key, f"{device}/{number}")
        path = f"{self.base}/ports/{number}"
        self.port = Port(files, path, entity, self.driver, retry)
        self.hca = files.text(f"{self.base}/hca_type") or files.text(f"{self.base}/board_id")
        self.links: list[Link] = []
        self.infos: list[SeriesKey] = []

    def describe(self, files: Files, host: Entity) -> None:
        """Read names and addresses. `lid` is a command to the firmware, the others are not."""
        base, path, entity = self.base, self.port.path, self.port.entity
        layer = (files.text(f"{path}/link_layer").split("\n") or [""])[0].strip()
        netdev = ""
        if layer == "Ethernet":
            netdev = files.text(f"{path}/gid_attrs/ndevs/0")
        names = files.names(f"{base}/device/net")
        if not netdev and len(names) == 1:
            netdev = names[0]
        answers = self.port.rate is not None or not (files.root / path / "rate").exists()
        labels = (
            self.driver,
            *(files.text(f"{base}/{name}") for name in ("fw_ver", "board_id", "hca_type")),
            files.text(f"{base}/node_guid"),
            layer,
            files.text(f"{path}/lid") if answers else "",
            netdev,
        )
        self.infos = [SeriesKey(fabric.PORT_INFO, entity, labels)]
        self.links = [Link(entity, host, 1.0)]
        if netdev and layer == "Ethernet":
            self.links.append(Link(entity, Kind.INTERFACE(*host.key, netdev), 1.0))


class Infiniband(Plugin):
    """Reads state, rate, traffic and errors of each port.

    A poll asks the firmware once for each counter of `counters` (about 20 a port), once for all
    of `hw_counters`, and three times for the link; so it is polled every 5 s and not every second.
    Devices that are excluded are not touched at all. EFA's driver says always that the link is
    active and runs at 100 Gb/s: for it there is neither state nor rate.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        fabric.PORT_INFO,
        fabric.PORT_STATE,
        fabric.PORT_PHYS_STATE,
        fabric.PORT_RATE,
        fabric.PORT_RATE_EXPECTED,
        fabric.PORT_IO,
        fabric.PORT_PACKETS,
        fabric.PORT_CAST_PACKETS,
        fabric.PORT_ERRORS,
        fabric.PORT_ERRORS_SATURATED,
        fabric.PORT_TRANSMIT_WAIT,
        fabric.PORT_FLAPS,
        fabric.PORT_RDMA_ERRORS,
        fabric.PORT_CONGESTION_PACKETS,
        fabric.PORT_RDMA_REQUESTS,
    )

    interval: float = Field(default=5.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `sys` is.")
    include: list[str] = Field(
        default=["*"], description="Devices to read, as shell patterns: mlx5_[0-7]."
    )
    exclude: list[str] = Field(
        default=[],
        description="Devices to leave alone, such as those that a Fabric Manager holds.",
    )
    expected_rate: float | None = Field(
        default=None,
        gt=0,
        description="Gb/s at which each port should run; else the highest rate seen on ports of "
        "the same HCA type on this host.",
    )
    retry: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds for which what the driver refused is left alone.",
    )

    _files: Files = PrivateAttr()
    _places: list[_Place] = PrivateAttr(default_factory=list)
    _best: dict[str, float] = PrivateAttr(default_factory=dict)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the host has an RDMA device."""
        return [{}] if Files(Path("/")).names(_FOLDER) else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all ports; one that fails does not keep the others from being read.

        Raises:
            FileNotFoundError: There is no device, or none that is included.
        """
        if self._files.changed(_FOLDER):
            kept = {place.port.entity: place for place in self._places}
            found = list(self._discover(batch.host))
            self._places = [kept.get(place.port.entity, place) for place in found]
            for gone in kept.keys() - {place.port.entity for place in self._places}:
                text = f"{gone.key[1]} is no longer among the ports that the kernel lists"
                batch.event(Event("port.lost", gone, batch.at, Severity.ERROR, text))
        if not self._places:
            text = "no device: load an RDMA driver, or see include and exclude in the config"
            raise FileNotFoundError(f"{self.root / _FOLDER} has {text}")
        for place in self._places:
            port = place.port
            try:
                came_up = port.poll(batch)
            except (OSError, ValueError) as error:
                batch.failed(port.entity, error)
                came_up = False
            if not place.infos or came_up:
                place.describe(self._files, batch.host)
            if port.rate is not None:
                self._best[place.hca] = max(port.rate, self._best.get(place.hca, 0.0))
            batch.extend(place.infos, [1.0])
            batch.extend_links(place.links)
        for place in self._places:
            expected = self._best.get(place.hca)
            if self.expected_rate is not None:
                expected = self.expected_rate * _BYTES_PER_GIGABIT
            if place.port.rate is not None:
                batch.add(fabric.PORT_RATE_EXPECTED, place.port.entity, expected)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)

    def _discover(self, host: Entity) -> Iterator[_Place]:
        for device in self._files.names(_FOLDER):
            if not any(fnmatchcase(device, pattern) for pattern in self.include):
                continue
            if any(fnmatchcase(device, pattern) for pattern in self.exclude):
                continue
            for number in self._files.names(f"{_FOLDER}/{device}/ports"):
                yield _Place(self._files, device, number, host, self.retry)
