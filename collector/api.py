"""The daemon's JSON interface under /api/v1, beside the pages of `collector.web`."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from aiohttp import web

from collector.prometheus import Page
from collector.topology import Topology
from collector.web import App

if TYPE_CHECKING:
    from collector.daemon import Daemon


class Link(TypedDict):
    """A link as JSON: entities as `kind:key`, times in seconds since the epoch, None for now."""

    child: str
    parent: str
    share: float
    source: str
    since: float
    until: float | None


def application(daemon: Daemon) -> App:
    """Make the web application of a daemon."""
    lifecycle = daemon.config.settings.web.enable_lifecycle
    app = App(Page(daemon.store), daemon.waiting, daemon.reload if lifecycle else None)

    async def topology(request: web.Request) -> web.Response:
        return web.json_response({"links": links(daemon.topology)})

    async def sources(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "sources": [
                    {
                        "plugin": source.name,
                        "target": source.plugin.target,
                        "interval_seconds": source.plugin.interval,
                        "polls": source.polls,
                        "up": source.polls > 0 and source.error is None,
                        "error": source.error,
                    }
                    for source in daemon.sources.values()
                ]
            }
        )

    app.web.router.add_get("/api/v1/topology", topology)
    app.web.router.add_get("/api/v1/sources", sources)
    return app


def links(topology: Topology) -> list[Link]:
    """All links as JSON."""
    return [
        {
            "child": str(span.link.child),
            "parent": str(span.link.parent),
            "share": span.link.share,
            "source": span.source,
            "since": span.since,
            "until": span.until,
        }
        for span in topology.spans()
    ]
