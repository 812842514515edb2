"""OTLP trace requests in JSON to spans.

OTLP's JSON is that of protobuf but for ids, which are hex, and enums, which are numbers
(opentelemetry.io/docs/specs/otlp, JSON Protobuf Encoding). Some senders write their names; both
are taken. 64-bit integers are strings or numbers. Unknown fields are passed over.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from plugins.agents._body import BodyError, Spans, TooLargeError, is_id
from plugins.agents._genai import MAX_TEXT, Scalar, Span, vocabulary

MAX_VALUES = 4_000_000
"""Values in a body at most; 64 MiB of spans have 3 million. An empty object in JSON takes three
bytes, parsed it takes 64, so without this a small body could fill the memory."""

_FAILED = (2, "STATUS_CODE_ERROR")

Object = dict[str, Any]


def decode(body: bytes) -> Spans:
    """Read an ExportTraceServiceRequest in JSON.

    Raises:
        BodyError: The body is not one.
        TooLargeError: It has more values than any exporter sends.
    """
    if sum(body.count(mark) for mark in (b",", b"{", b"[")) > MAX_VALUES:
        raise TooLargeError(f"the request has more than {MAX_VALUES} values")
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BodyError(f"the body is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise BodyError("the body is no JSON object")
    taken: list[Span] = []
    rejected = 0
    for resource_spans in _objects(request, "resourceSpans"):
        resource = _attributes(_object(resource_spans, "resource"), {"service.name": "service"})
        service = resource.get("service")
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            scope = _string(_object(scope_spans, "scope"), "name")
            names = vocabulary(scope).names
            for span in _objects(scope_spans, "spans"):
                trace, own = _id(span, "traceId"), _id(span, "spanId")
                if not is_id(trace, 16) or not is_id(own, 8):
                    rejected += 1
                    continue
                parent = _id(span, "parentSpanId")
                taken.append(
                    Span(
                        trace,
                        own,
                        parent if is_id(parent, 8) else b"",
                        _string(span, "name"),
                        scope,
                        service if isinstance(service, str) else "",
                        _nanoseconds(span, "startTimeUnixNano"),
                        _nanoseconds(span, "endTimeUnixNano"),
                        _object(span, "status").get("code") in _FAILED,
                        _attributes(span, names),
                    )
                )
    return Spans(taken, rejected)


def encode(spans: Iterable[Span]) -> Object:
    """Give spans as an ExportTraceServiceRequest, with the attributes that are read."""
    scopes: dict[tuple[str, str], list[Object]] = {}
    for span in spans:
        names = {ours: name for name, ours in reversed([*vocabulary(span.scope).names.items()])}
        scopes.setdefault((span.service, span.scope), []).append(
            {
                "traceId": span.trace.hex(),
                "spanId": span.id.hex(),
                "parentSpanId": span.parent.hex(),
                "name": span.name,
                "startTimeUnixNano": str(span.start),
                "endTimeUnixNano": str(span.end),
                "status": {"code": _FAILED[0]} if span.failed else {},
                "attributes": [_pair(names[ours], value) for ours, value in span.facts.items()],
            }
        )
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [_pair("service.name", service)]},
                "scopeSpans": [{"scope": {"name": scope}, "spans": held}],
            }
            for (service, scope), held in scopes.items()
        ]
    }


def _pair(name: str, value: Scalar) -> Object:
    if isinstance(value, bool):
        return {"key": name, "value": {"boolValue": value}}
    if isinstance(value, str):
        return {"key": name, "value": {"stringValue": value}}
    if isinstance(value, int):
        return {"key": name, "value": {"intValue": str(value)}}
    return {"key": name, "value": {"doubleValue": value if math.isfinite(value) else str(value)}}


def _attributes(parent: Object, names: Mapping[str, str]) -> dict[str, Scalar]:
    facts: dict[str, Scalar] = {}
    for attribute in _objects(parent, "attributes"):
        key = attribute.get("key", "")
        if not isinstance(key, str):
            raise BodyError("an attribute's key is no string")
        name = names.get(key)
        if name is not None and name not in facts:
            value = _scalar(_object(attribute, "value"))
            if value is not None:
                facts[name] = value
    return facts


def _scalar(value: Object) -> Scalar | None:
    """Give an AnyValue's value; None where it is an array, a list of pairs, bytes or nothing."""
    for field, found in value.items():
        try:
            if field == "stringValue" and isinstance(found, str):
                return found[:MAX_TEXT]
            if field == "boolValue" and isinstance(found, bool):
                return found
            if field == "intValue" and isinstance(found, int | str):
                number = int(found)
                if -(1 << 63) <= number < 1 << 63:
                    return number
            if field == "doubleValue" and isinstance(found, int | float | str):
                return float(found)
        except (ValueError, OverflowError):
            pass
        if field in ("stringValue", "boolValue", "intValue", "doubleValue") and found is not None:
            raise BodyError(f"an attribute's {field} is none")
    return None


def _objects(parent: Object, field: str) -> list[Object]:
    found = parent.get(field)
    if found is None:
        return []
    if not isinstance(found, list):
        raise BodyError(f"{field} is no array")
    if not all(isinstance(one, dict) for one in found):
        raise BodyError(f"{field} holds what is no object")
    return found


def _object(parent: Object, field: str) -> Object:
    found = parent.get(field)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BodyError(f"{field} is no object")
    return found


def _string(parent: Object, field: str) -> str:
    found = parent.get(field)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise BodyError(f"{field} is no string")
    return found[:MAX_TEXT]


def _id(span: Object, field: str) -> bytes:
    try:
        return bytes.fromhex(_string(span, field))
    except ValueError:
        return b""


def _nanoseconds(span: Object, field: str) -> int:
    found = span.get(field)
    if found is None:
        return 0
    try:
        number = int(found) if isinstance(found, int | str) else -1
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise BodyError(f"{field} is no count of nanoseconds")
    return number
