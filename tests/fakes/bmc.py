"""A BMC on loopback by IPMI 2.0 over LAN that answers DCMI's power and temperature commands.

Sessions are by RAKP with HMAC-SHA1 and neither integrity nor encryption (cipher suite 1).
IPMI 2.0 sections 13.1 to 13.24, DCMI 1.5 sections 6.6.1 and 6.7.3.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import struct
from dataclasses import dataclass, field

RMCP = b"\x06\x00\xff\x07"
OPEN, RAKP1, RAKP3 = 0x10, 0x12, 0x14
SESSION, RANDOM, GUID = b"\x5a\x00\x00\x01", b"r" * 16, b"g" * 16
APP, GROUP, DCMI = 0x06, 0x2C, 0xDC
INLET = 0x40
INVALID_COMMAND, UNAUTHORISED_NAME, INVALID_INTEGRITY = 0xC1, 0x0D, 0x0F


@dataclass
class Bmc(asyncio.DatagramProtocol):
    """Use: `async with Bmc("user", "password", watts=164) as bmc: ... bmc.target`.

    Attributes:
        watts: None refuses the command.
        inlets: °C of each instance.
        commands: What was asked within a session: network function and command.
    """

    user: str
    password: str
    watts: int | None = 164
    active: bool = True
    inlets: tuple[int, ...] = ()
    commands: list[tuple[int, int]] = field(default_factory=list)

    async def __aenter__(self) -> Bmc:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        host, port = self._transport.get_extra_info("sockname")
        self.target = f"{host}:{port}"
        self._asked = self._console = b""
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if data[4] != 0x06:  # before the session: the header of version 1.5
            answer = self._message(data[14 : 14 + data[13]])
            reply = RMCP + bytes(9) + bytes([len(answer)]) + answer
        else:
            kind, payload = data[5] & 0x3F, data[16:]
            answer = self._session(kind, payload) if kind else self._message(payload)
            console = self._console if not kind else bytes(4)
            number = data[10:14] if not kind else bytes(4)
            header = bytes([0x06, kind + 1 if kind else 0]) + console + number
            reply = RMCP + header + struct.pack("<H", len(answer)) + answer
        self._transport.sendto(reply, address)

    def _sign(self, *parts: bytes, key: bytes | None = None) -> bytes:
        key = self.password.encode() if key is None else key
        return hmac.new(key, b"".join(parts), hashlib.sha1).digest()

    def _session(self, kind: int, payload: bytes) -> bytes:
        tag = payload[:1]
        if kind == OPEN:
            self._console = payload[4:8]
            return tag + b"\x00\x04\x00" + self._console + SESSION + payload[8:32]
        if kind == RAKP1:
            # The console's random number; its role, and the name with its length.
            self._asked, self._who = payload[8:24], payload[24:25] + payload[27:]
            if payload[28:] != self.user.encode():
                return tag + bytes([UNAUTHORISED_NAME, 0, 0]) + self._console
            signed = self._sign(self._console, SESSION, self._asked, RANDOM, GUID, self._who)
            return tag + bytes(3) + self._console + RANDOM + GUID + signed
        assert kind == RAKP3
        if payload[8:28] != self._sign(RANDOM, self._console, self._who):
            return tag + bytes([INVALID_INTEGRITY, 0, 0]) + self._console
        key = self._sign(self._asked, RANDOM, self._who)
        return tag + bytes(3) + self._console + self._sign(self._asked, SESSION, GUID, key=key)[:12]

    def _message(self, message: bytes) -> bytes:
        function, command = message[1] >> 2, message[5]
        if self._console:
            self.commands.append((function, command))
        data = self._answer(function, command, message[6:-1])
        head = bytes([message[3], (function + 1) << 2])
        body = bytes([message[0], message[4], command]) + data
        return head + _checksum(head) + body + _checksum(body)

    def _answer(self, function: int, command: int, data: bytes) -> bytes:
        if (function, command) == (APP, 0x38):  # Get Channel Authentication Capabilities
            return bytes([0, 1, 0x80, 0x04, 0x02]) + bytes(4)
        if (function, command) == (APP, 0x01):  # Get Device ID: version 2.0, no device support
            return bytes([0, 0x20, 0x01, 0x01, 0x00, 0x02]) + bytes(6)
        if (function, command) == (APP, 0x3B):  # Set Session Privilege Level
            return b"\x00" + data[:1]
        if (function, command) == (APP, 0x3C):  # Close Session
            return b"\x00"
        if (function, command) == (GROUP, 0x02) and self.watts is not None:
            least, most, average = self.watts // 2, min(self.watts * 2, 0xFFFF), self.watts
            told = struct.pack("<HHHHII", self.watts, least, most, average, 1_760_000_000, 1000)
            return bytes([0, DCMI]) + told + bytes([0x40 * self.active])
        if (function, command) == (GROUP, 0x10) and (data[2] != INLET or self.inlets):
            found = self.inlets if data[2] == INLET else ()
            sets = b"".join(
                bytes([abs(degrees) | 0x80 * (degrees < 0), n])
                for n, degrees in enumerate(found, start=1)
            )
            return bytes([0, DCMI, len(found), len(found)]) + sets
        return bytes([INVALID_COMMAND])


def _checksum(data: bytes) -> bytes:
    return bytes([-sum(data) & 0xFF])
