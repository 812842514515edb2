"""One PDU as discovered: the objects to poll, and what to make of their values."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from typing import NamedTuple

from collector.batch import Batch
from collector.catalog import power
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from plugins.power.pdu_snmp.energy import Energy
from plugins.power.pdu_snmp.profile import (
    METRICS,
    UNITS,
    Names,
    Profile,
    Raw,
    Table,
    Unit,
    Value,
)
from plugins.power.pdu_snmp.session import Value as SnmpValue

Instance = tuple[int, ...]
Walks = Mapping[str, Mapping[Instance, SnmpValue]]

SYS_DESCR, SYS_OBJECT_ID, SYS_UPTIME = (f"1.3.6.1.2.1.1.{n}.0" for n in (1, 2, 3))

# What no device can truly read, by the metric's unit: below the lowest, above the highest. An
# outlet carries at most 63 A in three phases of 400 V, about 44 kW; a floor PDU some hundred kW.
RANGES = {
    "W": (0.0, 1e6),
    "{VA}": (0.0, 1e6),
    "A": (0.0, 2000.0),
    "V": (0.0, 1000.0),
    "Hz": (0.0, 1000.0),
    "J": (0.0, 1e16),
    "Cel": (-60.0, 150.0),
    "1": (0.0, 1.0),
}
OUTLET_RANGES = {"W": (0.0, 5e4), "{VA}": (0.0, 5e4), "A": (0.0, 125.0)}
POWER_FACTOR = (-1.0, 1.0)  # the sign tells leading from lagging on some devices

# Watts of an outlet can't exceed its amperes times 480 V in three phases; half an ampere allows
# for coarse meters and for watts and amperes that were not read at the same instant.
VOLTS, AMPERES = 480.0 * 3**0.5, 0.5

_SUMMABLE = {"W", "{VA}", "J"}
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
    metric: Metric
    entity: Entity
    labels: tuple[str, ...]
    num: int
    den: int
    offset: float
    low: float
    high: float
    missing: frozenset[Raw]
    guard: Guard | None
    amperes: str | None  # of the same outlet, to check watts by
    energy: Energy | None


class State(NamedTuple):
    """One state that is polled."""

    oid: str
    metric: Metric
    entity: Entity
    names: Mapping[int, str]
    missing: frozenset[Raw]


class Total(NamedTuple):
    """A value of the PDU that is the sum of its parts' readings."""

    metric: Metric
    entity: Entity
    labels: tuple[str, ...]
    parts: tuple[str, ...]


class Device:
    """What is polled of one PDU, prepared so that a poll is one pass over a list.

    Args:
        profile: The PDU's family.
        name: The `pdu` key.
        walks: What was read below each of the profile's columns.
        system: sysDescr and what else was read of the agent itself.
        energies: Energy counters of a former discovery, which go on.
    """

    def __init__(
        self,
        profile: Profile,
        name: str,
        walks: Walks,
        system: Mapping[str, SnmpValue],
        energies: Mapping[tuple[Metric, Entity], Energy] | None = None,
    ) -> None:
        self.profile = profile
        self.name = name
        self.readings: list[Reading] = []
        self.states: list[State] = []
        self.totals: list[Total] = []
        self.infos: dict[Entity, tuple[Metric, tuple[str, ...]]] = {}
        self.links: dict[Entity, Entity] = {}
        self.energies: dict[tuple[Metric, Entity], Energy] = {}
        self._walks = walks
        self._former = energies or {}
        for table in profile.table:
            for value in table.values:
                self._add(table, value)
        self._choose_totals()
        self._pair_outlets()
        for unit in sorted({*self.links.values(), *self._pdus()}, key=lambda pdu: pdu.key):
            self.infos[unit] = (power.PDU_INFO, self._describe(unit, text(system.get(SYS_DESCR))))
        del self._walks, self._former
        oids = [SYS_UPTIME] if SYS_UPTIME in system else []
        for reading in self.readings:
            oids.append(reading.oid)
            if reading.guard is not None and not reading.guard.when:
                oids.append(reading.guard.oid)
        oids += [state.oid for state in self.states]
        self.oids = list(dict.fromkeys(oids))
        self._doubted = [
            (r.oid, r.guard.oid, r.guard.when) for r in self.readings if r.guard and r.guard.when
        ]

    def doubts(self, values: Mapping[str, SnmpValue]) -> list[str]:
        """Return what must be asked too, now that the values of `oids` are known."""
        return [guard for oid, guard, when in self._doubted if values.get(oid) in when]

    def read(
        self, batch: Batch, values: Mapping[str, SnmpValue], unanswered: set[str], now: float
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
            Whether objects are gone, so that the device is to be discovered anew.
        """
        gone: dict[Entity, list[str]] = defaultdict(list)
        found: dict[str, float] = {}
        add, get = batch.add, values.get
        for (
            oid, metric, entity, labels, num, den, offset, low, high,
            missing, guard, amperes, energy,
        ) in self.readings:  # fmt: skip
            raw = get(oid)
            if raw is None:
                if oid not in unanswered:
                    gone[entity].append(metric.name)
                continue
            if raw in missing:
                continue
            if guard is not None and (not guard.when or raw in guard.when):
                told = get(guard.oid)
                if told is None and guard.oid not in unanswered:
                    gone[entity].append(metric.name)
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
            except ValueError as error:
                batch.failed(entity, ValueError(f"{metric.name} {error} ({oid})"))
                continue
            found[oid] = value
            add(metric, entity, value, *labels)
        self._read_states(batch, values, unanswered, gone)
        for metric, entity, labels, parts in self.totals:
            if all(part in found for part in parts):
                add(metric, entity, sum(found[part] for part in parts), *labels)
        for entity, (metric, labels) in self.infos.items():
            add(metric, entity, 1.0, *labels)
        for child, parent in self.links.items():
            batch.link(child, parent)
        for entity, names in gone.items():
            batch.failed(entity, LookupError(f"the PDU no longer has {', '.join(names)}"))
        return bool(gone)

    def _read_states(
        self,
        batch: Batch,
        values: Mapping[str, SnmpValue],
        unanswered: set[str],
        gone: dict[Entity, list[str]],
    ) -> None:
        for oid, metric, entity, names, missing in self.states:
            raw = values.get(oid)
            if raw is None and oid not in unanswered:
                gone[entity].append(metric.name)
            if not isinstance(raw, int) or raw in missing:
                continue
            if raw not in names:
                batch.failed(entity, ValueError(f"{metric.name} is {raw}, no known state ({oid})"))
                continue
            for name in dict.fromkeys(names.values()):
                batch.add(metric, entity, float(name == names[raw]), name)

    def _add(self, table: Table, value: Value) -> None:
        """Prepare one value for each row that has it."""
        metric = METRICS[value.metric]
        column = table.oid(value.column)
        missing = frozenset(table.missing if value.missing is None else value.missing)
        known = {(r.metric, r.entity, r.labels) for r in self.readings}
        known |= {(s.metric, s.entity, ()) for s in self.states}
        labels = () if value.basis is None else (value.basis,)
        for instance in sorted(self._walks.get(column, ())):
            names = self._names(table, instance)
            entity = self._entity(table, value, names)
            if entity is None or (metric, entity, labels) in known:
                continue
            oid = f"{column}.{'.'.join(map(str, instance))}"
            if value.states is not None:
                self.states.append(State(oid, metric, entity, value.states, missing))
            else:
                factor = self._factor(table, value, instance)
                if factor is None:
                    continue
                offset = float(factor[1])
                low, high = _limits(metric)
                self.readings.append(
                    Reading(
                        oid,
                        metric,
                        entity,
                        labels,
                        factor[0].numerator,
                        factor[0].denominator,
                        offset,
                        low,
                        high,
                        missing,
                        self._guard(table, instance),
                        None,
                        self._energy(metric, entity, float(factor[0])),
                    )
                )
            pdu = self._pdu(names)
            if entity != pdu:
                self.links[entity] = pdu
            named = _NAMED.get(entity.kind)
            if named and names.get("name"):
                self.infos[entity] = (named, (str(names["name"]),))

    def _names(self, table: Table, instance: Instance) -> Names:
        parts = [part for part in table.index.split(".") if part]
        names: Names = dict(zip(parts, instance, strict=False))
        for field, place in table.fields.items():
            found = self._lookup(table.oid(place), instance)
            if found is not None:
                names[field] = found if isinstance(found, int) else text(found)
        return names

    def _entity(self, table: Table, value: Value, names: Names) -> Entity | None:
        """Return the entity of a row, or None if the row does not count."""
        if value.sensor is not None and names.get("sensor") != value.sensor:
            return None
        for field, wanted in (*table.where.items(), *value.where.items()):
            if names.get(field) not in wanted:
                return None
        for field, unwanted in (*table.unless.items(), *value.unless.items()):
            if names.get(field) in unwanted:
                return None
        pdu = self._pdu(names)
        if table.kind is Kind.PDU:
            return pdu
        keys = re.findall(r"\{(\w+)\}", table.key)
        if any(key not in names for key in keys):
            return None
        key = re.sub(r"\{(\w+)\}", lambda match: str(names[match[1]]), table.key)
        return table.kind(pdu.key[0], key)

    def _pdu(self, names: Names) -> Entity:
        unit = names.get("unit", self.profile.first_unit)
        first = unit == self.profile.first_unit
        return Kind.PDU(self.name if first else f"{self.name}/{unit}")

    def _pdus(self) -> Iterator[Entity]:
        for entity in [r.entity for r in self.readings] + [s.entity for s in self.states]:
            if entity.kind is Kind.PDU:
                yield entity

    def _lookup(self, oid: str, instance: Instance) -> SnmpValue:
        """Find a row's object in a table with the same index or the leading part of it."""
        rows = self._walks.get(oid, {})
        for length in range(len(instance), 0, -1):
            if instance[:length] in rows:
                return rows[instance[:length]]
        return rows.get((0,))

    def _factor(
        self, table: Table, value: Value, instance: Instance
    ) -> tuple[Fraction, Fraction] | None:
        """Return what to multiply by and to add, or None where the row does not tell its scale."""
        unit = value.unit
        if isinstance(unit, Unit):
            told = self._lookup(unit.oid, instance)
            unit = unit.units.get(told, "") if isinstance(told, int) else ""
        if unit not in UNITS:
            return None
        _, factor, offset = UNITS[unit]
        factor *= Fraction(str(value.scale))
        digits = value.digits or table.digits
        if digits is not None:
            told = self._lookup(digits, instance)
            if not isinstance(told, int) or not 0 <= told <= 12:
                return None
            factor /= 10**told
        if value.prefix is not None:
            told = self._lookup(value.prefix, instance)
            if not isinstance(told, int) or not 1 <= told <= 17:
                return None
            factor *= Fraction(1000) ** (told - 9)
        return factor, offset

    def _guard(self, table: Table, instance: Instance) -> Guard | None:
        told = table.available
        if told is None or instance not in self._walks.get(table.oid(told.column), ()):
            return None
        oid = f"{table.oid(told.column)}.{'.'.join(map(str, instance))}"
        return Guard(oid, told.good, told.bad, told.when)

    def _energy(self, metric: Metric, entity: Entity, resolution: float) -> Energy | None:
        if metric.instrument is not COUNTER:
            return None
        key = (metric, entity)
        watts = (OUTLET_RANGES if entity.kind is Kind.OUTLET else RANGES)["W"][1]
        self.energies[key] = self._former.get(key) or Energy(watts, resolution)
        return self.energies[key]

    def _usable(self, reading: Reading) -> bool:
        column, _, _ = reading.oid.rpartition(".")
        while column not in self._walks:
            column, _, _ = column.rpartition(".")
        instance = tuple(map(int, reading.oid[len(column) + 1 :].split(".")))
        raw = self._walks[column][instance]
        return raw is not None and raw not in reading.missing

    def _choose_totals(self) -> None:
        """Keep one total of each kind for each PDU: measured, else a sum, else estimated."""
        for pdu in dict.fromkeys((*self.links.values(), *self._pdus())):
            for name in {power.PDU_POWER.name: (), **self.profile.sum}:
                metric = METRICS[name]
                own = [r for r in self.readings if r.metric is metric and r.entity == pdu]
                best = [r for r in own if r.labels != ("estimated",) and self._usable(r)]
                if not best and (parts := self._parts(pdu, self.profile.sum.get(name, ()))):
                    labels = ("sum",) if metric.labels else ()
                    self.totals.append(Total(metric, pdu, labels, parts))
                elif not best:
                    best = [r for r in own if self._usable(r)] or own[:1]
                self.readings = [r for r in self.readings if r not in own or r in best[:1]]

    def _parts(self, pdu: Entity, names: Iterable[str]) -> tuple[str, ...]:
        for name in names:
            parts = [
                reading
                for reading in self.readings
                if reading.metric is METRICS[name] and self.links.get(reading.entity) == pdu
            ]
            if parts and all(self._usable(part) for part in parts):
                return tuple(part.oid for part in parts)
        return ()

    def _pair_outlets(self) -> None:
        """Read amperes before watts, and check watts by them."""
        amperes = {r.entity: r.oid for r in self.readings if r.metric is power.OUTLET_CURRENT}
        self.readings.sort(key=lambda reading: reading.metric is not power.OUTLET_CURRENT)
        self.readings = [
            r._replace(amperes=amperes.get(r.entity)) if r.metric is power.OUTLET_POWER else r
            for r in self.readings
        ]

    def _describe(self, pdu: Entity, descr: str) -> tuple[str, ...]:
        info = self.profile.info
        match = re.search(info.sys_descr, descr) if info.sys_descr else None
        groups = match.groupdict() if match else {}
        first = pdu.key[0] == self.name
        unit = self.profile.first_unit if first else int(pdu.key[0].rpartition("/")[2])
        found = []
        for label in ("model", "serial", "firmware"):
            rows = self._walks.get(getattr(info, label) or "", {})
            own = [raw for at, raw in rows.items() if at[:1] == (unit,) or at == (0,)]
            told = text(own[0]) if own else ""
            found.append(told or ((groups.get(label) or "") if first else ""))
        return (info.vendor, *found, self.profile.name)


_NAMED = {Kind.OUTLET: power.OUTLET_INFO, Kind.ENVIRONMENT: power.ENVIRONMENT_INFO}


def _limits(metric: Metric) -> tuple[float, float]:
    if metric.name.endswith("power_factor"):
        return POWER_FACTOR
    if metric.kind is Kind.OUTLET and metric.unit in OUTLET_RANGES:
        return OUTLET_RANGES[metric.unit]
    return RANGES[metric.unit]


def text(value: SnmpValue) -> str:
    """Return a name that a device gives, free of what does not print."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    printable = (char for char in str(value or "") if char.isprintable())
    return "".join(printable).strip()[:_TEXT]


def number(value: SnmpValue, missing: frozenset[Raw]) -> float | None:
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
