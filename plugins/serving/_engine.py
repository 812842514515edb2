"""Turns the series of an engine's page into samples, by a table. Serves every engine."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from collector.batch import Batch
from collector.catalog import serving
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from collector.read.counter import Counter
from collector.read.exposition import Change, ExpositionError, Series
from collector.read.histogram import Distribution, Histogram, total

PERCENTILES = (50, 95, 99)
ALL_RANKS = "all"
_KEPT = 10_000  # counters and histograms; beyond that, those no longer on the page are forgotten

METRICS = tuple(value for value in vars(serving).values() if isinstance(value, Metric))


class Row(NamedTuple):
    """How one metric stands on the page.

    Attributes:
        metric: What is made of it.
        names: The sample's names over the engine's releases; the first that is on the page counts.
        label: The label that becomes the metric's own, if it has one beside the model.
        only: A label and the value that it must have.
    """

    metric: Metric
    names: tuple[str, ...]
    label: str | None = None
    only: tuple[str, str] | None = None


class Latency(NamedTuple):
    """How one latency stands on the page: the word for it, names of the histogram."""

    word: str
    names: tuple[str, ...]


class Owner(NamedTuple):
    """Whose a series is."""

    entity: Entity
    model: str


def wanted(rows: Iterable[Row], latencies: Iterable[Latency]) -> set[str]:
    """Names of all samples that the tables need."""
    names = {name for row in rows for name in row.names}
    for latency in latencies:
        for name in latency.names:
            names |= {f"{name}_bucket", f"{name}_sum", f"{name}_count"}
    return names


class _Buckets(NamedTuple):
    """Where on the page one histogram is; several series of a bound are added up."""

    bounds: tuple[float, ...]
    buckets: list[list[Series]]
    sums: list[Series]

    def read(self) -> tuple[list[float], float]:
        return [_sum(group) for group in self.buckets], _sum(self.sums)


class Readings:
    """All that is followed of one page: where its series are, counters, histograms.

    Args:
        rows: The table of counters and gauges.
        latencies: The table of histograms.
        owner: Tells whose a series is.
        window: Seconds over which quantiles are taken.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        latencies: Sequence[Latency],
        owner: Callable[[Series], Owner],
        window: float,
    ) -> None:
        self.owners: dict[Owner, None] = {}  # an ordered set
        self._rows = rows
        self._latencies = latencies
        self._owner = owner
        self._window = window
        self._scalars: dict[tuple[Metric, Entity, tuple[str, ...]], list[Series]] = {}
        self._counters: dict[tuple[Metric, Entity, tuple[str, ...]], Counter] = defaultdict(Counter)
        self._computed: dict[Owner, float] = {}
        self._buckets: dict[tuple[Owner, str], _Buckets] = {}
        self._histograms: dict[tuple[Owner, str], Histogram] = {}
        self._histogram_of: dict[Series, tuple[Owner, str]] = {}

    def bind(self, series: Iterable[Series]) -> None:
        """Find out anew where on the page everything is."""
        by_name: dict[str, list[Series]] = defaultdict(list)
        for one in series:
            by_name[one.name].append(one)
        self.owners = {}
        self._scalars = defaultdict(list)
        for row in self._rows:
            for one in next((by_name[name] for name in row.names if name in by_name), ()):
                if row.only is None or one.labels.get(row.only[0]) == row.only[1]:
                    owner = self._owner(one)
                    self.owners[owner] = None
                    more = (one.labels.get(row.label, ""),) if row.label else ()
                    self._scalars[row.metric, owner.entity, (owner.model, *more)].append(one)
        self._buckets, self._histogram_of = {}, {}
        for word, names in self._latencies:
            name = next((name for name in names if f"{name}_bucket" in by_name), None)
            if name is not None:
                self._bind_histogram(word, name, by_name)
        if len(self._counters) + len(self._histograms) > _KEPT:
            self._counters = defaultdict(
                Counter, {key: c for key, c in self._counters.items() if key in self._scalars}
            )
            self._histograms = {
                key: h for key, h in self._histograms.items() if key in self._buckets
            }
            self._computed.clear()

    def add(self, batch: Batch, change: Change, born: float | None) -> None:
        """Add what the page says now.

        Args:
            batch: Takes the samples.
            change: What changed on the page.
            born: When the engine started, in seconds since the epoch, None if unknown.
        """
        bad: list[Series] = []
        for (metric, entity, labels), group in self._scalars.items():
            value = _sum(group)
            if not _plausible(metric, value):
                bad += group
            elif metric.instrument is COUNTER:
                counter = self._counters[metric, entity, labels]
                batch.add(metric, entity, counter.update(value, born), *labels)
            else:
                batch.add(metric, entity, value, *labels)
        for owner in self.owners:
            self._add_computed(batch, owner)
        bad += self._follow(batch.at, change, born)
        self._add_latencies(batch)
        if bad:
            first = bad[0]
            batch.failed(None, ExpositionError(f"{len(bad)} values make no sense, first {first}"))

    def _bind_histogram(self, word: str, name: str, by_name: dict[str, list[Series]]) -> None:
        found: dict[Owner, dict[float, list[Series]]] = defaultdict(lambda: defaultdict(list))
        for one in by_name[f"{name}_bucket"]:
            try:
                found[self._owner(one)][float(one.labels["le"])].append(one)
            except (KeyError, ValueError):
                continue
        sums: dict[Owner, list[Series]] = defaultdict(list)
        for one in by_name[f"{name}_sum"]:
            sums[self._owner(one)].append(one)
        for owner, buckets in found.items():
            bounds = tuple(sorted(buckets))
            # A page that is cut in a histogram shows half of it.
            if bounds[-1] == math.inf and owner in sums:
                key = owner, word
                groups = [buckets[bound] for bound in bounds]
                self._buckets[key] = _Buckets(bounds, groups, sums[owner])
                self._histogram_of |= {s: key for group in (*groups, sums[owner]) for s in group}

    def _follow(self, at: float, change: Change, born: float | None) -> list[Series]:
        """Hand the histograms that changed to their windows; return values that make no sense."""
        bad = []
        changed = {self._histogram_of.get(series) for series in change.series}
        for key, where in self._buckets.items():
            known = self._histograms.get(key)
            if known is not None and not change.rebuilt and key not in changed:
                known.repeat(at)
                continue
            cumulative, total_sum = where.read()
            if all(map(math.isfinite, (*cumulative, total_sum))):
                if known is None:
                    known = self._histograms[key] = Histogram(self._window)
                known.update(at, where.bounds, cumulative, total_sum, born)
            else:
                series = (*(s for group in where.buckets for s in group), *where.sums)
                bad += [one for one in series if not math.isfinite(one.value)]
        return bad

    def _add_computed(self, batch: Batch, owner: Owner) -> None:
        """Add computed prompt tokens where the engine counts all of them and those cached only."""
        if (serving.PROMPT_TOKENS_COMPUTED, owner.entity, (owner.model,)) in self._counters:
            return
        prompt = self._total(serving.PROMPT_TOKENS, owner)
        hits = self._total(serving.PREFIX_CACHE_HITS, owner)
        if prompt is None or hits is None:
            return
        # Hits are counted when a request is scheduled, its prompt when that is done: the
        # difference can fall for a moment, what is published must not.
        computed = prompt - hits - (self._total(serving.EXTERNAL_CACHE_HITS, owner) or 0.0)
        self._computed[owner] = max(computed, self._computed.get(owner, 0.0))
        batch.add(serving.PROMPT_TOKENS_COMPUTED, owner.entity, self._computed[owner], owner.model)

    def _total(self, metric: Metric, owner: Owner) -> float | None:
        counter = self._counters.get((metric, owner.entity, (owner.model,)))
        return counter.total if counter is not None else None

    def _add_latencies(self, batch: Batch) -> None:
        ranks: dict[tuple[Entity, tuple[str, str]], list[Distribution]] = defaultdict(list)
        for (owner, word), histogram in self._histograms.items():
            if (owner, word) not in self._buckets:
                continue
            labels = (owner.model, word)
            batch.add(serving.LATENCY_SUM, owner.entity, histogram.sum.total, *labels)
            batch.add(serving.LATENCY_OBSERVATIONS, owner.entity, histogram.count.total, *labels)
            window = histogram.window()
            if window is not None:
                _add_window(batch, owner.entity, labels, window)
                address, port, _ = owner.entity.key
                ranks[Kind.ENGINE(address, port, ALL_RANKS), labels].append(window)
        for (entity, labels), windows in ranks.items():
            if len(windows) > 1 and (window := total(windows)) is not None:
                _add_window(batch, entity, labels, window)


def _add_window(batch: Batch, entity: Entity, labels: Sequence[str], window: Distribution) -> None:
    batch.add(serving.LATENCY_COUNT, entity, window.observations, *labels)
    batch.add(serving.LATENCY_WINDOW, entity, window.seconds, *labels)
    batch.add(serving.LATENCY_MEAN, entity, window.mean, *labels)
    for percentile in PERCENTILES:
        found = window.quantile(percentile / 100)
        if found is not None:
            name = str(percentile)
            batch.add(serving.LATENCY_QUANTILE, entity, found.estimate, *labels, name)
            batch.add(serving.LATENCY_LOWER, entity, found.lower, *labels, name)
            batch.add(serving.LATENCY_UPPER, entity, found.upper, *labels, name)


def _sum(group: Iterable[Series]) -> float:
    return sum(one.value for one in group)


def _plausible(metric: Metric, value: float) -> bool:
    return 0 <= value <= 1 if metric.unit == "1" else 0 <= value < math.inf
