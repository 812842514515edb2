"""The daemon's JSON interface under /api/v1, beside the pages of `collector.web`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TypedDict

from aiohttp import web

from collector.events import Events, Kept
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


MAX_EVENTS = 1000  # in one answer


def routes(topology: Topology, sources: Mapping[str, Source], events: Events) -> list[web.RouteDef]:
    """Make the routes that show a daemon's topology, its sources and the events they told."""

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

    async def show_events(request: web.Request) -> web.Response:
        after, limit = _number(request, "after", 0), _number(request, "limit", MAX_EVENTS)
        found = events.after(after, request.query.get("name"))
        page = found[: min(limit, MAX_EVENTS)]
        last = events.last if len(page) == len(found) else page[-1].number if page else after
        return web.json_response({"events": [_event(kept) for kept in page], "last": last})

    return [
        web.get("/api/v1/topology", show_topology),
        web.get("/api/v1/sources", show_sources),
        web.get("/api/v1/events", show_events),
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


def _event(kept: Kept) -> dict[str, object]:
    number, source, event = kept
    return {
        "number": number,
        "time": datetime.fromtimestamp(event.at, UTC).isoformat().replace("+00:00", "Z"),
        "name": event.name,
        "severity": event.severity.name.lower(),
        "entity": str(event.entity),
        "text": event.text,
        "attributes": dict(event.attributes),
        "source": source,
    }


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or len(text) > 18:
        raise web.HTTPBadRequest(reason=f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)
