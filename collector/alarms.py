"""Tells as events what devices say is wrong with them: leaks, overloads, failed parts.

Whichever source reads the state. What is wrong when the daemon starts is told as well.
"""

from __future__ import annotations

import numpy as np

from collector.batch import Batch, Event, SeriesKey, Severity
from collector.catalog import metering, power, thermal
from collector.history import Rows
from collector.metric import Metric
from collector.store import Store

_LOAD = {"near_overload": Severity.WARN, "overload": Severity.ERROR}
_HEALTH = {"warning": Severity.WARN, "critical": Severity.ERROR}
# Of state sets, whose last label is the state: the event's name, and which states are one.
_WATCHED: dict[Metric, tuple[str, dict[str, Severity]]] = {
    thermal.LEAK: ("cooling.leak", _HEALTH | {"critical": Severity.FATAL}),
    thermal.COOLING_UNIT_STATE: ("cooling.fault", _HEALTH),
    thermal.PUMP_STATE: ("cooling.fault", _HEALTH),
    thermal.RESERVOIR_STATE: ("cooling.fault", {"low": Severity.WARN}),
    power.POWER_SUPPLY_HEALTH: ("power.fault", _HEALTH),
    power.PDU_LOAD_STATE: ("power.overload", _LOAD),
    power.PHASE_LOAD_STATE: ("power.overload", _LOAD),
    power.BREAKER_LOAD_STATE: ("power.overload", _LOAD),
    metering.INLET_LOAD_STATE: ("power.overload", _LOAD),
    metering.OUTLET_LOAD_STATE: ("power.overload", _LOAD),
}


class Alarms:
    """Compares states with those of the step before.

    Args:
        store: Where they are taken from.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._generation = -1
        self._keys: list[SeriesKey] = []
        self._rows: Rows = np.empty(0, np.int64)
        self._on: dict[SeriesKey, None] = {}

    def step(self, batch: Batch) -> None:
        """Add an event for each state that is wrong since lately, or no longer (`….over`).

        A state that cannot be read any more is not over.
        """
        store, now = self._store, batch.at
        if self._generation != store.generation:
            found = {
                key: row
                for metric, (_, states) in _WATCHED.items()
                for key, row in store.by_metric[metric].items()
                if key.labels[-1] in states
            }
            self._keys, self._rows = list(found), np.fromiter(found.values(), np.int64, len(found))
            self._generation = store.generation
        live = store.expires[self._rows] > now
        on = dict.fromkeys(
            self._keys[place] for place in np.flatnonzero(live & (store.value[self._rows] == 1))
        )
        wrong = {_thing(key) for key in on}
        for key in on:
            if key not in self._on:
                _tell(batch, key, key.labels[-1])
        for key in self._on:
            row = store.index.get(key)
            if key in on or row is None:
                continue
            if store.expires[row] <= now:
                on[key] = None
            elif _thing(key) not in wrong:
                _tell(batch, key, "")
        self._on = on


def _thing(key: SeriesKey) -> SeriesKey:
    return key._replace(labels=key.labels[:-1])


def _tell(batch: Batch, key: SeriesKey, state: str) -> None:
    name, states = _WATCHED[key.metric]
    more = dict(zip(key.metric.labels, (*key.labels[:-1], state or "over"), strict=True))
    text = " ".join(
        (key.entity.kind.word.replace("_", " "), "/".join(key.entity.key), *more.values())
    )
    severity = states[state] if state else Severity.INFO
    attributes = (("metric", key.metric.name), *more.items())
    batch.event(
        Event(name if state else f"{name}.over", key.entity, batch.at, severity, text, attributes)
    )
