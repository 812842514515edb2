"""Time and bus bandwidth of collectives by operation, as NCCL Inspector writes them to files.

The profiler plugin of that name is loaded by the job (NCCL_PROFILER_PLUGIN, NCCL_INSPECTOR_ENABLE);
it writes lines of JSON for each process, or a textfile for each GPU (NCCL_INSPECTOR_PROM_DUMP).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import fabric
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.exposition import Page
from plugins.fabric import _nccl_host
from plugins.fabric._inspector import GIGA, MICRO, Dropped, Follower, Header, Record, Sums

_LINES = ("*.log", "*.jsonl")
_TEXT = re.compile(r"nccl_inspector_metrics_(?:job[^_]*_)?(.+)\.prom")
_GAUGES = {
    "nccl_bus_bandwidth_gbs": (fabric.GPU_BUS_BANDWIDTH, GIGA, "collective"),
    "nccl_collective_exec_time_microseconds": (fabric.GPU_COLLECTIVE_TIME, 1 / MICRO, "collective"),
    "nccl_p2p_bus_bandwidth_gbs": (fabric.GPU_BUS_BANDWIDTH, GIGA, "p2p_operation"),
    "nccl_p2p_exec_time_microseconds": (fabric.GPU_COLLECTIVE_TIME, 1 / MICRO, "p2p_operation"),
}
_MOST_FILES = 256  # a process each, or a GPU
_MOST_TEXT = 4 << 20  # bytes
_SAVED = 1 << 16


@dataclass
class _Rank:
    """What is known of one rank."""

    header: Header
    sums: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))
    dropped: Dropped | None = None

    def entity(self, host: str) -> Entity:
        return Kind.RANK(host, self.header.communicator, str(self.header.rank))

    def add(self, batch: Batch) -> None:
        host, header = batch.host.key[0], self.header
        entity = self.entity(host)
        communicator = Kind.COMMUNICATOR(host, header.communicator)
        if header.name != "unknown":
            batch.add(fabric.COMMUNICATOR_INFO, communicator, 1.0, header.name)
        batch.add(fabric.COMMUNICATOR_RANKS, communicator, float(header.ranks))
        for operation, one in self.sums.items():
            batch.add(fabric.RANK_COMPLETED, entity, float(one.operations), operation)
            batch.add(fabric.RANK_TIME, entity, one.time, operation)
            batch.add(fabric.RANK_DATA, entity, float(one.size), operation)
            batch.add(fabric.RANK_BUS_BANDWIDTH, entity, one.bus(), operation, at=header.at)
        if self.dropped is not None:
            lost = (("collective", self.dropped.collectives), ("p2p", self.dropped.p2p))
            for kind, count in lost:
                batch.add(fabric.RANK_DROPPED, entity, float(count), kind)


@dataclass
class _File:
    """A file and the ranks of its process, by communicator and number."""

    follower: Follower
    ranks: dict[tuple[str, int], _Rank] = field(default_factory=dict)

    def take(self, told: Record | Dropped) -> None:
        key = told.header.communicator, told.header.rank
        rank = self.ranks.setdefault(key, _Rank(told.header))
        rank.header = told.header
        if isinstance(told, Dropped):
            rank.dropped = told
        else:
            rank.sums[told.collective].add(told)


class NcclInspector(Plugin):
    """Follows the files in Inspector's folder.

    Of what was written before the start, the last `max_bytes` of each file are counted.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        fabric.COMMUNICATOR_INFO,
        fabric.COMMUNICATOR_RANKS,
        fabric.RANK_COMPLETED,
        fabric.RANK_TIME,
        fabric.RANK_DATA,
        fabric.RANK_BUS_BANDWIDTH,
        fabric.RANK_DROPPED,
        fabric.GPU_COLLECTIVE_TIME,
        fabric.GPU_BUS_BANDWIDTH,
    )

    target: str = Field(
        default="/var/lib/node_exporter/nccl_inspector",
        description="The folder that the jobs are given as NCCL_INSPECTOR_DUMP_DIR.",
    )
    root: Path = Field(default=Path("/"), description="What `target` is below.")
    hosts: list[str] = Field(
        default=[],
        description="What this host is called in the files, if not by its name (in containers); "
        '`["*"]` takes all. A folder can be shared by hosts.',
    )
    max_bytes: int = Field(
        default=4 << 20, gt=0, description="Bytes of new lines that are read of a file in a poll."
    )
    idle: float = Field(
        default=3600.0, gt=0, description="Seconds after its last write when a file is left alone."
    )
    fresh: float = Field(
        default=120.0, gt=0, description="Seconds for which a textfile's averages are shown."
    )

    _files: dict[Path, _File] = PrivateAttr(default_factory=dict)
    _pids: dict[int, int] = PrivateAttr(default_factory=dict)
    _wanted: frozenset[tuple[str, int]] = PrivateAttr(default=frozenset())

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the default folder is."""
        return [{}] if Path(cls.model_fields["target"].default).is_dir() else []

    def poll(self, batch: Batch) -> None:
        """Read what is new.

        Raises:
            OSError: There is no such folder, or it may not be read.
        """
        lines = self._recent(batch.at, self.idle, *_LINES)
        for gone in self._files.keys() - set(lines):
            del self._files[gone]
        for path in lines:
            try:
                self._follow(self._files.setdefault(path, _File(Follower(path))), batch)
            except OSError as error:
                batch.failed(None, error)
        self._link(batch)
        for path in self._recent(batch.at, self.fresh, "nccl_inspector_metrics_*.prom"):
            try:
                self._read_text(path, batch)
            except OSError as error:
                batch.failed(None, error)

    def record(self, folder: Path) -> None:
        """Save the last 64 KiB of each file."""
        now = time.time()
        place = folder / "input" / "root" / self.target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        for path in self._recent(now, self.idle, *_LINES, "*.prom"):
            data = path.read_bytes()[-_SAVED:]
            whole = len(data) < _SAVED
            (place / path.name).write_bytes(data if whole else data.partition(b"\n")[2])

    def _recent(self, now: float, age: float, *patterns: str) -> list[Path]:
        """List files written to lately, the newest first, `_MOST_FILES` at most."""
        folder = self.root / self.target.lstrip("/")
        if not folder.is_dir():
            text = "is not there: run the jobs with NCCL_INSPECTOR_DUMP_DIR set to it"
            raise FileNotFoundError(errno.ENOENT, text, str(folder))
        found = []
        for path in folder.iterdir():
            if any(path.match(pattern) for pattern in patterns):
                with contextlib.suppress(FileNotFoundError):
                    written = path.stat().st_mtime
                    if now - written < age:
                        found.append((written, path))
        return [path for _, path in sorted(found, reverse=True)[:_MOST_FILES]]

    def _is_here(self, hostname: str, host: str) -> bool:
        names = self.hosts or [host, socket.gethostname()]
        return "*" in names or hostname.partition(".")[0] in {n.partition(".")[0] for n in names}

    def _follow(self, file: _File, batch: Batch) -> None:
        host = batch.host.key[0]
        follower = file.follower
        malformed, skipped = follower.lines.malformed, follower.skipped
        first = not file.ranks and not follower.offset
        for told in follower.read(self.max_bytes):
            if self._is_here(told.header.hostname, host):
                file.take(told)
        if follower.lines.malformed > malformed:
            count = follower.lines.malformed - malformed
            batch.failed(None, ValueError(f"{follower.path}: {count} lines cannot be read"))
        if follower.skipped > skipped and not first:
            batch.failed(
                None,
                ValueError(
                    f"{follower.path}: {follower.skipped - skipped} bytes were not read: raise "
                    "max_bytes or shorten interval"
                ),
            )
        for rank in file.ranks.values():
            rank.add(batch)

    def _link(self, batch: Batch) -> None:
        ranks = [rank for file in self._files.values() for rank in file.ranks.values()]
        wanted = frozenset((rank.header.communicator, rank.header.pid) for rank in ranks)
        if wanted != self._wanted:
            proc = (self.root / "proc").is_dir()
            pids = {pid for _, pid in wanted}
            self._pids = _nccl_host.pids(self.root, pids) if pids and proc else {}
            self._wanted = wanted
        host = batch.host.key[0]
        for rank in ranks:
            entity = rank.entity(host)
            communicator = Kind.COMMUNICATOR(host, rank.header.communicator)
            batch.link(entity, communicator)
            batch.link(communicator, batch.host)
            if rank.header.pid in self._pids:
                batch.link(entity, Kind.PROCESS(host, str(self._pids[rank.header.pid])))

    def _read_text(self, path: Path, batch: Batch) -> None:
        uuid = _uuid(path)
        if uuid is None:
            return
        with path.open("rb") as file:
            body = file.read(_MOST_TEXT)
            at = os.fstat(file.fileno()).st_mtime
        page = Page(_GAUGES)
        change = page.update(body)
        if change.malformed:  # while it is written anew, its end is missing: that is no error
            batch.failed(None, ValueError(f"{path}: {change.malformed} lines cannot be read"))
        entity = Kind.GPU(batch.host.key[0], uuid)
        for series in page.series:
            metric, scale, operation = _GAUGES[series.name]
            labels = series.labels
            if self._is_here(labels.get("node", ""), batch.host.key[0]):
                batch.add(
                    metric, entity, series.value * scale,
                    labels.get("comm_name", ""), labels.get(operation, ""),
                    labels.get("message_size", ""), labels.get("algo_proto", ""),
                    labels.get("peer", ""), at=at,
                )  # fmt: skip


def _uuid(path: Path) -> str | None:
    """Give the GPU's UUID in NVML's form, of the textfile's name."""
    found = _TEXT.fullmatch(path.name)
    if found is None:
        return None
    digits = found[1].removeprefix("GPU-")
    if re.fullmatch("[0-9a-fA-F]{32}", digits):
        digits = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    return digits if digits.startswith("MIG-") else f"GPU-{digits}"
