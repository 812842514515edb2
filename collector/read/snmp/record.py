"""Writes what a session reads in snmpsim's format, lines of OID|TAG|VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from collector.read.snmp.session import MAX_ROWS, Session, Value


class Recorder:
    """A session that keeps what it read.

    Args:
        session: The one that reads.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: dict[str, Value] = {}

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        """Read objects; see `Session`."""
        found = await self._session.get(oids)
        self._seen |= found
        return found

    async def walk(self, oid: str, repetitions: int, limit: int = MAX_ROWS) -> dict[str, Value]:
        """Read a subtree; see `Session`."""
        found = await self._session.walk(oid, repetitions, limit)
        self._seen |= found
        return found

    def close(self) -> None:
        """Release the socket."""
        self._session.close()

    def lines(self) -> list[str]:
        """Return what was read, in the order of the OIDs.

        The type of an integer is lost on the way here; INTEGER, Gauge32 or Counter64 is written by
        its size, which decodes to the same number.
        """
        order = sorted(self._seen, key=lambda oid: tuple(map(int, oid.split("."))))
        return [f"{oid}|{_encode(self._seen[oid])}" for oid in order]

    def save(self, path: Path) -> None:
        """Write the file; blocks."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in self.lines()))


def _encode(value: Value) -> str:
    """Return TAG|VALUE; tags are BER's (RFC 3416), an x marks hexadecimal."""
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return f"2|{value}"
        return f"{66 if 0 <= value < 1 << 32 else 70}|{value}"
    if isinstance(value, bytes):
        words = value.decode(errors="replace")
        return f"4|{words}" if words.isascii() and words.isprintable() else f"4x|{value.hex()}"
    if isinstance(value, str):
        return f"6|{value}"
    return f"4|{value!r}" if isinstance(value, float) else "5|"
