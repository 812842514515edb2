import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_CUMULATIVE

from collector import __version__
from collector.catalog import gpu, serving
from collector.entity import Kind
from collector.export.otlp_request import Requests
from collector.metric import COUNTER, GAUGE, Metric
from collector.store import Store
from tests.fakes.otlp import points
from tests.fakes.series import NOW, fill

RESOURCE = {"service.name": "w2t", "host.name": "node1"}
FREE = Metric("test.free", GAUGE, "", Kind.DAEMON, "Help.", ("a", "b.c"))
FREE_COUNTER = Metric("test.free.count", COUNTER, "", Kind.DAEMON, "Help.", ("a", "b.c"))


def decode(requests):
    return [ExportMetricsServiceRequest.FromString(bytes(r.body)) for r in requests]


def test_one_of_each():
    store = Store(history=60)
    fill(store, [(gpu.ENERGY, ("node1", "GPU-1"), 3.0)], NOW - 5)
    fill(store, [(gpu.ENERGY, ("node1", "GPU-1"), 7.0), (gpu.POWER, ("node1", "GPU-1"), 0.0)])
    [request] = decode(Requests(store, RESOURCE).encode(NOW))
    [resource] = request.resource_metrics
    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert attributes == RESOURCE
    [scope] = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("w2t", __version__)
    energy, power = scope.metrics
    assert (energy.name, energy.unit) == ("w2t.gpu.energy", "J")
    assert energy.description == gpu.ENERGY.help
    assert energy.sum.is_monotonic
    assert energy.sum.aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE
    [point] = energy.sum.data_points
    assert point.as_double == 7.0
    assert point.time_unix_nano == NOW * 10**9
    assert point.start_time_unix_nano == (NOW - 5) * 10**9
    assert {a.key: a.value.string_value for a in point.attributes} == {
        "host.name": "node1",
        "hw.id": "GPU-1",
        "hw.type": "gpu",
    }
    assert (power.name, power.unit) == ("w2t.gpu.power", "W")
    [point] = power.gauge.data_points
    assert point.WhichOneof("value") == "as_double"
    assert point.as_double == 0.0
    assert point.start_time_unix_nano == 0


def test_nothing_live_is_no_request():
    store = Store(history=60)
    assert Requests(store, RESOURCE).encode(NOW) == []
    fill(store, [(gpu.POWER, ("node1", "GPU-1"), math.nan)])
    assert Requests(store, RESOURCE).encode(NOW) == []


def test_a_counter_never_starts_after_it_was_read():
    store = Store(history=60)
    fill(store, [(gpu.ENERGY, ("node1", "GPU-1"), 3.0)])
    store.time[0] = NOW - 2.5
    [(_, _, _, start, time)] = points(decode(Requests(store, RESOURCE).encode(NOW)))
    assert start == time == round((NOW - 2.5) * 10**9)


VALUE = st.floats(allow_nan=False)
LABEL = st.text()


@given(st.lists(st.tuples(LABEL, LABEL, VALUE, VALUE), max_size=10, unique_by=lambda t: t[:2]))
def test_any_label_and_value(rows):
    store = Store(history=60)
    requests = Requests(store, RESOURCE)
    for metric, column in ((FREE, 2), (FREE_COUNTER, 3)):
        fill(store, [(metric, row[:2], row[column]) for row in rows])
    found = points(decode(requests.encode(NOW)))
    expected = [
        (metric.otlp, tuple((k, v) for k, v in zip(("a", "b.c"), row, strict=False) if v), row[c])
        for metric, c in ((FREE, 2), (FREE_COUNTER, 3))
        for row in rows
    ]
    assert sorted(map(repr, (p[:3] for p in found))) == sorted(map(repr, expected))
    assert {p[4] for p in found} <= {NOW * 10**9}


def test_a_lone_surrogate_does_not_lose_the_request():
    store = Store(history=60)
    fill(store, [(FREE, ("\udc80x", ""), 1.0)])
    [point] = points(decode(Requests(store, RESOURCE).encode(NOW)))
    assert point[1] == (("a", "?x"),)


@pytest.mark.parametrize("limit", [900, 2_000, 10_000, 4_000_000])
def test_requests_are_split(limit):
    store = Store(history=60)
    labels = [("h", "80", "0", f"model {i}") for i in range(100)]
    metrics = [serving.PREEMPTIONS, serving.REQUESTS_RUNNING, serving.PROMPT_TOKENS]
    fill(store, [(m, label, float(i)) for i, label in enumerate(labels) for m in metrics])
    requests = Requests(store, RESOURCE, max_bytes=limit)
    encoded = requests.encode(NOW)
    assert all(len(r.body) <= limit for r in encoded)
    assert sum(r.points for r in encoded) == 300
    assert (len(encoded) == 1) == (limit == 4_000_000)
    found = points(decode(encoded))
    assert len({p[:2] for p in found}) == 300
    assert all(
        dict(labels)["gen_ai.request.model"] == f"model {value:.0f}"
        for _, labels, value, *_ in found
    )


def test_a_series_larger_than_the_limit_goes_alone():
    store = Store(history=60)
    fill(store, [(FREE, (text, ""), 1.0) for text in ("x" * 5000, "y", "z" * 5000)])
    encoded = Requests(store, RESOURCE, max_bytes=2_000).encode(NOW)
    assert [r.points for r in encoded] == [1, 1, 1]
    assert len(points(decode(encoded))) == 3


def test_the_requests_follow_the_store():
    store = Store(history=60)
    kept = Requests(store, RESOURCE, max_bytes=1000)

    def encode(at):
        """Kept requests and ones made anew must agree."""
        found = points(decode(kept.encode(at)))
        anew = points(decode(Requests(store, RESOURCE, max_bytes=1000).encode(at)))
        assert found == anew
        return [value for _, _, value, _, _ in found]

    one, two = ("node1", "GPU-1"), ("node1", "GPU-2")
    fill(store, [(gpu.POWER, one, 1.0)])
    assert encode(NOW + 1) == [1.0]
    body = kept.encode(NOW + 1)[0].body
    fill(store, [(gpu.POWER, one, 2.0)], NOW + 2)
    assert encode(NOW + 2) == [2.0]
    assert kept.encode(NOW + 2)[0].body is body  # patched, not made anew
    fill(store, [(gpu.ENERGY, two, 3.0), (gpu.POWER, two, 4.0)], NOW + 20)
    assert encode(NOW + 20) == [3.0, 2.0, 4.0]
    fill(store, [(gpu.ENERGY, two, 1.0)], NOW + 25)  # reset
    assert encode(NOW + 25) == [1.0, 2.0, 4.0]
    assert encode(NOW + 40) == [1.0, 4.0]  # the first is stale
    assert encode(NOW + 100) == []
