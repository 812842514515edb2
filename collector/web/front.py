"""Answers scrapes at the connection; all other requests go on to aiohttp.

A scraper sends the same bytes each time and wants up to megabytes back. What aiohttp does for a
request takes longer than rendering a page of a thousand series, and asyncio copies a large body
up to three times. So a request that is nothing but a plain scrape is answered here, understood
once and known again by its bytes; at the first one that is anything else, the connection is
aiohttp's for good.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple, cast

from collector.export import prometheus

_MAX_REQUEST = 4096  # bytes; Prometheus sends about 400
_START = b"GET /metrics HTTP/1.1\r\n"
# The fields that a plain scrape may have, each once; only the last two matter. One with
# credentials is not among them: where the daemon asks for these, there must be no front.
_FIELDS = {"host", "user-agent", "x-prometheus-scrape-timeout-seconds", "accept", "accept-encoding"}


class Form(NamedTuple):
    """How a page is wanted."""

    openmetrics: bool
    gzip: bool

    @property
    def headers(self) -> dict[str, str]:
        """The header fields that say so."""
        fields = {
            "Content-Type": prometheus.OPENMETRICS if self.openmetrics else prometheus.TEXT,
            "Vary": "Accept, Accept-Encoding",
        }
        return {**fields, "Content-Encoding": "gzip"} if self.gzip else fields


def wanted(accept: str, accept_encoding: str) -> Form:
    """Negotiate the form of a page."""
    return Form(prometheus.wants_openmetrics(accept), prometheus.wants_gzip(accept_encoding))


class Front(asyncio.Protocol):
    """One connection, from its start to its first request that is no plain scrape.

    Args:
        page: Gives the page's length and its blocks in a form.
        handler: Makes aiohttp's protocol of a connection.
        idle: Seconds for which the connection may wait for a request.
        fronts: Where the connection is noted while it is here.
    """

    def __init__(
        self,
        page: Callable[[Form], tuple[int, Iterator[bytes]]],
        handler: Callable[[], asyncio.Protocol],
        idle: float,
        fronts: set[Front],
    ) -> None:
        self._page = page
        self._handler = handler
        self._idle = idle
        self._fronts = fronts
        self._blocks: Iterator[bytes] | None = None
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._fronts.add(self)
        self._loop = asyncio.get_running_loop()
        self._seen = self._loop.time()
        self._timer = self._loop.call_later(self._idle, self._check_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()

    def data_received(self, data: bytes) -> None:
        """Answer a plain scrape, or hand the connection over."""
        form = _plain_scrape(data) if len(data) <= _MAX_REQUEST and data[:23] == _START else None
        if form is None:
            self._hand_over(data)
            return
        self._seen = self._loop.time()
        try:
            length, self._blocks = self._page(form)
        except Exception:  # noqa: BLE001 aiohttp's route meets it again, answers 500 and logs it
            self._hand_over(data)
            return
        date = _date(int(time.time()))
        head = b"%bContent-Length: %d\r\nDate: %b\r\n\r\n" % (_head(form), length, date)
        self.transport.write(head + next(self._blocks))
        self.transport.pause_reading()
        self._pump()

    def pause_writing(self) -> None:
        """Stop giving blocks to the transport."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on giving blocks to the transport."""
        self._paused = False
        self._pump()

    def _pump(self) -> None:
        """Give the transport the blocks as the client takes them."""
        while self._blocks is not None and not self._paused:
            block = next(self._blocks, None)
            if block is None:
                self._blocks = None
                self.transport.resume_reading()
            else:
                self.transport.write(block)

    def _hand_over(self, data: bytes) -> None:
        self._leave()
        handler = self._handler()
        self.transport.set_protocol(handler)
        handler.connection_made(self.transport)
        if self._paused:
            handler.pause_writing()
        handler.data_received(data)

    def _leave(self) -> None:
        self._timer.cancel()
        self._blocks = None
        self._fronts.discard(self)

    def _check_idle(self) -> None:
        left = self._seen + self._idle - self._loop.time()
        if left > 0 or self._blocks is not None:
            self._timer = self._loop.call_later(max(left, 1.0), self._check_idle)
        else:
            self.transport.close()


@lru_cache(maxsize=64)
def _plain_scrape(request: bytes) -> Form | None:
    """Say which form a request asks for; None if it is anything but one whole plain scrape."""
    first, *lines = request.split(b"\r\n")
    if len(lines) < 2 or lines[-2:] != [b"", b""] or first + b"\r\n" != _START:
        return None
    fields: dict[str, str] = {}
    for line in lines[:-2]:
        name, _, value = line.decode("latin-1").partition(":")
        value = value.strip(" \t")
        name = name.lower()
        if name not in _FIELDS or name in fields or not (value.isascii() and value.isprintable()):
            return None
        fields[name] = value
    if "host" not in fields:
        return None
    return wanted(fields.get("accept", ""), fields.get("accept-encoding", ""))


@lru_cache(maxsize=4)
def _head(form: Form) -> bytes:
    fields = {**form.headers, "Server": "w2t"}
    return b"HTTP/1.1 200 OK\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()).encode()


@lru_cache(maxsize=1)
def _date(seconds: int) -> bytes:
    return formatdate(seconds, usegmt=True).encode()
