"""The kernel's ethtool interface by generic netlink: messages, and a socket for them.

Documentation/networking/ethtool-netlink.rst; include/uapi/linux/ethtool_netlink.h, netlink.h,
genetlink.h. All numbers are in the machine's byte order.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from socket import AF_NETLINK, SOCK_RAW, socket
from typing import NamedTuple

_GENERIC = 16  # NETLINK_GENERIC
_CONTROL = 16  # GENL_ID_CTRL
_GET_FAMILY = 3  # CTRL_CMD_GETFAMILY
_FAMILY_ID, _FAMILY_NAME = 1, 2  # CTRL_ATTR_*
_REQUEST = 1  # NLM_F_REQUEST
_ERROR = 2  # NLMSG_ERROR
_NESTED = 0x8000  # NLA_F_NESTED
_TYPE = 0x3FFF  # NLA_TYPE_MASK
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_GENERIC_HEADER = struct.Struct("=BBH")  # struct genlmsghdr
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr
_LARGEST = 1 << 16
_TIMEOUT = 5.0

# ETHTOOL_MSG_*_GET
PAUSE, FEC, STATS = 21, 29, 32
_VERSION = 1
_HEADER_OF = {PAUSE: 1, FEC: 1, STATS: 2}  # ETHTOOL_A_*_HEADER
_NAME, _FLAGS = 2, 3  # ETHTOOL_A_HEADER_*
_WITH_STATISTICS = 4  # ETHTOOL_FLAG_STATS
_GROUPS = 3  # ETHTOOL_A_STATS_GROUPS
_NO_MASK, _SIZE, _VALUE = 1, 2, 4  # ETHTOOL_A_BITSET_*
_GROUP, _GROUP_ID, _GROUP_STAT = 4, 2, 4  # ETHTOOL_A_STATS_GRP, _GRP_ID, _GRP_STAT
_PAUSE_STATS = _FEC_STATS = 5  # ETHTOOL_A_PAUSE_STATS, ETHTOOL_A_FEC_STATS

# ETHTOOL_STATS_*: eth-phy, eth-mac, eth-ctrl, rmon. Asking for one that the kernel does not know
# (phydev, since 6.14) fails the whole request.
PHY, MAC, CONTROL, RMON = range(4)
_ALL_GROUPS = 0b1111

NOT_SET = (1 << 64) - 1  # ETHTOOL_STAT_NOT_SET


class Statistic(NamedTuple):
    """One standard statistic: its group (or message) and its number in it."""

    group: int
    number: int


class MalformedError(ValueError):
    """A message is not as netlink's messages are."""


def attribute(kind: int, payload: bytes, nested: bool = False) -> bytes:
    """Build an attribute, padded to four bytes."""
    size = _ATTRIBUTE.size + len(payload)
    header = _ATTRIBUTE.pack(size, kind | (_NESTED if nested else 0))
    return header + payload + bytes(-size % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Take attributes apart.

    Raises:
        MalformedError: One is shorter than its header, or longer than the data.
    """
    place = 0
    while place < len(data):
        if len(data) - place < _ATTRIBUTE.size:
            raise MalformedError(f"{len(data) - place} bytes at the end are no attribute")
        size, kind = _ATTRIBUTE.unpack_from(data, place)
        if not _ATTRIBUTE.size <= size <= len(data) - place:
            raise MalformedError(f"an attribute of {size} bytes where {len(data) - place} are left")
        yield kind & _TYPE, data[place + _ATTRIBUTE.size : place + size]
        place += size + -size % 4


def request(family: int, command: int, sequence: int, payload: bytes) -> bytes:
    """Build a message."""
    size = _HEADER.size + _GENERIC_HEADER.size + len(payload)
    header = _HEADER.pack(size, family, _REQUEST, sequence, 0)
    return header + _GENERIC_HEADER.pack(command, _VERSION, 0) + payload


def reply(data: bytes, sequence: int) -> bytes | None:
    """Take the attributes out of the answer to a request; None where it answers another.

    Raises:
        MalformedError: It is no answer.
        OSError: The kernel refused; the number is its reason.
    """
    if len(data) < _HEADER.size:
        raise MalformedError(f"{len(data)} bytes are no message")
    size, kind, _, number, _ = _HEADER.unpack_from(data)
    if number != sequence:
        return None
    if kind == _ERROR:
        if len(data) < _HEADER.size + 4:
            raise MalformedError("an error without a number")
        (code,) = struct.unpack_from("=i", data, _HEADER.size)
        if code >= 0:
            return None  # an acknowledgement
        raise OSError(-code, os.strerror(-code))
    if not _HEADER.size + _GENERIC_HEADER.size <= size <= len(data):
        raise MalformedError(f"a message of {size} bytes in {len(data)}")
    return data[_HEADER.size + _GENERIC_HEADER.size : size]


def question(command: int, interface: str) -> bytes:
    """Build what asks for the statistics of an interface by `PAUSE`, `FEC` or `STATS`."""
    header = attribute(_NAME, interface.encode() + b"\0")
    groups = b""
    if command == STATS:
        bits = attribute(_NO_MASK, b"") + attribute(_SIZE, struct.pack("=I", 4))
        bits += attribute(_VALUE, struct.pack("=I", _ALL_GROUPS))
        groups = attribute(_GROUPS, bits, nested=True)
    else:
        header += attribute(_FLAGS, struct.pack("=I", _WITH_STATISTICS))
    return attribute(_HEADER_OF[command], header, nested=True) + groups


def statistics(command: int, payload: bytes) -> Iterator[tuple[Statistic, int]]:
    """Read the statistics out of an answer; what the driver did not set is left out.

    Groups of `STATS` are `PHY`, `MAC`, `CONTROL`, `RMON`; those of `PAUSE` and `FEC` are these.

    Raises:
        MalformedError: It is not as such answers are.
    """
    for kind, content in attributes(payload):
        if command == STATS and kind == _GROUP:
            yield from _group(content)
        elif command != STATS and kind == _PAUSE_STATS:
            for number, value in attributes(content):
                # Of FEC it is an array: the port, and then each lane.
                if len(value) >= 8 and (first := _integer(value[:8])) != NOT_SET:
                    yield Statistic(command, number), first


def _group(content: bytes) -> Iterator[tuple[Statistic, int]]:
    group = -1
    for kind, value in attributes(content):
        if kind == _GROUP_ID:
            group = _integer(value)
        elif kind == _GROUP_STAT and group >= 0:
            for number, statistic in attributes(value):
                if (integer := _integer(statistic)) != NOT_SET:
                    yield Statistic(group, number), integer


def _integer(value: bytes) -> int:
    if len(value) not in (4, 8):
        raise MalformedError(f"a number of {len(value)} bytes")
    return int.from_bytes(value, "little" if struct.pack("=H", 1)[0] else "big")


class Netlink:
    """A socket to the kernel's ethtool family.

    Raises:
        OSError: The kernel has no netlink, or (before Linux 5.6) no such family in it: ENOENT.
    """

    def __init__(self) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW, _GENERIC)
        self._sequence = 0
        self._absent: set[tuple[int, str]] = set()
        try:
            self._socket.settimeout(_TIMEOUT)
            self._socket.bind((0, 0))
            name = attribute(_FAMILY_NAME, b"ethtool\0")
            answer = dict(attributes(self._ask(_CONTROL, _GET_FAMILY, name)))
            (self._family,) = struct.unpack("=H", answer[_FAMILY_ID])
        except BaseException:
            self._socket.close()
            raise

    def read(self, interface: str) -> dict[Statistic, int]:
        """Read all standard statistics of an interface; those that its driver lacks are absent.

        Raises:
            MalformedError: The kernel's answer makes no sense.
            OSError: There is no such interface, or it could not be asked.
        """
        found: dict[Statistic, int] = {}
        for command in (STATS, PAUSE, FEC):
            if (command, interface) in self._absent:
                continue
            try:
                payload = self._ask(self._family, command, question(command, interface))
            except OSError as error:
                # Not of this driver; or not of this kernel, which has STATS and FEC since 5.13.
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
                self._absent.add((command, interface))
                continue
            found.update(statistics(command, payload))
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ask(self, family: int, command: int, payload: bytes) -> bytes:
        self._sequence += 1
        self._socket.send(request(family, command, self._sequence, payload))
        while (answer := reply(self._socket.recv(_LARGEST), self._sequence)) is None:
            pass
        return answer
