"""Reads plain data out of a pickle, and nothing else: nothing is imported, called or built.

Whoever may write to a folder can leave a pickle there, and a pickle is a program that the standard
library's reader runs. This reader knows the opcodes for numbers, text, lists, tuples and
dictionaries and refuses all others, so there is no class to be found and nothing to be called.
Its time and memory follow from what it reads, not from what the file claims: no number is read
from decimal digits, no table is as long as an index says, names are text or whole numbers (a tuple
that holds itself many times over takes for ever to hash), and opcodes and containers are counted.

Opcodes: Lib/pickletools.py of CPython; those that torch writes: torch/csrc/jit/serialization/
pickler.cpp.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

_STEPS = 10_000_000  # a dump of 20,000 operations with their stacks has 7 million
_CONTAINERS = 800_000  # of 64 bytes and more for one byte of the file
_NUMBER = 64  # bytes of a whole number; torch's have 8

Value = Any  # what is in a file is found out by reading


class PickleError(ValueError):
    """It is no pickle of plain data."""


class Reader:
    """Reads one pickle; what it returns may be nested deeply, so walk it to a known depth only.

    Args:
        data: The whole file.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._stack: list[Value] = []
        self._marks: list[int] = []  # heights of the stack
        self._memo: dict[int, Value] = {}
        self._containers = _CONTAINERS
        self.push = self._stack.append  # put a value on the stack

    def read(self) -> Value:
        """Return the value.

        Raises:
            PickleError: It holds more than plain data, or is cut off, or too much.
        """
        data, size, opcodes, left = self._data, len(self._data), _OPCODES, _STEPS
        while self._at < size:
            code = data[self._at]
            left -= 1
            if left < 0:
                raise PickleError(f"it has more than {_STEPS} opcodes")
            self._at += 1
            if code == _STOP:
                if len(self._stack) != 1 or self._marks:
                    raise PickleError("it does not end with one value")
                return self._stack[0]
            opcode = opcodes.get(code)
            if opcode is None:
                at = self._at - 1
                raise PickleError(f"opcode {code:#04x} at byte {at} is for more than plain data")
            opcode(self)
        raise PickleError(_CUT)

    def take(self, size: int) -> bytes:
        """Take the next bytes."""
        end = self._at + size
        if end > len(self._data):
            raise PickleError(_CUT)
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def count(self, size: int) -> int:
        """Take a number that is no value but says how many or which, of so many bytes."""
        at = self._at
        self._at = at + size
        piece = self._data[at : at + size]
        if len(piece) < size:
            raise PickleError(_CUT)
        return int.from_bytes(piece, "little")

    def real(self) -> float:
        """Take a float."""
        found: float = _DOUBLE.unpack(self.take(8))[0]
        return found

    def begin(self, container: Value) -> None:
        """Put a container on the stack."""
        self._containers -= 1
        if self._containers < 0:
            raise PickleError(f"it holds more than {_CONTAINERS} lists and dictionaries")
        self.push(container)

    def text(self, size: int) -> None:
        """Put the text of the next bytes on the stack."""
        self.push(self.take(size).decode(errors="replace"))

    def whole(self, size: int) -> None:
        """Put the whole number of the next bytes on the stack."""
        if size > _NUMBER:
            raise PickleError(f"a number has {size} bytes")
        self.push(int.from_bytes(self.take(size), "little", signed=True))

    def mark(self) -> None:
        """Remember where members of something begin."""
        self._marks.append(len(self._stack))

    def marked(self) -> list[Value]:
        """Take what was put on the stack since the last mark."""
        if not self._marks:
            raise PickleError("members of something have no beginning")
        start = self._marks.pop()
        members = self._stack[start:]
        del self._stack[start:]
        return members

    def last(self, count: int) -> list[Value]:
        """Take so many values from the stack."""
        if len(self._stack) - count < (self._marks[-1] if self._marks else 0):
            raise PickleError("values are missing")
        members = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return members

    def top(self) -> Value:
        """Look at the value on the top of the stack."""
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise PickleError("a value is missing")
        return self._stack[-1]

    def append(self, members: list[Value]) -> None:
        """Add to the list on the top."""
        target = self.top()
        if type(target) is not list:
            raise PickleError("what is added to is no list")
        target += members

    def insert(self, members: list[Value]) -> None:
        """Add names and values to the dictionary on the top."""
        target = self.top()
        if type(target) is not dict or len(members) % 2:
            raise PickleError("what is added to is no dictionary, or a value is missing")
        for name, value in zip(members[::2], members[1::2], strict=True):
            if type(name) not in (str, int):
                raise PickleError(f"a dictionary has a name that is a {type(name).__name__}")
            target[name] = value

    def remember(self, place: int) -> None:
        """Keep the value on the top under a number."""
        self._memo[place] = self.top()

    def memoize(self) -> None:
        """Keep the value on the top under the next number."""
        self._memo[len(self._memo)] = self.top()

    def recall(self, place: int) -> None:
        """Put a value that was kept on the stack."""
        if place not in self._memo:
            raise PickleError("a value is recalled that was not kept")
        self.push(self._memo[place])


_DOUBLE = struct.Struct(">d")
_CUT = "it is cut off before its end"
_STOP = ord(".")
_OPCODES: dict[int, Callable[[Reader], object]] = {
    0x80: lambda r: r.take(1),  # PROTO
    0x95: lambda r: r.take(8),  # FRAME
    ord("("): Reader.mark,
    ord("}"): lambda r: r.begin({}),
    ord("]"): lambda r: r.begin([]),
    ord(")"): lambda r: r.begin(()),
    ord("t"): lambda r: r.begin(tuple(r.marked())),
    0x85: lambda r: r.begin(tuple(r.last(1))),
    0x86: lambda r: r.begin(tuple(r.last(2))),
    0x87: lambda r: r.begin(tuple(r.last(3))),
    ord("a"): lambda r: r.append(r.last(1)),
    ord("e"): lambda r: r.append(r.marked()),
    ord("s"): lambda r: r.insert(r.last(2)),
    ord("u"): lambda r: r.insert(r.marked()),
    ord("N"): lambda r: r.push(None),
    0x88: lambda r: r.push(True),
    0x89: lambda r: r.push(False),
    ord("K"): lambda r: r.push(r.count(1)),
    ord("M"): lambda r: r.push(r.count(2)),
    ord("J"): lambda r: r.whole(4),
    ord("G"): lambda r: r.push(r.real()),
    0x8A: lambda r: r.whole(r.count(1)),
    ord("X"): lambda r: r.text(r.count(4)),
    0x8C: lambda r: r.text(r.count(1)),
    ord("q"): lambda r: r.remember(r.count(1)),
    ord("r"): lambda r: r.remember(r.count(4)),
    0x94: Reader.memoize,
    ord("h"): lambda r: r.recall(r.count(1)),
    ord("j"): lambda r: r.recall(r.count(4)),
}
