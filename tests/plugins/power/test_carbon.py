"""Carbon intensity by three APIs, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import Batch
from collector.catalog import site
from collector.entity import Kind
from collector.plugin import Plugin
from collector.read.http import AnswerError, StatusError
from plugins.power.electricity_maps import ElectricityMaps
from plugins.power.uk_carbon_intensity import UkCarbonIntensity
from plugins.power.watttime import WattTime
from tests.fakes.pages import Pages, Reply

NOW = datetime(2026, 1, 5, 12, 10, tzinfo=UTC).timestamp()
KWH = 3.6e6
Found = dict[str, tuple[float, float]]  # metric: value, time


def reply(value: object) -> Reply:
    return Reply(json.dumps(value).encode(), "application/json")


async def ask(plugin: Plugin, polls: int = 1) -> Found:
    await plugin.open()  # type: ignore[misc]
    try:
        for _ in range(polls):
            batch = Batch(Kind.HOST("node1"), NOW, plugin.metrics)
            await plugin.poll(batch)  # type: ignore[misc]
    finally:
        await plugin.close()  # type: ignore[misc]
    return {
        key.metric.name: (value, batch.times.get(n, NOW))
        for n, (key, value) in enumerate(zip(batch.keys, batch.values, strict=True))
    }


def poll(
    kind: type[Plugin], *replies: Reply, polls: int = 1, **config: object
) -> tuple[Found, list[str]]:
    async def main() -> tuple[Found, list[str]]:
        async with Pages(*replies) as pages:
            found = await ask(kind.model_validate({"url": pages.url, **config}), polls)
            return found, pages.requests

    return asyncio.run(main())


class TestElectricityMaps:
    CONFIG: ClassVar[dict[str, Any]] = {"target": "DE", "token": "key-1"}
    GOOD: ClassVar[dict[str, Any]] = {
        "carbonIntensity": 360,
        "datetime": "2026-01-05T12:00:00.000Z",
        "isEstimated": False,
    }

    def test_the_key_is_sent_and_the_hour_is_kept(self) -> None:
        found, (request,) = poll(ElectricityMaps, reply(self.GOOD), **self.CONFIG)
        assert found["site.carbon_intensity"] == (360 / KWH, NOW - 600)
        assert found["site.carbon_intensity.estimated"] == (0.0, NOW - 600)
        assert request.startswith("GET /carbon-intensity/latest?zone=DE ")
        assert "auth-token: key-1" in request

    def test_unless_it_says_measured_it_is_estimated(self) -> None:
        found, _ = poll(ElectricityMaps, reply({**self.GOOD, "isEstimated": None}), **self.CONFIG)
        assert found["site.carbon_intensity.estimated"][0] == 1

    @pytest.mark.parametrize("grams", [None, "360", -1, 1e9, True])
    def test_what_is_no_intensity_is_an_error(self, grams: object) -> None:
        with pytest.raises(AnswerError, match="no carbon intensity"):
            poll(ElectricityMaps, reply({**self.GOOD, "carbonIntensity": grams}), **self.CONFIG)

    def test_a_figure_of_long_ago_is_not_that_of_now(self) -> None:
        """A service that is out of order goes on giving its last one."""
        old = {**self.GOOD, "datetime": "2026-01-04T12:00:00.000Z"}
        with pytest.raises(AnswerError, match="24 hours old"):
            poll(ElectricityMaps, reply(old), **self.CONFIG)

    def test_a_redirect_is_not_followed_with_the_key(self) -> None:
        away = Reply(b"", status="302 Found", headers={"Location": "http://127.0.0.1:1/"})
        with pytest.raises(StatusError, match="302"):
            poll(ElectricityMaps, away, **self.CONFIG)


def figures(*minutes_and_values: tuple[int, float], units: str = "lbs_co2_per_mwh") -> Reply:
    data = [
        {"point_time": datetime.fromtimestamp(NOW + 60 * m, UTC).isoformat(), "value": value}
        for m, value in minutes_and_values
    ]
    return reply({"data": data, "meta": {"units": units}})


class TestWattTime:
    CONFIG: ClassVar[dict[str, Any]] = {
        "target": "CAISO_NORTH",
        "site": "dc1",
        "user": "us",
        "password": "pw",
    }
    LOGIN = reply({"token": "t1"})
    REFUSED = Reply(b"", status="401 Unauthorized")

    def test_an_error_names_the_address_that_was_asked(self) -> None:
        full = Reply(b"", status="429 Too Many Requests")
        with pytest.raises(StatusError, match=r"/login: answered 429"):
            poll(WattTime, full, **self.CONFIG)

    def test_the_newest_of_the_past_counts(self) -> None:
        past = figures((-20, 900.0), (-10, 1000.0), (5, 1.0))
        found, requests = poll(WattTime, self.LOGIN, past, **self.CONFIG)
        assert found["site.carbon_intensity"] == pytest.approx((453.59237 / KWH, NOW - 600))
        assert found["site.carbon_intensity.estimated"][0] == 0
        assert requests[0].startswith("GET /login ")
        assert "Authorization: Basic dXM6cHc=" in requests[0]
        assert "signal_type=co2_moer" in requests[1]
        assert "Authorization: Bearer t1" in requests[1]

    def test_the_forecast_stands_in_for_an_old_past(self) -> None:
        past, forecast = figures((-45, 900.0)), figures((-5, 1000.0), (0, 2000.0), (5, 1.0))
        found, _ = poll(WattTime, self.LOGIN, past, forecast, **self.CONFIG)
        assert found["site.carbon_intensity"] == pytest.approx((2 * 453.59237 / KWH, NOW))
        assert found["site.carbon_intensity.estimated"][0] == 1

    def test_no_figure_is_none(self) -> None:
        with pytest.raises(AnswerError, match="no figure for CAISO_NORTH"):
            poll(WattTime, self.LOGIN, figures(), figures((-60, 1.0)), **self.CONFIG)

    def test_a_login_is_kept_and_renewed_once_refused(self) -> None:
        past = figures((-10, 1000.0))
        found, requests = poll(
            WattTime, self.LOGIN, past, self.REFUSED, reply({"token": "t2"}), past,
            polls=2, **self.CONFIG,
        )  # fmt: skip
        assert found["site.carbon_intensity"][0] == pytest.approx(453.59237 / KWH)
        assert [line.split()[1].split("?")[0] for line in requests] == [
            "/login", "/v3/historical", "/v3/historical", "/login", "/v3/historical",
        ]  # fmt: skip

    def test_an_account_that_is_not_accepted_is_named(self) -> None:
        with pytest.raises(AnswerError, match="account us is not accepted"):
            poll(WattTime, self.REFUSED, **self.CONFIG)

    def test_another_unit_is_not_guessed(self) -> None:
        with pytest.raises(AnswerError, match="kg_per_mwh"):
            poll(WattTime, self.LOGIN, figures((-10, 1.0), units="kg_per_mwh"), **self.CONFIG)


class TestUk:
    def test_the_actual_figure_goes_before_the_forecast(self) -> None:
        intensity = {"forecast": 180, "actual": 360, "index": "high"}
        answer = reply({"data": [{"from": "2026-01-05T12:00Z", "intensity": intensity}]})
        found, (request,) = poll(UkCarbonIntensity, answer, site="dc1")
        assert found["site.carbon_intensity"] == (360 / KWH, NOW - 600)
        assert found["site.carbon_intensity.estimated"][0] == 0
        assert request.startswith("GET /intensity ")

    @pytest.mark.parametrize(
        ("target", "path"), [("13", "/regional/regionid/13"), ("RG10", "/regional/postcode/RG10")]
    )
    def test_of_a_region_there_is_a_forecast(self, target: str, path: str) -> None:
        period = {"from": "2026-01-05T12:00Z", "intensity": {"forecast": 180, "index": "low"}}
        answer = reply({"data": [{"regionid": 13, "data": [period]}]})
        found, (request,) = poll(UkCarbonIntensity, answer, site="dc1", target=target)
        assert found["site.carbon_intensity"][0] == 180 / KWH
        assert found["site.carbon_intensity.estimated"][0] == 1
        assert request.startswith(f"GET {path} ")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["data", "meta", "units", "from", "intensity", "token", "actual", "value",
                         "carbonIntensity", "datetime", "isEstimated", "point_time"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(junk)
@pytest.mark.parametrize(
    ("kind", "config"),
    [
        (ElectricityMaps, TestElectricityMaps.CONFIG),
        (WattTime, TestWattTime.CONFIG),
        (UkCarbonIntensity, {"site": "dc1"}),
        (UkCarbonIntensity, {"site": "dc1", "target": "1"}),
    ],
)
def test_whatever_is_answered_gives_a_figure_that_can_be_or_an_error(
    kind: type[Plugin], config: dict[str, Any], answer: object
) -> None:
    replies = [TestWattTime.LOGIN] if kind is WattTime else []
    try:
        found, _ = poll(kind, *replies, reply(answer), **config)
    except AnswerError:
        return
    assert 0 <= found[site.CARBON_INTENSITY.name][0] <= 5000 / KWH
