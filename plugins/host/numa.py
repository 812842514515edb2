"""NUMA nodes by /sys/devices/system/node: memory, and how allocations went."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import host
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.files import Files, field, record

_FOLDER = "sys/devices/system/node"
_NODE = re.compile(r"node(\d+)")
_KB = 1024  # what meminfo calls kB (Documentation/filesystems/proc.rst)


class Numa(Plugin):
    """Reads `meminfo` and `numastat` of each NUMA node (Documentation/admin-guide/numastat.rst)."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        host.NUMA_MEMORY_LIMIT,
        host.NUMA_MEMORY_FREE,
        host.NUMA_ALLOCATIONS,
    )

    interval: float = Field(default=5.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `sys` is.")

    _files: Files = PrivateAttr()
    _nodes: list[tuple[str, Entity]] = PrivateAttr()

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the kernel knows of NUMA."""
        return [{}] if Path("/", _FOLDER, "node0", "numastat").exists() else []

    def open(self) -> None:
        """Read nothing yet."""
        self._files = Files(self.root)

    def poll(self, batch: Batch) -> None:
        """Read all nodes.

        Raises:
            FileNotFoundError: There are no nodes.
        """
        files = self._files
        if files.changed(_FOLDER):
            found = [_NODE.fullmatch(name) for name in files.names(_FOLDER)]
            self._nodes = [
                (f"{_FOLDER}/{node[0]}", Kind.NUMA_NODE(*batch.host.key, node[1]))
                for node in found
                if node
            ]
        if not self._nodes:
            raise FileNotFoundError(f"{self.root / _FOLDER} has no nodes: the kernel lacks NUMA")
        for path, node in self._nodes:
            batch.link(node, batch.host)
            try:
                _read(files, batch, path, node)
            except (OSError, ValueError) as error:
                batch.failed(node, error)

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the files that one poll reads."""
        record(self, lambda: self._files, folder)


def _read(files: Files, batch: Batch, path: str, node: Entity) -> None:
    memory = files.read(f"{path}/meminfo") or b""
    prefix = b"Node %s " % node.key[-1].encode()
    for metric, name in (
        (host.NUMA_MEMORY_LIMIT, b"MemTotal:"),
        (host.NUMA_MEMORY_FREE, b"MemFree:"),
    ):
        kilobytes = field(memory, prefix + name)
        if kilobytes is not None:
            batch.add(metric, node, float(kilobytes * _KB))
    for line in (files.read(f"{path}/numastat") or b"").splitlines():
        outcome, pages = line.split()
        batch.add(host.NUMA_ALLOCATIONS, node, float(pages), outcome.decode())
