import pytest

from collector.read.coolant import heat

LITRE_PER_MINUTE = 1e-3 / 60


def test_water_takes_up_69_watts_per_litre_per_minute_and_kelvin() -> None:
    assert heat(LITRE_PER_MINUTE, 1.0) == pytest.approx(69.0, rel=0.005)
    assert heat(42 * LITRE_PER_MINUTE, 18.0) == pytest.approx(0.069e3 * 42 * 18, rel=0.005)


def test_glycol_takes_up_some_percent_less_than_water() -> None:
    assert heat(1e-3, 10.0, "pg25") / heat(1e-3, 10.0, "water") == pytest.approx(0.969, abs=0.005)


def test_no_flow_or_no_rise_is_no_heat_and_a_fall_is_negative() -> None:
    assert heat(0.0, 10.0) == heat(1e-3, 0.0) == 0.0
    assert heat(1e-3, -2.0) == -heat(1e-3, 2.0) < 0
