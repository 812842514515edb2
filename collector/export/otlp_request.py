"""OTLP requests that are serialised once and patched in place from then on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector import __version__
from collector.batch import SeriesKey
from collector.export.layout import Layout
from collector.history import Floats, Rows
from collector.metric import COUNTER, Metric
from collector.store import Store

MAX_BYTES = 4_000_000  # a gRPC server takes 4 MiB (4,194,304 bytes) unless told otherwise

# Fields by their tag: number << 3 | wire type (https://protobuf.dev/programming-guides/encoding/).
_REQUEST_RESOURCE_METRICS = b"\x0a"
_RESOURCE_METRICS_SCOPE_METRICS = b"\x12"
_SCOPE_METRICS_METRICS = b"\x12"
_METRIC_GAUGE = b"\x2a"
_METRIC_SUM = b"\x3a"
_DATA_POINTS = b"\x0a"  # of both Gauge and Sum
_START_TIME = b"\x11"  # of NumberDataPoint, as the next two; each is followed by 8 bytes
_TIME = b"\x19"
_AS_DOUBLE = b"\x21"

# A point ends with time and value, a counter's with start, time and value: the places to patch
# lie at fixed distances from its end. Fields may come in any order.
_ROOM = bytes(8)
_GAUGE_TAIL = _TIME + _ROOM + _AS_DOUBLE + _ROOM
_COUNTER_TAIL = _START_TIME + _ROOM + _GAUGE_TAIL
_VALUE, _TIME_, _START = 8, 17, 26


class Request:
    """One ExportMetricsServiceRequest and where in it the values are.

    Args:
        body: The serialised message.
        rows: The store's row of each point.
        ends: Where in `body` each point ends.
        counters: Which of the points are counters'.
    """

    def __init__(self, body: bytearray, rows: Rows, ends: Rows, counters: np.ndarray) -> None:
        self.body = body
        self.points = len(rows)
        self._rows = rows
        self._counter_rows = rows[counters]
        # Views of every 8 bytes of the body, overlapping, so that an index is a byte's position.
        length = len(body) - 7
        self._doubles = np.ndarray((length,), "<f8", body, strides=(1,))
        self._integers = np.ndarray((length,), "<u8", body, strides=(1,))
        self._value_at = ends - _VALUE
        self._time_at = ends - _TIME_
        self._start_at = ends[counters] - _START

    def patch(self, store: Store) -> None:
        """Put in the latest values and times."""
        self._doubles[self._value_at] = store.value[self._rows]
        self._integers[self._time_at] = _nanoseconds(store.time[self._rows])
        rows = self._counter_rows
        start = np.minimum(store.start[rows], store.time[rows])
        self._integers[self._start_at] = _nanoseconds(start)


class Requests:
    """The requests that carry all live series, kept from push to push.

    Args:
        store: Only read.
        resource: Attributes of this daemon.
        max_bytes: Size of a request at most.
    """

    def __init__(
        self, store: Store, resource: Mapping[str, str], max_bytes: int = MAX_BYTES
    ) -> None:
        self._store = store
        self._layout = Layout(store, _point)
        self._requests: list[Request] = []
        self._max_bytes = max_bytes
        scope = InstrumentationScope(name="w2t", version=__version__)
        self._resource = pb.ResourceMetrics(
            resource=Resource(attributes=_attributes(resource))
        ).SerializeToString()
        self._scope = pb.ScopeMetrics(scope=scope).SerializeToString()

    def encode(self, now: float) -> list[Request]:
        """Return the requests with the latest values; they stay as they are until the next call.

        Args:
            now: Seconds since the epoch, to tell which series are stale.
        """
        if self._layout.refresh(now):
            self._requests = self._build()
        for request in self._requests:
            request.patch(self._store)
        return self._requests

    def _build(self) -> list[Request]:
        pieces = self._layout.pieces()
        ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        requests = []
        first, done = 0, 0
        room = self._max_bytes - len(self._resource) - len(self._scope)
        room -= sum(len(_head(metric)) + 20 for metric, *_ in self._layout.families)
        while first < len(pieces):
            last = max(first + 1, int(np.searchsorted(ends, done + room, side="right")))
            requests.append(self._request(pieces, ends, first, last))
            first, done = last, int(ends[last - 1])
        return requests

    def _request(self, pieces: list[bytes], ends: Rows, first: int, last: int) -> Request:
        """Make the request with the points of that range."""
        parts = [self._scope]
        position = len(self._scope)  # in the bytes of `parts`
        places = []
        counters = np.zeros(last - first, np.bool_)
        for metric, start, stop in self._layout.families:
            start, stop = max(start, first), min(stop, last)
            if start >= stop:
                continue
            points = b"".join(pieces[start:stop])
            prefix = _metric_prefix(metric, len(points))
            parts += [prefix, points]
            position += len(prefix)
            places.append(ends[start:stop] - (ends[start] - len(pieces[start])) + position)
            position += len(points)
            counters[start - first : stop - first] = metric.instrument is COUNTER
        scope_metrics = b"".join(parts)
        inner = self._resource + _field(_RESOURCE_METRICS_SCOPE_METRICS, len(scope_metrics))
        outer = _field(_REQUEST_RESOURCE_METRICS, len(inner) + len(scope_metrics))
        shift = len(outer) + len(inner)
        return Request(
            bytearray(outer + inner + scope_metrics),
            self._layout.rows[first:last],
            np.concatenate(places) + shift,
            counters,
        )


def _nanoseconds(seconds: Floats) -> np.ndarray:
    return np.maximum(seconds * 1e9, 0.0).astype(np.uint64)


def _field(tag: bytes, length: int) -> bytes:
    """Begin a field of that length: its tag and the length as a varint."""
    varint = bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    varint.append(length)
    return tag + varint


def _head(metric: Metric) -> bytes:
    return pb.Metric(
        name=metric.otlp, description=metric.help, unit=metric.unit
    ).SerializeToString()


def _metric_prefix(metric: Metric, length: int) -> bytes:
    """Make all of a Metric, as a field of ScopeMetrics, that stands before its points."""
    head = _head(metric)
    kind, settings = _METRIC_GAUGE, b""
    if metric.instrument is COUNTER:
        kind = _METRIC_SUM
        settings = pb.Sum(
            aggregation_temporality=pb.AGGREGATION_TEMPORALITY_CUMULATIVE, is_monotonic=True
        ).SerializeToString()
    data = _field(kind, len(settings) + length) + settings
    return _field(_SCOPE_METRICS_METRICS, len(head) + len(data) + length) + head + data


def _point(key: SeriesKey) -> bytes:
    """Make a series' data point, as a field of Gauge or Sum; empty attributes are left out."""
    metric, entity, labels = key
    values = (*entity.key, *entity.kind.constants.values(), *labels)
    attributes = dict(zip(metric.label_names, values, strict=True))
    point = pb.NumberDataPoint(attributes=_attributes(attributes)).SerializeToString()
    point += _COUNTER_TAIL if metric.instrument is COUNTER else _GAUGE_TAIL
    return _field(_DATA_POINTS, len(point)) + point


def _attributes(attributes: Mapping[str, str]) -> list[KeyValue]:
    # Names of processes and files may hold bytes that are no UTF-8.
    return [
        KeyValue(key=name, value=AnyValue(string_value=value.encode(errors="replace").decode()))
        for name, value in attributes.items()
        if value
    ]
