"""Makes the plan of what to poll of a device, from its profile and what a walk of it found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from collector.batch import Link, SeriesKey
from collector.catalog import power
from collector.entity import Entity, Kind
from collector.metric import COUNTER
from collector.read.snmp.device import (
    SYS_DESCR,
    SYS_UPTIME,
    Device,
    Guard,
    Reading,
    State,
    text,
)
from collector.read.snmp.energy import Energy
from collector.read.snmp.limits import OUTLET_RANGES, RANGES, limits
from collector.read.snmp.profile import (
    INFOS,
    METRICS,
    RATING,
    Names,
    Profile,
    Raw,
    Table,
    Value,
    fill,
)
from collector.read.snmp.scale import scale
from collector.read.snmp.session import Value as SnmpValue
from collector.read.snmp.totals import choose, pair_outlets

Instance = tuple[int, ...]
Walks = Mapping[str, Mapping[Instance, SnmpValue]]

_HURRY = 10.0  # how much faster than time a counter of seconds may seem to run
_NAMED = {Kind.OUTLET: power.OUTLET_INFO, Kind.ENVIRONMENT: power.ENVIRONMENT_INFO}


def prepare(
    profile: Profile,
    name: str,
    walks: Walks,
    system: Mapping[str, SnmpValue],
    energies: Mapping[SeriesKey, Energy] | None = None,
) -> Device:
    """Make the plan.

    Args:
        profile: The device's family.
        name: The device's key.
        walks: What was read below each of the profile's columns, by the instance.
        system: sysDescr and what else was read of the agent itself.
        energies: Energy counters of a former plan, which go on.
    """
    return _Plan(profile, name, walks, energies or {}).device(system)


class _Plan:
    def __init__(
        self,
        profile: Profile,
        name: str,
        walks: Walks,
        energies: Mapping[SeriesKey, Energy],
    ) -> None:
        self._profile = profile
        self._name = name
        self._walks = walks
        self._energies = energies
        self._known: set[SeriesKey] = set()
        self._units: dict[Entity, Raw] = {}
        self._readings: list[Reading] = []
        self._states: list[State] = []
        self._infos: dict[Entity, SeriesKey] = {}
        self._ratings: dict[SeriesKey, float] = {}
        self._settings: dict[str, SnmpValue] = {}
        self._links: dict[Entity, Link] = {}

    def device(self, system: Mapping[str, SnmpValue]) -> Device:
        for table in self._profile.table:
            for value in table.values:
                self._add(table, value)
        readings, totals = choose(
            self._profile, self._units, self._readings, self._links, self._usable
        )
        for unit in self._units:
            labels = self._describe(unit, text(system.get(SYS_DESCR)))
            self._infos[unit] = SeriesKey(INFOS[unit.kind], unit, labels)
        return Device(
            self._profile,
            pair_outlets(readings),
            self._states,
            totals,
            dict.fromkeys(self._infos.values(), 1.0) | self._ratings,
            list(self._links.values()),
            self._settings,
            uptime=SYS_UPTIME in system,
        )

    def _add(self, table: Table, value: Value) -> None:
        """Prepare one value for each row that has it."""
        metric = METRICS[value.metric]
        column = table.oid(value.column)
        missing = frozenset(table.missing if value.missing is None else value.missing)
        labels = tuple(label for label in (value.basis, value.label) if label is not None)
        for instance in sorted(self._walks.get(column, ())):
            if table.index and len(instance) != len(table.index.split(".")):
                continue  # the agent means something else by its rows than the MIB does
            names = self._names(table, instance)
            entity = self._entity(table, value, names)
            if entity is None:
                continue
            if value.states is not None:
                self._add_state(value, entity, _dotted(column, instance), missing)
            elif not self._add_number(table, value, instance, SeriesKey(metric, entity, labels)):
                continue
            unit = self._unit(names)
            if entity != unit:
                self._links[entity] = Link(entity, unit, 1.0)
            named = _NAMED.get(entity.kind)
            if named and names.get("name"):
                self._infos[entity] = SeriesKey(named, entity, (str(names["name"]),))

    def _add_state(self, value: Value, entity: Entity, oid: str, missing: frozenset[Raw]) -> None:
        states = value.states or {}
        metric = METRICS[value.metric]
        series = {name: SeriesKey(metric, entity, (name,)) for name in states.values()}
        if self._known.isdisjoint(series.values()):
            self._known.update(series.values())
            self._states.append(State(oid, series, states, missing))

    def _add_number(self, table: Table, value: Value, instance: Instance, key: SeriesKey) -> bool:
        """Prepare a number, or take it now if it is a rating; say whether the row has it."""
        scaled = scale(table, value, lambda oid: self._find(oid, instance))
        if scaled is None or key in self._known:
            return False
        column = table.oid(value.column)
        missing = frozenset(table.missing if value.missing is None else value.missing)
        low, high = limits(key.metric)
        if RATING in key.metric.name:
            raw = _figure(self._walks[column][instance], value.pattern, missing)
            if raw is None or not 0 < (rated := raw * scaled.factor + scaled.offset) <= high:
                return False
            self._known.add(key)
            self._ratings[key] = float(rated)
            return True
        self._known.add(key)
        if scaled.setting is not None:
            self._settings[scaled.setting] = self._raw(scaled.setting)
        self._readings.append(
            Reading(
                _dotted(column, instance),
                key,
                scaled.factor.numerator,
                scaled.factor.denominator,
                float(scaled.offset),
                low,
                high,
                missing,
                self._guard(table, instance),
                None,
                self._energy(key, float(scaled.factor)),
                scaled.setting,
            )
        )
        return True

    def _names(self, table: Table, instance: Instance) -> Names:
        parts = [part for part in table.index.split(".") if part]
        names: Names = dict(zip(parts, instance, strict=False))
        for field, place in table.fields.items():
            found = self._find(table.oid(place), instance)
            if found is not None and found[1] is not None:
                names[field] = found[1] if isinstance(found[1], int) else text(found[1])
        if table.unit is not None and (unit := fill(table.unit, names)) is not None:
            names["unit"] = unit
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
        unit = self._unit(names)
        if table.kind is self._profile.kind:
            return unit
        key = fill(table.key, names)
        return None if key is None else table.kind(unit.key[0], key)

    def _unit(self, names: Names) -> Entity:
        number = names.get("unit", self._profile.first_unit)
        first = number == self._profile.first_unit
        unit = self._profile.kind(self._name if first else f"{self._name}/{number}")
        self._units[unit] = number
        return unit

    def _find(self, oid: str, instance: Instance) -> tuple[str, SnmpValue] | None:
        """Find a row's object in a table with the same index or the leading part of it."""
        rows = self._walks.get(oid, {})
        for length in range(len(instance), 0, -1):
            if (at := instance[:length]) in rows:
                return _dotted(oid, at), rows[at]
        return (_dotted(oid, (0,)), rows[0,]) if (0,) in rows else None

    def _guard(self, table: Table, instance: Instance) -> Guard | None:
        told = table.available
        if told is None or instance not in self._walks.get(table.oid(told.column), ()):
            return None
        return Guard(_dotted(table.oid(told.column), instance), told.good, told.bad, told.when)

    def _energy(self, key: SeriesKey, resolution: float) -> Energy | None:
        if key.metric.instrument is not COUNTER:
            return None
        if key.metric.unit != "J":
            return self._energies.get(key) or Energy(_HURRY, resolution)
        watts = (OUTLET_RANGES if key.entity.kind is Kind.OUTLET else RANGES)["W"][1]
        return self._energies.get(key) or Energy(watts, resolution)

    def _usable(self, reading: Reading) -> bool:
        raw = self._raw(reading.oid)
        return raw is not None and raw not in reading.missing

    def _raw(self, oid: str) -> SnmpValue:
        """Return what was walked at an OID of a column and an instance."""
        column, _, _ = oid.rpartition(".")
        while column not in self._walks:
            column, _, _ = column.rpartition(".")
        return self._walks[column][tuple(map(int, oid[len(column) + 1 :].split(".")))]

    def _describe(self, unit: Entity, descr: str) -> tuple[str, ...]:
        info = self._profile.info
        match = re.search(info.sys_descr, descr) if info.sys_descr else None
        groups = match.groupdict() if match else {}
        first = unit.key[0] == self._name
        found = []
        for label in ("model", "serial", "firmware"):
            rows = self._walks.get(getattr(info, label) or "", {})
            own = [
                raw
                for at, raw in rows.items()
                if at[:1] == (self._units[unit],) or (first and at == (0,))
            ]
            told = text(own[0]) if own else ""
            found.append(told or ((groups.get(label) or "") if first else ""))
        return (info.vendor, *found, self._profile.name)


def _dotted(column: str, instance: Instance) -> str:
    return ".".join((column, *map(str, instance)))


def _figure(value: SnmpValue, pattern: str | None, missing: frozenset[Raw]) -> Fraction | None:
    """Return a rating, which some devices write as text, say 16A; None if it is none."""
    if value in missing:
        return None
    if isinstance(value, int):
        return Fraction(value)
    match = re.fullmatch(pattern or r"(\d+(?:\.\d+)?)", text(value))
    return Fraction(match[1]) if match else None
