"""Listens for HTTP, with the bounds that every listener of the daemon has."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web

from collector.web.front import Front

IDLE = 130.0  # seconds for the next request's header; Prometheus scrapes once a minute by default
STALLED = 30.0  # seconds for which a client may take nothing of what it asked for
MAX_CONNECTIONS = 512
GRACE = 1.0  # seconds that requests under way get at the end


@asynccontextmanager
async def listen(
    application: web.Application,
    addresses: Sequence[str],
    *,
    front: Callable[[web.Server], Front] | None = None,
    fronts: Collection[Front] = (),
    auto_decompress: bool = True,
) -> AsyncIterator[list[str]]:
    """Serve while the context lasts; gives the addresses as `host:port`, with the real ports.

    Args:
        application: What is served.
        addresses: `host:port`, `[v6]:port` or `:port` for all addresses; port 0 takes a free one.
        front: Makes what answers a new connection in aiohttp's place.
        fronts: The connections that are with such.
        auto_decompress: Let aiohttp decompress bodies.

    Raises:
        ValueError: An address is malformed.
        OSError: An address cannot be listened on; the message names it.
    """
    places = [parse(text) for text in addresses]
    runner = web.AppRunner(
        application,
        access_log=None,
        auto_decompress=auto_decompress,
        keepalive_timeout=IDLE,
        shutdown_timeout=GRACE,
        lingering_time=GRACE,
    )
    await runner.setup()
    handlers = runner.server
    assert handlers is not None

    def accept() -> asyncio.BaseProtocol:
        if len(fronts) + len(handlers.connections) >= MAX_CONNECTIONS:
            return _Refusal()
        return front(handlers) if front else handlers()

    servers: list[asyncio.Server] = []
    try:
        for text, (host, port) in zip(addresses, places, strict=True):
            try:
                loop = asyncio.get_running_loop()
                server = await loop.create_server(accept, host, port, reuse_address=True)
            except OSError as error:
                why = str(error.strerror).rpartition(": ")[2]  # asyncio tells the address, too
                raise OSError(error.errno, f"cannot listen on {text}: {why}") from error
            servers.append(server)
            for sock in server.sockets:
                # Inherited by the connections. Closing a transport waits for what is unsent, so
                # only the kernel ends a connection whose client does not read.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STALLED * 1000))
        yield [_text(sock.getsockname()) for server in servers for sock in server.sockets]
    finally:
        for server in servers:
            server.close()
        for one in tuple(fronts):
            one.transport.abort()
        await runner.cleanup()


def parse(address: str) -> tuple[str | None, int]:
    """Read an address to listen on: the host, None for all, and the port.

    Raises:
        ValueError: It is malformed.
    """
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%\w]+\]|[^:\s\[\]]*):(\d{1,5})", address)
    if match is None or int(match[2]) > 65535:
        raise ValueError(
            f"cannot listen on {address!r}: write host:port, [v6 address]:port or :port"
        )
    return match[1].strip("[]") or None, int(match[2])


def _text(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Refusal(asyncio.Protocol):
    """Ends a connection past `MAX_CONNECTIONS` at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()
