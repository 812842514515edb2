"""Units and what they are in ours."""

from fractions import Fraction

import pytest

from collector.read.snmp.units import UNITS


@pytest.mark.parametrize(
    ("unit", "count", "metric_unit", "value"),
    [
        ("kWh", Fraction(35128, 10), "J", 12_646_080_000),
        ("Wh", 74_057_676, "J", 266_607_633_600),
        ("mA", 2971, "A", Fraction(2971, 1000)),
        ("%", 39, "1", Fraction(39, 100)),
        ("degF", 212, "Cel", 100),
        ("degF", 32, "Cel", 0),
    ],
)
def test_units(unit, count, metric_unit, value):
    base, factor, offset = UNITS[unit]
    assert base == metric_unit
    assert count * factor + offset == value
