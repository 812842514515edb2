"""Events arrive at an OTLP receiver once each, over HTTP and gRPC."""

import asyncio
from typing import Any

import grpc
import pytest
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import (
    LogsServiceServicer,
    add_LogsServiceServicer_to_server,
)

from collector.batch import Batch, Event, Severity
from collector.catalog import selfmetrics
from collector.entity import Kind
from collector.events import KEPT, Events
from collector.export.otlp_events import OtlpEvents
from collector.export.otlp_transport import transport

GPU = Kind.GPU("node1", "GPU-1")
XID = Event("gpu.xid", GPU, 1000.5, Severity.FATAL, "Xid 79: \udcff fallen", (("xid", "79"),))
RESOURCE = {"service.name": "w2t"}


class Receiver:
    """Takes logs; `statuses` are used up one by one, then all is well."""

    def __init__(self, *statuses: int) -> None:
        self.requests: list[ExportLogsServiceRequest] = []
        self._statuses = list(statuses)

    async def handle(self, request: web.Request) -> web.Response:
        assert request.path == "/v1/logs"
        body = await request.read()
        if self._statuses:
            return web.Response(status=self._statuses.pop(0))
        self.requests.append(ExportLogsServiceRequest.FromString(body))
        return web.Response(body=b"", content_type="application/x-protobuf")

    def records(self) -> list[Any]:
        return [
            record
            for request in self.requests
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


async def send(
    events: Events, receiver: Receiver, times: int = 1
) -> tuple[list[bool], list[float]]:
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/metrics"
    way = transport("http/protobuf", endpoint, {}, gzip=True, signal="logs")
    push = OtlpEvents(events, way, resource=RESOURCE, clock=lambda: 2000.0)
    try:
        done = [await push.send() for _ in range(times)]
    finally:
        await way.close()
        await runner.cleanup()
    declared = (selfmetrics.EXPORTER_POINTS, selfmetrics.EXPORTER_LAST_SUCCESS)
    batch = Batch(Kind.HOST("node1"), 0.0, declared)
    push.samples(batch)
    return done, batch.values


def test_an_event_is_a_log_record() -> None:
    events, receiver = Events(), Receiver()
    events.take([XID], "kmsg")
    assert asyncio.run(send(events, receiver, times=2)) == ([True, True], [1, 0, 0, 2000])
    (record,) = receiver.records()
    assert (record.event_name, record.severity_text, record.severity_number) == (
        "w2t.gpu.xid", "FATAL", 21,
    )  # fmt: skip
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (
        1000_500_000_000,
        2000 * 10**9,
    )
    assert record.body.string_value == "Xid 79: ? fallen"
    assert {pair.key: pair.value.string_value for pair in record.attributes} == {
        "xid": "79", "host.name": "node1", "hw.id": "GPU-1", "hw.type": "gpu", "w2t.source": "kmsg",
    }  # fmt: skip


def test_many_go_in_several_requests() -> None:
    events, receiver = Events(), Receiver()
    events.take([XID._replace(name="snmp.trap", severity=Severity.INFO)] * 1200, "traps")
    asyncio.run(send(events, receiver))
    assert len(receiver.requests) == 3
    assert len(receiver.records()) == 1200


@pytest.mark.parametrize(
    ("status", "first", "points"), [(503, False, [1, 0, 0, 2000]), (400, True, [0, 1, 0, 2000])]
)
def test_one_that_is_not_taken_is_sent_again_unless_it_is_refused(
    status: int, first: bool, points: list[float]
) -> None:
    events, receiver = Events(), Receiver(status)
    events.take([XID], "kmsg")
    assert asyncio.run(send(events, receiver, times=2)) == ([first, True], points)
    assert len(receiver.records()) == points[0]


def test_what_waited_too_long_is_counted_as_lost() -> None:
    events, receiver = Events(), Receiver()
    events.take([XID._replace(severity=Severity.INFO)] * (KEPT + 7), "kmsg")
    _, values = asyncio.run(send(events, receiver))
    assert values[:3] == [KEPT, 0, 7]


def test_over_grpc() -> None:
    seen: list[ExportLogsServiceRequest] = []

    class Service(LogsServiceServicer):
        async def Export(self, request: Any, context: Any) -> ExportLogsServiceResponse:  # noqa: N802
            seen.append(request)
            return ExportLogsServiceResponse()

    async def main() -> None:
        server = grpc.aio.server()
        add_LogsServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        way = transport("grpc", f"http://127.0.0.1:{port}", {}, gzip=False, signal="logs")
        events = Events()
        events.take([XID], "kmsg")
        assert await OtlpEvents(events, way, resource=RESOURCE).send()
        await way.close()
        await server.stop(None)

    asyncio.run(main())
    assert [r.event_name for r in seen[0].resource_logs[0].scope_logs[0].log_records] == [
        "w2t.gpu.xid"
    ]
