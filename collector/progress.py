"""What ranks and the processes behind them have done lately, as far as can be read."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field

from collector.catalog import fabric, gpu
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.settings import Hangs as Settings
from collector.store import Store
from collector.topology import Topology

_COUNTS = (fabric.RANK_LAUNCHED, fabric.RANK_COMPLETED)
_READINGS = 2  # at least, that show the same counts
_PAUSES = 16  # that are remembered of a process
_PATIENCE = 3.0  # times the longest of them
_MOST_PATIENCE = 300.0  # seconds; a job that loads its model pauses for as long

Counts = dict[tuple[Metric, tuple[str, ...]], float]


@dataclass
class Rank:
    """The newest counts of a rank, and since when they have been what they are."""

    counts: Counts = field(default_factory=dict)
    newest: float = 0.0  # time of the newest reading
    since: float = 0.0  # time of the reading that first showed the counts of now


@dataclass
class Process:
    """A process; times are those of readings, but for `busy` and `idle`."""

    newest: float = 0.0
    since: float = 0.0
    readings: int = 0  # after `since`
    pauses: deque[float] = field(default_factory=lambda: deque(maxlen=_PAUSES))
    busy: float | None = None  # since when its GPUs have been, without a break
    idle: float | None = None  # since when they have not

    def read(self, newest: float, since: float) -> None:
        """Take what its ranks show."""
        if since > self.since:
            if self.since:
                self.pauses.append(since - self.since)
            self.since, self.readings = since, 0
        if newest > self.newest:
            self.readings += newest > self.since
            self.newest = newest


class Progress:
    """Follows the ranks of this host; `collector.hangs` says what is made of it.

    Args:
        settings: The config's `[hangs]`.
        host: The host this daemon runs on.
        store: Where readings are taken from.
        topology: Which rank is of which process, and which GPUs that uses.

    Attributes:
        ranks: Those of which counts are known now.
        processes: Theirs; a rank of which no process is known stands for itself.
    """

    def __init__(self, settings: Settings, host: Entity, store: Store, topology: Topology) -> None:
        self._settings = settings
        self._host = host
        self._store = store
        self._topology = topology
        self.ranks: dict[Entity, Rank] = {}
        self.processes: dict[Entity, Process] = {}

    def read(self, now: float) -> None:
        """Take the counts of all ranks, and what follows for their processes."""
        found: dict[Entity, tuple[Counts, float]] = defaultdict(lambda: ({}, 0.0))
        for metric in _COUNTS:
            for key, row in self._store.by_metric.get(metric, {}).items():
                if key.entity.key[0] == self._host.key[0] and self._store.expires[row] > now:
                    counts, newest = found[key.entity]
                    counts[metric, key.labels] = float(self._store.value[row])
                    found[key.entity] = counts, max(newest, float(self._store.time[row]))
        seen: dict[Entity, list[Rank]] = defaultdict(list)
        for entity, (counts, newest) in found.items():
            rank = self.ranks.setdefault(entity, Rank(counts, newest, newest))
            if newest < rank.newest:  # the clock was set back
                rank.newest = rank.since = newest
            if any(rank.counts.get(name, value) != value for name, value in counts.items()):
                rank.since = newest
            rank.counts, rank.newest = counts, newest
            seen[self._process(entity)].append(rank)
        self.ranks = {entity: self.ranks[entity] for entity in found}
        for entity, ranks in seen.items():
            process = self.processes.setdefault(entity, Process())
            newest = max(rank.newest for rank in ranks)
            if newest < process.newest:
                process.newest = process.since = 0.0
            process.read(newest, max(rank.since for rank in ranks))
            busy = self._busy(entity, now)
            process.busy = (process.busy or now) if busy else None
            process.idle = (process.idle or now) if busy is False else None
        self.processes = {entity: self.processes[entity] for entity in seen}

    def _process(self, rank: Entity) -> Entity:
        """Give the process of a rank; one of which no process is known stands for itself."""
        links = self._topology.parents(rank, Kind.PROCESS)
        return links[0].parent if links else rank

    def members(self) -> dict[Entity, dict[Entity, Entity]]:
        """Map communicators to their ranks here, and these to their processes."""
        found: dict[Entity, dict[Entity, Entity]] = defaultdict(dict)
        for rank in self.ranks:
            found[Kind.COMMUNICATOR(*rank.key[:2])][rank] = self._process(rank)
        return found

    def gpus(self, process: Entity) -> list[Entity]:
        """Name the GPUs that a process uses."""
        return [link.parent for link in self._topology.parents(process, Kind.GPU)]

    def _busy(self, process: Entity, now: float) -> bool | None:
        """Say whether the GPUs of a process do nothing but wait; None where that is not known."""
        spinning = [self._spins(one, now) for one in self.gpus(process)]
        if False in spinning:
            return False
        return True if spinning and None not in spinning else None

    def _spins(self, one: Entity, now: float) -> bool | None:
        memory = self._store.latest(now, gpu.MEMORY_UTILIZATION, one)
        if memory is not None and memory > self._settings.memory:
            return False
        utilization = self._store.latest(now, gpu.UTILIZATION, one)
        if utilization is not None:
            return utilization >= self._settings.utilization
        watts = self._store.latest(now, gpu.POWER, one)
        limit = self._store.latest(now, gpu.POWER_LIMIT, one)
        if watts is None or not limit:
            return None
        return watts >= self._settings.power * limit

    def stands(self, entity: Entity) -> bool:
        """Say whether a process has stood still for long."""
        process = self.processes[entity]
        used_to = min(_PATIENCE * max(process.pauses, default=0.0), _MOST_PATIENCE)
        patience = max(self._settings.after, used_to)
        return process.readings >= _READINGS and process.newest - process.since >= patience

    def waits(self, entity: Entity, now: float) -> bool:
        """Say whether its GPUs have been busy with waiting for long."""
        busy = self.processes[entity].busy
        return busy is not None and now - busy >= self._settings.after
