"""By what a device's number is to be multiplied, where other objects of the device tell it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from collector.read.snmp.profile import Table, Unit, Value
from collector.read.snmp.session import Value as SnmpValue
from collector.read.snmp.units import UNITS

Lookup = Callable[[str], tuple[str, SnmpValue] | None]
"""Finds the object of a row, or the scalar, below an OID: its own OID and its value."""

_MOST = 10**6  # by which a device scales a value
_DIGITS = 12


class Scale(NamedTuple):
    """What makes a value of a number, `factor * number + offset`, and what it depends on.

    Attributes:
        factor: To multiply by.
        offset: To add then.
        setting: The object that tells the unit, if the device lets people choose it.
    """

    factor: Fraction
    offset: Fraction
    setting: str | None


def scale(table: Table, value: Value, lookup: Lookup) -> Scale | None:
    """Return the scale of one row's value, or None where the row does not tell it."""
    unit, setting = value.unit, None
    if isinstance(unit, Unit):
        setting, told = lookup(unit.oid) or (None, None)
        unit = unit.units.get(told, "") if isinstance(told, int) else ""
    if unit not in UNITS:
        return None
    _, factor, offset = UNITS[unit]
    factor *= Fraction(str(value.scale))
    if (digits := value.digits or table.digits) is not None:
        told = _told(lookup, digits)
        if told is None or not 0 <= told <= _DIGITS:
            return None
        factor /= 10**told
    if value.prefix is not None:
        told = _told(lookup, value.prefix)
        if told is None or not 1 <= told <= 17:
            return None
        factor *= Fraction(1000) ** (told - 9)
    if (by := value.divisor or value.signed_scale) is not None:
        told = _told(lookup, by)
        least = 1 if value.divisor else -_MOST
        if not told or not least <= told <= _MOST:
            return None
        factor *= Fraction(1, abs(told)) if value.divisor or told < 0 else told
    return Scale(factor, offset, setting)


def _told(lookup: Lookup, oid: str) -> int | None:
    found = lookup(oid)
    return found[1] if found is not None and isinstance(found[1], int) else None
