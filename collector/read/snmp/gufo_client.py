"""SNMP by gufo-snmp, which encodes and decodes in Rust."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

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

T = TypeVar("T")

WINDOW = 100.0  # seconds; SNMPv3 agents refuse clocks that are off by 150 (RFC 3414, 2.2.3)


class GufoSession:
    """A conversation with one agent, see `Session`."""

    def __init__(self, session: Any, error: type[Exception]) -> None:  # noqa: ANN401
        self._session = session
        self._error = error
        self._repetitions = MAX_REPETITIONS
        self._at = time.monotonic()

    @classmethod
    async def open(cls, address: str, port: int, identity: str | User, wait: float) -> Session:
        """Begin; see `connect`."""
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
            await _heed(session.refresh())
        except snmp.SnmpError as error:
            raise SnmpError(_explain(error)) from error
        return cls(session, snmp.SnmpError)

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Read objects by one GET."""
        now = time.monotonic()
        idle, self._at = now - self._at, now
        try:
            if idle > WINDOW:
                await _heed(self._session.refresh())
            reply: dict[str, Value] = await _heed(self._session.get_many(oids))
        except self._error as error:
            raise SnmpError(_explain(error)) from error
        return reply

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        """Read what stands below an OID."""
        rows: dict[str, Value] = {}
        repetitions = min(repetitions, self._repetitions, limit)
        steps = self._steps(oid, repetitions)
        tries = 0
        while len(rows) < limit:
            try:
                found, value = await _heed(anext(steps))
            except StopAsyncIteration:
                break
            except TimeoutError:  # the next step asks from the same place again
                if (tries := tries + 1) == TRIES:
                    raise
                if not rows and repetitions:
                    self._repetitions = repetitions = repetitions // LESS
                    steps = self._steps(oid, repetitions)
                continue
            except self._error as error:
                raise SnmpError(_explain(error)) from error
            if found in rows:
                raise SnmpError(f"walk of {oid} comes back to {found}")
            tries = 0
            rows[found] = value
        return rows

    def _steps(self, oid: str, repetitions: int) -> Any:  # noqa: ANN401
        if repetitions:
            return self._session.getbulk(oid, repetitions)
        return self._session.getnext(oid)

    def close(self) -> None:
        """Release the socket."""
        self._session = None


async def _heed(reply: Awaitable[T]) -> T:
    """Await a reply, and be cancelled if that was asked meanwhile.

    gufo-snmp uses asyncio.wait_for, which before Python 3.12 forgets a cancellation that comes in
    the same turn of the loop as the reply.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await reply
    finally:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError


def _explain(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if "auth" in type(error).__name__.lower():
        return f"SNMPv3 user, password or protocol not accepted ({text})"
    return f"reply cannot be decoded ({text})"
