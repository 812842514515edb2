"""Opens a session with an agent, by the client that there is."""

from __future__ import annotations

import asyncio
import socket

from collector.read.snmp.gufo_client import GufoSession
from collector.read.snmp.pysnmp_client import PysnmpSession
from collector.read.snmp.session import Session, User


async def connect(
    host: str, port: int, identity: str | User, wait: float, client: str = "auto"
) -> Session:
    """Open a session.

    Args:
        host: Name or address.
        port: UDP port.
        identity: A v2c community, or a v3 user.
        wait: Seconds to wait for each reply.
        client: `gufo`, `pysnmp`, or `auto` for the first that can be imported.

    Raises:
        OSError: The name does not resolve.
        TimeoutError: SNMPv3 only: no reply to the discovery of the engine.
        ImportError: The client is not installed.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    # UDP does not tell that nobody listens, so the next address is never tried: PDUs speak IPv4.
    address = str(min(found, key=lambda one: one[0] is not socket.AF_INET)[4][0])
    if client != "pysnmp":
        try:
            return await GufoSession.open(address, port, identity, wait)
        except ImportError:
            if client == "gufo":
                raise
    return await PysnmpSession.open(address, port, identity, wait)
