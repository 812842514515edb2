"""Prices by the time of use."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from collector.batch import Batch
from collector.entity import Kind
from plugins.power.tariff import Tariff

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = [
    {"start": "17:00", "end": "20:00", "days": ["mon", "tue", "wed", "thu", "fri"], "price": 0.31},
    {"start": "22:00", "end": "06:00", "price": 0.12, "carbon": 410},
    {"start": "10:00", "end": "14:00", "carbon": 240},
]


def look(at: float, **config: Any) -> dict[tuple[str, ...], float]:
    plugin = Tariff(target="dc1", timezone="Europe/Berlin", currency="EUR", **config)
    batch = Batch(Kind.HOST("node1"), at, plugin.metrics)
    plugin.poll(batch)
    return {
        (key.metric.name, *key.labels): round(value * 3.6e6, 9)
        for key, value in zip(batch.keys, batch.values, strict=True)
        if not key.metric.name.endswith("estimated")
    }


@pytest.mark.parametrize(
    ("when", "price", "carbon"),
    [
        ("2026-01-05T16:59", 0.18, 350),
        ("2026-01-05T17:00", 0.31, 350),
        ("2026-01-05T19:59", 0.31, 350),
        ("2026-01-05T20:00", 0.18, 350),
        ("2026-01-04T18:00", 0.18, 350),  # a Sunday
        ("2026-01-05T23:30", 0.12, 410),
        ("2026-01-06T05:59", 0.12, 410),
        ("2026-01-06T06:00", 0.18, 350),
        ("2026-07-06T12:00", 0.18, 240),  # in summer time
    ],
)
def test_what_holds_at_a_time(when: str, price: float, carbon: float) -> None:
    at = datetime.fromisoformat(when).replace(tzinfo=BERLIN).timestamp()
    assert look(at, price=0.18, carbon=350, periods=WEEK) == {
        ("site.energy.price", "EUR"): price,
        ("site.carbon_intensity", "tariff", "average"): carbon,
    }


def test_a_night_that_began_on_one_of_its_days_goes_on() -> None:
    friday = [{"start": "22:00", "end": "06:00", "days": ["fri"], "price": 0.1}]
    at = datetime(2026, 1, 10, 3, tzinfo=BERLIN).timestamp()  # Saturday
    assert look(at, periods=friday) == {("site.energy.price", "EUR"): 0.1}
    assert look(at - 86400, periods=friday) == {}


def test_what_is_not_known_is_absent() -> None:
    assert look(0.0) == {}
    assert look(0.0, price=0.2) == {("site.energy.price", "EUR"): 0.2}


@given(st.floats(0, 4e9))
def test_without_periods_it_is_always_the_same(at: float) -> None:
    assert look(at, price=0.2) == {("site.energy.price", "EUR"): 0.2}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"timezone": "Mars/Olympus"}, "timezone 'Mars/Olympus' is not known"),
        ({"currency": "euro"}, "currency"),
        ({"price": -1}, "price"),
        ({"periods": [{"start": "25:00"}]}, "'25:00' is no time of day"),
        ({"periods": [{"days": ["monday"]}]}, "days"),
        ({"periods": [{"prize": 1}]}, "prize"),
    ],
)
def test_mistakes_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Tariff(**{"target": "dc1", **config})
