import asyncio
import email.utils
import logging
import sys
import time
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)

from collector.batch import Batch
from collector.catalog import gpu
from collector.entity import Kind
from collector.export import otlp
from collector.export.otlp import OtlpPush
from collector.export.otlp_transport import _seconds
from collector.store import Store
from tests.fakes.otlp import (
    GrpcReceiver,
    HttpReceiver,
    body,
    bomb,
    endless,
    nothing,
    points,
    slowly,
    status,
)
from tests.fakes.series import NOW, fill

RESOURCE = {"service.name": "w2t", "service.instance.id": "node1"}
SAMPLES = [
    (gpu.POWER, ("node1", "GPU-1"), 301.5),
    (gpu.POWER, ("node1", "GPU-2"), 99.0),
    (gpu.ENERGY, ("node1", "GPU-1"), 7.0),
]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(otlp, "BACKOFF", 0.01)


def make(endpoint, **options) -> OtlpPush:
    store = Store(history=60)
    fill(store, SAMPLES)
    settings: dict[str, Any] = {"interval": 20.0, "timeout": 10.0, "resource": RESOURCE, **options}
    return OtlpPush(store, endpoint, clock=lambda: NOW + 1, **settings)


def tally(push):
    """Points by outcome, and the time of the last success."""
    batch = Batch(Kind.HOST("node1"), NOW, push.metrics)
    push.samples(batch)
    found = {key.labels: value for key, value in zip(batch.keys, batch.values, strict=True)}
    return [found.get(key) for key in (("sent",), ("rejected",), ("failed",), ())]


def run(receiver, *answers, pushes=1, **options):
    """Push to a receiver that answers so at first."""
    receiver.answers = list(answers)

    async def main():
        async with receiver.serve() as endpoint:
            push = make(endpoint, **options)
            for _ in range(pushes):
                await push.push()
            await push.close()
            return push

    return tally(asyncio.run(main()))


EXPECTED = sorted(
    (metric.otlp, (("host.name", host), ("hw.id", gpu_id), ("hw.type", "gpu")), value)
    for metric, (host, gpu_id), value in SAMPLES
)
SENT = [3.0, 0.0, 0.0, NOW + 1]
REJECTED = [0.0, 3.0, 0.0, None]
FAILED = [0.0, 0.0, 3.0, None]


def received(receiver):
    return sorted(point[:3] for point in points(receiver.requests))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_http(compression):
    receiver = HttpReceiver()
    headers = {"Authorization": "Bearer abc", "X-Scope-OrgID": "team"}
    assert run(receiver, compression=compression, headers=headers) == SENT
    assert received(receiver) == EXPECTED
    [sent] = receiver.headers
    assert sent["Authorization"] == "Bearer abc"
    assert sent["X-Scope-OrgID"] == "team"
    assert sent["Content-Type"] == "application/x-protobuf"
    assert sent.get("Content-Encoding") == (compression if compression == "gzip" else None)
    assert receiver.paths == ["/v1/metrics"]


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_grpc(compression):
    receiver = GrpcReceiver()
    options = {"compression": compression, "headers": {"Authorization": "Bearer abc"}}
    assert run(receiver, protocol="grpc", **options) == SENT
    assert received(receiver) == EXPECTED
    assert receiver.metadata[0]["authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "/v1/metrics"),
        ("/api/v1/otlp", "/api/v1/otlp/v1/metrics"),
        ("/api/v1/otlp/", "/api/v1/otlp/v1/metrics"),
        ("/own/v1/metrics", "/own/v1/metrics"),
    ],
)
def test_the_path_of_the_endpoint_is_kept(path, expected):
    receiver = HttpReceiver()

    async def main():
        async with receiver.serve() as endpoint:
            push = make(endpoint + path)
            await push.push()
            await push.close()

    asyncio.run(main())
    assert receiver.paths == [expected]


def test_several_requests_in_one_push():
    receiver = HttpReceiver()

    async def main():
        async with receiver.serve() as endpoint:
            push = make(endpoint)
            push._requests._max_bytes = 1
            receiver.answers = [status(400)]
            await push.push()
            await push.close()
            return tally(push)

    assert asyncio.run(main()) == [2.0, 1.0, 0.0, None]
    assert receiver.tried == 3  # a request that is refused does not hold up the next


@pytest.mark.parametrize(
    "answers",
    [
        [status(429, Retry_After="0")],
        [status(502), status(503), status(504)],
        [status(503, Retry_After=email.utils.formatdate(NOW, usegmt=True))],
        [nothing],
        [nothing, nothing, status(429)],
    ],
)
def test_what_may_be_tried_again_is(answers):
    receiver = HttpReceiver()
    assert run(receiver, *answers) == SENT
    assert receiver.tried == len(answers) + 1
    assert received(receiver) == EXPECTED


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (status(400, "no"), REJECTED),
        (status(401), REJECTED),
        (status(413), REJECTED),
        (status(500), FAILED),
        (status(501), FAILED),
        (status(307, Location="/elsewhere"), FAILED),
        (body(b"<html>welcome to the portal</html>", "text/html"), FAILED),
        (body(b"\xff\xff\xff", "application/x-protobuf"), FAILED),
        (body(b"[]", "application/json"), FAILED),
        (body(b"{", "application/json"), FAILED),
        (body(b"{}", "application/json"), SENT),
        (body(b"", "text/plain"), SENT),
        (status(204), SENT),
        (bomb, FAILED),
        (endless, REJECTED),
    ],
)
def test_what_is_not_tried_again(answer, outcome):
    receiver = HttpReceiver()
    assert run(receiver, answer) == outcome
    assert receiver.tried == 1


def test_retry_after_is_waited_for(monkeypatch):
    waits = []
    real = asyncio.sleep

    async def sleep(seconds):
        waits.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert run(HttpReceiver(), status(429, Retry_After="7")) == SENT
    assert 7.0 in waits


def test_a_wait_that_is_longer_than_the_interval_is_given_up():
    receiver = HttpReceiver()
    assert run(receiver, status(429, Retry_After="3600")) == FAILED
    assert receiver.tried == 1


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("", 0.0), ("soon", 0.0), ("-1", 0.0), ("1.5", 0.0)]
)
def test_retry_after_header(header, seconds):
    assert _seconds(header) == seconds
    assert _seconds(email.utils.formatdate(time.time() + 500)) == pytest.approx(500, abs=100)


def test_slow_receivers_are_given_up_within_the_interval():
    receiver = HttpReceiver()
    assert run(receiver, slowly, slowly, interval=0.5, timeout=0.3) == FAILED
    assert receiver.tried == 2


def test_nobody_there():
    async def main():
        async with HttpReceiver().serve() as endpoint:
            pass
        for protocol in ("http/protobuf", "grpc"):
            push = make(endpoint, protocol=protocol, interval=0.3)
            await push.push()
            await push.close()
            assert tally(push) == FAILED

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (
            "application/x-protobuf",
            ExportMetricsServiceResponse(
                partial_success=ExportMetricsPartialSuccess(
                    rejected_data_points=2, error_message="too old"
                )
            ).SerializeToString(),
        ),
        (
            "application/json",
            b'{"partialSuccess":{"rejectedDataPoints":"2","errorMessage":"too old"}}',
        ),
    ],
)
def test_partial_success(kind, data, caplog):
    receiver = HttpReceiver()
    assert run(receiver, body(data, kind)) == [1.0, 2.0, 0.0, None]
    assert receiver.tried == 1
    assert "2 points were rejected: 'too old'" in caplog.text


def test_a_receiver_that_rejects_more_than_there_is():
    data = ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=1 << 40)
    ).SerializeToString()
    assert run(HttpReceiver(), body(data, "application/x-protobuf")) == REJECTED


def abort(code, details="", metadata=()):
    async def answer(context):
        await context.abort(code, details, metadata)

    return answer


async def partial(context):
    return ExportMetricsServiceResponse(
        partial_success=ExportMetricsPartialSuccess(rejected_data_points=1, error_message="old")
    )


def retry_info(seconds):
    detail = any_pb2.Any()
    delay = duration_pb2.Duration(seconds=seconds)
    detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    value = status_pb2.Status(code=8, details=[detail]).SerializeToString()
    return (("grpc-status-details-bin", value),)


CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("answer", "tried", "outcome"),
    [
        (abort(CODE.UNAVAILABLE), 2, SENT),
        (abort(CODE.RESOURCE_EXHAUSTED, "busy", retry_info(0)), 2, SENT),
        (abort(CODE.UNAVAILABLE, "busy", retry_info(3600)), 1, FAILED),
        (abort(CODE.RESOURCE_EXHAUSTED, "too large"), 1, REJECTED),
        (abort(CODE.UNAVAILABLE, "x", (("grpc-status-details-bin", b"\xff\xff"),)), 2, SENT),
        (abort(CODE.INVALID_ARGUMENT, "no"), 1, REJECTED),
        (abort(CODE.UNAUTHENTICATED), 1, REJECTED),
        (abort(CODE.INTERNAL), 1, FAILED),
        (partial, 1, [2.0, 1.0, 0.0, None]),
    ],
)
def test_grpc_errors(answer, tried, outcome):
    receiver = GrpcReceiver()
    assert run(receiver, answer, protocol="grpc") == outcome
    assert receiver.tried == tried


def test_one_line_on_failure_and_one_on_recovery(caplog):
    receiver = HttpReceiver()
    headers = {"Authorization": "Bearer secret-token"}
    answers = [status(400, "no such\ntenant"), status(401, "still no"), body(b"<", "text/html")]
    with caplog.at_level(logging.INFO, "collector.export.otlp"):
        assert run(receiver, *answers, pushes=5, headers=headers) == [6.0, 6.0, 3.0, NOW + 1]
    lines = [
        record.getMessage() for record in caplog.records if record.name == "collector.export.otlp"
    ]
    assert len(lines) == 2
    assert lines[0].endswith(": 400 Bad Request: no such tenant")
    assert lines[1].endswith(" works again")
    assert "secret" not in caplog.text


def test_secrets_of_the_endpoint_are_not_logged(caplog):
    async def main():
        push = make("http://user:hush1@127.0.0.1:1/x?token=hush2", interval=0.2)
        await push.push()
        await push.close()

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
    assert "http://127.0.0.1:1/x" in caplog.text
    assert "hush" not in caplog.text


def test_run_pushes_on_its_grid_and_stops():
    receiver = HttpReceiver()

    async def main():
        async with receiver.serve() as endpoint:
            store = Store(history=60)
            push = OtlpPush(store, endpoint, interval=0.05, resource=RESOURCE)
            fill(store, SAMPLES, time.time())
            task = asyncio.create_task(push.run())
            while len(receiver.requests) < 3:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(main(), 30))
    assert sorted(point[:3] for point in points(receiver.requests[2:3])) == EXPECTED


def test_a_defect_does_not_end_the_pushes(caplog, monkeypatch):
    receiver = HttpReceiver()

    async def main():
        async with receiver.serve() as endpoint:
            push = make(endpoint)

            async def broken(body, timeout):
                raise ZeroDivisionError

            with monkeypatch.context() as patched:
                patched.setattr(push._transport, "send", broken)
                await push.push()
            assert tally(push) == FAILED
            await push.push()
            await push.close()
            return tally(push)

    assert asyncio.run(main()) == [3.0, 0.0, 3.0, NOW + 1]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("endpoint", ["", "localhost:4318", "ftp://host", "http://", "http:///v1"])
def test_malformed_endpoints(endpoint):
    with pytest.raises(ValueError, match="write http://host:port"):
        make(endpoint)


@pytest.mark.parametrize(
    "headers", [{"a b": "x"}, {"": "x"}, {"a": "hush\r\nX: y"}, {"a": "hush\x00"}]
)
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_headers_that_cannot_be_sent(headers, protocol):
    with pytest.raises(ValueError, match=r"header .* its name or value") as caught:
        make("http://localhost:1", headers=headers, protocol=protocol)
    assert "hush" not in str(caught.value)


def test_grpc_without_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ValueError, match=r"watts-to-tokens\[grpc\]"):
        make("http://localhost:1", protocol="grpc")
    make("http://localhost:1")
