"""A plain scrape is answered at the connection, anything else by aiohttp; none may notice which."""

import asyncio
import gzip
import re

import pytest

from collector import web
from collector.catalog import gpu
from collector.export.prometheus import Page
from collector.store import Store
from collector.web import front, listener
from collector.web.front import _plain_scrape
from tests.fakes.series import NOW, fill

HOST = b"Host: w2t:9842\r\n"
PLAIN = b"GET /metrics HTTP/1.1\r\n" + HOST
OTHER = PLAIN + b"Connection: keep-alive\r\n"  # no plain scrape, and the same to HTTP
PROMETHEUS = (
    b"User-Agent: Prometheus/2.42.0\r\n"
    b"Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n"
    b"Accept-Encoding: gzip\r\n"
    b"X-Prometheus-Scrape-Timeout-Seconds: 10\r\n"
)


class Server:
    def __init__(self, series=3):
        self.store = Store(history=60)
        fill(self.store, [(gpu.POWER, ("node1", f"GPU-{i}"), 0.1 + i) for i in range(series)])
        self.page = Page(self.store)
        self.app = web.App(self.page, list, clock=lambda: NOW + 1)
        self.here = 0
        stream = self.page.stream

        def counted(now, **form):
            self.here += 1
            return stream(now, **form)

        self.page.stream = counted  # type: ignore[method-assign]


async def connect(address):
    host, port = address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def receive(reader):
    """Read one response: status line, header fields, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")[:-2]
    fields = dict(line.split(": ", 1) for line in lines)
    return first, fields, await reader.readexactly(int(fields["Content-Length"]))


def run(test, **options):
    async def main():
        server = Server(**options)
        async with web.serve(server.app, ["127.0.0.1:0"]) as (address,):
            reader, writer = await connect(address)
            await test(server, reader, writer)
            writer.close()

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.parametrize(
    "fields", [b"", PROMETHEUS, b"accept-encoding:gzip \r\n", b"Accept: */*\r\n"]
)
@pytest.mark.parametrize("series", [0, 3, 700, 701, 5000])
def test_both_ways_give_the_same(fields, series):
    async def test(server, reader, writer):
        answers = []
        for request in (PLAIN, OTHER):
            assert (_plain_scrape(request + fields + b"\r\n") is None) == (request is OTHER)
            writer.write(request + fields + b"\r\n")
            first, got, body = await receive(reader)
            assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", got.pop("Date"))
            answers.append((first, got, body))
        assert answers[0] == answers[1]
        first, got, body = answers[0]
        assert first == "HTTP/1.1 200 OK"
        text = gzip.decompress(body) if "Content-Encoding" in got else body
        assert text.count(b"\nw2t_gpu_power_watts{") == series

    run(test, series=series)


def test_one_connection_takes_both_and_more_than_one_at_once():
    async def test(server, reader, writer):
        writer.write(
            (PLAIN + b"\r\n") * 3
            + OTHER
            + b"\r\n"
            + b"GET /-/healthy HTTP/1.1\r\n"
            + HOST
            + b"\r\n"
        )
        bodies = [(await receive(reader))[2] for _ in range(5)]
        assert len(set(bodies[:4])) == 1
        assert bodies[4] == b"healthy\n"

    run(test)


def test_requests_that_follow_a_large_page_are_not_lost():
    async def test(server, reader, writer):
        writer.write(PLAIN + b"\r\n")
        await asyncio.sleep(0.1)  # more than the connection holds is on the way
        writer.write(PLAIN + b"\r\n")
        await asyncio.sleep(0.1)
        writer.write(b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n")
        first = await receive(reader)
        assert first[2].count(b"\n") == 100_002
        assert (await receive(reader))[2] == first[2]
        assert (await receive(reader))[0] == "HTTP/1.1 404 Not Found"

    run(test, series=100_000)


def test_a_page_on_its_way_keeps_its_values():
    async def test(server, reader, writer):
        writer.write(PLAIN + b"\r\n")
        await asyncio.sleep(0.1)
        again, other = await connect(":".join(map(str, writer.get_extra_info("peername"))))
        fill(
            server.store, [(gpu.POWER, ("node1", f"GPU-{i}"), 7.0) for i in range(100_000)], NOW + 1
        )
        fill(server.store, [(gpu.ENERGY, ("node1", "GPU-0"), 7.0)], NOW + 1)
        other.write(PLAIN + b"\r\n")
        new = (await receive(again))[2]
        old = (await receive(reader))[2]
        assert old == Page(Server(series=100_000).store).render(NOW + 1)
        assert new == Page(server.store).render(NOW + 1)
        assert old != new
        other.close()

    run(test, series=100_000)


def test_a_request_in_pieces():
    async def test(server, reader, writer):
        request = PLAIN + b"\r\n"
        for i in range(0, len(request), 9):
            writer.write(request[i : i + 9])
            await asyncio.sleep(0.005)
        assert (await receive(reader))[2].count(b"\n") == 5
        assert server.here == 1

    run(test)


@pytest.mark.parametrize(
    "request_",
    [
        PLAIN,
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\n" + HOST + b"\r\n",
        b"GET /metrics?x=1 HTTP/1.1\r\n" + HOST + b"\r\n",
        b"HEAD /metrics HTTP/1.1\r\n" + HOST + b"\r\n",
        PLAIN + HOST + b"\r\n",
        PLAIN + b"Content-Length: 3\r\n\r\nabc",
        PLAIN + b"Transfer-Encoding: chunked\r\n\r\n",
        PLAIN + b"Connection: close\r\n\r\n",
        PLAIN + b"Authorization: Basic eDp5\r\n\r\n",
        PLAIN + b"Expect: 100-continue\r\n\r\n",
        PLAIN + b"Accept : */*\r\n\r\n",
        PLAIN + b" folded\r\n\r\n",
        PLAIN + b"Accept: a\nHost: b\r\n\r\n",
        PLAIN + b"Accept: \xff\r\n\r\n",
        PLAIN + b"Accept: \x00\r\n\r\n",
        PLAIN + b"\r\nGET /-/healthy HTTP/1.1\r\n" + HOST + b"\r\n",
        PLAIN + b"\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_plain_scrape(request_):
    assert _plain_scrape(request_) is None


def test_an_error_inside_becomes_500():
    async def test(server, reader, writer):
        def broken(now, **form):
            raise ZeroDivisionError

        server.page.stream = broken
        writer.write(PLAIN + b"\r\n")
        first, _, body = await receive(reader)
        assert first == "HTTP/1.1 500 Internal Server Error"
        assert b"Division" not in body

    run(test)


def test_an_idle_connection_is_closed(monkeypatch):
    async def test(server, reader, writer):
        writer.write(PLAIN + b"\r\n")
        await receive(reader)
        assert await reader.read() == b""

    monkeypatch.setattr(listener, "IDLE", 0.1)
    run(test)


def test_a_client_that_goes_away_is_forgotten():
    async def main():
        fronts: set[front.Front] = set()
        server = Server(series=100_000)

        def connection():
            return front.Front(server.app.page, asyncio.Protocol, 10.0, fronts)

        listener = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
        host, port = listener.sockets[0].getsockname()
        _, writer = await connect(f"{host}:{port}")
        writer.write(PLAIN + b"\r\n")
        await asyncio.sleep(0.1)
        assert len(fronts) == 1
        writer.transport.abort()
        while fronts:
            await asyncio.sleep(0.01)
        listener.close()

    asyncio.run(asyncio.wait_for(main(), 30))
