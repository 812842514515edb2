"""History as OpenMetrics text with times, which promtool and `w2t correlate` read."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from collector.batch import SeriesKey
from collector.export.prometheus import head, prefix
from collector.history import Floats
from collector.metric import Metric
from collector.store import Store

END = b"# EOF\n"
_ROWS = 64  # that are read at once
_KEPT = 60.0  # seconds after which a value is written again although it did not change

Piece = tuple[list[SeriesKey], Floats, Floats]


def pieces(store: Store, rows: list[int], start: float, end: float) -> Iterator[Piece]:
    """Read the history of some series, a few at a time, by metric.

    Args:
        store: Read in the thread that writes it.
        rows: Of the series.
        start: Seconds since the epoch.
        end: The same.

    Yields:
        Series, times [n], values [n, len(series)], as `Text.write` takes them.
    """
    known = [(key, row) for row in rows if (key := store.series[row]) is not None]
    known.sort(key=lambda pair: pair[0].metric.prometheus)
    for first in range(0, len(known), _ROWS):
        part = known[first : first + _ROWS]
        index = {row: place for place, row in enumerate(sorted(row for _, row in part))}
        times, values = store.read(np.array(list(index), np.int64), start, end)
        order = [index[row] for _, row in part]
        yield [key for key, _ in part], times, values[:, order]


class Text:
    """Writes what `pieces` read, piece by piece; `END` comes after the last."""

    def __init__(self) -> None:
        self._family: Metric | None = None

    def write(self, piece: Piece) -> Iterator[bytes]:
        """Write one piece, a series at a time.

        Of a value that stays the same only what is needed to see so is written.
        """
        keys, times, values = piece
        at = times.tolist()
        for place, key in enumerate(keys):
            lines = list(_samples(prefix(key)[1:].decode(), at, values[:, place].tolist()))
            if lines and key.metric is not self._family:
                self._family = key.metric
                lines.insert(0, head(key.metric, openmetrics=True).decode())
            if lines:
                yield ("\n".join(lines) + "\n").encode()


def _samples(start: str, times: list[float], values: list[float]) -> Iterator[str]:
    written = last = -math.inf
    value = math.nan
    for at, now in zip(times, values, strict=True):
        if math.isnan(now):
            continue
        if now != value or at - written >= _KEPT:
            if now != value and last > written:
                yield f"{start}{_number(value)} {last!r}"
            yield f"{start}{_number(now)} {at!r}"
            written, value = at, now
        last = at
    if last > written:
        yield f"{start}{_number(value)} {last!r}"


def _number(value: float) -> str:
    return ("+Inf" if value > 0 else "-Inf") if math.isinf(value) else repr(value)
