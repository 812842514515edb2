"""The daemon's JSON interface under /api/v1, beside the pages of `collector.web`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from aiohttp import web

from collector.poller import Source
from collector.topology import Topology


class Link(TypedDict):
    """A link as JSON: entities as `kind:key`, times in seconds since the epoch, None for now."""

    child: str
    parent: str
    share: float
    source: str
    since: float
    until: float | None


def routes(topology: Topology, sources: Mapping[str, Source]) -> list[web.RouteDef]:
    """Make the routes that show a daemon's topology and its sources."""

    async def show_topology(request: web.Request) -> web.Response:
        return web.json_response({"links": links(topology)})

    async def show_sources(request: web.Request) -> web.Response:
        shown = [
            {
                "plugin": source.name,
                "target": source.plugin.target,
                "interval_seconds": source.plugin.interval,
                "polls": source.polls,
                "up": source.polls > 0 and source.error is None,
                "error": source.error,
            }
            for source in sources.values()
        ]
        return web.json_response({"sources": shown})

    return [
        web.get("/api/v1/topology", show_topology),
        web.get("/api/v1/sources", show_sources),
    ]


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
