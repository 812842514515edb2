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
OPEN = 2  # blocks kept uncompressed: the current one, and one that late samples fall into


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
        self._born[row] = int(at / self.resolution)

    def put(self, rows: Rows, values: Floats, at: float) -> None:
        """Set the values of rows in the slot of `at`, seconds since the epoch."""
        slot = int(at / self.resolution)
        if slot <= self._newest - self.slots:
            return
        if slot > self._newest:
            self._newest = slot
        self._block(slot // SLOTS)[slot % SLOTS, rows] = values

    def rewind(self, at: float) -> None:
        """Forget the slots after `at`: the clock was set back, and they are yet to come."""
        slot = int(at / self.resolution)
        for blocks in (self._open, self._sealed):
            for number in [number for number in blocks if number > slot // SLOTS]:
                del blocks[number]
        self._newest = slot
        if slot // SLOTS in self._open or slot // SLOTS in self._sealed:
            self._block(slot // SLOTS)[slot % SLOTS + 1 :] = np.nan
        np.minimum(self._born, slot, out=self._born)

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


# Readings are decimal numbers: most are a whole multiple of one of these, which deltas of integers
# take less room for than the bits of doubles.
_SCALES = np.array([1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6])
_BITS = len(_SCALES)  # instead of a scale: the row is kept as the bits of its doubles


def _pack(block: Floats) -> bytes:
    values = np.full((CHUNK, SLOTS), np.nan)
    values[: block.shape[1]] = block.T
    gaps = np.isnan(values)
    scale = np.full(CHUNK, _BITS, np.uint8)
    data = values.view(np.int64).copy()
    with np.errstate(all="ignore"):
        for index in range(_BITS - 1, -1, -1):
            scaled = np.rint(values * _SCALES[index])
            exact = (scaled / _SCALES[index] == values) & (np.abs(scaled) < 2**53)
            exact &= ~((scaled == 0) & np.signbit(values))
            rows = (exact | gaps).all(axis=1)
            scale[rows] = index
            data[rows] = np.where(gaps, 0, scaled)[rows].astype(np.int64)
    whole = scale < _BITS
    data[whole] = _hold(data[whole], gaps[whole])
    first = data[:, :1].copy()
    data[whole, 1:] = np.diff(data[whole], axis=1)
    data[~whole, 1:] ^= data[~whole, :-1].copy()
    data[:, :1] = first
    data = (data << 1) ^ (data >> 63)  # zigzag: small negative deltas have high bytes of zero too
    shuffled = np.ascontiguousarray(data.view(np.uint8).reshape(-1, 8).T)
    return isal_zlib.compress(scale.tobytes() + np.packbits(gaps).tobytes() + shuffled.tobytes(), 1)


def _hold(data: NDArray[np.int64], gaps: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Let gaps hold the value before them, so that they cost nothing."""
    last = np.where(gaps, 0, np.arange(SLOTS))
    np.maximum.accumulate(last, axis=1, out=last)
    return np.take_along_axis(data, last, axis=1)


def _unpack(packed: bytes) -> Floats:
    raw = isal_zlib.decompress(packed)
    scale = np.frombuffer(raw, np.uint8, CHUNK)
    bits = np.frombuffer(raw, np.uint8, CHUNK * SLOTS // 8, CHUNK)
    gaps = np.unpackbits(bits).reshape(CHUNK, SLOTS).astype(bool)
    shuffled = np.frombuffer(raw, np.uint8, offset=CHUNK + CHUNK * SLOTS // 8).reshape(8, -1)
    data = np.ascontiguousarray(shuffled.T).view(np.int64).reshape(CHUNK, SLOTS)
    data = (data >> 1 & np.int64(2**63 - 1)) ^ -(data & 1)
    whole = scale < _BITS
    values = np.empty((CHUNK, SLOTS))
    values[whole] = np.cumsum(data[whole], axis=1) / _SCALES[scale[whole], None]
    values[~whole] = np.bitwise_xor.accumulate(data[~whole], axis=1).view(np.float64)
    values[gaps] = np.nan
    return values.T
