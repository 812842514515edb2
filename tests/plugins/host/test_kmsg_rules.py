"""The forms of the kernel's log, and what its messages mean."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Severity
from plugins.host._gpus import address
from plugins.host._kmsg_record import Record, parse
from plugins.host._kmsg_rules import EVENTS, RULES, Classifier, match
from tests.data import data

INFO, WARN, ERROR, FATAL = Severity.INFO, Severity.WARN, Severity.ERROR, Severity.FATAL

# What recordings hold: records of the kernel, and findings by event.
RECORDINGS = {
    "kmsg.1.log": (47, {}),
    "kmsg.2.peermem.log": (8, {"gpu.peermem_invalid_context": 7}),
    "nccl-segfault.dmesg.log": (2, {"kernel.segfault": 2}),
    # "Kill process 456 ... or sacrifice child" only announces a kill, and two reasons have no
    # victim.
    "oom.dmesg.log": (24, {"gpu.xid": 17, "kernel.oom_kill": 3}),
    "dmesg-with-xid-119.log": (43, {"gpu.xid": 5, "gpu.rpc_timeout": 1}),
    # 4 lines are pstore's own; those of systemd are of another facility
    "crash.dmesg.txt": (324, {"kernel.panic": 1}),
    "fabricmanager.log": (77, {"nvswitch.sxid": 1}),
}


def findings(name):
    classifier = Classifier()
    records = [r for r in parse(data(f"host/kmsg/{name}").read_bytes()) if r.text or r.level]
    found = [(record, classifier.classify(record.text)) for record in records]
    return records, [(record, finding) for record, finding in found if finding]


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_holds_what_is_known(name):
    records, found = findings(name)
    assert (len(records), Counter(finding.event for _, finding in found)) == RECORDINGS[name]


def test_the_contents_of_recordings():
    _, found = findings("oom.dmesg.log")
    xids = [finding.attributes["xid"] for _, finding in found if finding.event == "gpu.xid"]
    assert xids == ["13"] * 16 + ["43"]
    assert found[0][0].at == pytest.approx(1737434504.283302)
    assert "process_pid" not in found[0][1].attributes, "'<unknown>'"
    assert found[16][1].attributes["process_name"] == "pt_main_thread"
    victims = [f.attributes["process_pid"] for _, f in found if f.event == "kernel.oom_kill"]
    assert victims == ["123", "123", "863987"]
    assert found[-1][1].attributes["task_cgroup"].endswith("638e014.scope")

    _, found = findings("dmesg-with-xid-119.log")
    assert {finding.attributes["address"] for _, finding in found} == {"0000:9b:00"}
    pids = [finding.attributes.get("process_pid") for _, finding in found]
    assert pids == ["2024380", "2024380", "2024380", None, "1263500", "1240590"]

    _, ((record, finding), *_) = findings("crash.dmesg.txt")
    assert record.uptime == 3098.275469
    assert record.level == "emerg"
    assert finding.severity is FATAL

    _, ((_, finding), *_) = findings("nccl-segfault.dmesg.log")
    assert finding.attributes["library"] == "libnccl.so.2"

    _, ((_, finding),) = findings("fabricmanager.log")
    assert finding.severity is WARN
    assert finding.attributes["sxid"] == "12028"
    assert address(finding.attributes["address"]) == "0000:86:00.0"


@pytest.mark.parametrize(
    ("text", "event", "severity", "attributes"),
    [
        (
            "NVRM: Xid (PCI:0000:3b:00): 48, pid=123, An uncorrectable double bit error (DBE)",
            "gpu.xid", ERROR, {"xid": "48", "address": "0000:3b:00", "process_pid": "123"},
        ),
        ("NVRM: Xid (0000:03:00): 13, Channel 00000001", "gpu.xid", ERROR, {"address": "0000:03:00"}),
        (
            "NVRM: Xid (PCI:0000:01:00 GPU-I:05): 31, pid='<unknown>', name=<unknown>, MMU Fault",
            "gpu.xid", ERROR, {"gpu_instance": "05", "xid": "31"},
        ),
        (
            "NVRM: Xid (PCI:0008:01:00): 145, RLW_SRC_TRACK Nonfatal XC1 i0 Link 17 "
            "(0x00400000 0x80000000 0x00000000 0x00000000)",
            "gpu.xid", WARN, {"unit": "RLW_SRC_TRACK", "nvlink": "17", "subcode": "4"},
        ),
        (
            "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link -1 "
            "(0x004505c6 0x00000000)",
            "gpu.xid", FATAL, {"level": "Fatal", "nvlink": "-1"},
        ),
        (
            "NVRM: Xid (PCI:0000:5d:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 "
            "(GPU Reset Required)",
            "gpu.xid", FATAL, {"recovery": "GPU Reset Required"},
        ),
        (
            "NVRM: Xid (PCI:0000:5d:00): 154, GPU recovery action changed from 0x1 (GPU Reset "
            "Required) to 0x0 (None)",
            "gpu.xid", INFO, {"recovery": "None"},
        ),
        ("NVRM: Xid (PCI:0000:5d:00): 63, Row remapping event", "gpu.xid", INFO, {"action": "IGNORE"}),
        ("NVRM: Xid (PCI:0000:5d:00): 999999, x", "gpu.xid", ERROR, {"xid": "999999"}),
        (
            "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore MCTO",
            "nvswitch.sxid", WARN, {"sxid": "28006", "nvlink": "46", "nvswitch": "3"},
        ),
        (
            "nvidia-nvswitch0: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
            "nvswitch.sxid", FATAL, {"sxid": "20034"},
        ),
        ("NVRM: GPU at 0000:9b:00.0 has fallen off the bus.", "gpu.fallen_off_bus", FATAL,
         {"address": "0000:9b:00.0"}),
        ("NVRM: fallen off the bus and is not responding", "gpu.fallen_off_bus", FATAL, {}),
        ("NVRM: GPU 0000:65:00.0: RmInitAdapter failed! (0x62:0x40:2393)", "gpu.init_failed", ERROR,
         {"address": "0000:65:00.0"}),
        ("NVRM: GPU4 GSP RPC timeout", "gpu.rpc_timeout", ERROR, {}),
        (
            "INFO: task kworker/0:1:1234 blocked for more than 120 seconds.",
            "kernel.hung_task", ERROR, {"process_name": "kworker/0:1", "process_pid": "1234"},
        ),
        (
            "watchdog: BUG: soft lockup - CPU#17 stuck for 22s! [nvidia-smi:99]",
            "kernel.soft_lockup", ERROR, {"cpu": "17", "seconds": "22", "process_pid": "99"},
        ),
        ("NMI watchdog: Watchdog detected hard LOCKUP on cpu 3", "kernel.hard_lockup", FATAL,
         {"cpu": "3"}),
        ("rcu: INFO: rcu_sched self-detected stall on CPU", "kernel.rcu_stall", ERROR, {}),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "kernel.rcu_stall", ERROR, {}),
        ("BUG: unable to handle page fault for address: ffff", "kernel.oops", ERROR, {}),
        ("Out of memory: Killed process 9 (a b) total-vm:1kB", "kernel.oom_kill", ERROR,
         {"process_name": "a b"}),
        (
            "mce: [Hardware Error]: CPU 12: Machine Check: 0 Bank 7: 8c00004000010090",
            "kernel.mce", ERROR, {"cpu": "12", "bank": "7", "status": "8c00004000010090"},
        ),
        ("mce: [Hardware Error]: Machine check events logged", "kernel.mce", WARN, {}),
        ("[Hardware Error]: Corrected error, no action required.", "kernel.mce", WARN, {}),
        ("{1}[Hardware Error]: event severity: fatal", "kernel.mce", FATAL, {}),
        (
            "EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0_Chan#0_DIMM#0 (channel:0)",
            "kernel.edac", WARN, {"controller": "MC0", "count": "1"},
        ),
        ("EDAC MC1: 2 UE memory scrubbing error on any memory", "kernel.edac", ERROR, {"count": "2"}),
        (
            "nvidia 0000:9b:00.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Tx ID)",
            "pcie.error", WARN, {"address": "0000:9b:00.0", "type": "Data Link Layer"},
        ),
        (
            "mlx5_core 0000:3b:00.0: AER: PCIe Bus Error: severity=Uncorrectable (Fatal), "
            "type=Transaction Layer, (Requester ID)",
            "pcie.error", FATAL, {"address": "0000:3b:00.0"},
        ),
        (
            "nvme 0000:01:00.0: PCIe Bus Error: severity=Uncorrected (Non-Fatal), type=x",
            "pcie.error", ERROR, {},
        ),
        ("pcieport 0000:00:01.1: DPC: containment event, status:0x1f01", "pcie.contained", ERROR, {}),
        ("pcieport 0000:00:01.1: pciehp: Slot(16): Link Down", "pcie.link_down", WARN, {"slot": "16"}),
        (
            "CPU12: Package temperature above threshold, cpu clock throttled (total events = 1)",
            "kernel.cpu_throttled", WARN, {"scope": "Package"},
        ),
        (
            "mlx5_core 0000:5c:00.0: temp_warn:166:(pid 0): High temperature on sensors with bit set "
            "0x0 0x1",
            "nic.high_temperature", ERROR, {"address": "0000:5c:00.0"},
        ),
        (
            "mlx5_core 0000:5c:00.0: mlx5_pcie_event:301:(pid 9): Detected insufficient power on the "
            "PCIe slot (27W).",
            "nic.insufficient_power", ERROR, {},
        ),
        (
            "mlx5_core 0000:5c:00.0: mlx5_cmd_out_err:812:(pid 9): ACCESS_REG(0x805) op_mod(0x1) "
            "failed, status bad operation(0x2)",
            "nic.command_failed", WARN, {"command": "ACCESS_REG", "opcode": "0x805"},
        ),
        (
            "mlx5_core 0000:5c:00.0: poll_health:744:(pid 0): device's health compromised - reached "
            "miss count",
            "nic.health", ERROR, {},
        ),
        (
            "mlx5_core 0000:5c:00.0: Port module event[error]: module 0, Cable error, Bad or "
            "unsupported EEPROM",
            "nic.module_error", WARN, {"module": "0"},
        ),
    ],
)  # fmt: skip
def test_a_message_means(text, event, severity, attributes):
    finding = match(text)
    assert finding is not None
    assert (finding.event, finding.severity) == (event, severity)
    assert finding.attributes.items() >= attributes.items()


def test_every_rule_is_tried():
    """Those of the tables above are all that there are."""
    assert len(EVENTS) == 25
    assert len({rule.pattern.pattern for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    "text",
    [
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  550.144.03",
        "MCE: In-kernel MCE decoding enabled.",
        "EDAC MC0: Giving out device to module amd64_edac controller F19h_M10h",
        "mlx5_core 0000:41:00.1: Port module event: module 1, Cable unplugged",
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Severity 1 Engine instance 46",
        "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Data {0x00000001, 0x00000000}",
        "Out of memory: Kill process 456 (python) score 50 or sacrifice child",
        "oom_reaper: reaped process 345646 (vector), now anon-rss:0kB",
        "bash[12]: segfault at 0 ip 0 sp 0 error 4 in bash[55d7+d000]",
        "pcieport 0000:00:01.0: AER: Corrected error received: 0000:01:00.0",
    ],
)
def test_a_message_means_nothing(text):
    assert Classifier().classify(text) is None


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b"6,3964,206764307,-;hello", Record("hello", "info", 3964, 206.764307)),
        (b"4,1,5000000,-,caller=T42;a;b", Record("a;b", "warn", 1, 5.0)),
        (b"4,1,0,c;tab\\x09 back\\x5cslash \\xc3\\xa9", Record("tab\t back\\slash é", "warn", 1, 0.0)),
        (b"12,9,0,-;forged", Record("", sequence=9)),
        (b"<4>[    2.500000] x", Record("x", "warn", uptime=2.5)),
        (b"[12345.000001] x", Record("x", uptime=12345.000001)),
        (b"[Sun Feb 23 16:24:18 2025] NVRM: x", Record("NVRM: x")),
        (b"kern  :err   : 2025-01-21T04:41:44,5+00:00 x", Record("x", "err", at=1737434504.5)),
        (b"2025-01-21T04:41:44+0000 node1 kernel: x", Record("x", at=1737434504.0)),
        (b"Jan 21 04:41:44 node1 kernel: x", Record("x")),
        (b"Jan 21 04:41:44 node1 sshd[1]: x", Record("Jan 21 04:41:44 node1 sshd[1]: x")),
    ],
)  # fmt: skip
def test_forms_of_a_record(line, record):
    assert list(parse(line)) == [record]


@pytest.mark.parametrize(
    "line", [b"daemon:info  : 2025-01-21T04:41:44,5+00:00 x", b"<30>[ 12.976992] x", b" KEY=value"]
)
def test_what_is_not_the_kernels(line):
    assert list(parse(line)) == []


@pytest.mark.parametrize(
    ("told", "written"),
    [
        ("0000:9b:00", "0000:9b:00.0"),
        ("00000000:9B:00.0", "0000:9b:00.0"),
        ("0018:01:00", "0018:01:00.0"),
        ("0006:00", "0000:06:00.0"),
        ("3b:00.1", "0000:3b:00.1"),
        ("...", "..."),
    ],
)
def test_addresses_are_written_as_sysfs_does(told, written):
    assert address(told) == written


@given(st.binary(), st.text())
def test_nothing_raises(raw, text):
    classifier = Classifier()
    for record in parse(raw + text.encode("utf-8", "replace")):
        classifier.classify(record.text)
    for start in ("NVRM: Xid (PCI:0000:9b:00): ", "oom-kill:constraint=X,", "INFO: task "):
        classifier.classify(start + text)
    assert isinstance(address(text), str)
