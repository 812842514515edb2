"""CPU of one step of attribution: on a node with 8 GPUs, 2 engines, 20 agents with a call each; of a
site's 1,000 PDUs of 48 outlets, which feed nothing known or two each a host without other meters.

`python -m tests.benchmarks.attribution`
"""

from __future__ import annotations

import time
from statistics import median

from collector.attribution import Attribution
from collector.batch import Batch, Call, Link
from collector.catalog import gpu, power, serving
from collector.entity import Kind
from collector.settings import Attribution as Settings
from collector.store import Store
from collector.topology import Topology

STEP = 5.0
HOST = Kind.HOST("node1")
GPUS = [Kind.GPU("node1", f"GPU-{i}") for i in range(8)]
ENGINES = [Kind.ENGINE("node1", str(8000 + i), "0") for i in range(2)]
OUTLETS = [Kind.OUTLET("pdu", str(i)) for i in range(2)]
PROCESSES = [Kind.PROCESS("node1", str(i)) for i in range(8)]
SITE = [Kind.OUTLET(f"pdu{i // 48}", str(i % 48)) for i in range(48_000)]
METRICS = {
    gpu.ENERGY,
    gpu.PROCESS_UTILIZATION,
    power.OUTLET_POWER,
    serving.GENERATION_TOKENS,
    serving.PROMPT_TOKENS,
}


def reading(number: int) -> Batch:
    """What all sources say after that many steps."""
    age = STEP * number
    batch = Batch(HOST, 1e9 + age, METRICS)
    for index, device in enumerate(GPUS):
        batch.add(gpu.ENERGY, device, 500.0 * age)
        batch.add(gpu.PROCESS_UTILIZATION, device, 0.9, str(index))
    for outlet in OUTLETS:
        batch.add(power.OUTLET_POWER, outlet, 2600.0)
    for engine in ENGINES:
        batch.add(serving.GENERATION_TOKENS, engine, 400.0 * age, "model")
        batch.add(serving.PROMPT_TOKENS, engine, 1000.0 * age, "model")
    return batch


def node() -> None:
    """Print the median of 400 steps."""
    store, topology = Store(), Topology()
    topology.observe(
        "config",
        [Link(HOST, outlet, 1.0) for outlet in OUTLETS]
        + [Link(process, device, 1.0) for process, device in zip(PROCESSES, GPUS, strict=True)]
        + [Link(process, ENGINES[i // 4], 1.0) for i, process in enumerate(PROCESSES)],
        1e9,
    )
    attribution = Attribution(Settings(), HOST, store, topology)
    spent = []
    for number in range(400):
        batch = reading(number)
        now = batch.at
        store.write(batch, "sources", 30.0)
        attribution.take(
            Call(f"agent-{i}", "model", now - 6, now - 1, 500, 0, 100) for i in range(20)
        )
        begun = time.process_time_ns()
        derived = attribution.step(now)
        spent.append(time.process_time_ns() - begun)
        store.write(derived, "attribution", 30.0)
    took = median(spent) / 1e9
    print(
        f"{took * 1e6:.0f} us a step of {len(derived.keys)} samples and 20 calls, "
        f"{took / STEP:.3%} of a core at one each {STEP:g} s"
    )


def site(*, mapped: bool) -> None:
    """Print the median of 20 steps; PDUs are polled one after the other, every 5 s."""
    store, topology = Store(resolution=10.0), Topology()
    if mapped:
        feeds = [Link(Kind.HOST(f"node{i // 2}"), outlet, 1.0) for i, outlet in enumerate(SITE)]
        topology.observe("config", feeds, 1e9)
    attribution = Attribution(Settings(), HOST, store, topology)
    stepped, written = [], []
    for number in range(20):
        now = 1e9 + STEP * (number + 1)
        for first in range(0, len(SITE), 48):
            batch = Batch(HOST, now - STEP + first / len(SITE) * STEP, METRICS, store.index)
            for outlet in SITE[first : first + 48]:
                batch.add(power.OUTLET_POWER, outlet, 200.0 + number)
            store.write(batch, "sources", 30.0)
        begun = time.process_time_ns()
        derived = attribution.step(now)
        stepped.append(time.process_time_ns() - begun)
        begun = time.process_time_ns()
        store.write(derived, "attribution", 15.0)
        written.append(time.process_time_ns() - begun)
    print(
        f"{median(stepped) / 1e6:.1f} ms a step of {len(SITE)} outlets that feed "
        f"{'a host' if mapped else 'nothing known'} and {len(derived.keys)} samples "
        f"(the first {stepped[0] / 1e6:.0f} ms), {median(written) / 1e6:.1f} ms to store them"
    )


def main() -> None:
    """Measure a node and a site."""
    node()
    site(mapped=False)
    site(mapped=True)


if __name__ == "__main__":
    main()
