"""Where GPUs sit, and where their processes may run and take memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from collector.read.files import Files

_DEVICES = "sys/bus/pci/devices"
_ALLOWED = re.compile(r"^(Cpus|Mems)_allowed_list:\s*(\S*)$", re.MULTILINE)
_UID = re.compile(r"^Uid:\s*(\d+)", re.MULTILINE)
_KB = 1024


class Locality(NamedTuple):
    """What is near to a GPU: its NUMA node, and processors as a list (`0-31,64-95`)."""

    node: int
    cpus: str


class Allowed(NamedTuple):
    """Whose a process is, and which processors and NUMA nodes it may use."""

    user: str
    cpus: frozenset[int]
    nodes: frozenset[int]


def locality(files: Files, address: str) -> Locality | None:
    """Read what is near to a PCI device; None where the firmware does not say.

    The node is -1 then, and the list has all processors (Documentation/ABI/testing/sysfs-bus-pci).
    """
    node = files.text(f"{_DEVICES}/{address}/numa_node")
    cpus = files.text(f"{_DEVICES}/{address}/local_cpulist")
    return Locality(int(node), cpus) if node.isdecimal() and cpus else None


def allowed(root: Path, pid: int) -> Allowed | None:
    """Read what the main thread of a process may use; None if it is gone."""
    try:
        text = (root / "proc" / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    lists = {name: members(value) for name, value in _ALLOWED.findall(text)}
    user = _UID.search(text)
    empty = frozenset[int]()
    return Allowed(user[1] if user else "", lists.get("Cpus", empty), lists.get("Mems", empty))


def members(text: str) -> frozenset[int]:
    """Read a list such as `0-3,8` (Documentation/admin-guide/cputopology.rst).

    Raises:
        ValueError: It is none.
    """
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def share(allowed: frozenset[int], near: frozenset[int]) -> float | None:
    """Which share of what is allowed is near; None where nothing is known to be allowed."""
    return len(allowed & near) / len(allowed) if allowed else None


def memory(numa_maps: str) -> dict[int, int]:
    """Add up the bytes on each NUMA node (man 5 proc_pid_numa_maps)."""
    found: dict[int, int] = {}
    for line in numa_maps.splitlines():
        fields = dict(field.partition("=")[::2] for field in line.split())
        size = fields.get("kernelpagesize_kB", "4")
        for name, pages in fields.items():
            if name[:1] == "N" and name[1:].isdecimal() and pages.isdecimal() and size.isdecimal():
                node = int(name[1:])
                found[node] = found.get(node, 0) + int(pages) * int(size) * _KB
    return found
