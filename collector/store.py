"""The latest value and the recent history of every series, in columns."""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict

import numpy as np

from collector.batch import Batch, SeriesKey
from collector.entity import Entity
from collector.history import Floats, History, Rows
from collector.metric import COUNTER, Metric

FUTURE = 60.0  # seconds by which a source's clock may be ahead and still be believed
SET_BACK = 600.0  # a batch older than others by more seconds says that the clock was set back


class Store:
    """Series by row. Columns are float64 arrays, replaced by longer ones as series are added.

    Times are seconds since the epoch: `time` when the value was true, `start` when the series (of
    a counter: the count) began, `expires` when it is stale. Readers use the columns, `live`,
    `by_metric` and `read`, and cache what they build for as long as `generation` stays the same.
    Of sources that write one series, the one of the highest precedence counts until it is stale:
    `rank` is the precedence of whoever wrote what is there.

    Args:
        resolution: Seconds of one slot of the history.
        history: Seconds for which history is kept; a series unseen for that long is removed.
    """

    def __init__(self, resolution: float = 1.0, history: float = 3600.0) -> None:
        self.index: dict[SeriesKey, int] = {}
        self.series: list[SeriesKey | None] = []
        self.value: Floats = np.empty(0)
        self.time: Floats = np.empty(0)
        self.start: Floats = np.empty(0)
        self.expires: Floats = np.empty(0)
        self.rank: Floats = np.empty(0)
        self.by_metric: defaultdict[Metric, dict[SeriesKey, int]] = defaultdict(dict)
        self.generation = 0
        self.version = 0
        self._counts: Floats = np.empty(0)  # 1 for counters
        self._history = History(resolution, history)
        self._span = history
        self._newest = -np.inf
        self._ranked = False  # whether precedences differ, which costs a look at each write
        self._free: list[int] = []
        self._owner: dict[int, str] = {}
        self._owned: Tally[str] = Tally()

    def write(
        self,
        batch: Batch,
        source: str,
        lifetime: float,
        limit: int = 1 << 31,
        precedence: int = 0,
    ) -> int:
        """Take a batch's samples, but for those of series that a better source keeps alive.

        Args:
            batch: What a poll found.
            source: Who wrote it; its series count against `limit`.
            lifetime: Seconds after which a sample is stale and no longer shown.
            limit: How many series the source may have.
            precedence: Its samples count where no source of a higher one has a live value.

        Returns:
            How many samples were refused because of the limit.
        """
        if not batch.keys:
            return 0
        if batch.at < self._newest - SET_BACK:
            self._set_back(self._newest - batch.at, batch.at)
        self._newest = max(self._newest, batch.at)
        index = self.index
        rows = [index.get(key, -1) for key in batch.keys]
        if -1 in rows:
            for position, row in enumerate(rows):
                if row < 0:
                    rows[position] = self._row(batch.keys[position], source, limit, batch.at)
        row_array = np.array(rows, np.int64)
        values = np.array(batch.values, np.float64)
        times = np.full(len(rows), batch.at)
        for position, at in batch.times.items():
            if batch.at - self._span < at < batch.at + FUTURE:
                times[position] = at
        if batch.times:  # the newest of a series last, should it be there twice
            order = np.argsort(times, kind="stable")
            row_array, values, times = row_array[order], values[order], times[order]
        taken = row_array >= 0
        count = len(rows) - int(np.count_nonzero(taken))
        if count:
            row_array, values, times = row_array[taken], values[taken], times[taken]
        self._ranked |= precedence != 0
        if self._ranked:
            taken = (self.rank[row_array] <= precedence) | (self.expires[row_array] <= batch.at)
            row_array, values, times = row_array[taken], values[taken], times[taken]
            self.rank[row_array] = precedence
        if row_array.size:
            self._set(row_array, values, times, batch.at + lifetime)
        return count

    def live(self, now: float) -> Rows:
        """Rows of the series that are not stale, ascending."""
        return np.flatnonzero(self.expires > now)

    def latest(self, now: float, metric: Metric, entity: Entity, *labels: str) -> float | None:
        """Return the value of one series, or None where there is none or it is stale."""
        row = self.index.get(SeriesKey(metric, entity, labels))
        return float(self.value[row]) if row is not None and self.expires[row] > now else None

    def read(self, rows: Rows, start: float, end: float) -> tuple[Floats, Floats]:
        """Return slot times [n] and values [n, len(rows)] of the history; gaps are NaN."""
        return self._history.read(rows, start, end)

    def evict(self, now: float) -> None:
        """Remove the series that were last seen longer ago than history reaches."""
        for row in np.flatnonzero(self.expires[: len(self.series)] < now - self._span):
            key = self.series[row]
            if key is not None:
                del self.index[key], self.by_metric[key.metric][key]
                self.series[row] = None
                self._owned[self._owner.pop(int(row))] -= 1
                self.expires[row] = np.inf * -1
                self._free.append(int(row))
                self.generation += 1

    def owned(self, source: str) -> int:
        """How many series a source has."""
        return self._owned[source]

    @property
    def size(self) -> int:
        """Bytes held by columns and history."""
        return self._history.size + 6 * self.value.nbytes

    def _set(self, rows: Rows, values: Floats, times: Floats, expires: float) -> None:
        # A late sample goes into history; only one that is at least as new is the latest. A time
        # before the poll's says that the source keeps time; otherwise the clock may have jumped.
        newer = (times >= self.time[rows]) | (self.time[rows] > expires)
        latest = rows[newer]
        reset = latest[(values[newer] < self.value[latest]) & (self._counts[latest] > 0)]
        self.start[reset] = self.time[reset]
        self.value[latest] = values[newer]
        self.time[latest] = times[newer]
        self.start[latest] = np.minimum(self.start[latest], times[newer])
        self.expires[rows] = expires
        if times.min() == times.max():
            self._history.put(rows, values, float(times[0]))
        else:
            slots = (times / self._history.resolution).astype(np.int64)
            for slot in np.unique(slots):
                mine = slots == slot
                self._history.put(rows[mine], values[mine], float(times[mine][0]))
        self.version += 1

    def _set_back(self, by: float, at: float) -> None:
        """Follow a clock that was set back, so that nothing lasts until it has caught up."""
        for column in (self.time, self.start, self.expires):
            column -= by
        self._history.rewind(at)
        self._newest = at

    def _row(self, key: SeriesKey, source: str, limit: int, at: float) -> int:
        row = self.index.get(key)
        if row is not None:  # twice in this batch
            return row
        if self._owned[source] >= limit:
            return -1
        if self._free:
            row = self._free.pop()
            self.series[row] = key
        else:
            row = len(self.series)
            self.series.append(key)
            if row >= len(self.value):
                self._grow(row + max(256, row // 4))
        self.index[key] = row
        self.by_metric[key.metric][key] = row
        self.value[row] = np.nan
        self.time[row] = -np.inf
        self.start[row] = at
        self.rank[row] = 0
        self._counts[row] = key.metric.instrument is COUNTER
        self._history.clear(row, at - max(self._span - FUTURE, 0.0))
        self._owner[row] = source
        self._owned[source] += 1
        self.generation += 1
        return row

    def _grow(self, capacity: int) -> None:
        for name, fill in (
            ("value", np.nan),
            ("time", -np.inf),
            ("start", np.nan),
            ("expires", -np.inf),
            ("rank", 0.0),
            ("_counts", 0.0),
        ):
            column = np.full(capacity, fill)
            old = getattr(self, name)
            column[: len(old)] = old
            setattr(self, name, column)
        self._history.grow(capacity)
