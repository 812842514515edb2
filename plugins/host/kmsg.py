"""The kernel's log, by /dev/kmsg: Xids, hung tasks, OOM kills, machine checks, and more."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Event
from collector.catalog import host
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read import cgroup
from collector.read.files import Files, record
from plugins.host import _gpus
from plugins.host._kmsg_record import LEVELS, Record, parse
from plugins.host._kmsg_rules import EVENTS, SXID, XID, Classifier, Finding

_DEVICE = "dev/kmsg"
_LONGEST = 1 << 15  # more than a record with its escapes has (include/linux/printk.h)
_MOST = 50_000  # records of one poll; what is more comes with the next
_SHOWN = 1000  # characters of a message that an event repeats

# The driver names the GPU before it reports its first Xid.
_GPU_AT = re.compile(r"NVRM: GPU at (?:PCI:)?([0-9A-Fa-f:.]+): (GPU-[0-9a-f-]{36})")
_ATTRIBUTES = {
    "address": "pci.bus_id",
    "process_pid": "process.pid",
    "process_name": "process.executable.name",
}


class Kmsg(Plugin):
    """Reads the kernel's log and says what of it matters.

    Counters start with the daemon. Of what was logged before, the last `lookback` seconds are told
    as events; after a restart of the daemon these come again with the same `log.record.uid`.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        host.KERNEL_MESSAGES,
        host.KERNEL_MESSAGES_LOST,
        host.KERNEL_EVENTS,
        host.XIDS,
        host.SXIDS,
    )

    interval: float = Field(default=1.0, gt=0, description="Seconds between two polls.")
    root: Path = Field(default=Path("/"), description="Where `dev/kmsg` and `proc` are.")
    lookback: float = Field(
        default=600.0, ge=0, description="Seconds before the start of which events are told."
    )
    burst: int = Field(
        default=5,
        gt=0,
        description="Events told of one kind and device in `window` seconds; all are counted.",
    )
    window: float = Field(default=600.0, gt=0, description="Seconds for which `burst` is meant.")

    _log: _Log = PrivateAttr()
    _files: Files = PrivateAttr()
    _state: _State = PrivateAttr(default_factory=lambda: _State())

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where the log may be read."""
        with suppress(OSError):
            _Log(Path("/")).close()
            return [{}]
        return []

    def open(self) -> None:
        """Open the log at its oldest record.

        Raises:
            OSError: It may not be read, or is not there; the message names the mend.
        """
        self._log = _Log(self.root)
        self._files = Files(self.root)
        self._state.attach(self._files)

    def poll(self, batch: Batch) -> None:
        """Read what was logged since the last poll.

        Raises:
            OSError: The log could not be read.
        """
        state = self._state
        uptime = self._files.read("proc/uptime")
        state.begin(batch, float(uptime.split()[0]) if uptime else None, self.lookback)
        for entry in self._log.read():
            finding = state.take(entry)
            if finding is None:
                continue
            at = state.time(entry)
            if at >= state.since:
                left_out = state.limit(finding, at, self.burst, self.window)
                if left_out is not None:
                    batch.event(state.event(finding, entry, at, left_out))
        if self._log.drained:
            state.drained = batch.at
        state.report(batch)

    def close(self) -> None:
        """Close the log; what comes until it is opened again is read then."""
        self._log.close()
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save the log as it is, with what tells its time; cut it down before you share it."""
        record(self, lambda: self._files, folder)
        log = _Log(self.root)
        device = folder / "input" / "root" / _DEVICE
        device.parent.mkdir(parents=True, exist_ok=True)
        device.write_bytes(b"".join(log.chunks()))
        log.close()


class _Log:
    """The device, or a file with the same content: gives what is new, each record once."""

    def __init__(self, root: Path) -> None:
        self._path = root / _DEVICE
        self._rest = b""
        self.drained = False
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise _explained(error, self._path) from error

    def read(self) -> Iterator[Record]:
        for chunk in self.chunks():
            lines, end, self._rest = (self._rest + chunk).rpartition(b"\n")
            yield from parse(lines + end)
        # A saved log may lack the end of its last line; the device never does.
        rest, self._rest = self._rest, b""
        yield from parse(rest)

    def chunks(self) -> Iterator[bytes]:
        """Read to the end; a read of the device gives one record."""
        self.drained = False
        for _ in range(_MOST):
            try:
                chunk = os.read(self._descriptor, _LONGEST)
            except BlockingIOError:  # no more for now
                chunk = b""
            except BrokenPipeError:  # records were overwritten before we came: numbers tell
                continue
            except OSError as error:
                raise _explained(error, self._path) from error
            if not chunk:
                self.drained = True
                return
            yield chunk

    def close(self) -> None:
        os.close(self._descriptor)


class _State:
    """What outlives a poll, and a log that is opened again."""

    def __init__(self) -> None:
        self._classifier = Classifier()
        self._boot_id = ""
        self._last: int | None = None  # sequence number
        self._uuids: dict[str, str] = {}  # by PCI address, as the log told them
        self._told: dict[tuple[str, ...], tuple[float, int]] = {}  # since when, and how many
        self._levels = Tally[str](dict.fromkeys(LEVELS, 0))
        self._events = Tally[str](dict.fromkeys(EVENTS, 0))
        self._xids = Tally[tuple[Metric, str, str]]()
        self._lost = 0
        self.drained: float | None = None

    def attach(self, files: Files) -> None:
        self._gpus = _gpus.Gpus(files)
        boot_id = files.text("proc/sys/kernel/random/boot_id")
        if boot_id != self._boot_id:
            self._boot_id, self._last = boot_id, None

    def begin(self, batch: Batch, uptime: float | None, lookback: float) -> None:
        self._host, self._now = batch.host, batch.at
        self._boot = None if uptime is None else batch.at - uptime
        self._live = self.drained is not None
        self._seen = self._gpus.read()
        self.since = 0.0 if self._live else batch.at - lookback

    def take(self, entry: Record) -> Finding | None:
        """Take the next record, unless it was taken before; count it, and say what it means."""
        if entry.sequence is not None:
            if self._last is not None:
                if entry.sequence <= self._last:
                    return None
                self._lost += (entry.sequence - self._last - 1) * self._live
            self._last = entry.sequence
        if named := _GPU_AT.search(entry.text):
            self._uuids[_gpus.address(named[1])] = named[2]
        finding = self._classifier.classify(entry.text)
        if self._live and entry.level in self._levels:
            self._levels[entry.level] += 1
        if self._live and finding:
            self._count(finding)
        return finding

    def time(self, entry: Record) -> float:
        """When a record was logged: by the kernel's clock, which drifts, within what is known."""
        if entry.at is not None:
            return entry.at
        at = self._now
        if entry.uptime is not None and self._boot is not None:
            at = self._boot + entry.uptime
        return min(max(at, self.drained or at), self._now)

    def limit(self, finding: Finding, at: float, burst: int, window: float) -> int | None:
        """Say how many like it were left out before this one; None leaves out this one."""
        told = finding.attributes
        key = (finding.event, told.get("address", ""), told.get("xid", ""))
        since, count = self._told.get(key, (at, 0))
        left_out = 0
        if at - since >= window:
            left_out, since, count = max(count - burst, 0), at, 0
        self._told[key] = since, count + 1
        return left_out if count < burst else None

    def event(self, finding: Finding, entry: Record, at: float, left_out: int) -> Event:
        told = dict(finding.attributes)
        if "address" in told:
            told["address"] = _gpus.address(told["address"])
        entity = self._entity(told)
        where = cgroup.parse(f"0::{told.get('task_cgroup') or told.get('cgroup', '')}")
        text = entry.text[:_SHOWN]
        if action := told.get("action"):
            text += f" ({told.get('name', '')}, to do: {action})"
        attributes = {_ATTRIBUTES.get(name, name): value for name, value in told.items()}
        attributes |= {"container.id": where.container, "k8s.pod.uid": where.pod}
        attributes["events.left_out"] = str(left_out or "")
        if entry.sequence is not None:
            attributes["log.record.uid"] = f"{self._boot_id}/{entry.sequence}"
        pairs = tuple((name, value) for name, value in attributes.items() if value)
        return Event(finding.event, entity, at, finding.severity, text, pairs)

    def report(self, batch: Batch) -> None:
        for level, count in self._levels.items():
            batch.add(host.KERNEL_MESSAGES, batch.host, count, level)
        for event, count in self._events.items():
            batch.add(host.KERNEL_EVENTS, batch.host, count, event)
        for (metric, place, number), count in self._xids.items():
            batch.add(metric, batch.host, count, place, number)
        batch.add(host.KERNEL_MESSAGES_LOST, batch.host, self._lost)

    def _count(self, finding: Finding) -> None:
        self._events[finding.event] += 1
        for event, metric, name in ((XID, host.XIDS, "xid"), (SXID, host.SXIDS, "sxid")):
            if finding.event == event:
                place = _gpus.address(finding.attributes["address"])
                self._xids[metric, place, finding.attributes[name]] += 1

    def _entity(self, told: dict[str, str]) -> Entity:
        """Whom a message is about: a GPU, if its UUID is known, a process, else the host."""
        place = told.get("address", "")
        uuid = self._seen[place].uuid if place in self._seen else self._uuids.get(place, "")
        if uuid:
            return Kind.GPU(*self._host.key, uuid)
        if "process_pid" in told and not place:
            return Kind.PROCESS(*self._host.key, told["process_pid"])
        return self._host


def _explained(error: OSError, path: Path) -> OSError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return PermissionError(
            error.errno,
            "may not be read by this user: give the daemon the ambient capability CAP_SYSLOG "
            "(systemd: AmbientCapabilities=CAP_SYSLOG), or set kernel.dmesg_restrict=0; a "
            "container must be privileged, too",
            str(path),
        )
    if error.errno == errno.ENOENT:
        mend = "is not there: mount the host's /dev/kmsg into the container"
        return FileNotFoundError(error.errno, mend, str(path))
    return OSError(error.errno, error.strerror, str(path))
