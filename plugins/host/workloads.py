"""Processes that have a GPU open: where they may run, and which container, pod or job they are of.

And tasks in uninterruptible sleep, which is how a driver that hangs shows itself.
"""

from __future__ import annotations

import errno
import os
from collections import Counter as Tally
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr

from collector.batch import Batch, Event, Severity
from collector.catalog import host
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read import cgroup, processes
from collector.read.cgroup import Workload
from collector.read.files import Files, record
from plugins.host import _placement, _pods
from plugins.host._gpu_processes import Holders
from plugins.host._gpus import Gpus
from plugins.host._placement import Locality
from plugins.host._sleepers import CAUSES, Sleep, Sleepers, Task

# Of man 5 proc_pid_stat, counted from the state, which is field 3.
_STATE, _MINOR_FAULTS, _MAJOR_FAULTS, _START = 0, 7, 9, 19
_ASLEEP = "D"


class _Stat(NamedTuple):
    start: int
    name: str
    state: str
    minor_faults: int
    major_faults: int


class _Found(NamedTuple):
    """What is known of a process with a GPU, until it is looked at again."""

    minors: frozenset[int]
    command: str
    workload: Workload
    memory: dict[int, int]


class Workloads(Plugin):
    """Reads /proc for processes with a GPU, and for tasks that sleep and cannot be woken.

    Which of the GPUs that a process has open it uses is told by what it has mapped. Processes in
    another PID namespace than the daemon's are not seen: in Kubernetes it needs `hostPID`.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        host.PROCESS_INFO,
        host.PROCESS_FAULTS,
        host.PROCESS_NUMA_MEMORY,
        host.GPU_LOCALITY,
        host.GPU_PROCESS_CPUS,
        host.GPU_PROCESS_NODES,
        host.CONTAINER_INFO,
        host.POD_INFO,
        host.TASKS_UNINTERRUPTIBLE,
        host.TASKS_STUCK,
    )

    root: Path = Field(default=Path("/"), description="Where `proc`, `sys` and `var` are.")
    scan: float = Field(
        default=30.0, ge=0, description="Seconds between two searches for processes with a GPU."
    )
    stuck: float = Field(
        default=60.0, gt=0, description="Seconds of one sleep after which a task counts as stuck."
    )
    numa_maps: bool = Field(
        default=False,
        description="Whether to read on which node the memory of these processes lies. The kernel "
        "walks all their pages for that, and they wait meanwhile.",
    )

    _files: Files = PrivateAttr()
    _gpus: Gpus = PrivateAttr()
    _near: dict[str, Locality | None] = PrivateAttr(default_factory=dict)
    _holders: Holders = PrivateAttr()
    _sleepers: Sleepers = PrivateAttr()
    _told: set[Task] = PrivateAttr(default_factory=set)
    _found: dict[tuple[int, int], _Found] = PrivateAttr(default_factory=dict)
    _names: dict[str, _pods.Names] = PrivateAttr(default_factory=dict)
    _scanned: float | None = PrivateAttr(default=None)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config on Linux."""
        return [{}] if Path("/proc/stat").exists() else []

    def open(self) -> None:
        """Look at nothing yet."""
        self._files = Files(self.root)
        self._gpus = Gpus(self._files)
        self._holders = Holders(self.root)
        self._sleepers = Sleepers(self.root)
        self._scanned = None

    def poll(self, batch: Batch) -> None:
        """Read the state of all processes, and more of those with a GPU.

        Raises:
            FileNotFoundError: There is no /proc below `root`.
        """
        seen = self._gpus.read()
        gpus = {gpu.minor: gpu for gpu in seen.values() if gpu.uuid}
        stats = self._stats()
        stuck = self._sleep(batch, stats)
        if self._scanned is None or not 0 <= batch.at - self._scanned < self.scan:
            self._scanned = batch.at
            self._found = self._search(batch.at, stats, stuck) if seen else {}
        if seen and self._holders.refused:
            mend = (
                f"{self._holders.refused} processes may not be looked into, and may have a GPU: "
                "give the daemon the ambient capability CAP_SYS_PTRACE"
            )
            place = str(self.root / "proc")
            batch.failed(batch.host, PermissionError(errno.EACCES, mend, place))
        for gpu in gpus.values():
            if gpu.address not in self._near:
                self._near[gpu.address] = _placement.locality(self._files, gpu.address)
            if near := self._near[gpu.address]:
                entity = Kind.GPU(*batch.host.key, gpu.uuid)
                batch.add(host.GPU_LOCALITY, entity, 1.0, str(near.node), near.cpus)
        for (pid, start), found in self._found.items():
            stat = stats.get(pid)
            if stat is None or stat.start != start:
                continue
            allowed = _placement.allowed(self.root, pid)
            if allowed is None:
                continue
            self._describe(batch, pid, stat, found, allowed.user)
            for gpu in (gpus[minor] for minor in found.minors if minor in gpus):
                if near := self._near[gpu.address]:
                    entity, local = Kind.GPU(*batch.host.key, gpu.uuid), frozenset({near.node})
                    share = _placement.share(allowed.cpus, _placement.members(near.cpus))
                    batch.add(host.GPU_PROCESS_CPUS, entity, share, str(pid))
                    share = _placement.share(allowed.nodes, local)
                    batch.add(host.GPU_PROCESS_NODES, entity, share, str(pid))

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def record(self, folder: Path) -> None:
        """Save what one poll reads of GPUs and of the processes that have one open."""
        record(self, lambda: self._files, folder)
        for (pid, _), found in self._found.items():
            process = Path("proc", str(pid))
            target = folder / "input" / "root" / process
            (target / "fd").mkdir(parents=True, exist_ok=True)
            for name in ("stat", "status", "cgroup"):
                (target / name).write_bytes((self.root / process / name).read_bytes())
            (target / "cmdline").write_text(f"{found.command}\0")
            devices = [f"/dev/nvidia{minor}" for minor in sorted(found.minors)]
            (target / "maps").write_text("".join(f"{device}\n" for device in devices))
            for number, device in enumerate(["/dev/nvidiactl", *devices]):
                (target / "fd" / str(number)).symlink_to(device)

    def _stats(self) -> dict[int, _Stat]:
        found = {}
        for name in os.listdir(self.root / "proc"):  # noqa: PTH208 - bare names are wanted
            if name.isdecimal() and (stat := self._stat(f"{name}/stat")):
                found[int(name)] = stat
        return found

    def _stat(self, path: str) -> _Stat | None:
        read = processes.stat(f"{self.root}/proc/{path}")
        if read is None or len(read[1]) <= _START:
            return None
        name, fields = read
        faults = int(fields[_MINOR_FAULTS]), int(fields[_MAJOR_FAULTS])
        return _Stat(int(fields[_START]), name, fields[_STATE], *faults)

    def _sleep(self, batch: Batch, stats: dict[int, _Stat]) -> set[int]:
        """Look for sleepers, and return their processes."""
        tasks = [
            Task(pid, pid, stat.start, stat.name)
            for pid, stat in stats.items()
            if stat.state == _ASLEEP
        ]
        for pid, _ in self._found:
            for tid in self._files.names(f"proc/{pid}/task"):
                thread = self._stat(f"{pid}/task/{tid}/stat") if tid != str(pid) else None
                if thread and thread.state == _ASLEEP:
                    tasks.append(Task(pid, int(tid), thread.start, thread.name))
        sleeps = self._sleepers.see(tasks, batch.at)
        stuck = [sleep for sleep in sleeps if batch.at - sleep.since >= self.stuck]
        for metric, those in ((host.TASKS_UNINTERRUPTIBLE, sleeps), (host.TASKS_STUCK, stuck)):
            count = Tally(sleep.cause for sleep in those)
            for cause in CAUSES:
                batch.add(metric, batch.host, count[cause], cause)
        for sleep in stuck:
            if sleep.task not in self._told:
                batch.event(_event(sleep, batch.host, batch.at))
        self._told = {sleep.task for sleep in stuck}
        return {task.pid for task in tasks}

    def _search(
        self, now: float, stats: dict[int, _Stat], stuck: set[int]
    ) -> dict[tuple[int, int], _Found]:
        """Find the processes with a GPU, and what can change of them."""
        starts = {pid: stat.start for pid, stat in stats.items()}
        self._names = _pods.containers(self.root)
        found = {}
        for key, holder in self._holders.find(starts, stuck, now).items():
            pid, known = key[0], self._found.get(key)
            if pid in stuck:  # the rest needs the lock of its memory map
                command, memory = (known.command, known.memory) if known else ("", {})
            else:
                command, memory = processes.command(self.root, pid)[0], self._memory(pid)
            workload = cgroup.read(self.root, pid)
            found[key] = _Found(holder.used, command, workload, memory)
        return found

    def _memory(self, pid: int) -> dict[int, int]:
        if not self.numa_maps:
            return {}
        try:
            path = self.root / "proc" / str(pid) / "numa_maps"
            return _placement.memory(path.read_text(errors="replace"))
        except OSError:  # gone, or a kernel without NUMA
            return {}

    def _describe(self, batch: Batch, pid: int, stat: _Stat, found: _Found, user: str) -> None:
        process, workload = Kind.PROCESS(*batch.host.key, str(pid)), found.workload
        batch.add(
            host.PROCESS_INFO, process, 1.0, stat.name, found.command, user, workload.container,
            workload.pod, workload.job, workload.step, workload.task,
        )  # fmt: skip
        batch.add(host.PROCESS_FAULTS, process, stat.minor_faults, "minor")
        batch.add(host.PROCESS_FAULTS, process, stat.major_faults, "major")
        for node, size in found.memory.items():
            batch.add(host.PROCESS_NUMA_MEMORY, process, size, str(node))
        owner = process
        names = self._names.get(workload.container, _pods.Names("", "", ""))
        if workload.container:
            container = Kind.CONTAINER(workload.container)
            batch.add(host.CONTAINER_INFO, container, 1.0, workload.runtime, *names)
            batch.link(process, container)
            owner = container
        if workload.pod:
            pod = Kind.POD(workload.pod)
            batch.add(host.POD_INFO, pod, 1.0, names.namespace, names.pod, workload.qos)
            batch.link(owner, pod)
        if workload.job:
            batch.link(process, Kind.JOB(workload.job))


def _event(sleep: Sleep, on: Entity, now: float) -> Event:
    task, seconds = sleep.task, round(now - sleep.since)
    place = f" in {sleep.place}" if sleep.place else ""
    return Event(
        "kernel.task_stuck",
        Kind.PROCESS(*on.key, str(task.pid)),
        now,
        Severity.ERROR if sleep.cause == "nvidia" else Severity.WARN,
        f"{task.name} (thread {task.tid} of process {task.pid}) has been in uninterruptible sleep "
        f"for {seconds} s{place}",
        (
            ("process.pid", str(task.pid)),
            ("process.executable.name", task.name),
            ("thread.id", str(task.tid)),
            ("cause", sleep.cause),
            ("place", sleep.place),
        ),
    )
