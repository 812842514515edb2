"""The last events of all sources, numbered, for those who read them later."""

from __future__ import annotations

import logging
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

from collector.batch import Batch, Event, Severity
from collector.catalog import selfmetrics
from collector.entity import Kind

log = logging.getLogger(__name__)

KEPT = 10_000
_LINES = 20  # of one event's name in the log, in `_SPAN` seconds
_SPAN = 60.0
_NAMES = 500  # that are counted; plugins choose them, so there are a few dozen
_LEVELS = {
    Severity.INFO: logging.INFO,
    Severity.WARN: logging.WARNING,
    Severity.ERROR: logging.ERROR,
    Severity.FATAL: logging.CRITICAL,
}


class Kept(NamedTuple):
    """An event with its place in the order of arrival and the source that told it."""

    number: int
    source: str
    event: Event


class Events:
    """Keeps the last `KEPT` events, counts all, and logs them, repetition bounded.

    Numbers start at 1 and grow by one; a reader that remembers the last one misses nothing unless
    more than `KEPT` came since.
    """

    def __init__(self) -> None:
        self._kept: deque[Kept] = deque(maxlen=KEPT)
        self._number = 0
        self._tally: Tally[tuple[str, str]] = Tally()
        self._logged: dict[str, tuple[float, int]] = {}

    @property
    def last(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._number

    def take(self, events: Iterable[Event], source: str) -> None:
        """Keep what a source told."""
        for event in events:
            self._number += 1
            self._kept.append(Kept(self._number, source, event))
            name = (event.name, event.severity.name.lower())
            if name in self._tally or len(self._tally) < _NAMES:
                self._tally[name] += 1
            self._log(event)

    def after(self, number: int, name: str | None = None) -> list[Kept]:
        """Return what came after the event of that number, oldest first; of one name if given."""
        skip = max(0, len(self._kept) - max(0, self._number - number))
        found = islice(self._kept, skip, None)
        return [kept for kept in found if name is None or kept.event.name == name]

    def samples(self, batch: Batch) -> None:
        """Add how many there were."""
        for (name, severity), count in self._tally.items():
            batch.add(selfmetrics.EVENTS, Kind.DAEMON(), float(count), name, severity)

    def _log(self, event: Event) -> None:
        since, lines = self._logged.get(event.name, (event.at, 0))
        if not 0 <= event.at - since < _SPAN:
            since, lines = event.at, 0
        self._logged[event.name] = since, lines + 1
        if lines < _LINES:
            level = _LEVELS[event.severity]
            text = f"{event.name}: {event.entity}: {' '.join(event.text.split())}"
            log.log(level, "%s", text.encode("utf-8", "replace").decode())
        elif lines == _LINES:
            log.warning("%s: more of them stand in /api/v1/events", event.name)
