"""Quantiles of a window, from cumulative histograms that are read again and again.

A histogram says in which bucket an observation fell, so a quantile is known to lie between the
bounds of one bucket and no better. The estimate in between is a guess, wrong by up to 45 % on real
pages; the bounds and the mean are exact.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.read.counter import Counter

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


class Quantile(NamedTuple):
    """A quantile: it lies above `lower` and at or below `upper`, the bounds of its bucket.

    `estimate` is None in the first bucket, where the true value can be far below the bound (20 µs
    read as 0.15 s), and in the last, which has no upper bound.
    """

    estimate: float | None
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """Observations of a window by bucket.

    Attributes:
        bounds: Upper bounds of the buckets, ascending; the last is infinite.
        counts: Observations in each bucket, not cumulated.
        sum: Of all observations.
        seconds: What the window really covers.
    """

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    sum: float
    seconds: float

    @property
    def observations(self) -> float:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """The exact mean, or None without observations."""
        return self.sum / self.observations if self.observations else None

    def quantile(self, q: float) -> Quantile | None:
        """Find where the quantile `q`, 0 < q < 1, lies.

        It is withheld (None) where fewer than one observation is expected above it: p99 under 100
        observations, p95 under 20.
        """
        n = self.observations
        if n * (1 - q) < 1 - _ROUNDING:
            return None
        rank = max(1, math.ceil(q * n - _ROUNDING))
        below = 0.0
        for i, (upper, count) in enumerate(zip(self.bounds, self.counts, strict=True)):
            if below + count >= rank:
                if i == 0:
                    return Quantile(None, 0.0 if upper > 0 else -math.inf, upper)
                lower = self.bounds[i - 1]
                if upper == math.inf:
                    return Quantile(None, lower, upper)
                estimate = lower + (upper - lower) * (rank - below) / count
                return Quantile(min(estimate, upper), lower, upper)  # rounding can exceed it
            below += count
        return None


def total(distributions: Iterable[Distribution]) -> Distribution | None:
    """Add up distributions, those of an engine's ranks for one.

    None where their bounds differ: a sum over unlike buckets has no quantiles.
    """
    found = list(distributions)
    if not found or any(d.bounds != found[0].bounds for d in found):
        return None
    return Distribution(
        found[0].bounds,
        tuple(map(sum, zip(*(d.counts for d in found), strict=True))),
        sum(d.sum for d in found),
        min(d.seconds for d in found),
    )


class _Reading(NamedTuple):
    at: float
    cumulative: tuple[float, ...]
    sum: float


class Histogram:
    """One histogram, followed over readings and over restarts of what it counts.

    The window covers the last `seconds`. It covers less, and says so in `Distribution.seconds`,
    after the first reading, after a restart (what was counted between the last reading and the
    end is lost) and after a gap in the readings.

    Args:
        seconds: Length of the window.
    """

    def __init__(self, seconds: float) -> None:
        self.sum = Counter()
        self.count = Counter()
        self._seconds = seconds
        self._bounds: tuple[float, ...] = ()
        self._born: float | None = None
        self._readings: deque[_Reading] = deque()

    def update(
        self,
        at: float,
        bounds: tuple[float, ...],
        cumulative: Sequence[float],
        total_sum: float,
        born: float | None = None,
    ) -> None:
        """Take a reading.

        Args:
            at: Seconds since the epoch.
            bounds: Upper bounds, ascending, the last infinite.
            cumulative: For each bound the observations at or below it.
            total_sum: Of all observations.
            born: When the source started, in seconds since the epoch, None if unknown. All
                buckets start anew together; one that fell is enough to see it.
        """
        reading = _Reading(at, tuple(cumulative), total_sum)
        last = self._readings[-1] if self._readings else None
        if last is not None and (
            bounds != self._bounds
            or (born != self._born and born is not None and self._born is not None)
            or any(new < old for new, old in zip(reading.cumulative, last.cumulative, strict=True))
        ):
            # Another life: all that it counted happened since its start, or the last reading.
            start = max(last.at, born) if born is not None and born < at else last.at
            self._readings.clear()
            self._readings.append(_Reading(start, (0.0,) * len(bounds), 0.0))
            self.sum.update(0.0)
            self.count.update(0.0)
        self._bounds = bounds
        self._born = born if born is not None else self._born
        self.sum.update(total_sum)
        self.count.update(reading.cumulative[-1])
        self._readings.append(reading)
        self._forget(at)

    def repeat(self, at: float) -> None:
        """Take a reading that is as the last one was, without looking at it."""
        if self._readings:
            self._readings.append(self._readings[-1]._replace(at=at))
            self._forget(at)

    def window(self) -> Distribution | None:
        """What was observed in the window; None before the second reading."""
        if len(self._readings) < 2:
            return None
        first, last = self._readings[0], self._readings[-1]
        counts, before = [], 0.0
        for new, old in zip(last.cumulative, first.cumulative, strict=True):
            # Buckets that several processes write are not read at one moment: never below zero.
            counts.append(max(new - old - before, 0.0))
            before = max(new - old, before)
        return Distribution(self._bounds, tuple(counts), last.sum - first.sum, last.at - first.at)

    def _forget(self, now: float) -> None:
        """Keep what the window needs: one reading at its start or before."""
        readings = self._readings
        while len(readings) > 1 and readings[1].at <= now - self._seconds:
            readings.popleft()
        # After a gap the reading before it is too old to stand for the window's start.
        if len(readings) > 1 and readings[0].at < now - 1.5 * self._seconds:
            readings.popleft()
