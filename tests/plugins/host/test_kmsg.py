import errno
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch, Severity
from collector.catalog import host
from collector.entity import Kind
from plugins.host.kmsg import Kmsg
from tests.fakes.tree import HOST, as_nobody, plant, public_folder, read, values

BOOT = 1_760_000_000.0
UPTIME = {"proc/uptime": "1000.00 5.0\n", "proc/sys/kernel/random/boot_id": "b-1\n"}
NOW = BOOT + 1000
UUID = "GPU-509665ad-b600-ac93-3616-d754b23d636d"
XID = "NVRM: Xid (PCI:0000:9b:00): 79, pid=1234, name=python, GPU has fallen off the bus."


def line(sequence, seconds, text, priority=4):
    return f"{priority},{sequence},{int(seconds * 1e6)},-;{text}\n"


def poll(plugin, at=NOW):
    return read(plugin, Batch(HOST, at, plugin.metrics))


def start(root, *lines, **fields):
    """Open a plugin over a log of these lines and poll once."""
    plugin = Kmsg(root=plant(root, UPTIME | {"dev/kmsg": "".join(lines)}), **fields)
    plugin.open()
    return plugin, poll(plugin)


def append(root, *lines):
    with (root / "dev/kmsg").open("a") as log:
        log.writelines(lines)


def test_what_was_logged_before_the_start_is_told_if_recent_but_not_counted(tmp_path):
    plugin, batch = start(tmp_path, line(1, 390, XID), line(2, 410, XID), line(3, 999, "hello"))
    (event,) = batch.events
    assert event.at == BOOT + 410
    assert (event.name, event.entity, event.severity) == ("gpu.xid", HOST, Severity.FATAL)
    assert event.text.startswith("NVRM: Xid (PCI:0000:9b:00): 79")
    assert event.text.endswith("to do: RESTART_BM)")
    attributes = dict(event.attributes)
    assert attributes["pci.bus_id"] == "0000:9b:00.0"
    assert attributes["process.pid"] == "1234"
    assert attributes["log.record.uid"] == "b-1/2"
    assert values(batch, host.XIDS) == {}
    assert set(values(batch, host.KERNEL_EVENTS).values()) == {0}
    assert set(values(batch, host.KERNEL_MESSAGES).values()) == {0}
    plugin.close()


def test_what_comes_later_is_told_and_counted(tmp_path):
    plugin, _ = start(tmp_path, line(1, 1, "Linux version"))
    append(tmp_path, line(2, 1000.5, XID), line(3, 1000.6, "usb 1-1: new", 6))
    batch = poll(plugin, NOW + 1)
    assert [event.at for event in batch.events] == [BOOT + 1001], "uptime stands still here"
    assert values(batch, host.XIDS) == {("0000:9b:00.0", "79"): 1}
    assert values(batch, host.KERNEL_EVENTS)[("gpu.xid",)] == 1
    messages = values(batch, host.KERNEL_MESSAGES)
    assert (messages[("warn",)], messages[("info",)]) == (1, 1)
    batch = poll(plugin, NOW + 2)
    assert batch.events == []
    assert values(batch, host.XIDS) == {("0000:9b:00.0", "79"): 1}
    plugin.close()


def test_a_live_record_lies_between_two_polls_however_the_kernels_clock_drifts(tmp_path):
    plugin, _ = start(tmp_path)
    append(tmp_path, line(1, 2000, XID), line(2, 900, XID))
    plant(tmp_path, {"proc/uptime": "1010.00 5.0\n"})
    assert [event.at for event in poll(plugin, NOW + 10).events] == [NOW + 10, NOW]
    plugin.close()


def test_the_gpu_is_known_by_what_the_driver_logged(tmp_path):
    named = f"NVRM: GPU at PCI:0000:9b:00: {UUID}"
    plugin, batch = start(tmp_path, line(1, 1, named), line(2, 999, XID))
    assert [event.entity for event in batch.events] == [Kind.GPU("node1", UUID)]
    plugin.close()


def test_the_gpu_is_known_by_the_drivers_files(tmp_path):
    folder = "proc/driver/nvidia/gpus/0000:9b:00.0"
    unknown = "GPU UUID: \t GPU-????????-????-????-????-????????????\nDevice Minor: \t 3\n"
    plant(tmp_path, {f"{folder}/information": unknown})
    plugin, batch = start(tmp_path, line(1, 999, XID))
    assert [event.entity for event in batch.events] == [HOST]
    plant(tmp_path, {f"{folder}/information": f"GPU UUID: \t {UUID}\nDevice Minor: \t 3\n"})
    append(tmp_path, line(2, 1000, XID))
    assert [event.entity for event in poll(plugin).events] == [Kind.GPU("node1", UUID)]
    plugin.close()


def test_user_space_cannot_forge(tmp_path):
    plugin, _ = start(tmp_path)
    append(tmp_path, line(1, 1000, XID, priority=12), line(2, 1000, "systemd[1]: x", priority=30))
    batch = poll(plugin)
    assert batch.events == []
    assert values(batch, host.XIDS) == {}
    assert sum(values(batch, host.KERNEL_MESSAGES).values()) == 0
    assert values(batch, host.KERNEL_MESSAGES_LOST) == {(): 0}, "not lost, but not the kernel's"
    plugin.close()


def test_records_are_taken_once_and_missing_ones_counted(tmp_path):
    plugin, _ = start(tmp_path, line(7, 1, "x"))
    append(tmp_path, line(8, 1000, XID), line(8, 1000, XID), line(12, 1000, "x"))
    batch = poll(plugin)
    assert len(batch.events) == 1
    assert values(batch, host.KERNEL_MESSAGES_LOST) == {(): 3}
    plugin.close()
    plugin.open()
    append(tmp_path, line(13, 1001, XID))
    batch = poll(plugin, NOW + 5)
    assert [dict(event.attributes)["log.record.uid"] for event in batch.events] == ["b-1/13"]
    assert values(batch, host.XIDS) == {("0000:9b:00.0", "79"): 2}
    plugin.close()


def test_a_log_that_was_overwritten_is_read_on(tmp_path, monkeypatch):
    plugin, _ = start(tmp_path, line(1, 1, "x"))
    answers = [BrokenPipeError(), line(5, 1000, XID).encode(), BlockingIOError()]

    def lose(*_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", lose)
        batch = poll(plugin)
    assert len(batch.events) == 1
    assert values(batch, host.KERNEL_MESSAGES_LOST) == {(): 3}
    plugin.close()


def test_a_storm_is_counted_and_not_told_in_full(tmp_path):
    plugin, _ = start(tmp_path, burst=3, window=60)
    xid = "NVRM: Xid (PCI:0000:{:02x}:00): 45, pid=1, name=python, Ch 00000008"
    append(tmp_path, *(line(n, 1000, xid.format(n % 2)) for n in range(11_760)))
    batch = poll(plugin)
    assert len(batch.events) == 6, "three of each GPU"
    assert sum(values(batch, host.XIDS).values()) == 11_760
    append(tmp_path, line(20_000, 1100, xid.format(1)))
    plant(tmp_path, {"proc/uptime": "1100.00 5.0\n"})
    (event,) = poll(plugin, NOW + 100).events
    assert dict(event.attributes)["events.left_out"] == str(5880 - 3)
    plugin.close()


def test_one_kill_for_want_of_memory_is_told_once_with_its_reason(tmp_path):
    container, pod = "3f" * 32, "a8697f49-441d-4d4f-90d2-6d8e1fa3bbe7"
    memory = f"/kubepods.slice/kubepods-burstable-pod{pod.replace('-', '_')}.slice"
    plugin, _ = start(tmp_path)
    append(
        tmp_path,
        line(
            1, 1000, "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,"
            f"oom_memcg={memory},task_memcg={memory}/cri-containerd-{container}.scope,"
            "task=python,pid=77,uid=0",
        ),
        line(2, 1000, "Memory cgroup out of memory: Killed process 77 (python) total-vm:1kB"),
        line(3, 1000, "Memory cgroup out of memory: Killed process 78 (python (x)) total-vm:1kB"),
    )  # fmt: skip
    batch = poll(plugin)
    assert values(batch, host.KERNEL_EVENTS)[("kernel.oom_kill",)] == 2
    first, second = batch.events
    assert first.entity == Kind.PROCESS("node1", "77")
    attributes = dict(first.attributes)
    assert attributes["constraint"] == "CONSTRAINT_MEMCG"
    assert attributes["container.id"] == container
    assert attributes["k8s.pod.uid"] == pod
    assert second.entity == Kind.PROCESS("node1", "78")
    assert dict(second.attributes)["process.executable.name"] == "python (x)"
    plugin.close()


def test_a_message_of_several_lines_is_one(tmp_path):
    plugin, _ = start(tmp_path)
    text = (
        "NVRM: The NVIDIA GPU 0000:9b:00.0\\x0aNVRM: (PCI ID: 10de:2330) installed in this system "
        "has\\x0aNVRM: fallen off the bus and is not responding to commands."
    )
    append(tmp_path, line(1, 1000, text) + " SUBSYSTEM=pci\n DEVICE=+pci:0000:9b:00.0\n")
    batch = poll(plugin)
    (event,) = batch.events
    assert (event.name, event.severity) == ("gpu.fallen_off_bus", Severity.FATAL)
    assert dict(event.attributes)["pci.bus_id"] == "0000:9b:00.0"
    assert sum(values(batch, host.KERNEL_MESSAGES).values()) == 1
    plugin.close()


def test_who_may_not_read_it_is_told_what_to_do(tmp_path, monkeypatch):
    with public_folder() as root:
        plant(root, {"dev/kmsg": ""})
        (root / "dev/kmsg").chmod(0o600)
        with as_nobody(), pytest.raises(PermissionError, match="CAP_SYSLOG"):
            Kmsg(root=root).open()
    plugin, _ = start(tmp_path)

    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", refuse)
        with pytest.raises(PermissionError, match="dmesg_restrict"):
            poll(plugin)
    plugin.close()


def test_no_log_is_a_failure_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="mount the host's /dev/kmsg"):
        Kmsg(root=tmp_path).open()


def test_of_this_host_reads_the_kernels_own_log():
    if not Kmsg.detect():
        pytest.skip("the kernel's log may not be read here")
    plugin = Kmsg()
    plugin.open()
    batch = read(plugin, Batch(HOST, time.time(), plugin.metrics))
    assert batch.errors == []
    assert all(event.at <= batch.at for event in batch.events)
    assert set(values(batch, host.KERNEL_MESSAGES_LOST)) == {()}
    assert plugin._state._last is not None, "it has records"
    plugin.close()


def test_a_saved_log_gives_the_same_events(tmp_path):
    original, batch = start(tmp_path / "source", line(1, 990, XID))
    original.record(tmp_path / "case")
    copy = Kmsg(root=tmp_path / "case/input/root")
    copy.open()
    assert poll(copy).events == batch.events
    assert len(batch.events) == 1
    copy.close()


@given(st.binary(max_size=400))
def test_any_bytes_are_read(tmp_path_factory, data):
    root = plant(tmp_path_factory.mktemp("kmsg"), UPTIME)
    (root / "dev").mkdir()
    (root / "dev/kmsg").write_bytes(
        b"4,1,999000000,-;" + data + b"\n4,2,999000000,-;" + XID.encode()
    )
    plugin = Kmsg(root=root)
    plugin.open()
    batch = poll(plugin)
    assert batch.errors == []
    assert all(len(event.text) < 1100 for event in batch.events)
    plugin.close()
