"""Reads a service: what was found with each poll, what may have changed now and then.

A cycle reads what the plan says is due and then goes on with the discovery for a while. However
long the service takes, cycles do not overlap, and what they read counts as soon as it is there.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from collector.batch import SeriesKey
from collector.catalog import thermal
from collector.read.coolant import heat
from collector.read.http import AnswerError
from collector.read.snmp.energy import Energy
from plugins.power.redfish.binding import Binding, Derived, Need
from plugins.power.redfish.chassis import finish
from plugins.power.redfish.client import Answer, Client, StatusError
from plugins.power.redfish.document import Value, values
from plugins.power.redfish.walk import Step, Walk

REDISCOVER = 900.0  # seconds; supplies are changed and probes plugged in without a sign
STALE = 3.0  # periods after which a reading is no longer told
_QUIET = (400, 403, 404, 405, 410, 501)  # of links that lead nowhere, which all services have


class Reading(NamedTuple):
    """The last that is known of a series.

    Attributes:
        value: In the metric's unit.
        at: Seconds since the epoch by our clock at which it was true.
        read: When it came, on a clock that never jumps.
        path: The request that brought it.
        need: How often it is asked for.
    """

    value: float
    at: float
    read: float
    path: str
    need: Need


class Reader:
    """Reads one service.

    Args:
        client: Asks it; open.
        walk: Makes a new discovery; gets the energy counters of the one before.
        interval: Seconds between two polls.
        slow: Seconds between two reads of what changes rarely.
        requests: At once, at most.
    """

    def __init__(
        self,
        client: Client,
        walk: Callable[[dict[SeriesKey, Energy]], Walk],
        interval: float,
        slow: float,
        requests: int,
    ) -> None:
        self.errors: list[Exception] = []
        self._client = client
        self._make = walk
        self._interval = interval
        self._slow = max(slow, interval)
        self._requests = requests
        self._energies: dict[SeriesKey, Energy] = {}
        self._readings: dict[SeriesKey, Reading] = {}
        self._walk: Walk | None = None  # under way
        self._found: Walk | None = None  # the last that is over
        self._discovered = float("-inf")
        self._plan: dict[str, Need] = {}
        self._due: dict[str, float] = {}
        self._seconds = 0.0  # the last cycle took
        self._since = 0.0  # the cycle that runs began

    @property
    def complete(self) -> bool:
        """A discovery was finished, and none is under way."""
        return self._found is not None and self._walk is None

    @property
    def walk(self) -> Walk | None:
        """What is known: all of the last discovery, or as much as the first has found."""
        return self._found or self._walk

    async def cycle(self, budget: float) -> None:
        """Read what is due, then discover for at most `budget` seconds, or as long as that took.

        Raises:
            OSError: The service cannot be reached.
            LoginError: It refuses the user.
            AnswerError: The service root cannot be read.
        """
        self._since = begun = time.monotonic()
        self.errors.clear()
        try:
            await self._read_due()
            until = time.monotonic() + max(budget, time.monotonic() - begun)
            if self._walk is None and begun - self._discovered >= REDISCOVER:
                self._walk = self._make(self._energies)
                self._walk.start(await self._client.root())
            while self._walk is not None and time.monotonic() < until:
                await self._step(self._walk)
        except BaseException:
            self._readings.clear()
            if self._found is None:
                self._walk = None
            raise
        finally:
            self._seconds = time.monotonic() - begun

    def readings(self, now: float) -> Iterator[tuple[SeriesKey, float, float]]:
        """Yield series, value and time of what is known and not stale.

        Args:
            now: On the clock of `Reading.read`.
        """
        slack = 2 * max(self._seconds, now - self._since)
        known: dict[SeriesKey, Reading] = {}
        for key, reading in self._readings.items():
            period = self._slow if reading.need < Need.FAST else self._interval
            if now - reading.read <= STALE * period + slack:
                known[key] = reading
                yield key, reading.value, reading.at
        if self.walk is not None:
            for derived in self.walk.bindings.derived.values():
                of = [known[key] for key in derived.of if key in known]
                if len(of) == len(derived.of):
                    value = compute(derived, [one.value for one in of], self.walk)
                    yield derived.key, value, min(one.at for one in of)

    async def _read_due(self) -> None:
        now = time.monotonic()
        due = [path for path in self._plan if self._due.get(path, now) <= now]
        for start in range(0, len(due), self._requests):
            paths = due[start : start + self._requests]
            await asyncio.gather(*map(self._read, paths))

    async def _read(self, path: str) -> None:
        """Read one planned document."""
        try:
            answer = await self._client.get(path)
        except AnswerError as error:
            self._forget(path)
            self.errors.append(error)
            if isinstance(error, StatusError) and error.status == 404:
                self._discovered = float("-inf")  # it is gone, and its parts may be elsewhere
            return
        finally:
            if self._plan.get(path) is not Need.FAST:
                self._due[path] = time.monotonic() + self._slow
        resource = path.partition("?")[0]
        assert self.walk is not None
        self._take(self.walk, path, values(answer.document, resource), answer)

    async def _step(self, walk: Walk) -> None:
        """Go one step on with a discovery."""
        steps = walk.next(self._requests)
        if not steps:
            finish(walk)
            self._walk, self._found = None, walk
            self._discovered = time.monotonic()
            self._plan = plan(walk)
            now = time.monotonic()
            self._due = {p: now + self._slow for p, n in self._plan.items() if n is Need.SLOW}
            self._readings = {k: r for k, r in self._readings.items() if k in walk.bindings.bound}
            return
        await asyncio.gather(*(self._discover(walk, step) for step in steps))

    async def _discover(self, walk: Walk, step: Step) -> None:
        path = walk.request(step)
        try:
            answer = await self._client.get(path)
        except AnswerError as error:
            status = error.status if isinstance(error, StatusError) else 0
            again = status != 404 and walk.failed(step)
            if not again and status not in _QUIET:
                self.errors.append(error)
            return
        self._take(walk, path, walk.take(step, answer.document), answer)

    def _take(self, walk: Walk, path: str, found: Iterable[Value], answer: Answer) -> None:
        """Keep what a document says."""
        now = time.monotonic()
        offset = self._client.clock.offset
        is_report = path in walk.reports
        oldest = answer.at - max(STALE * self._interval, self._slow)
        for address, raw, told in found:
            if address not in walk.bindings.at:
                continue
            at = min(told + offset, answer.at) if told is not None else answer.at
            if at < oldest:
                # A report's value that old is one of a sensor that is gone. ReadingTime of a
                # sensor is less reliable.
                raw, at = (None, at) if is_report else (raw, answer.at)
            for key, value in walk.bindings.take(address, raw, now):
                before = self._readings.get(key)
                if before and before.at > at and before.path != path:
                    continue  # a report may lag behind what discovery has just read
                if value is None:
                    self._readings.pop(key, None)
                else:
                    need = walk.bindings.bound[key].need
                    period = self._plan.get(path, need)
                    self._readings[key] = Reading(value, at, now, path, min(need, period))

    def _forget(self, path: str) -> None:
        """Drop what a document said that can no longer be read."""
        self._readings = {k: r for k, r in self._readings.items() if r.path != path}


def plan(walk: Walk) -> dict[str, Need]:
    """Choose the fewest documents that have all that is needed, and how often to read each.

    Reports come first. Where they have half of what is needed with each poll, the rest has time,
    so that a poll is one request for each report.
    """
    reports = {path: walk.supplies.get(path, frozenset()) for path in walk.reports}
    bindings = list({id(one): one for one in walk.bindings.bound.values()}.values())
    fast = [one for one in bindings if one.need is Need.FAST]
    chosen = dict.fromkeys(_cover(fast, reports), Need.FAST)
    had = walk.places(chosen)
    left = [one for one in fast if had.isdisjoint(one.places)]
    slow = [one for one in bindings if one.need is Need.SLOW]
    others = {path: has for path, has in walk.supplies.items() if path not in reports}
    if fast and 2 * len(left) <= len(fast) and chosen:
        slow += left
    else:
        chosen |= dict.fromkeys(_cover(left, others), Need.FAST)
    had = walk.places(chosen)
    slow = [one for one in slow if had.isdisjoint(one.places)]
    return chosen | dict.fromkeys(_cover(slow, others), Need.SLOW)


def _cover(wanted: list[Binding], supplies: dict[str, frozenset[str]]) -> list[str]:
    """Choose paths until all that can be had is had, those that have the most first."""
    by_place: dict[str, list[int]] = defaultdict(list)
    for index, binding in enumerate(wanted):
        for place in binding.places:
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
