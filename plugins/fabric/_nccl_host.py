"""What of a job is on this host: its addresses and processes, from /proc."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv6Address
from pathlib import Path

# net/ipv4/fib_trie.c: a leaf, then its prefix with scope and type.
_LOCAL = re.compile(r"\|-- ([\d.]+)\n\s+/32 host LOCAL")
_PIDS = re.compile(rb"^NSpid:\t(.+)$", re.MULTILINE)  # man 5 proc_pid_status


def addresses(root: Path) -> set[str]:
    """Read the IP addresses that this host has.

    Raises:
        OSError: The kernel does not say.
    """
    net = root / "proc" / "net"
    found = set(_LOCAL.findall((net / "fib_trie").read_text()))
    six = net / "if_inet6"
    if six.exists():
        for line in six.read_text().splitlines():
            found.add(str(IPv6Address(int(line.split()[0], 16))))
    return found


def pids(root: Path, wanted: Collection[int]) -> dict[int, int]:
    """Map ids of processes as they see them themselves to their ids on this host.

    A process in a container has another id there. Where two processes on this host call themselves
    the same, neither is given: NCCL does not say in which container it is.
    """
    found: dict[int, list[int]] = defaultdict(list)
    for name in os.listdir(root / "proc"):  # noqa: PTH208 - bare names are wanted
        if name.isdecimal():
            try:
                ids = _PIDS.search((root / "proc" / name / "status").read_bytes())
            except OSError:  # it is gone
                continue
            if ids is not None and (inner := int(ids[1].split()[-1])) in wanted:
                found[inner].append(int(name))
    return {inner: outer[0] for inner, outer in found.items() if len(outer) == 1}
