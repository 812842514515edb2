"""CPU per series of /metrics over HTTP, beside prometheus_client and client_golang.

Three servers hold the same gauges: ours, prometheus_client's start_http_server, and Debian's
prometheus-pushgateway, which stands for client_golang's promhttp. All are scraped in turn by this
process; what counts is the servers' processor time. Before each scrape all of our values change,
so that no kept body is served. Run: python -m tests.benchmarks.prometheus
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import itertools
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from statistics import median

import numpy as np

from collector.entity import Kind
from collector.export.prometheus import Page
from collector.metric import GAUGE, Metric
from collector.store import Store
from tests.benchmarks.cpu import cpu_ns, program, python

GROUP = ("local", "bench")  # labels that the pushgateway adds to what it is given
METRICS = [
    Metric(f"bench.{name}", GAUGE, unit, Kind.GPU, f"Benchmark of {name}.", ("instance", "job"))
    for name, unit in (("power", "W"), ("energy", "J"), ("temperature", "Cel"), ("memory", "By"))
]
SIZES = {1_000: 7, 10_000: 5, 100_000: 3}  # series: rounds
WORK = {"ours": 400_000, "client_golang": 100_000, "prometheus_client": 10_000}  # series a round


def filled(size: int) -> Store:
    """A store with that many series, five labels each."""
    from collector.batch import Batch

    store = Store(history=2)
    batch = Batch(Kind.HOST("bench"), time.time(), METRICS)
    for number in range(size // len(METRICS)):
        gpu = Kind.GPU(
            f"node{number // 8:05d}.example.org", f"GPU-5c8f21aa-0000-4d5e-8f{number:014d}"
        )
        for metric in METRICS:
            batch.add(metric, gpu, 0.0, *GROUP)
    store.write(batch, "bench", 1e9)
    store.value[:size] = np.random.default_rng(1).random(size) * 1000
    return store


def serve_ours(size: int) -> None:
    from collector import web

    store = filled(size)
    random = np.random.default_rng(2)
    sets = itertools.cycle([random.random(size) * 1000 for _ in range(4)])

    def clock() -> float:
        """Change all values before each scrape."""
        store.value[:size] = next(sets)
        store.version += 1
        return time.time()

    async def main() -> None:
        app = web.App(Page(store), list, clock=clock)
        async with web.serve(app, ["127.0.0.1:0"]) as (address,):
            print(address.rsplit(":")[1], flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())


def serve_prometheus_client(size: int) -> None:
    from prometheus_client import CollectorRegistry, Gauge, start_http_server

    registry = CollectorRegistry()
    store = filled(size)
    names = ["host_name", "hw_id", "hw_type", "instance", "job"]
    gauges = {m: Gauge(m.prometheus, m.help, names, registry=registry) for m in METRICS}
    for key, value in zip(store.series, store.value.tolist(), strict=False):
        assert key is not None
        gauges[key.metric].labels(*key.entity.key, "gpu", *key.labels).set(value)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    print(server.server_port, flush=True)
    thread.join()


def start_pushgateway(stack: ExitStack, size: int) -> tuple[int, int]:
    """Start a pushgateway that holds the same series; return its pid and port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = stack.enter_context(
        program(
            "prometheus-pushgateway",
            f"--web.listen-address=127.0.0.1:{port}",
            "--persistence.file=",
            "--push.disable-consistency-check",
            stderr=subprocess.DEVNULL,
        )
    )
    path = f"/metrics/job/{GROUP[1]}/instance/{GROUP[0]}"
    for _ in range(100):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        try:
            connection.request("PUT", path, Page(filled(size)).render(time.time()))
        except ConnectionRefusedError:
            time.sleep(0.1)
            continue
        response = connection.getresponse()
        assert response.status == 202, response.read()
        return process.pid, port
    raise RuntimeError("prometheus-pushgateway does not start")


class Target:
    """A server that is scraped."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid = pid
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def scrape(self, coding: str) -> bytes:
        headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": coding}
        self.connection.request("GET", "/metrics", headers=headers)
        response = self.connection.getresponse()
        assert response.headers.get("Content-Encoding", "identity") == coding
        return response.read()

    def cost(self, coding: str, times: int) -> float:
        """Processor time of one scrape, in nanoseconds."""
        before = cpu_ns(self.pid)
        for _ in range(times):
            self.scrape(coding)
        return (cpu_ns(self.pid) - before) / times


def series(page: bytes) -> list[bytes]:
    """The series of a page without their values; what a server says of itself is left out."""
    return sorted(
        line.rpartition(b" ")[0] for line in page.splitlines() if line[:9] == b"w2t_bench"
    )


def measure(size: int, rounds: int) -> None:
    with ExitStack() as stack:
        targets = {}
        for name in ("ours", "prometheus_client"):
            command = python("tests.benchmarks.prometheus", name, size)
            process = stack.enter_context(program(*command))
            assert process.stdout is not None
            targets[name] = Target(process.pid, int(process.stdout.readline()))
        if shutil.which("prometheus-pushgateway"):
            targets["client_golang"] = Target(*start_pushgateway(stack, size))
        expected = series(targets["ours"].scrape("identity"))
        assert len(expected) == size
        for target in targets.values():
            while series(target.scrape("identity")) != expected:
                time.sleep(0.1)  # the pushgateway takes a push in later
            assert series(gzip.decompress(target.scrape("gzip"))) == expected
        costs: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for coding, (name, target) in itertools.product(("identity", "gzip"), targets.items()):
                times = max(1, WORK[name] // size)
                costs.setdefault((coding, name), []).append(target.cost(coding, times) / size)
    for coding in ("identity", "gzip"):
        ours = median(costs[coding, "ours"])
        line = f"{size:>7} {coding:>8} {ours:>8.0f}"
        for name in ("client_golang", "prometheus_client"):
            if (coding, name) in costs:
                peer = median(costs[coding, name])
                line += f" {peer:>17.0f} 1/{peer / ours:<7.1f}"
            else:
                line += f" {'absent':>17} {'':9}"
        print(line, flush=True)


def main() -> None:
    if len(sys.argv) == 3:
        {"ours": serve_ours, "prometheus_client": serve_prometheus_client}[sys.argv[1]](
            int(sys.argv[2])
        )
        return
    print("CPU ns per series of one scrape over HTTP, medians; target 1/8 and 1/40")
    print(
        f"{'series':>7} {'coding':>8} {'ours':>8} {'client_golang':>17} {'ratio':9} {'prometheus_client':>17} ratio"
    )
    for size, rounds in SIZES.items():
        measure(size, rounds)


if __name__ == "__main__":
    main()
