"""Which agent's calls took which part of an engine's energy."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import accumulate

_ROUNDING = 1e-12  # of a weight, what is not worth looking for


@dataclass(slots=True)
class _Slot:
    """What an engine took and did between two times. `weight` is in generated tokens."""

    start: float
    end: float
    energy: float
    weight: float
    free: float  # of the weight, what no call has claimed


class Claims:
    """The energy of one engine and model, claimed by calls as they are reported.

    Every step adds a slot of time with the energy that was taken and the tokens that were
    computed in it. A call claims tokens from the slots during which it ran, in proportion to what
    was computed in each, and takes their energy with it, at most what a slot still has. So what is
    claimed, `unattributed` and `pending` always add up to what was put in.

    Args:
        horizon: Seconds after which what is left of a slot is unattributed for good.
    """

    def __init__(self, horizon: float) -> None:
        self.unattributed = 0.0
        self._horizon = horizon
        self._slots: deque[_Slot] = deque()

    @property
    def pending(self) -> float:
        """Joules that calls can still claim."""
        return sum(slot.energy * (slot.free / slot.weight) for slot in self._slots)

    def add(self, start: float, end: float, energy: float, weight: float) -> None:
        """Add a slot; energy in joules, weight in generated tokens."""
        if weight > 0:
            self._slots.append(_Slot(start, end, energy, weight, weight))
        else:
            self.unattributed += energy  # nothing was computed that could be claimed
        # A slot that is later than the newest is from before the clock was set back.
        while self._slots and not end - self._horizon <= self._slots[0].end <= end:
            slot = self._slots.popleft()
            self.unattributed += slot.energy * (slot.free / slot.weight)

    def available(self, start: float, end: float) -> float:
        """Weight computed in the slots that a call from `start` to `end` overlaps."""
        return sum(weight for _, weight in self._overlapping(start, end))

    def claim(self, start: float, end: float, weight: float) -> tuple[float, float]:
        """Claim that weight for a call that ran from `start` to `end`.

        Returns:
            The joules taken, and the weight for which there was energy.
        """
        found = [(slot, part) for slot, part in self._overlapping(start, end) if slot.free > 0]
        # What does not fit into its part of a full slot is taken from the call's other slots: those
        # that are full first come first, and leave their rest to those behind them.
        found.sort(key=lambda pair: pair[0].free / pair[1])
        totals = list(accumulate(part for _, part in reversed(found)))
        energy, left = 0.0, weight
        for (slot, part), total in zip(found, reversed(totals), strict=True):
            taken = min(left * (part / total), slot.free)
            energy += slot.energy * (taken / slot.weight)
            slot.free -= taken
            left -= taken
        return energy, weight - left if left > weight * _ROUNDING else weight

    def _overlapping(self, start: float, end: float) -> list[tuple[_Slot, float]]:
        """Give the slots that overlap with the time, with the weight that fell into the overlap."""
        found = []
        for slot in reversed(self._slots):
            if slot.end <= start:
                break
            overlap = min(slot.end, end) - max(slot.start, start)
            part = slot.weight * (overlap / (slot.end - slot.start))
            if part > 0:
                found.append((slot, part))
        return found
