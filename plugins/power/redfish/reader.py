"""Reads a service: what was found with each poll, what may have changed now and then.

A cycle reads what the plan says is due and then goes on with the discovery for a while. However
long the service takes, cycles do not overlap, and what they read counts as soon as it is there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import NamedTuple

from collector.batch import SeriesKey
from collector.read.http import AnswerError, StatusError
from collector.read.snmp.energy import Energy
from plugins.power.redfish.binding import Need
from plugins.power.redfish.chassis import finish
from plugins.power.redfish.client import Answer, Client
from plugins.power.redfish.document import Value, values
from plugins.power.redfish.plan import compute, plan
from plugins.power.redfish.walk import MAX_DOCUMENTS, MAX_MEMBERS, Role, Step, Walk

REDISCOVER = 900.0  # seconds; supplies are changed and probes plugged in without a sign
SOONEST = 60.0  # seconds from one discovery to the next, whatever happens
HUNG = 3  # requests in a row without an answer: the service is not there
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
        self._walked = 0.0  # the last discovery was over
        self._next_walk = 0.0
        self._pause = SOONEST
        self._hung = 0  # requests in a row that were not answered in time
        self._plan: dict[str, Need] = {}
        self._due: dict[str, float] = {}
        self._seconds = 0.0  # the last cycle took

    @property
    def complete(self) -> bool:
        """A discovery was finished, and none is under way."""
        return self._found is not None and self._walk is None

    @property
    def walk(self) -> Walk | None:
        """What is known: all of the last discovery, or as much as the first has found."""
        return self._found or self._walk

    async def cycle(self, budget: float) -> None:
        """Read what is due, then discover for `budget` seconds, or for as long as that took.

        Raises:
            OSError: The service cannot be reached, or lets several requests in a row hang.
            LoginError: It refuses the user.
            AnswerError: The service root cannot be read.
        """
        begun = time.monotonic()
        self.errors.clear()
        try:
            if self._walk is not None and self._found is None:
                self._plan = plan(self._walk)  # of what there is so far
            await self._read_due()
            until = time.monotonic() + max(budget, time.monotonic() - begun)
            if self._walk is None and begun >= self._next_walk:
                walk = self._make(self._energies)
                walk.start(await self._client.root())
                self._walk = walk
            if self._walk is not None:
                self._walk.try_again()
            while self._walk is not None and time.monotonic() < until:
                if not await self._step(self._walk):
                    break
        except BaseException:
            self._readings.clear()
            raise
        finally:
            self._seconds = time.monotonic() - begun

    def readings(self, now: float) -> Iterator[tuple[SeriesKey, float, float]]:
        """Yield series, value and time of what is known and not stale.

        Args:
            now: On the clock of `Reading.read`.
        """
        slack = 2 * self._seconds
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
            await _all(map(self._read, due[start : start + self._requests]))

    async def _read(self, path: str) -> None:
        """Read one planned document."""
        answer = await self._ask(path)
        if self._plan.get(path) is not Need.FAST:
            self._due[path] = time.monotonic() + self._slow
        if isinstance(answer, Exception):
            self._forget(path)
            self.errors.append(answer)
            if isinstance(answer, StatusError) and answer.status == 404:
                # It is gone, and its parts may be elsewhere.
                self._next_walk = min(self._next_walk, self._walked + SOONEST)
        elif self.walk is not None:
            found = values(answer.document, path.partition("?")[0])
            self._take(self.walk, path, found, answer)

    async def _ask(self, path: str) -> Answer | Exception:
        """Ask for a document; that it alone cannot be had is an answer."""
        try:
            answer = await self._client.get(path)
        except AnswerError as error:
            return error
        except TimeoutError as error:
            self._hung += 1
            if self._hung >= HUNG:
                raise
            return error
        self._hung = 0
        return answer

    async def _step(self, walk: Walk) -> bool:
        """Go one step on with a discovery; tell whether there was one to go."""
        steps = walk.next(self._requests)
        await _all(self._discover(walk, step) for step in steps)
        if walk.over:
            self._finish(walk)
        return bool(steps)

    def _finish(self, walk: Walk) -> None:
        finish(walk)
        self._walk = None
        if walk.cut:
            text = f"more than {MAX_MEMBERS} members or {MAX_DOCUMENTS} resources: not all are read"
            self.errors.append(AnswerError(f"{self._client.url}: {text}"))
        if walk.lost and not walk.bindings.bound:
            raise walk.lost
        self._found = walk
        self._plan = plan(walk)
        self._walked = now = time.monotonic()
        # What did not answer just then is looked for soon, and ever more rarely.
        self._pause = min(2 * self._pause, REDISCOVER) if walk.lost else SOONEST
        self._next_walk = now + (self._pause if walk.lost else REDISCOVER)
        self._due = {p: now + self._slow for p, n in self._plan.items() if n is Need.SLOW}
        self._readings = {k: r for k, r in self._readings.items() if k in walk.bindings.bound}

    async def _discover(self, walk: Walk, step: Step) -> None:
        path = walk.request(step)
        try:
            answer = await self._ask(path)
        except TimeoutError as error:
            walk.failed(step, error)  # the next time another one comes first
            raise
        except BaseException:
            walk.put_back(step)
            raise
        if isinstance(answer, Exception):
            status = answer.status if isinstance(answer, StatusError) else 0
            if status in _QUIET and (status == 404 or path == step.path):
                return
            walk.failed(step, answer)
            if step.role is Role.SYSTEM and not walk.lost:
                raise answer
            if path == step.path:
                self.errors.append(answer)
            return
        old = self._take(walk, path, walk.take(step, answer.document), answer)
        walk.supplies[path] -= old

    def _take(self, walk: Walk, path: str, found: Iterable[Value], answer: Answer) -> set[str]:
        """Keep what a document says; return the addresses of what a report has long had.

        A report's value that is old is one of a sensor that is gone, or of a clock that cannot be
        told. ReadingTime of a sensor is less reliable, and left aside where it is old.
        """
        now = time.monotonic()
        offset = self._client.clock.offset
        oldest = answer.at - max(STALE * self._interval, self._slow)
        old = set()
        for address, raw, told in found:
            at = min(told + offset, answer.at) if told is not None else answer.at
            if at < oldest and path in walk.reports:
                old.add(address)
                raw = None
            at = at if at >= oldest else answer.at
            for binding in walk.bindings.at.get(address, ()):
                if address != binding.places[0] and path not in walk.reports:
                    continue  # it is read where it stands, not where it was copied from
                before = self._readings.get(binding.series()[0])
                if before and before.at > at and before.path != path:
                    continue  # a report may lag behind what discovery has just read
                need = min(binding.need, self._plan.get(path, binding.need))
                for key, value in binding.take(raw, now):
                    if value is None:
                        self._readings.pop(key, None)
                    else:
                        self._readings[key] = Reading(value, at, now, path, need)
        return old

    def _forget(self, path: str) -> None:
        """Drop what a document said that can no longer be read."""
        self._readings = {k: r for k, r in self._readings.items() if r.path != path}


async def _all(jobs: Iterable[Coroutine[object, object, None]]) -> None:
    """Wait for all jobs, even where one fails, so that none goes on behind our back."""
    for result in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
