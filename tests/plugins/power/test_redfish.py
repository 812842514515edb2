"""Recorded services of real devices and of DMTF's mockups."""

from __future__ import annotations

import asyncio
import math

import pytest

from collector.catalog import power
from collector.entity import Kind
from plugins.power.redfish.binding import bounds
from tests.data import data
from tests.fakes.redfish import Service, tree
from tests.plugins.power.redfish import read, values

TREES = (
    "dmtf/public-cooling-unit",
    "dmtf/public-pdu",
    "dmtf/public-power-shelf",
    "dmtf/public-telemetry",
    "lambdalabs/gathergpus_happypath",
    "lambdalabs/gb300_happypath",
    "lambdalabs/gpu_info_unknown_multi",
    "lambdalabs/manager_happypath",
    "lambdalabs/powershelf_delta",
    "lambdalabs/powershelf_none",
    "spyroot/dell_idrac",
    "spyroot/gb300_supermicro",
    "spyroot/generic_1u",
    "spyroot/supermicro_x10",
)
GB300 = "spyroot/gb300_supermicro"


def service(name: str) -> Service:
    return Service(tree(data(f"redfish/{name}")))


def found(name: str, polls: int = 1, **config: object) -> dict[tuple[str, ...], float]:
    return values(asyncio.run(read(service(name), polls, **config)))


@pytest.mark.parametrize("name", TREES)
def test_every_recorded_service_gives_possible_values_alone(name: str) -> None:
    batch = asyncio.run(read(service(name), 2))
    assert batch.errors == []
    assert len(set(batch.keys)) == len(batch.keys)
    for key, value in zip(batch.keys, batch.values, strict=True):
        assert math.isfinite(value)
        low, high = bounds(key.metric) if key.metric.unit else (0, 1)
        assert low <= value <= high or key.metric is power.SOURCE_CLOCK_OFFSET, key


def test_a_gpu_of_a_gb300_is_as_warm_as_its_sensor_says_and_not_as_its_headroom() -> None:
    plain = service(GB300)
    plain.tree = {path: told for path, told in plain.tree.items() if "/Telemetry" not in path}
    by_sensor = values(asyncio.run(read(plain)))
    first = "sensor.temperature", "node", "HGX_GPU_0/HGX_GPU_0_TEMP_0"
    assert round(by_sensor[first], 2) == 32.97
    once = found(GB300)  # of the sensor, or of the report, which was made some seconds apart
    assert round(once[first], 2) in (32.97, 32.94)
    for gpu in range(4):
        id_ = f"HGX_GPU_{gpu}/HGX_GPU_{gpu}_TEMP"
        warmth = once["sensor.temperature", "node", f"{id_}_0"]
        headroom = once["sensor.temperature.headroom", "node", f"{id_}_1"]
        assert warmth + headroom == pytest.approx(87.0, abs=0.1)
        assert ("sensor.temperature", "node", f"{id_}_1") not in once


def test_headroom_is_told_by_its_thresholds_where_nothing_else_tells() -> None:
    """The CPU's TempLimit of a GB300 has no ReadingBasis."""
    once = found(GB300)
    id_ = "HGX_CPU_0/ProcessorModule_0_CPU_0_TempLimit_0"
    assert once["sensor.temperature.headroom", "node", id_] == pytest.approx(51.3, abs=0.1)
    assert ("sensor.temperature", "node", id_) not in once


def test_a_limit_in_watts_is_no_power() -> None:
    names = [key[2] for key in found(GB300) if key[0] == "sensor.power"]
    assert "HGX_CPU_0/ProcessorModule_0_CPU_0_Power_0" in names
    assert not [name for name in names if "EDP" in name]


def test_a_gb300_draws_what_its_hot_swap_controllers_say() -> None:
    once = found(GB300)
    drawn = {key: value for key, value in once.items() if key[0] == "host.input_power"}
    assert list(drawn) == [("host.input_power", "node", "redfish")]
    assert next(iter(drawn.values())) == pytest.approx(1355, rel=0.01)


def test_a_cycle_of_a_gb300_is_one_request_for_each_report() -> None:
    gb300 = service(GB300)
    batch = asyncio.run(read(gb300, 3))
    assert sorted(gb300.gets) == [
        "/redfish/v1/TelemetryService/MetricReports/HGX_PlatformEnvironmentMetrics_0",
        "/redfish/v1/TelemetryService/MetricReports/PlatformEnvironmentMetrics_0",
    ]
    assert len(batch.keys) > 100


def test_fans_of_a_gb300_turn_by_their_sensors_and_their_duty_is_no_speed() -> None:
    once = found(GB300)
    assert once["fan.speed", "node", "Chassis_0/Chassis_0_FAN_1_FRONT"] > 10_000
    assert once["fan.duty", "node", "Chassis_0/Chassis_0_FAN_1_PWM"] == pytest.approx(0.4)
    assert ("fan.speed", "node", "Chassis_0/Chassis_0_FAN_1_PWM") not in once


def test_leak_detectors_tell_a_state_and_their_volts_are_no_temperature() -> None:
    once = found(GB300)
    name = "Chassis_0_LeakDetector_0_Manifold"
    assert once["leak_detector.state", "node", name, "ok"] == 1
    assert once["leak_detector.state", "node", name, "critical"] == 0
    assert ("sensor.temperature", "node", f"Chassis_0/{name}") not in once


def test_an_empty_bay_has_no_temperature() -> None:
    once = found(GB300, 2)
    assert not [key for key in once if "SSD" in key[2]]


def test_dmtfs_cooling_unit() -> None:
    once = found("dmtf/public-cooling-unit")
    for loop, rise, claimed in (("primary/1", 10.0, 25480.0), ("secondary/1", 18.0, 25310.0)):
        assert once["coolant_loop.flow", "u", loop] == pytest.approx(42e-3 / 60)
        assert once["coolant_loop.temperature.rise", "u", loop] == rise
        assert once["coolant_loop.heat.claimed", "u", loop] == claimed
        heat = 42e-3 / 60 * 992.3 * 4179 * rise
        assert once["coolant_loop.heat", "u", loop] == pytest.approx(heat)
    assert once["coolant_loop.supply.pressure.pascals", "u", "primary/1"] == 827_000
    assert once["pump.duty", "u", "1"] == 0.385
    assert once["pump.state", "u", "2", "critical"] == 1
    assert once["pump.service_time", "u", "1"] == 3571 * 3600
    assert once["cooling_unit.state", "u", "warning"] == 1
    assert once["leak_detector.state", "u", "Moisture", "ok"] == 1
    assert once["cooling_unit.humidity", "u"] == 0.26
    assert not [key for key in once if key[0].startswith("sensor.")]


def test_dmtfs_pdu() -> None:
    once = found("dmtf/public-pdu")
    assert once["pdu.power", "u", "measured"] == 6438
    assert once["pdu.power_factor", "u"] == 0.93
    assert once["pdu.energy", "u"] == 56438 * 3.6e6
    assert once["inlet.frequency", "u", "AC1"] == 60.1
    assert once["inlet.current.limit", "u", "AC1"] == 40
    assert once["phase.current", "u", "AC1.L3"] == 6.91
    assert once["phase.voltage", "u", "AC1.L1"] == 117.8
    assert once["phase.power", "u", "AC1.L2"] == 231.5
    assert once["breaker.current", "u", "A"] == 5.19
    assert once["outlet.power", "u", "A1"] == 197.4
    assert once["outlet.energy", "u", "A1"] == 36166 * 3.6e6
    assert once["environment.humidity", "u", "Humidity"] > 0
    assert len([key for key in once if key[0] == "outlet.power" and key[1] == "u"]) > 5


def test_a_transfer_switch_beside_the_pdu_is_a_unit_of_its_own() -> None:
    once = found("dmtf/public-pdu")
    assert ("pdu.power", "u/TransferSwitches/1", "measured") in once


def test_dmtfs_power_shelf() -> None:
    once = found("dmtf/public-power-shelf")
    assert once["pdu.power", "u", "measured"] == 6438
    assert ("inlet.power", "u", "AC1") in once


def test_a_power_shelf_of_delta() -> None:
    once = found("lambdalabs/powershelf_delta")
    assert once["pdu.power", "u", "measured"] == 1749
    assert once["pdu.output.power", "u"] == 1674
    assert once["pdu.efficiency", "u"] == pytest.approx(0.9584)
    inputs = [value for key, value in once.items() if key[0] == "power_supply.input.power"]
    outputs = [value for key, value in once.items() if key[0] == "power_supply.output.power"]
    assert len(inputs) == len(outputs) == 6
    assert sum(inputs) == pytest.approx(1749, rel=0.02)
    assert sum(outputs) == pytest.approx(1674, rel=0.02)
    assert once["power_supply.input.power", "u", "1"] == 341
    assert once["power_supply.temperature", "u", "1", "intake"] == 26
    assert once["power_supply.power.limit", "u", "1"] == 5504
    assert once["power_supply.state", "u", "1", "enabled"] == 1
    assert once["fan.speed", "u", "1/fan1"] == 7200
    # Its energy_in is a gauge in joules, and of its kWh counter the scale is not sure.
    assert not [key for key in once if "energy" in key[0]]


def test_a_power_shelf_is_read_with_one_request() -> None:
    delta = service("lambdalabs/powershelf_delta")
    asyncio.run(read(delta, 2))
    assert delta.gets == ["/redfish/v1/Chassis/PowerShelf_0/Sensors?$expand=.($levels=1)"]


def test_what_a_server_draws_is_not_what_its_supplies_give() -> None:
    once = found("spyroot/generic_1u", host="")
    assert once["host.input_power", "web483", "redfish"] == 344
    assert once["power_supply.output.power", "web483", "0"] == 325
    assert once["host.inlet.temperature", "web483", "Chassis Intake Temp"] == 25
    assert once["sensor.temperature", "web483", "1U/CPU1Temp"] == 37
    assert once["fan.duty", "web483", "1U/CPUFan1"] == 0.8


def test_a_temperature_that_sensors_have_is_not_told_twice() -> None:
    names = [key[2] for key in found("spyroot/generic_1u") if key[0] == "sensor.temperature"]
    assert sorted(names) == ["1U/AmbientTemp", "1U/CPU1Temp"]


def test_absent_sensors_that_read_zero_are_absent() -> None:
    """A Supermicro X10 that is off: 0 W, 0 degrees, all `Absent`."""
    once = found("spyroot/supermicro_x10")
    assert [key for key in once if key[0] != "source.clock.offset"] == []


def test_the_inlet_of_a_dell_is_told_by_its_name() -> None:
    assert found("spyroot/dell_idrac")["host.inlet.temperature", "node", "InletTemp"] == 23


def test_parts_are_linked_to_what_they_are_a_part_of() -> None:
    batch = asyncio.run(read(service("dmtf/public-pdu")))
    parents = {link.child: link.parent for link in batch.links}
    assert parents[Kind.OUTLET("u", "A1")] == Kind.PDU("u")
    assert parents[Kind.INLET("u", "AC1")] == Kind.PDU("u")
