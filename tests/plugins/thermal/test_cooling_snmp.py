"""Cooling units: what real ones say, what broken ones may not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.batch import Batch
from collector.catalog import thermal
from collector.entity import Kind
from collector.read.coolant import heat
from collector.read.snmp import plugin as snmp_plugin
from collector.read.snmp.discovery import UnknownDeviceError
from collector.read.snmp.limits import limits
from collector.read.snmp.profiles import load, shipped
from collector.read.snmp.session import SnmpError, Value
from plugins.thermal.cooling_snmp import CoolingSnmp
from tests.data import data
from tests.fakes.snmp import GET, Agent, tlv
from tests.fakes.snmp import Value as SnmpValue

RECORDED = Path(__file__).parents[2] / "recorded" / "cooling_snmp"
PROFILES = sorted(shipped(CoolingSnmp.profiles))
Key = tuple[str, ...]

# What the walks of real units say, worked out by hand from the MIBs; labels follow the entity's key.
TRUTH: dict[str, tuple[str, dict[Key, float]]] = {
    "apc-inrow": (
        "apc_inrow_rc",
        {
            ("cooling_unit.air.temperature", "c1", "intake"): 23.8,
            ("cooling_unit.air.temperature", "c1", "exhaust"): 21.9,
            ("cooling_unit.air.temperature", "c1", "rack_inlet"): 21.4,
            ("coolant_loop.supply.temperature", "c1", "chilled_water"): 13.0,
            ("coolant_loop.return.temperature", "c1", "chilled_water"): 21.4,
            ("coolant_loop.flow", "c1", "chilled_water"): 0.0,
            ("coolant_loop.heat", "c1", "chilled_water"): 0.0,
            ("coolant_loop.valve", "c1", "chilled_water"): 0.3,
            ("cooling_unit.heat", "c1"): 0.0,
            ("fan.duty", "c1", "average"): 0.518,
            ("leak_detector.state", "c1", "unit", "ok"): 1.0,
            ("cooling_unit.state", "c1", "on"): 1.0,
        },
    ),
    "apc_airfm": (
        "apc_networkair_fm",
        {
            ("cooling_unit.air.temperature", "c1", "intake"): 22.5,
            ("cooling_unit.air.temperature", "c1", "exhaust"): 14.8,
            ("cooling_unit.humidity", "c1"): 0.436,
        },
    ),
    "apc_uniflair-sp": (
        "apc_cooling",
        {
            ("cooling_unit.air.temperature", "c1", "exhaust"): 24.8,
            ("cooling_unit.air.temperature", "c1", "room"): 21.4,
            ("fan.duty", "c1", "evaporator"): 0.9,
            ("cooling_unit.state", "c1", "on"): 1.0,
        },
    ),
    "pcoweb-rittal-lcp-3311_lcp-dx-3311": (
        "rittal_lcp_dx",
        {
            ("cooling_unit.air.temperature", "c1", "intake"): 31.3,
            ("cooling_unit.air.temperature", "c1", "exhaust"): 28.3,
            ("fan.speed", "c1", "1"): 1295.0,
        },
    ),
    "pcoweb-rittalchiller": (
        "rittal_chiller",
        {
            ("coolant_loop.flow", "c1", "chilled_water"): 141.3e-3 / 60,
            ("coolant_loop.return.temperature", "c1", "chilled_water"): 18.0,
            ("coolant_loop.supply.temperature", "c1", "chilled_water"): 17.9,
            ("cooling_unit.power", "c1"): 700.0,
            ("pump.duty", "c1", "1"): 1.0,
        },
    ),
    "rittal-cmc": (
        "rittal_lcp_cmctc",
        {
            ("coolant_loop.supply.temperature", "c1", "water"): 14.0,
            ("coolant_loop.return.temperature", "c1", "water"): 16.0,
            ("coolant_loop.flow", "c1", "water"): 66e-3 / 60,
            ("coolant_loop.heat.claimed", "c1", "water"): 8830.0,
            ("coolant_loop.heat", "c1", "water"): heat(66e-3 / 60, 2.0),
            ("fan.speed", "c1", "RLCP Rpm 6"): 1580.0,
            ("leak_detector.state", "c1", "1", "ok"): 1.0,
        },
    ),
    "stulz_wib8000": (
        "stulz_wib8000",
        {
            ("cooling_unit.air.temperature", "c1/1.5", "intake"): 21.0,
            ("cooling_unit.air.temperature", "c1/1.5", "exhaust"): 16.7,
            ("coolant_loop.supply.temperature", "c1/1.5", "primary"): 8.8,
            ("coolant_loop.return.temperature", "c1/1.5", "primary"): 15.1,
            ("coolant_loop.flow", "c1/1.5", "primary"): 2.7 / 3600,
            ("cooling_unit.humidity", "c1/2.1"): 0.37,
            ("cooling_unit.state", "c1/1.3", "off"): 1.0,
        },
    ),
    "liebert_weblbds": (
        "liebert_environmental",
        {
            ("cooling_unit.air.temperature", "c1", "intake"): 24.0,
            ("cooling_unit.air.temperature", "c1", "exhaust"): 25.0,
            ("fan.duty", "c1", "1"): 0.5,
        },
    ),
}
# What looks like a cooling unit, is of the same maker, or has its sysObjectID.
OTHERS = (
    "rittal-lcp",
    "rittal-cmc-iii-pu_compact",
    "rittal-cmc-iii-pu_iot-interface",
    "spectracool",
    "liebert",
    "liebert_apm",
    "liebert_web485",
    "apc_ap8853",
    "apc_smx750",
    "apc_environmental-manager",
    "raritan-pdu_px2",
    "hwg-wld_wld2",
)


def poll(target: str, **config: object) -> Batch:
    plugin = CoolingSnmp.model_validate({"target": target, "name": "c1", "timeout": 30, **config})

    async def main() -> Batch:
        await plugin.open()
        try:
            batch = Batch(Kind.HOST("node1"), 0.0, plugin.metrics)
            await plugin.poll(batch)
            return batch
        finally:
            await plugin.close()

    return asyncio.run(main())


def samples(batch: Batch) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for (metric, entity, labels), value in zip(batch.keys, batch.values, strict=True):
        assert (metric.name, *entity.key, *labels) not in found
        found[(metric.name, *entity.key, *labels)] = value
    return found


@pytest.mark.parametrize("walk", TRUTH)
def test_a_real_unit_reads_what_its_mib_says(walk: str) -> None:
    profile, truth = TRUTH[walk]
    with Agent(data(f"snmp/walks/{walk}.snmprec")) as agent:
        batch = poll(agent.target)
    found = samples(batch)
    assert {key: found.get(key) for key in truth} == pytest.approx(truth)
    assert not batch.errors
    infos = {key.labels[-1] for key in batch.keys if key.metric is thermal.COOLING_UNIT_INFO}
    assert infos == {profile}


@pytest.mark.parametrize("walk", OTHERS)
def test_what_is_no_cooling_unit_is_called_unknown(walk: str) -> None:
    with Agent(data(f"snmp/walks/{walk}.snmprec")) as agent, pytest.raises(UnknownDeviceError):
        poll(agent.target)


def test_heat_computed_is_near_what_a_real_unit_claims() -> None:
    with Agent(data("snmp/walks/rittal-cmc.snmprec")) as agent:
        found = samples(poll(agent.target))
    claimed = found["coolant_loop.heat.claimed", "c1", "water"]
    assert found["coolant_loop.heat", "c1", "water"] == pytest.approx(claimed, rel=0.05)


def test_a_real_unit_without_air_flow_to_match_shows_the_scale_of_its_water() -> None:
    """Air that cools by 4.3 K takes 13,000 m3/h for what 2.7 m3/h of water carry away."""
    with Agent(data("snmp/walks/stulz_wib8000.snmprec")) as agent:
        found = samples(poll(agent.target))
    cooled = 21.0 - 16.7
    air = found["coolant_loop.heat", "c1/1.5", "primary"] / (1.2 * 1005 * cooled) * 3600
    assert 5_000 < air < 30_000


INROW = "1.3.6.1.4.1.318.1.1.13.3.2.2.2"


class TestHeat:
    def unit(self, **changed: int | None) -> dict[str, SnmpValue]:
        columns = {"c1": 2, "c22": 100, "c24": 100, "c26": 150} | changed
        objects: dict[str, SnmpValue] = {"1.3.6.1.2.1.1.2.0": (1, 3, 6, 1, 4, 1, 318, 1, 3, 14, 5)}
        return objects | {
            f"{INROW}.{column[1:]}.0": value
            for column, value in columns.items()
            if value is not None
        }

    @pytest.mark.parametrize("coolant", ["water", "pg25"])
    def test_is_that_of_the_coolant(self, coolant: str) -> None:
        with Agent(self.unit()) as agent:
            found = samples(poll(agent.target, coolant=coolant))
        expected = heat(1e-3, 5.0, coolant)  # type: ignore[arg-type]
        assert found["coolant_loop.heat", "c1", "chilled_water"] == pytest.approx(expected)

    @pytest.mark.parametrize("changed", [{"c22": -1}, {"c24": -1}, {"c26": None}, {"c24": 9999}])
    def test_needs_flow_supply_and_return(self, changed: dict[str, int | None]) -> None:
        with Agent(self.unit(**changed)) as agent:
            found = samples(poll(agent.target))
        assert ("coolant_loop.heat", "c1", "chilled_water") not in found
        assert ("cooling_unit.state", "c1", "on") in found

    def test_an_unknown_coolant_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="coolant"):
            CoolingSnmp.model_validate({"target": "x", "coolant": "oil"})


class TestAgentThatAnswersGetAlone:
    def test_no_walk_is_needed(self) -> None:
        """The agent of the CDU answers a GETBULK with an error."""
        with Agent(RECORDED / "supermicro_cdu/input/device.snmprec") as agent:
            found = samples(poll(agent.target))
            assert {kind for kind, _ in agent.requests} == {GET}
        assert found["coolant_loop.supply.temperature", "c1", "coolant"] == 30.12
        assert ("pump.duty", "c1", "3") not in found  # an empty text

    def test_text_that_is_no_number_is_a_failure(self) -> None:
        with Agent(RECORDED / "supermicro_cdu/input/device.snmprec") as agent:
            batch = poll(agent.target)
        assert {entity.key: str(error) for entity, error in batch.errors if entity} == {
            ("c1", "8"): "fan.duty reads nan, which cannot be (1.3.6.1.4.1.10876.301.1.1.4.1.31.0)"
        }


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_a_recorded_case(name: str) -> None:
    assert f'profile="{name}"' in (RECORDED / name / "expected.prom").read_text()
    assert load(shipped(CoolingSnmp.profiles)[name]).device == "cooling_unit"


class Table:
    """A session with an agent that holds a table, in memory."""

    def __init__(self, objects: Mapping[str, Value]) -> None:
        self._objects = objects

    async def get(self, oids: Sequence[str]) -> dict[str, Value]:
        return {oid: self._objects[oid] for oid in oids if oid in self._objects}

    async def walk(self, oid: str, repetitions: int, limit: int = 10_000) -> dict[str, Value]:
        rows = sorted(
            (tuple(map(int, one.split("."))), one) for one in self._objects if f"{one}.".startswith(f"{oid}.") and one != oid
        )  # fmt: skip
        return {one: self._objects[one] for _, one in rows[:limit]}

    def close(self) -> None:
        pass


def read(path: Path) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for line in path.read_text(errors="replace").splitlines():
        oid, tag, text = line.split("|", 2)
        if tag == "6":
            found[oid] = text
        elif tag in ("4", "4x"):
            found[oid] = bytes.fromhex(text) if tag == "4x" else text.encode()
        else:
            found[oid] = int(text)
    return found


BASES = {name: read(RECORDED / name / "input/device.snmprec") for name in PROFILES}
SENTINELS = (-1, 0, 255, 32767, 65535, -32768, 2**31 - 1, -(2**31), 2**32 - 1, 2**63, -410)
JUNK = st.one_of(
    st.sampled_from(SENTINELS),
    st.integers(-(2**63), 2**64),
    st.binary(max_size=20),
    st.sampled_from(
        [b"nan", b"inf", b"-inf", b"1e999", b"n/a", b"notsupported ", b"12,3", b"0x1f"]
    ),
    st.floats(),
    st.none(),
    st.just("1.3.6.1"),
)


@st.composite
def broken(draw: st.DrawFn) -> dict[str, Value]:
    objects = dict(BASES[draw(st.sampled_from(PROFILES))])
    own = [oid for oid in objects if not oid.startswith("1.3.6.1.2.1.1.")]
    for oid in draw(st.lists(st.sampled_from(own), max_size=6, unique=True)):
        if draw(st.booleans()):
            objects[oid] = draw(JUNK)
        else:
            del objects[oid]
    return objects


class TestBrokenUnits:
    @settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(objects=broken())
    def test_no_value_is_impossible(
        self, objects: dict[str, Value], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def connect(*_: object) -> Table:
            return Table(objects)

        monkeypatch.setattr(snmp_plugin, "connect", connect)
        try:
            batch = poll("127.0.0.1:1")
        except UnknownDeviceError:
            return
        for key, value in zip(batch.keys, batch.values, strict=True):
            assert math.isfinite(value)
            if key.metric is not thermal.COOLANT_HEAT and key.metric.unit:
                low, high = limits(key.metric)
                assert low <= value <= high
        states: dict[object, float] = {}
        for key, value in zip(batch.keys, batch.values, strict=True):
            if "state" in key.metric.labels:
                states[key[:2]] = states.get(key[:2], 0.0) + value
        assert all(total == 1.0 for total in states.values())

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data_=st.data())
    def test_a_broken_value_changes_no_other(
        self, data_: st.DataObject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Readings alone are broken here: a broken name or scale may well move a value."""
        objects = dict(BASES["apc_inrow_rc"])
        column = data_.draw(st.sampled_from([2, 7, 9, 11, 16, 20]))

        async def connect(*_: object) -> Table:
            return Table(objects)

        monkeypatch.setattr(snmp_plugin, "connect", connect)
        before = samples(poll("127.0.0.1:1"))
        objects[f"{INROW}.{column}.0"] = data_.draw(JUNK)
        after = samples(poll("127.0.0.1:1"))
        changed = {key for key in before if before[key] != after.get(key)}
        assert len(changed) <= 1
        assert set(after) <= set(before)


def test_garbage_from_the_wire_is_an_error() -> None:
    with Agent(RECORDED / "apc_inrow_rc/input/device.snmprec") as agent:
        agent.garble = lambda reply: tlv(0x30, b"\x02\x01\x01")
        with pytest.raises((SnmpError, TimeoutError)):
            poll(agent.target, timeout=1)
