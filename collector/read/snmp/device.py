"""One device as discovered: the objects to poll, and what to make of their values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from collector.batch import Batch, Link, SeriesKey
from collector.entity import Entity
from collector.read.snmp.energy import Energy
from collector.read.snmp.profile import Profile, Raw
from collector.read.snmp.session import Value

SYS_DESCR, SYS_OBJECT_ID, SYS_UPTIME = (f"1.3.6.1.2.1.1.{n}.0" for n in (1, 2, 3))

# Watts of an outlet can't exceed its amperes times 480 V in three phases; half an ampere allows
# for coarse meters and for watts and amperes that were not read at the same instant.
VOLTS, AMPERES = 480.0 * 3**0.5, 0.5

_TEXT = 255  # characters of a text that are kept; SNMP's DisplayString ends there too


class Guard(NamedTuple):
    """An object that says whether a value is a reading; see `profile.Available`."""

    oid: str
    good: frozenset[int]
    bad: frozenset[int]
    when: frozenset[int]


class Reading(NamedTuple):
    """One number that is polled: `raw * num / den + offset`, if it is between the limits."""

    oid: str
    key: SeriesKey
    num: int
    den: int
    offset: float
    low: float
    high: float
    missing: frozenset[Raw]
    guard: Guard | None
    amperes: str | None  # of the same outlet, to check watts by
    energy: Energy | None
    setting: str | None = None  # the object that tells the unit


class State(NamedTuple):
    """One state that is polled: a series for each that there can be, 1 for the one that is."""

    oid: str
    keys: Mapping[str, SeriesKey]
    names: Mapping[int, str]
    missing: frozenset[Raw]


class Total(NamedTuple):
    """A value of the device that is the sum of its parts' readings."""

    key: SeriesKey
    parts: tuple[str, ...]


class Device:
    """What is polled of one device, prepared so that a poll is one pass over a list.

    Args:
        profile: The device's family.
        readings: The numbers, amperes before the watts that are checked by them.
        states: The states.
        totals: Sums of readings.
        constants: Series that stay: what the device is, its ratings.
        links: What belongs to what.
        settings: Objects that tell units, and what they told when the readings were scaled.
        uptime: Whether the agent tells when it started.
    """

    def __init__(
        self,
        profile: Profile,
        readings: list[Reading],
        states: list[State],
        totals: list[Total],
        constants: Mapping[SeriesKey, float],
        links: list[Link],
        settings: Mapping[str, Value],
        *,
        uptime: bool,
    ) -> None:
        self.profile = profile
        self.readings = readings
        self._states = states
        self._totals = totals
        self._constants = list(constants)
        self._stay = list(constants.values())
        self._links = links
        self._settings = settings
        self._doubted = []
        oids = [SYS_UPTIME] if uptime else []
        for reading in readings:
            oids.append(reading.oid)
            if reading.guard is not None:
                if reading.guard.when:
                    self._doubted.append((reading.oid, reading.guard.oid, reading.guard.when))
                else:
                    oids.append(reading.guard.oid)
        oids += [state.oid for state in states]
        oids += settings
        self.oids = list(dict.fromkeys(oids))

    @property
    def energies(self) -> dict[SeriesKey, Energy]:
        """The energy counters, which a later discovery goes on with."""
        return {r.key: r.energy for r in self.readings if r.energy is not None}

    def doubts(self, values: Mapping[str, Value]) -> list[str]:
        """Return what must be asked too, now that the values of `oids` are known."""
        return [guard for oid, guard, when in self._doubted if values.get(oid) in when]

    def read(
        self, batch: Batch, values: Mapping[str, Value], unanswered: set[str], now: float
    ) -> bool:
        """Add what the agent answered.

        What it has no more and what cannot be true are failures of that entity. What was not
        answered at all is left to the caller to report.

        Args:
            batch: Takes samples, links and failures.
            values: The answered objects of `oids`.
            unanswered: Objects to which no reply came.
            now: Seconds on a clock that never jumps.

        Returns:
            Whether objects are gone or units changed, so that the device is to be discovered anew.
        """
        gone: dict[Entity, list[str]] = defaultdict(list)
        found: dict[str, float] = {}
        keys: list[SeriesKey] = []
        read: list[float] = []
        get = values.get
        changed = {oid for oid, told in self._settings.items() if get(oid, told) != told}
        for row in self._scaled(changed):
            oid, key, num, den, offset, low, high, missing, guard, amperes, energy, _ = row
            raw = get(oid)
            if raw is None:
                if oid not in unanswered:
                    gone[key.entity].append(key.metric.name)
                continue
            if raw in missing:
                continue
            if guard is not None and (not guard.when or raw in guard.when):
                told = get(guard.oid)
                if told is None and guard.oid not in unanswered:
                    gone[key.entity].append(key.metric.name)
                if told is None or told in guard.bad or (guard.good and told not in guard.good):
                    continue
            try:
                if raw.__class__ is not int:
                    raw = number(raw, missing)
                    if raw is None:
                        continue
                value = raw * num / den + offset
                if not low <= value <= high:
                    raise ValueError(f"reads {value:g}, which cannot be")
                if amperes is not None and value > VOLTS * (found.get(amperes, 1e9) + AMPERES):
                    raise ValueError(f"reads {value:g} at {found[amperes]:g} A, which cannot be")
                if energy is not None:
                    total = energy.update(value, now)
                    if total is None:
                        continue
                    value = total
            except (ValueError, OverflowError) as error:
                batch.failed(key.entity, ValueError(f"{key.metric.name} {error} ({oid})"))
                continue
            found[oid] = value
            keys.append(key)
            read.append(value)
        for key, parts in self._totals:
            if all(part in found for part in parts):
                keys.append(key)
                read.append(sum(found[part] for part in parts))
        batch.extend(keys, read)
        batch.extend(self._constants, self._stay)
        batch.extend_links(self._links)
        for state in self._states:
            raw = get(state.oid)
            if raw is None and state.oid not in unanswered:
                key = next(iter(state.keys.values()))
                gone[key.entity].append(key.metric.name)
            elif isinstance(raw, int) and raw not in state.missing:
                self._add_state(batch, state, raw)
        for entity, names in gone.items():
            batch.failed(entity, LookupError(f"the device no longer has {', '.join(names)}"))
        return bool(gone or changed)

    def _scaled(self, changed: set[str]) -> list[Reading]:
        """The readings whose units are still those of the discovery."""
        if not changed:
            return self.readings
        return [reading for reading in self.readings if reading.setting not in changed]

    def _add_state(self, batch: Batch, state: State, raw: int) -> None:
        name = state.names.get(raw)
        if name is None:
            metric, entity, _ = next(iter(state.keys.values()))
            error = f"{metric.name} is {raw}, no known state ({state.oid})"
            batch.failed(entity, ValueError(error))
            return
        batch.extend(list(state.keys.values()), [float(key == name) for key in state.keys])


def text(value: Value) -> str:
    """Return a name that a device gives, free of what does not print."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    printable = (char for char in str(value or "") if char.isprintable())
    return "".join(printable).strip()[:_TEXT]


def number(value: Value, missing: frozenset[Raw]) -> float | None:
    """Return a number that comes as text or Opaque float; None if it is one of `missing`.

    Raises:
        ValueError: It is no number.
    """
    if isinstance(value, int | float):
        return value
    words = text(value)
    if words in missing:
        return None
    try:
        return float(words)
    except ValueError:
        raise ValueError(f"reads {words!r}, which is no number") from None
