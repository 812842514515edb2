"""One port of an RDMA device: what of it is read, and what is left alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from collector.batch import Batch, Event, SeriesKey, Severity
from collector.catalog import fabric
from collector.entity import Entity
from collector.metric import Metric
from collector.read.counter import Counter
from collector.read.files import Files
from plugins.fabric._infiniband_counters import COUNTERS, HW_COUNTERS, Count
from plugins.fabric._infiniband_flaps import Flaps

# By number: the kernel's word (drivers/infiniband/core/sysfs.c) and ours.
_STATES = {
    b"0": (b"NOP", "nop"),
    b"1": (b"DOWN", "down"),
    b"2": (b"INIT", "init"),
    b"3": (b"ARMED", "armed"),
    b"4": (b"ACTIVE", "active"),
    b"5": (b"ACTIVE_DEFER", "active_defer"),
}
_PHYS_STATES = {
    b"1": (b"Sleep", "sleep"),
    b"2": (b"Polling", "polling"),
    b"3": (b"Disabled", "disabled"),
    b"4": (b"PortConfigurationTraining", "training"),
    b"5": (b"LinkUp", "link_up"),
    b"6": (b"LinkErrorRecovery", "link_error_recovery"),
    b"7": (b"Phy Test", "phy_test"),
}
_RATE = re.compile(rb"(\d+(?:\.\d+)?) Gb/sec\b")
_BYTES_PER_GIGABIT = 1e9 / 8
# The driver answers with constants: the link is always active, at 100 Gb/s
# (drivers/infiniband/hw/efa/efa_verbs.c, efa_query_port).
_CONSTANT_LINK = frozenset({"efa"})


class RefusedError(Exception):
    """The driver has a file and no value for it."""


class _Set:
    """A state set: the keys of its states, and their values as they were last."""

    def __init__(
        self, metric: Metric, entity: Entity, states: Mapping[bytes, tuple[bytes, str]]
    ) -> None:
        self.keys = [SeriesKey(metric, entity, (state,)) for _, state in states.values()]
        self.values: list[float] = []
        self._states = states
        self._data: bytes | None = None
        self._word = ""

    def take(self, data: bytes) -> str:
        """Take what the kernel says and give the state; "" where number and word contradict."""
        if data != self._data:
            number, _, word = data.strip().partition(b": ")
            kernels, ours = self._states.get(number, (b"", ""))
            self._data, self._word = data, ours if word and word == kernels else ""
            self.values = [float(key.labels == (ours,)) for key in self.keys]
        return self._word


class _Reader(NamedTuple):
    """A counter, and the same with 64 bits in another file, where Linux (up to 4.4) has both."""

    path: str
    counter: Counter
    key: SeriesKey
    scale: int
    full: SeriesKey | None
    most: int
    wider: str | None
    wide: Counter


class Port:
    """Reads one port.

    A read of a counter, of the rate or of a state is a command to the firmware. Where firmware
    refuses, as with the functions that a Fabric Manager holds on HGX B200 and GB200, the driver
    writes to the kernel's log with each try. So what was refused is left alone for `retry` seconds.
    """

    def __init__(self, files: Files, path: str, entity: Entity, driver: str, retry: float) -> None:
        self.path = path
        self.entity = entity
        self.rate: float | None = None
        self._files = files
        self._retry = retry
        self._link = driver not in _CONSTANT_LINK
        self._flaps = Flaps()
        self._rests: dict[str, float] = {}
        self._refused: set[str] = set()
        self._counters: dict[str, Counter] = {}
        self._readers: dict[str, list[_Reader]] = {}
        self._told: dict[str, str] = {}
        self._downed: float | None = None
        self._keys: list[SeriesKey] = []
        self._values: list[float] = []
        self._sets = {
            "state": _Set(fabric.PORT_STATE, entity, _STATES),
            "phys_state": _Set(fabric.PORT_PHYS_STATE, entity, _PHYS_STATES),
        }
        self._rate_key = SeriesKey(fabric.PORT_RATE, entity, ())
        self._flaps_key = SeriesKey(fabric.PORT_FLAPS, entity, ())

    def poll(self, batch: Batch) -> bool:
        """Read the port and add what was found; say whether its link came up since the last time.

        Raises:
            OSError: A file could not be read.
            ValueError: A file does not hold what it should.
        """
        self._keys, self._values, self._told = [], [], {}
        self.rate = self._downed = None
        failure: OSError | ValueError | None = None
        try:
            if self._part("rate", batch, self._read_rate):
                self._part("counters", batch, self._read_counters)
                self._part("hw_counters", batch, self._read_counters)
        except (OSError, ValueError) as error:  # a link that goes down must show all the same
            failure = error
        try:
            if self._link:
                self._part("state", batch, self._read_states)
        except (OSError, ValueError) as error:
            failure = failure or error
        batch.extend(self._keys, self._values)
        came_up = self._follow(batch)
        if failure:
            raise failure
        return came_up

    def _part(self, name: str, batch: Batch, read: Callable[[str], None]) -> bool:
        """Read a part of the port unless it rests; say whether it was read."""
        if (rests_until := self._rests.get(name)) is not None:
            if batch.at < rests_until:
                return False
            del self._rests[name]
            self._readers.clear()
        try:
            read(name)
        except RefusedError as error:
            if name not in self._refused:
                text = f"is left alone for {self._retry:.0f} s: its driver refuses {error}"
                self._event(batch, "refused", Severity.INFO, text)
            self._refused.add(name)
            self._rests[name] = batch.at + self._retry
            self._readers.clear()  # what `counters` lacks, `hw_counters` may have
            return False
        return True

    def _text(self, name: str) -> bytes | None:
        """Read a file of the port; None where it has none."""
        path = f"{self.path}/{name}"
        data = self._files.read(path)
        if data is None and (self._files.root / path).exists():
            raise RefusedError(path)
        return data

    def _read_rate(self, name: str) -> None:
        data = self._text(name) if self._link else None
        if data is None:
            return
        if (match := _RATE.match(data)) is None:
            raise ValueError(
                f"{self._files.root / self.path / name} holds no rate but {data!r:.60}"
            )
        self.rate = float(match[1]) * _BYTES_PER_GIGABIT
        self._keys.append(self._rate_key)
        self._values.append(self.rate)

    def _read_states(self, _: str) -> None:
        for name, states in self._sets.items():
            data = self._text(name)
            if data is not None and (word := states.take(data)):
                self._told[name] = word
                self._keys += states.keys
                self._values += states.values

    def _read_counters(self, folder: str) -> None:
        readers = self._readers.get(folder)
        if readers is None:
            readers = self._readers[folder] = list(self._discover(folder))
        number, keys, values = self._number, self._keys, self._values
        for path, counter, key, scale, full, most, wider, wide in readers:
            if (raw := number(path)) is None:
                continue
            value = counter.update(raw)
            if wider is not None and (more := number(wider)) is not None:
                value = max(value, wide.update(more))  # where 32 bits stopped, 64 go on
            keys.append(key)
            values.append(value * scale)
            if full is not None:
                keys.append(full)
                values.append(raw == most)
        if downed := self._counters.get(f"{self.path}/{folder}/link_downed"):
            self._downed = downed.total

    def _number(self, path: str) -> int | None:
        """Read a counter; None where it is gone with its device."""
        try:
            raw = self._files.number(path)
        except ValueError:
            if not (self._files.read(path) or b"").startswith(b"N/A"):  # N/A (no PMA)
                raise
            raw = None
        if raw is None and (self._files.root / path).exists():
            raise RefusedError(path)
        return raw

    def _discover(self, folder: str) -> Iterator[_Reader]:
        has = {reader.key for readers in self._readers.values() for reader in readers}
        wider = {}
        if folder == "counters":
            wider = {count.key(self.entity): path for path, count in self._files_in("counters_ext")}
        found = list(self._files_in(folder))
        wide = any(count.metric is fabric.PORT_CAST_PACKETS for _, count in found)
        for path, count in found:
            key = count.key(self.entity)
            if key in has:
                continue  # PortCounters have it too
            full = None
            if count.most and not (count.short and wide):
                name = path.rpartition("/")[2]
                full = SeriesKey(fabric.PORT_ERRORS_SATURATED, self.entity, (name,))
            yield self._reader(path, count, full, wider.pop(key, None))
        for path, count in self._files_in("counters_ext"):
            if count.key(self.entity) in wider:
                yield self._reader(path, count, None, None)

    def _files_in(self, folder: str) -> Iterator[tuple[str, Count]]:
        counts = HW_COUNTERS if folder == "hw_counters" else COUNTERS
        for name in self._files.names(f"{self.path}/{folder}"):
            if name in counts:
                yield f"{self.path}/{folder}/{name}", counts[name]

    def _reader(
        self, path: str, count: Count, full: SeriesKey | None, wider: str | None
    ) -> _Reader:
        counter = self._counters.setdefault(path, Counter())
        wide = self._counters.setdefault(wider or "", Counter())
        key = count.key(self.entity)
        return _Reader(path, counter, key, count.scale, full, count.most, wider, wide)

    def _follow(self, batch: Batch) -> bool:
        """Count flaps and tell of them."""
        state = self._told.get("state")
        up = None if state is None else state.startswith("active")
        seen, unseen = self._flaps.update(up, self._downed)
        if up is not None or self._downed is not None:
            batch.extend([self._flaps_key], [float(self._flaps.total)])
        if unseen:
            self._event(batch, "flap", Severity.WARN, f"went down {unseen} times unseen")
        if seen is False:
            physical = self._told.get("phys_state", "unknown")
            text = f"went down: its link is {state}, physically {physical}"
            self._event(batch, "down", Severity.ERROR, text)
        elif seen:
            self._event(batch, "up", Severity.INFO, "is up again")
        return bool(seen)

    def _event(self, batch: Batch, name: str, severity: Severity, text: str) -> None:
        text = f"{self.entity.key[1]} {text}"
        attributes = tuple(self._told.items())
        batch.event(Event(f"port.{name}", self.entity, batch.at, severity, text, attributes))
