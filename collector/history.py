"""Bounded history of many series: compressed blocks of time slots, exact doubles, gaps kept."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

SLOTS = 60  # of one block
CHUNK = 256  # rows that are compressed together, so that reading one series stays cheap
OPEN = 3  # blocks kept uncompressed: the current one, and those that late samples fall into


class History:
    """Values of rows by time slot, for `span` seconds at one slot per `resolution` seconds.

    A slot holds the last value that was put into it; NaN is a gap. Blocks that are no longer
    written to are compressed (XOR with the previous slot, bytes shuffled, deflate), which
    takes about 2 bytes for a value; writing to such a block opens it again, so late samples cost
    time and are not lost.
    """

    def __init__(self, resolution: float, span: float) -> None:
        self.resolution = resolution
        self.slots = math.ceil(span / resolution)
        self._open: OrderedDict[int, Floats] = OrderedDict()
        self._sealed: dict[int, list[bytes]] = {}
        self._newest = 0
        self._rows = 0
        self._born: NDArray[np.int64] = np.empty(0, np.int64)

    def grow(self, rows: int) -> None:
        """Make room for that many rows."""
        born = np.zeros(rows, np.int64)
        born[: self._rows] = self._born
        self._born, self._rows = born, rows

    def clear(self, row: int, at: float) -> None:
        """Begin a row anew at that time: what it held before belonged to another series."""
        slot = int(at / self.resolution)
        self._born[row] = slot
        for number, block in self._open.items():
            if row < block.shape[1] and number == slot // SLOTS:
                block[slot % SLOTS :, row] = np.nan

    def put(self, rows: Rows, values: Floats, at: float) -> None:
        """Set the values of rows in the slot of `at`, seconds since the epoch."""
        slot = int(at / self.resolution)
        if slot <= self._newest - self.slots:
            return
        if slot > self._newest:
            self._newest = slot
        self._block(slot // SLOTS)[slot % SLOTS, rows] = values

    def read(self, rows: Rows, start: float, end: float) -> tuple[Floats, Floats]:
        """Return slot times [n] and values [n, len(rows)] for `start` <= slot <= `end`.

        Times are those at which slots begin, in seconds since the epoch; gaps are NaN.
        """
        first = max(math.ceil(start / self.resolution), self._newest - self.slots + 1)
        last = min(int(end / self.resolution), self._newest)
        slots = np.arange(first, last + 1)
        values: Floats = np.full((len(slots), len(rows)), np.nan)
        for number in range(first // SLOTS, last // SLOTS + 1):
            inside = slots // SLOTS == number
            if number in self._open:
                block = self._open[number]
                known = rows < block.shape[1]
                values[np.ix_(inside, known)] = block[np.ix_(slots[inside] % SLOTS, rows[known])]
            elif number in self._sealed:
                self._read_sealed(number, slots[inside] % SLOTS, rows, inside, values)
        values[slots[:, None] < self._born[rows][None, :]] = np.nan
        return (slots * self.resolution).astype(np.float64), values

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(block.nbytes for block in self._open.values()) + sum(
            len(chunk) for chunks in self._sealed.values() for chunk in chunks
        )

    def _read_sealed(
        self, number: int, within: Rows, rows: Rows, inside: NDArray[np.bool_], values: Floats
    ) -> None:
        chunks = self._sealed[number]
        for chunk in np.unique(rows // CHUNK):
            if chunk < len(chunks):
                data = _unpack(chunks[chunk])
                mine = rows // CHUNK == chunk
                values[np.ix_(inside, mine)] = data[np.ix_(within, rows[mine] % CHUNK)]

    def _block(self, number: int) -> Floats:
        block = self._open.get(number)
        if block is None:
            sealed = self._sealed.pop(number, [])
            block = np.full((SLOTS, max(self._rows, len(sealed) * CHUNK)), np.nan)
            for chunk, packed in enumerate(sealed):
                block[:, chunk * CHUNK : (chunk + 1) * CHUNK] = _unpack(packed)
            self._open[number] = block
            if len(self._open) > OPEN:
                self._seal(*self._open.popitem(last=False))
            self._drop_old()
        elif block.shape[1] < self._rows:
            wider = np.full((SLOTS, self._rows), np.nan)
            wider[:, : block.shape[1]] = block
            self._open[number] = block = wider
        self._open.move_to_end(number)
        return block

    def _seal(self, number: int, block: Floats) -> None:
        self._sealed[number] = [
            _pack(block[:, start : start + CHUNK]) for start in range(0, block.shape[1], CHUNK)
        ]

    def _drop_old(self) -> None:
        oldest = (self._newest - self.slots) // SLOTS
        for blocks in (self._open, self._sealed):
            for number in [number for number in blocks if number < oldest]:
                del blocks[number]


def _pack(block: Floats) -> bytes:
    full = np.full((CHUNK, SLOTS), np.nan)
    full[: block.shape[1]] = block.T
    bits = full.view(np.uint64)
    bits[:, 1:] ^= bits[:, :-1].copy()
    shuffled = np.ascontiguousarray(bits.view(np.uint8).reshape(-1, 8).T)
    packed: bytes = isal_zlib.compress(shuffled, 1)
    return packed


def _unpack(packed: bytes) -> Floats:
    shuffled = np.frombuffer(isal_zlib.decompress(packed), np.uint8).reshape(8, -1)
    bits = np.ascontiguousarray(shuffled.T).view(np.uint64).reshape(CHUNK, SLOTS)
    return np.bitwise_xor.accumulate(bits, axis=1).view(np.float64).T
