"""Energy counters of PDUs, which anyone can reset and some devices misread."""

from __future__ import annotations


class Energy:
    """Turns an energy counter's readings into one that never falls.

    A PDU's counter can be set to zero from its front panel, and nothing on the device tells that
    it was: only the fall does. A fall, or a rise beyond what the wiring can carry, is believed
    when the next reading confirms it. A reading that was wrong once would otherwise count twice.

    Args:
        watts: The most that can flow.
        resolution: Joules in one count of the device.
    """

    __slots__ = ("_at", "_raw", "_resolution", "_suspect", "_watts", "total")

    def __init__(self, watts: float, resolution: float) -> None:
        self.total: float | None = None
        self._watts = watts
        self._resolution = resolution
        self._raw = 0.0
        self._at = 0.0
        self._suspect: float | None = None

    def update(self, raw: float, now: float) -> float | None:
        """Take a reading and return the total, or None while the reading is in doubt.

        Args:
            raw: Joules by the device's counter.
            now: Seconds on a clock that never jumps.

        Raises:
            ValueError: The counter rose faster than it can.
        """
        most = self._watts * max(now - self._at, 1.0) + 2 * self._resolution
        if self.total is None:
            self.total = raw
        elif 0 <= raw - self._raw <= most:
            self.total += raw - self._raw
        elif self._suspect is not None and 0 <= raw - self._suspect <= most:
            # What was counted since a reset is kept; another device's past is not.
            self.total += raw if raw < self._raw and raw <= most else raw - self._suspect
        else:
            self._suspect = raw
            if raw < self._raw:
                return None
            raise ValueError(f"rose by {raw - self._raw:.6g} J in {now - self._at:.1f} s")
        self._raw, self._at, self._suspect = raw, now, None
        return self.total
