"""One port of an RDMA device: what of it is read, and what is left alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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


class _Reader(NamedTuple):
    path: str
    key: SeriesKey
    scale: int
    full: SeriesKey | None
    most: int
    counter: Counter


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
        self._told: dict[str, str] = {}
        self._rests: dict[str, float] = {}
        self._readers: dict[str, list[_Reader]] = {}
        self._found: dict[SeriesKey, float] = {}

    def poll(self, batch: Batch) -> bool:
        """Read the port and add what was found; say whether its link came up since the last time.

        Raises:
            OSError: A file could not be read.
            ValueError: A file does not hold what it should.
        """
        self._found = {}
        self._told = {}
        self.rate = None
        try:
            if self._part("rate", batch, self._read_rate):
                self._part("counters", batch, self._read_counters, COUNTERS)
                self._part("counters_ext", batch, self._read_counters, COUNTERS)
                self._part("hw_counters", batch, self._read_counters, HW_COUNTERS)
            self._part("state", batch, self._read_states)
        finally:
            batch.extend(list(self._found), list(self._found.values()))
        return self._follow(batch)

    def _part(self, name: str, batch: Batch, read: Callable[..., None], *arguments: object) -> bool:
        if batch.at < self._rests.get(name, 0.0):
            return False
        try:
            read(name, *arguments)
        except RefusedError as error:
            if name not in self._rests:
                text = f"is left alone for {self._retry:.0f} s: its driver refuses {error}"
                self._event(batch, "refused", Severity.INFO, text)
            self._rests[name] = batch.at + self._retry
            self._readers.pop(name, None)
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
        self._found[SeriesKey(fabric.PORT_RATE, self.entity, ())] = self.rate

    def _read_states(self, _: str) -> None:
        if self._link:
            self._read_state("state", fabric.PORT_STATE, _STATES)
            self._read_state("phys_state", fabric.PORT_PHYS_STATE, _PHYS_STATES)

    def _read_state(
        self, name: str, metric: Metric, states: Mapping[bytes, tuple[bytes, str]]
    ) -> None:
        data = self._text(name)
        if data is None:
            return
        number, _, word = data.strip().partition(b": ")
        kernels, ours = states.get(number, (b"", ""))
        if word != kernels or not word:
            return  # number and word contradict each other: nobody knows
        self._told[name] = ours
        for _, state in states.values():
            self._found[SeriesKey(metric, self.entity, (state,))] = float(state == ours)

    def _read_counters(self, folder: str, counts: Mapping[str, Count]) -> None:
        readers = self._readers.get(folder)
        if readers is None:
            readers = self._readers[folder] = self._discover(folder, counts)
        number, found = self._files.number, self._found
        for path, key, scale, full, most, counter in readers:
            try:
                raw = number(path)
            except ValueError:
                if not (self._files.read(path) or b"").startswith(b"N/A"):  # N/A (no PMA)
                    raise
                raw = None
            if raw is None:
                if (self._files.root / path).exists():
                    raise RefusedError(path)
                continue  # gone with its device
            value = counter.update(raw) * scale
            if folder == "counters_ext":
                # The same count with 64 bits: where that of 32 bits stopped, it is the larger.
                value = max(value, found.get(key, value))
            found[key] = found.get(key, value) if folder == "hw_counters" else value
            if full is not None:
                found[full] = float(raw == most)

    def _discover(self, folder: str, counts: Mapping[str, Count]) -> list[_Reader]:
        names = self._files.names(f"{self.path}/{folder}")
        wide = "unicast_xmit_packets" in names
        readers = []
        for name, count in ((name, counts[name]) for name in names if name in counts):
            full = None
            if count.most and not (count.short and wide):
                full = SeriesKey(fabric.PORT_ERRORS_SATURATED, self.entity, (name,))
            key = SeriesKey(count.metric, self.entity, count.labels)
            path = f"{self.path}/{folder}/{name}"
            readers.append(_Reader(path, key, count.scale, full, count.most, Counter()))
        return readers

    def _follow(self, batch: Batch) -> bool:
        """Count flaps and tell of them."""
        state = self._told.get("state")
        up = None if state is None else state.startswith("active")
        downed = self._found.get(SeriesKey(fabric.PORT_ERRORS, self.entity, ("link_downed",)))
        seen, unseen = self._flaps.update(up, downed)
        if up is not None or downed is not None:
            batch.add(fabric.PORT_FLAPS, self.entity, float(self._flaps.total))
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
