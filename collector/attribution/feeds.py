"""The energy that outlets give, and how hosts share it.

All outlets at once, by numpy: a site has tens of thousands.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.attribution.curve import MAX_GAP
from collector.attribution.totals import Totals
from collector.batch import SeriesKey
from collector.catalog import attribution as derived
from collector.catalog import power
from collector.entity import Kind
from collector.history import Floats, Rows
from collector.store import FUTURE, Store
from collector.topology import Topology


class _Readings(NamedTuple):
    """The curves' newest points after a step, one for each outlet."""

    times: Floats  # seconds since the epoch; 0 where there was no reading yet
    joules: Floats  # given up to then


class _Links(NamedTuple):
    """Which outlet feeds which host, by their positions, and since and until when."""

    outlet: Rows
    host: Rows
    share: Floats
    since: Floats
    until: Floats


class Feeds:
    """For each outlet what `Curve` is for one meter, and the division of their energy.

    Args:
        store: Where the latest readings are.
        topology: Which outlet feeds which host.
        span: Seconds for which a time that stands still is waited for.
        pdus: Takes what the outlets gave, and what of it no host took.
        hosts: Has the rows of hosts.
    """

    def __init__(
        self, store: Store, topology: Topology, span: float, pdus: Totals, hosts: Totals
    ) -> None:
        self._store = store
        self._topology = topology
        self._span = span
        self._pdus = pdus
        self._hosts = hosts
        self.restart()

    def restart(self) -> None:
        """Forget all readings: the clock was set back."""
        self._generation = self._version = -1  # of the store and the topology
        self._keys: list[SeriesKey] = []
        self._rows: Rows = np.empty(0, np.int64)
        self._pdu: Rows = np.empty(0, np.int64)
        self._live: NDArray[np.bool_] = np.empty(0, np.bool_)
        self._watts: Floats = np.empty(0)
        self._past = deque([_Readings(np.empty(0), np.empty(0))])

    def feed(self, now: float) -> float:
        """Take the latest readings, by the rules of `Meters` and `Curve`.

        Returns:
            The time up to which all live outlets are known, in seconds since the epoch.
        """
        if self._generation != self._store.generation:
            self._take_outlets()
        if self._version != self._topology.versions[Kind.OUTLET]:
            self._take_links()
        store, rows = self._store, self._rows
        times, watts, expires = store.time[rows], store.value[rows], store.expires[rows]
        self._live = np.isfinite(watts) & (times < now + FUTURE) & (expires > now)
        last = self._past[-1]
        new = np.flatnonzero(self._live & (times > last.times))
        if new.size:
            watts = np.maximum(watts[new], 0.0)
            passed = times[new] - last.times[new]
            gap = np.maximum(MAX_GAP, expires[new] - times[new])
            given = (watts + self._watts[new]) / 2 * np.where(passed <= gap, passed, 0.0)
            self._watts[new] = watts
            last = _Readings(last.times.copy(), last.joules.copy())
            last.times[new] = times[new]
            last.joules[new] += given
            self._past.append(last)
        ends = last.times[self._live]
        return float(np.min(ends[ends > now - self._span], initial=now))

    def divide(self, start: float, end: float) -> Floats:
        """Hand down what outlets gave between two times; the rest is left at the PDU.

        Returns:
            Joules of the hosts all of whose feeds are metered, by row; NaN of the others.
        """
        joules = np.where(self._live, self._between(start, end), 0.0)
        outlet, host, share = self._holding(end)
        share = share / np.maximum(np.bincount(outlet, share), 1.0)[outlet]
        size = len(self._hosts)
        fed = self._fed(outlet, host)
        taken = fed[host]
        outlet, host = outlet[taken], host[taken]
        parts = joules[outlet] * share[taken]

        pdus = len(self._pdus)
        metered = np.bincount(self._pdu, self._live, pdus) > 0
        given: Floats = np.where(metered, np.bincount(self._pdu, joules, pdus), np.nan)
        left = given - np.bincount(self._pdu[outlet], parts, pdus)
        left = np.maximum(left, 0.0)  # a rounding error must not make it fall
        self._pdus.add(given, derived.PDU_OUTLETS_ENERGY)
        self._pdus.add(left, derived.PDU_ENERGY_UNATTRIBUTED)
        return np.where(fed, np.bincount(host, parts, size), np.nan)

    def fed_hosts(self, end: float) -> set[str]:
        """Name the hosts all of whose feeds are metered, as the links are at that time."""
        outlet, host, _ = self._holding(end)
        return self._hosts.names(np.flatnonzero(self._fed(outlet, host)))

    def _holding(self, end: float) -> tuple[Rows, Rows, Floats]:
        """Outlets, hosts and shares of the links that hold at a time."""
        holds = (self._links.since <= end) & (end < self._links.until)
        return self._links.outlet[holds], self._links.host[holds], self._links.share[holds]

    def _fed(self, outlet: Rows, host: Rows) -> NDArray[np.bool_]:
        fed = np.bincount(host, minlength=len(self._hosts)) > 0
        fed[host[~np.append(self._live, False)[outlet]]] = False
        return fed

    def _between(self, start: float, end: float) -> Floats:
        """Joules of each outlet between two times; what is not needed after that is forgotten."""
        times, joules = (np.stack(column) for column in zip(*self._past, strict=True))
        while len(self._past) > 1 and (self._past[1].times <= end).all():
            self._past.popleft()
        return _at(end, times, joules) - _at(start, times, joules)

    def _take_outlets(self) -> None:
        """Follow the store's rows; an outlet that stays keeps its readings."""
        rows = self._store.by_metric[power.OUTLET_POWER]
        self._rows = np.fromiter(rows.values(), np.int64, len(rows))
        self._generation = self._store.generation
        keys = list(rows)
        if keys == self._keys:
            return
        old = {key: position for position, key in enumerate(self._keys)}
        kept = np.array([old.get(key, -1) for key in keys], np.int64)
        self._watts = np.append(self._watts, 0.0)[kept]
        self._past = deque(
            _Readings(np.append(times, 0.0)[kept], np.append(joules, 0.0)[kept])
            for times, joules in self._past
        )
        pdus = [self._pdus.row(Kind.PDU(key.entity.key[0])) for key in keys]
        self._pdu = np.array(pdus, np.int64)
        self._keys = keys
        self._version = -1

    def _take_links(self) -> None:
        # One more position stands for all outlets that feed hosts and are not metered.
        position = {key.entity: position for position, key in enumerate(self._keys)}
        links = [
            (
                position.get(span.link.parent, len(position)),
                self._hosts.row(span.link.child),
                span.link.share,
                span.since,
                math.inf if span.until is None else span.until,
            )
            for span in self._topology.spans()
            if span.link.parent.kind is Kind.OUTLET and span.link.child.kind is Kind.HOST
        ]
        outlet, host, *floats = np.array(links, np.float64).reshape(-1, 5).T
        self._links = _Links(outlet.astype(np.int64), host.astype(np.int64), *floats)
        self._version = self._topology.versions[Kind.OUTLET]


def _at(time: float, times: Floats, joules: Floats) -> Floats:
    """Each outlet's joules at a time; constant before the first and after the last reading.

    Args:
        time: Seconds since the epoch.
        times: Of the readings, for each step a row, for each outlet a column.
        joules: Given up to then.
    """
    after = np.count_nonzero(times <= time, axis=0)
    outlet = np.arange(times.shape[1])
    low = np.maximum(after - 1, 0), outlet
    high = np.minimum(after, len(times) - 1), outlet
    passed = np.where(times[high] > times[low], times[high] - times[low], 1.0)
    found: Floats = joules[low] + (joules[high] - joules[low]) * (time - times[low]) / passed
    return found
