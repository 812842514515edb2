"""Requests in protobuf and in JSON come to the same spans."""

from __future__ import annotations

import contextlib
import tracemalloc
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from plugins.agents import _json, _protobuf
from plugins.agents._body import BodyError, TooLargeError
from plugins.agents._genai import MAX_TEXT, Span, vocabulary

KEYS = [*vocabulary("").names, "http.route", "gen_ai.input.messages"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource_spans = request.resource_spans.add()
        if draw(st.booleans()):
            attribute = resource_spans.resource.attributes.add(key="service.name")
            attribute.value.string_value = draw(TEXT)
        for _ in range(draw(st.integers(0, 2))):
            scope_spans = resource_spans.scope_spans.add()
            scope_spans.scope.name = draw(st.sampled_from(("", "x", "openlit.otel.tracing")))
            for _ in range(draw(st.integers(0, 3))):
                _fill(draw, scope_spans.spans.add())
    return request


def _fill(draw: st.DrawFn, span: Message) -> None:
    span.trace_id = draw(st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=20)))
    span.span_id = draw(st.binary(min_size=8, max_size=8))
    span.parent_span_id = draw(st.sampled_from((b"", bytes(8), b"parent__")))
    span.name = draw(TEXT)
    span.kind = Message.SPAN_KIND_CLIENT
    span.start_time_unix_nano = draw(st.integers(0, 2**64 - 1))
    span.end_time_unix_nano = draw(st.integers(0, 2**64 - 1))
    span.status.code = draw(st.sampled_from(Status.StatusCode.values()))
    span.events.add(name="exception").attributes.add(key="exception.type").value.int_value = 1
    span.links.add(trace_id=span.trace_id)
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=5)):
        value = span.attributes.add(key=key).value
        kind = draw(st.sampled_from("sbidaln"))
        if kind == "s":
            value.string_value = draw(TEXT)
        elif kind == "b":
            value.bool_value = draw(st.booleans())
        elif kind == "i":
            value.int_value = draw(st.integers(-(2**63), 2**63 - 1))
        elif kind == "d":
            value.double_value = draw(st.floats(allow_nan=False))
        elif kind == "a":
            value.array_value.values.add().string_value = "x"
        elif kind == "l":
            value.kvlist_value.values.add(key="input_tokens").value.int_value = 3


def as_json(request: ExportTraceServiceRequest, enums_as_ints: bool = True) -> dict[str, Any]:
    """OTLP/JSON of a request: protobuf's JSON, but ids in hex."""
    body: dict[str, Any] = json_format.MessageToDict(request, use_integers_for_enums=enums_as_ints)
    for resource_spans, source in zip(
        body.get("resourceSpans", []), request.resource_spans, strict=True
    ):
        for scope_spans, scoped in zip(
            resource_spans.get("scopeSpans", []), source.scope_spans, strict=True
        ):
            for span, message in zip(scope_spans.get("spans", []), scoped.spans, strict=True):
                span["traceId"] = message.trace_id.hex()
                span["spanId"] = message.span_id.hex()
                span["parentSpanId"] = message.parent_span_id.hex()
    return body


def reference(request: ExportTraceServiceRequest) -> list[Span]:
    """The spans of a request as the generated classes show them."""
    found = []
    for resource_spans in request.resource_spans:
        service = "".join(a.value.string_value for a in resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            names = vocabulary(scope_spans.scope.name).names
            for span in scope_spans.spans:
                facts: dict[str, Any] = {}
                for attribute in span.attributes:
                    which = attribute.value.WhichOneof("value") or ""
                    if attribute.key in names and which.partition("_")[0] in (
                        *("string", "bool", "int", "double"),
                    ):
                        facts.setdefault(names[attribute.key], getattr(attribute.value, which))
                if len(span.trace_id) == 16 and any(span.trace_id) and any(span.span_id):
                    found.append(
                        Span(
                            span.trace_id,
                            span.span_id,
                            span.parent_span_id.strip(b"\0"),
                            span.name,
                            scope_spans.scope.name,
                            service,
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            span.status.code == 2,
                            facts,
                        )
                    )
    return found


@given(requests(), st.booleans())
def test_both_encodings_give_the_same_spans(
    request: ExportTraceServiceRequest, enums_as_ints: bool
) -> None:
    truth = reference(request)
    from_protobuf = _protobuf.decode(request.SerializeToString())
    from_json = _json.decode(orjson.dumps(as_json(request, enums_as_ints)))
    assert from_protobuf.taken == truth
    assert from_json == from_protobuf
    total = sum(len(s.spans) for r in request.resource_spans for s in r.scope_spans)
    assert from_protobuf.rejected == total - len(truth)


@given(requests())
def test_what_is_recorded_reads_as_it_was(request: ExportTraceServiceRequest) -> None:
    taken = _protobuf.decode(request.SerializeToString()).taken
    again = _json.decode(orjson.dumps(_json.encode(taken))).taken
    assert sorted(again, key=repr) == sorted(taken, key=repr)


@given(st.binary(max_size=200))
def test_garbage_is_refused_or_read_and_nothing_else(body: bytes) -> None:
    for decode in (_protobuf.decode, _json.decode):
        with contextlib.suppress(BodyError):
            decode(body)


@given(requests(), st.data())
def test_a_cut_or_changed_request_is_refused_or_read(
    request: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    body = bytearray(request.SerializeToString())
    if body:
        at = data.draw(st.integers(0, len(body) - 1))
        body[at] = data.draw(st.integers(0, 255))
        del body[data.draw(st.integers(0, len(body))) :]
    with contextlib.suppress(BodyError):
        _protobuf.decode(bytes(body))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    *("resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes"),
                    *("key", "value", "name", "traceId", "status", "stringValue", "intValue"),
                    *("startTimeUnixNano", "code"),
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.sampled_from(("request", "resource", "scope", "span", "attribute")))
def test_any_json_is_refused_or_read(value: Any, place: str) -> None:
    wrapped = value
    ids = {"traceId": "ab" * 16, "spanId": "ab" * 8}
    if place == "attribute":
        key = {"key": "gen_ai.operation.name"}
        wrapped = {**ids, "attributes": [{**key, **value} if isinstance(value, dict) else value]}
    if place in ("attribute", "span"):
        wrapped = {"spans": [{**ids, **wrapped} if isinstance(wrapped, dict) else wrapped]}
    if place in ("attribute", "span", "scope"):
        wrapped = {"scopeSpans": [wrapped]}
    if place != "request":
        wrapped = {"resourceSpans": [wrapped]}
    try:
        body = orjson.dumps(wrapped)
    except TypeError:  # past 64 bits
        return
    with contextlib.suppress(BodyError):
        _json.decode(body)


def one(**span: Any) -> bytes:
    ids = {"traceId": "ab" * 16, "spanId": "cd" * 8}
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{**ids, **span}]}]}]})


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        ({"intValue": "9007199254740993"}, 9007199254740993),
        ({"intValue": 12}, 12),
        ({"doubleValue": "Infinity"}, float("inf")),
        ({"doubleValue": 1.5}, 1.5),
        ({"boolValue": False}, False),
        ({"stringValue": ""}, ""),
        ({"stringValue": None, "intValue": "5"}, 5),
    ],
)
def test_json_values(value: dict[str, Any], fact: Any) -> None:
    body = one(attributes=[{"key": "gen_ai.usage.input_tokens", "value": value}])
    assert _json.decode(body).taken[0].facts == {"input": fact}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b'{"resourceSpans": {}}', "resourceSpans is no array"),
        (b'{"resourceSpans": [1]}', "resourceSpans holds"),
        (b'{"resourceSpans": [{"resource": []}]}', "resource is no object"),
        (one(name=5), "name is no string"),
        (one(startTimeUnixNano=1.5), "startTimeUnixNano"),
        (one(endTimeUnixNano="-1"), "endTimeUnixNano"),
        (one(attributes=[{"key": "error.type", "value": {"intValue": "x"}}]), "intValue"),
        (one(attributes=[{"key": "error.type", "value": {"intValue": "9" * 30}}]), "intValue"),
        (one(attributes=[{"key": 7}]), "key is no string"),
        (one(traceId=5), "traceId is no string"),
    ],
)
def test_messages_name_the_place(body: bytes, message: str) -> None:
    with pytest.raises(BodyError, match=message):
        _json.decode(body)


def test_json_ids_in_capitals_and_in_base64() -> None:
    assert _json.decode(one(traceId="AB" * 16)).taken[0].trace == b"\xab" * 16
    assert _json.decode(one(traceId="q6urq6urq6urq6urq6urqw==")).rejected == 1


def test_unknown_fields_are_passed_over() -> None:
    assert _json.decode(one(flags=256, events=[{"x": []}], newField={"a": 1})).taken


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"\x0a\x05abc", "goes past its end"),
        (b"\x0b", "begins no protobuf field"),
        (b"\x00\x00", "begins no protobuf field"),
        (b"\x0a", "cut short"),
        (b"\x80" * 12, "64 bits"),
        (b"\x0a\x04\x12\x02\x12\x09", "goes past its end"),
    ],
)
def test_protobuf_messages(body: bytes, message: str) -> None:
    with pytest.raises(BodyError, match=message):
        _protobuf.decode(body)


def test_parts_of_a_request_are_limited() -> None:
    spans = b"\x12\x00" * (_protobuf.MAX_FIELDS + 1)
    with pytest.raises(TooLargeError, match="parts"):
        _protobuf.decode(_nested(0x0A, _nested(0x12, spans)))
    with pytest.raises(TooLargeError, match="values"):
        _json.decode(b"[" + b"[]," * _json.MAX_VALUES + b"[]]")


def test_a_body_of_empty_parts_takes_no_memory() -> None:
    """Parsed as a whole by protobuf, this one takes 130 MiB."""
    body = _nested(0x0A, _nested(0x12, _nested(0x12, b"\x4a\x00" * (1 << 20))))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            _protobuf.decode(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * len(body) + (1 << 24)


def test_a_large_span_is_read_without_its_prompts() -> None:
    request = ExportTraceServiceRequest()
    span = (
        request.resource_spans.add()
        .scope_spans.add()
        .spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="chat")
    )
    span.attributes.add(key="gen_ai.input.messages").value.string_value = "x" * 200_000
    span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 7
    span.status.code = span.status.STATUS_CODE_ERROR
    for _ in range(2000):
        span.events.add(name="token")
    body = request.SerializeToString()
    assert _protobuf.decode(body).taken == reference(request)


def test_texts_are_cut_for_they_are_remembered() -> None:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    long = "x" * 10_000
    resource_spans.resource.attributes.add(key="service.name").value.string_value = long
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = long
    span = scope_spans.spans.add(
        trace_id=b"t" * 16, span_id=b"s" * 8, parent_span_id=b"p" * 1000, name=long
    )
    span.attributes.add(key="gen_ai.agent.name").value.string_value = long
    for taken in (
        _protobuf.decode(request.SerializeToString()).taken,
        _json.decode(orjson.dumps(as_json(request))).taken,
    ):
        cut = "x" * MAX_TEXT
        ids = (b"t" * 16, b"s" * 8, b"")
        assert taken == [Span(*ids, cut, cut, cut, 0, 0, False, {"agent": cut})]


def _nested(tag: int, body: bytes) -> bytes:
    size, length = bytearray(), len(body)
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((tag, *size, length)) + body
