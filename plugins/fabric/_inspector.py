"""What NCCL Inspector writes: records of collectives as lines of JSON, and its textfile.

Formats: plugins/profiler/inspector of NCCL, README.md, inspector_json.cc and inspector_prom.cc.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from plugins.fabric._nccl_status import identity

GIGA = 1e9  # *_gbs is in 10^9 bytes a second: 17179869184 B in 61974 µs is 277.21
MICRO = 1e6
_CHUNK = 1 << 20
_LONGEST = 1 << 18  # bytes of a line; verbose ones have some kilobytes
_BY_RANK = ("AllGather", "ReduceScatter")  # whose message size is that of one rank's share


def bandwidths(collective: str, size: int, seconds: float, ranks: int) -> tuple[float, float]:
    """Give algorithm and bus bandwidth in bytes a second.

    The rules are those of nccl-tests (doc/PERFORMANCE.md), which Inspector follows: the second is
    what each link carries, whatever the number of ranks.
    """
    algorithm = size * (ranks if collective in _BY_RANK else 1) / seconds
    if collective == "AllReduce":
        return algorithm, algorithm * 2 * (ranks - 1) / ranks
    return algorithm, algorithm * ((ranks - 1) / ranks if collective in _BY_RANK else 1.0)


class Header(NamedTuple):
    """Whose records follow, and when they were written.

    Attributes:
        communicator: Its hash as `0x…`, as NCCL's RAS has it.
        name: Its name, `unknown` where the program gave it none.
        rank: The rank in it.
        ranks: How many it has.
        pid: Of the process, in its own namespace.
        hostname: As the process sees it.
        at: Seconds since the epoch.
    """

    communicator: str
    name: str
    rank: int
    ranks: int
    pid: int
    hostname: str
    at: float


class Record(NamedTuple):
    """One finished operation: bytes of the message, seconds, bus bandwidth in bytes a second."""

    header: Header
    collective: str
    size: int
    time: float
    bus: float


class Dropped(NamedTuple):
    """Operations that were lost before they were written, by type, since the communicator began."""

    header: Header
    collectives: int
    p2p: int


@dataclass
class Lines:
    """Takes lines; since 4.3 a `dump_stats` line stands before those that it is the header of."""

    malformed: int = 0
    _header: Header | None = None
    _following: int = 0

    def take(self, line: bytes) -> Record | Dropped | None:
        """Read one line; None where it tells nothing of an operation, or cannot be read."""
        try:
            return self._read(orjson.loads(line))
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            self.malformed += 1
            return None

    def restart(self) -> None:
        """Forget the header: lines were left out."""
        self._header, self._following = None, 0

    def _read(self, line: dict[str, Any]) -> Record | Dropped | None:
        header = None
        if "header" in line:
            self.restart()
            header = _header(line["header"], line["metadata"])
        if (stats := line.get("dump_stats")) is not None and header is not None:
            self._header = header
            self._following = sum(
                int(stats.get(name, 0)) for name in ("coll_records", "p2p_records", "proxy_records")
            )
            return Dropped(
                header, int(stats["coll_dropped_total"]), int(stats.get("p2p_dropped_total", 0))
            )
        if header is None:
            if self._following <= 0:
                self.restart()
            self._following -= 1
            header = self._header
        if header is None:  # its header was in a part of the file that was not read
            return None
        for prefix in ("coll", "p2p"):
            if (perf := line.get(f"{prefix}_perf")) is not None:
                return _record(header, perf, prefix)
        return None


def _header(header: dict[str, Any], metadata: dict[str, Any]) -> Header:
    return Header(
        identity(header["id"]),
        str(header.get("comm_name", "unknown")),
        int(header["rank"]),
        int(header["n_ranks"]),
        int(metadata["pid"]),
        str(metadata["hostname"]),
        int(metadata["dump_timestamp_us"]) / MICRO,
    )


def _record(header: Header, perf: dict[str, Any], prefix: str) -> Record:
    collective = str(perf[prefix])
    size, seconds = (
        int(perf[f"{prefix}_msg_size_bytes"]),
        int(perf[f"{prefix}_exec_time_us"]) / MICRO,
    )
    if size < 0 or seconds < 0:
        raise ValueError("an operation of less than nothing")
    bus = perf.get(f"{prefix}_busbw_gbs")
    if bus is None and seconds and header.ranks > 0:
        bus = bandwidths(collective, size, seconds, header.ranks)[1] / GIGA
    return Record(header, collective, size, seconds, float(bus or 0.0) * GIGA)


@dataclass
class Follower:
    """Follows a file that grows: reads what is new, at most `most` bytes at a time.

    The last line waits until it is complete. A file that became shorter, or another one of the same
    name, is read from its start.
    """

    path: Path
    offset: int = 0
    skipped: int = 0
    lines: Lines = field(default_factory=Lines)
    _inode: int = 0
    _rest: bytes = b""

    def read(self, most: int) -> list[Record | Dropped]:
        """Return what the new lines say.

        Where there is more than `most`, the oldest is skipped and counted in `skipped`.

        Raises:
            OSError: The file cannot be read.
        """
        found = []
        with self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            size, inode = status.st_size, status.st_ino
            if size < self.offset or (self._inode and inode != self._inode):
                self._jump(0)
            self._inode = inode
            if size - self.offset > most:
                self.skipped += size - most - self.offset
                self._jump(size - most)
                file.seek(self.offset)
                self.offset += len(file.readline(_LONGEST))  # the rest of a line
            file.seek(self.offset)
            while self.offset < size and (data := file.read(min(_CHUNK, size - self.offset))):
                self.offset += len(data)
                *complete, self._rest = (self._rest + data).split(b"\n")
                found += [
                    told
                    for line in complete
                    if line and (told := self.lines.take(line)) is not None
                ]
                if len(self._rest) > _LONGEST:
                    self._rest = b""
                    self.lines.malformed += 1
        return found

    def _jump(self, offset: int) -> None:
        self.offset, self._rest = offset, b""
        self.lines.restart()


@dataclass
class Sums:
    """What the operations of one type of a rank add up to: how many, seconds, bytes."""

    operations: int = 0
    time: float = 0.0
    size: int = 0
    _newest: list[tuple[float, float]] = field(default_factory=list)  # seconds, bus bandwidth

    def add(self, record: Record) -> None:
        """Add one operation."""
        self.operations += 1
        self.time += record.time
        self.size += record.size
        self._newest.append((record.time, record.bus))

    def bus(self) -> float | None:
        """Give the bus bandwidth of what was added since the last call, weighted by time."""
        newest, self._newest = self._newest, []
        seconds = sum(time for time, _ in newest)
        return sum(time * bus for time, bus in newest) / seconds if seconds else None
