"""The daemon's web server: the page for Prometheus, health, readiness and reload."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from collector import __version__
from collector.export.prometheus import Page
from collector.web import listener
from collector.web.front import Form, Front, wanted
from collector.web.listener import listen
from collector.web.malloc import keep_freed_memory

log = logging.getLogger(__name__)

MAX_BODY = 64 * 1024  # bytes of a request; header lines are bounded by aiohttp (8190 bytes, 128)

_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>w2t</title></head>
<body><h1>w2t: from watts to tokens</h1><p>Version {version}</p><ul>
<li><a href="/metrics">/metrics</a>: what is measured, for Prometheus</li>
<li><a href="/api/v1/sources">/api/v1/sources</a>: what is read, and what is wrong with it</li>
<li><a href="/api/v1/topology">/api/v1/topology</a>: what feeds and serves what</li>
<li><a href="/api/v1/events">/api/v1/events</a>: what happened: traps, Xids, the kernel's log</li>
<li><a href="/-/healthy">/-/healthy</a>: whether the daemon is alive</li>
<li><a href="/-/ready">/-/ready</a>: whether every source was tried once</li>
</ul></body></html>
"""


class App:
    """What the daemon answers by HTTP; `web` is the application to serve.

    Args:
        page: What `/metrics` shows.
        ready: Tells what is still waited for; nothing once the config is loaded and each source
            was polled once.
        reload: Reads the config again and tells its errors, in which case the old one stays;
            None where reloading by HTTP is off.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        page: Page,
        ready: Callable[[], Sequence[str]],
        reload: Callable[[], Awaitable[Sequence[str]]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.web = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
        self.web.add_routes(
            [
                web.get("/", self._index),
                web.get("/metrics", self._metrics),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._ready),
                web.post("/-/reload", self._reload),
                web.put("/-/reload", self._reload),
            ]
        )
        self._page = page
        self._ready_list = ready
        self._reload_config = reload
        self._clock = clock

    async def _index(self, request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": "default-src 'none'"}
        text = _INDEX.format(version=__version__)
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _metrics(self, request: web.Request) -> web.Response:
        accept, coding = (request.headers.get(k, "") for k in ("Accept", "Accept-Encoding"))
        form = wanted(accept, coding)
        _, blocks = self.page(form)
        return web.Response(body=b"".join(blocks), headers=form.headers)

    def page(self, form: Form) -> tuple[int, Iterator[bytes]]:
        """Return the length of the page as it is now, and its blocks."""
        return self._page.stream(self._clock(), openmetrics=form.openmetrics, gzip=form.gzip)

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="healthy\n")  # an event loop that hangs does not answer

    async def _ready(self, request: web.Request) -> web.Response:
        waiting = self._ready_list()
        if waiting:
            return web.Response(status=503, text="".join(f"waiting for {w}\n" for w in waiting))
        return web.Response(text="ready\n")

    async def _reload(self, request: web.Request) -> web.Response:
        if self._reload_config is None:
            raise web.HTTPForbidden(reason="Reload is off: set web.enable_lifecycle, or SIGHUP")
        errors = await self._reload_config()
        if errors:
            return web.Response(status=400, text="".join(f"{error}\n" for error in errors))
        return web.Response(text="reloaded\n")


@asynccontextmanager
async def serve(app: App, addresses: Sequence[str]) -> AsyncIterator[list[str]]:
    """Serve while the context lasts; takes, gives and raises what `listen` does."""
    keep_freed_memory()
    fronts: set[Front] = set()

    def front(handlers: web.Server) -> Front:
        return Front(app.page, handlers, listener.IDLE, fronts)

    async with listen(app.web, addresses, front=front, fronts=fronts) as served:
        yield served


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Make errors JSON, and tell no stranger what failed inside."""
    headers = {}
    try:
        response = await handler(request)
    except web.HTTPException as error:
        status, reason = error.status, error.reason
        headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        response = web.json_response({"error": reason}, status=status, headers=headers)
    except Exception:
        log.exception("%s %r failed", request.method, request.path)
        reason = "internal error; the daemon's log says more"
        response = web.json_response({"error": reason}, status=500)
    response.headers["Server"] = "w2t"
    return response
