from __future__ import annotations

from typing import Any

import pytest

from collector.batch import Batch, Event, Link
from collector.catalog import fabric, gpu, hangs
from collector.entity import Entity, Kind
from collector.hangs import Hangs
from collector.settings import Hangs as Settings
from collector.store import Store
from collector.topology import Topology

HOST = Kind.HOST("node1")
NOW = 1_760_000_000.0
POLL = 10.0
DECLARED = {
    fabric.RANK_LAUNCHED,
    fabric.RANK_COMPLETED,
    fabric.COMMUNICATOR_OPERATIONS,
    gpu.UTILIZATION,
    gpu.MEMORY_UTILIZATION,
    gpu.POWER,
    gpu.POWER_LIMIT,
}


def rank(number: int, communicator: str = "0xa") -> Entity:
    return Kind.RANK("node1", communicator, str(number))


def process(number: int) -> Entity:
    return Kind.PROCESS("node1", str(100 + number))


def device(number: int) -> Entity:
    return Kind.GPU("node1", f"GPU-{number}")


class Node:
    """A host whose ranks, one process and one GPU each, do what a test says, poll by poll."""

    def __init__(self, ranks: int = 2, communicators: tuple[str, ...] = ("0xa",), **settings: Any):
        self.now = NOW
        self.store, self.topology = Store(), Topology()
        self.hangs = Hangs(Settings(**settings), HOST, self.store, self.topology)
        self.counts = {(name, number): 0.0 for name in communicators for number in range(ranks)}
        self.metric = fabric.RANK_LAUNCHED
        self.gpus: dict[int, dict[Any, float | None]] = {
            number: {gpu.UTILIZATION: 1.0, gpu.MEMORY_UTILIZATION: 0.5} for number in range(ranks)
        }
        self.events: list[Event] = []
        self.ras = True
        self.nvml = True
        links = [
            Link(rank(number, name), process(number), 1.0)
            for name in communicators
            for number in range(ranks)
        ]
        self.topology.observe("ras", links, NOW)
        uses = [Link(process(number), device(number), 1.0) for number in range(ranks)]
        self.topology.observe("nvml", uses, NOW)

    def poll(self, count: int = 1, spinning: tuple[int, ...] = ()) -> dict[str, float]:
        """Let all poll and look for hangs so often; return what the last step derived."""
        for _ in range(count):
            self.now += POLL
            batch = Batch(HOST, self.now, DECLARED)
            if self.ras:
                for (name, number), value in self.counts.items():
                    batch.add(self.metric, rank(number, name), value, "AllReduce")
            if self.nvml:
                for number, values in self.gpus.items():
                    spins = {gpu.UTILIZATION: 1.0, gpu.MEMORY_UTILIZATION: 0.0}
                    for metric, one in (spins if number in spinning else values).items():
                        batch.add(metric, device(number), one)
            self.store.write(batch, "test", 3 * POLL)
            self.derived = self.hangs.step(self.now)
            self.events += self.derived.events
        return {
            f"{key.metric.name}:{'/'.join(key.entity.key[1:])}": value
            for key, value in zip(self.derived.keys, self.derived.values, strict=True)
        }

    def run(self, polls: int = 5, step: float = 100.0) -> None:
        """Let all ranks work."""
        for _ in range(polls):
            for key in self.counts:
                self.counts[key] += step
            self.poll()

    def names(self) -> list[str]:
        return [event.name for event in self.events]


def test_ranks_that_stop_while_their_gpus_spin_hang_and_recover() -> None:
    node = Node()
    node.run()
    assert node.events == []
    found = node.poll(5, spinning=(0, 1))
    (event,) = node.events
    assert event.name == "collective.hang"
    assert event.entity == Kind.COMMUNICATOR("node1", "0xa")
    assert dict(event.attributes) == {
        "ranks": "0, 1",
        "ranks.lagging": "",
        "process.pids": "100, 101",
        "gpus": "GPU-0, GPU-1",
        "stalled": "40",
    }
    assert found["communicator.hung:0xa"] == 1
    assert found["communicator.stalled:0xa"] == 50
    assert found["rank.lagging:0xa/0"] == 0
    node.run(1)
    assert node.names() == ["collective.hang", "collective.recovered"]
    assert node.poll()["communicator.hung:0xa"] == 0


def test_a_hang_is_told_once() -> None:
    node = Node()
    node.run()
    node.poll(50, spinning=(0, 1))
    assert node.names() == ["collective.hang"]


def test_the_rank_behind_lags_even_where_its_own_gpu_is_idle() -> None:
    node = Node(3)
    node.run()
    node.counts["0xa", 0] += 1
    node.counts["0xa", 1] += 1
    node.gpus[2] = {gpu.UTILIZATION: 0.0, gpu.MEMORY_UTILIZATION: 0.0}
    found = node.poll(6, spinning=(0, 1))
    (event,) = node.events
    assert dict(event.attributes)["ranks.lagging"] == "2"
    assert "ranks 2 lag behind" in event.text
    assert [found[f"rank.lagging:0xa/{n}"] for n in range(3)] == [0, 0, 1]


def test_ranks_of_other_hosts_count_where_ras_knows_them() -> None:
    node = Node(1)
    node.run()
    operations = Kind.COMMUNICATOR("node1", "0xa")
    for _ in range(6):
        batch = Batch(HOST, node.now, DECLARED)
        for statistic, count in (("least", 500.0), ("most_common", 501.0), ("greatest", 501.0)):
            batch.add(fabric.COMMUNICATOR_OPERATIONS, operations, count, "AllReduce", statistic)
        node.store.write(batch, "ras", 30.0)
        node.poll(spinning=(0,))
    (event,) = node.events
    assert dict(event.attributes)["ranks.lagging"] == "0", "500 is less than most have"


def test_nothing_hangs_where_gpus_are_idle() -> None:
    node = Node()
    node.run()
    for values in node.gpus.values():
        values[gpu.UTILIZATION] = 0.02
    found = node.poll(60)
    assert node.events == []
    assert found["communicator.hung:0xa"] == 0
    assert found["communicator.stalled:0xa"] == 600


def test_nothing_hangs_where_gpus_compute() -> None:
    """Replays of CUDA graphs are not counted, and their GPUs are busy."""
    node = Node()
    node.run()
    node.poll(60)
    assert node.events == []


def test_power_tells_where_utilization_cannot() -> None:
    node = Node()
    node.run()
    for values in node.gpus.values():
        values.clear()
        values.update({gpu.POWER: 250.0, gpu.POWER_LIMIT: 700.0})
    node.poll(6)
    assert node.names() == ["collective.hang"]


def test_idle_power_is_no_hang() -> None:
    node = Node()
    node.run()
    for values in node.gpus.values():
        values.clear()
        values.update({gpu.POWER: 80.0, gpu.POWER_LIMIT: 700.0})
    node.poll(20)
    assert node.events == []


def test_what_is_not_known_is_no_hang() -> None:
    """RAS does not answer: counts are old, and that is all that is known."""
    node = Node()
    node.run()
    node.ras = False
    assert node.poll(20, spinning=(0, 1)) == {}
    assert node.events == []


def test_no_gpu_no_hang() -> None:
    node = Node()
    node.topology.observe("nvml", [], NOW)
    node.run()
    found = node.poll(20, spinning=(0, 1))
    assert node.events == []
    assert "communicator.hung:0xa" not in found


def test_gpus_that_cannot_be_read_are_not_busy() -> None:
    node = Node()
    node.run()
    node.nvml = False
    node.poll(20)
    assert node.events == []


def test_a_hang_outlasts_a_time_in_which_nothing_is_known_of_gpus() -> None:
    node = Node()
    node.run()
    node.poll(6, spinning=(0, 1))
    node.nvml = False
    node.poll(20)
    assert node.names() == ["collective.hang"]


def test_a_job_that_was_killed_has_no_hang() -> None:
    node = Node()
    node.run()
    node.poll(6, spinning=(0, 1))
    node.ras = False
    node.poll(6)
    assert node.names() == ["collective.hang", "collective.recovered"]
    assert dict(node.events[-1].attributes)["reason"] == "its ranks are no longer reported"


def test_gpus_that_rest_for_a_moment_end_no_hang() -> None:
    node = Node()
    node.run()
    node.poll(6, spinning=(0, 1))
    for values in node.gpus.values():
        values[gpu.UTILIZATION] = 0.0
    node.poll(1)
    node.poll(3, spinning=(0, 1))
    assert node.names() == ["collective.hang"]
    node.poll(5)
    assert node.names() == ["collective.hang", "collective.recovered"]


def test_a_burst_of_work_after_a_long_rest_is_no_hang() -> None:
    node = Node()
    node.run()
    for values in node.gpus.values():
        values[gpu.UTILIZATION] = 0.0
    node.poll(60)
    node.poll(2, spinning=(0, 1))
    assert node.events == []


def test_a_communicator_that_is_used_rarely_does_not_hang() -> None:
    node = Node(communicators=("0xa", "0xb"))
    for _ in range(60):
        for number in range(2):
            node.counts["0xa", number] += 10
        node.poll(spinning=(0, 1))
    assert node.events == []


def test_of_communicators_that_share_processes_the_one_used_last_is_meant() -> None:
    node = Node(communicators=("0xa", "0xb"))
    node.run()
    node.counts["0xb", 0] += 1
    node.counts["0xb", 1] += 1
    node.poll(8, spinning=(0, 1))
    assert [event.entity.key[1] for event in node.events] == ["0xb"]


def test_or_the_one_whose_counts_differ() -> None:
    node = Node(communicators=("0xa", "0xb"))
    node.run()
    node.counts["0xa", 0] += 1
    node.poll()
    node.counts["0xb", 0] += 1
    node.counts["0xb", 1] += 1
    node.poll(8, spinning=(0, 1))
    assert [event.entity.key[1] for event in node.events] == ["0xa"]


def test_two_jobs_are_told_apart() -> None:
    node = Node(communicators=("0xa",))
    links = [Link(rank(n), process(n), 1.0) for n in range(2)]
    links.append(Link(rank(0, "0xc"), process(7), 1.0))
    node.topology.observe("ras", links, NOW)
    node.topology.observe("more", [Link(process(7), device(7), 1.0)], NOW)
    node.gpus[7] = {gpu.UTILIZATION: 1.0, gpu.MEMORY_UTILIZATION: 0.5}
    node.counts["0xc", 0] = 5
    node.run()
    for _ in range(8):
        node.counts["0xc", 0] += 10
        node.poll(spinning=(0, 1))
    assert [event.entity.key[1] for event in node.events] == ["0xa"]


def test_long_steps_are_waited_for() -> None:
    """A step of a minute is no hang, and three of them are."""
    node = Node()
    for step in range(5):
        for key in node.counts:
            node.counts[key] += 100
        node.poll(6, spinning=(0, 1) if step else ())
    assert node.events == []
    node.poll(14, spinning=(0, 1))
    assert node.names() == ["collective.hang"]


def test_what_inspector_counts_is_progress_and_is_not_compared() -> None:
    """Its counts begin with each file."""
    node = Node()
    node.metric = fabric.RANK_COMPLETED
    node.counts["0xa", 1] = 1_000_000
    node.run()
    node.poll(6, spinning=(0, 1))
    (event,) = node.events
    assert dict(event.attributes)["ranks.lagging"] == ""


def test_a_hang_that_was_there_before_the_start_is_found() -> None:
    node = Node()
    node.poll(6, spinning=(0, 1))
    assert node.names() == ["collective.hang"]


def test_a_clock_that_is_set_back_makes_no_hang() -> None:
    node = Node()
    node.run()
    node.now -= 3600
    node.run()
    node.poll(2, spinning=(0, 1))
    assert node.events == []
    node.poll(5, spinning=(0, 1))
    assert node.names() == ["collective.hang"]


@pytest.mark.parametrize(("after", "polls"), [(10.0, 3), (30.0, 4), (120.0, 13)])
def test_the_time_can_be_set(after: float, polls: int) -> None:
    node = Node(after=after)
    node.run()
    node.poll(polls - 1, spinning=(0, 1))
    assert node.events == []
    node.poll(spinning=(0, 1))
    assert node.names() == ["collective.hang"]


def test_samples_are_those_that_are_declared() -> None:
    node = Node()
    node.run()
    node.poll()
    assert {key.metric for key in node.derived.keys} == {
        hangs.HUNG,
        hangs.STALLED,
        hangs.LAGGING,
    }
