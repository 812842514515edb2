"""Which series an exporter shows, in which order, and their bytes that stay the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from collector.batch import SeriesKey
from collector.history import Rows
from collector.metric import Metric
from collector.store import Store


class Layout:
    """The rows of live series, family by family, and for each row a piece of bytes kept ready.

    Pieces are made once for a series, so that a series more or less costs no new pieces for the
    others. A series whose latest value is NaN is not shown: unknown is absent.

    Args:
        store: Only read.
        encode: Makes the piece of a series: its text up to the value, or its OTLP data point.
    """

    def __init__(self, store: Store, encode: Callable[[SeriesKey], bytes]) -> None:
        self.rows: Rows = np.empty(0, np.int64)
        self.families: list[tuple[Metric, int, int]] = []
        """Metric, first and one past the last index into `rows`; sorted by Prometheus name."""
        self._store = store
        self._encode = encode
        self._generation = -1
        self._live: Rows = self.rows
        self._keys: list[SeriesKey | None] = []
        self._pieces: list[bytes] = []
        self._family: Rows = self.rows
        self._numbers: dict[tuple[str, str], int] = {}
        self._metrics: list[Metric] = []

    def refresh(self, now: float) -> bool:
        """Take up what changed; say whether rows came, went or moved.

        Args:
            now: Seconds since the epoch, to tell which series are stale.
        """
        store = self._store
        live = store.live(now)
        live = live[~np.isnan(store.value[live])]
        if store.generation == self._generation and np.array_equal(live, self._live):
            return False
        if store.generation != self._generation:
            self._take_series(store.series)
            self._generation = store.generation
        self._live = live
        names = sorted(self._numbers)
        rank = np.empty(len(names), np.int64)
        rank[[self._numbers[name] for name in names]] = np.arange(len(names))
        ranks = rank[self._family[live]]
        order = np.argsort(ranks, kind="stable")
        self.rows = live[order]
        ends = np.searchsorted(ranks[order], np.arange(len(names) + 1)).tolist()
        self.families = [
            (self._metrics[self._numbers[name]], first, last)
            for name, first, last in zip(names, ends, ends[1:], strict=False)
            if last > first
        ]
        return True

    def pieces(self) -> list[bytes]:
        """The pieces in the order of `rows`."""
        pieces = self._pieces
        return [pieces[row] for row in self.rows.tolist()]

    def _take_series(self, series: list[SeriesKey | None]) -> None:
        added = len(series) - len(self._keys)
        if added > 0:
            self._keys += [None] * added
            self._pieces += [b""] * added
            self._family = np.append(self._family, np.zeros(added, np.int64))
        changed = [
            row
            for row, (new, old) in enumerate(zip(series, self._keys, strict=True))
            if new is not old
        ]
        for row in changed:
            key = self._keys[row] = series[row]
            if key is not None:
                self._pieces[row] = self._encode(key)
                name = key.metric.prometheus, key.metric.instrument.value
                if name not in self._numbers:
                    self._numbers[name] = len(self._metrics)
                    self._metrics.append(key.metric)
                self._family[row] = self._numbers[name]
