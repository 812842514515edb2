"""The processes of an engine that listens on a port of this host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from collector.read import processes
from collector.read.processes import Process

log = logging.getLogger(__name__)

_REFRESH = 30.0  # seconds after which workers that came or went are looked for
# Where this was set before the start, counters outlive the process (multiprocess mode of
# github.com/prometheus/client_python).
_KEPT_COUNTERS = "PROMETHEUS_MULTIPROC_DIR"


class Member(NamedTuple):
    """One process of the engine; `titles` are the command lines from the topmost one to it."""

    pid: int
    titles: tuple[str, ...]


class Service:
    """Follows the processes of one engine. Its methods block: call them off the loop.

    Args:
        root: Where the host's /proc is.
        port: The TCP port on which the engine listens.
        belongs: Says of a process that it is of such an engine, by its name and arguments.
    """

    def __init__(
        self, root: Path, port: int, belongs: Callable[[Process, list[str]], bool]
    ) -> None:
        self.members: list[Member] = []
        self.born: float | None = None
        """When the process that listens started, in seconds since the epoch; None if unknown, or
        if counters outlive it."""
        self._root = root
        self._port = port
        self._belongs = belongs
        self._listeners: set[Process] = set()
        self._looked = float("-inf")
        self._told = False

    def look(self, at: float) -> None:
        """See which processes there are; quick while they are those known.

        Args:
            at: Seconds since the epoch.
        """
        try:
            alive = all(processes.read(self._root, one.pid) == one for one in self._listeners)
            if alive and 0 <= at - self._looked < _REFRESH:
                return
            self._looked = at
            table = processes.table(self._root)
            if not self._listeners or any(table.get(one.pid) != one for one in self._listeners):
                self._find_listeners(table)
            self.members = self._find_members(table)
        except OSError as error:
            self._tell(f"give this service CAP_SYS_PTRACE: {error}")

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "port %d: it is not seen which process listens, so the engine's energy is not "
                "known; %s",
                self._port,
                why,
            )

    def _find_listeners(self, table: dict[int, Process]) -> None:
        self._listeners, self.members, self.born = set(), [], None
        inodes = processes.listening(self._root).get(self._port, set())
        self._listeners = {table[pid] for pid in processes.holders(self._root, inodes, table)}
        if not self._listeners:
            self._tell("no process of this network and process namespace does")
            return
        # Several hold the socket where one handed it to the other: the last one answers.
        last = max(self._listeners, key=lambda process: process.start)
        if not processes.sets(self._root, self._top(table).pid, _KEPT_COUNTERS):
            self.born = processes.started(self._root, last)

    def _find_members(self, table: dict[int, Process]) -> list[Member]:
        if not self._listeners:
            return []
        titles: dict[int, str] = {}
        members = []
        for line in processes.tree(table, self._top(table)):
            pid = line[-1].pid
            titles[pid] = " ".join(processes.command(self._root, pid)) or line[-1].comm
            members.append(Member(pid, tuple(titles[one.pid] for one in line)))
        return members

    def _top(self, table: dict[int, Process]) -> Process:
        first = min(self._listeners, key=lambda process: (process.start, process.pid))
        return processes.topmost(
            table,
            first.pid,
            lambda process: self._belongs(process, processes.command(self._root, process.pid)),
        )
