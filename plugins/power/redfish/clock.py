"""What the service's clock is off by, from the `Date` of its answers."""

from __future__ import annotations

import calendar
from email.utils import parsedate

MIN_TIME = 946_684_800.0  # 2000-01-01: a BMC without a clock says 1970


class Clock:
    """Narrows down by how much our clock is ahead of the service's.

    `Date` has whole seconds (RFC 9110, 5.6.7), so an answer gives an interval, not a number; each
    next answer narrows it. As long as 0 lies in it, the clocks are taken to agree.
    """

    def __init__(self) -> None:
        self._low = self._high = 0.0
        self.known = False

    def update(self, date: str, sent: float, received: float) -> None:
        """Take the `Date` header of an answer; times are seconds since the epoch by our clock."""
        parsed = parsedate(date) if date else None
        if parsed is None:
            return
        try:
            theirs = float(calendar.timegm(parsed))
        except (ValueError, OverflowError):
            return
        low, high = sent - theirs - 1.0, received - theirs
        if self.known and low <= self._high and high >= self._low:
            low, high = max(low, self._low), min(high, self._high)
        self._low, self._high, self.known = low, high, True

    @property
    def offset(self) -> float:
        """Seconds to add to a time by the service's clock; 0 where the clocks seem to agree."""
        return 0.0 if self._low <= 0.0 <= self._high else (self._low + self._high) / 2
