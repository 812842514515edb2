"""Finds collectives that stand still while GPUs are busy.

The state that NCCL's RAS reports says nothing: it was RUNNING and OK for the 30 minutes until an
all-reduce timed out (NVIDIA/nccl issue 1730). What tells is that the counts of operations stop
while GPUs spin in a kernel that waits. The rules:

- A process makes progress where any rank of it launches or completes an operation, in whatever
  communicator: most communicators are used rarely.
- It stands still if it made none for `after` seconds by the times of the readings, in at least two
  of them, and for three times its longest pause lately, but five minutes suffice. Where nothing is
  read, nothing is known.
- It waits if it stands still while all of its GPUs are busy and hardly use their memory, for as
  long: a kernel of NCCL that waits spins, one that computes reads and writes. So replays of CUDA
  graphs, whose collectives are not counted, are no hang.
- A communicator hangs if all its processes on this host stand still and one of them waits. Of
  several that share processes those with uneven counts are meant, else those used last.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Mapping

from collector.batch import Batch, Event, Severity
from collector.catalog import fabric, hangs
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.progress import Progress
from collector.settings import Hangs as Settings
from collector.store import Store
from collector.topology import Topology

INTERVAL = 5.0  # seconds between two steps
METRICS = frozenset(value for value in vars(hangs).values() if isinstance(value, Metric))

_LAUNCHED = fabric.RANK_LAUNCHED


class Hangs:
    """What the daemon derives of the progress of ranks on this host.

    Args:
        settings: The config's `[hangs]`.
        host: The host this daemon runs on.
        store: Where readings are taken from.
        topology: Which rank is of which communicator and process, and which GPUs that uses.
    """

    def __init__(self, settings: Settings, host: Entity, store: Store, topology: Topology) -> None:
        self._settings = settings
        self._host = host
        self._store = store
        self._progress = Progress(settings, host, store, topology)
        self._hung: dict[Entity, float] = {}  # time of the last operation before

    def step(self, now: float) -> Batch:
        """Look at the newest readings; the batch has samples, and an event for each change."""
        batch = Batch(self._host, now, METRICS, self._store.index)
        self._progress.read(now)
        members = self._progress.members()
        hung = self._find(members, now)
        for communicator, since in list(self._hung.items()):
            end = self._end(since, members.get(communicator), now)
            if end:
                del self._hung[communicator]
                batch.event(self._recovered(communicator, since, end, now))
        for communicator in hung - self._hung.keys():
            ranks = members[communicator]
            processes = map(self._progress.processes.__getitem__, ranks.values())
            self._hung[communicator] = max(process.since for process in processes)
            batch.event(self._begun(communicator, ranks, now))
        for communicator, ranks in members.items():
            self._add(batch, communicator, ranks, now)
        return batch

    def _find(self, members: Mapping[Entity, Mapping[Entity, Entity]], now: float) -> set[Entity]:
        """Name the communicators that hang now."""
        suspects = {
            communicator: set(ranks.values())
            for communicator, ranks in members.items()
            if all(self._progress.stands(process) for process in ranks.values())
            and any(self._progress.waits(process, now) for process in ranks.values())
        }
        weight = {
            one: (self._uneven(one, members[one], now), self._used(members[one]))
            for one in suspects
        }
        return {
            one
            for one, processes in suspects.items()
            if not any(
                weight[other] > weight[one] and processes & suspects[other] for other in suspects
            )
        }

    def _used(self, ranks: Iterable[Entity]) -> float:
        return max(self._progress.ranks[rank].since for rank in ranks)

    def _uneven(self, communicator: Entity, ranks: Iterable[Entity], now: float) -> bool:
        """Say whether some rank, wherever it is, launched less than another."""
        collectives = {labels for rank in ranks for _, labels in self._launched(rank)}
        for labels in collectives:
            least, greatest = (
                self._store.latest(now, fabric.COMMUNICATOR_OPERATIONS, communicator, *labels, name)
                for name in ("least", "greatest")
            )
            if least is not None and least != greatest:
                return True
        return bool(self._lagging(communicator, ranks, now))

    def _launched(self, rank: Entity) -> list[tuple[float, tuple[str, ...]]]:
        # What Inspector counts begins with the file of each process, and cannot be compared.
        counts = self._progress.ranks[rank].counts
        return [(n, labels) for (metric, labels), n in counts.items() if metric is _LAUNCHED]

    def _lagging(self, communicator: Entity, ranks: Iterable[Entity], now: float) -> list[Entity]:
        """Name the ranks here that launched less than most; RAS knows those of other hosts, too."""
        tallies: dict[tuple[str, ...], Tally[float]] = defaultdict(Tally)
        for rank in ranks:
            for count, labels in self._launched(rank):
                tallies[labels][count] += 1
        most = {}
        for labels, tally in tallies.items():
            known = self._store.latest(
                now, fabric.COMMUNICATOR_OPERATIONS, communicator, *labels, "most_common"
            )
            common = max(tally, key=lambda count: (tally[count], count))
            most[labels] = common if known is None else known
        return [
            rank
            for rank in ranks
            if any(count < most[labels] for count, labels in self._launched(rank))
        ]

    def _end(self, since: float, ranks: Mapping[Entity, Entity] | None, now: float) -> str:
        """Say why a hang is over; "" where it goes on, or nothing is known."""
        if not ranks:
            return "its ranks are no longer reported"
        processes = [self._progress.processes[process] for process in ranks.values()]
        if any(process.since > since for process in processes):
            return "operations go on"
        if all(
            one.idle is not None and now - one.idle >= self._settings.after for one in processes
        ):
            return "its GPUs no longer wait"
        return ""

    def _begun(self, communicator: Entity, ranks: Mapping[Entity, Entity], now: float) -> Event:
        lagging = self._lagging(communicator, ranks, now)
        if lagging:
            blame = f"ranks {_numbers(lagging)} lag behind"
        elif self._uneven(communicator, ranks, now):
            blame = "ranks of other hosts lag behind"
        else:
            blame = "no rank lags behind"
        seconds = self._stalled(ranks)
        gpus = sorted(
            {one.key[1] for process in ranks.values() for one in self._progress.gpus(process)}
        )
        processes = sorted({one.key[1] for one in ranks.values() if one.kind is Kind.PROCESS})
        attributes = (
            ("ranks", _numbers(ranks)),
            ("ranks.lagging", _numbers(lagging)),
            ("process.pids", ", ".join(processes)),
            ("gpus", ", ".join(gpus)),
            ("stalled", f"{seconds:.0f}"),
        )
        text = f"no operation for {seconds:.0f} s while GPUs wait; {blame}"
        return Event("collective.hang", communicator, now, Severity.ERROR, text, attributes)

    def _recovered(self, communicator: Entity, since: float, why: str, now: float) -> Event:
        text = f"{why}, {now - since:.0f} s after the last operation before"
        attributes = (("reason", why),)
        return Event("collective.recovered", communicator, now, Severity.INFO, text, attributes)

    def _stalled(self, ranks: Iterable[Entity]) -> float:
        return max(self._progress.ranks[rank].newest for rank in ranks) - self._used(ranks)

    def _add(
        self, batch: Batch, communicator: Entity, ranks: Mapping[Entity, Entity], now: float
    ) -> None:
        hangs_now = communicator in self._hung
        batch.add(hangs.STALLED, communicator, self._stalled(ranks))
        if hangs_now or any(self._progress.gpus(process) for process in ranks.values()):
            batch.add(hangs.HUNG, communicator, float(hangs_now))
        lagging = set(self._lagging(communicator, ranks, now)) if hangs_now else set()
        for rank in ranks:
            batch.add(hangs.LAGGING, rank, float(rank in lagging))


def _numbers(ranks: Iterable[Entity]) -> str:
    return ", ".join(map(str, sorted(int(rank.key[2]) for rank in ranks)))
