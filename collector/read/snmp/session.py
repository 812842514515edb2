"""SNMP sessions: the few operations that the plugin needs, by gufo-snmp or by pysnmp.

A poll by gufo-snmp takes about 1/60 of the CPU of one by pysnmp (tests/benchmarks/snmp.py); pysnmp
serves where gufo-snmp has no wheel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

Value = int | float | str | bytes | None
"""Numbers as int, OCTET STRING as bytes, OBJECT IDENTIFIER as dotted str, Opaque float as float."""

MAX_ROWS = 10_000  # of one column; more is an agent that never ends
MAX_REPETITIONS = 100  # of a GETBULK; lowered for agents that fall silent on big ones,
LESS = 5  # to this part each time, at last to none
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
        """Read what stands below an OID, up to `limit` objects.

        Args:
            oid: Of a column or any other subtree.
            repetitions: Of each GETBULK; 0 is GETNEXT, for agents that do not know GETBULK.
            limit: The most objects to read.

        Raises:
            TimeoutError: No reply came, `TRIES` times.
            SnmpError: As for `get`.
        """

    def close(self) -> None:
        """Release the socket."""
