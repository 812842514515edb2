"""The real pynvml in a real child, over a library of our own."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from collector.batch import Batch, Severity
from collector.child import Child, ChildError
from collector.entity import Kind
from plugins.gpu import nvml as plugin
from plugins.gpu.nvml import Nvml
from tests.fakes.nvml import uuid
from tests.plugins.gpu.gpus import HOST, MIB, of, poll, run, values


def test_every_reading_is_in_base_units(scenario):
    scenario.gpu(0, **{"reasons": 0x44, "field.269": 1_500_000_000, "utilization.gpu": 87})
    scenario.set("gpu.0.utilization.memory", 31)
    scenario.set("gpu.0.memory.used", 1000 * MIB)
    scenario.set("gpu.0.field.186.1", 467680)
    scenario.process(0, 4242, 900 * MIB, sm=80)
    assert values(poll(scenario)) == {
        "gpu.power": 68.92,
        "gpu.power.average": 68.57,
        "gpu.module.power": 467.68,
        "gpu.memory.power": 32.98,
        "gpu.power.limit": 700.0,
        ("gpu.power.limit.setting", "min"): 200.0,
        ("gpu.power.limit.setting", "max"): 700.0,
        ("gpu.power.limit.setting", "default"): 700.0,
        ("gpu.power.limit.setting", "requested"): 700.0,
        "gpu.energy": 1000.0,
        "gpu.temperature": 29.0,
        "gpu.memory.temperature": 37.0,
        "gpu.temperature.margin": 58.0,
        ("gpu.temperature.margin.limit", "shutdown"): -8.0,
        ("gpu.temperature.margin.limit", "slowdown"): -2.0,
        ("gpu.temperature.margin.limit", "memory"): 0.0,
        ("gpu.temperature.margin.limit", "gpu"): 0.0,
        ("gpu.clock", "graphics"): 345e6,
        ("gpu.clock", "sm"): 345e6,
        ("gpu.clock", "memory"): 2619e6,
        ("gpu.clock.limit", "graphics"): 1980e6,
        ("gpu.clock.limit", "sm"): 1980e6,
        ("gpu.clock.limit", "memory"): 2619e6,
        ("gpu.throttle.time", "sw_power_cap"): 7015.662857,
        ("gpu.throttle.time", "sync_boost"): 0.0,
        ("gpu.throttle.time", "sw_thermal_slowdown"): 1.5,
        ("gpu.throttle.time", "hw_thermal_slowdown"): 0.0,
        ("gpu.throttle.time", "hw_power_brake_slowdown"): 0.0,
        ("gpu.throttle.active", "gpu_idle"): 0.0,
        ("gpu.throttle.active", "applications_clocks_setting"): 0.0,
        ("gpu.throttle.active", "sw_power_cap"): 1.0,
        ("gpu.throttle.active", "hw_slowdown"): 0.0,
        ("gpu.throttle.active", "sync_boost"): 0.0,
        ("gpu.throttle.active", "sw_thermal_slowdown"): 0.0,
        ("gpu.throttle.active", "hw_thermal_slowdown"): 1.0,
        ("gpu.throttle.active", "hw_power_brake_slowdown"): 0.0,
        ("gpu.throttle.active", "display_clock_setting"): 0.0,
        "gpu.utilization": 0.87,
        "gpu.memory.utilization": 0.31,
        "gpu.memory.used": 1000.0 * MIB,
        "gpu.memory.reserved": 480.0 * MIB,
        "gpu.memory.limit": 81559.0 * MIB,
        "gpu.processes": 1.0,
        ("gpu.process.memory", "4242"): 900.0 * MIB,
        ("gpu.process.utilization", "4242"): 0.8,
        "gpu.query.time": pytest.approx(22 * 3e-6),
        (
            "gpu.info",
            "0",
            "NVIDIA H100 80GB HBM3",
            "1650000000000",
            "0000:19:00.0",
            "580.105.08",
            "96.00.99.00.01",
        ): 1.0,
    }


def test_links_and_count(scenario):
    scenario.gpu(0)
    scenario.gpu(1)
    scenario.process(1, 77, MIB)
    batch = poll(scenario)
    assert [(str(link.child), str(link.parent), link.share) for link in batch.links] == [
        (f"gpu:node1/{uuid(0)}", "host:node1", 1.0),
        (f"gpu:node1/{uuid(1)}", "host:node1", 1.0),
        ("process:node1/77", f"gpu:node1/{uuid(1)}", 1.0),
    ]
    assert of(batch, HOST) == {"host.gpus": 2.0, "host.gpus.expected": 2.0}


def test_what_is_not_supported_is_absent(scenario):
    scenario.gpu(0)
    for name in list(scenario.values):
        if name.startswith("gpu.0.") and name != "gpu.0.uuid":
            scenario.set(name, None)
    batch = poll(scenario)
    assert batch.errors == []
    info = ("gpu.info", "0", "", "", "", "580.105.08", "")
    assert values(batch) == {info: 1.0, "gpu.processes": 0.0}


def test_ada_limits_are_margins_and_older_ones_temperatures(scenario):
    scenario.gpu(0)
    scenario.gpu(1)
    for slot in (0, 1):  # Ada still answers the old call, with figures of no use
        scenario.set(f"gpu.{slot}.threshold.1", 89)
    for field in (193, 194, 195, 196):
        scenario.set(f"gpu.1.field.{field}", None)
    batch = poll(scenario)
    ada, ampere = values(batch, 0), values(batch, 1)
    assert ("gpu.temperature.limit", "slowdown") not in ada
    assert ampere["gpu.temperature.limit", "slowdown"] == 89.0
    assert not [key for key in ampere if key[0] == "gpu.temperature.margin.limit"]


@pytest.mark.parametrize(
    ("key", "value", "metric"),
    [
        ("field.82", 0, "gpu.memory.temperature"),  # boards without the sensor
        ("field.186", 0xFFFFFFFF, "gpu.power"),
        ("field.83", "error 21", "gpu.energy"),  # no data yet
        ("field.185", "error 2", "gpu.power.average"),  # an id that the driver does not know
    ],
)
def test_no_value_is_absent_and_no_failure(scenario, key, value, metric):
    scenario.gpu(0, **{key: value, "field.191": None, "energy_mj": None})
    batch = poll(scenario)
    assert metric not in values(batch)
    assert "gpu.temperature" in values(batch)
    assert batch.errors == []


def test_a_field_that_came_to_be_supported_is_found_when_mig_is_switched(scenario):
    scenario.gpu(0, **{"field.186": None})

    def support():
        scenario.set("gpu.0.field.186", 111000)
        scenario.write()

    def switch():
        scenario.set("gpu.0.mig", 1)
        scenario.write()

    before, still, after = run(scenario.write, support, switch)
    assert "gpu.power" not in values(before)
    assert "gpu.power" not in values(still), "asked again although it was not supported"
    assert values(after)["gpu.power"] == 111.0


def test_a_lost_gpu_is_a_failure_of_its_own_and_comes_back(scenario):
    scenario.gpu(0)
    scenario.gpu(1)

    def lose():
        scenario.set("gpu.0.error", 15)
        scenario.write()

    def find():
        scenario.set("gpu.0.error", None)
        scenario.write()

    whole, lost, found = run(scenario.write, lose, find)
    assert whole.errors == found.errors == []
    ((entity, error),) = lost.errors
    assert entity == Kind.GPU("node1", uuid(0))
    assert "GPU is lost" in str(error)
    assert "gpu.power" not in values(lost, 0)
    assert values(lost, 1).keys() == values(whole, 1).keys()
    assert values(found, 0).keys() == values(whole, 0).keys()
    counts = [of(batch, HOST) for batch in (whole, lost, found)]
    assert [count["host.gpus"] for count in counts] == [2.0, 1.0, 2.0]
    assert [count["host.gpus.expected"] for count in counts] == [2.0, 2.0, 2.0]
    (event,) = lost.events
    assert (event.name, event.entity, event.severity) == ("gpu.lost", entity, Severity.FATAL)
    assert whole.events == found.events == []


def test_a_gpu_lost_before_the_start_is_named_by_its_index(scenario):
    scenario.gpu(0)
    scenario.gpu(1, error=15)
    batch = poll(scenario)
    ((entity, error),) = batch.errors
    assert entity is None
    assert str(error) == "GPU with index 1: GPU is lost"
    assert "gpu.power" in values(batch, 0)


def test_one_failing_call_does_not_hide_the_others(scenario):
    scenario.gpu(0, **{"nvmlDeviceGetClockInfo.error": 999, "field.82": "error 999"})
    batch = poll(scenario)
    assert Counter(str(error) for _, error in batch.errors) == {
        "nvmlDeviceGetClockInfo: Unknown Error": 3,
        "field 82: Unknown Error": 1,
    }
    found = values(batch)
    assert found["gpu.power"] == 68.92
    assert found["gpu.temperature"] == 29.0
    assert "gpu.memory.temperature" not in found


def test_errors_are_not_remembered(scenario):
    scenario.gpu(0, **{"nvmlDeviceGetClockInfo.error": 999})

    def mend():
        scenario.set("gpu.0.nvmlDeviceGetClockInfo.error", None)
        scenario.write()

    bad, good = run(scenario.write, mend)
    assert len(bad.errors) == 3
    assert good.errors == []
    assert values(good)["gpu.clock", "sm"] == 345e6


def test_gpus_come_and_go(scenario):
    scenario.gpu(0)
    scenario.gpu(1)

    def remove():
        scenario.remove(0)
        scenario.write()

    def add():
        scenario.gpu(2)
        scenario.write()

    _, one, two = run(scenario.write, remove, add)
    assert of(one, HOST) == {"host.gpus": 1.0, "host.gpus.expected": 2.0}
    assert values(one, 0) == {}
    assert values(one, 1)["gpu.power"] == 68.92
    assert next(key for key in values(one, 1) if key[0] == "gpu.info")[1] == "0", "its new index"
    assert len(one.links) == 1
    assert values(two, 2)["gpu.power"] == 68.92
    assert one.errors == two.errors == []
    ((name, entity, *_),) = one.events
    assert (name, entity.key[-1]) == ("gpu.lost", uuid(0))
    assert two.events == []


def test_the_module_of_two_gpus_counts_once(scenario):
    for slot in (0, 1):
        scenario.gpu(slot, **{"field.186.1": 467680, "serial": "1650000000001"})
    batch = poll(scenario)
    assert values(batch, 0)["gpu.module.power"] == 467.68
    assert "gpu.module.power" not in values(batch, 1)
    assert [values(batch, slot)["gpu.power"] for slot in (0, 1)] == [68.92, 68.92]


def test_energy_follows_power_and_has_the_time_of_its_reading(scenario):
    scenario.gpu(0)
    t0 = time.time() - 100
    scenario.draw(0, 500.0, at=t0)
    batch = poll(scenario)
    position = next(i for i, key in enumerate(batch.keys) if key.metric.name == "gpu.energy")
    read_at = batch.times[position]
    # The counter is in mJ, the time in us: 1 mJ, and what 500 W do in 1 us.
    assert batch.values[position] == pytest.approx(scenario.joules(0, read_at), abs=0.002)
    assert values(batch)["gpu.power"] == 500.0


def test_a_time_that_cannot_be_is_not_taken(scenario):
    scenario.gpu(0, timestamp_us=3_000_000)
    batch = poll(scenario)
    assert "gpu.energy" in values(batch)
    timed = {batch.keys[position].metric.name for position in batch.times}
    assert timed.isdisjoint({"gpu.energy", "gpu.throttle.time"})


def test_energy_goes_on_over_a_reload_of_the_driver(scenario):
    scenario.gpu(0, **{"field.83": 5_000_000, "field.191": None})

    def advance():
        scenario.set("gpu.0.field.83", 6_000_000)
        scenario.write()

    def unload():
        scenario.set("gpu.0.nvmlDeviceGetMigMode.error", 9)
        scenario.write()

    def reload():
        scenario.set("gpu.0.nvmlDeviceGetMigMode.error", None)
        scenario.set("gpu.0.field.83", 250_000)
        scenario.write()

    first, second, gone, after = run(scenario.write, advance, unload, reload)
    assert values(first)["gpu.energy"] == 5000.0
    assert values(second)["gpu.energy"] == 6000.0
    assert "Driver Not Loaded" in str(gone)
    assert values(after)["gpu.energy"] == 6250.0


def test_processes(scenario):
    scenario.gpu(0)
    scenario.process(0, 100, 10 * MIB, sm=55)
    scenario.process(0, 200, None)  # memory is not told; it computed nothing
    scenario.process(0, 300, 30 * MIB, sm=4294967295)  # left behind by a race in the driver
    found = values(poll(scenario))
    assert found["gpu.processes"] == 3.0
    assert found["gpu.process.memory", "100"] == 10.0 * MIB
    assert ("gpu.process.memory", "200") not in found
    assert found["gpu.process.utilization", "100"] == 0.55
    assert found["gpu.process.utilization", "200"] == 0.0
    assert found.get(("gpu.process.utilization", "300"), 0.0) <= 1.0


def test_a_process_without_new_samples_was_idle(scenario):
    scenario.gpu(0)
    scenario.process(0, 100, MIB, sm=55)
    scenario.set("gpu.0.process.100.sampled_us", int((time.time() + 1) * 1e6))
    busy, idle = run(scenario.write, lambda: None)
    assert values(busy)["gpu.process.utilization", "100"] == 0.55
    assert values(idle)["gpu.process.utilization", "100"] == 0.0


def test_process_use_is_absent_under_mig(scenario):
    scenario.gpu(0, mig=1)
    scenario.process(0, 100, MIB, sm=55)
    found = values(poll(scenario))
    assert found["gpu.process.memory", "100"] == MIB
    assert ("gpu.process.utilization", "100") not in found


def test_process_list_of_535_43_is_read_by_the_older_call(scenario):
    scenario.gpu(0)
    scenario.set("abi_535", 1)
    for pid in (11, 12, 13):
        scenario.process(0, pid, pid * MIB)
    batch = poll(scenario)
    found = values(batch)
    assert found["gpu.processes"] == 3.0
    assert {k[1]: v for k, v in found.items() if k[0] == "gpu.process.memory"} == {
        "11": 11.0 * MIB,
        "12": 12.0 * MIB,
        "13": 13.0 * MIB,
    }
    assert batch.errors == []


def test_the_slow_tier_is_stated_again_with_its_time_before_it_is_stale(scenario):
    scenario.gpu(0)
    scenario.process(0, 100, MIB, sm=55)
    scenario.write()

    async def go():
        child = Child("nvml", {"slow_interval": 10.0}, HOST)
        now, batches = time.time(), []
        for after in (0.0, 1.0, 5.0):  # the timeout is 5 s
            batch = Batch(HOST, now + after, Nvml.metrics)
            await child.poll(batch)
            batches.append(batch)
            scenario.process(0, 200, MIB)  # seen only by the next slow read
            await asyncio.to_thread(scenario.write)
        await child.close()
        return now, batches

    now, (first, second, third) = asyncio.run(go())
    stated = [values(batch).keys() for batch in (first, second, third)]
    assert stated[0] == stated[2]
    assert "gpu.processes" in stated[0] - stated[1]
    assert "gpu.power" in stated[1]
    assert first.links == second.links == third.links != []
    assert ("gpu.process.memory", "200") not in stated[2]
    position = next(i for i, key in enumerate(third.keys) if key.metric.name == "gpu.processes")
    assert third.times[position] == now


OLD = {f"field.{id_}": None for id_ in (82, 83, 185, 186, 187, 188, 189, 190, 191, 192)} | {
    f"field.{id_}": None for id_ in (74, 75, 76, 193, 194, 195, 196, 269, 270, 271, "185.2")
}


@pytest.mark.parametrize(
    ("arch", "device", "average"),
    [
        (9, "0x233010DE", True),  # H100
        (7, "0x223610DE", True),  # A10, GA102
        (7, "0x20B010DE", False),  # A100, GA100
        (5, "0x1EB810DE", False),  # T4
    ],
)
def test_an_old_driver(scenario, old_library, monkeypatch, arch, device, average):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(old_library))
    scenario.gpu(0, **OLD, arch=arch, pci_device_id=device)
    scenario.set("gpu.0.violation.0", 2_000_000_000)
    scenario.set("gpu.0.violation.1", 3_000_000_000)
    scenario.set("gpu.0.reasons", 4)
    scenario.process(0, 100, MIB)
    batch = poll(scenario)
    found = values(batch)
    assert batch.errors == []
    assert found["gpu.power.average" if average else "gpu.power"] == 68.57
    assert ("gpu.power" if average else "gpu.power.average") not in found
    assert found["gpu.energy"] == 1000.0
    assert found["gpu.power.limit"] == 700.0
    assert found["gpu.throttle.time", "sw_power_cap"] == 2.0
    assert found["gpu.throttle.time", "thermal"] == 3.0
    assert found["gpu.throttle.active", "sw_power_cap"] == 1.0
    assert found["gpu.temperature"] == 29.0
    assert found["gpu.memory.limit"] == 81559.0 * MIB
    assert "gpu.memory.used" not in found, "the first version counts what is reserved as used"
    assert found["gpu.process.memory", "100"] == MIB


@pytest.mark.parametrize(
    ("code", "text"),
    [(9, "driver is not loaded"), (18, "version mismatch"), (999, "nvmlInit: Unknown Error")],
)
def test_a_driver_that_does_not_start_is_named(scenario, code, text):
    scenario.set("init_error", code)
    with pytest.raises(ChildError, match=text):
        poll(scenario)


def test_without_the_library_the_mend_is_named(scenario, monkeypatch, tmp_path):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    if plugin.LIBRARY.encode() in Path("/etc/ld.so.cache").read_bytes():
        pytest.skip("this host has the real library")
    with pytest.raises(ChildError, match=r"libnvidia-ml\.so\.1 is not found: install"):
        poll(scenario)


def test_detect(monkeypatch, tmp_path):
    cache = tmp_path / "ld.so.cache"
    cache.write_bytes(b"libc.so.6\0")
    monkeypatch.setattr(plugin, "_LIBRARY_CACHE", str(cache))
    monkeypatch.setattr(plugin, "_DRIVER_FILES", (str(tmp_path / "nvidiactl"),))
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert Nvml.detect() == []
    cache.write_bytes(b"libc.so.6\0libnvidia-ml.so.1\0")
    assert Nvml.detect() == [{}]
    cache.unlink()
    assert Nvml.detect() == []
    (tmp_path / "nvidiactl").touch()
    assert Nvml.detect() == [{}]
    (tmp_path / "nvidiactl").unlink()
    (tmp_path / "libnvidia-ml.so.1").touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/nowhere:{tmp_path}")
    assert Nvml.detect() == [{}]


def test_a_recording_replays(scenario, tmp_path):
    """What `w2t record` saves makes the same samples again."""
    scenario.gpu(0, **{"field.82": "error 999", "field.74": 7015662857123, "margin": -3})
    scenario.gpu(1, **{"field.186": None, "violation.0": 5, "threshold.1": 89})
    scenario.process(0, 4242, 900 * MIB, sm=80)
    scenario.process(1, 4243, None)
    health = {"fabric": "3 0 7 0xaa 1", "fabric_uuid": "12" * 16, "histogram": "9 1 0 0 0"}
    links = {"field.91": 2, "field.165": 1, "field.165.1": 0, "field.138.1": 10**10}
    counts = {"ecc.1.1.2": 4, "field.197": 7 * 10**9, "field.198": "12 u32", "pcie.gen": 5}
    scenario.gpu(2, **health, **links, **counts, temperature_max=40)
    scenario.set("gpu.2.gpm.2", 61.25)
    scenario.gpu(3, mig=1, mig_max=7)
    for key, value in {
        "uuid": "MIG-1", "name": "H100 MIG 2g.20gb", "gi": 3, "ci": 0, "attributes": "32 2 2 9856",
        "memory.total": 9856 * MIB, "memory.used": MIB, "process.4244.memory": MIB,
    }.items():  # fmt: skip
        scenario.set(f"gpu.3.mig.1.{key}", value)
    scenario.set("gpu.3.gi.3.gpm.2", 12.5)

    def pause():
        time.sleep(0.12)  # NVML's least distance of two samples

    config = tmp_path / "w2t.toml"
    config.write_text("[plugins.nvml]\n")
    _, original = run(scenario.write, pause)
    command = [sys.executable, "-m", "collector", "record", "nvml", str(tmp_path / "case")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([*command, f"--config.file={config}"], check=True, env=environment)
    (tmp_path / "case/input/scenario.conf").rename(scenario.path)
    _, replayed = run(lambda: None, pause)
    assert replayed.keys == original.keys
    assert replayed.values == original.values
    assert list(map(str, replayed.errors)) == list(map(str, original.errors))
    assert {"gpu.sm.utilization", "mig.sm.utilization", "nvlink.traffic", "gpu.fabric.info"} <= {
        key.metric.name for key in replayed.keys
    }
