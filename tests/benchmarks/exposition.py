"""Processor time per line of a vLLM page: `collector.read.exposition` against prometheus_client.

Both read the same pages in turns, in rounds; medians of the rounds are shown. Pages are those of an
engine between two scrapes: a share of the lines has another value. Run:
`python -m tests.benchmarks.exposition`
"""

import asyncio
import random
import re
import statistics
import time
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from collector.batch import Batch
from collector.entity import Kind
from collector.read.exposition import Page
from plugins.serving._engine import wanted
from plugins.serving.vllm import LATENCIES, ROWS, Vllm
from tests.data import ROOT
from tests.fakes.pages import Pages

ROUNDS = 7
UPDATES = 20  # of ours in a round; the peer reads one page in a round
REAL = "serving/vllm-0.33.0-statlogger/dp2_lora_spec_mfu_kv.prom"


def synthetic(engines: int = 10) -> str:
    """A page of a data-parallel vLLM with about 4,000 samples."""
    bounds = [f"{m}e{e}" for e in range(-3, 3) for m in (1, 2, 5, 7.5)] + ["+Inf"]
    lines = []
    names = [row.names[0] for row in ROWS]
    histograms = [latency.names[0] for latency in LATENCIES] + [
        f"vllm:request_{word}"
        for word in ("prompt_tokens", "params_n", "inference_time", "size", "x")
    ]
    for name in names:
        lines += [f"# HELP {name} Number of somethings of the engine.", f"# TYPE {name} counter"]
        for engine in range(engines):
            lines.append(
                f'{name}{{engine="{engine}",model_name="org/model-70b-instruct"}} {engine}.0'
            )
    for name in histograms:
        lines += [f"# HELP {name} Histogram of something.", f"# TYPE {name} histogram"]
        for engine in range(engines):
            labels = f'engine="{engine}",model_name="org/model-70b-instruct"'
            for i, bound in enumerate(bounds):
                lines.append(
                    f'{name}_bucket{{engine="{engine}",le="{bound}",model_name="org/model-70b-instruct"}} {i}.0'
                )
            lines += [f"{name}_count{{{labels}}} 24.0", f"{name}_sum{{{labels}}} 12.5"]
    return "\n".join(lines) + "\n"


def pages(page: str, share: float, count: int) -> list[bytes]:
    """Pages of which each differs from the one before in that share of its samples."""
    rng = random.Random(7)
    lines = page.splitlines()
    samples = [i for i, line in enumerate(lines) if not line.startswith("#")]
    found = []
    for turn in range(count):
        for i in rng.sample(samples, round(share * len(samples))):
            lines[i] = re.sub(r"\S+$", f"{turn + 1 + rng.random():.6f}", lines[i])
        found.append(("\n".join(lines) + "\n").encode())
    return found


def cpu(work: Callable[[], object]) -> float:
    """Processor nanoseconds that it takes."""
    begun = time.process_time_ns()
    work()
    return float(time.process_time_ns() - begun)


def parse_all(body: str) -> int:
    return sum(len(family.samples) for family in text_string_to_metric_families(body))


def compare(title: str, page: str, share: float, names: set[str] | None = None) -> None:
    samples = parse_all(page)
    bodies = pages(page, share, ROUNDS * UPDATES)
    ours = Page(names)
    ours.update(page.encode())
    mine, theirs = [], []
    for start in range(0, len(bodies), UPDATES):
        turn = bodies[start : start + UPDATES]
        mine.append(cpu(lambda turn=turn: [ours.update(body) for body in turn]) / UPDATES / samples)  # type: ignore[misc]
        theirs.append(cpu(lambda turn=turn: parse_all(turn[0].decode())) / samples)  # type: ignore[misc]
    a, b = statistics.median(mine), statistics.median(theirs)
    print(f"{title:44} {samples:6} {a:9.0f} {b:9.0f}   1/{b / a:.0f}")


async def poll(page: str) -> float:
    """Processor milliseconds of one poll over HTTP, the test server's share included."""
    bodies = pages(page, 0.1, 60)
    batch = None

    async def run(polls: int) -> float:
        nonlocal batch
        async with Pages(*bodies) as server:
            plugin = Vllm(target=server.url)
            await plugin.open()
            batch = Batch(Kind.HOST("node"), time.time(), plugin.metrics)
            await plugin.poll(batch)
            known = {key: i for i, key in enumerate(batch.keys)}
            begun = time.process_time_ns()
            for _ in range(polls):
                batch = Batch(Kind.HOST("node"), time.time(), plugin.metrics, known)
                await plugin.poll(batch)
            spent = (time.process_time_ns() - begun) / polls
            await plugin.close()
        return spent / 1e6

    found = await run(50)
    assert batch is not None
    print(f"samples of a poll: {len(batch.keys)}")
    return found


def main() -> None:
    """Print the table."""
    page = synthetic()
    print(f"{'page':44} {'lines':>6} {'ours ns':>9} {'peer ns':>9}   ours/peer, per line")
    for share in (0.1, 0.7):
        compare(f"synthetic, {share:.0%} changed", page, share)
    compare("synthetic, 10% changed, only vLLM's table", page, 0.1, wanted(ROWS, LATENCIES))
    real = ROOT / REAL
    if real.exists():
        for share in (0.1, 0.7):
            compare(f"recorded vLLM 0.33, {share:.0%} changed", real.read_text(), share)
    else:
        print(f"no recording {real}")
    fresh = statistics.median(
        cpu(lambda: Page().update(page.encode())) / parse_all(page) for _ in range(ROUNDS)
    )
    print(f"{'synthetic, read for the first time':44} {parse_all(page):6} {fresh:9.0f}")
    took = asyncio.run(poll(page))
    print(f"one poll of the plugin over HTTP, server included: {took:.2f} ms of processor time")


if __name__ == "__main__":
    main()
