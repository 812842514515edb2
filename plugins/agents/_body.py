"""Bodies of OTLP over HTTP: decompression, and the answers that OTLP asks for."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import orjson

from plugins.agents._genai import Span

_GZIP = zlib.MAX_WBITS | 16  # zlib.h, inflateInit2: with gzip's header and trailer

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE = 3, 8, 14  # google.rpc.Code


class BodyError(Exception):
    """The body is not what it says it is; the message tells the sender why."""


class TooLargeError(Exception):
    """The body is larger than what is taken."""


class RefusalError(Exception):
    """A request is answered with an error.

    Args:
        http: The HTTP status.
        code: The google.rpc.Code.
        message: What is wrong and what is taken instead.
        headers: Further headers of the answer.
    """

    def __init__(
        self, http: int, code: int, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.http = http
        self.code = code
        self.headers = headers or {}


class Spans(NamedTuple):
    """The spans of one request, and how many were rejected because their ids are invalid."""

    taken: list[Span]
    rejected: int


def is_id(found: bytes, size: int) -> bool:
    """Say whether it is an id as OTLP defines it: of that many bytes, not all of them zero."""
    return len(found) == size and any(found)


def inflate(body: bytes, limit: int) -> bytes:
    """Decompress a gzip body; never more than `limit` bytes are made.

    Raises:
        BodyError: It is no gzip stream, is cut short, or goes on after its end.
        TooLargeError: It holds more than `limit` bytes.
    """
    stream = zlib.decompressobj(wbits=_GZIP)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise BodyError(f"the body is no gzip stream: {error}") from error
    if len(plain) > limit:
        raise TooLargeError(f"the body holds more than {limit} bytes when decompressed")
    if not stream.eof:
        raise BodyError("the gzip stream is cut short")
    if stream.unused_data:
        raise BodyError("the body goes on after the end of the gzip stream")
    return plain


def status(code: int, message: str, json: bool) -> bytes:
    """Encode a google.rpc.Status, the answer to a request that failed."""
    if json:
        return orjson.dumps({"code": code, "message": message})
    return _number_and_text(code, message)


def response(field: str, rejected: int, message: str, json: bool) -> bytes:
    """Encode an Export…ServiceResponse, the answer to a request that was taken.

    Args:
        field: JSON name of the count of rejected items, `rejectedSpans` for one.
        rejected: How many items were rejected.
        message: Why, or what else the sender should know; empty for an unqualified success.
        json: Encode as JSON, else as protobuf.
    """
    if not message:
        return b"{}" if json else b""
    if json:
        return orjson.dumps({"partialSuccess": {field: str(rejected), "errorMessage": message}})
    partial = _number_and_text(rejected, message)
    return b"\x0a" + _varint(len(partial)) + partial


def _number_and_text(number: int, text: str) -> bytes:
    """Encode a protobuf message of an integer (1) and a string (2).

    Both google.rpc.Status and Export…PartialSuccess are such messages.
    """
    encoded = text.encode()
    return b"\x08" + _varint(number) + b"\x12" + _varint(len(encoded)) + encoded


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
