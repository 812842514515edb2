"""Saves what is known the moment something goes wrong that leaves no trace later.

A hang of 512 GPUs could not be explained because power and the state of collectives were looked at
only after the job had been killed. So on an event of a few names a folder is written, `UTC time -
event name`, with

- `event.json`, `topology.json`, `events.json` (the last events);
- `series.om`: the last minutes of all series of this host, OpenMetrics with times;
- `sources/NAME/`: what each source of this host reads now, as `w2t record` saves it;
- `processes/PID/`: what /proc says of the processes on GPUs, and where their threads wait;
- `notes.txt`: what could not be had. That a driver does not answer is evidence, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import orjson

from collector import snapshot
from collector.batch import Event
from collector.entity import Entity, Kind
from collector.events import Events
from collector.export import openmetrics
from collector.plugin import Plugin
from collector.poller import Source
from collector.settings import Evidence as Settings
from collector.store import Store
from collector.topology import Topology
from collector.worker import Worker

T = TypeVar("T")
log = logging.getLogger(__name__)

TRIGGERS = frozenset({"collective.hang", "collective.timeout", "gpu.lost"})
_EVENTS = 1000
_PROCESSES = 64
_AT_ONCE = 8  # sources
_MINUTE = 60.0


class Evidence:
    """Takes one snapshot at a time; events that come meanwhile, or soon after, get none.

    Args:
        settings: The config's `[evidence]`.
        host: The host this daemon runs on.
        store: Whose history is saved.
        topology: Which processes use GPUs.
        events: The last ones.
        sources: Those that run, by id.
        root: Where `proc` is.
    """

    def __init__(
        self,
        settings: Settings,
        host: Entity,
        store: Store,
        topology: Topology,
        events: Events,
        sources: Mapping[str, Source],
        root: Path = Path("/"),
    ) -> None:
        self._settings = settings
        self._host = host
        self._store = store
        self._topology = topology
        self._events = events
        self._sources = sources
        self._root = root
        self._worker = Worker("evidence")
        self._writing = asyncio.Lock()  # a worker takes one call at a time
        self._taken: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def consider(self, event: Event) -> None:
        """Begin a snapshot where the event calls for one; returns at once."""
        last = self._taken.get(event.name)
        now = time.monotonic()
        if (
            not self._settings.enabled
            or event.name not in TRIGGERS
            or (self._task is not None and not self._task.done())
            or (last is not None and now - last < self._settings.cooldown)
        ):
            return
        self._taken[event.name] = now
        self._task = asyncio.get_running_loop().create_task(self._guarded(event))

    async def finished(self) -> None:
        """Wait for the snapshot that is being taken, if there is one."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Give up the snapshot that is being taken."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._worker.stop()

    async def _guarded(self, event: Event) -> None:
        try:
            folder = await self._take(event)
            log.info("evidence of %s is in %s", event.name, folder)
        except Exception as error:  # noqa: BLE001 - a full disk must not end the daemon
            log.error("evidence of %s could not be saved: %s", event.name, error)

    async def _take(self, event: Event) -> Path:
        from collector.web import api  # aiohttp is there where a daemon runs

        now = time.time()
        # First what is known already: nothing can hold that up.
        documents = {
            "event.json": _shown(event),
            "topology.json": api.links(self._topology),
            "events.json": [_shown(kept.event) for kept in self._events.after(0)[-_EVENTS:]],
        }
        pids = self._pids()
        settings = self._settings
        stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        place = (
            snapshot.directory(settings) / f"{stamp}-{re.sub(r'[^A-Za-z0-9_.]', '_', event.name)}"
        )
        folder = await self._write(lambda: snapshot.prepare(place, documents))
        notes: list[str] = []
        limit = asyncio.Semaphore(_AT_ONCE)
        works = [self._record(source, folder, notes, limit) for source in self._local()]
        async with asyncio.TaskGroup() as group:
            for work in (*works, self._processes(pids, folder, notes)):
                group.create_task(work)
            await self._series(folder, now, notes)
        await self._write(lambda: snapshot.finish(folder, notes, settings.keep))
        return folder

    async def _write(self, call: Callable[[], T]) -> T:
        async with self._writing:
            return await self._worker.run(call)

    def _local(self) -> list[Source]:
        """Sources that read this host and can record; those across the network tell nothing new."""
        return [
            source
            for source in self._sources.values()
            if source.plugin.spread == 0 and type(source.plugin).record is not Plugin.record
        ]

    def _pids(self) -> list[int]:
        """Processes on GPUs of this host, or with ranks."""
        found = [
            int(process.key[1])
            for process in self._topology.entities(Kind.PROCESS)
            if process.key[0] == self._host.key[0]
            and (
                self._topology.parents(process, Kind.GPU)
                or self._topology.children(process, Kind.RANK)
            )
        ]
        return sorted(found)[:_PROCESSES]

    async def _series(self, folder: Path, now: float, notes: list[str]) -> None:
        here = self._host.key[0]
        rows = [row for key, row in self._store.index.items() if here in key.entity.key]
        start = now - _MINUTE * self._settings.minutes
        page = openmetrics.Text()
        left = self._settings.max_bytes // 2  # the other half is for what sources record
        path = folder / "series.om"
        for piece in openmetrics.pieces(self._store, rows, start, now):
            write = functools.partial(snapshot.append, path, page, piece, left)
            written = await self._write(write)
            left -= written
            if left <= 0:
                notes.append("series.om: not all series, because of evidence.max_bytes")
                break
        await self._write(lambda: snapshot.close(path))

    async def _record(
        self, source: Source, folder: Path, notes: list[str], limit: asyncio.Semaphore
    ) -> None:
        """Let a source save what it reads; it does so beside the polls, with means of its own."""
        plugin = source.plugin
        place = folder / "sources" / re.sub(r"[^A-Za-z0-9_.-]", "_", source.id)
        worker = Worker(f"record {source.id}")
        try:
            async with limit, asyncio.timeout(self._settings.timeout):
                if plugin.driver_bound:
                    config = orjson.dumps(plugin.model_dump(mode="json", exclude_unset=True))
                    await snapshot.in_child(source.name, place, config)
                else:
                    other = type(plugin)(**plugin.model_dump(exclude_unset=True))
                    if inspect.iscoroutinefunction(other.record):
                        await other.record(place)
                    else:
                        await worker.run(lambda: other.record(place))
            most = self._settings.max_bytes // 2
            if await self._write(lambda: snapshot.too_much(folder, place, most)):
                notes.append(f"{source.id}: left out, because of evidence.max_bytes")
        except TimeoutError:
            notes.append(f"{source.id}: no answer within {self._settings.timeout:g} s")
        except Exception as error:  # noqa: BLE001 - a source may fail in any way
            notes.append(f"{source.id}: {type(error).__name__}: {error}")
        finally:
            worker.stop()

    async def _processes(self, pids: list[int], folder: Path, notes: list[str]) -> None:
        worker = Worker("record processes")
        end = time.monotonic() + self._settings.timeout
        try:
            async with asyncio.timeout(self._settings.timeout + 1):
                notes += await worker.run(
                    lambda: snapshot.stacks(self._root, pids, folder / "processes", end)
                )
        except (TimeoutError, OSError) as error:
            notes.append(f"processes: {error or 'no answer from /proc'}")
        finally:
            worker.stop()


def _shown(event: Event) -> dict[str, object]:
    return {
        "name": event.name,
        "entity": str(event.entity),
        "time": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds"),
        "severity": event.severity.name.lower(),
        "text": event.text,
        "attributes": dict(event.attributes),
    }
