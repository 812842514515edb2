"""Memory and CPU of an hour of history at 1 s, beside a ring of float32 with the same samples.

Bytes and CPU are per value; the error is the largest of float32 in the unit of the series, for the
history is exact. `python -m tests.benchmarks.history [SERIES]`
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np

from collector.history import SLOTS, Floats, History

SECONDS, ROUNDS = 3600, 3
START = 1_700_000_040.0  # where a block begins


def kinds(series: int) -> dict[str, Floats]:
    """Values [seconds, series] as the sources have them."""
    random = np.random.default_rng(1)
    shape = (SECONDS, series)
    walk = np.cumsum(random.normal(0, 8, shape), axis=0)
    watts = np.round(500 + walk, 3)  # NVML: mW
    return {
        "constant (limits, info)": np.full(shape, 700.0),
        "temperature in whole degrees": np.round(60 + walk / 100),
        "power in mW": watts,
        "energy in mJ, counter": np.round(5e9 + np.cumsum(np.abs(watts), axis=0), 3),
        "tokens, counter": 2e9 + np.cumsum(random.poisson(900, shape), axis=0),
        "computed ratio, all bits": random.random(shape),
    }


def ours(values: Floats) -> tuple[float, float]:
    """Bytes and CPU ns per value; checks that what is read is what was put."""
    history = History(1.0, SECONDS)
    history.grow(values.shape[1])
    rows = np.arange(values.shape[1])
    begun = time.process_time_ns()
    for second, line in enumerate(values):
        history.put(rows, line, START + second)
    spent = time.process_time_ns() - begun
    _, read = history.read(rows[:8], START, START + SECONDS)
    if not np.array_equal(read, values[:, :8]):
        raise SystemExit("history is not what was put")
    sealed = values.size - 3 * SLOTS * values.shape[1]  # the last blocks are open
    size = history.size - 3 * SLOTS * values.shape[1] * 8
    return size / sealed, spent / values.size


def ring(values: Floats) -> tuple[float, float]:
    """Largest error and CPU ns per value of a float32 ring."""
    kept = np.full(values.shape, np.nan, np.float32)
    begun = time.process_time_ns()
    for second, line in enumerate(values):
        kept[second % SECONDS] = line
    spent = time.process_time_ns() - begun
    return float(np.abs(kept - values).max()), spent / values.size


def main() -> None:
    """Print a table."""
    series = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
    head = ("series of", "bytes/value", "ns/value", "f32 bytes", "f32 ns", "f32 error")
    print("{:32}{:>12}{:>10}{:>11}{:>8}{:>12}".format(*head))
    for kind, values in kinds(series).items():
        rounds = [(*ours(values), *ring(values)) for _ in range(ROUNDS)]
        size, spent, error, theirs = map(statistics.median, zip(*rounds, strict=True))
        print(f"{kind:32}{size:12.2f}{spent:10.1f}{4:11}{theirs:8.1f}{error:12.3g}")


if __name__ == "__main__":
    main()
