"""What is left of capacity, and how well is cooled, on readings by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link
from collector.catalog import facility, power, thermal
from collector.entity import Entity, Kind
from collector.facility import Facility
from collector.metric import Metric
from collector.settings import Capacity
from collector.store import Store
from collector.topology import Topology

HOST, NOW = Kind.HOST("node1"), 1000.0
SITE = Kind.SITE("dc1")
LINKS = [
    Link(Kind.PDU("a"), Kind.RACK("r1"), 1.0),
    Link(Kind.PDU("b"), Kind.RACK("r1"), 1.0),
    Link(Kind.PDU("c"), Kind.RACK("r2"), 1.0),
    Link(Kind.RACK("r1"), SITE, 1.0),
    Link(Kind.RACK("r2"), SITE, 1.0),
    Link(Kind.COOLING_UNIT("cdu"), Kind.RACK("r1"), 1.0),
    Link(Kind.COOLING_UNIT("cdu"), Kind.RACK("r2"), 1.0),
]
Reading = tuple[Metric, Entity, float, tuple[str, ...]]


def watts(pdu: str, value: float, basis: str = "measured") -> Reading:
    return power.PDU_POWER, Kind.PDU(pdu), value, (basis,)


def derive(*readings: Reading, settings: Capacity | None = None) -> dict[tuple[str, ...], float]:
    store, topology = Store(), Topology()
    topology.observe("config", LINKS, 0.0)
    batch = Batch(HOST, NOW, {metric for metric, *_ in readings})
    for metric, entity, value, labels in readings:
        batch.add(metric, entity, value, *labels)
    store.write(batch, "test", 30.0)
    found = Facility(settings or Capacity(), HOST, store, topology).step(NOW + 1)
    return {
        (key.metric.name, *key.entity.key): value
        for key, value in zip(found.keys, found.values, strict=True)
    }


def test_racks_and_sites_are_the_sum_of_their_parts() -> None:
    limits = Capacity(sites={"dc1": 5000}, racks={"r1": 2000}, pdus={"a": 900})
    found = derive(watts("a", 700), watts("b", 600, "sum"), watts("c", 1000), settings=limits)
    assert found == {
        ("pdu.power.headroom", "a"): 200,
        ("rack.power", "r1"): 1300,
        ("rack.power.limit", "r1"): 2000,
        ("rack.power.headroom", "r1"): 700,
        ("rack.power", "r2"): 1000,
        ("site.power", "dc1"): 2300,
        ("site.power.limit", "dc1"): 5000,
        ("site.power.headroom", "dc1"): 2700,
    }


def test_a_sum_that_lacks_a_part_is_absent() -> None:
    limits = Capacity(sites={"dc1": 5000})
    found = derive(watts("a", 700), watts("c", 1000), settings=limits)
    assert found == {("rack.power", "r2"): 1000, ("site.power.limit", "dc1"): 5000}


def test_what_is_left_of_a_rating() -> None:
    breaker, phase = Kind.BREAKER("a", "1"), Kind.PHASE("a", "L1")
    readings: list[Reading] = [
        (power.BREAKER_CURRENT, breaker, 15.0, ()),
        (power.BREAKER_CURRENT_LIMIT, breaker, 20.0, ()),
        (power.BREAKER_CURRENT, Kind.BREAKER("a", "2"), 15.0, ()),
        (power.BREAKER_CURRENT_LIMIT, Kind.BREAKER("a", "3"), 20.0, ()),
        (power.PHASE_CURRENT, phase, 30.0, ()),
        (power.PHASE_CURRENT_LIMIT, phase, 24.0, ()),
        (power.PDU_POWER_LIMIT, Kind.PDU("a"), 8000.0, ()),
        watts("a", 7000),
    ]
    assert derive(*readings) == {
        ("breaker.current.headroom", "a", "1"): 1,
        ("phase.current.headroom", "a", "L1"): -6,
        ("pdu.power.headroom", "a"): 1000,
    }
    agreed = Capacity(breakers={"a/1": 32, "a/2": 16}, breaker_share=1.0, pdus={"a": 7100})
    found = derive(*readings, settings=agreed)
    assert found["breaker.current.headroom", "a", "1"] == 17
    assert found["breaker.current.headroom", "a", "2"] == 1
    assert found["pdu.power.headroom", "a"] == 100


def loop(name: str, metric: Metric, heat: float) -> Reading:
    return metric, Kind.COOLANT_LOOP("cdu", name), heat, ()


def test_heat_is_counted_once() -> None:
    """The primary loop carries on what the secondary one took up; computed goes before claimed."""
    racks = watts("a", 3000), watts("b", 3000), watts("c", 4000)
    unit: Reading = (thermal.COOLING_UNIT_POWER, Kind.COOLING_UNIT("cdu"), 400.0, ())
    found = derive(
        *racks,
        unit,
        loop("primary", thermal.COOLANT_HEAT, 8800.0),
        loop("secondary/1", thermal.COOLANT_HEAT_CLAIMED, 1.0),
        loop("secondary/1", thermal.COOLANT_HEAT, 5000.0),
        loop("secondary/2", thermal.COOLANT_HEAT_CLAIMED, 3000.0),
    )
    assert found["cooling_unit.power.per_heat", "cdu"] == 0.05
    assert found["cooling_unit.heat.share", "cdu"] == 0.8
    assert found["site.liquid_heat.share", "dc1"] == 0.8
    found = derive(*racks[:2], unit, loop("primary", thermal.COOLANT_HEAT, 8000.0))
    assert found["cooling_unit.power.per_heat", "cdu"] == 0.05
    assert ("cooling_unit.heat.share", "cdu") not in found
    assert ("site.liquid_heat.share", "dc1") not in found


def test_an_air_cooler_has_no_share_of_liquid() -> None:
    unit = Kind.COOLING_UNIT("cdu")
    found = derive(
        watts("a", 3000), watts("b", 3000), watts("c", 4000),
        (thermal.COOLING_UNIT_POWER, unit, 500.0, ()),
        (thermal.COOLING_UNIT_HEAT, unit, 5000.0, ()),
    )  # fmt: skip
    assert found["cooling_unit.power.per_heat", "cdu"] == 0.1
    assert ("cooling_unit.heat.share", "cdu") not in found
    assert ("site.liquid_heat.share", "dc1") not in found


@given(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e6)))
def test_a_site_is_the_sum_of_its_racks_or_absent(readings: dict[str, float]) -> None:
    found = derive(*(watts(pdu, value) for pdu, value in readings.items()))
    racks = [value for (name, *_), value in found.items() if name == "rack.power"]
    site = found.get(("site.power", "dc1"))
    assert (site is None) == (len(readings) < 3)
    assert site is None or site == sum(racks)
    assert facility.SITE_POWER_LIMIT.name not in {name for name, *_ in found}


def heat(unit: str, loop: str, value: float) -> Reading:
    return thermal.COOLANT_HEAT, Kind.COOLANT_LOOP(unit, loop), value, ()


def test_of_several_figures_of_one_pdu_the_measured_one_counts() -> None:
    for order in (1, -1):
        both = [watts("a", 700), watts("a", 650, "sum"), watts("a", 500, "estimated")][::order]
        found = derive(*both, watts("b", 600), settings=Capacity(pdus={"a": 900}))
        assert found["rack.power", "r1"] == 1300
        assert found["pdu.power.headroom", "a"] == 200


def cooled(settings: Capacity, *steps: tuple[float, list[Reading]]) -> dict[tuple[str, ...], float]:
    """What is derived in the end of readings that were written at several times."""
    store, topology = Store(), Topology()
    topology.observe("config", [*LINKS, Link(Kind.COOLING_UNIT("two"), Kind.RACK("r1"), 1.0)], 0.0)
    facility_ = Facility(settings, HOST, store, topology)
    for at, readings in steps:
        batch = Batch(HOST, at, {metric for metric, *_ in readings})
        for metric, entity, value, labels in readings:
            batch.add(metric, entity, value, *labels)
        store.write(batch, f"test{at}", 30.0)
        found = facility_.step(at + 1)
    return {
        (key.metric.name, *key.entity.key): value
        for key, value in zip(found.keys, found.values, strict=True)
    }


def test_the_share_of_liquid_is_absent_while_a_cooling_unit_is_away() -> None:
    """It would seem to have fallen by half."""
    racks = [watts("a", 20e3), watts("b", 20e3), watts("c", 60e3)]
    one, two = heat("cdu", "secondary/1", 40e3), heat("two", "secondary/1", 35e3)
    share = ("site.liquid_heat.share", "dc1")
    assert cooled(Capacity(), (NOW, [*racks, one, two]))[share] == 0.75
    assert share not in cooled(Capacity(), (NOW, [*racks, one]))
    gone = cooled(Capacity(), (NOW, [*racks, one, two]), (NOW + 60, [*racks, one]))
    assert share not in gone


def test_heat_of_a_unit_is_absent_while_one_of_its_loops_is() -> None:
    racks = [watts("a", 20e3), watts("b", 20e3), watts("c", 60e3)]
    loops = [heat("cdu", "secondary/1", 40e3), heat("cdu", "secondary/2", 30e3)]
    share = ("cooling_unit.heat.share", "cdu")
    both = cooled(Capacity(), (NOW, racks + loops))
    assert both[share] == 0.7
    assert share not in cooled(Capacity(), (NOW, racks + loops), (NOW + 60, racks + loops[:1]))
