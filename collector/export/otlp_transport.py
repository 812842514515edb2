"""How an OTLP request travels: HTTP or gRPC, one attempt at a time.

The rules are those of https://opentelemetry.io/docs/specs/otlp/: what may be tried again, how a
receiver says when, and what a partial success is.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import orjson
from google.protobuf.message import DecodeError
from isal import igzip
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from yarl import URL

from collector import __version__
from collector.read.http import reason

if TYPE_CHECKING:
    import grpc

_MAX_ANSWER = 64 * 1024  # bytes that are read of a response
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?|")
_AGENT = f"w2t/{__version__}"


class DeliveryError(Exception):
    """A request was not delivered.

    Args:
        message: Why; holds no headers.
        retry: Whether the same request may be tried again.
        after: Seconds to wait before that, where the receiver says so.
    """

    def __init__(self, message: str, *, retry: bool = False, after: float = 0.0) -> None:
        super().__init__(message)
        self.retry = retry
        self.after = after


class RejectedError(DeliveryError):
    """The receiver will not have the request, now or later."""


class Transport(Protocol):
    """One way to a receiver."""

    async def send(self, body: bytes | bytearray, timeout: float) -> tuple[int, str]:  # noqa: ASYNC109
        """Try once.

        Args:
            body: An ExportMetricsServiceRequest or the like, serialised.
            timeout: Seconds.

        Returns:
            How many points or records the receiver rejected, and what it says to that.

        Raises:
            DeliveryError: It was not delivered.
        """

    async def close(self) -> None:
        """Close the connection."""


def transport(
    protocol: str, endpoint: str, headers: Mapping[str, str], gzip: bool, signal: str = "metrics"
) -> Transport:
    """Make the transport of a protocol, `http/protobuf` or `grpc`, for a signal: metrics or logs.

    Raises:
        ValueError: The endpoint is no URL of the kind, a header cannot be sent, or gRPC is not
            installed.
    """
    url = URL(endpoint)
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{shown(endpoint)}: write http://host:port or https://host:port")
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(
                f"header {name!r}: its name or value has characters that none may have"
            )
    if protocol == "grpc":
        return _Grpc(url, headers, gzip, signal)
    return _Http(url, headers, gzip, signal)


def shown(endpoint: str) -> str:
    """Give the endpoint as it may be logged: without user, password and query."""
    url = URL(endpoint)
    return str((url.with_user(None) if url.host else url).with_query(None))


class _Http:
    """OTLP over HTTP with protobuf bodies; `/v1/metrics` is added to the endpoint's path."""

    def __init__(self, url: URL, headers: Mapping[str, str], gzip: bool, signal: str) -> None:
        path = url.path.rstrip("/").removesuffix("/v1/metrics")
        self._url = url.with_path(f"{path}/v1/{signal}")
        self._headers = {
            "User-Agent": _AGENT,
            **headers,
            "Content-Type": "application/x-protobuf",
            **({"Content-Encoding": "gzip"} if gzip else {}),
        }
        self._gzip = gzip
        self._session: aiohttp.ClientSession | None = None

    async def send(self, body: bytes | bytearray, timeout: float) -> tuple[int, str]:  # noqa: ASYNC109
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers, cookie_jar=aiohttp.DummyCookieJar()
            )
        data = io.BytesIO(igzip.compress(body, 1, mtime=0) if self._gzip else body)
        try:
            async with self._session.post(
                self._url,
                data=data,
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,  # headers may hold secrets
            ) as response:
                answer = await _read(response.content)
        except TimeoutError as error:
            raise DeliveryError(f"no answer within {timeout:.1f} s", retry=True) from error
        except aiohttp.ClientConnectorError as error:
            raise DeliveryError(reason(error), retry=True) from error
        except aiohttp.ClientError as error:
            text = str(error) or type(error).__name__
            raise DeliveryError(text, retry=True) from error
        kind = response.content_type
        if 200 <= response.status < 300:
            return _partial(answer, kind)
        message = f"{response.status} {response.reason}: {_text(answer)}"
        if response.status in (429, 502, 503, 504):
            after = _seconds(response.headers.get("Retry-After", ""))
            raise DeliveryError(message, retry=True, after=after)
        if 400 <= response.status < 500:
            raise RejectedError(message)
        raise DeliveryError(message)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(content: aiohttp.StreamReader) -> bytes:
    answer = bytearray()
    while len(answer) < _MAX_ANSWER and (chunk := await content.read(_MAX_ANSWER - len(answer))):
        answer += chunk
    return bytes(answer)


def _partial(answer: bytes, kind: str) -> tuple[int, str]:
    """Read the response to a request that was taken; that for logs is the same on the wire."""
    try:
        if kind == "application/json":
            found = orjson.loads(answer or b"{}").get("partialSuccess") or {}
            rejected = found.get("rejectedDataPoints") or found.get("rejectedLogRecords") or 0
            return int(rejected), str(found.get("errorMessage", ""))
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
    except (DecodeError, ValueError, AttributeError, TypeError) as error:
        message = f"answered with what is no OTLP response ({kind}): {_text(answer)}"
        raise DeliveryError(f"{message}; is the endpoint right?") from error
    return partial.rejected_data_points, partial.error_message


def _text(answer: bytes) -> str:
    return re.sub(rb"[^\x20-\x7e]+", b" ", answer[:200]).decode().strip()


def _seconds(retry_after: str) -> float:
    """Read a `Retry-After` header (RFC 9110, 10.2.3): seconds or a date; 0 if it is neither."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


class _Grpc:
    """OTLP over gRPC; the request's bytes are sent as they are."""

    def __init__(self, url: URL, headers: Mapping[str, str], gzip: bool, signal: str) -> None:
        try:
            import grpc
            from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
        except ImportError as error:
            raise ValueError(
                f'protocol = "grpc" needs more: pip install "watts-to-tokens[grpc]" ({error})'
            ) from error
        self._grpc = grpc
        self._status = status_pb2.Status
        self._retry_info = error_details_pb2.RetryInfo
        host = f"[{url.host}]" if ":" in (url.host or "") else url.host
        self._target = f"{host}:{url.explicit_port or 4317}"
        self._secure = url.scheme == "https"
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._gzip = gzip
        service = f"{signal}.v1.{signal.capitalize()}Service"
        self._method = f"/opentelemetry.proto.collector.{service}/Export"
        self._channel: Any = None
        self._export: Any = None

    async def send(self, body: bytes | bytearray, timeout: float) -> tuple[int, str]:  # noqa: ASYNC109
        grpc = self._grpc
        if self._channel is None:
            options = (
                ("grpc.primary_user_agent", _AGENT),
                ("grpc.enable_retries", 0),
                ("grpc.max_receive_message_length", _MAX_ANSWER),
            )
            compression = grpc.Compression.Gzip if self._gzip else grpc.Compression.NoCompression
            if self._secure:
                self._channel = grpc.aio.secure_channel(
                    self._target, grpc.ssl_channel_credentials(), options, compression
                )
            else:
                self._channel = grpc.aio.insecure_channel(self._target, options, compression)
            self._export = self._channel.unary_unary(self._method)
        try:
            answer = await self._export(bytes(body), timeout=timeout, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from error
        return _partial(answer, "grpc")

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    def _error(self, error: grpc.aio.AioRpcError) -> DeliveryError:
        code = self._grpc.StatusCode
        message = f"{error.code().name}: {_text((error.details() or '').encode())}"
        after = self._retry_delay(error)
        if error.code() in (
            code.CANCELLED,
            code.DEADLINE_EXCEEDED,
            code.ABORTED,
            code.OUT_OF_RANGE,
            code.UNAVAILABLE,
            code.DATA_LOSS,
        ) or (error.code() is code.RESOURCE_EXHAUSTED and after is not None):
            return DeliveryError(message, retry=True, after=after or 0.0)
        if error.code() in (code.INTERNAL, code.UNKNOWN):
            return DeliveryError(message)
        return RejectedError(message)

    def _retry_delay(self, error: grpc.aio.AioRpcError) -> float | None:
        """Read the delay that the receiver asks for, in its status details, in seconds."""
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                try:
                    for detail in self._status.FromString(value).details:
                        info = self._retry_info()
                        if detail.Unpack(info):
                            delay = info.retry_delay
                            return max(0.0, float(delay.seconds + delay.nanos * 1e-9))
                except DecodeError:
                    return None
        return None
