"""Polls without a daemon: what `w2t once`, `record` and `topology` do."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

from collector import api, placement
from collector.config import Config
from collector.entity import Entity, Kind
from collector.poller import Source
from collector.prometheus import Page
from collector.store import Store
from collector.topology import Topology


class Polled(NamedTuple):
    """What one poll of all sources found."""

    store: Store
    topology: Topology
    sources: list[Source]

    @property
    def failed(self) -> list[Source]:
        """The sources that could not be read, or not in full."""
        return [source for source in self.sources if source.error]


async def poll(config: Config) -> Polled:
    """Poll every configured source once, all at the same time."""
    host = Kind.HOST(config.settings.daemon.host_name)
    store, topology = Store(), Topology()
    topology.observe("config", placement.links(config.settings.topology), time.time())
    sources = [Source(*configured, host, store, topology) for configured in config.plugins]
    await asyncio.gather(*(source.poll() for source in sources))
    await asyncio.gather(*(source.close() for source in sources))
    return Polled(store, topology, sources)


async def samples(config: Config, *, as_json: bool) -> int:
    """Print the samples of one poll; the exit status is 1 where a source failed."""
    polled = await poll(config)
    store = polled.store
    if as_json:
        found = []
        for row in store.live(time.time()):
            key = store.series[row]
            assert key is not None
            labels = dict(key.entity.labels) | dict(zip(key.metric.labels, key.labels, strict=True))
            value, at = float(store.value[row]), float(store.time[row])
            found.append({"metric": key.metric.otlp, "labels": labels, "value": value, "time": at})
        print(json.dumps(found, indent=1))  # noqa: T201
    else:
        sys.stdout.write(Page(store).render(time.time()).decode())
    return 1 if polled.failed else 0


async def record(config: Config, folder: Path) -> int:
    """Save what one poll of the configured plugin reads into `folder`."""
    for configured in config.plugins[:1]:
        recorded = configured.plugin.record(folder)
        if recorded is not None:
            await recorded
        print(f"{configured.name}: saved in {folder}")  # noqa: T201
        return 0
    print("nothing to record: the plugin is not configured and finds nothing here")  # noqa: T201
    return 1


async def topology(config: Config, *, as_json: bool) -> int:
    """Print what belongs to what."""
    polled = await poll(config)
    if as_json:
        print(json.dumps({"links": api.links(polled.topology)}, indent=1))  # noqa: T201
    else:
        print("\n".join(tree(polled.topology)))  # noqa: T201
    return 0


def tree(topology: Topology) -> list[str]:
    """Draw the links as a tree from sites down to processes; missing links are said."""
    spans = [span for span in topology.spans() if span.until is None]
    children: dict[Entity, list[tuple[Entity, float]]] = {}
    has_parent: set[Entity] = set()
    for span in spans:
        child, parent, share = span.link
        children.setdefault(parent, []).append((child, share))
        has_parent.add(child)
    lines: list[str] = []

    def draw(entity: Entity, share: float, depth: int, above: frozenset[Entity]) -> None:
        part = "" if share == 1.0 else f"  {share:.0%} of it"
        missing = _missing(topology, entity)
        lines.append(f"{'  ' * depth}{entity}{part}{missing}")
        if entity not in above:
            for child, its in sorted(children.get(entity, []), key=lambda pair: str(pair[0])):
                draw(child, its, depth + 1, above | {entity})

    roots = sorted({entity for entity in children if entity not in has_parent}, key=str)
    for root in roots:
        draw(root, 1.0, 0, frozenset())
    return lines or ["nothing is linked"]


def _missing(topology: Topology, entity: Entity) -> str:
    if entity.kind is Kind.HOST and not topology.parents(entity, Kind.OUTLET):
        return f"  (no outlet: set topology.hosts.{entity.key[0]}.outlets)"
    if entity.kind is Kind.ENGINE and not (
        topology.children(entity, Kind.PROCESS) or topology.parents(entity, Kind.GPU)
    ):
        return "  (no process seen: its GPUs are unknown)"
    return ""
