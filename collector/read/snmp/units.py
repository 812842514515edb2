"""The units in which devices count."""

from __future__ import annotations

from fractions import Fraction

# A unit in which devices count: the metric's unit, the factor to it, what is added then.
UNITS: dict[str, tuple[str, Fraction, Fraction]] = {
    unit: (base, Fraction(factor), Fraction(offset))
    for unit, base, factor, offset in (
        ("W", "W", "1", "0"),
        ("kW", "W", "1000", "0"),
        ("VA", "{VA}", "1", "0"),
        ("kVA", "{VA}", "1000", "0"),
        ("Wh", "J", "3600", "0"),
        ("kWh", "J", "3600000", "0"),
        ("A", "A", "1", "0"),
        ("mA", "A", "1/1000", "0"),
        ("V", "V", "1", "0"),
        ("mV", "V", "1/1000", "0"),
        ("Hz", "Hz", "1", "0"),
        ("1", "1", "1", "0"),
        ("%", "1", "1/100", "0"),
        ("Cel", "Cel", "1", "0"),
        ("degF", "Cel", "5/9", "-160/9"),
        ("L/min", "m3/s", "1/60000", "0"),
        ("L/s", "m3/s", "1/1000", "0"),
        ("m3/h", "m3/s", "1/3600", "0"),
        ("Pa", "{Pa}", "1", "0"),
        ("kPa", "{Pa}", "1000", "0"),
        ("bar", "{Pa}", "100000", "0"),
        ("rpm", "{rpm}", "1", "0"),
        ("s", "s", "1", "0"),
        ("min", "s", "60", "0"),
        ("h", "s", "3600", "0"),
    )
}
