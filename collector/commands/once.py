"""Polls without a daemon: what `w2t once`, `record` and `topology` do."""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

from collector import __version__, placement
from collector.config import Config
from collector.entity import Kind
from collector.export.prometheus import Page
from collector.poller import Source
from collector.store import Store
from collector.topology import Topology
from collector.web import api
from collector.web.api import Link

FOLD = 4  # things of a kind with nothing below them, more of which become one line


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


CASE = """\
# TODO: device and firmware. Recorded on {date} by w2t {version}.
[daemon]
host_name = "node1"

[plugins.{name}]
"""


async def record(config: Config, folder: Path) -> int:
    """Save what one poll of the configured plugin reads into `folder`, as a case for tests."""
    for name, plugin in config.plugins[:1]:
        record = plugin.record
        if inspect.iscoroutinefunction(record):
            await record(folder)
        else:
            await asyncio.to_thread(record, folder)
        await asyncio.to_thread(_describe, folder / "config.toml", name)
        print(f"{name}: saved in {folder}; complete config.toml there, then: make golden")  # noqa: T201
        return 0
    print("nothing to record: the plugin is not configured and finds nothing here")  # noqa: T201
    return 1


def _describe(path: Path, name: str) -> None:
    date = time.strftime("%Y-%m-%d", time.gmtime())
    if not path.exists():
        path.write_text(CASE.format(date=date, version=__version__, name=name))


async def topology(config: Config) -> list[Link]:
    """Poll once and return what belongs to what, as `/api/v1/topology` gives it."""
    polled = await poll(config)
    return api.links(polled.topology)


def fetch_topology(url: str) -> list[Link]:
    """Ask a running daemon what belongs to what.

    Raises:
        OSError: It does not answer, or something else does.
    """
    try:
        with urllib.request.urlopen(f"{url}/api/v1/topology", timeout=10) as answer:  # noqa: S310
            links: list[Link] = json.load(answer)["links"]
    except (OSError, ValueError, LookupError) as error:
        raise OSError(f"{url}: no topology: {error}") from error
    return links


def tree(links: list[Link]) -> list[str]:
    """Draw the links that hold now as a tree; what a host or an engine lacks is said.

    What has several parents is drawn in full below the first; many alike that have nothing below
    them become one line.
    """
    children: dict[str, dict[str, float]] = defaultdict(dict)
    parents: dict[str, set[str]] = defaultdict(set)
    for link in links:
        if link["until"] is None:
            children[link["parent"]][link["child"]] = link["share"]
            parents[link["child"]].add(_kind(link["parent"]))
    lines: list[str] = []
    drawn: set[str] = set()

    def draw(name: str, share: float, depth: int) -> None:
        below = children.get(name, {})
        part = "" if share == 1.0 else f", {share:.0%} of it"
        again = name in drawn and bool(below)
        missing = _missing(name, parents.get(name, set()) | set(map(_kind, below)))
        lines.append(f"{'  ' * depth}{name}{part}{'  (see above)' if again else missing}")
        if again:
            return
        drawn.add(name)
        leaves = Counter(_kind(child) for child in below if child not in children)
        for kind, count in sorted(leaves.items()):
            if count > FOLD:
                lines.append(f"{'  ' * (depth + 1)}{count} x {kind}")
        for child, its in sorted(below.items()):
            if child in children or leaves[_kind(child)] <= FOLD:
                draw(child, its, depth + 1)

    for root in sorted(set(children) - set(parents)):
        draw(root, 1.0, 0)
    return lines or ["nothing is linked"]


def _kind(name: str) -> str:
    return name.partition(":")[0]


def _missing(name: str, has: set[str]) -> str:
    kind, _, key = name.partition(":")
    if kind == "host" and "outlet" not in has:
        return f"  (no outlet: set topology.hosts.{key}.outlets)"
    if kind == "engine" and not has & {"process", "gpu"}:
        return "  (no process seen: its GPUs are unknown)"
    return ""
