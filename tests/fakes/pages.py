"""An HTTP server on loopback that serves pages, changing pages, and misbehaves on request."""

import asyncio
import gzip
from dataclasses import dataclass, field

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass
class Reply:
    """What the server answers.

    `stop_after` breaks the connection after so many bytes of the body; `pause` sends it one byte
    at a time; `repeat` sends it so many times over.
    """

    body: bytes = b""
    content_type: str = TEXT
    status: str = "200 OK"
    headers: dict[str, str] = field(default_factory=dict)
    stop_after: int | None = None
    pause: float = 0.0
    repeat: int = 1
    close: bool = False


def gzipped(body: bytes, content_type: str = TEXT) -> Reply:
    return Reply(gzip.compress(body), content_type, headers={"Content-Encoding": "gzip"})


class Pages:
    """Gives one reply after the other, the last again and again.

    Use: `async with Pages(b"a 1\\n", b"a 2\\n") as pages: ... pages.url`. `replies` may be changed
    while it runs; `requests` holds the heads of the requests that came, `sent` counts bytes.
    """

    def __init__(self, *replies: Reply | bytes) -> None:
        self.replies = [r if isinstance(r, Reply) else Reply(r) for r in replies]
        self.requests: list[str] = []
        self.sent = 0
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> "Pages":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.requests.append(head)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if not await self._answer(writer, reply):
                    break
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        length = len(reply.body) * reply.repeat
        headers = {"Content-Length": str(length), **reply.headers}
        if reply.content_type:
            headers["Content-Type"] = reply.content_type
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status}\r\n{lines}\r\n".encode())
        body = reply.body[: reply.stop_after]
        if reply.pause:
            for i in range(len(body)):
                writer.write(body[i : i + 1])
                await writer.drain()
                self.sent += 1
                await asyncio.sleep(reply.pause)
        else:
            for _ in range(reply.repeat):
                writer.write(body)
                await writer.drain()
                self.sent += len(body)
        return reply.stop_after is None and not reply.close
