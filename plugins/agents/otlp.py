"""OTLP over HTTP: spans that agents send, to tokens, model calls and tool calls by agent.

Point an agent's exporter here with `OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318`. Requests
are answered as opentelemetry.io/docs/specs/otlp says: protobuf or JSON, plain or gzip, with or
without a length; an error is a google.rpc.Status in the encoding of the request.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr, field_validator

from collector.batch import Batch
from collector.catalog import agents
from collector.entity import Kind
from collector.metric import Metric
from collector.plugin import Plugin
from plugins.agents import _body, _json, _protobuf
from plugins.agents._accounts import Accounts
from plugins.agents._body import (
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    BodyError,
    RefusalError,
    Spans,
    TooLargeError,
)
from plugins.agents._genai import Span

if TYPE_CHECKING:
    from aiohttp import web

INLINE = 256 * 1024  # bytes, decompressed; larger bodies are read on a thread
SLICE = 1000  # spans that are counted without a pause
HELD = 4  # times max_body_bytes: what the bodies of all requests under way may have together
RECEIVE = 30.0  # seconds in which a body must have come

_REJECTED = {
    "traces": "rejectedSpans",
    "metrics": "rejectedDataPoints",
    "logs": "rejectedLogRecords",
}
_JSON, _PROTOBUF = "application/json", "application/x-protobuf"


class Otlp(Plugin):
    """A receiver of OTLP over HTTP for spans of GenAI calls."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        agents.TOKENS,
        agents.CALLS,
        agents.CALL_TIME,
        agents.TOOL_CALLS,
        agents.SPANS,
        agents.REQUESTS,
        agents.PENDING,
    )

    _listening: ClassVar[set[str]] = set()
    """What instances in this process listen on."""

    interval: float = Field(default=1.0, gt=0, description="Seconds between two polls.")
    listen_address: str = Field(
        default="127.0.0.1:4318",
        description="host:port or [v6 address]:port to listen on; port 0 takes a free one. "
        "There is no authentication: who reaches it can report spend.",
    )
    max_body_bytes: int = Field(
        default=16 << 20, gt=0, description="Size of a request's body at most, as it is sent."
    )
    max_decompressed_bytes: int = Field(
        default=64 << 20, gt=0, description="Size of a request's body at most, decompressed."
    )
    settle: float = Field(
        default=60.0,
        ge=0,
        description="Seconds that a call waits for the span of its agent, which comes when the "
        "agent is done; after that it counts on the service.",
    )
    max_agents: int = Field(
        default=500, gt=0, description="Agents told apart at most; the rest counts on _OTHER."
    )
    max_names: int = Field(
        default=50,
        gt=0,
        description="Models, tools and error types, each, told apart at most for one agent; "
        "the rest counts on _OTHER.",
    )

    _accounts: Accounts | None = PrivateAttr(default=None)
    _listener: AsyncExitStack = PrivateAttr(default_factory=AsyncExitStack)
    _port: int | None = PrivateAttr(default=None)
    _requests: Counter[tuple[str, str]] = PrivateAttr(default_factory=Counter)
    _held: int = PrivateAttr(default=0)
    _heavy: asyncio.Lock = PrivateAttr(default_factory=asyncio.Lock)
    _heard: asyncio.Future[list[Span]] | None = PrivateAttr(default=None)

    @field_validator("listen_address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        from collector.web.listener import parse

        parse(value)
        return value

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Listen where agents send by default, unless another collector does already."""
        default = cls.model_fields["listen_address"].default
        if default in cls._listening:  # the config is read again
            return [{}]
        host, port = default.rsplit(":", 1)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError:
                return []
        return [{}]

    @property
    def port(self) -> int:
        """The port that is listened on, the real one where the config says 0.

        Raises:
            RuntimeError: The plugin is not open.
        """
        if self._port is None:
            raise RuntimeError("the OTLP receiver is not open")
        return self._port

    async def open(self) -> None:
        """Listen."""
        from aiohttp import web

        from collector.web.listener import listen

        await asyncio.to_thread(_protobuf.load)
        application = web.Application()
        for signal in _REJECTED:
            application.router.add_post(f"/v1/{signal}", self._receive)
        if self._accounts is None:
            self._accounts = Accounts(self.settle, self.max_agents, self.max_names)
        # aiohttp must not decompress: `inflate` has a limit.
        served = await self._listener.enter_async_context(
            listen(application, [self.listen_address], auto_decompress=False)
        )
        self._listening.add(self.listen_address)
        self._port = int(served[0].rpartition(":")[2])

    async def poll(self, batch: Batch) -> None:
        """Report what came since the last poll, and all counters."""
        assert self._accounts is not None
        source = Kind.SOURCE("otlp", self.target)
        self._accounts.settle(time.monotonic())
        self._accounts.report(batch, source)
        for labels, requests in self._requests.items():
            batch.add(agents.REQUESTS, source, float(requests), *labels)

    async def close(self) -> None:
        """Stop listening."""
        if self._port is not None:
            self._port = None
            self._listening.discard(self.listen_address)
        await self._listener.aclose()

    async def record(self, folder: Path) -> None:
        """Wait for spans and save them as OTLP/JSON, without what is not read, such as prompts."""
        import orjson

        self._heard = asyncio.get_running_loop().create_future()
        await self.open()
        try:
            spans = await self._heard
        finally:
            self._heard = None
            await self.close()
        text = orjson.dumps(_json.encode(spans), option=orjson.OPT_INDENT_2)
        await asyncio.to_thread(_save, folder / "input" / "0-traces.json", text)

    async def _receive(self, request: web.Request) -> web.Response:
        """Answer a request of any signal."""
        from aiohttp import web

        signal = request.path.rpartition("/")[2]
        json = request.content_type == _JSON
        http, headers = 200, {"Content-Type": _JSON if json else _PROTOBUF}
        try:
            body = await self._take(signal, request, json)
        except RefusalError as error:
            http = error.http
            if request.content_type not in (_JSON, _PROTOBUF):
                json, headers = True, {"Content-Type": _JSON, "Accept": f"{_PROTOBUF}, {_JSON}"}
            headers |= error.headers
            body = _body.status(error.code, str(error), json)
        self._requests[signal, str(http)] += 1
        answer = web.Response(status=http, body=body, headers=headers)
        if not request.content.at_eof():
            answer.force_close()  # the rest of the body is not worth reading
        return answer

    async def _take(self, signal: str, request: web.Request, json: bool) -> bytes:
        """Take a request in and return the body of the answer."""
        if request.content_type not in (_JSON, _PROTOBUF):
            kinds = f"{_PROTOBUF} or {_JSON}"
            raise RefusalError(415, INVALID_ARGUMENT, f"send {kinds}, not {request.content_type}")
        coding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("gzip", "identity", ""):
            message = f"send Content-Encoding gzip or none, not {coding}"
            raise RefusalError(415, INVALID_ARGUMENT, message, {"Accept-Encoding": "gzip"})
        body = bytearray()
        try:
            await self._read(request, body)
            if signal != "traces":
                message = f"{signal} are not read yet, only traces are: nothing of this was used"
                return _body.response(_REJECTED[signal], 0, message, json)
            spans = await self._decode(bytes(body), coding == "gzip", json)
            await self._count(spans)
        except BodyError as error:
            raise RefusalError(400, INVALID_ARGUMENT, str(error)) from error
        except TooLargeError as error:
            raise RefusalError(413, RESOURCE_EXHAUSTED, str(error)) from error
        finally:
            self._held -= len(body)
        message = "spans without a valid trace id and span id" if spans.rejected else ""
        return _body.response(_REJECTED[signal], spans.rejected, message, json)

    async def _read(self, request: web.Request, body: bytearray) -> None:
        """Receive the body, which may come without its length being known."""
        from aiohttp import ClientPayloadError
        from aiohttp.http_exceptions import HttpProcessingError

        most = self.max_body_bytes
        if (request.content_length or 0) > most:
            raise TooLargeError(f"a body may have {most} bytes at most")
        try:
            async with asyncio.timeout(RECEIVE):
                async for chunk in request.content.iter_any():
                    body += chunk
                    self._held += len(chunk)
                    if len(body) > most:
                        raise TooLargeError(f"a body may have {most} bytes at most")
                    if self._held > HELD * most:
                        message = "too many requests at once: send again"
                        raise RefusalError(503, UNAVAILABLE, message, {"Retry-After": "1"})
        except TimeoutError as error:
            message = f"the body did not come within {RECEIVE:g} s"
            raise RefusalError(408, UNAVAILABLE, message) from error
        except (HttpProcessingError, ClientPayloadError) as error:
            raise BodyError(f"the body cannot be received: {error}") from error

    async def _decode(self, sent: bytes, gzip: bool, json: bool) -> Spans:
        """Decompress and parse: small bodies here, large ones on a thread, one at a time.

        Raises:
            BodyError: The body is no ExportTraceServiceRequest.
            TooLargeError: It is too large, or has too many parts.
        """

        def decode(limit: int) -> Spans:
            plain = _body.inflate(sent, limit) if gzip else sent
            if len(plain) > limit:
                raise TooLargeError(f"a body may have {limit} bytes at most")
            return _json.decode(plain) if json else _protobuf.decode(plain)

        if self.max_decompressed_bytes > INLINE:
            try:
                return decode(INLINE)
            except TooLargeError:
                async with self._heavy:
                    return await asyncio.to_thread(decode, self.max_decompressed_bytes)
        return decode(self.max_decompressed_bytes)

    async def _count(self, spans: Spans) -> None:
        accounts = self._accounts
        assert accounts is not None
        now = time.monotonic()
        for start in range(0, len(spans.taken), SLICE):
            if start:
                await asyncio.sleep(0)
            accounts.take(spans.taken[start : start + SLICE], now)
        accounts.reject(spans.rejected)
        if self._heard is not None and not self._heard.done() and spans.taken:
            self._heard.set_result(spans.taken)


def _save(path: Path, text: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text)
