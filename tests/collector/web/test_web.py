import asyncio
import contextlib
import gzip
import logging
import socket

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as strict

from collector import web
from collector.catalog import gpu
from collector.export.prometheus import Page
from collector.store import Store
from collector.web import listener
from tests.fakes.series import NOW, fill


class Daemon:
    def __init__(self):
        self.store = Store(history=60)
        fill(self.store, [(gpu.POWER, ("node1", "GPU-1"), 301.5)])
        self.waiting = []
        self.errors = []
        self.reloads = 0

    async def reload(self):
        self.reloads += 1
        if self.errors is None:
            raise RuntimeError("secret")
        return self.errors

    @contextlib.asynccontextmanager
    async def client(self, lifecycle=True):
        reload = self.reload if lifecycle else None
        app = web.App(Page(self.store), lambda: self.waiting, reload, clock=lambda: NOW + 1)
        async with (
            web.serve(app, ["127.0.0.1:0"]) as (self.address,),
            aiohttp.ClientSession(f"http://{self.address}", auto_decompress=False) as session,
        ):
            yield session


def run(test, **options):
    """Run a test with a client of a daemon."""

    async def main():
        daemon = Daemon()
        async with daemon.client(**options) as session:
            await test(daemon, session)

    asyncio.run(main())


async def fetch(session, method, path, **headers):
    async with session.request(method, path, headers=headers) as response:
        return response.status, response.headers, await response.read()


PLAIN = {"Accept-Encoding": "identity"}
SERIES = b'w2t_gpu_power_watts{host_name="node1",hw_id="GPU-1",hw_type="gpu"} 301.5\n'


def test_metrics():
    async def test(daemon, session):
        status, headers, body = await fetch(session, "GET", "/metrics", Accept="*/*", **PLAIN)
        assert status == 200
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert headers["Vary"] == "Accept, Accept-Encoding"
        assert headers["Server"] == "w2t"
        assert body.endswith(SERIES)
        accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
        status, headers, packed = await fetch(session, "GET", "/metrics", Accept=accept)
        assert status == 200
        kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
        assert headers["Content-Type"] == kind
        assert headers["Content-Encoding"] == "gzip"
        body = gzip.decompress(packed)
        assert body.endswith(SERIES + b"# EOF\n")
        assert len(list(strict(body.decode()))) == 1

    run(test)


def test_plain_where_the_client_takes_no_gzip():
    async def test(daemon, session):
        _, headers, body = await fetch(session, "GET", "/metrics", **PLAIN)
        assert "Content-Encoding" not in headers
        assert int(headers["Content-Length"]) == len(body)
        assert body.endswith(SERIES)

    run(test)


def test_head_has_the_length_and_no_body():
    async def test(daemon, session):
        status, headers, body = await fetch(session, "HEAD", "/metrics", **PLAIN)
        assert (status, body) == (200, b"")
        _, _, body = await fetch(session, "GET", "/metrics", **PLAIN)
        assert int(headers["Content-Length"]) == len(body)

    run(test)


def test_health_and_readiness():
    async def test(daemon, session):
        daemon.waiting = ["pdu_snmp:10.0.0.1", "nvml"]
        assert (await fetch(session, "GET", "/-/healthy"))[0] == 200
        status, _, body = await fetch(session, "GET", "/-/ready")
        assert (status, body) == (503, b"waiting for pdu_snmp:10.0.0.1\nwaiting for nvml\n")
        daemon.waiting = []
        assert (await fetch(session, "GET", "/-/ready"))[0] == 200

    run(test)


def test_reload():
    async def test(daemon, session):
        for method in ("POST", "PUT"):
            assert (await fetch(session, method, "/-/reload"))[0] == 200
        daemon.errors = ["w2t.toml:3: unknown key tiemout", "w2t.toml:9: no plugin nvlm"]
        status, _, body = await fetch(session, "POST", "/-/reload")
        assert status == 400
        assert body == b"w2t.toml:3: unknown key tiemout\nw2t.toml:9: no plugin nvlm\n"
        status, headers, body = await fetch(session, "GET", "/-/reload")
        assert (status, headers["Allow"]) == (405, "POST,PUT")
        assert body == b'{"error": "Method Not Allowed"}'
        assert daemon.reloads == 3

    run(test)


def test_reload_is_refused_where_it_is_off():
    async def test(daemon, session):
        status, headers, body = await fetch(session, "POST", "/-/reload")
        assert status == 403
        assert headers["Content-Type"].startswith("application/json")
        assert b"web.enable_lifecycle" in body

    run(test, lifecycle=False)


def test_an_error_inside_is_logged_and_not_told(caplog):
    async def test(daemon, session):
        daemon.errors = None
        status, _, body = await fetch(session, "POST", "/-/reload")
        assert status == 500
        assert b"secret" not in body
        assert (await fetch(session, "GET", "/-/healthy"))[0] == 200

    with caplog.at_level(logging.ERROR):
        run(test)
    assert "POST '/-/reload' failed" in caplog.text


def test_unknown_path():
    async def test(daemon, session):
        status, headers, body = await fetch(session, "GET", "/nowhere")
        assert (status, body) == (404, b'{"error": "Not Found"}')
        assert headers["Content-Type"].startswith("application/json")

    run(test)


def test_index_links_what_there_is_and_runs_nothing():
    async def test(daemon, session):
        status, headers, body = await fetch(session, "GET", "/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert b"<script" not in body
        for path in ("/metrics", "/-/healthy", "/-/ready"):
            assert f'href="{path}"'.encode() in body
            assert (await fetch(session, "GET", path))[0] == 200

    run(test)


def test_nothing_is_logged_for_a_scrape(caplog):
    async def test(daemon, session):
        await fetch(session, "GET", "/metrics")

    with caplog.at_level(logging.INFO):
        run(test)
    assert [record for record in caplog.records if record.name != "asyncio"] == []


async def raw(address, request):
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nBig: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_bad_requests_are_refused_and_the_server_goes_on(request_):
    async def test(daemon, session):
        answer = await raw(daemon.address, request_)
        assert answer == b"" or answer.startswith(b"HTTP/1.0 400 ") or b" 400 " in answer[:20]
        assert (await fetch(session, "GET", "/-/healthy"))[0] == 200

    run(test)


def test_a_client_that_sends_no_request_is_let_go(monkeypatch):
    async def test(daemon, session):
        assert await raw(daemon.address, b"GET /metrics HTTP/1.1\r\nHost:") == b""

    monkeypatch.setattr(listener, "IDLE", 0.1)
    run(test)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n" * 2,
    ],
)
def test_a_client_that_does_not_read_is_let_go(sent, monkeypatch):
    async def test(daemon, session):
        fill(daemon.store, [(gpu.POWER, ("node1", f"GPU-{i}"), 1.0) for i in range(30_000)])
        host, port = daemon.address.split(":")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (host, int(port)))
            await loop.sock_sendall(sock, sent)
            for _ in range(300):  # the client keeps the only place until it is let go
                await asyncio.sleep(0.1)
                answer = await raw(daemon.address, b"GET /-/healthy HTTP/1.0\r\n\r\n")
                if answer:
                    break
            assert answer.startswith(b"HTTP/1.0 200 OK\r\n")

    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(listener, "STALLED", 1.0)
    run(test)


def test_connections_past_the_limit_are_closed(monkeypatch):
    async def test(daemon, session):
        host, port = daemon.address.split(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        held[0][1].write(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await held[0][0].readline()) == b"HTTP/1.1 200 OK\r\n"
        assert await raw(daemon.address, b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n") == b""
        for _, writer in held:
            writer.close()

    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 3)
    run(test)


def test_stopping_does_not_wait_for_idle_or_stalled_clients():
    async def main():
        daemon = Daemon()
        async with daemon.client():
            host, port = daemon.address.split(":")
            _, idle = await asyncio.open_connection(host, int(port))
            _, stalled = await asyncio.open_connection(host, int(port))
            stalled.write(b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
            await asyncio.sleep(0.05)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, int(port))
        idle.close()
        stalled.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_several_addresses_and_what_they_mean():
    assert listener.parse(":9842") == (None, 9842)
    assert listener.parse("[::1]:0") == ("::1", 0)
    assert listener.parse("localhost:80") == ("localhost", 80)

    async def main():
        app = web.App(Page(Store(history=60)), list)
        async with web.serve(app, ["127.0.0.1:0", "127.0.0.1:0"]) as addresses:
            for address in addresses:
                answer = await raw(address, b"GET /-/ready HTTP/1.0\r\n\r\n")
                assert answer.startswith(b"HTTP/1.0 200 OK\r\n")
            with pytest.raises(OSError, match=f"cannot listen on {addresses[0]}: address already"):
                async with web.serve(web.App(Page(Store(history=60)), list), addresses[:1]):
                    pass

    asyncio.run(main())


@pytest.mark.parametrize(
    "text", ["", "80", "localhost", "::1:80", "host:99999", "host:-1", "a b:1"]
)
def test_malformed_addresses(text):
    async def main():
        async with web.serve(web.App(Page(Store(history=60)), list), [text]):
            pass

    with pytest.raises(ValueError, match="write host:port"):
        asyncio.run(main())
