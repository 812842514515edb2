"""The basis of a host's energy: outlets, its own meter, its parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.attribution.curve import Curve
from collector.catalog import attribution as derived
from collector.catalog import gpu, power
from collector.entity import Entity, Kind
from collector.metric import Metric
from tests.fakes.rack import HOST, Rack, device, outlet

SOCKET = Kind.CPU("node1", "socket-0")


def read(rack: Rack, at: float, *readings: tuple[Any, ...], lifetime: float = 30.0) -> None:
    for metric, entity, value, *labels in readings:
        rack.read(at, metric, entity, value, *labels, lifetime=lifetime)


def energy(rack: Rack) -> dict[str, float]:
    """Joules of the host by basis."""
    return {
        labels[0]: joules
        for (host, labels), joules in rack.totals[derived.HOST_ENERGY].items()
        if host == HOST
    }


def card(at: float, name: str = "g0", watts: float = 100.0) -> tuple[Metric, Entity, float]:
    return gpu.ENERGY, device(name), 1e6 + watts * at


def own(watts: float, meter: str = "redfish") -> tuple[Metric, Entity, float, str]:
    return power.HOST_INPUT_POWER, HOST, watts, meter


class TestOwnMeter:
    def test_it_comes_before_the_parts_and_all_of_it_is_handed_down(self) -> None:
        rack = Rack()
        for at in range(11):
            read(rack, at, own(500), card(at, "g0", 100), card(at, "g1", 300))
            rack.step(at)
        assert energy(rack) == {"bmc": pytest.approx(5000)}
        assert rack.value(derived.HOST_POWER, HOST, "bmc") == pytest.approx(500)
        given = rack.totals[derived.GPU_ENERGY_ATTRIBUTED]
        assert given[device("g0"), ()] == pytest.approx(1250)
        assert given[device("g1"), ()] == pytest.approx(3750)

    def test_meters_of_one_host_are_never_added(self) -> None:
        rack = Rack()
        for at in range(11):
            read(rack, at, own(450, "hwmon"), own(480, "dcmi"), own(500, "redfish"))
            rack.step(at)
        assert energy(rack) == {"bmc": pytest.approx(5000)}

    def test_the_next_one_takes_over_when_the_best_is_stale(self) -> None:
        rack = Rack()
        for at in range(101):
            read(rack, at, own(480, "dcmi"))
            if at <= 40:
                read(rack, at, own(500), lifetime=10)
            rack.step(at)
        # Nothing is known of redfish after 40 s, so from there on it is dcmi.
        assert energy(rack) == {"bmc": pytest.approx(40 * 500 + 60 * 480)}

    def test_outlets_come_before_it_and_it_takes_over_from_them(self) -> None:
        rack = Rack()
        rack.link(HOST, outlet("1"))
        for at in range(101):
            read(rack, at, own(500), card(at))
            if at <= 40:
                read(rack, at, (power.OUTLET_POWER, outlet("1"), 530.0), lifetime=10)
            rack.step(at)
        found = energy(rack)
        assert found == {"pdu": pytest.approx(40 * 530), "bmc": pytest.approx(60 * 500)}
        assert rack.total(derived.GPU_ENERGY_ATTRIBUTED) == pytest.approx(sum(found.values()))

    def test_parts_take_over_from_it_and_it_comes_back(self) -> None:
        rack = Rack()
        for at in range(301):
            read(rack, at, card(at))
            if not 100 < at <= 200:
                read(rack, at, own(500), lifetime=10)
            rack.step(at)
        # What was drawn between the last reading and the first one after the gap is not known.
        assert energy(rack) == {
            "bmc": pytest.approx(100 * 500 + 99 * 500), "components": pytest.approx(101 * 100),
        }  # fmt: skip

    def test_one_that_is_read_rarely_loses_nothing(self) -> None:
        rack = Rack()
        for at in range(601):
            read(rack, at, card(at))
            if at % 120 == 0:
                read(rack, at, own(500), lifetime=365)
            rack.step(at)
        assert energy(rack) == {"bmc": pytest.approx(600 * 500)}

    def test_one_that_is_read_rarely_does_not_hold_up_what_outlets_tell(self) -> None:
        rack, other = Rack(), Kind.HOST("node2")
        rack.link(other, outlet("1"))
        for at in range(100):
            read(rack, at, (power.OUTLET_POWER, outlet("1"), 100.0))
            if at % 120 == 0:
                read(rack, at, (power.HOST_INPUT_POWER, other, 90.0, "redfish"), lifetime=365)
            rack.step(at)
        assert rack.value(derived.HOST_ENERGY, other, "pdu") == pytest.approx(9900)

    def test_a_gpu_that_cannot_be_read_is_not_paid_for_by_the_others(self) -> None:
        rack = Rack()
        for at in range(101):
            read(rack, at, own(500), card(at, "g0"))
            if at <= 40:
                read(rack, at, card(at, "g1"), lifetime=5)
            rack.step(at)
        given = rack.totals[derived.GPU_ENERGY_ATTRIBUTED]
        assert given[device("g0"), ()] == pytest.approx(25_000)
        assert rack.value(derived.HOST_ENERGY_UNATTRIBUTED, HOST) == pytest.approx(15_000, abs=1500)


class TestParts:
    def grace(self, **domains: float) -> float:
        rack = Rack()
        for at in range(11):
            read(rack, at, card(at, "g0", 450))
            for domain, watts in domains.items():
                read(rack, at, (power.CPU_POWER, SOCKET, watts, domain))
            rack.step(at)
        (joules,) = energy(rack).values()
        return joules

    def test_of_a_grace_socket_nothing_is_counted_twice(self) -> None:
        found = self.grace(module=731, grace=182, cpu=131, sysio=38)
        assert found == pytest.approx(10 * (182 + 450))

    def test_without_the_whole_of_a_socket_its_parts_are_added(self) -> None:
        assert self.grace(module=731, cpu=131, sysio=38) == pytest.approx(10 * (131 + 38 + 450))
        assert self.grace(module=731, cpu=131) == pytest.approx(10 * (131 + 450))

    def test_sockets_are_added(self) -> None:
        rack = Rack()
        for at in range(11):
            for number in "01":
                cpu = Kind.CPU("node1", f"socket-{number}")
                read(rack, at, (power.CPU_POWER, cpu, 180.0, "grace"))
            rack.step(at)
        assert energy(rack) == {"components": pytest.approx(3600)}

    def test_of_rapl_only_packages_and_their_memory(self) -> None:
        rack = Rack()
        for at in range(11):
            for name, domain in (
                ("psys", "psys"), ("package-0", "package"), ("package-0/core", "core"),
                ("package-0/uncore", "uncore"), ("package-0/dram", "dram"),
            ):  # fmt: skip
                read(rack, at, (power.CPU_ENERGY, Kind.CPU("node1", name), 100.0 * at, domain))
            rack.step(at)
        assert energy(rack) == {"components": pytest.approx(2000)}

    def test_of_a_gpu_the_best_meter_counts_alone(self) -> None:
        for metrics, watts in (
            ((gpu.POWER_AVERAGE,), 90),
            ((gpu.POWER_AVERAGE, gpu.POWER), 100),
            ((gpu.POWER_AVERAGE, gpu.POWER, gpu.ENERGY), 110),
        ):
            rack = Rack()
            for at in range(11):
                values = {gpu.POWER_AVERAGE: 90.0, gpu.POWER: 100.0, gpu.ENERGY: 5 + 110.0 * at}
                read(rack, at, *((metric, device("g0"), values[metric]) for metric in metrics))
                rack.step(at)
            assert energy(rack) == {"components": pytest.approx(10 * watts)}


METER = st.sampled_from(["outlet", "redfish", "dcmi", "hwmon", "grace", "rapl", "gpu"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.sets(METER)), min_size=1, max_size=8),
    st.sampled_from([set(), {"redfish"}]),
)
def test_whatever_comes_and_goes_energy_is_counted_once(
    spells: list[Any], always: set[str]
) -> None:
    """Every meter says 100 W; `Rack.step` checks that nothing is lost or made on the way down."""
    rack, at = Rack(), 0
    rack.link(HOST, outlet("1"))
    for seconds, there in spells:
        for _ in range(seconds):
            at += 1
            for meter in there | always:
                if meter == "outlet":
                    read(rack, at, (power.OUTLET_POWER, outlet("1"), 100.0), lifetime=5)
                elif meter == "grace":
                    read(rack, at, (power.CPU_POWER, SOCKET, 40.0, "grace"), lifetime=5)
                    read(rack, at, (power.CPU_POWER, SOCKET, 100.0, "module"), lifetime=5)
                elif meter == "rapl":
                    key = Kind.CPU("node1", "package-0")
                    read(rack, at, (power.CPU_ENERGY, key, 20.0 * at, "package"), lifetime=5)
                elif meter == "gpu":
                    read(rack, at, card(at, "g0", 40), lifetime=5)
                else:
                    read(rack, at, own(100, meter), lifetime=5)
            rack.step(at)
    found = sum(energy(rack).values()) if rack.totals[derived.HOST_ENERGY] else 0.0
    # A counter tells, when it comes back, what was drawn while it was away: 60 W of the parts.
    assert found <= 160 * at + 1e-6
    if always:  # all but what was drawn before the first reading of outlets that came
        assert 100 * (at - 1) - 100 * 6 * len(spells) <= found <= 100 * at + 1e-6


class TestTakingOver:
    """A counter that is read by another source from now on, NVML's by DCGM's for one."""

    def total(self, *readings: tuple[float, float, float]) -> float:
        curve = Curve(integrate=False)
        for at, value, source in readings:
            curve.feed(at, value, source=source)
        return curve.at(1e9)

    def test_it_goes_on_where_it_is_the_same_counter(self) -> None:
        assert self.total((0, 5000, 0), (10, 6000, 0), (40, 9000, -1), (50, 10000, 0)) == 5000

    @pytest.mark.parametrize("value", [100.0, 5e6])
    def test_it_begins_anew_where_that_cannot_be(self, value: float) -> None:
        readings = (0, 5000, 0), (10, 6000, 0), (20, value, -1), (30, value + 1000, -1)
        assert self.total(*readings) == 2000
