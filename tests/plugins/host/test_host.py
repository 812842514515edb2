import os
import shutil
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch
from collector.catalog import host
from plugins.host.host import Host, _count
from tests.fakes.tree import HOST, node_exporter, node_exporter_says, plant, read, values

USER_HZ = os.sysconf("SC_CLK_TCK")

PROC = {
    "proc/stat": "cpu  100 1 50 9000 7 2 3 4 90 1\ncpu0 100 1 50 9000 7 2 3 4 90 1\n"
    "intr 5 0 0\nctxt 12\nbtime 1418183276\nprocs_running 3\nprocs_blocked 1\n",
    "proc/loadavg": "0.21 0.37 0.39 1/719 19737\n",
    "proc/uptime": "350735.47 234388.90\n",
    "proc/meminfo": "MemTotal: 1000 kB\nMemFree: 10 kB\nSwapTotal: 0 kB",
    "proc/vmstat": "pgfault 100\npgmajfault 7\n",
}


def poll(root):
    return read(Host(root=root))


def test_agrees_with_node_exporter(tmp_path):
    """Not published by us: each processor apart, its frequency and flags, the other pages of
    meminfo and vmstat (pgpgin, pgpgout, pswpin, pswpout), interrupts, softirqs. Not by it: the time
    for which heat slowed processors down, the hung tasks."""
    batch = poll(node_exporter(tmp_path, "proc", "sys/devices/system/cpu"))
    assert batch.errors == []

    seconds = node_exporter_says(r'node_cpu_seconds_total\{cpu="(\d+)",mode="(\w+)"\}')
    for mode in ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"):
        each = [value for (_, of), value in seconds.items() if of == mode]
        assert len(each) == 8
        # The kernel cuts each processor's time to whole ticks before and after adding up.
        assert values(batch, host.CPU_TIME)[(mode,)] * USER_HZ / 100 == pytest.approx(
            sum(each), abs=8 / 100
        )

    def says(name):
        return node_exporter_says(f"node_{name}()")[("",)]

    def ours(metric, *labels):
        return values(batch, metric)[labels]

    assert ours(host.LOAD, "1m") == says("load1")
    assert ours(host.LOAD, "5m") == says("load5")
    assert ours(host.LOAD, "15m") == says("load15")
    assert ours(host.PROCESSES_RUNNING) == says("procs_running")
    assert ours(host.PROCESSES_BLOCKED) == says("procs_blocked")
    assert ours(host.CONTEXT_SWITCHES) == says("context_switches_total")
    assert ours(host.MEMORY_LIMIT) == says("memory_MemTotal_bytes")
    assert ours(host.MEMORY_USAGE, "free") == says("memory_MemFree_bytes")
    assert ours(host.MEMORY_USAGE, "buffers") == says("memory_Buffers_bytes")
    assert ours(host.MEMORY_USAGE, "cached") == says("memory_Cached_bytes")
    assert ours(host.MEMORY_USAGE, "slab_reclaimable") == says("memory_SReclaimable_bytes")
    assert values(batch, host.MEMORY_AVAILABLE) == {}, "this kernel did not say"
    assert ours(host.SWAP_LIMIT) == says("memory_SwapTotal_bytes")
    assert ours(host.SWAP_FREE) == says("memory_SwapFree_bytes")
    assert ours(host.PAGE_FAULTS, "major") == says("vmstat_pgmajfault")
    assert sum(values(batch, host.PAGE_FAULTS).values()) == says("vmstat_pgfault")
    assert ours(host.OOM_KILLS) == says("vmstat_oom_kill")
    assert values(batch, host.PRESSURE_TIME) == pytest.approx(
        {
            ("cpu", "some"): says("pressure_cpu_waiting_seconds_total"),
            ("memory", "some"): says("pressure_memory_waiting_seconds_total"),
            ("memory", "full"): says("pressure_memory_stalled_seconds_total"),
            ("io", "some"): says("pressure_io_waiting_seconds_total"),
            ("io", "full"): says("pressure_io_stalled_seconds_total"),
            ("irq", "full"): says("pressure_irq_stalled_seconds_total"),
        }
    )
    assert ours(host.HUNG_TASKS) == 42

    cores = node_exporter_says(r'node_cpu_core_throttles_total\{core="(\d)",package="(\d)"\}')
    packages = node_exporter_says(r'node_cpu_package_throttles_total\{package="(\d)"\}')
    assert ours(host.CPU_THROTTLES, "core") == sum(cores.values()) == 14
    assert ours(host.CPU_THROTTLES, "package") == sum(packages.values()) == 36


def test_of_this_host_agrees_with_psutil():
    plugin = Host()
    times, faults = psutil.cpu_times(), psutil.virtual_memory()
    batch = read(plugin)
    later = psutil.cpu_times()
    assert batch.errors == []
    modes = values(batch, host.CPU_TIME)
    for mode in ("nice", "system", "idle", "steal"):
        assert getattr(times, mode) <= modes[(mode,)] <= getattr(later, mode)
    assert times.user + times.guest <= modes[("user",)] <= later.user + later.guest
    assert values(batch, host.MEMORY_LIMIT) == {(): faults.total}
    assert 0 < values(batch, host.MEMORY_AVAILABLE)[()] <= faults.total
    assert values(batch, host.CPU_COUNT) == {(): psutil.cpu_count()}
    assert values(batch, host.UPTIME)[()] <= time.clock_gettime(time.CLOCK_BOOTTIME)
    ((_, kernel, arch, boot_id),) = values(batch, host.INFO)
    assert (kernel, arch) == (os.uname().release, os.uname().machine)
    assert len(boot_id) == 36
    plugin.close()


def test_detects_this_host():
    assert Host.detect() == [{}]


def test_guest_time_is_part_of_user_time(tmp_path):
    modes = values(poll(plant(tmp_path, PROC)), host.CPU_TIME)
    assert modes[("user",)] == 100 / USER_HZ
    assert sum(modes.values()) == pytest.approx((100 + 1 + 50 + 9000 + 7 + 2 + 3 + 4) / USER_HZ)


def test_what_the_kernel_lacks_is_absent_and_no_failure(tmp_path):
    batch = poll(plant(tmp_path, PROC))
    assert batch.errors == []
    for metric in (
        host.PRESSURE_TIME,
        host.HUNG_TASKS,
        host.OOM_KILLS,
        host.CPU_COUNT,
        host.CPU_THROTTLES,
        host.SWAP_FREE,
    ):
        assert values(batch, metric) == {}
    assert values(batch, host.SWAP_LIMIT) == {(): 0}
    assert values(batch, host.UPTIME) == {(): 350735.47}


def test_irq_has_only_full_and_cpu_only_some(tmp_path):
    line = "{} avg10=0.00 avg60=0.00 avg300=0.00 total={}"
    pressure = {
        "proc/pressure/irq": line.format("full", 8494),  # no newline at the end
        "proc/pressure/cpu": line.format("some", 5) + "\n" + line.format("full", 0) + "\n",
    }
    assert values(poll(plant(tmp_path, PROC | pressure)), host.PRESSURE_TIME) == {
        ("irq", "full"): 0.008494,
        ("cpu", "some"): 0.000005,
    }


def test_one_bad_file_does_not_cost_the_others(tmp_path):
    plant(
        tmp_path, PROC | {"proc/vmstat": "pgfault many\npgmajfault 1\n", "proc/pressure/io/x": ""}
    )
    (tmp_path / "proc/loadavg").unlink()
    batch = poll(tmp_path)
    assert [type(error).__name__ for _, error in batch.errors] == [
        "FileNotFoundError",
        "IsADirectoryError",
        "ValueError",
    ]
    assert values(batch, host.MEMORY_LIMIT) == {(): 1000 * 1024}
    assert values(batch, host.LOAD) == {}


def test_estimated_times_never_fall(tmp_path):
    plugin = Host(root=plant(tmp_path, PROC))
    read(plugin)
    for iowait, expected in ((5, 7), (9, 9)):
        plant(tmp_path, {"proc/stat": f"cpu  100 1 50 9000 {iowait} 2 3 4\nctxt 12\n"})
        batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
        assert values(batch, host.CPU_TIME)[("iowait",)] == expected / USER_HZ
    plugin.close()


def test_no_proc_is_a_failure_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="mount the host's /proc"):
        Host(root=tmp_path).open()


def test_processors_come_and_go(tmp_path):
    def cpu(number, core, count):
        base = f"sys/devices/system/cpu/cpu{number}"
        return {
            f"{base}/topology/physical_package_id": "0\n",
            f"{base}/topology/core_id": f"{core}\n",
            f"{base}/thermal_throttle/core_throttle_count": f"{count}\n",
            f"{base}/thermal_throttle/package_throttle_count": "10\n",
        }

    plant(tmp_path, PROC | cpu(0, 0, 3) | cpu(1, 1, 4) | cpu(2, 0, 3))
    plugin = Host(root=tmp_path)
    assert values(read(plugin), host.CPU_THROTTLES) == {("core",): 7, ("package",): 10}
    plant(tmp_path, cpu(3, 2, 5))
    batch = read(plugin, Batch(HOST, 1.0, plugin.metrics))
    assert values(batch, host.CPU_THROTTLES) == {("core",): 12, ("package",): 10}

    shutil.rmtree(tmp_path / "sys/devices/system/cpu/cpu1")
    batch = read(plugin, Batch(HOST, 2.0, plugin.metrics))
    assert values(batch, host.CPU_THROTTLES) == {("core",): 12, ("package",): 10}, "no reset"
    plugin.close()


def test_time_of_throttling_is_in_milliseconds(tmp_path):
    base = "sys/devices/system/cpu/cpu0/thermal_throttle"
    times = {
        f"{base}/core_throttle_total_time_ms": "1500\n",
        f"{base}/core_throttle_max_time_ms": "9\n",
        f"{base}/package_throttle_total_time_ms": "20\n",
    }
    batch = poll(plant(tmp_path, PROC | times))
    assert values(batch, host.CPU_THROTTLE_TIME) == {("core",): 1.5, ("package",): 0.02}
    assert values(batch, host.CPU_THROTTLES) == {}


@given(st.sets(st.integers(0, 300)))
def test_count_of_a_cpu_list(cpus):
    text = ",".join(map(str, sorted(cpus)))
    assert _count(text + "\n") == len(cpus)


def test_count_of_ranges():
    assert _count("0-3,8,10-11\n") == 7
    assert _count("0-223") == 224


def test_record_gives_a_tree_that_reads_the_same(tmp_path):
    files = PROC | {"etc/os-release": 'PRETTY_NAME="Debian"\n', "proc/sys/kernel/arch": "riscv64\n"}
    Host(root=plant(tmp_path / "source", files)).record(tmp_path / "case")
    original, copy = poll(tmp_path / "source"), poll(tmp_path / "case/input/root")
    assert (copy.keys, copy.values) == (original.keys, original.values)
    ((description, _, arch, _),) = values(copy, host.INFO)
    assert (description, arch) == ("Debian", "riscv64")
