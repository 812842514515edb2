"""OTLP trace requests in protobuf to spans.

Parsed as a whole, a body could take 66 times its size in memory: 4 MiB of empty spans, two bytes
each, took 265 MiB. So its envelope is walked here and its spans are parsed one at a time.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator

from plugins.agents._body import BodyError, Spans, TooLargeError, is_id
from plugins.agents._genai import MAX_TEXT, Scalar, Span, vocabulary

MAX_FIELDS = 250_000  # walked in one request; 64 MiB hold about 100,000 spans of model calls
WHOLE = 65_536  # bytes; of a larger message only the small fields are parsed
MAX_KEPT = 1024  # of each field of a large message; the SDKs allow 128 attributes a span
SMALL = 4096  # bytes; names, ids and counts are smaller, prompts are what makes a span large

_STATUS_ERROR = 2  # opentelemetry.proto.trace.v1.Status.StatusCode
_SCALARS = frozenset(("string_value", "bool_value", "int_value", "double_value"))

# Fields of opentelemetry/proto/{collector/trace,trace}/v1: the number, then the wire type.
_WIRES = _VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_RESOURCE_SPANS = _RESOURCE = _SCOPE = 1 << 3 | _BYTES
_SCOPE_SPANS = _SPAN = 2 << 3 | _BYTES


def load() -> None:
    """Import the messages, so that the first request need not wait for it."""
    importlib.import_module("opentelemetry.proto.trace.v1.trace_pb2")


def decode(body: bytes) -> Spans:
    """Read an ExportTraceServiceRequest in protobuf.

    Raises:
        BodyError: The body is not one.
        TooLargeError: It has more parts than any exporter sends.
    """
    from google.protobuf.message import DecodeError

    try:
        return _decode(body)
    except IndexError:
        raise BodyError("the body is cut short") from None
    except DecodeError as error:
        raise BodyError(f"the body is no ExportTraceServiceRequest: {error}") from error


def _decode(body: bytes) -> Spans:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message

    walk = _Walk(body)
    taken: list[Span] = []
    rejected = 0
    for resource_spans in walk.find(_RESOURCE_SPANS, 0, len(body)):
        service = ""
        for part in walk.find(_RESOURCE, *resource_spans):
            for attribute in Resource.FromString(walk.message(*part)).attributes:
                if attribute.key == "service.name":
                    service = attribute.value.string_value[:MAX_TEXT]
        for scope_spans in walk.find(_SCOPE_SPANS, *resource_spans):
            scope = ""
            for part in walk.find(_SCOPE, *scope_spans):
                scope = InstrumentationScope.FromString(walk.message(*part)).name[:MAX_TEXT]
            names = vocabulary(scope).names
            for part in walk.find(_SPAN, *scope_spans):
                span = Message.FromString(walk.message(*part))
                facts: dict[str, Scalar] = {}
                for attribute in span.attributes:
                    name = names.get(attribute.key)
                    if name is not None and name not in facts:
                        value = attribute.value
                        fact = value.string_value[:MAX_TEXT] or value.int_value
                        if not fact:  # another type, or the zero of one
                            which = value.WhichOneof("value")
                            if which is None or which not in _SCALARS:
                                continue
                            fact = getattr(value, which)
                        facts[name] = fact
                if not is_id(span.trace_id, 16) or not is_id(span.span_id, 8):
                    rejected += 1
                    continue
                parent = span.parent_span_id
                taken.append(
                    Span(
                        span.trace_id,
                        span.span_id,
                        parent if is_id(parent, 8) else b"",
                        span.name[:MAX_TEXT],
                        scope,
                        service,
                        span.start_time_unix_nano,
                        span.end_time_unix_nano,
                        span.status.code == _STATUS_ERROR,
                        facts,
                    )
                )
    return Spans(taken, rejected)


class _Walk:
    """Walks the fields of protobuf messages in place."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = MAX_FIELDS

    def find(self, tag: int, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where the fields with this tag of the message at start..end have their values."""
        for found, _, value, stop in self.fields(start, end):
            if found == tag:
                yield value, stop

    def message(self, start: int, end: int) -> bytes:
        """Return the message at start..end, of a large one only its small fields."""
        if end - start <= WHOLE:
            return self._data[start:end]
        kept: Counter[int] = Counter()
        small = []
        for tag, field, _, stop in self.fields(start, end):
            if stop - field <= SMALL and kept[tag] < MAX_KEPT:
                kept[tag] += 1
                small.append(self._data[field:stop])
        return b"".join(small)

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield tag, start, start of the value and end of each field of the message at at..end."""
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise TooLargeError(f"the request has more than {MAX_FIELDS} parts")
            field = at
            tag, at = self._varint(at)
            wire = tag & 7
            if tag < 1 << 3 or wire not in _WIRES:
                raise BodyError(f"byte {field} of the body begins no protobuf field")
            if wire == _BYTES:
                size, at = self._varint(at)
                stop = at + size
            elif wire == _VARINT:
                _, stop = self._varint(at)
            else:
                stop = at + (8 if wire == _EIGHT else 4)
            if stop > end:
                raise BodyError(f"the field at byte {field} of the body goes past its end")
            yield tag, field, at, stop
            at = stop

    def _varint(self, at: int) -> tuple[int, int]:
        data = self._data
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number, at
            shift += 7
            if shift > 63:
                raise BodyError(f"byte {at} of the body is in a number of more than 64 bits")
