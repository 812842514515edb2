"""What attribution publishes of many entities of one kind."""

from __future__ import annotations

from itertools import compress

import numpy as np
from numpy.typing import NDArray

from collector.batch import Batch, SeriesKey
from collector.entity import Entity
from collector.history import Floats
from collector.metric import Metric


class Totals:
    """A row for each entity, a column for each series of it; NaN is what there is no value of.

    Amounts are given for all rows, in their order.

    Args:
        columns: The metric and its labels' values of each.
    """

    def __init__(self, *columns: tuple[Metric, tuple[str, ...]]) -> None:
        self._rows: dict[Entity, int] = {}
        self._values = {column: np.empty(0) for column in columns}
        self._ended: dict[tuple[Metric, tuple[str, ...]], NDArray[np.bool_]] = {}
        self._keys: dict[tuple[Metric, tuple[str, ...]], list[SeriesKey]] = {
            column: [] for column in columns
        }

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, entity: Entity) -> int:
        """Return the entity's row; one that is new gets the next."""
        row = self._rows.get(entity)
        if row is None:
            row = self._rows[entity] = len(self._rows)
            for (metric, labels), keys in self._keys.items():
                keys.append(SeriesKey(metric, entity, labels))
        return row

    def names(self, rows: NDArray[np.int64]) -> set[str]:
        """Give the first part of the keys of the entities in some rows."""
        entities = list(self._rows) if rows.size else []
        return {entities[row].key[0] for row in rows.tolist()}

    def put(self, amounts: Floats, metric: Metric, *labels: str) -> None:
        """Set a column's values; what had one and has none now is published as ended, by NaN."""
        old = self._values[metric, labels]
        self._values[metric, labels] = amounts
        self._ended[metric, labels] = ~np.isnan(old) & np.isnan(amounts[: len(old)])

    def add(self, amounts: Floats, metric: Metric, *labels: str) -> None:
        """Add to a column; NaN adds nothing."""
        old = self._values[metric, labels]
        old = np.append(old, np.full(len(self) - len(old), np.nan))
        both = np.nan_to_num(old) + amounts
        self._values[metric, labels] = np.where(np.isnan(amounts), old, both)

    def publish(self, batch: Batch, at: float) -> None:
        """Add all values to a batch, as known up to `at`."""
        for column, values in self._values.items():
            known = ~np.isnan(values)
            ended = self._ended.pop(column, known[:0])
            known[: len(ended)] |= ended
            begin = len(batch.keys)
            # Not by `extend`: to look up each key would take most of a step's time.
            batch.keys += compress(self._keys[column], known)
            batch.values += values[known].tolist()
            batch.times |= dict.fromkeys(range(begin, len(batch.keys)), at)
