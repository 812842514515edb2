"""What messages of the kernel mean: one table, from pattern to event.

The patterns follow the format strings of kernel and drivers. The first rule that fits counts. The
name of a group is that of an attribute; `address` is the PCI address of what the message is about.
To add a rule, add a row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from collector.batch import Severity
from collector.read import xid

INFO, WARN, ERROR, FATAL = Severity.INFO, Severity.WARN, Severity.ERROR, Severity.FATAL


class Rule(NamedTuple):
    """A pattern, the event that it makes, and how bad that is if the message does not say."""

    event: str
    severity: Severity
    pattern: re.Pattern[str]


class Finding(NamedTuple):
    """What a message means."""

    event: str
    severity: Severity
    attributes: Mapping[str, str]


XID, SXID, OOM = "gpu.xid", "nvswitch.sxid", "kernel.oom_kill"
_OOM_REASON = "oom-kill"  # no event of its own; see `Classifier`

_ADDRESS = r"(?P<address>[0-9A-Fa-f:.]{7,16})"
_PCI = rf"(?:PCI:)?{_ADDRESS}"
_NAME = r"(?P<process_name>.+?)"
_PID = r"(?P<process_pid>\d+)"
_CPU = r"(?P<cpu>\d+)"
_SECONDS = r"(?P<seconds>\d+)"
_MCE = r"\[Hardware Error\]: "
_MLX5 = rf"^mlx5_core {_ADDRESS}: "


def _rule(event: str, severity: Severity, *pattern: str) -> Rule:
    return Rule(event, severity, re.compile("".join(pattern), re.DOTALL))


# fmt: off
RULES = (
    # NVIDIA: docs.nvidia.com/deploy/xid-errors. A MIG slice stands behind the address; pid and name
    # can be missing or '<unknown>'.
    _rule(XID, ERROR, rf"NVRM: Xid \({_PCI}(?: GPU-I:(?P<gpu_instance>\d+))?\): (?P<xid>\d+)"
          rf"(?:, pid='?(?:{_PID}|<unknown>)'?)?(?:, name=(?:<unknown>|(?P<process_name>[^,]+)))?"
          r"(?P<rest>.*)"),
    # Each SXid is followed by lines with its severity number and data, which are no further ones.
    _rule(SXID, ERROR, rf"nvidia-nvswitch(?P<nvswitch>\d+): SXid \({_PCI}\): (?P<sxid>\d+), "
          r"(?!Severity \d|Data \{)(?:(?P<level>Fatal|Non-fatal), Link (?P<nvlink>\d+))?"),
    # The same as the fabric manager's log has it.
    _rule(SXID, ERROR, r"detected NVSwitch (?P<level>non-fatal|fatal) error (?P<sxid>\d+) on fid "
          rf"\d+ on NVSwitch pci bus id {_ADDRESS} physical id \d+ port (?P<nvlink>\d+)"),
    _rule("gpu.fallen_off_bus", FATAL, rf"NVRM: .*?GPU (?:at )?{_PCI}\b.*fallen off the bus"),
    _rule("gpu.fallen_off_bus", FATAL, r"NVRM: .*fallen off the bus"),
    _rule("gpu.init_failed", ERROR, rf"NVRM: GPU {_PCI}: RmInitAdapter failed"),
    _rule("gpu.rpc_timeout", ERROR, rf"NVRM: Rate limiting GSP RPC error .* GPU at {_PCI} "),
    _rule("gpu.rpc_timeout", ERROR, r"NVRM: .*(?:RPC|GSP.*heartbeat).*(?:timed out|[Tt]imeout)"),
    _rule("gpu.peermem_invalid_context", WARN,
          r"nvidia-peermem nv_get_p2p_free_callback:\d+ ERROR detected invalid context"),

    # kernel/hung_task.c, watchdog.c, rcu/tree_stall.h, panic.c; oopses of the architectures.
    _rule("kernel.hung_task", ERROR, rf"INFO: task (?P<process_name>.+):{_PID} blocked "
          rf"(?:in I/O wait )?for more than {_SECONDS} seconds"),
    _rule("kernel.soft_lockup", ERROR,
          rf"BUG: soft lockup - CPU#{_CPU} stuck for {_SECONDS}s! \[{_NAME}:{_PID}\]"),
    _rule("kernel.hard_lockup", FATAL, rf"Watchdog detected hard LOCKUP on cpu {_CPU}"),
    _rule("kernel.rcu_stall", ERROR, r"INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stalls?"),
    _rule("kernel.panic", FATAL, r"^Kernel panic - not syncing: (?P<reason>.*)"),
    _rule("kernel.oops", ERROR,
          r"^(?:BUG: (?:unable to handle|kernel NULL)|general protection fault|Oops: )"),
    # mm/oom_kill.c
    _rule(_OOM_REASON, WARN, r"^oom-kill:constraint=(?P<constraint>\w+),"
          r"(?:.*?,oom_memcg=(?P<cgroup>[^,]*))?"
          rf"(?:.*?,task_memcg=(?P<task_cgroup>[^,]*),task={_NAME},pid={_PID},uid=\d+)?"),
    _rule(OOM, ERROR, rf"\bKilled process {_PID}(?:, UID \d+,)? \({_NAME}\)(?:,| |$|\.)"),
    # arch/x86/kernel/fault.c
    _rule("kernel.segfault", ERROR, rf"^{_NAME}\[{_PID}\]: segfault at .* in "
          r"(?P<library>lib(?:nccl|cuda|nvidia|torch)[^\[\s]*)"),

    # arch/x86/kernel/cpu/mce/core.c, drivers/acpi/apei/ghes.c, drivers/edac, drivers/pci/pcie,
    # drivers/thermal/intel/therm_throt.c
    _rule("kernel.mce", ERROR, rf"{_MCE}CPU {_CPU}: Machine Check(?: Exception)?: \w+ "
          r"Bank (?P<bank>\d+): (?P<status>\w+)"),
    _rule("kernel.mce", WARN, rf"{_MCE}Machine check events logged"),
    _rule("kernel.mce", ERROR, rf"{_MCE}(?P<level>Corrected|Deferred|Uncorrected) error"),
    _rule("kernel.mce", ERROR, rf"{_MCE}event severity: (?P<level>\w+)"),
    _rule("kernel.edac", ERROR, r"^EDAC (?P<controller>MC\d+): (?P<count>\d+) (?P<level>CE|UE) "),
    _rule("pcie.error", ERROR, rf"^\S+ {_ADDRESS}: (?:AER: )?PCIe Bus Error: severity="
          r"(?P<level>Correct\w+|Uncorrect\w+ \([\w-]+\)), type=(?P<type>[^,]+)"),
    _rule("pcie.contained", ERROR, rf"^pcieport {_ADDRESS}: DPC: containment event"),
    _rule("pcie.link_down", WARN,
          rf"^pcieport {_ADDRESS}: pciehp: Slot\((?P<slot>[^)]+)\): Link Down"),
    _rule("kernel.cpu_throttled", WARN,
          rf"^CPU{_CPU}: (?P<scope>Core|Package) temperature (?:is )?above threshold"),

    # drivers/net/ethernet/mellanox/mlx5/core. Limited functions on HGX B200 and GB200 refuse a
    # register at each read of their sysfs (node_exporter#3434).
    _rule("nic.high_temperature", ERROR, rf"{_MLX5}.*[Hh]igh [Tt]emperature"),
    _rule("nic.insufficient_power", ERROR, rf"{_MLX5}.*insufficient power"),
    _rule("nic.command_failed", WARN,
          rf"{_MLX5}.*mlx5_cmd_out_err.* (?P<command>[A-Z_]+)\((?P<opcode>0x[0-9a-f]+)\)"),
    _rule("nic.health", ERROR, rf"{_MLX5}.*health compromised"),
    _rule("nic.module_error", WARN,
          rf"{_MLX5}Port module event\[error\]: module (?P<module>\d+), (?P<reason>.*)"),
)
# fmt: on

EVENTS = tuple(dict.fromkeys(rule.event for rule in RULES if rule.event != _OOM_REASON))

# How bad it is, in the words of those messages that say so.
_LEVELS = {
    "Corrected": WARN, "corrected": WARN, "info": INFO, "Deferred": WARN,
    "Uncorrected": ERROR, "recoverable": ERROR, "fatal": FATAL, "CE": WARN, "UE": ERROR,
    "Fatal": FATAL, "Nonfatal": WARN, "Non-fatal": WARN, "non-fatal": WARN,
}  # fmt: skip

# Xids 144 to 150, NVLink 5: unit, severity, crossbar, instance, link and the registers.
_NVLINK = re.compile(
    r"(?P<unit>\w+) +(?P<level>Fatal|Nonfatal) +XC\d+ +i\d+ +Link +(?P<nvlink>-?\d+) +"
    r"\((?P<intrinfo>0x[0-9a-f]{1,8})\b"
)
_RECOVERY = re.compile(r"recovery action changed from .* to 0x\w+ \((?P<action>[^)]+)\)")
_RECOVERIES = {"None": INFO, "Drain P2P": WARN}  # a reset or reboot is more


def match(text: str) -> Finding | None:
    """Say what a message means, None if it means nothing to us."""
    for event, severity, pattern in RULES:
        found = pattern.search(text)
        if found:
            told = {name: value for name, value in found.groupdict().items() if value}
            if event == XID:
                return _xid(told)
            return Finding(event, _severity(told.get("level", ""), severity), told)
    return None


def _severity(level: str, otherwise: Severity) -> Severity:
    if level.startswith("Correct"):
        return WARN
    return FATAL if level.endswith("(Fatal)") else _LEVELS.get(level, otherwise)


def _xid(told: dict[str, str]) -> Finding:
    """Take in what the catalogue knows of an Xid; what the message itself says goes before."""
    number, rest = int(told["xid"]), told.pop("rest", "")
    known = xid.lookup(number)
    severity = known.severity
    told["xid"] = str(number)
    if known.name:
        told["name"] = known.name
    if known.action:
        told["action"] = known.action
    if 144 <= number <= 150 and (nvlink := _NVLINK.search(rest)):
        told |= nvlink.groupdict()
        # The driver's decoding of the first register (gpud, components/accelerator/nvidia/xid).
        told["subcode"] = str(int(told.pop("intrinfo"), 16) >> 20 & 0x3F)
        severity = _LEVELS[told["level"]]
    elif number == 154 and (recovery := _RECOVERY.search(rest)):
        told["recovery"] = recovery["action"]
        severity = _RECOVERIES.get(recovery["action"], FATAL)
    return Finding(XID, severity, told)


class Classifier:
    """Says what each message means, and joins those that mean one thing.

    The kernel says first why somebody is to be killed for want of memory, and then who was.
    """

    def __init__(self) -> None:
        self._reason: dict[str, str] = {}

    def classify(self, text: str) -> Finding | None:
        """Take the next message of the log."""
        found = match(text)
        if found is None or found.event not in (_OOM_REASON, OOM):
            return found
        told = dict(found.attributes)
        if found.event == _OOM_REASON:
            self._reason = told
            return Finding(OOM, ERROR, told) if "process_pid" in told else None
        reason, self._reason = self._reason, {}
        if reason.get("process_pid") == told["process_pid"]:
            return None  # told with the reason
        if "process_pid" not in reason:
            told = reason | told
        return Finding(OOM, ERROR, told)
