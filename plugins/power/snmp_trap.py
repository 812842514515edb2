"""Traps and informs by SNMP (v1, v2c, v3) of PDUs, UPSs and cooling units, as events.

Devices send to port 162, which needs a capability (CAP_NET_BIND_SERVICE); where a device can be
told another port, or the firewall redirects, a higher one will do.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import socket
from collections import Counter, deque
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, PrivateAttr, field_validator

from collector.batch import Batch, Event
from collector.catalog import power
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read.snmp.session import User
from collector.read.snmp.usm import Usm
from collector.secret import Secret
from plugins.power import _snmp_traps

if TYPE_CHECKING:
    from plugins.power._snmp_trap_receiver import Notification, Receiver

UPTIME = "1.3.6.1.2.1.1.3.0"
AGENT_ADDRESS = "1.3.6.1.6.3.18.1.3.0"  # snmpTrapAddress.0, RFC 3584
WAITING = 1000  # datagrams, and events, that wait at most
SHOWN = 3  # values in an event's text


class TrapUser(Usm):
    """A user of version 3."""

    name: str = Field(min_length=1, max_length=32, description="User name.")
    engine_id: str = Field(
        default="",
        pattern=r"^(0x)?([0-9a-fA-F]{2}){5,32}$|^$",
        description="The sender's, in hexadecimal; empty accepts every sender with the passwords.",
    )

    def reveal(self) -> tuple[User, bytes | None]:
        """Return the user with its secrets, and the sender's engine ID; may read files."""
        return self.of(self.name), bytes.fromhex(self.engine_id.removeprefix("0x")) or None


class SnmpTrap(Plugin):
    """A receiver of SNMP notifications; each becomes an event `snmp.trap` of its sender."""

    metrics: ClassVar[tuple[Metric, ...]] = (power.SNMP_TRAPS, power.SNMP_TRAPS_DROPPED)

    interval: float = Field(default=1.0, gt=0, description="Seconds between two polls.")
    listen_address: str = Field(
        default="0.0.0.0:162",
        description="address:port or [v6 address]:port to listen on; port 0 takes a free one.",
    )
    communities: list[Secret] = Field(
        default=[Secret(value="public")], description="Accepted for versions 1 and 2c."
    )
    users: list[TrapUser] = Field(default=[], description="Accepted for version 3.")
    pdus: dict[str, str] = Field(
        default={}, description="Names of PDUs and UPSs by address; else the address is the name."
    )
    cooling_units: dict[str, str] = Field(
        default={}, description="Names of cooling units by address."
    )

    _receiver: Receiver | None = PrivateAttr(default=None)
    _port: int = PrivateAttr(default=0)
    _events: deque[Event] = PrivateAttr(default_factory=deque)
    _traps: Counter[str] = PrivateAttr(default_factory=Counter)
    _dropped: Counter[str] = PrivateAttr(default_factory=Counter)

    @field_validator("listen_address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        _parse(value)
        return value

    @field_validator("pdus", "cooling_units")
    @classmethod
    def _check_devices(cls, value: dict[str, str]) -> dict[str, str]:
        return {_plain(address): name for address, name in value.items()}

    @property
    def port(self) -> int:
        """The port that is listened on, the real one where the config says 0."""
        return self._port

    @property
    def received(self) -> int:
        """How many datagrams were worked on so far."""
        return self._traps.total() + self._dropped.total()

    async def open(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be listened on.
            LookupError: A secret is not there.
        """
        module = await asyncio.to_thread(
            importlib.import_module, "plugins.power._snmp_trap_receiver"
        )
        receiver = await asyncio.to_thread(self._prepare, module.Receiver)
        listening = _listen(self.listen_address)
        self._port = listening.getsockname()[1]
        receiver.start(listening)
        self._receiver = receiver

    async def poll(self, batch: Batch) -> None:
        """Report what came since the last poll."""
        source = Kind.SOURCE("snmp_trap", self.target)
        while self._events:
            batch.event(self._events.popleft())
        for trap, number in self._traps.items():
            batch.add(power.SNMP_TRAPS, source, float(number), trap)
        for reason, number in self._dropped.items():
            batch.add(power.SNMP_TRAPS_DROPPED, source, float(number), reason)

    async def close(self) -> None:
        """Stop listening."""
        if self._receiver is not None:
            await self._receiver.close()
        self._receiver = None

    def _prepare(self, make: type[Receiver]) -> Receiver:
        _snmp_traps.known()  # reads a file
        communities = [community.reveal() for community in self.communities]
        users = [user.reveal() for user in self.users]
        return make(communities, users, self._take, self._drop, WAITING)

    def _drop(self, reason: str) -> None:
        self._dropped[reason] += 1

    def _take(self, told: Notification) -> None:
        if len(self._events) >= WAITING:
            self._drop("full")
            return
        name, severity = _snmp_traps.look_up(told.oid, told.variables)
        self._traps[name] += 1
        shown = [
            value
            for oid, value in told.variables
            if oid != UPTIME and not oid.startswith("1.3.6.1.6.3.") and value
        ]
        title = told.oid if name == _snmp_traps.UNKNOWN else name
        text = f"{title}: {', '.join(shown[:SHOWN])}" if shown else title
        attributes = (
            ("snmp.trap.name", name),
            ("snmp.trap.oid", told.oid),
            ("source.address", _plain(told.address)),
            *told.variables,
        )
        entity = self._entity(told)
        self._events.append(Event("snmp.trap", entity, told.at, severity, text, attributes))

    def _entity(self, told: Notification) -> Entity:
        """Return whose trap it is: a relay says by snmpTrapAddress for whom it speaks."""
        address = _plain(told.address)
        agent = dict(told.variables).get(AGENT_ADDRESS, "")
        for known in (address, agent):
            if known in self.cooling_units:
                return Kind.COOLING_UNIT(self.cooling_units[known])
            if known in self.pdus:
                return Kind.PDU(self.pdus[known])
        return Kind.PDU(address)


def _plain(address: str) -> str:
    """Return an address in its shortest form, an IPv4 one where IPv6 wraps it.

    Raises:
        ValueError: It is no address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    return str(getattr(found, "ipv4_mapped", None) or found)


def _parse(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text}: needs address:port")
    return _plain(host.strip("[]")), int(port)


def _listen(text: str) -> socket.socket:
    host, port = _parse(text)
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listening.setblocking(False)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        mend = (
            "give the daemon CAP_NET_BIND_SERVICE (AmbientCapabilities= in its systemd unit), or "
            "listen on a port above 1023 and redirect 162 to it"
            if isinstance(error, PermissionError)
            else "stop what listens there (snmptrapd?), or set listen_address"
        )
        raise type(error)(
            error.errno, f"cannot listen on {text}: {error.strerror}; {mend}"
        ) from None
    return listening
