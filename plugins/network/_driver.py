"""A NIC driver's own statistics: a table of names and one of numbers, by ioctl.

Netlink does not carry them: of ETHTOOL_GSTATS the table at the end of
Documentation/networking/ethtool-netlink.rst says "n/a". The structs are those of
include/uapi/linux/ethtool.h, in the machine's byte order.
"""

from __future__ import annotations

import array
import errno
import struct
from fcntl import ioctl
from socket import AF_INET, SOCK_DGRAM, socket

_ETHTOOL = 0x8946  # SIOCETHTOOL
_STRINGS, _STATS, _SET_INFO = 0x1B, 0x1D, 0x37  # ETHTOOL_GSTRINGS, _GSTATS, _GSSET_INFO
_STATISTICS = 1  # ETH_SS_STATS
_NAME = 32  # ETH_GSTRING_LEN
_REQUEST = struct.Struct("16sP16x")  # struct ifreq
_SET_REQUEST = struct.Struct("=IIQI")  # struct ethtool_sset_info with one number
_STRINGS_HEADER = struct.Struct("=III")  # struct ethtool_gstrings
_STATS_HEADER = struct.Struct("=II")  # struct ethtool_stats
# More than any driver has: mlx5 has some 20 a queue.
_MOST = 1 << 17
# The kernel writes as many as the driver has by now, whatever was asked for (net/ethtool/ioctl.c,
# ethtool_get_strings and ethtool_get_stats). Queues can be added between two calls, so there is
# room for twice as many, and for a thousand more.
_ROOM = 1024
_ABSENT = frozenset({errno.EOPNOTSUPP, errno.EINVAL})


class Table:
    """Reads the statistics of one interface's driver."""

    def __init__(self, interface: str) -> None:
        self._interface = interface.encode()
        self._socket = socket(AF_INET, SOCK_DGRAM)
        self._raw = b""
        self.names: list[str] = []

    def read(self) -> list[int]:
        """Read the numbers of `names`, which are read anew; both are empty where there are none.

        Raises:
            OSError: There is no such interface, or it cannot be asked; EAGAIN where the driver's
                table changed while it was read.
        """
        count = self._count()
        if not count:
            self._raw, self.names = b"", []
            return []
        data = self._ask(_STRINGS_HEADER.pack(_STRINGS, _STATISTICS, count), count, _NAME)
        had = _STRINGS_HEADER.unpack_from(data)[2]
        raw = data[_STRINGS_HEADER.size : _STRINGS_HEADER.size + had * _NAME]
        data = self._ask(_STATS_HEADER.pack(_STATS, count), count, 8)
        if not count == had == _STATS_HEADER.unpack_from(data)[1]:
            raise OSError(errno.EAGAIN, "the driver changed its statistics while they were read")
        if raw != self._raw:
            self._raw, self.names = raw, names(raw)
        return list(struct.unpack_from(f"={count}Q", data, _STATS_HEADER.size))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _count(self) -> int:
        try:
            data = self._ask(_SET_REQUEST.pack(_SET_INFO, 0, 1 << _STATISTICS, 0), 0, 0)
        except OSError as error:
            if error.errno in _ABSENT:
                return 0
            raise
        _, _, mask, count = _SET_REQUEST.unpack_from(data)
        if count > _MOST:
            raise ValueError(f"{self._interface.decode()} claims {count} statistics")
        return count if mask else 0

    def _ask(self, header: bytes, count: int, size: int) -> bytes:
        data = array.array("B", header + bytes((2 * count + _ROOM) * size))
        ioctl(self._socket, _ETHTOOL, _REQUEST.pack(self._interface, data.buffer_info()[0]))
        return data.tobytes()


def names(table: bytes) -> list[str]:
    """Split a table of names of 32 bytes each; bytes that are no ASCII are shown as escapes."""
    found = []
    for place in range(0, len(table) - _NAME + 1, _NAME):
        name = table[place : place + _NAME].split(b"\0", 1)[0]
        found.append(name.decode("ascii", "backslashreplace").strip())
    return found
