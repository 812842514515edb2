"""Decompression within limits, and answers that OTLP clients understand."""

import gzip
import tracemalloc
import zlib

import orjson
import pytest
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from plugins.agents._body import (
    INVALID_ARGUMENT,
    BodyError,
    TooLargeError,
    inflate,
    is_id,
    response,
    status,
)


@given(st.binary(max_size=5000), st.integers(0, 9))
def test_what_was_compressed_comes_back(body: bytes, level: int) -> None:
    assert inflate(gzip.compress(body, level), len(body)) == body


def test_one_byte_too_many() -> None:
    packed = gzip.compress(b"x" * 1001)
    assert len(inflate(packed, 1001)) == 1001
    with pytest.raises(TooLargeError, match="1000 bytes"):
        inflate(packed, 1000)


def test_a_bomb_is_not_unpacked() -> None:
    stream = zlib.compressobj(9, wbits=31)
    block = bytes(1 << 20)
    bomb = b"".join(stream.compress(block) for _ in range(256)) + stream.flush()
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(bomb, 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize("cut", [0, 1, 9, 10, 15, -9, -8, -1])
def test_a_stream_that_is_cut_short(cut: int) -> None:
    with pytest.raises(BodyError):
        inflate(gzip.compress(b"hello" * 100)[:cut], 10_000)


def test_what_is_no_stream_or_more_than_one() -> None:
    with pytest.raises(BodyError, match="no gzip stream"):
        inflate(b"plain text", 100)
    with pytest.raises(BodyError, match="after the end"):
        inflate(gzip.compress(b"a") + b"rest", 100)
    packed = bytearray(gzip.compress(b"hello" * 100))
    packed[-5] ^= 1
    with pytest.raises(BodyError):
        inflate(bytes(packed), 10_000)


@given(st.integers(0, 2**31 - 1), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_answers_are_what_protobuf_reads(number: int, text: str) -> None:
    read = Status.FromString(status(number, text, json=False))
    assert (read.code, read.message) == (number, text)
    partial = ExportTraceServiceResponse.FromString(
        response("rejectedSpans", number, text, json=False)
    ).partial_success
    assert (partial.rejected_spans, partial.error_message) == (number, text)


def test_answers_in_json() -> None:
    assert orjson.loads(status(INVALID_ARGUMENT, "no", json=True)) == {"code": 3, "message": "no"}
    assert response("rejectedSpans", 0, "", json=True) == b"{}"
    assert orjson.loads(response("rejectedSpans", 2, "ids", json=True)) == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": "ids"}
    }


def test_success_is_an_empty_message() -> None:
    assert response("rejectedSpans", 0, "", json=False) == b""


def test_ids() -> None:
    assert is_id(b"t" * 16, 16)
    assert not is_id(bytes(16), 16)
    assert not is_id(b"t" * 8, 16)
    assert not is_id(b"", 8)
