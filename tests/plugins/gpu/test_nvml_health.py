"""Errors, PCIe, NVLinks and the fabric, and what drivers and boards leave out of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.entity import Kind
from plugins.gpu import _nvml_fields as fields
from tests.fakes.nvml import uuid
from tests.plugins.gpu.gpus import of, poll, run, values


def link(number: int, slot: int = 0):
    return Kind.NVLINK("node1", uuid(slot), str(number))


def states(found, metric):
    return {key[1]: value for key, value in found.items() if key[0] == metric}


@pytest.mark.parametrize(
    ("code", "state"),
    [
        *enumerate(
            ("none", "reset", "reboot", "drain_p2p", "drain_and_reset", "imex", "bus_reset")
        ),
        (77, "unknown"),
    ],
)
def test_the_recovery_action_is_a_state_set(scenario, code, state):
    scenario.gpu(0, **{"field.230": code})
    found = states(values(poll(scenario)), "gpu.recovery.action")
    assert found.pop(state) == 1.0
    assert set(found.values()) == {0.0}
    assert "none" in found or state == "none"


def test_bytes_of_pcie_in_32_bits_are_not_taken(scenario):
    """They wrap several times between two polls."""
    scenario.gpu(0, **{"field.197": 5_000_000_000, "field.198": "3000000000 u32"})
    found = values(poll(scenario))
    assert found["gpu.pcie.traffic", "transmit"] == 5e9
    assert ("gpu.pcie.traffic", "receive") not in found


def test_pcie_errors_by_type(scenario):
    scenario.gpu(0, **{"field.94": 7, "field.169": 1, "field.173": 9, "field.180": 2})
    found = values(poll(scenario))
    assert found["gpu.pcie.replays"] == 7.0
    assert states(found, "gpu.pcie.errors") == {
        "l0_to_recovery": 1.0,
        "correctable": 9.0,
        "fatal": 2.0,
    }


def test_errors_of_memory_by_place_and_type(scenario):
    scenario.gpu(0, **{"ecc.0.0.2": 5, "ecc.1.0.7": 1, "ecc.0.1.2": 12, "field.1": 1})
    found = values(poll(scenario))
    assert found["gpu.ecc.errors", "dram", "corrected"] == 5.0
    assert found["gpu.ecc.errors", "sram", "uncorrected"] == 1.0
    assert found["gpu.ecc.errors.lifetime", "dram", "corrected"] == 12.0
    assert found["gpu.ecc.enabled"] == 1.0
    assert len([key for key in found if key[0].startswith("gpu.ecc.errors")]) == 3


def test_a_counter_of_the_slow_tier_has_the_time_of_its_reading(scenario):
    """Else what it grew in 10 s would be taken for the growth of one."""
    scenario.gpu(0, **{"ecc.0.0.2": 5, "field.94": 7})
    first, second = run(scenario.write, lambda: None, config={"slow_interval": 100.0})
    for name in ("gpu.ecc.errors", "gpu.pcie.replays"):
        times = [
            batch.times[next(i for i, key in enumerate(batch.keys) if key.metric.name == name)]
            for batch in (first, second)
        ]
        assert times[0] == times[1] < second.at - 5.0


HOPPER = {
    "field.91": 2,
    "field.138.4294967295": 3072,
    "field.139.4294967295": 1024,
    "field.165": 1,
    "field.165.1": 0,
    "field.164": 26562,
    "field.138": 2048,
    "field.139": 1024,
    "field.161": 3,
    "field.162": 1,
    "field.163": 0,
}


def test_links_up_to_hopper(scenario):
    scenario.gpu(0, **HOPPER)
    batch = poll(scenario)
    assert batch.errors == []
    assert values(batch)["gpu.nvlink.traffic", "transmit"] == 3072 * 1024
    found = of(batch, link(0))
    assert states(found, "nvlink.state") == {
        "inactive": 0.0,
        "active": 1.0,
        "sleep": 0.0,
        "active_traffic_disabled": 0.0,
    }
    assert found["nvlink.speed"] == 26_562e6
    assert states(found, "nvlink.traffic") == {"transmit": 2048 * 1024.0, "receive": 1024 * 1024.0}
    assert states(found, "nvlink.errors") == {"replay": 3.0, "recovery": 1.0, "crc": 0.0}
    down = of(batch, link(1))
    assert states(down, "nvlink.state")["inactive"] == 1.0
    assert len(down) == 4, "a link that is down tells nothing else"
    links = {(str(up.child), up.parent.kind) for up in batch.links if up.child.kind is Kind.NVLINK}
    assert links == {(str(link(n)), Kind.GPU) for n in (0, 1)}


def test_links_from_blackwell_on(scenario):
    blackwell = {
        "field.91": 18,
        "field.161.3": "error 3",
        "field.165.3": 1,
        "field.201.3": 10,
        "field.202.3": 5_000_000_000,
        "field.203.3": 20,
        "field.204.3": 7_000_000_000,
        "field.206.3": 1,
        "field.211.3": 2,
        "field.213.3": 4,
        "field.214.3": 1,
        "field.215.3": 5,
        "field.219.3": 8,
        "field.220.3": 0x00F | 3 << 8,  # 3e-15
        "field.221.3": 0,
        "field.222.3": 0xFFF,  # as small as can be told
    }
    scenario.gpu(0, **blackwell)
    batch = poll(scenario)
    assert batch.errors == []
    found = of(batch, link(3))
    assert states(found, "nvlink.traffic") == {"transmit": 5e9, "receive": 7e9}
    assert states(found, "nvlink.packets") == {"transmit": 10.0, "receive": 20.0}
    assert states(found, "nvlink.errors") == {
        "malformed_packet": 1.0,
        "local_link_integrity": 2.0,
        "effective": 8.0,
        "symbol": 0.0,
    }
    assert states(found, "nvlink.recoveries") == {"successful": 4.0, "failed": 1.0}
    assert found["nvlink.bit_errors", "effective"] == pytest.approx(3e-15)
    assert found["nvlink.bit_errors", "symbol"] < 1e-250


def test_payload_goes_before_all_bytes(scenario):
    scenario.gpu(0, **HOPPER, **{"field.202": 99, "field.204": 99})
    found = of(poll(scenario), link(0))
    assert states(found, "nvlink.traffic") == {"transmit": 2048 * 1024.0, "receive": 1024 * 1024.0}


def test_an_old_driver_tells_the_state_of_links_by_a_call(scenario):
    scenario.gpu(0, **{"field.91": 2, "nvlink.0": 1, "nvlink.1": 0})
    batch = poll(scenario)
    assert of(batch, link(0))["nvlink.state", "active"] == 1.0
    assert of(batch, link(1))["nvlink.state", "active"] == 0.0


def test_a_board_without_links_has_none(scenario):
    scenario.gpu(0, **{"field.91": 0, "field.165": 1})
    batch = poll(scenario)
    assert not [key for key in batch.keys if key.entity.kind is Kind.NVLINK]


@given(st.integers(0, 0xFFFF))
def test_any_packed_ratio_is_finite(packed):
    ratio = fields.bit_error_ratio(packed)
    assert math.isfinite(ratio)
    assert 0.0 <= ratio <= 15.0


@pytest.mark.parametrize(("packed", "ratio"), [(0x20C, 2e-12), (0x000, 0.0), (0x100, 1.0)])
def test_a_packed_ratio(packed, ratio):
    assert fields.bit_error_ratio(packed) == pytest.approx(ratio)


class TestFabric:
    def test_none_is_no_fault(self, scenario):
        """GB200 outside of a fabric says state 0."""
        scenario.gpu(0, fabric="0 999 0 0xffff 2")
        batch = poll(scenario)
        assert batch.errors == []
        assert not [key for key in values(batch) if key[0].startswith("gpu.fabric")]

    def test_status_counts_only_when_it_is_complete(self, scenario):
        scenario.gpu(0, fabric="2 999 0 0x0 0")
        scenario.gpu(1, fabric="3 999 0 0x0 0")
        batch = poll(scenario)
        assert values(batch, 0)["gpu.fabric.state", "in_progress"] == 1.0
        assert states(values(batch, 0), "gpu.fabric.fault") == {}
        assert states(values(batch, 1), "gpu.fabric.fault") == {"registration": 1.0}

    def test_parts_of_health(self, scenario):
        # Bandwidth degraded, route well, no partition, manager there; wrong firmware.
        mask = 1 | 2 << 4 | 6 << 8 | 2 << 12 | 1 << 14
        scenario.gpu(0, fabric=f"3 0 7 {mask:#x} 3", fabric_uuid="0123456789abcdef" * 2)
        found = values(poll(scenario))
        assert states(found, "gpu.fabric.fault") == {
            "registration": 0.0,
            "degraded_bandwidth": 1.0,
            "route_unhealthy": 0.0,
            "incorrect_configuration": 1.0,
            "no_partition": 1.0,
            "manager_disconnected": 0.0,
        }
        assert found["gpu.fabric.health", "limited_capacity"] == 1.0
        assert found["gpu.fabric.info", "01234567-89ab-cdef-0123-456789abcdef", "7"] == 1.0

    def test_a_driver_that_knows_only_version_2(self, scenario):
        scenario.set("fabric_version", 2)
        scenario.gpu(0, fabric="3 0 0 0x2 1")
        batch = poll(scenario)
        assert batch.errors == []
        assert values(batch)["gpu.fabric.fault", "degraded_bandwidth"] == 0.0
        assert states(values(batch), "gpu.fabric.health") == {}, "told from version 3 on"


def test_the_highest_sensor_where_the_driver_knows_it(scenario):
    scenario.gpu(0, temperature_max=44)
    scenario.gpu(1)  # the argument is invalid to this one
    batch = poll(scenario)
    assert batch.errors == []
    assert values(batch, 0)["gpu.temperature.highest"] == 44.0
    assert "gpu.temperature.highest" not in values(batch, 1)
