"""The energy and token curves that attribution adds up, fed from the store; outlets: `feeds`."""

from __future__ import annotations

import math
from collections.abc import Container

from collector.attribution.curve import MAX_GAP, Curve
from collector.batch import SeriesKey
from collector.catalog import gpu, power, serving
from collector.entity import Entity
from collector.metric import COUNTER, Metric
from collector.store import FUTURE, Store

METERED = (
    power.HOST_INPUT_POWER,
    power.CPU_ENERGY,
    power.CPU_POWER,
    gpu.ENERGY,
    gpu.POWER,
    gpu.POWER_AVERAGE,
    serving.GENERATION_TOKENS,
    serving.PROMPT_TOKENS,
    serving.PROMPT_TOKENS_COMPUTED,
)


class Meters:
    """A curve for each series that counts energy or tokens.

    Args:
        store: Where the latest readings are.
        span: Seconds for which the curves' past is kept.
    """

    def __init__(self, store: Store, span: float) -> None:
        self._store = store
        self._span = span
        self._curves: dict[SeriesKey, Curve] = {}

    def feed(self, now: float, fed: Container[str] = ()) -> float:
        """Take the latest readings.

        Args:
            now: Seconds since the epoch.
            fed: Names of the hosts whose outlets tell all, so that no meter of their own, which may
                be read rarely, is waited for.

        Returns:
            The time up to which all live series are known, in seconds since the epoch; what is
            derived from several of them is right up to there, and no further.
        """
        known = now
        live: dict[SeriesKey, Curve] = {}
        for metric in METERED:
            for key, row in self._store.by_metric[metric].items():
                curve = self._curves.get(key)
                if curve is None:
                    integrate = metric.instrument is not COUNTER
                    curve = Curve(integrate=integrate, span=self._span)
                live[key] = curve
                if self._is_live(row, now):
                    at = float(self._store.time[row])
                    gap = float(self._store.expires[row]) - at
                    if metric.instrument is not COUNTER:
                        # A source that is polled rarely has gaps that are none.
                        gap = max(MAX_GAP, gap)
                    curve.feed(at, float(self._store.value[row]), gap, float(self._store.rank[row]))
                    if metric is power.HOST_INPUT_POWER and key.entity.key[0] in fed:
                        continue
                    if curve.end > now - self._span:  # a time that stands still stops nothing
                        known = min(known, curve.end)
        self._curves = live
        return known

    def restart(self) -> None:
        """Forget all curves: the clock was set back."""
        self._curves = {}

    def live(self, metric: Metric, now: float) -> list[SeriesKey]:
        """Keys of the metric's series that are not stale."""
        rows = self._store.by_metric[metric].items()
        return [key for key, row in rows if self._is_live(row, now)]

    def between(
        self, start: float, end: float, metric: Metric, entity: Entity, *labels: str
    ) -> float | None:
        """The amount that came about between two times; None where there is no such series."""
        curve = self._curves.get(SeriesKey(metric, entity, labels))
        return None if curve is None else curve.at(end) - curve.at(start)

    def is_whole(self, start: float, metric: Metric, entity: Entity, *labels: str) -> bool:
        """Whether the readings have come without a gap since `start`."""
        curve = self._curves.get(SeriesKey(metric, entity, labels))
        return curve is not None and curve.whole_since <= start

    def _is_live(self, row: int, now: float) -> bool:
        """Whether a reading is known and fresh; one from far ahead was made by another clock."""
        store = self._store
        known = math.isfinite(store.value[row]) and store.time[row] < now + FUTURE
        return known and bool(store.expires[row] > now)
