"""The kernel's side of ethtool: the ioctl's buffers and netlink's messages, byte by byte.

What it answers stands in a file as `w2t record ethtool` writes it: `[driver.eth0]` is the driver's
table in its order, `[standard.eth0]` maps `group.number` to a standard statistic.
"""

from __future__ import annotations

import ctypes
import errno
import struct
import tomllib
from pathlib import Path

import pytest

FAMILY = 31
PAUSE, FEC, STATS = 21, 29, 32
Tables = dict[str, dict[str, dict[str, int]]]


class Kernel:
    """Stands in for the kernel; `tables` can be changed while it runs."""

    def __init__(self, tables: Tables | Path) -> None:
        if isinstance(tables, Path):
            tables = tomllib.loads(tables.read_text())
        self.tables = tables
        self.asked: list[tuple[int, str]] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> Kernel:
        monkeypatch.setattr("plugins.network._driver.ioctl", self.ioctl)
        monkeypatch.setattr("plugins.network._netlink.socket", lambda *_: _Socket(self))
        return self

    def known(self, interface: str) -> None:
        if not any(interface in each for each in self.tables.values()):
            raise OSError(errno.ENODEV, "No such device")

    def ioctl(self, _: object, request: int, ifreq: bytes) -> int:
        assert (request, len(ifreq)) == (0x8946, 40)
        interface = ifreq[:16].rstrip(b"\0").decode()
        (address,) = struct.unpack_from("P", ifreq, 16)
        self.known(interface)
        table = self.tables["driver"].get(interface, {})
        (command,) = struct.unpack("=I", ctypes.string_at(address, 4))
        if command == 0x37:
            answer = struct.pack("=IIQI", command, 0, 2 if table else 0, len(table))
        elif command == 0x1B:
            answer = struct.pack("=III", command, 1, len(table))
            answer += b"".join(name.encode()[:32].ljust(32, b"\0") for name in table)
        elif command == 0x1D:
            answer = struct.pack("=II", command, len(table))
            answer += b"".join(value.to_bytes(8, "little") for value in table.values())
        else:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        ctypes.memmove(address, answer, len(answer))
        return 0

    def answer(self, message: bytes) -> bytes:
        """Answer a message of netlink."""
        size, family, flags, sequence, _, command, _, _ = struct.unpack_from("=IHHIIBBH", message)
        assert (size, flags) == (len(message), 1)
        if family == 16:
            assert message[20:] == b"\x0c\x00\x02\x00ethtool\0"
            return _message(16, sequence, _attribute(1, struct.pack("=H", FAMILY)))
        name = message[28:].split(b"\0")[0].decode()
        self.asked.append((command, name))
        try:
            self.known(name)
            found = {
                tuple(int(part) for part in key.split(".")): value
                for key, value in self.tables.get("standard", {}).get(name, {}).items()
            }
            return _message(family, sequence, _payload(command, found))
        except OSError as error:
            code = -(error.errno or 0)
            return _packed(2, sequence, struct.pack("=i", code) + message[:16])


class _Socket:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._waiting: list[bytes] = []

    def settimeout(self, _: float) -> None:
        pass

    def bind(self, _: tuple[int, int]) -> None:
        pass

    def close(self) -> None:
        pass

    def send(self, message: bytes) -> None:
        # An answer to a question that was given up comes first.
        self._waiting += [_message(FAMILY, 999_999, b""), self._kernel.answer(message)]

    def recv(self, _: int) -> bytes:
        return self._waiting.pop(0)


def _attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _packed(kind: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, 0, sequence, 0) + payload


def _message(family: int, sequence: int, payload: bytes) -> bytes:
    return _packed(family, sequence, struct.pack("=BBH", 1, 1, 0) + payload)


def _payload(command: int, found: dict[tuple[int, ...], int]) -> bytes:
    if command == STATS:
        data = b""
        for group in sorted({group for group, _ in found if group < PAUSE}):
            content = _attribute(2, struct.pack("=I", group)) + _attribute(3, struct.pack("=I", 17))
            for (one, number), value in found.items():
                if one == group:
                    number_and_value = _attribute(number, struct.pack("=Q", value))
                    content += _attribute(4 | 0x8000, number_and_value)
            data += _attribute(4 | 0x8000, content)
        return data
    own = {number: value for (group, number), value in found.items() if group == command}
    if not own:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")
    lanes = struct.pack("=QQ", 7, 8) if command == FEC else b""
    nest = b"".join(_attribute(n, struct.pack("=Q", value) + lanes) for n, value in own.items())
    return _attribute(5 | 0x8000, nest)
