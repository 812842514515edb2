"""SNMP sessions: the few operations that the plugin needs, by gufo-snmp or by pysnmp.

A poll by gufo-snmp takes about 1/60 of the CPU of one by pysnmp (tests/benchmarks/snmp.py); pysnmp
serves where gufo-snmp has no wheel.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Value = int | float | str | bytes | None
"""Numbers as int, OCTET STRING as bytes, OBJECT IDENTIFIER as dotted str, Opaque float as float."""

WINDOW = 100.0  # seconds; SNMPv3 agents refuse clocks that are off by 150 (RFC 3414, 2.2.3)
MAX_ROWS = 10_000  # of one column; more is an agent that never ends
MAX_REPETITIONS = 100  # of a GETBULK; lowered for agents that fall silent on big ones
TRIES = 3  # of one step of a walk


@dataclass(frozen=True)
class User:
    """A user of SNMPv3's user-based security model (RFC 3414); AES192/256 as Blumenthal drafted."""

    name: str
    auth: str | None = None  # MD5, SHA, SHA224 to SHA512
    auth_password: str = ""
    priv: str | None = None  # DES, AES, AES192, AES256
    priv_password: str = ""


class SnmpError(Exception):
    """The agent answered with something that is no proper reply, or refused the request."""


class Session(Protocol):
    """A conversation with one agent."""

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Read objects by one GET; what the agent does not have is missing from the result.

        The result is empty also where the agent sends an error-status such as tooBig.

        Raises:
            TimeoutError: No reply came.
            SnmpError: The reply cannot be decoded, or the user is not accepted.
        """

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        """Read what stands below an OID by GETBULK, up to `limit` objects.

        Raises:
            TimeoutError: No reply came, `TRIES` times.
            SnmpError: As for `get`.
        """

    def close(self) -> None:
        """Release the socket."""


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
    kinds: dict[str, type[_Gufo] | type[_Pysnmp]] = {"gufo": _Gufo, "pysnmp": _Pysnmp}
    if client != "auto":
        return await kinds[client].open(address, port, identity, wait)
    try:
        return await _Gufo.open(address, port, identity, wait)
    except ImportError:
        return await _Pysnmp.open(address, port, identity, wait)


class _Gufo:
    """gufo-snmp: encoded and decoded in Rust."""

    def __init__(self, session: Any, error: type[Exception]) -> None:  # noqa: ANN401
        self._session = session
        self._error = error
        self._repetitions = MAX_REPETITIONS
        self._at = time.monotonic()

    @classmethod
    async def open(cls, address: str, port: int, identity: str | User, wait: float) -> Session:
        await asyncio.to_thread(importlib.import_module, "gufo.snmp.aio")
        from gufo import snmp
        from gufo.snmp.aio import SnmpSession

        if isinstance(identity, str):
            session = SnmpSession(address, port, community=identity, timeout=wait)
            return cls(session, snmp.SnmpError)
        auth = {"SHA": snmp.Sha1Key, "MD5": snmp.Md5Key, "SHA224": snmp.Sha224Key}
        auth |= {"SHA256": snmp.Sha256Key, "SHA384": snmp.Sha384Key, "SHA512": snmp.Sha512Key}
        priv = {"DES": snmp.DesKey, "AES": snmp.Aes128Key}
        priv |= {"AES192": snmp.Aes192Key, "AES256": snmp.Aes256Key}
        user = snmp.User(
            identity.name,
            auth_key=auth[identity.auth](identity.auth_password.encode())
            if identity.auth
            else None,
            priv_key=priv[identity.priv](identity.priv_password.encode())
            if identity.priv
            else None,
        )
        session = SnmpSession(address, port, user=user, timeout=wait)
        try:
            await session.refresh()
        except snmp.SnmpError as error:
            raise SnmpError(_explain(error)) from error
        return cls(session, snmp.SnmpError)

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        now = time.monotonic()
        idle, self._at = now - self._at, now
        try:
            if idle > WINDOW:
                await self._session.refresh()
            reply: dict[str, Value] = await self._session.get_many(oids)
        except self._error as error:
            raise SnmpError(_explain(error)) from error
        return reply

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        rows: dict[str, Value] = {}
        repetitions = min(repetitions, self._repetitions, limit)
        steps = self._session.getbulk(oid, repetitions)
        tries = 0
        while len(rows) < limit:
            try:
                found, value = await anext(steps)
            except StopAsyncIteration:
                break
            except TimeoutError:  # the next step asks from the same place again
                if (tries := tries + 1) == TRIES:
                    raise
                if not rows and repetitions > 1:
                    self._repetitions = repetitions = max(1, repetitions // 4)
                    steps = self._session.getbulk(oid, repetitions)
                continue
            except self._error as error:
                raise SnmpError(_explain(error)) from error
            if found in rows:
                raise SnmpError(f"walk of {oid} comes back to {found}")
            tries = 0
            rows[found] = value
        return rows

    def close(self) -> None:
        self._session = None


class _Pysnmp:
    """pysnmp: in Python throughout."""

    def __init__(self, hlapi: Any, engine: Any, *where: Any) -> None:  # noqa: ANN401
        self._hlapi = hlapi
        self._engine = engine
        self._where = where
        self._repetitions = MAX_REPETITIONS

    @classmethod
    async def open(cls, address: str, port: int, identity: str | User, wait: float) -> Session:
        await asyncio.to_thread(importlib.import_module, "pysnmp.hlapi.v3arch.asyncio")
        from pysnmp.hlapi.v3arch import asyncio as hlapi

        if isinstance(identity, str):
            credentials = hlapi.CommunityData(identity, mpModel=1)  # noqa: S508 - many PDUs
        else:
            auth = {
                None: hlapi.USM_AUTH_NONE,
                "MD5": hlapi.USM_AUTH_HMAC96_MD5,
                "SHA": hlapi.USM_AUTH_HMAC96_SHA,
                "SHA224": hlapi.USM_AUTH_HMAC128_SHA224,
                "SHA256": hlapi.USM_AUTH_HMAC192_SHA256,
                "SHA384": hlapi.USM_AUTH_HMAC256_SHA384,
                "SHA512": hlapi.USM_AUTH_HMAC384_SHA512,
            }
            priv = {
                None: hlapi.USM_PRIV_NONE,
                "DES": hlapi.USM_PRIV_CBC56_DES,
                "AES": hlapi.USM_PRIV_CFB128_AES,
                "AES192": hlapi.USM_PRIV_CFB192_AES_BLUMENTHAL,
                "AES256": hlapi.USM_PRIV_CFB256_AES_BLUMENTHAL,
            }
            credentials = hlapi.UsmUserData(
                identity.name,
                identity.auth_password if identity.auth else None,
                identity.priv_password if identity.priv else None,
                authProtocol=auth[identity.auth],
                privProtocol=priv[identity.priv],
            )
        kind = hlapi.Udp6TransportTarget if ":" in address else hlapi.UdpTransportTarget
        transport = await kind.create((address, port), timeout=wait, retries=0)
        engine = await asyncio.to_thread(cls._engine_with_mibs, hlapi.SnmpEngine)
        return cls(hlapi, engine, credentials, transport, hlapi.ContextData())

    @staticmethod
    def _engine_with_mibs(make: Any) -> Any:  # noqa: ANN401
        """Make an engine that has read all that it would else read while the loop waits."""
        engine = make()
        engine.get_mib_builder().load_modules(
            "__PYSNMP-USM-MIB",
            "PYSNMP-SOURCE-MIB",
            "PYSNMP-USM-MIB",
            "SNMP-COMMUNITY-MIB",
            "SNMP-NOTIFICATION-MIB",
            "SNMP-TARGET-MIB",
            "SNMP-USER-BASED-SM-MIB",
            "SNMP-VIEW-BASED-ACM-MIB",
            "SNMPv2-TM",
            "TRANSPORT-ADDRESS-MIB",
        )
        return engine

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        return await self._ask(self._hlapi.get_cmd, oids)

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        rows: dict[str, Value] = {}
        at, tries = oid, 0
        repetitions = min(repetitions, self._repetitions, limit)
        while len(rows) < limit:
            try:
                found = await self._ask(self._hlapi.bulk_cmd, [at], 0, repetitions)
            except TimeoutError:
                if (tries := tries + 1) == TRIES:
                    raise
                if not rows and repetitions > 1:
                    self._repetitions = repetitions = max(1, repetitions // 4)
                continue
            tries = 0
            inside = {name: value for name, value in found.items() if name.startswith(f"{oid}.")}
            if not rows.keys().isdisjoint(inside):
                raise SnmpError(f"walk of {oid} comes back to {at}")
            rows |= inside
            if not inside or len(inside) < len(found):
                break
            at = list(inside)[-1]
        return rows

    def close(self) -> None:
        self._engine.close_dispatcher()

    async def _ask(self, command: Any, oids: Sequence[str], *how: int) -> dict[str, Value]:  # noqa: ANN401
        hlapi = self._hlapi
        objects = [hlapi.ObjectType(hlapi.ObjectIdentity(oid)) for oid in oids]
        failure, status, _, found = await command(
            self._engine, *self._where, *how, *objects, lookupMib=False
        )
        if failure:
            text = str(failure)
            if "No SNMP response" in text:
                raise TimeoutError(text)
            if "Ciphering services" in text:
                text = "pysnmp encrypts by the package cryptography, which is not installed"
            raise SnmpError(text)
        if status:
            return {}
        return {str(name): value for name, value in map(_plain, found) if value is not _ABSENT}


_ABSENT = object()


def _plain(pair: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Turn pysnmp's object into the value that gufo-snmp gives."""
    name, value = pair
    kind = type(value).__name__
    if kind in ("NoSuchObject", "NoSuchInstance", "EndOfMibView"):
        return name, _ABSENT
    if kind == "Null":
        return name, None
    if kind == "ObjectIdentifier":
        return name, str(value)
    if hasattr(value, "asOctets"):
        return name, value.asOctets()
    return name, int(value)


def _explain(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "auth" in type(error).__name__.lower():
        return f"SNMPv3 user, password or protocol not accepted ({text})"
    return f"reply cannot be decoded ({text})"
