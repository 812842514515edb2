"""Chooses one total of each kind for each unit, so that nothing is counted twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from collector.batch import Link, SeriesKey
from collector.catalog import power
from collector.entity import Entity, Kind
from collector.read.snmp.device import Reading, Total
from collector.read.snmp.profile import METRICS, Profile

_ALWAYS: dict[Kind, tuple[str, ...]] = {Kind.PDU: (power.PDU_POWER.name,)}


def choose(
    profile: Profile,
    units: Iterable[Entity],
    readings: list[Reading],
    links: Mapping[Entity, Link],
    usable: Callable[[Reading], bool],
) -> tuple[list[Reading], list[Total]]:
    """Keep one total of each kind for each unit: measured, else a sum, else estimated.

    Args:
        profile: Says of which parts a total is the sum.
        units: The device, or those of its chain.
        readings: All that can be read.
        links: Whose part each entity is.
        usable: Whether a reading had a value at discovery.

    Returns:
        The readings without the totals that were not chosen, and the sums.
    """
    totals: list[Total] = []
    for unit in units:
        for name in dict.fromkeys((*_ALWAYS.get(unit.kind, ()), *profile.sum)):
            metric = METRICS[name]
            own = [reading for reading in readings if reading.key[:2] == (metric, unit)]
            best = [r for r in own if r.key.labels != ("estimated",) and usable(r)]
            if not best:
                mine = [r for r in readings if r.key.entity in links
                        and links[r.key.entity].parent == unit]  # fmt: skip
                if parts := _parts(mine, profile.sum.get(name, ()), usable):
                    labels = ("sum",) if metric.labels else ()
                    totals.append(Total(SeriesKey(metric, unit, labels), parts))
                else:
                    best = [r for r in own if usable(r)] or own[:1]
            readings = [r for r in readings if r not in own or r in best[:1]]
    return readings, totals


def _parts(
    readings: list[Reading], names: Iterable[str], usable: Callable[[Reading], bool]
) -> tuple[str, ...]:
    """Return the first kind of parts of which the unit has any, if all of them can be read."""
    for name in names:
        parts = [reading for reading in readings if reading.key.metric is METRICS[name]]
        if parts and all(usable(part) for part in parts):
            return tuple(part.oid for part in parts)
    return ()


def pair_outlets(readings: list[Reading]) -> list[Reading]:
    """Put amperes before watts, and let watts be checked by them."""
    current, watts = power.OUTLET_CURRENT, power.OUTLET_POWER
    readings = sorted(readings, key=lambda reading: reading.key.metric is not current)
    amperes = {r.key.entity: r.oid for r in readings if r.key.metric is current}
    return [
        r._replace(amperes=amperes.get(r.key.entity)) if r.key.metric is watts else r
        for r in readings
    ]
