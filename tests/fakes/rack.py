"""A machine room as attribution sees it: readings written at given times, and what it makes of them."""

from __future__ import annotations

import math
from collections import defaultdict

from collector.attribution import Attribution
from collector.batch import Batch, Call, Link
from collector.catalog import attribution as derived
from collector.catalog import gpu, mig, power, serving
from collector.entity import Entity, Kind
from collector.metric import COUNTER, Metric
from collector.settings import Attribution as Settings
from collector.store import Store
from collector.topology import Topology

HOST = Kind.HOST("node1")
START = 1_700_000_000.0
EVERYTHING = (
    power.OUTLET_POWER,
    power.HOST_INPUT_POWER,
    power.CPU_ENERGY,
    power.CPU_POWER,
    gpu.ENERGY,
    gpu.POWER,
    gpu.POWER_AVERAGE,
    gpu.PROCESS_UTILIZATION,
    mig.SM_UTILIZATION,
    serving.GENERATION_TOKENS,
    serving.PROMPT_TOKENS,
    serving.PROMPT_TOKENS_COMPUTED,
)


def outlet(name: str, pdu: str = "pdu1") -> Entity:
    return Kind.OUTLET(pdu, name)


def device(name: str, host: str = "node1") -> Entity:
    return Kind.GPU(host, name)


def process(pid: str, host: str = "node1") -> Entity:
    return Kind.PROCESS(host, pid)


def engine(port: str, address: str = "10.0.0.1", rank: str = "0") -> Entity:
    return Kind.ENGINE(address, port, rank)


class Rack:
    """Times are seconds since `START`; `step` checks what holds at every step.

    Attributes:
        totals: What the last step published, by metric and then by entity and labels.
    """

    def __init__(self, **settings: float) -> None:
        self.store = Store()
        self.topology = Topology()
        self.attribution = Attribution(Settings(**settings), HOST, self.store, self.topology)
        self.totals: dict[Metric, dict[tuple[Entity, tuple[str, ...]], float]] = {}
        self._links: dict[str, list[Link]] = defaultdict(list)

    def read(
        self, at: float, metric: Metric, entity: Entity, value: float, *labels: str,
        lifetime: float = 30.0,
    ) -> None:  # fmt: skip
        batch = Batch(HOST, START + at, EVERYTHING)
        batch.add(metric, entity, value, *labels)
        self.store.write(batch, "test", lifetime)

    def link(
        self, child: Entity, parent: Entity, share: float = 1.0, at: float = 0.0, source: str = "x"
    ) -> None:
        self._links[source].append(Link(child, parent, share))
        self.topology.observe(source, list(self._links[source]), START + at)

    def unlink(self, at: float, source: str = "x") -> None:
        self._links[source] = []
        self.topology.observe(source, [], START + at)

    def call(
        self, agent: str, model: str, start: float, end: float, *, prompt: int = 0,
        cached: int = 0, output: int = 0, server: str = "",
    ) -> None:  # fmt: skip
        times = START + start, START + end
        self.attribution.take([Call(agent, model, *times, prompt, cached, output, server)])

    def step(self, now: float) -> None:
        batch = self.attribution.step(START + now)
        before, self.totals = self.totals, defaultdict(dict)
        for (metric, entity, labels), value in zip(batch.keys, batch.values, strict=True):
            assert (entity, labels) not in self.totals[metric], "a series twice in one step"
            if metric is derived.HOST_POWER and math.isnan(value):
                continue  # ended: shown no longer
            self.totals[metric][entity, labels] = value
        self.store.write(batch, "attribution", 15.0)
        self._check_totals(before)
        self._check_conservation()

    def value(self, metric: Metric, entity: Entity, *labels: str) -> float | None:
        """What the last step published of one series."""
        return self.totals[metric].get((entity, labels))

    def total(self, metric: Metric) -> float:
        return sum(self.totals[metric].values())

    def _check_totals(
        self, before: dict[Metric, dict[tuple[Entity, tuple[str, ...]], float]]
    ) -> None:
        for metric, series in before.items():
            if metric.instrument is COUNTER:
                for key, value in series.items():
                    assert self.totals[metric][key] >= value, f"{metric.name} of {key[0]} fell"
        for metric, series in self.totals.items():
            for key, value in series.items():
                assert math.isfinite(value), f"{metric.name} of {key[0]} is {value}"
                assert value >= 0, f"{metric.name} of {key[0]} is {value}"

    def _check_conservation(self) -> None:
        hosts: dict[str, float] = defaultdict(float)
        for (host, basis), joules in self.totals[derived.HOST_ENERGY].items():
            hosts[basis[0]] += joules
            hosts[host.key[0]] += joules
        level(
            self.total(derived.PDU_OUTLETS_ENERGY),
            hosts["pdu"] + self.total(derived.PDU_ENERGY_UNATTRIBUTED),
        )
        below: dict[str, float] = defaultdict(float)
        for metric in (derived.GPU_ENERGY_ATTRIBUTED, derived.HOST_ENERGY_UNATTRIBUTED):
            for (entity, _), joules in self.totals[metric].items():
                below[entity.key[0]] += joules
        for host_name in below:
            level(hosts[host_name], below[host_name])
        engines = self.total(derived.ENGINE_ENERGY)
        level(
            self.total(derived.GPU_ENERGY_ATTRIBUTED),
            engines + self.total(derived.GPU_ENERGY_UNATTRIBUTED),
        )
        level(
            engines,
            self.total(derived.AGENT_ENERGY)
            + self.total(derived.ENGINE_ENERGY_UNATTRIBUTED)
            + self.total(derived.ENGINE_ENERGY_PENDING),
        )


def level(above: float, below: float) -> None:
    assert math.isclose(above, below, rel_tol=1e-9, abs_tol=1e-9), f"{above} J became {below} J"
