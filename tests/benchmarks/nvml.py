"""What polling 8 GPUs costs: CPU of the child and of the daemon per poll, memory of the child.

The library is the tests' own, so this is the cost of our code and of pynvml, not of a driver; for
that there is how many calls a poll makes, of the fast and of the slow tier. The peer is the same
work in one process: the plugin polled by hand, without the child. The GPUs are H100 with GPM, 18
NVLinks each, ECC and a process.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pynvml

from collector.batch import Batch
from collector.child import Child
from collector.entity import Kind
from plugins.gpu._nvml_gpm import APART
from plugins.gpu.nvml import Nvml
from tests.fakes import nvml

GPUS, LINKS, POLLS, ROUNDS = 8, 18, 20, 5
HOST = Kind.HOST("node1")
LOAD: dict[str, object] = {
    **{f"gpm.{id_}": 50.0 for id_ in (*range(1, 14), 20, 21, 60, 61)},
    **{f"field.{id_}": 1 for id_ in (1, 94, 142, 143, 144, 145, *range(173, 184), 230)},
    **{f"ecc.{type_}.{era}.{place}": 0 for type_ in (0, 1) for era in (0, 1) for place in (2, 7)},
    **{
        f"field.{id_}.{link}": 1
        for id_ in (138, 139, 161, 162, 163, 164, 165)
        for link in range(1, LINKS)
    },
    "field.91": LINKS,
    "histogram": "2560 0 0 0 0",
    "fabric": "3 0 0 0x0 0",
    "pcie.gen": 5,
    "pcie.gen_max": 5,
    "pcie.width": 16,
    "pcie.width_max": 16,
}


def _cpu(pid: int) -> float:
    """Processor time of another process, in s, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _memory(pid: int) -> str:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    private = sizes["Private_Dirty"] + sizes["Private_Clean"]
    return f"{sizes['Rss'] / 1024:.1f} MiB resident, of it {private / 1024:.1f} MiB private"


def _calls(plugin: Nvml, at: float) -> Counter[str]:
    """Poll once and count what is called of the library."""
    called: Counter[str] = Counter()
    real = pynvml._nvmlGetFunctionPointer

    def counted(name: str) -> Any:
        called[name] += 1
        return real(name)

    pynvml._nvmlGetFunctionPointer = counted
    plugin.poll(Batch(HOST, at, Nvml.metrics))
    pynvml._nvmlGetFunctionPointer = real
    return called


async def _measure() -> None:
    alone = Nvml()
    alone.open()
    now = time.time()
    alone.poll(Batch(HOST, now, Nvml.metrics))  # finds out what is not supported
    for tier, after in (("fast", 1.0), ("slow", 11.0)):
        time.sleep(2 * APART)  # so that GPM is read
        called = _calls(alone, now + after)
        print(f"calls per poll, {tier} tier: {called.total()}, per GPU {called.total() / GPUS:.1f}")
        print("  field values:", called["nvmlDeviceGetFieldValues"])
    child = Child("nvml", {}, HOST)
    pid, samples = 0, 0
    costs: dict[str, list[float]] = {"child": [], "daemon": [], "without a child": []}
    for _ in range(ROUNDS):
        # The slow tier is read every 10th time, as at its pace of 10 s.
        grid = [time.time() + n for n in range(POLLS)]
        batch = Batch(HOST, grid[0], Nvml.metrics)
        await child.poll(batch)
        samples = len(batch.keys)
        assert child._process is not None
        pid = child._process.pid
        other, own = _cpu(pid), time.process_time()
        for at in grid:
            time.sleep(1.2 * APART)
            await child.poll(Batch(HOST, at, Nvml.metrics))
        costs["daemon"].append((time.process_time() - own) / POLLS)
        costs["child"].append((_cpu(pid) - other) / POLLS)
        known = dict.fromkeys(batch.keys, 0)
        own = time.process_time()
        for at in grid:
            time.sleep(1.2 * APART)
            alone.poll(Batch(HOST, at, Nvml.metrics, known))
        costs["without a child"].append((time.process_time() - own) / POLLS)
    print(f"{GPUS} GPUs, {samples} samples a poll, medians of {ROUNDS} rounds of {POLLS} polls")
    for name, seconds in costs.items():
        print(f"CPU per poll, {name}: {statistics.median(seconds) * 1e6:.0f} us")
    print(f"child: {_memory(pid)}")
    await child.close()


def main() -> None:
    """Build the library, start again under it, and measure."""
    if nvml.SCENARIO in os.environ:
        asyncio.run(_measure())
        return
    with tempfile.TemporaryDirectory() as folder:
        library = nvml.build(Path(folder))
        scenario = nvml.Scenario(Path(folder) / "scenario.conf")
        for slot in range(GPUS):
            scenario.gpu(slot)
            scenario.draw(slot, 500.0)
            for key, value in LOAD.items():
                scenario.set(f"gpu.{slot}.{key}", value)
            scenario.process(slot, 4000 + slot, 60 << 30, sm=80.0)
        variables = os.environ | nvml.environment(library, scenario.write())
        arguments = [sys.executable, "-m", "tests.benchmarks.nvml"]
        code = os.spawnve(os.P_WAIT, sys.executable, arguments, variables)
    sys.exit(code)


if __name__ == "__main__":
    main()
