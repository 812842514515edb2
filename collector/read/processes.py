"""Reads processes from /proc, and finds those behind a listening port.

Formats: man 5 proc, and Documentation/networking/proc_net_tcp.rst of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

_LISTEN = "0A"  # include/net/tcp_states.h: TCP_LISTEN
_LINE = 4096  # bytes; a stat file has one line of fewer
_START = 21  # man 5 proc_pid_stat: starttime is field 22


class Process(NamedTuple):
    """One process; pid and `start` together name it for good.

    Attributes:
        pid: Its id, as the daemon's /proc counts.
        parent: The id of its parent.
        start: When it started, in clock ticks since boot.
        comm: Its name, cut to 15 characters by the kernel.
    """

    pid: int
    parent: int
    start: int
    comm: str


def read(root: Path, pid: int) -> Process | None:
    """Read one process; None if it is gone."""
    found = stat(f"{root}/proc/{pid}/stat")
    if found is None:
        return None
    comm, fields = found
    return Process(pid, int(fields[1]), int(fields[_START - 2]), comm)


def stat(path: str) -> tuple[str, list[str]] | None:
    """Read a `stat` file of a process or thread; None if it is gone.

    Returns:
        The name, and the fields from the state on: the third of man 5 proc_pid_stat comes first.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)  # Path takes twice as long, and hosts have many
        try:
            text = os.read(descriptor, _LINE).decode(errors="replace")
        finally:
            os.close(descriptor)
    except OSError:
        return None
    # The name stands in parentheses and may hold blanks and parentheses.
    comm, _, rest = text.partition("(")[2].rpartition(")")
    return comm, rest.split()


def table(root: Path) -> dict[int, Process]:
    """Read all processes."""
    with os.scandir(root / "proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    return {pid: process for pid in pids if (process := read(root, pid)) is not None}


def command(root: Path, pid: int) -> list[str]:
    """Read a process's arguments, which it may have written over; empty if it is gone."""
    try:
        raw = (root / "proc" / str(pid) / "cmdline").read_bytes()
    except OSError:
        return []
    return raw.rstrip(b"\0").decode(errors="replace").split("\0")


def sets(root: Path, pid: int, variable: str) -> bool:
    """Say whether a process was started with that environment variable; False if unreadable."""
    try:
        raw = (root / "proc" / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return any(entry.startswith(variable.encode() + b"=") for entry in raw.split(b"\0"))


def started(root: Path, process: Process) -> float:
    """When a process started, in seconds since the epoch.

    Raises:
        OSError: /proc/stat does not say when the host was started.
    """
    path = root / "proc" / "stat"
    booted = re.search(r"^btime (\d+)", path.read_text(), re.MULTILINE)
    if booted is None:
        raise OSError(f"{path}: no line btime")
    return int(booted[1]) + process.start / os.sysconf("SC_CLK_TCK")


def listening(root: Path) -> dict[int, set[str]]:
    """Read for each TCP port that is listened on in this network namespace its sockets' inodes."""
    found: dict[int, set[str]] = defaultdict(set)
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in (root / "proc" / "net" / name).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    found[int(fields[1].rpartition(":")[2], 16)].add(fields[9])
    return found


def holders(root: Path, inodes: Iterable[str], pids: Iterable[int]) -> set[int]:
    """Say which of the processes hold one of the sockets.

    Raises:
        PermissionError: No holder was found, and some processes may not be looked into.
    """
    wanted = {f"socket:[{inode}]" for inode in inodes}
    found: set[int] = set()
    if not wanted:
        return found
    refused: PermissionError | None = None
    for pid in pids:
        try:
            with os.scandir(root / "proc" / str(pid) / "fd") as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        # A host can have 100,000 descriptors, and Path is slow.
                        if os.readlink(entry.path) in wanted:  # noqa: PTH115
                            found.add(pid)
                            break
        except PermissionError as error:
            refused = error
        except OSError:  # the process is gone
            continue
    if refused is not None and not found:
        raise refused
    return found


def topmost(processes: dict[int, Process], pid: int, belongs: Callable[[Process], bool]) -> Process:
    """Climb from a process to the topmost of its ancestors that belong to the same service."""
    process = processes[pid]
    while (parent := processes.get(process.parent)) is not None and belongs(parent):
        process = parent
    return process


def tree(processes: dict[int, Process], top: Process) -> list[tuple[Process, ...]]:
    """All of a process and its descendants, each as the line that leads from the top to it."""
    children: dict[int, list[Process]] = defaultdict(list)
    for process in processes.values():
        children[process.parent].append(process)
    found: list[tuple[Process, ...]] = [(top,)]
    for line in found:  # grows while it is walked
        found.extend((*line, child) for child in children[line[-1].pid] if child not in line)
    return found
