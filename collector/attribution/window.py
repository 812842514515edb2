"""Sums over the time just past."""

from __future__ import annotations

from collections import deque


class Window:
    """Sums of amounts over the last `span` seconds."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._entries: deque[tuple[float, tuple[float, ...]]] = deque()

    def add(self, at: float, *amounts: float) -> None:
        """Add amounts that came about until `at`, in seconds since the epoch."""
        self._entries.append((at, amounts))

    def sums(self, now: float) -> tuple[float, ...] | None:
        """Give the sum of each amount and forget the oldest; None where there is nothing."""
        while self._entries and self._entries[0][0] <= now - self._span:
            self._entries.popleft()
        while self._entries and self._entries[-1][0] > now:  # the clock was set back
            self._entries.pop()
        if not self._entries:
            return None
        return tuple(map(sum, zip(*(amounts for _, amounts in self._entries), strict=True)))
