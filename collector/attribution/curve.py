"""Amounts that add up over time: energy, tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

MAX_GAP = 60.0  # seconds over which a gauge is integrated at least; longer gaps stay gaps
_MOST = 10_000.0  # W of one GPU; where another source takes over, a counter can seem to rise more


class Curve:
    """A cumulative amount as a function of time, linear between the readings.

    Args:
        integrate: The readings are of a rate (W), which is integrated by trapezoids (J); else
            they are of a counter.
        span: Seconds for which the past is kept.
    """

    __slots__ = ("_integrate", "_source", "_span", "_times", "_totals", "_value", "whole_since")

    def __init__(self, *, integrate: bool, span: float = 900.0) -> None:
        self._integrate = integrate
        self._span = span
        self._times: deque[float] = deque()
        self._totals: deque[float] = deque()
        self._value = 0.0
        self._source: float | None = None
        self.whole_since = float("-inf")
        """Since when the readings come without a gap; what a counter rose by over one is known,
        but not when."""

    @property
    def end(self) -> float:
        """Seconds since the epoch up to which the curve is known."""
        return self._times[-1] if self._times else float("-inf")

    def feed(
        self, at: float, value: float, gap: float = MAX_GAP, source: float | None = None
    ) -> None:
        """Take a reading that was true at `at`; one that is not newer is left out.

        Over more than `gap` seconds since the reading before, a rate is not integrated. A rate
        below zero (an outlet's meter without load) counts as zero: an amount never falls. A counter
        goes on from one `source` to another if that is plausible, else it begins anew.
        """
        if at <= self.end:
            return
        if at - self.end > gap:
            self.whole_since = at
        if not self._times:
            total = 0.0
        elif self._integrate:
            passed = at - self._times[-1]
            added = (max(value, 0.0) + max(self._value, 0.0)) / 2 * passed
            total = self._totals[-1] + (added if passed <= gap else 0.0)
        else:
            # A counter that fell was reset: what it shows was counted since.
            rise = value - self._value
            if source == self._source:
                rise = rise if rise >= 0 else value
            elif not 0 <= rise <= _MOST * (at - self.end):
                rise, self.whole_since = 0.0, at
            total = self._totals[-1] + rise
        self._value = value
        self._source = source
        self._times.append(at)
        self._totals.append(total)
        while len(self._times) > 2 and self._times[1] < at - self._span:
            self._times.popleft()
            self._totals.popleft()

    def at(self, time: float) -> float:
        """The amount at a time, held constant before the first and after the last reading."""
        if not self._times:
            return 0.0
        after = bisect_right(self._times, time)
        if after == 0:
            return self._totals[0]
        if after == len(self._times):
            return self._totals[-1]
        begin, end = self._times[after - 1], self._times[after]
        low, high = self._totals[after - 1], self._totals[after]
        return low + (high - low) * (time - begin) / (end - begin)
