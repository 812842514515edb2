"""What is made of values, times and reports; no service is asked."""

from __future__ import annotations

import asyncio
import copy
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.batch import SeriesKey
from collector.catalog import thermal
from collector.entity import Kind
from plugins.power.redfish import READERS, Redfish
from plugins.power.redfish.binding import Bindings, Need, bounds, excerpt
from plugins.power.redfish.clock import Clock
from plugins.power.redfish.document import moment, number, path_of, values
from plugins.power.redfish.plan import plan
from plugins.power.redfish.sensor import is_headroom, kind_of
from plugins.power.redfish.walk import Role, Walk
from tests.fakes.redfish import Service, tree
from tests.plugins.power.redfish import opened, poll
from tests.plugins.power.redfish import values as of

RECORDED = Path(__file__).parents[2] / "recorded" / "redfish"
REPORT = "/redfish/v1/TelemetryService/MetricReports/Environment_0"
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda below: (
        st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=12), below, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (42, 42.0),
        ("32.968750", 32.96875),
        (" 7 ", 7.0),
        ("nan", None),
        ("inf", None),
        (float("nan"), None),
        (None, None),
        (True, None),
        ("", None),
        ("1" * 65, None),
        (10**400, None),
        ([1], None),
        ({"Reading": 1}, None),
    ],
)
def test_numbers(raw: object, value: float | None) -> None:
    assert number(raw) == value


@pytest.mark.parametrize(
    ("raw", "at"),
    [
        ("2026-06-29T08:05:27.510+00:00", 1782720327.51),
        ("2026-06-29T10:05:27+02:00", 1782720327.0),
        ("2026-06-29T08:05:27Z", 1782720327.0),
        ("1970-01-01T00:00:00.000+00:00", None),
        ("0000-00-00T00:00:00Z", None),
        ("soon", None),
        (1782720327, None),
    ],
)
def test_moments(raw: object, at: float | None) -> None:
    assert moment(raw) == at


@pytest.mark.parametrize(
    "link",
    ["", "x", "//evil/redfish", "https://evil/", {"@odata.id": 7}, None, "/a\nb", "/" + "a" * 600],
)
def test_links_that_lead_nowhere(link: object) -> None:
    assert path_of(link) == ""


def test_an_excerpt_has_the_address_of_its_sensor_too() -> None:
    document = {"FlowLitersPerMinute": {"Reading": 42, "DataSourceUri": "/r/Sensors/Flow"}}
    assert excerpt("/r/1", document, "FlowLitersPerMinute") == (
        "/r/1#/FlowLitersPerMinute/Reading",
        "/r/Sensors/Flow#/Reading",
    )
    assert excerpt("/r/1", {"FlowLitersPerMinute": None}, "FlowLitersPerMinute") == ()


def test_members_within_a_collection_have_their_own_addresses() -> None:
    document = {"Members": [{"@odata.id": "/r/Sensors/a", "Reading": 1}, {"@odata.id": "/r/b"}]}
    assert {value.address: value.raw for value in values(document, "/r/Sensors")} == {
        "/r/Sensors/a#/Reading": 1
    }


@pytest.mark.parametrize("state", ["Absent", "Disabled", "UnavailableOffline"])
def test_a_sensor_that_is_not_there_reads_nothing(state: str) -> None:
    document = {"Reading": 0, "Status": {"State": state}}
    assert {v.address: v.raw for v in values(document, "/r")}["/r#/Reading"] is None


def test_of_a_log_in_a_report_the_newest_value_counts() -> None:
    def value(at: int, raw: str) -> dict[str, str]:
        return {
            "MetricProperty": "/r/Power#/PowerControl/0/PowerConsumedWatts",
            "MetricValue": raw,
            "Timestamp": f"2026-01-01T00:00:{at:02}Z",
        }

    document = {"MetricValues": [value(1, "100"), value(3, "107"), value(2, "94")]}
    (found,) = values(document, "/report")
    assert found.raw == "107"
    assert found.address == "/r/Power#/PowerControl/0/PowerConsumedWatts"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"ReadingType": "Temperature", "ReadingUnits": "Cel"}, ("Temperature", 1.0)),
        ({"ReadingUnits": "Cel"}, ("Temperature", 1.0)),
        ({"ReadingType": "Power", "ReadingUnits": "kW"}, ("Power", 1000.0)),
        ({"ReadingType": "EnergykWh", "ReadingUnits": "kWh"}, ("EnergykWh", 3.6e6)),
        ({"ReadingType": "Temperature", "ReadingUnits": "W"}, None),
        ({"ReadingType": "Temperature", "ReadingUnits": "Cel", "ReadingBasis": "Delta"}, None),
        ({"ReadingType": "Altitude", "ReadingUnits": "Pa"}, None),
        ({"ReadingUnits": "%"}, None),
        ({}, None),
    ],
)
def test_what_a_sensor_measures(document: dict[str, Any], told: object) -> None:
    assert kind_of(document) == told


@pytest.mark.parametrize(
    ("document", "headroom"),
    [
        ({"ReadingBasis": "Headroom"}, True),
        ({"ReadingBasis": "Zero", "Name": "Margin"}, False),
        ({"Id": "CPU_0_TempLimit_0"}, True),
        ({"Description": "Thermal Limit(TLIMIT) is the distance to the throttle limit"}, True),
        ({"Thresholds": {"LowerCaution": {"Reading": 0.0}, "LowerFatal": {"Reading": -5}}}, True),
        (
            {"Thresholds": {"LowerFatal": {"Reading": -5}, "UpperFatal": {"Reading": 45}}},
            False,
        ),
        ({"Thresholds": {"LowerFatal": {"Reading": 5}}}, False),
        ({"Id": "TEMP_0", "Thresholds": {}}, False),
    ],
)
def test_headroom(document: dict[str, Any], *, headroom: bool) -> None:
    assert is_headroom(document) is headroom


@pytest.mark.parametrize(("raw", "value"), [(11843, 11843), (0, 0), (40.0, None), (-1, None)])
def test_a_few_turns_per_minute_are_a_percentage_under_the_wrong_name(
    raw: float, value: float | None
) -> None:
    bindings = Bindings()
    entity = Kind.FAN("node", "1")
    bindings.number(thermal.FAN_SPEED, entity, ["/r#/Reading"])
    (binding,) = bindings.at["/r#/Reading"]
    assert list(binding.take(raw, 0.0)) == [(SeriesKey(thermal.FAN_SPEED, entity, ()), value)]


def test_clocks_that_agree_to_the_second_are_taken_to_agree() -> None:
    clock = Clock()
    clock.update("Mon, 29 Jun 2026 08:05:27 GMT", 1782720327.2, 1782720327.3)
    assert clock.offset == 0.0


@given(st.floats(-1e6, 1e6), st.lists(st.floats(0, 1000), min_size=1, max_size=20))
def test_the_clocks_offset_is_known_to_a_second(offset: float, times: list[float]) -> None:
    clock = Clock()
    for at in sorted(times):
        ours = 1.8e9 + at
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(ours - offset))
        clock.update(date, ours, ours)
    assert abs(clock.offset - offset) <= 1.001


@pytest.mark.parametrize("date", ["", "soon", "Mon, 99 Foo 2026 99:99:99 GMT"])
def test_a_date_that_is_none_is_no_clock(date: str) -> None:
    clock = Clock()
    clock.update(date, 1.0, 2.0)
    assert not clock.known


def bmc() -> dict[str, Any]:
    return copy.deepcopy(tree(RECORDED / "bmc_with_report" / "input" / "redfish"))


def polls(documents: dict[str, Any], change: Any = None, **config: object) -> list[Any]:
    """Two polls, with a change of the tree and a minute of the service's clock between them."""

    async def work() -> list[Any]:
        async with Service(documents) as service:
            plugin = await opened(service, **config)
            batches = [await poll(plugin)]
            service.gets.clear()
            if change:
                change(documents)
            batches.append(await poll(plugin))
            await plugin.close()
            return [*batches, service.gets]

    return asyncio.run(work())


def newer(documents: dict[str, Any]) -> None:
    """Values of the report that are newer than all that discovery read."""
    for value in documents[REPORT]["MetricValues"]:
        value["Timestamp"] = value["Timestamp"].replace("08:05:27", "08:05:59")


def test_values_of_a_report_have_their_own_times_by_our_clock() -> None:
    _, second, gets = polls(bmc(), newer)
    assert gets == [REPORT]
    found = of(second)
    assert found["sensor.power", "node", "GPU_0/GPU_0_Power_0"] == 232.168
    position = [key.metric.name for key in second.keys].index("host.input_power")
    assert abs(second.times.get(position, second.at) - second.at) < 5


def test_stale_and_nan_values_of_a_report_are_absent() -> None:
    first, second, _ = polls(bmc(), newer)
    assert ("sensor.temperature", "node", "Chassis_0/Board_Temp") in of(first)
    assert ("sensor.temperature", "node", "Chassis_0/Board_Temp") not in of(second)
    assert ("sensor.temperature", "node", "Chassis_0/SSD_0_Temp") not in of(first) | of(second)


def test_a_report_that_stands_still_is_not_relied_on() -> None:
    """Its values are a day old by the service's own clock: the sensors are asked."""
    documents = bmc()
    for value in documents[REPORT]["MetricValues"]:
        value["Timestamp"] = value["Timestamp"].replace("06-29", "06-28")
    documents["/redfish/v1/TelemetryService/MetricReports/Ports_0"]["MetricValues"][0][
        "Timestamp"
    ] = "2026-06-29T08:05:27Z"
    _, second, gets = polls(documents)
    assert REPORT not in gets
    assert of(second)["sensor.temperature", "node", "GPU_0/GPU_0_TEMP_0"] == 32.9375


def test_what_only_a_state_tells_is_read_now_and_then() -> None:
    _, second, gets = polls(bmc(), newer)
    assert of(second)["leak_detector.state", "node", "Leak_1", "critical"] == 1
    assert not [path for path in gets if "Leak" in path]
    _, _, gets = polls(bmc(), newer, slow_interval=1e-9, interval=1e-9)
    assert [path for path in gets if "Leak" in path]


def test_the_plan_prefers_one_document_with_much_to_many_with_little() -> None:
    walk = Walk(READERS, "t", "node", "")
    entity = Kind.FAN("node", "1")
    for place in "abcd":
        walk.bindings.number(thermal.FAN_DUTY, Kind.FAN("node", place), [f"/{place}#/Reading"])
    assert entity not in walk.bindings.links
    walk.supplies = {f"/{place}": frozenset([f"/{place}#/Reading"]) for place in "abcd"}
    walk.supplies["/abc"] = frozenset(f"/{place}#/Reading" for place in "abc")
    assert plan(walk) == {"/abc": Need.FAST, "/d": Need.FAST}


def swapped(documents: dict[str, Any], draw: st.DrawFn) -> dict[str, Any]:
    """Put junk in the place of some nodes of a tree."""
    changed = copy.deepcopy(documents)
    for path in draw(st.lists(st.sampled_from(sorted(changed)), max_size=4)):
        node: Any = changed[path]
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys))
            below = node[key]
            if not isinstance(below, dict | list) or draw(st.booleans()):
                node[key] = draw(JSON)
                break
            node = below
    return changed


TREES = [
    tree(RECORDED / case / "input" / "redfish")
    for case in ("bmc_with_report", "cooling_unit", "power_shelf", "rack_pdu")
]


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Any]:
    return swapped(draw(st.sampled_from(TREES)), draw)


@settings(max_examples=300, deadline=None)
@given(broken())
def test_no_tree_yields_what_cannot_be_or_breaks_the_walk(documents: dict[str, Any]) -> None:
    walk = Walk(READERS, "t", "node", "")
    root = documents["/redfish/v1"]
    walk.start(root)
    while steps := walk.next(1):
        for step in steps:
            document = documents.get(step.path)
            if not isinstance(document, dict):
                walk.failed(step, ValueError())
                continue
            found = walk.take(step, document)
            for address, raw, _ in found:
                for binding in walk.bindings.at.get(address, ()):
                    for key, value in binding.take(raw, 1.0):
                        assert key.metric in Redfish.metrics
                        assert key.entity.kind is key.metric.kind
                        assert len(key.labels) == len(key.metric.labels)
                        if value is not None:
                            low, high = bounds(key.metric) if key.metric.unit else (0, 1)
                            assert math.isfinite(value)
                            assert low <= value <= high
    plan(walk)


@settings(max_examples=40, deadline=None)
@given(broken())
def test_no_tree_breaks_a_poll(documents: dict[str, Any]) -> None:
    documents["/redfish/v1"] = TREES[0]["/redfish/v1"] | documents["/redfish/v1"]
    for batch in polls(documents)[:2]:
        assert all(map(math.isfinite, batch.values))


@given(JSON)
def test_any_junk_may_be_a_document(junk: object) -> None:
    walk = Walk(READERS, "t", "node", "")
    document = junk if isinstance(junk, dict) else {"Members": junk, "MetricValues": junk}
    for role in Role:
        walk.ask(f"/{role.name}", role, walk.host)
    for step in walk.next(100):
        walk.take(step, document)
