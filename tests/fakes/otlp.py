"""OTLP receivers over HTTP and gRPC that answer as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)

Point = tuple[str, tuple[tuple[str, str], ...], float, int, int]


def points(requests: Iterable[ExportMetricsServiceRequest]) -> list[Point]:
    """All data points: name, attributes, value, start and time in ns."""
    found = []
    for request in requests:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    data = metric.gauge if metric.HasField("gauge") else metric.sum
                    for p in data.data_points:
                        labels = tuple((a.key, a.value.string_value) for a in p.attributes)
                        times = (p.start_time_unix_nano, p.time_unix_nano)
                        found.append((metric.name, labels, p.as_double, *times))
    return found


class HttpReceiver:
    """Takes requests by HTTP; `answers` are used up one by one, then all is well."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.tried = 0
        self.answers: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = []

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application(client_max_size=16 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.tried += 1
        body = await request.read()  # aiohttp has taken the gzip off
        if self.answers:
            return await self.answers.pop(0)(request)
        self.requests.append(ExportMetricsServiceRequest.FromString(body))
        self.headers.append(dict(request.headers))
        self.paths.append(request.path)
        return await ok(request)


async def ok(request: web.Request) -> web.Response:
    body = ExportMetricsServiceResponse().SerializeToString()
    return web.Response(body=body, content_type="application/x-protobuf")


def status(
    code: int, text: str = "", **headers: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=text, headers=names)

    return answer


def body(data: bytes, kind: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=data, content_type=kind)

    return answer


async def nothing(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def slowly(request: web.Request) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    """A body that never ends, of which little is worth reading."""
    response = web.StreamResponse(status=400)
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b"x" * 65536)
    return response


async def bomb(request: web.Request) -> web.Response:
    data = gzip.compress(bytes(50_000_000))
    return web.Response(body=data, headers={"Content-Encoding": "gzip"})


class GrpcReceiver(MetricsServiceServicer):
    """Takes requests by gRPC; `answers` are called one by one, then all is well."""

    def __init__(self) -> None:
        self.requests: list[ExportMetricsServiceRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.tried = 0
        self.answers: list[
            Callable[[grpc.aio.ServicerContext], Awaitable[ExportMetricsServiceResponse]]
        ] = []

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        server = grpc.aio.server()
        add_MetricsServiceServicer_to_server(self, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await server.stop(None)

    async def Export(  # noqa: N802
        self, request: ExportMetricsServiceRequest, context: grpc.aio.ServicerContext
    ) -> ExportMetricsServiceResponse:
        self.tried += 1
        if self.answers:
            return await self.answers.pop(0)(context)
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return ExportMetricsServiceResponse()
