"""Says what an unknown device is and what it has, for who writes a profile of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from collector.read.snmp.device import SYS_DESCR, SYS_OBJECT_ID, text
from collector.read.snmp.session import Session, SnmpError, Value

ENTERPRISES = "1.3.6.1.4.1"
# General MIBs that power and cooling devices have beside their makers' own: RFC 1628, RFC 6933,
# RFC 3433.
TABLES = {
    "UPS-MIB": "1.3.6.1.2.1.33.1",
    "ENTITY-MIB": "1.3.6.1.2.1.47.1.1.1.1.2",
    "ENTITY-SENSOR-MIB": "1.3.6.1.2.1.99.1.1.1.1",
}
SENSORS = {3: "V", 4: "V", 5: "A", 6: "W", 7: "Hz", 8: "Cel", 9: "%RH", 10: "rpm", 11: "m3/min"}
ROWS = 500


async def describe(
    session: Session, system: Mapping[str, Value], profiles: Sequence[str], empty: Sequence[str]
) -> str:
    """Return a message that says what was found and how to go on.

    Args:
        session: With the agent, which is asked for the first objects of some tables.
        system: sysDescr and sysObjectID, where it has them.
        profiles: The names of those that were tried.
        empty: Those of them that fitted but found nothing to read.

    Raises:
        TimeoutError: The agent ceased to answer.
    """
    object_id, descr = text(system.get(SYS_OBJECT_ID)), text(system.get(SYS_DESCR))
    parts = [f"no profile fits the device: sysObjectID {object_id or 'absent'}, sysDescr {descr!r}"]
    enterprise = _enterprise(object_id)
    found = []
    for name, oid in TABLES.items():
        if rows := await _walk(session, oid, ROWS):
            kinds = Counter(SENSORS.get(v, "other") for v in rows.values() if isinstance(v, int))
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            sensors = f" ({told})" if name == "ENTITY-SENSOR-MIB" and told else ""
            found.append(f"{len(rows)} objects of {name}{sensors}")
    own = f"{ENTERPRISES}.{enterprise}" if enterprise else ENTERPRISES
    first = next(iter(await _walk(session, own, 1)), None)
    whose = f"enterprise {enterprise}" if enterprise else "its maker"
    found.append(f"{first} as the first object of {whose}" if first else f"no object of {whose}")
    parts.append(f"it has {'; '.join(found)}")
    if empty:
        parts.append(f"{', '.join(empty)} fitted but found nothing to read")
    parts.append(
        f"known are {', '.join(profiles)}: if it is one of these under another name, set `profile` "
        f"to it; else write a profile, a TOML file, as docs/profiles.md shows (`snmpwalk -On` of "
        f"{own} lists what there is), and set `profile` to its path"
    )
    return ". ".join(part[0].upper() + part[1:] if at else part for at, part in enumerate(parts))


def _enterprise(object_id: str) -> str:
    """Return the maker's number; a malformed sysObjectID has none."""
    number = object_id.removeprefix(f"{ENTERPRISES}.").partition(".")[0]
    return number if object_id.startswith(f"{ENTERPRISES}.") and number != "0" else ""


async def _walk(session: Session, oid: str, limit: int) -> dict[str, Value]:
    try:
        return await session.walk(oid, min(limit, 10), limit=limit)
    except SnmpError:
        return {}
