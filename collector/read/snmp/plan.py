"""Makes the plan of what to poll of a device, from its profile and what a walk of it found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
    Total,
    text,
)
from collector.read.snmp.energy import Energy
from collector.read.snmp.limits import OUTLET_RANGES, RANGES, limits
from collector.read.snmp.profile import (
    INFOS,
    METRICS,
    UNITS,
    Names,
    Profile,
    Raw,
    Table,
    Unit,
    Value,
    fill,
)
from collector.read.snmp.session import Value as SnmpValue

Instance = tuple[int, ...]
Walks = Mapping[str, Mapping[Instance, SnmpValue]]

_MOST = 10**6  # by which a device scales a value
_TOTALS: dict[Kind, dict[str, tuple[str, ...]]] = {
    Kind.PDU: {power.PDU_POWER.name: ()},
    Kind.COOLING_UNIT: {},
}
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
        self.readings: list[Reading] = []
        self.states: list[State] = []
        self.totals: list[Total] = []
        self.infos: dict[Entity, SeriesKey] = {}
        self.links: dict[Entity, Link] = {}

    def device(self, system: Mapping[str, SnmpValue]) -> Device:
        for table in self._profile.table:
            for value in table.values:
                self._add(table, value)
        self._choose_totals()
        self._pair_outlets()
        for unit in self._units:
            labels = self._describe(unit, text(system.get(SYS_DESCR)))
            self.infos[unit] = SeriesKey(INFOS[unit.kind], unit, labels)
        return Device(
            self._profile,
            self.readings,
            self.states,
            self.totals,
            list(self.infos.values()),
            list(self.links.values()),
            uptime=SYS_UPTIME in system,
        )

    def _add(self, table: Table, value: Value) -> None:
        """Prepare one value for each row that has it."""
        metric = METRICS[value.metric]
        column = table.oid(value.column)
        missing = frozenset(table.missing if value.missing is None else value.missing)
        labels = tuple(label for label in (value.basis, value.label) if label is not None)
        for instance in sorted(self._walks.get(column, ())):
            names = self._names(table, instance)
            entity = self._entity(table, value, names)
            if entity is None:
                continue
            oid = f"{column}.{'.'.join(map(str, instance))}"
            if value.states is not None:
                series = {
                    name: SeriesKey(metric, entity, (name,)) for name in value.states.values()
                }
                if self._known.isdisjoint(series.values()):
                    self._known.update(series.values())
                    self.states.append(State(oid, series, value.states, missing))
            else:
                key = SeriesKey(metric, entity, labels)
                factor = self._factor(table, value, instance)
                if factor is None or key in self._known:
                    continue
                self._known.add(key)
                low, high = limits(metric)
                self.readings.append(
                    Reading(
                        oid,
                        key,
                        factor[0].numerator,
                        factor[0].denominator,
                        float(factor[1]),
                        low,
                        high,
                        missing,
                        self._guard(table, instance),
                        None,
                        self._energy(key, float(factor[0])),
                    )
                )
            unit = self._unit(names)
            if entity != unit:
                self.links[entity] = Link(entity, unit, 1.0)
            named = _NAMED.get(entity.kind)
            if named and names.get("name"):
                self.infos[entity] = SeriesKey(named, entity, (str(names["name"]),))

    def _names(self, table: Table, instance: Instance) -> Names:
        parts = [part for part in table.index.split(".") if part]
        names: Names = dict(zip(parts, instance, strict=False))
        for field, place in table.fields.items():
            found = self._lookup(table.oid(place), instance)
            if found is not None:
                names[field] = found if isinstance(found, int) else text(found)
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
        scale = value.divisor or value.signed_scale
        if scale is not None:
            told = self._lookup(scale, instance)
            least = 1 if value.divisor else -_MOST
            if not isinstance(told, int) or not told or not least <= told <= _MOST:
                return None
            factor *= Fraction(1, abs(told)) if value.divisor or told < 0 else told
        return factor, offset

    def _guard(self, table: Table, instance: Instance) -> Guard | None:
        told = table.available
        if told is None or instance not in self._walks.get(table.oid(told.column), ()):
            return None
        oid = f"{table.oid(told.column)}.{'.'.join(map(str, instance))}"
        return Guard(oid, told.good, told.bad, told.when)

    def _energy(self, key: SeriesKey, resolution: float) -> Energy | None:
        if key.metric.instrument is not COUNTER:
            return None
        watts = (OUTLET_RANGES if key.entity.kind is Kind.OUTLET else RANGES)["W"][1]
        return self._energies.get(key) or Energy(watts, resolution)

    def _usable(self, reading: Reading) -> bool:
        column, _, _ = reading.oid.rpartition(".")
        while column not in self._walks:
            column, _, _ = column.rpartition(".")
        instance = tuple(map(int, reading.oid[len(column) + 1 :].split(".")))
        raw = self._walks[column][instance]
        return raw is not None and raw not in reading.missing

    def _choose_totals(self) -> None:
        """Keep one total of each kind for each unit: measured, else a sum, else estimated."""
        for unit in self._units:
            for name in {**_TOTALS[unit.kind], **self._profile.sum}:
                metric = METRICS[name]
                own = [r for r in self.readings if r.key[:2] == (metric, unit)]
                best = [r for r in own if r.key.labels != ("estimated",) and self._usable(r)]
                if not best and (parts := self._parts(unit, self._profile.sum.get(name, ()))):
                    labels = ("sum",) if metric.labels else ()
                    self.totals.append(Total(SeriesKey(metric, unit, labels), parts))
                elif not best:
                    best = [r for r in own if self._usable(r)] or own[:1]
                self.readings = [r for r in self.readings if r not in own or r in best[:1]]

    def _parts(self, unit: Entity, names: Iterable[str]) -> tuple[str, ...]:
        for name in names:
            parts = [
                reading
                for reading in self.readings
                if reading.key.metric is METRICS[name]
                and self.links[reading.key.entity].parent == unit
            ]
            if parts and all(self._usable(part) for part in parts):
                return tuple(part.oid for part in parts)
        return ()

    def _pair_outlets(self) -> None:
        """Read amperes before watts, and check watts by them."""
        current, watts = power.OUTLET_CURRENT, power.OUTLET_POWER
        self.readings.sort(key=lambda reading: reading.key.metric is not current)
        amperes = {r.key.entity: r.oid for r in self.readings if r.key.metric is current}
        self.readings = [
            r._replace(amperes=amperes.get(r.key.entity)) if r.key.metric is watts else r
            for r in self.readings
        ]

    def _describe(self, unit: Entity, descr: str) -> tuple[str, ...]:
        info = self._profile.info
        match = re.search(info.sys_descr, descr) if info.sys_descr else None
        groups = match.groupdict() if match else {}
        first = unit.key[0] == self._name
        found = []
        for label in ("model", "serial", "firmware"):
            rows = self._walks.get(getattr(info, label) or "", {})
            own = [raw for at, raw in rows.items() if at[:1] == (self._units[unit],) or at == (0,)]
            told = text(own[0]) if own else ""
            found.append(told or ((groups.get(label) or "") if first else ""))
        return (info.vendor, *found, self._profile.name)
