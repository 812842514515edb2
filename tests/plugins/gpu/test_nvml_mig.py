"""GPM, and slices of GPUs."""

import time

import pytest

from collector.entity import Kind
from tests.fakes.nvml import uuid
from tests.plugins.gpu.gpus import MIB, of, poll, run, values

GPM = {
    "gpm.1": 90.0,
    "gpm.2": 85.5,
    "gpm.3": 40.25,
    "gpm.5": 62.0,
    "gpm.7": 62.0,
    "gpm.10": 33.0,
    "gpm.12": 5.0,
    "gpm.20": 100.0,
    "gpm.21": 200.0,
    "gpm.60": 3000.0,
    "gpm.61": 4000.0,
}


def pause():
    time.sleep(0.12)  # NVML's least distance of two samples


def mig(slot: int, gpu: int = 0):
    return Kind.MIG("node1", uuid(gpu), f"MIG-{slot}")


def divide(scenario, slot: int, instance: int, sms: int, slices: int, compute: int = 0) -> None:
    scenario.gpu(0, mig=1, mig_max=7)
    for key, value in {
        "uuid": f"MIG-{slot}",
        "name": f"NVIDIA H100 80GB HBM3 MIG {slices}g.{slices}0gb",
        "gi": instance,
        "ci": compute,
        "attributes": f"{sms} {slices} {slices} 9856",
        "memory.total": 9856 * MIB,
        "memory.reserved": 16 * MIB,
        "memory.used": 100 * MIB,
        "ecc.1.0.7": slot,
    }.items():
        scenario.set(f"gpu.0.mig.{slot}.{key}", value)


def test_gpm_in_base_units(scenario):
    scenario.gpu(0, **GPM)
    first, second = run(scenario.write, pause)
    assert "gpu.sm.utilization" not in values(first), "one sample says nothing"
    found = values(second)
    assert {key: value for key, value in found.items() if key not in values(first)} == {
        "gpu.graphics.utilization": 0.9,
        "gpu.sm.utilization": 0.855,
        "gpu.sm.occupancy": 0.4025,
        "gpu.tensor.utilization": 0.62,
        "gpu.dram.utilization": 0.33,
        ("gpu.pipe.utilization", "tensor_hmma"): 0.62,
        ("gpu.pipe.utilization", "fp32"): 0.05,
        ("gpu.pcie.throughput", "transmit"): 100.0 * MIB,
        ("gpu.pcie.throughput", "receive"): 200.0 * MIB,
        ("gpu.nvlink.throughput", "receive"): 3000.0 * MIB,
        ("gpu.nvlink.throughput", "transmit"): 4000.0 * MIB,
    }
    assert first.errors == second.errors == []


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "4000"])
def test_gpm_that_cannot_be_is_absent(scenario, value):
    scenario.gpu(0, **(GPM | {"gpm.2": value}))
    _, second = run(scenario.write, pause)
    assert "gpu.sm.utilization" not in values(second)
    assert values(second)["gpu.sm.occupancy"] == 0.4025


def test_gpm_slightly_above_all_is_all(scenario):
    scenario.gpu(0, **(GPM | {"gpm.2": 100.4}))
    _, second = run(scenario.write, pause)
    assert values(second)["gpu.sm.utilization"] == 1.0


def test_samples_are_not_taken_too_close_to_each_other(scenario):
    """The library fails where they are."""
    scenario.gpu(0, **GPM)
    batches = run(scenario.write, *[lambda: None] * 5)
    assert [batch.errors for batch in batches] == [[]] * 6


def test_gpm_can_be_switched_off(scenario):
    scenario.gpu(0, **GPM)
    _, second = run(scenario.write, pause, config={"gpm": False})
    assert "gpu.sm.utilization" not in values(second)


def test_gpm_starts_anew_when_a_sample_fails(scenario):
    scenario.gpu(0, **GPM)

    def fail():
        pause()
        scenario.set("gpu.0.nvmlGpmSampleGet.error", 999)
        scenario.write()

    def mend():
        pause()
        scenario.set("gpu.0.nvmlGpmSampleGet.error", None)
        scenario.write()

    _, failed, first, second = run(scenario.write, fail, mend, pause)
    assert [str(error) for _, error in failed.errors] == ["nvmlGpmSampleGet: Unknown Error"]
    assert "gpu.sm.utilization" not in values(first)
    assert values(second)["gpu.sm.utilization"] == 0.855


def test_slices_have_memory_processes_and_errors_of_their_own(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    divide(scenario, 3, instance=2, sms=60, slices=3)  # slots 1 and 2 are empty
    scenario.set("gpu.0.mig.3.process.77.memory", 50 * MIB)
    batch = poll(scenario)
    assert batch.errors == []
    assert of(batch, mig(3)) == {
        ("mig.info", "3g.30gb", "2", "0"): 1.0,
        "mig.multiprocessors": 60.0,
        "mig.memory.used": 100.0 * MIB,
        "mig.memory.reserved": 16.0 * MIB,
        "mig.memory.limit": 9856.0 * MIB,
        ("mig.ecc.errors", "sram", "uncorrected"): 3.0,
        "mig.processes": 1.0,
        ("mig.process.memory", "77"): 50.0 * MIB,
    }
    assert of(batch, mig(0))["mig.processes"] == 0.0
    assert values(batch)["gpu.power"] == 68.92, "power is the whole GPU's"
    assert not [key for key in batch.keys if key.entity.key[-1] in ("MIG-1", "MIG-2")]


def test_a_slice_is_linked_by_its_compute_slices_and_processes_to_it(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    divide(scenario, 1, instance=2, sms=60, slices=3)
    scenario.process(0, 77, 50 * MIB)  # the GPU lists those of its slices as well
    scenario.set("gpu.0.mig.1.process.77.memory", 50 * MIB)
    batch = poll(scenario)
    assert {(str(link.child), str(link.parent)): link.share for link in batch.links} == {
        (f"gpu:node1/{uuid(0)}", "host:node1"): 1.0,
        (f"mig:node1/{uuid(0)}/MIG-0", f"gpu:node1/{uuid(0)}"): pytest.approx(1 / 7),
        (f"mig:node1/{uuid(0)}/MIG-1", f"gpu:node1/{uuid(0)}"): pytest.approx(3 / 7),
        ("process:node1/77", f"mig:node1/{uuid(0)}/MIG-1"): 1.0,
    }
    assert "gpu.processes" not in values(batch)


def test_gpm_of_a_slice_is_that_of_its_gpu_instance(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    divide(scenario, 1, instance=2, sms=30, slices=1)
    divide(scenario, 2, instance=2, sms=30, slices=2, compute=1)
    scenario.set("gpu.0.gi.1.gpm.2", 50)
    scenario.set("gpu.0.gi.2.gpm.2", 75)
    _, second = run(scenario.write, pause)
    assert second.errors == []
    assert of(second, mig(0))["mig.sm.utilization"] == 0.5
    for slot in (1, 2):  # two compute instances in one GPU instance
        assert "mig.sm.utilization" not in of(second, mig(slot))
    assert "gpu.sm.utilization" not in values(second)


def test_slices_come_and_go(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    scenario.set("gpu.0.gi.1.gpm.2", 50)
    scenario.set("gpu.0.gi.5.gpm.2", 60)

    def change():
        pause()
        for key in [key for key in scenario.values if key.startswith("gpu.0.mig.0.")]:
            scenario.set(key, None)
        divide(scenario, 4, instance=5, sms=16, slices=1)
        scenario.write()

    def join():
        scenario.set("gpu.0.mig", 0)
        scenario.write()

    _, second, third, whole = run(scenario.write, change, pause, join)
    assert of(second, mig(0)) == {}
    assert of(second, mig(4))["mig.memory.limit"] == 9856.0 * MIB
    assert of(third, mig(4))["mig.sm.utilization"] == 0.6
    assert of(whole, mig(4)) == {}
    assert values(whole)["gpu.processes"] == 0.0
    assert second.errors == third.errors == whole.errors == []


def test_a_slice_that_fails_does_not_hide_the_others(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    divide(scenario, 1, instance=2, sms=16, slices=1)
    scenario.set("gpu.0.mig.0.nvmlDeviceGetMemoryInfo_v2.error", 999)
    batch = poll(scenario)
    ((entity, error),) = batch.errors
    assert entity == mig(0)
    assert "nvmlDeviceGetMemoryInfo" in str(error)
    assert of(batch, mig(1))["mig.memory.used"] == 100.0 * MIB


def test_a_slice_that_ends_while_it_is_listed_is_no_lost_gpu(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    divide(scenario, 1, instance=2, sms=16, slices=1)
    scenario.set("gpu.0.mig.0.nvmlDeviceGetUUID.error", 6)
    batch = poll(scenario)
    assert batch.errors == []
    assert batch.events == []
    assert of(batch, mig(0)) == {}
    assert of(batch, mig(1))["mig.memory.used"] == 100.0 * MIB
    assert values(batch)["gpu.power"] == 68.92


def test_a_slice_that_ends_between_two_lists_is_no_lost_gpu(scenario):
    divide(scenario, 0, instance=1, sms=16, slices=1)
    divide(scenario, 1, instance=2, sms=16, slices=1)

    def end():
        for key in [key for key in scenario.values if key.startswith("gpu.0.mig.0.")]:
            scenario.set(key, None)
        scenario.write()

    _, second, third = run(scenario.write, end, lambda: None, config={"slow_interval": 100.0})
    assert second.errors == third.errors == []
    assert second.events == third.events == []
    assert of(third, mig(0)) == {}
    assert of(third, mig(1))["mig.memory.used"] == 100.0 * MIB
    assert values(third)["gpu.power"] == 68.92
