"""Takes SNMP notifications off a socket by pysnmp, which decodes, authenticates and acknowledges.

pysnmp is imported here at the top: import this module where a receiver is opened.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pyasn1.codec.ber import decoder
from pysnmp.carrier.asyncio.dgram import udp, udp6
from pysnmp.entity import config, engine
from pysnmp.entity.rfc3413 import ntfrcv
from pysnmp.proto.mpmod.rfc3412 import SNMPv3Message
from pysnmp.proto.rfc1902 import OctetString
from pysnmp.proto.secmod.cache import Cache
from pysnmp.proto.secmod.rfc3414.service import UsmSecurityParameters

from collector.read.snmp.pysnmp_engine import AUTH, PRIV, load_mibs
from collector.read.snmp.session import User

TRAP_OID = "1.3.6.1.6.3.1.1.4.1.0"  # snmpTrapOID.0, RFC 3418
COMMUNITY = "1.3.6.1.6.3.18.1.4.0"  # snmpTrapCommunity.0, RFC 3584: a secret
MAX_VARIABLES = 30  # of one notification; more are not looked at
MAX_TEXT = 200  # characters of one value
MAX_SENDERS = 4096  # of version 3 whose engine IDs are remembered

_ANY_ENGINE = b"\x00" * 5  # pysnmp's sign for any sender; it has no keys for it
_VERSION_3 = b"\x02\x01\x03"  # BER
# Counters of the engine that tell why it took no notification from a datagram; RFC 3418, 3414.
_REASONS = (
    ("__SNMPv2-MIB", "snmpInBadCommunityNames", "community"),
    ("__SNMP-USER-BASED-SM-MIB", "usmStatsUnknownUserNames", "user"),
    ("__SNMP-USER-BASED-SM-MIB", "usmStatsUnsupportedSecLevels", "user"),
    ("__SNMP-USER-BASED-SM-MIB", "usmStatsWrongDigests", "user"),
    ("__SNMP-USER-BASED-SM-MIB", "usmStatsDecryptionErrors", "user"),
    ("__SNMP-USER-BASED-SM-MIB", "usmStatsNotInTimeWindows", "stale"),
    ("__SNMP-USER-BASED-SM-MIB", "usmStatsUnknownEngineIDs", ""),  # the first step of an inform
)


class Notification(NamedTuple):
    """One trap or inform: who sent it, when it came (since the epoch), what it says."""

    address: str
    at: float
    oid: str
    variables: tuple[tuple[str, str], ...]


class Receiver:
    """Receives on one socket while it is open.

    Datagrams wait in a queue and are worked on one by one, with as long a pause after each as it
    took, so that a flood costs the event loop no more than half of its time.

    The keys of a user of version 3 are the sender's own: they are made of the password and the
    sender's engine ID (RFC 3414). Where the config does not name the sender, they are made for each
    that a message names, and kept if the message proves to be authentic.

    Args:
        communities: Of versions 1 and 2c.
        users: Of version 3, each with the engine ID of its sender; None for any sender.
        take: Gets each notification.
        dropped: Gets the reason for each datagram that was none: community, user, stale (outside
            of the time window), malformed, full.
        pending: Datagrams that wait at most.
    """

    def __init__(
        self,
        communities: Sequence[str],
        users: Sequence[tuple[User, bytes | None]],
        take: Callable[[Notification], None],
        dropped: Callable[[str], None],
        pending: int,
    ) -> None:
        """Prepare all that reads files or hashes passwords; blocks."""
        self._take = take
        self._dropped = dropped
        self._pending = pending
        self._waiting: deque[tuple[bytes, Any]] = deque()
        self._filled = asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        self._engine = load_mibs(engine.SnmpEngine())
        builder = self._engine.get_mib_builder()
        self._counters = [(*builder.import_symbols(m, n), reason) for m, n, reason in _REASONS]
        self._taken, self._level, self._address = False, 0, ""
        for number, community in enumerate(communities):
            config.add_v1_system(self._engine, f"community{number}", community)
        self._keys: dict[str, tuple[Any, ...]] = {}
        self._levels: dict[str, int] = {}  # noAuthNoPriv 1, authNoPriv 2, authPriv 3
        self._senders: set[tuple[str, bytes]] = set()
        self._open = {user.name for user, sender in users if sender is None and user.auth}
        for user, sender in users:
            self._keys[user.name] = _master_keys(user)
            self._levels[user.name] = 3 if user.priv else 2 if user.auth else 1
            self._add(user.name, None)  # this engine, to which informs are
            if user.name not in self._open:
                self._add(user.name, sender or _ANY_ENGINE)
        self._engine.observer.register_observer(self._observe, "rfc3412.receiveMessage:request")
        ntfrcv.NotificationReceiver(self._engine, self._notified)

    def start(self, listening: socket.socket) -> None:
        """Begin to receive; on the event loop."""
        receiver = self
        v6 = listening.family == socket.AF_INET6
        base: Any = udp6.Udp6AsyncioTransport if v6 else udp.UdpAsyncioTransport

        class Transport(base):  # type: ignore[misc]
            def datagram_received(self, datagram: bytes, address: Any) -> None:  # noqa: ANN401
                receiver.queue(datagram, address)

        self._transport = Transport()
        self._domain = udp6.DOMAIN_NAME if v6 else udp.DOMAIN_NAME
        config.add_transport(
            self._engine, self._domain, self._transport.open_server_mode(sock=listening)
        )
        self._work = asyncio.create_task(self._serve())

    async def close(self) -> None:
        """Stop receiving and close the socket."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self._engine.close_dispatcher()

    def queue(self, datagram: bytes, address: Any) -> None:  # noqa: ANN401
        """Take a datagram in, if there is room."""
        if len(self._waiting) >= self._pending:
            self._dropped("full")
            return
        self._waiting.append((datagram, address))
        self._filled.set()

    async def _serve(self) -> None:
        while True:
            await self._filled.wait()
            while self._waiting:
                begin = time.monotonic()
                self._decode(*self._waiting.popleft())
                await asyncio.sleep(time.monotonic() - begin)
            self._filled.clear()

    def _decode(self, datagram: bytes, address: Any) -> None:  # noqa: ANN401
        before = [int(counter.syntax) for counter, _ in self._counters]
        self._taken, self._address = False, str(address[0])
        met = self._meet(datagram)
        try:
            self._engine.message_dispatcher.receive_message(
                self._engine, self._domain, self._transport.ADDRESS_TYPE(address), datagram
            )
        except Exception:  # noqa: BLE001 - whatever garbage makes the decoder raise
            reasons = ["malformed"]
        else:
            reasons = [
                reason
                for (counter, reason), was in zip(self._counters, before, strict=True)
                if int(counter.syntax) != was
            ]
        for model in self._engine.security_models.values():
            model._cache = Cache()  # noqa: SLF001 - it keeps something of each message for ever
        if met and self._taken and self._level >= 0:
            self._senders.add(met)
        elif met:
            config.delete_v3_user(self._engine, met[0], OctetString(met[1]))
        if not self._taken and reasons != [""]:
            self._dropped(reasons[0] if reasons else "malformed")

    def _meet(self, datagram: bytes) -> tuple[str, bytes] | None:
        """Make keys for the sender of a message, if it is a new one of a user that is known."""
        if _VERSION_3 not in datagram[:10]:
            return None
        try:
            message, _ = decoder.decode(datagram, asn1Spec=SNMPv3Message())
            told, _ = decoder.decode(message[2], asn1Spec=UsmSecurityParameters())
            name, sender = bytes(told[3]).decode(), bytes(told[0])
        except Exception:  # noqa: BLE001 - the engine will say that it is malformed
            return None
        known = (name, sender) in self._senders or len(self._senders) >= MAX_SENDERS
        own = bytes(self._engine.snmpEngineID)
        if name not in self._open or known or sender == own or not 5 <= len(sender) <= 32:
            return None
        self._add(name, sender)
        return name, sender

    def _add(self, name: str, sender: bytes | None) -> None:
        config.add_v3_user(
            self._engine,
            name,
            *self._keys[name],
            securityEngineId=None if sender is None else OctetString(sender),
            authKeyType=config.USM_KEY_TYPE_MASTER,
            privKeyType=config.USM_KEY_TYPE_MASTER,
        )

    def _observe(self, _engine: Any, _point: Any, told: Any, _context: Any) -> None:  # noqa: ANN401
        v3 = told["securityModel"] == 3
        least = self._levels.get(str(told["securityName"]), 4) if v3 else 0
        self._level = int(told["securityLevel"]) - least

    def _notified(self, *told: Any) -> None:  # noqa: ANN401 - pysnmp's callback
        if self._level < 0:  # less protected than the user is configured
            self._dropped("user")
            self._taken = True
            return
        oid, variables = "", []
        for name, value in told[4][:MAX_VARIABLES]:
            if str(name) == TRAP_OID:
                oid = str(value)
            elif str(name) != COMMUNITY:
                variables.append((str(name), _text(value)))
        self._take(Notification(self._address, time.time(), oid, tuple(variables)))
        self._taken = True


def _master_keys(user: User) -> tuple[Any, ...]:
    """Return protocols and keys, hashed once: that takes pysnmp some milliseconds."""
    auth, priv = AUTH[user.auth], PRIV[user.priv]
    hashed = config.AUTH_SERVICES[auth].hash_passphrase(user.auth_password) if user.auth else None
    service = config.PRIV_SERVICES[priv]
    return (
        auth,
        hashed,
        priv,
        service.hash_passphrase(auth, user.priv_password) if user.priv else None,
    )


def _text(value: Any) -> str:  # noqa: ANN401
    """Return a value as text: what prints as it is, other octets in hexadecimal."""
    if type(value).__name__ == "IpAddress":
        return ".".join(map(str, value.asOctets()))
    if hasattr(value, "asOctets"):
        octets = value.asOctets()[:MAX_TEXT]
        try:
            text = str(octets.decode()).rstrip("\0")
        except UnicodeDecodeError:
            text = "\0"
        return text if text.isprintable() else f"0x{octets.hex()}"[:MAX_TEXT]
    return str(value)[:MAX_TEXT]
