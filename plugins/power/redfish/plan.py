"""Chooses which documents to read, and computes what none of them says."""

from __future__ import annotations

import heapq
from collections import defaultdict

from collector.catalog import thermal
from collector.read.coolant import heat
from plugins.power.redfish.binding import Derived, Need
from plugins.power.redfish.walk import Walk


def plan(walk: Walk) -> dict[str, Need]:
    """Choose the fewest documents that have all that is needed, and how often to read each.

    A value is read where it stands, or in a report; a copy of it in yet another document, which may
    be older, is not looked at.

    Where reports have some of what is needed with each poll, the rest has time, so that a poll is
    one request for each report.
    """
    reports = {path: walk.supplies.get(path, frozenset()) for path in walk.reports}
    others = {path: has for path, has in walk.supplies.items() if path not in reports}
    bindings = list({id(one): one for one in walk.bindings.bound.values()}.values())
    fast = [one for one in bindings if one.need is Need.FAST]
    slow = [one for one in bindings if one.need is Need.SLOW]
    chosen = dict.fromkeys(_cover([one.places for one in fast], reports), Need.FAST)
    reported = frozenset[str]().union(*(reports[path] for path in chosen))
    left = [one for one in fast if reported.isdisjoint(one.places)]
    if chosen:
        slow += left
    else:
        chosen = dict.fromkeys(_cover([one.places[:1] for one in left], others), Need.FAST)
    had = reported.union(*(others[path] for path in chosen if path in others))
    missing = [one.places[:1] for one in slow if one.places[0] not in had]
    return chosen | dict.fromkeys(_cover(missing, others), Need.SLOW)


def _cover(wanted: list[tuple[str, ...]], supplies: dict[str, frozenset[str]]) -> list[str]:
    """Choose paths until all that can be had is had, those that have the most first.

    Args:
        wanted: For each thing, the addresses at which it may be had.
        supplies: The addresses that each path has.
    """
    by_place: dict[str, list[int]] = defaultdict(list)
    for index, places in enumerate(wanted):
        for place in places:
            by_place[place].append(index)
    gives = {
        path: {index for place in has if place in by_place for index in by_place[place]}
        for path, has in supplies.items()
    }
    heap = [(-len(indices), path) for path, indices in gives.items() if indices]
    heapq.heapify(heap)
    missing, chosen = set(range(len(wanted))), []
    while heap and missing:
        size, path = heapq.heappop(heap)
        new = gives[path] & missing
        if len(new) < -size:
            if new:
                heapq.heappush(heap, (-len(new), path))
            continue
        chosen.append(path)
        missing -= new
    return chosen


def compute(derived: Derived, given: list[float], walk: Walk) -> float:
    """Compute a value of those that it is made of."""
    if derived.kind == "sum":
        return sum(given)
    if derived.kind == "heat":
        flow, *ends = given
        return heat(flow, ends[0] - ends[1] if len(ends) > 1 else ends[0], walk.coolant)
    outlets = [
        value
        for key, value in zip(derived.of, given, strict=True)
        if key.metric is thermal.HOST_OUTLET_TEMPERATURE
    ]
    inlets = given[len(outlets) :]
    return sum(outlets) / len(outlets) - sum(inlets) / len(inlets)
