"""Dumps of PyTorch's Flight Recorder: what each rank was at when a collective timed out.

torch writes one file for each rank when its watchdog sees a timeout (TORCH_FR_BUFFER_SIZE or
TORCH_NCCL_TRACE_BUFFER_SIZE above 0, and TORCH_NCCL_DUMP_ON_TIMEOUT).
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Event, Severity
from collector.catalog import fabric
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from plugins.fabric._flight import DumpError, Group, culprits, groups
from plugins.fabric._pickle import PickleError, Reader

_RANK = re.compile(r"(\d+)$")
_MOST_FILES = 256
_PATTERNS = ("/tmp/nccl_trace_rank_*", "/tmp/comm_lib_trace_rank_*")  # noqa: S108 - torch's own
_NEWS = 120.0  # seconds; the daemon looks each minute for what there is to be read
_SHOWN = 16  # ranks in a text


@dataclass
class _Dump:
    """One file: when it was written, in seconds since the epoch, and what it says."""

    written: float
    size: int
    groups: list[Group]


class FlightRecorder(Plugin):
    """Reads new dumps without running anything that is in them."""

    metrics: ClassVar[tuple[Metric, ...]] = (fabric.RANK_SEQUENCE,)

    target: str = Field(
        default="", description="What the job is called, where several have dumps of their own."
    )
    files: list[str] = Field(
        default=list(_PATTERNS),
        description="Patterns of the files (TORCH_FR_DUMP_TEMP_FILE or "
        "TORCH_NCCL_DEBUG_INFO_TEMP_FILE with `*` after it); their names end with the rank.",
    )
    root: Path = Field(default=Path("/"), description="What `files` are below.")
    timeout: float = Field(
        default=60.0, gt=0, description="Seconds that one poll may take; all ranks dump at once."
    )
    max_bytes: int = Field(default=32 << 20, gt=0, description="Bytes of a file at most.")
    keep: float = Field(
        default=3600.0, gt=0, description="Seconds for which the figures of a dump are shown."
    )
    settle: float = Field(
        default=60.0, ge=0, description="Seconds for which a file may be unfinished, and is tried."
    )
    together: float = Field(
        default=600.0, gt=0, description="Seconds within which dumps are of the same timeout."
    )

    _dumps: dict[Path, _Dump] = PrivateAttr(default_factory=dict)
    _bad: dict[Path, tuple[float, int]] = PrivateAttr(default_factory=dict)
    _first: bool = PrivateAttr(default=True)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where a dump is; until then there is nothing to be read."""
        return [{}] if any(glob.glob(pattern) for pattern in _PATTERNS) else []  # noqa: PTH207

    def poll(self, batch: Batch) -> None:
        """Read the dumps that are new; those from long before the start are no news."""
        fresh = self._read(batch)
        host = batch.host.key[0]
        for path, dump in self._dumps.items():
            for group in dump.groups:
                entity = Kind.RANK(host, _communicator(group), _rank(path))
                for state, number in group.sequence.items():
                    batch.add(fabric.RANK_SEQUENCE, entity, float(number), state, at=dump.written)
                batch.link(entity, Kind.COMMUNICATOR(host, _communicator(group)))
        if self._first:
            fresh = {p for p in fresh if 0 <= batch.at - self._dumps[p].written < _NEWS}
        if fresh:
            self._tell(batch, fresh)
        self._first = False

    def record(self, folder: Path) -> None:
        """Save the dumps."""
        for path in self._found():
            place = folder / "input" / "root" / path.relative_to(self.root)
            place.parent.mkdir(parents=True, exist_ok=True)
            if path.stat().st_size <= self.max_bytes:
                place.write_bytes(path.read_bytes())

    def _found(self) -> list[Path]:
        names = [
            name
            for pattern in self.files
            for name in glob.glob(str(self.root / pattern.lstrip("/")))  # noqa: PTH207 - any depth
            if _RANK.search(name)
        ]
        return [Path(name) for name in sorted(names)[:_MOST_FILES]]

    def _read(self, batch: Batch) -> set[Path]:
        """Read what is new or was written anew, and forget what is old; return what is new."""
        fresh, there = set(), set()
        for path in self._found():
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if batch.at - status.st_mtime > self.keep:
                    continue
                there.add(path)
                seen = status.st_mtime, status.st_size
                known = self._dumps.get(path)
                if (known and seen == (known.written, known.size)) or self._bad.get(path) == seen:
                    continue
                try:
                    self._dumps[path] = _Dump(*seen, groups(Reader(self._content(path)).read()))
                    fresh.add(path)
                except (PickleError, DumpError, OSError) as error:
                    if batch.at - status.st_mtime >= self.settle or status.st_mtime > batch.at:
                        self._bad[path] = seen  # said once
                        batch.failed(None, ValueError(f"{path}: {error}"))
        for known_files in (self._dumps, self._bad):
            for gone in known_files.keys() - there:
                del known_files[gone]
        return fresh

    def _content(self, path: Path) -> bytes:
        # Anyone may write to /tmp: no link is followed, and a pipe must not hold up the poll.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            data = file.read(self.max_bytes + 1)
        if data is None or len(data) > self.max_bytes:
            raise DumpError(f"it has more than {self.max_bytes} bytes: raise max_bytes")
        return data

    def _tell(self, batch: Batch, fresh: set[Path]) -> None:
        """Say which groups of new dumps timed out, and who held them up."""
        newest = max(self._dumps[path].written for path in fresh)
        seen: dict[str, dict[int, Group]] = defaultdict(dict)
        new: set[str] = set()
        for path, dump in self._dumps.items():
            if newest - dump.written < self.together:
                for group in dump.groups:
                    seen[group.id][int(_rank(path))] = group
                    new |= {group.id} if path in fresh else set()
        for name in sorted(new):
            event = _event(batch, seen[name], newest)
            if event is not None:
                batch.event(event)


def _event(batch: Batch, ranks: dict[int, Group], at: float) -> Event | None:
    """Make the event of one group; None where all that was enqueued had completed."""
    group = next(iter(ranks.values()))
    late = culprits({rank: one.sequence for rank, one in ranks.items()})
    waits = [one.open for one in ranks.values() if one.open is not None]
    unfinished = any(
        one.sequence.get("enqueued", -1) > one.sequence.get("completed", -1)
        for one in ranks.values()
    )
    if not late and not unfinished:
        return None
    number = min((one.number for one in waits), default=None)
    operation = next((one.name for one in waits if one.number == number), "")
    silent = sorted(set(group.ranks) - set(ranks))
    text = f"process group {group.description}: "
    text += f"{operation} number {number} timed out" if operation else "a collective timed out"
    text += f"; held up by ranks {_list(late)}" if late else "; no rank with a dump here lags"
    if silent:
        text += f"; no dump here of ranks {_list(silent)}"
    attributes = (
        ("group", group.id),
        ("operation", operation),
        ("sequence", "" if number is None else str(number)),
        ("ranks.lagging", _list(late)),
        ("ranks.silent", _list(silent)),
    )
    entity = Kind.COMMUNICATOR(batch.host.key[0], _communicator(group))
    return Event("collective.timeout", entity, at, Severity.ERROR, text, attributes)


def _communicator(group: Group) -> str:
    """Name a process group; torch does not say NCCL's hash of it."""
    return f"torch:{group.id}:{group.description}"[:100]


def _rank(path: Path) -> str:
    found = _RANK.search(path.name)
    return found[1].lstrip("0") or "0" if found else ""


def _list(ranks: list[int]) -> str:
    more = f" and {len(ranks) - _SHOWN} more" if len(ranks) > _SHOWN else ""
    return ", ".join(map(str, ranks[:_SHOWN])) + more
