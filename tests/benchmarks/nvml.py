"""What polling 8 GPUs costs: CPU of the child and of the daemon per poll, memory of the child.

The library is the tests' own, so this is the cost of our code and of pynvml, not of a driver. The
peer is the same work in one process: the plugin polled by hand, without the child.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from collector.batch import Batch
from collector.child import Child
from collector.entity import Kind
from plugins.gpu.nvml import Nvml
from tests.fakes import nvml

GPUS, POLLS, ROUNDS = 8, 200, 5
HOST = Kind.HOST("node1")


def _cpu(pid: int) -> float:
    """Processor time of another process, in s, to the nanosecond."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _memory(pid: int) -> str:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    private = sizes["Private_Dirty"] + sizes["Private_Clean"]
    return f"{sizes['Rss'] / 1024:.1f} MiB resident, of it {private / 1024:.1f} MiB private"


async def _measure() -> None:
    alone = Nvml()
    alone.open()
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
            await child.poll(Batch(HOST, at, Nvml.metrics))
        costs["daemon"].append((time.process_time() - own) / POLLS)
        costs["child"].append((_cpu(pid) - other) / POLLS)
        known = dict.fromkeys(batch.keys, 0)
        own = time.process_time()
        for at in grid:
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
            scenario.process(slot, 4000 + slot, 60 << 30, sm=80.0)
        variables = os.environ | nvml.environment(library, scenario.write())
        arguments = [sys.executable, "-m", "tests.benchmarks.nvml"]
        code = os.spawnve(os.P_WAIT, sys.executable, arguments, variables)
    sys.exit(code)


if __name__ == "__main__":
    main()
