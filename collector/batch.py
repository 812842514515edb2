"""What one poll of one source found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from collector.entity import Entity
from collector.metric import Metric

MAX_LABELS = 15


class SeriesKey(NamedTuple):
    """What makes a series: the metric, the entity it is true of, values of the metric's labels."""

    metric: Metric
    entity: Entity
    labels: tuple[str, ...]


class Link(NamedTuple):
    """One observed child-to-parent relation.

    `share` of what the parent gives goes to the child: 1.0 where the parent is not divided.
    """

    child: Entity
    parent: Entity
    share: float


class Call(NamedTuple):
    """One model call of an agent, the unit in which spend is attributed.

    Times are seconds since the epoch. `prompt_tokens` includes `cached_tokens`, those that the
    prefix cache served. `server` is `address:port` of the engine where the caller said so.
    """

    agent: str
    model: str
    start: float
    end: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    server: str = ""


class Severity(IntEnum):
    """How bad an event is; the numbers are those of OpenTelemetry's SeverityNumber."""

    INFO = 9
    WARN = 13
    ERROR = 17
    FATAL = 21


class Event(NamedTuple):
    """Something that happened, told by its source: a trap, an Xid, a line of the kernel's log.

    `name` says what in OpenTelemetry's manner (`gpu.xid`), `at` is in seconds since the epoch,
    `text` is for people, `attributes` are for programs.
    """

    name: str
    entity: Entity
    at: float
    severity: Severity
    text: str
    attributes: tuple[tuple[str, str], ...] = ()


class Batch:
    """Collects samples, links, calls and events of one poll; kept even if the poll then fails.

    Args:
        host: The host this daemon runs on.
        at: Seconds since the epoch at which samples are true unless `add` says otherwise.
        declared: The metrics that the source may add.
        known: Series that were checked before; the store's index serves.
    """

    def __init__(
        self,
        host: Entity,
        at: float,
        declared: Collection[Metric],
        known: Mapping[SeriesKey, int] | None = None,
    ) -> None:
        self.host = host
        self.at = at
        self.keys: list[SeriesKey] = []
        self.values: list[float] = []
        self.times: dict[int, float] = {}
        self.links: list[Link] = []
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self.errors: list[tuple[Entity | None, Exception]] = []
        self._declared = declared
        self._known = known if known is not None else {}
        self._sealed = False

    def add(
        self,
        metric: Metric,
        entity: Entity,
        value: float | None,
        *labels: str,
        at: float | None = None,
    ) -> None:
        """Add one sample; `None` means that the source does not know, and adds nothing.

        Args:
            metric: One of the source's declared metrics.
            entity: An entity of the metric's kind.
            value: In the metric's unit.
            labels: One value for each of the metric's own labels, in their order.
            at: Seconds since the epoch at which the value was true, where the source says so.

        Raises:
            ValueError: The metric is not declared, or the entity or labels do not fit it.
        """
        keys, values, times = self.keys, self.values, self.times  # before the look: see `seal`
        if value is None or self._sealed:
            return
        key = SeriesKey(metric, entity, labels)
        if key not in self._known:
            self._check(key)
        if at is not None:
            times[len(keys)] = at
        keys.append(key)
        values.append(value)

    def extend(self, keys: Sequence[SeriesKey], values: Sequence[float]) -> None:
        """Add samples of series that the plugin keeps from poll to poll; quicker than `add`.

        Raises:
            ValueError: As `add` does.
        """
        all_keys, all_values = self.keys, self.values  # before the look: see `seal`
        if self._sealed:
            return
        if not all(map(self._known.__contains__, keys)):
            for key in keys:
                self._check(key)
        all_keys += keys
        all_values += values

    def extend_links(self, links: Sequence[Link]) -> None:
        """Add links that the plugin keeps from poll to poll."""
        if not self._sealed:
            self.links += links

    def link(self, child: Entity, parent: Entity, share: float = 1.0) -> None:
        """Say that `child` belongs to `parent` and takes `share` of it, as seen now."""
        if not self._sealed:
            self.links.append(Link(child, parent, share))

    def call(self, call: Call) -> None:
        """Report one finished model call of an agent."""
        if not self._sealed:
            self.calls.append(call)

    def event(self, event: Event) -> None:
        """Report something that happened, once."""
        if not self._sealed:
            self.events.append(event)

    def failed(self, entity: Entity | None, error: Exception) -> None:
        """Report that a part could not be read; what was read stays, the source counts as down."""
        if not self._sealed:
            self.errors.append((entity, error))

    def seal(self) -> None:
        """Take no more: a poll that was given up must not write later.

        Its thread may be in the midst of adding a sample; it finishes that in the old lists.
        """
        self._sealed = True
        values = list(self.values)
        self.keys, self.values = self.keys[: len(values)], values
        self.times = {n: at for n, at in self.times.copy().items() if n < len(values)}

    def _check(self, key: SeriesKey) -> None:
        metric, entity, labels = key
        if metric not in self._declared:
            raise ValueError(f"{metric.name} is not among the metrics that this source declares")
        if entity.kind is not metric.kind:
            raise ValueError(f"{metric.name} is of a {metric.kind.word}, not of {entity}")
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} takes labels {metric.labels}, not {labels}")
        if len(metric.label_names) > MAX_LABELS:
            raise ValueError(f"{metric.name} has more than {MAX_LABELS} labels")
