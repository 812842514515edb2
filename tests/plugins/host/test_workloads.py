import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Link, Severity
from collector.catalog import host
from collector.entity import Kind
from collector.read import processes
from plugins.host._gpu_processes import Holders
from plugins.host._placement import members, memory, share
from plugins.host._pods import Names, containers, uids
from plugins.host.workloads import Workloads
from tests.fakes.tree import HOST, as_nobody, plant, public_folder, read, values
from tests.fakes.workload import gpu, process, uuid

ID, POD = "ab" * 32, "11111111-2222-3333-4444-555555555555"
KUBE = (
    f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}"
    f".slice/cri-containerd-{ID}.scope"
)


@pytest.fixture
def node(tmp_path):
    """Two GPUs, each near to one of two sockets; no process yet."""
    gpu(tmp_path, 0, 0, "0-31")
    gpu(tmp_path, 1, 1, "32-63")
    return tmp_path


def poll(plugin, at):
    return read(plugin, Batch(HOST, at, plugin.metrics))


def test_a_process_on_the_wrong_socket_shows(node):
    process(node, 10, cpus="0-31", nodes="0", opened=(0, 1), mapped=(0,))
    process(node, 11, cpus="0-31", nodes="0", opened=(0, 1), mapped=(1,))
    process(node, 12, cpus="16-47", nodes="0-1", opened=(1,))
    batch = read(Workloads(root=node))
    assert batch.errors == []
    assert values(batch, host.GPU_PROCESS_CPUS) == {
        (uuid(0), "10"): 1.0,
        (uuid(1), "11"): 0.0,
        (uuid(1), "12"): 0.5,
    }
    assert values(batch, host.GPU_PROCESS_NODES) == {
        (uuid(0), "10"): 1.0,
        (uuid(1), "11"): 0.0,
        (uuid(1), "12"): 0.5,
    }
    assert set(values(batch, host.GPU_LOCALITY)) == {
        (uuid(0), "0", "0-31"),
        (uuid(1), "1", "32-63"),
    }


def test_who_only_opened_all_gpus_is_not_placed(node):
    process(node, 10, "nvidia-smi", opened=(0, 1))
    batch = read(Workloads(root=node))
    assert values(batch, host.GPU_PROCESS_CPUS) == {}
    assert [key[0] for key in values(batch, host.PROCESS_INFO)] == ["10"]


def test_a_node_that_the_firmware_does_not_tell_is_absent(tmp_path):
    gpu(tmp_path, 0, -1, "0-63")
    process(tmp_path, 10, opened=(0,))
    batch = read(Workloads(root=tmp_path))
    assert values(batch, host.GPU_PROCESS_CPUS) == {}
    assert values(batch, host.GPU_LOCALITY) == {}
    assert len(values(batch, host.PROCESS_INFO)) == 1


def test_a_process_belongs_to_container_and_pod(node):
    plant(node, {f"var/log/containers/llm-0_prod_server-{ID}.log": "", "var/log/containers/x": ""})
    process(node, 10, opened=(0,), cgroup=KUBE)
    batch = read(Workloads(root=node))
    child, container, pod = Kind.PROCESS("node1", "10"), Kind.CONTAINER(ID), Kind.POD(POD)
    assert batch.links == [Link(child, container, 1.0), Link(container, pod, 1.0)]
    info = {key.entity: key.labels for key in batch.keys if key.entity in (container, pod)}
    assert info == {
        container: ("containerd", "prod", "llm-0", "server"),
        pod: ("prod", "llm-0", "burstable"),
    }
    (told,) = values(batch, host.PROCESS_INFO)
    assert told == ("10", "python", "/usr/bin/python", "1000", ID, POD, "", "", "")


def test_a_process_belongs_to_a_job(node):
    job = "0::/system.slice/slurmstepd.scope/job_77/step_0/user/task_3"
    process(node, 10, opened=(0,), cgroup=job)
    batch = read(Workloads(root=node))
    assert batch.links == [Link(Kind.PROCESS("node1", "10"), Kind.JOB("77"), 1.0)]
    assert next(iter(values(batch, host.PROCESS_INFO)))[-3:] == ("77", "0", "3")


def test_arguments_of_a_process_are_not_shown(node):
    process(node, 10, opened=(0,))
    assert "secret" not in str(read(Workloads(root=node)).keys)


def test_faults_of_a_process(node):
    process(node, 10, "a) b (", opened=(0,))
    process(node, 11)
    batch = read(Workloads(root=node))
    assert values(batch, host.PROCESS_FAULTS) == {("10", "minor"): 11, ("10", "major"): 3}


def test_memory_by_node_is_read_where_it_is_asked_for(node):
    process(node, 10, opened=(0,))
    plant(node, {"proc/10/numa_maps": "7f default anon=3 N0=1 N1=2 kernelpagesize_kB=4\n"})
    assert values(read(Workloads(root=node)), host.PROCESS_NUMA_MEMORY) == {}
    batch = read(Workloads(root=node, numa_maps=True))
    assert values(batch, host.PROCESS_NUMA_MEMORY) == {("10", "0"): 4096, ("10", "1"): 8192}


def test_between_two_searches_only_what_is_known_is_read(node):
    plugin = Workloads(root=node, scan=30)
    process(node, 10, opened=(0,))
    read(plugin)
    process(node, 11, opened=(1,))
    assert [key[0] for key in values(poll(plugin, 20.0), host.PROCESS_INFO)] == ["10"]
    assert len(values(poll(plugin, 31.0), host.PROCESS_INFO)) == 2
    process(node, 11, start=900)  # another one with the same pid
    assert [key[0] for key in values(poll(plugin, 40.0), host.PROCESS_INFO)] == ["10"]
    shutil.rmtree(node / "proc/10")
    assert values(poll(plugin, 50.0), host.PROCESS_INFO) == {}
    plugin.close()


def test_old_processes_without_a_gpu_are_looked_at_seldom(tmp_path):
    process(tmp_path, 10)
    holders = Holders(tmp_path)
    assert holders.find({10: 500}, set(), 0.0) == {}
    process(tmp_path, 10, opened=(0,))
    found = [bool(holders.find({10: 500}, set(), 700.0 + n)) for n in range(20)]
    assert found.index(True) < 10
    assert all(found[found.index(True) :]), "a holder is looked at each time"
    late = Holders(tmp_path)
    assert late.find({10: 500}, set(), 700.0), "a process is young when first seen"


def test_who_may_not_look_into_processes_is_told_so():
    with public_folder() as root:
        gpu(root, 0, 0, "0-31")
        process(root, 10, opened=(0,))
        (root / "proc/10/fd").chmod(0o700)
        plugin = Workloads(root=root)
        with as_nobody():
            read(plugin)
            ((_, error),) = poll(plugin, 1.0).errors
        assert "CAP_SYS_PTRACE" in str(error)


def test_a_host_without_gpus_is_not_searched(tmp_path, monkeypatch):
    process(tmp_path, 10, opened=(0,))
    monkeypatch.setattr(os, "readlink", lambda _: pytest.fail("searched"))
    assert values(read(Workloads(root=tmp_path)), host.PROCESS_INFO) == {}


def test_sleepers_by_what_they_wait_for(node):
    process(node, 10, opened=(0,), threads={100: ("D", "os_acquire_rwlock_write"), 101: ("S", "x")})
    for pid, place in ((20, "io_schedule"), (21, "msleep"), (22, "0"), (23, "")):
        process(node, pid, "dd", state="D", threads={pid: ("D", place)})
    stack = "[<0>] rwsem_down_write_slowpath+0x35/0x50\n[<0>] uvm_api_free+0x1/0x2 [nvidia_uvm]\n"
    plant(node, {"proc/23/task/23/stack": stack})
    plugin = Workloads(root=node)
    read(plugin)  # finds who has a GPU, whose threads count from then on
    batch = poll(plugin, 10.0)
    assert values(batch, host.TASKS_UNINTERRUPTIBLE) == {
        ("nvidia",): 2, ("io",): 1, ("other",): 1, ("unknown",): 1,
    }  # fmt: skip
    assert set(values(batch, host.TASKS_STUCK).values()) == {0}
    assert batch.events == []
    plugin.close()


def test_a_sleep_that_does_not_end_is_told_once(node):
    process(node, 10, opened=(0,), threads={100: ("D", "nvidia_ioctl")})
    plugin = Workloads(root=node, stuck=60)
    read(plugin)
    assert [poll(plugin, at).events for at in (10.0, 69.0)] == [[], []]
    (event,) = poll(plugin, 75.0).events
    assert (event.name, event.severity) == ("kernel.task_stuck", Severity.ERROR)
    assert event.entity == Kind.PROCESS("node1", "10")
    assert "for 65 s in nvidia_ioctl" in event.text
    batch = poll(plugin, 80.0)
    assert batch.events == []
    assert values(batch, host.TASKS_STUCK)[("nvidia",)] == 1
    plugin.close()


def test_a_task_that_runs_between_is_not_stuck(node):
    plugin = Workloads(root=node, stuck=60)
    process(node, 20, "dd", state="D", threads={20: ("D", "io_schedule")})
    read(plugin)
    for at, switches in ((50.0, 8), (100.0, 9), (150.0, 10)):
        process(node, 20, "dd", state="D", switches=switches)
        batch = poll(plugin, at)
        assert values(batch, host.TASKS_UNINTERRUPTIBLE)[("io",)] == 1
        assert set(values(batch, host.TASKS_STUCK).values()) == {0}
        assert batch.events == []
    plugin.close()


def test_the_memory_map_of_a_sleeper_is_not_touched(node, monkeypatch):
    """Who sleeps may hold the lock that a reader of cmdline, maps or numa_maps waits for."""
    process(node, 10, opened=(0,), mapped=(0,), state="D")
    monkeypatch.setattr(processes, "command", lambda *_: pytest.fail("cmdline was read"))
    monkeypatch.setattr(Holders, "_mapped", lambda *_: pytest.fail("maps was read"))
    batch = read(Workloads(root=node, numa_maps=True))
    assert len(values(batch, host.PROCESS_INFO)) == 1


def test_of_this_host_has_no_failure():
    batch = read(Workloads())
    assert all("CAP_SYS_PTRACE" in str(error) for _, error in batch.errors)
    assert set(values(batch, host.TASKS_UNINTERRUPTIBLE)) == {
        ("nvidia",), ("io",), ("other",), ("unknown",),
    }  # fmt: skip
    known = processes.stat("/proc/self/stat")
    assert known is not None
    assert known[1][0] == "R"


def test_record_gives_a_tree_that_reads_the_same(node):
    process(node, 10, opened=(0, 1), mapped=(1,), cgroup=KUBE)
    Workloads(root=node).record(node / "case")
    original, copy = read(Workloads(root=node)), read(Workloads(root=node / "case/input/root"))
    assert (copy.keys, copy.values) == (original.keys, original.values)
    assert "secret" not in (node / "case/input/root/proc/10/cmdline").read_text()


@given(st.frozensets(st.integers(0, 300)), st.frozensets(st.integers(0, 300)))
def test_share_of_processors(allowed, near):
    def written(cpus):
        return ",".join(map(str, sorted(cpus)))

    found = share(members(written(allowed)), members(written(near) + "\n"))
    assert found is None if not allowed else found == len(allowed & near) / len(allowed)


def test_members_of_ranges():
    assert members("0-3,8,10-11\n") == {0, 1, 2, 3, 8, 10, 11}


@given(st.text())
def test_any_numa_maps_is_read(text):
    assert all(size >= 0 for size in memory(text + "\n" + text).values())


def test_huge_pages_count_with_their_size():
    text = "7f bind:0 file=/dev/shm/x huge N0=2 kernelpagesize_kB=2048\n8f default stack N1=1\n"
    assert memory(text) == {0: 2 * 2048 * 1024, 1: 4096}


def test_names_of_pods(tmp_path):
    plant(tmp_path, {f"var/log/containers/llm-0_prod_server-x-{ID}.log": ""})
    for name in ("prod_llm-0_old", f"prod_llm-0_{POD}", "odd", "kube-system_etcd_0123"):
        (tmp_path / "var/log/pods" / name).mkdir(parents=True)
    os.utime(tmp_path / "var/log/pods/prod_llm-0_old", (1, 1))
    assert containers(tmp_path) == {ID: Names("prod", "llm-0", "server-x")}
    assert uids(tmp_path) == {("prod", "llm-0"): POD, ("kube-system", "etcd"): "0123"}
    assert containers(tmp_path / "none") == {}
    assert uids(tmp_path / "none") == {}
