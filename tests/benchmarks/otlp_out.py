"""CPU per point of an OTLP push, beside the OpenTelemetry SDK with its exporter.

Two senders push the same gauges to a receiver in a process of its own, which reads and forgets
them; what counts is the senders' processor time, from the value to the answer. The SDK has
observable gauges. All values change before each push. Run: python -m tests.benchmarks.otlp_out
"""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from typing import Any

import grpc
import numpy as np
from aiohttp import web

from tests.benchmarks.cpu import program, python
from tests.benchmarks.prometheus import METRICS, filled

SIZES = (1_000, 10_000)
ROUNDS = 3
WORK = {"ours": 200_000, "sdk": 20_000}  # points a round
WAYS = ("http", "http+gzip", "grpc", "grpc+gzip")


def serve() -> None:
    """Receive by HTTP and gRPC, and print the ports."""

    async def http(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    async def main() -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/metrics", http)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()

        async def export(request: bytes, context: object) -> bytes:
            return b""

        server = grpc.aio.server()
        name = "opentelemetry.proto.collector.metrics.v1.MetricsService"
        handler = grpc.unary_unary_rpc_method_handler(export)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(name, {"Export": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(runner.addresses[0][1], port, flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())


def ours(way: str, endpoint: str, size: int) -> Callable[[], None]:
    """Return what pushes once."""
    from collector.export.otlp import OtlpPush

    store = filled(size)
    random = np.random.default_rng(2)
    sets = itertools.cycle([random.random(size) * 1000 for _ in range(4)])
    loop = asyncio.new_event_loop()
    push = OtlpPush(
        store,
        endpoint,
        protocol="grpc" if way.startswith("grpc") else "http/protobuf",
        compression="gzip" if way.endswith("gzip") else "none",
        resource={"service.name": "bench"},
        interval=60.0,
    )

    def once() -> None:
        store.value[:size] = next(sets)
        store.time[:size] = time.time()
        store.version += 1
        loop.run_until_complete(push.push())
        assert push._points["failed"] == push._points["rejected"] == 0

    return once


def sdk(way: str, endpoint: str, size: int) -> Callable[[], None]:
    """Return what pushes once."""
    from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as by_grpc
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http import metric_exporter as by_http
    from opentelemetry.metrics import Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter: Any
    if way.startswith("grpc"):
        compression = grpc.Compression.Gzip if way.endswith("gzip") else None
        exporter = by_grpc.OTLPMetricExporter(endpoint, insecure=True, compression=compression)
    else:
        coding = Compression.Gzip if way.endswith("gzip") else Compression.NoCompression
        exporter = by_http.OTLPMetricExporter(f"{endpoint}/v1/metrics", compression=coding)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=1e9)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meter = provider.get_meter("bench")
    store = filled(size)
    random = np.random.default_rng(2)
    for metric in METRICS:
        attributes = [
            dict(zip(metric.label_names, (*key.entity.key, "gpu", *key.labels), strict=True))
            for key in store.series
            if key is not None and key.metric is metric
        ]
        sets = itertools.cycle([(random.random(len(attributes)) * 1000).tolist() for _ in range(4)])

        def observe(_: object, attributes: Any = attributes, sets: Any = sets) -> Any:
            return map(Observation, next(sets), attributes)

        meter.create_observable_gauge(metric.otlp, [observe], metric.unit, metric.help)

    def once() -> None:
        assert provider.force_flush()

    return once


def work(name: str, way: str, endpoint: str, size: int) -> None:
    """Push as often as each line of the input says, and print the time that one took."""
    once = {"ours": ours, "sdk": sdk}[name](way, endpoint, size)
    once()
    print("ready", flush=True)
    for line in sys.stdin:
        before = time.process_time_ns()
        for _ in range(int(line)):
            once()
        print((time.process_time_ns() - before) / int(line), flush=True)


def ask(process: subprocess.Popen[str], times: int) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{times}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def measure(way: str, size: int, endpoint: str) -> None:
    costs: dict[str, list[float]] = {"ours": [], "sdk": []}
    with ExitStack() as stack:
        senders = {}
        for name in costs:
            command = python("tests.benchmarks.otlp_out", name, way, endpoint, size)
            senders[name] = stack.enter_context(program(*command))
        for process in senders.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for _ in range(ROUNDS):
            for name, process in senders.items():
                costs[name].append(ask(process, max(1, WORK[name] // size)) / size)
    mine, peer = median(costs["ours"]), median(costs["sdk"])
    print(f"{size:>7} {way:>10} {mine:>8.0f} {peer:>8.0f} 1/{peer / mine:.1f}", flush=True)


def main() -> None:
    if sys.argv[1:] == ["serve"]:
        serve()
    elif len(sys.argv) == 5:
        work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        print("CPU ns per point of one OTLP push, medians; target 1/50")
        print(f"{'points':>7} {'way':>10} {'ours':>8} {'SDK':>8} ratio")
        with program(*python("tests.benchmarks.otlp_out", "serve")) as receiver:
            assert receiver.stdout is not None
            http, by_grpc = receiver.stdout.readline().split()
            for size, way in itertools.product(SIZES, WAYS):
                port = by_grpc if way.startswith("grpc") else http
                measure(way, size, f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    main()
