"""SNMP by pysnmp, in Python throughout: where gufo-snmp has no wheel."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

from collector.read.snmp.session import (
    LESS,
    MAX_REPETITIONS,
    MAX_ROWS,
    TRIES,
    Session,
    SnmpError,
    User,
    Value,
)

_ABSENT = object()


class PysnmpSession:
    """A conversation with one agent, see `Session`."""

    def __init__(self, hlapi: Any, engine: Any, *where: Any) -> None:  # noqa: ANN401
        self._hlapi = hlapi
        self._engine = engine
        self._where = where
        self._repetitions = MAX_REPETITIONS

    @classmethod
    async def open(cls, address: str, port: int, identity: str | User, wait: float) -> Session:
        """Begin; see `connect`."""
        await asyncio.to_thread(importlib.import_module, "pysnmp.hlapi.v3arch.asyncio")
        from pysnmp.hlapi.v3arch import asyncio as hlapi

        from collector.read.snmp import pysnmp_engine

        if isinstance(identity, str):
            credentials = hlapi.CommunityData(identity, mpModel=1)  # noqa: S508 - many PDUs
        else:
            credentials = hlapi.UsmUserData(
                identity.name,
                identity.auth_password if identity.auth else None,
                identity.priv_password if identity.priv else None,
                authProtocol=pysnmp_engine.AUTH[identity.auth],
                privProtocol=pysnmp_engine.PRIV[identity.priv],
            )
        kind = hlapi.Udp6TransportTarget if ":" in address else hlapi.UdpTransportTarget
        transport = await kind.create((address, port), timeout=wait, retries=0)
        engine = await asyncio.to_thread(lambda: pysnmp_engine.load_mibs(hlapi.SnmpEngine()))
        return cls(hlapi, engine, credentials, transport, hlapi.ContextData())

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Read objects by one GET."""
        return await self._ask(self._hlapi.get_cmd, oids)

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        """Read what stands below an OID."""
        rows: dict[str, Value] = {}
        at, tries = oid, 0
        repetitions = min(repetitions, self._repetitions, limit)
        while len(rows) < limit:
            try:
                if repetitions:
                    found = await self._ask(self._hlapi.bulk_cmd, [at], 0, repetitions)
                else:
                    found = await self._ask(self._hlapi.next_cmd, [at])
            except TimeoutError:
                if (tries := tries + 1) == TRIES:
                    raise
                if not rows and repetitions:
                    self._repetitions = repetitions = repetitions // LESS
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
        """Release the socket."""
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
