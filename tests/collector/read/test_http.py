"""The bounded fetch of a page, against a server that misbehaves."""

import asyncio
import gzip
import time
import zlib

import pytest

from collector.read.http import Answer, AnswerError, Endpoint
from tests.fakes.pages import OPENMETRICS, Pages, Reply, gzipped

PAGE = b"a 1\n" * 1000


def fetch(
    *replies: Reply | bytes, times: int = 1, seconds: float = 10.0, max_bytes: int = 1 << 20
) -> tuple[Answer, Pages]:
    async def run() -> tuple[Answer, Pages]:
        async with Pages(*replies) as pages:
            endpoint = Endpoint(f"{pages.url}/metrics", "text/plain", seconds, max_bytes)
            endpoint.open()
            try:
                for _ in range(times):
                    answer = await endpoint.get()
                return answer, pages
            finally:
                await endpoint.close()

    return asyncio.run(run())


def test_page():
    before = time.time()
    answer, pages = fetch(Reply(PAGE, OPENMETRICS))
    assert (answer.body, answer.content_type, answer.cut) == (PAGE, OPENMETRICS, None)
    assert before <= answer.at <= time.time()
    assert answer.local
    head = pages.requests[0]
    assert head.startswith("GET /metrics HTTP/1.1")
    assert "Accept-Encoding: identity" in head
    assert "User-Agent: w2t/" in head


def test_connection_is_kept():
    _, pages = fetch(PAGE, times=3)
    assert (len(pages.requests), pages.connections) == (3, 1)


def test_server_that_closes():
    answer, pages = fetch(Reply(PAGE, close=True, headers={"Connection": "close"}), times=3)
    assert answer.body == PAGE
    assert answer.local
    assert pages.connections == 3


def test_time_is_half_way_to_the_answer_not_its_end():
    answer, _ = fetch(Reply(b"a 1\n", pause=0.05))
    assert answer.at < time.time() - 0.1


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
def test_compressed(encode):
    coding = "gzip" if encode is gzip.compress else "deflate"
    answer, _ = fetch(Reply(encode(PAGE), headers={"Content-Encoding": coding}))
    assert (answer.body, answer.cut) == (PAGE, None)


def test_page_that_breaks_off_keeps_its_begin():
    answer, _ = fetch(Reply(PAGE, stop_after=2001))
    assert answer.body == PAGE[:2001]
    assert "broke after 2001 bytes" in str(answer.cut)


def test_compressed_page_that_breaks_off():
    body = b"".join(b"a%d %d\n" % (i, i * i) for i in range(5000))
    packed = gzip.compress(body)
    answer, _ = fetch(Reply(packed[:5000], headers={"Content-Encoding": "gzip"}), max_bytes=1 << 20)
    assert body.startswith(answer.body)
    assert len(answer.body) > 1000
    assert "ends early" in str(answer.cut)


def test_page_of_200_mb_is_given_up_early():
    async def run() -> int:
        async with Pages(Reply(b"a 1\n" * (1 << 18), repeat=200)) as pages:
            endpoint = Endpoint(pages.url, "text/plain", 30.0, 1 << 20)
            endpoint.open()
            with pytest.raises(AnswerError, match="larger than 1 MiB"):
                await endpoint.get()
            await endpoint.close()
            return pages.sent

    assert asyncio.run(run()) < 32 << 20


def test_gzip_bomb_is_given_up():
    with pytest.raises(AnswerError, match="larger than 1 MiB"):
        fetch(gzipped(b"\0" * (64 << 20)))


def test_broken_gzip():
    with pytest.raises(AnswerError, match="gzip"):
        fetch(Reply(PAGE, headers={"Content-Encoding": "gzip"}))


def test_unknown_coding():
    with pytest.raises(AnswerError, match="br was not asked for"):
        fetch(Reply(PAGE, headers={"Content-Encoding": "br"}))


def test_slow_drip_is_given_up():
    with pytest.raises(TimeoutError, match=r"no whole answer in 0\.2 s"):
        fetch(Reply(PAGE, pause=0.05), seconds=0.2)


@pytest.mark.parametrize(
    "status", ["500 Internal Server Error", "404 Not Found", "503 Service Unavailable"]
)
def test_status(status):
    with pytest.raises(AnswerError, match=status):
        fetch(Reply(b"a 1\n", status=status))


def test_redirect_is_followed_but_not_for_ever():
    there = {"Location": "/metrics/"}
    answer, pages = fetch(Reply(status="307 Temporary Redirect", headers=there), PAGE)
    assert answer.body == PAGE
    assert pages.requests[1].startswith("GET /metrics/ ")
    with pytest.raises(AnswerError):
        fetch(Reply(status="307 Temporary Redirect", headers=there))


def test_answer_that_is_no_http():
    async def run() -> None:
        async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
            writer.close()

        server = await asyncio.start_server(hello, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(f"http://127.0.0.1:{port}", "text/plain", 5.0)
        endpoint.open()
        with pytest.raises((AnswerError, OSError)):
            await endpoint.get()
        await endpoint.close()
        server.close()

    asyncio.run(run())


def test_connection_refused():
    async def run() -> None:
        async with Pages(PAGE) as pages:
            url = pages.url
        endpoint = Endpoint(url, "text/plain", 5.0)
        endpoint.open()
        with pytest.raises(OSError, match=f"^{url}: Connection refused$"):
            await endpoint.get()
        await endpoint.close()

    asyncio.run(run())


def test_get_before_open():
    with pytest.raises(RuntimeError):
        asyncio.run(Endpoint("http://127.0.0.1:1", "text/plain", 1.0).get())
