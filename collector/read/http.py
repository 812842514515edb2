"""Fetches a page over HTTP, with a limit on everything that the server decides."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator

from collector import __version__

if TYPE_CHECKING:
    from aiohttp import AddrInfoType, ClientConnectorError, ClientResponse, ClientSession

MAX_PAGE = 32 << 20  # bytes; a vLLM page of 4,000 lines has 0.4 MB
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # zlib.h, inflateInit2: recognise the header
_CHUNK = 1 << 16


def url(text: str) -> str:
    """Check that a text is the URL of a page.

    Raises:
        ValueError: It is none.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r} is no URL such as http://127.0.0.1:8000")
    return text


Url = Annotated[str, AfterValidator(url)]


def metrics_page(text: str) -> str:
    """Give the URL of an exporter's page: `/metrics` where the URL names none."""
    parts = urlsplit(text)
    return (parts if parts.path.strip("/") else parts._replace(path="/metrics")).geturl()


def reason(error: ClientConnectorError) -> str:
    """Say why there is no connection; aiohttp's text leaves that out, and speaks of TLS instead."""
    cause = error.os_error
    plain = isinstance(cause, ConnectionError) or type(cause) is OSError  # errno of others differ
    return os.strerror(cause.errno) if plain and cause.errno else str(cause)


class AnswerError(Exception):
    """The server answered, but with no page that can be used."""


class StatusError(AnswerError):
    """The server answered with a status other than 200."""

    def __init__(self, url: str, status: int, reason: str) -> None:
        super().__init__(f"{url}: answered {status} {reason}")
        self.status = status


class Answer(NamedTuple):
    """What came back.

    Attributes:
        body: The page, decompressed.
        content_type: As the server said, with its parameters; empty if it said nothing.
        at: Seconds since the epoch, half-way from sending the request to the first of the answer.
        local: The page came from this host: both ends of the connection have one address.
        cut: Why the page ends early; None if it is whole.
    """

    body: bytes
    content_type: str
    at: float
    local: bool
    cut: AnswerError | None


class Endpoint:
    """One address that is asked again and again, over one kept connection.

    Args:
        url: What to get.
        accept: The `Accept` header.
        seconds: Time that one request may take in all, the page's reading included.
        max_bytes: Size of the page at most, compressed and decompressed.
        gzip: Ask for compression. It costs the server time: vLLM compresses in the event loop
            that serves its users.
    """

    def __init__(
        self,
        url: str,
        accept: str,
        seconds: float,
        max_bytes: int = MAX_PAGE,
        *,
        gzip: bool = False,
    ) -> None:
        self.url = url
        self._headers = {
            "Accept": accept,
            "Accept-Encoding": "gzip" if gzip else "identity",
            "User-Agent": f"w2t/{__version__}",
        }
        self._seconds = seconds
        self._max = max_bytes
        self._session: ClientSession | None = None
        self._socket: socket.socket | None = None
        self._local = False

    def open(self) -> None:
        """Prepare; nothing is sent yet. A loop must run."""
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(self._connected)
        self._session = aiohttp.ClientSession(
            # One address after the other, so that the last socket made is the one in use.
            connector=aiohttp.TCPConnector(
                limit=1, happy_eyeballs_delay=None, socket_factory=self._make_socket
            ),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            headers=self._headers,
            auto_decompress=False,
            trace_configs=[trace],
        )

    async def get(self, url: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Ask once.

        Args:
            url: What to get instead, at the same server.
            headers: To send as well; they go to no other server if this one redirects.

        Raises:
            AnswerError: The status is not 200, or the page is too large or not decodable.
            TimeoutError: It took too long.
            OSError: The server cannot be reached.
        """
        if self._session is None:
            raise RuntimeError("Endpoint.get before Endpoint.open")
        import aiohttp

        sent = time.time()
        try:
            async with self._session.get(
                url or self.url, headers=headers, max_redirects=3, allow_redirects=not headers
            ) as response:
                at = (sent + time.time()) / 2
                if response.status != 200:
                    raise StatusError(url or self.url, response.status, response.reason or "")
                body, cut = await self._read(response)
                kind = response.headers.get("Content-Type", "")
                return Answer(body, kind, at, self._local, cut)
        except TimeoutError as error:
            raise TimeoutError(f"{self.url}: no whole answer in {self._seconds:g} s") from error
        except aiohttp.ClientError as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise ConnectionError(f"{self.url}: {reason(error)}") from error
            if isinstance(error, OSError):
                raise
            message = " ".join(str(error).split())  # of several lines it makes one
            raise AnswerError(f"{self.url}: {type(error).__name__} {message}") from error

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _make_socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        self._socket = socket.socket(family, kind, protocol)
        return self._socket

    async def _connected(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # the server was quick to close
            if self._socket is not None:
                self._local = self._socket.getpeername()[0] == self._socket.getsockname()[0]

    async def _read(self, response: ClientResponse) -> tuple[bytes, AnswerError | None]:
        import aiohttp

        coding = response.headers.get("Content-Encoding", "identity").lower()
        if coding not in ("identity", "gzip", "deflate"):
            raise AnswerError(f"{self.url}: Content-Encoding {coding} was not asked for")
        inflate = None if coding == "identity" else zlib.decompressobj(_GZIP_OR_ZLIB)
        body = bytearray()
        received = 0
        cut = None
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                received += len(chunk)
                # One byte more than may come shows that it is too much.
                body += inflate.decompress(chunk, self._max + 1 - len(body)) if inflate else chunk
                if max(received, len(body)) > self._max:
                    raise AnswerError(
                        f"{self.url}: the page is larger than {self._max >> 20} MiB, given up"
                    )
        except aiohttp.ClientPayloadError:
            cut = AnswerError(f"{self.url}: the connection broke after {received} bytes")
        except zlib.error as error:
            raise AnswerError(f"{self.url}: {coding}: {error}") from error
        if inflate and not inflate.eof and cut is None:
            cut = AnswerError(f"{self.url}: the {coding} stream ends early")
        return bytes(body), cut
