"""How often a link went down."""

from __future__ import annotations


class Flaps:
    """Counts falls of a link by its state, and by a counter of them that can stop.

    The counter must be read before the state: then the state never shows a fall later than it.
    """

    def __init__(self) -> None:
        self.total = 0
        self._up: bool | None = None
        self._downed: float | None = None
        self._untold = 0

    def update(self, up: bool | None, downed: float | None) -> tuple[bool | None, int]:
        """Take a reading.

        Args:
            up: Whether the link is up; None where nobody knows.
            downed: Total of the counter; None where there is none.

        Returns:
            True or False where the link came up or went down since the last reading, else None; and
            how often it went down unseen.
        """
        seen = None if up is None or self._up is None or up == self._up else up
        self._untold += seen is False
        unseen = 0
        if downed is not None:
            more = 0 if self._downed is None else int(downed - self._downed)
            told = min(more, self._untold)
            self._untold -= told
            self._downed, unseen = downed, more - told
        self.total += (seen is False) + unseen
        if up is not None:
            self._up = up
            self._untold = 0 if up else self._untold
        return seen, unseen
