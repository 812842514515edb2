"""Binds what stands at an address of the service to the series that is made of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from collector.batch import Link, SeriesKey
from collector.entity import Entity
from collector.metric import COUNTER, Metric
from collector.read.snmp.energy import Energy
from collector.read.snmp.limits import RANGES, limits
from plugins.power.redfish.document import number, path_of

# Beside those of collector.read.snmp.limits. A fan or pump that turns at all makes more than 100
# turns per minute: a lower number is a percentage under the wrong name (facts: SpeedRPM 40.0).
_RANGES = {
    "{rpm}": (0.0, 1e6),
    "{Pa}": (-1e6, 1e8),
    "m3/s": (0.0, 10.0),
    "s": (0.0, 1e10),
}
_SLOWEST = 100.0  # turns per minute
_WATTS = RANGES["W"][1]


class Need(IntEnum):
    """How a value is to be had."""

    FREE = 0  # only if a document that is read anyway has it
    SLOW = 1  # it changes rarely
    FAST = 2  # with each poll


class Found(NamedTuple):
    """What a series is now; `None` takes it away."""

    key: SeriesKey
    value: float | None


@dataclass(slots=True)
class Number:
    """A number: `value = raw * factor` in the metric's unit.

    Attributes:
        key: The series.
        places: Addresses at which it stands, the resource's own first.
        factor: To the metric's unit.
        energy: Makes a counter of it that never falls.
    """

    key: SeriesKey
    places: tuple[str, ...]
    factor: float = 1.0
    need: Need = Need.FAST
    energy: Energy | None = None

    def series(self) -> tuple[SeriesKey, ...]:
        """The series that it makes."""
        return (self.key,)

    def take(self, raw: object, now: float) -> Iterator[Found]:
        """Make a sample of what stands at the address; `now` is of a clock that never jumps."""
        value = number(raw)
        if value is not None:
            value *= self.factor
            low, high = bounds(self.key.metric)
            if not low <= value <= high or (
                self.key.metric.unit == "{rpm}" and 0 < value < _SLOWEST
            ):
                value = None
        if value is not None and self.energy:
            try:
                value = self.energy.update(value, now)
            except ValueError:
                value = None  # a jump that no wire can carry; the next reading may confirm it
        yield Found(self.key, value)


@dataclass(slots=True)
class State:
    """A word that tells a state: 1 for that one, 0 for the others; an unknown word is no state."""

    metric: Metric
    entity: Entity
    labels: tuple[str, ...]
    states: Mapping[str, str]
    places: tuple[str, ...]
    need: Need

    def series(self) -> tuple[SeriesKey, ...]:
        """The series that it makes."""
        names = dict.fromkeys(self.states.values())
        return tuple(SeriesKey(self.metric, self.entity, (*self.labels, name)) for name in names)

    def take(self, raw: object, now: float) -> Iterator[Found]:
        """Make the samples of all states."""
        told = self.states.get(raw) if isinstance(raw, str) else None
        for key in self.series():
            yield Found(key, None if told is None else float(key.labels[-1] == told))


Binding = Number | State


@dataclass(slots=True)
class Derived:
    """A value that is computed of others, once all of them are there."""

    key: SeriesKey
    of: tuple[SeriesKey, ...]
    kind: str  # sum | rise | heat


@dataclass(slots=True)
class Bindings:
    """All that discovery found: what to read, and what is true of it without reading.

    Attributes:
        energies: Counters that go on from one discovery to the next.
        bound: By series.
        at: By address.
        infos: Info series.
        links: Of parts to what they are a part of.
        derived: What is computed.
    """

    energies: dict[SeriesKey, Energy] = field(default_factory=dict)
    bound: dict[SeriesKey, Binding] = field(default_factory=dict)
    at: dict[str, list[Binding]] = field(default_factory=lambda: defaultdict(list))
    infos: dict[Entity, SeriesKey] = field(default_factory=dict)
    links: dict[Entity, Link] = field(default_factory=dict)
    derived: dict[SeriesKey, Derived] = field(default_factory=dict)
    _owner: dict[Entity, str] = field(default_factory=dict)

    def number(
        self,
        metric: Metric,
        entity: Entity,
        places: Sequence[str],
        *labels: str,
        factor: float = 1.0,
        need: Need = Need.FAST,
    ) -> bool:
        """Bind a number, unless the series has a source or one of the places makes such a series.

        Args:
            metric: What it is.
            entity: Of what.
            places: Addresses, empty ones among them.
            labels: The metric's own.
            factor: To the metric's unit.
            need: How it is to be had.

        Returns:
            It was bound.
        """
        key = SeriesKey(metric, entity, labels)
        where = tuple(filter(None, places))
        if not where or key in self.bound or any(self.has(place, metric) for place in where):
            return False
        energy = None
        if metric.instrument is COUNTER and metric.unit == "J":
            energy = self.energies.setdefault(key, Energy(_WATTS, max(factor, 1e3)))
        self._add(Number(key, where, factor, need, energy))
        return True

    def state(
        self,
        metric: Metric,
        entity: Entity,
        places: Sequence[str],
        states: Mapping[str, str],
        *labels: str,
        need: Need = Need.SLOW,
    ) -> None:
        """Bind a word that tells a state, unless the series has a source."""
        binding = State(metric, entity, labels, states, tuple(filter(None, places)), need)
        if not self.bound.keys() & set(binding.series()):
            self._add(binding)

    def has(self, place: str, metric: Metric) -> bool:
        """Whether a series of this metric is made of what stands at the address."""
        return any(key.metric is metric for one in self.at.get(place, ()) for key in one.series())

    def of(self, metric: Metric, entity: Entity | None = None) -> list[SeriesKey]:
        """Series of a metric that are bound, of one entity or of any."""
        return [
            key
            for key in self.bound
            if key.metric is metric and (entity is None or key.entity == entity)
        ]

    def own(self, entity: Entity, path: str, parent: Entity) -> bool:
        """Claim an entity for a resource, as a part of `parent`; False where another has it."""
        if self._owner.setdefault(entity, path) != path:
            return False
        self.belongs(entity, parent)
        return True

    def belongs(self, entity: Entity, parent: Entity) -> None:
        """Say that an entity is a part of another."""
        if entity != parent:
            self.links[entity] = Link(entity, parent, 1.0)

    def _add(self, binding: Binding) -> None:
        for key in binding.series():
            self.bound[key] = binding
        for place in binding.places:
            self.at[place].append(binding)


def bounds(metric: Metric) -> tuple[float, float]:
    """Return the lowest and the highest value that a metric can have."""
    return _RANGES[metric.unit] if metric.unit in _RANGES else limits(metric)


def excerpt(path: str, document: object, name: str, field_: str = "Reading") -> tuple[str, ...]:
    """Addresses of an excerpt's value: where it stands, and its sensor's.

    Nothing where the document has no such excerpt. Before Redfish had excerpts, some services gave
    the plain number.
    """
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, dict):
        plain = number(found) is not None and field_ == "Reading"
        return (f"{path}#/{name}",) if plain else ()
    if field_ not in found:
        return ()
    source = path_of(found.get("DataSourceUri"))
    return (f"{path}#/{name}/{field_}", f"{source}#/{field_}" if source else "")
