"""What a confined plugin found, as lines of JSON: one end in the child, one in the daemon.

A series is announced once and is an index from then on; which series a poll has is said only when
it changes. So a poll in the steady state is one line of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

import orjson

from collector.batch import Batch, Event, Link, SeriesKey, Severity
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from collector.read.counter import Counter

LINE = 4 << 20  # bytes; 20,000 samples, all with new times, take about 1 MiB
_ANNOUNCED = 500  # series in one line
_KEPT = 10_000  # series after which those that are gone may be forgotten


class WireError(Exception):
    """A line that makes no sense; the message says what was wrong with it."""


class Sender:
    """Writes batches.

    Args:
        write: Takes one line.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.index: dict[SeriesKey, int] = {}
        self._write = write
        self._shape: list[list[int]] | None = None
        self._most = 0  # series of one batch, since others were last forgotten
        self._links: list[Link] = []

    def send(self, batch: Batch, error: str = "") -> None:
        """Write what a poll found, and `error` where it failed."""
        index = self.index
        self._most = max(self._most, len(batch.keys))
        forget = len(index) > max(_KEPT, 2 * self._most)
        if forget:
            index.clear()
            self._shape, self._most = None, 0
        new = dict.fromkeys(key for key in batch.keys if key not in index)
        for chunk in _chunks(iter(new)):
            series = [
                (key.metric.name, [_text(part) for part in key.entity.key], _texts(key.labels))
                for key in chunk
            ]
            self._write(_line({"series": series, "forget": forget}))
            forget = False
            for key in chunk:
                index[key] = len(index)
        values = list(map(float, batch.values))
        message: dict[str, Any] = {"values": values, "times": list(batch.times.values())}
        shape = [[index[key] for key in batch.keys], list(batch.times)]
        if shape != self._shape:
            message["shape"] = self._shape = shape
        if batch.links != self._links:
            self._links = list(batch.links)
            message["links"] = [
                (*_entity(link.child), *_entity(link.parent), link.share) for link in batch.links
            ]
        if batch.events:
            message["events"] = [
                (
                    _text(event.name),
                    *_entity(event.entity),
                    event.at,
                    event.severity,
                    _text(event.text),
                    [_texts(attribute) for attribute in event.attributes],
                )
                for event in batch.events
            ]
        if batch.errors:
            message["errors"] = [
                (_entity(entity) if entity else None, _text(str(failure) or type(failure).__name__))
                for entity, failure in batch.errors
            ]
        if error:
            message["error"] = _text(error)
        line = _line(message)
        if b"null" in line:  # JSON has neither infinity nor NaN
            message["odd"] = [(i, repr(v)) for i, v in enumerate(values) if not math.isfinite(v)]
            line = _line(message)
        self._write(line)


class Receiver:
    """Reads what a `Sender` wrote, into batches.

    Counters are sent as the driver has them. They are made to survive resets here, in the process
    that outlives the child: a driver is reloaded only while no child holds it.

    Args:
        metrics: What the plugin declares.
    """

    def __init__(self, metrics: Collection[Metric]) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._counters: dict[SeriesKey, Counter] = {}
        self._used: set[SeriesKey] = set()  # counters, since others were last forgotten
        self.restart()

    def restart(self) -> None:
        """Expect a new sender; counters go on."""
        self._series: list[SeriesKey] = []
        self._keys: list[SeriesKey] = []
        self._counting: list[tuple[int, Counter]] = []
        self._timed: list[int] = []
        self._links: list[Link] = []

    def receive(self, line: bytes, batch: Batch) -> tuple[bool, str]:
        """Take one line.

        Returns:
            Whether the poll is complete, and its error or an empty string.

        Raises:
            WireError: The line is none that a `Sender` writes.
        """
        try:
            message = orjson.loads(line)
            if "series" in message:
                self._announce(message)
                return False, ""
            self._fill(message, batch)
            return True, message.get("error", "")
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise WireError(f"the child's answer makes no sense: {error!r}") from error

    def _announce(self, message: dict[str, Any]) -> None:
        if message["forget"]:
            self._counters = {k: c for k, c in self._counters.items() if k in self._used}
            self._series, self._used = [], set()
        for name, key, labels in message["series"]:
            metric = self._metrics[name]
            if len(labels) != len(metric.labels):
                raise ValueError(f"{name} takes labels {metric.labels}, not {labels}")
            self._series.append(SeriesKey(metric, metric.kind(*key), tuple(labels)))

    def _fill(self, message: dict[str, Any], batch: Batch) -> None:
        if "shape" in message:
            indices, self._timed = message["shape"]
            self._keys = [self._series[i] for i in indices]
            self._counting = [
                (position, self._counters.setdefault(key, Counter()))
                for position, key in enumerate(self._keys)
                if key.metric.instrument is COUNTER
            ]
            self._used.update(self._keys[position] for position, _ in self._counting)
        values = message["values"]
        if len(values) != len(self._keys):
            raise ValueError(f"{len(values)} values for {len(self._keys)} series")
        for position, word in message.get("odd", ()):
            values[position] = float(word)
        for position, counter in self._counting:
            if math.isfinite(values[position]):
                values[position] = counter.update(values[position])
        if "links" in message:
            self._links = [
                Link(Kind[child](*key), Kind[parent](*parent_key), share)
                for child, key, parent, parent_key, share in message["links"]
            ]
        base = len(batch.keys)
        batch.keys += self._keys
        batch.values += values
        for position, at in zip(self._timed, message["times"], strict=True):
            batch.times[base + position] = at
        batch.links += self._links
        for event, kind, key, at, severity, text, attributes in message.get("events", ()):
            pairs = tuple((name, value) for name, value in attributes)
            batch.event(Event(event, Kind[kind](*key), at, Severity(severity), text, pairs))
        for entity, text in message.get("errors", ()):
            batch.failed(Kind[entity[0]](*entity[1]) if entity else None, ReadError(text))


class ReadError(Exception):
    """A part of the target could not be read, as the plugin in the child said."""


def _chunks(keys: Iterator[SeriesKey]) -> Iterator[list[SeriesKey]]:
    while chunk := list(islice(keys, _ANNOUNCED)):
        yield chunk


def _line(message: dict[str, Any]) -> bytes:
    return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)


def _entity(entity: Entity) -> tuple[str, list[str]]:
    return entity.kind.name, _texts(entity.key)


def _texts(parts: tuple[str, ...]) -> list[str]:
    return [_text(part) for part in parts]


def _text(text: str) -> str:
    # Bytes of a driver or of /proc that were no UTF-8 may have become lone surrogates.
    return text.encode("utf-8", "replace").decode()
