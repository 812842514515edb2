"""Counters that survive resets, wraps and restarts of what they count."""

from __future__ import annotations

from collections.abc import Hashable


class Counter:
    """Turns the raw readings of one counter into one that never falls.

    The total starts at the first raw reading, so that what the source counted before is kept.

    Args:
        modulo: One more than the largest raw value of a counter that wraps
            (RAPL's `max_energy_range_uj`), or None where a fall means a reset.
    """

    __slots__ = ("_birth", "_modulo", "_raw", "total")

    def __init__(self, modulo: float | None = None) -> None:
        self.total: float | None = None
        self._raw = 0.0
        self._birth: Hashable = None
        self._modulo = modulo

    def update(self, raw: float, birth: Hashable = None) -> float:
        """Take a raw reading and return the total.

        Args:
            raw: What the source reads now.
            birth: What changes when the source starts anew, its process start time for one.
                A value that fell is not enough: a counter can pass its old value between two
                readings (facts: 2,869 tokens counted, 442 by falls alone).
        """
        if self.total is None:
            self.total = raw
        elif birth != self._birth and birth is not None and self._birth is not None:
            self.total += raw
        elif raw >= self._raw:
            self.total += raw - self._raw
        elif self._modulo is not None:
            self.total += raw - self._raw + self._modulo
        else:
            self.total += raw
        self._raw = raw
        if birth is not None:
            self._birth = birth
        return self.total
