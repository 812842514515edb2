"""Derives what is left of the capacity of sites, racks, PDUs and breakers, and how well they cool.

Pure functions of the latest samples: what is not known, or is known of some parts only, is absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from collector.alarms import Alarms
from collector.batch import Batch
from collector.catalog import facility, power, thermal
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.settings import Capacity
from collector.store import Store
from collector.topology import Topology

METRICS = frozenset(value for value in vars(facility).values() if isinstance(value, Metric))
INTERVAL = 10.0  # seconds; meters of racks and cooling units are not read more often

_BASES = ("measured", "sum", "estimated")  # of pdu.power, the best first
_LEAST_HEAT = 100.0  # watts; below it a ratio to heat is noise


class _Rating(NamedTuple):
    """What is drawn, what may be, and what is left."""

    draw: Metric
    limit: Metric
    headroom: Metric


_RATINGS = (
    _Rating(power.BREAKER_CURRENT, power.BREAKER_CURRENT_LIMIT, facility.BREAKER_CURRENT_HEADROOM),
    _Rating(power.PHASE_CURRENT, power.PHASE_CURRENT_LIMIT, facility.PHASE_CURRENT_HEADROOM),
    _Rating(power.INLET_CURRENT, power.INLET_CURRENT_LIMIT, facility.INLET_CURRENT_HEADROOM),
)


class Facility:
    """What a site daemon derives.

    Args:
        settings: The config's `[capacity]`.
        host: The host this daemon runs on.
        store: Where readings are taken from.
        topology: Which PDU and cooling unit belongs to which rack, and which rack to which site.
    """

    def __init__(self, settings: Capacity, host: Entity, store: Store, topology: Topology) -> None:
        self._settings = settings
        self._host = host
        self._store = store
        self._topology = topology
        self._alarms = Alarms(store)
        self._breakers = {
            Kind.BREAKER(*text.rsplit("/", 1)): amperes
            for text, amperes in settings.breakers.items()
        }

    def step(self, now: float) -> Batch:
        """Derive from what is known at `now`, in seconds since the epoch."""
        batch = Batch(self._host, now, METRICS, self._store.index)
        for rating in _RATINGS:
            self._left_of_rating(batch, rating, now)
        pdus = self._pdus(batch, now)
        racks = self._add_up(batch, Kind.PDU, Kind.RACK, pdus)
        sites = self._add_up(batch, Kind.RACK, Kind.SITE, racks)
        self._cool(batch, racks, sites, now)
        self._alarms.step(batch)
        return batch

    def _left_of_rating(self, batch: Batch, rating: _Rating, now: float) -> None:
        limits = self._store.by_metric[rating.limit]
        if not limits and not self._breakers:
            return
        share = self._settings.breaker_share if rating.draw.kind is Kind.BREAKER else 1.0
        for key in self._store.by_metric[rating.draw]:
            limit = self._breakers.get(key.entity)
            if limit is None:
                limit = self._store.latest(now, rating.limit, key.entity)
            drawn = self._store.latest(now, rating.draw, key.entity)
            if limit is not None and drawn is not None:
                batch.add(rating.headroom, key.entity, share * limit - drawn)

    def _pdus(self, batch: Batch, now: float) -> dict[Entity, float]:
        """Watts of all PDUs that can be read, and what is left of each."""
        found: dict[Entity, float] = {}
        for pdu in dict.fromkeys(key.entity for key in self._store.by_metric[power.PDU_POWER]):
            bases = (self._store.latest(now, power.PDU_POWER, pdu, basis) for basis in _BASES)
            watts = next((watts for watts in bases if watts is not None), None)
            if watts is None:
                continue
            found[pdu] = watts
            limit = self._settings.pdus.get(pdu.key[0])
            if limit is None:
                limit = self._store.latest(now, power.PDU_POWER_LIMIT, pdu)
            if limit is not None:
                batch.add(facility.PDU_POWER_HEADROOM, pdu, limit - watts)
        return found

    def _add_up(
        self, batch: Batch, part: Kind, whole: Kind, watts: Mapping[Entity, float]
    ) -> dict[Entity, float]:
        """Watts of racks or sites whose parts are all known."""
        metric, limit_metric, headroom, limits = {
            Kind.RACK: (
                facility.RACK_POWER,
                facility.RACK_POWER_LIMIT,
                facility.RACK_POWER_HEADROOM,
                self._settings.racks,
            ),
            Kind.SITE: (
                facility.SITE_POWER,
                facility.SITE_POWER_LIMIT,
                facility.SITE_POWER_HEADROOM,
                self._settings.sites,
            ),
        }[whole]
        found: dict[Entity, float] = {}
        for entity in self._topology.entities(whole):
            limit = limits.get(entity.key[0])
            batch.add(limit_metric, entity, limit)
            total = _sum(watts.get(one.child) for one in self._topology.children(entity, part))
            if total is None:
                continue
            found[entity] = total
            batch.add(metric, entity, total)
            if limit is not None:
                batch.add(headroom, entity, limit - total)
        return found

    def _cool(
        self,
        batch: Batch,
        racks: Mapping[Entity, float],
        sites: Mapping[Entity, float],
        now: float,
    ) -> None:
        loops = self._loops(now)
        heats: dict[Entity, float | None] = {}
        units = {
            key.entity
            for key, row in self._store.by_metric[thermal.COOLING_UNIT_INFO].items()
            if self._store.expires[row] > now
        }
        for unit in units | set(self._topology.entities(Kind.COOLING_UNIT)):
            heat = heats[unit] = self._heat(unit, loops.get(unit, {}), now)
            drawn = self._store.latest(now, thermal.COOLING_UNIT_POWER, unit)
            if heat is None or heat < _LEAST_HEAT:
                continue
            if drawn is not None:
                batch.add(facility.COOLING_POWER_PER_HEAT, unit, drawn / heat)
            cooled = self._topology.parents(unit, Kind.RACK)
            if unit in loops and (taken := _sum(racks.get(link.parent) for link in cooled)):
                batch.add(facility.COOLING_HEAT_SHARE, unit, heat / taken)
        for site, watts in sites.items():
            within = {
                link.child
                for rack in self._topology.children(site, Kind.RACK)
                for link in self._topology.children(rack.child, Kind.COOLING_UNIT)
            }
            # One that is there and has no loops cools by air; of one that is away nothing is known.
            away = {unit for unit in within - units if heats[unit] is None}
            liquid = _sum(heats[unit] for unit in within & (loops.keys() | away))
            if liquid is not None and watts > _LEAST_HEAT:
                batch.add(facility.SITE_LIQUID_HEAT_SHARE, site, liquid / watts)

    def _loops(self, now: float) -> dict[Entity, dict[str, float | None]]:
        """Watts of heat by unit and loop: computed where flow and rise are known, else claimed."""
        found: dict[Entity, dict[str, float | None]] = {}
        for metric in (thermal.COOLANT_HEAT, thermal.COOLANT_HEAT_CLAIMED):
            for key in self._store.by_metric[metric]:
                unit, loop = key.entity.key
                loops = found.setdefault(Kind.COOLING_UNIT(unit), {})
                if loops.get(loop) is None:
                    loops[loop] = self._store.latest(now, metric, key.entity)
        return found

    def _heat(self, unit: Entity, loops: Mapping[str, float | None], now: float) -> float | None:
        """Heat that a unit takes from racks: of its secondary loops, which flow through them.

        The primary loop carries the same heat on, to the facility's water.
        """
        for side in (True, False):
            heat = _sum(w for loop, w in loops.items() if loop.startswith("secondary") is side)
            if heat is not None:
                return heat
        return self._store.latest(now, thermal.COOLING_UNIT_HEAT, unit)


def _sum(parts: Iterable[float | None]) -> float | None:
    """Add up; None where there are no parts, or one of them is not known."""
    known = list(parts)
    return sum(part for part in known if part is not None) if known and None not in known else None
