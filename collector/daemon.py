"""Wires sources, store, attribution and exporters together, and keeps them running."""

from __future__ import annotations

import asyncio
import logging
import platform
import resource
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from collector import __version__, hangs, placement, systemd, web
from collector.attribution import Attribution
from collector.batch import Batch
from collector.catalog import selfmetrics
from collector.config import Config, ConfigError, Configured, found
from collector.entity import Kind
from collector.events import Events
from collector.evidence import Evidence
from collector.export.prometheus import Page
from collector.facility import INTERVAL, Facility
from collector.hangs import Hangs
from collector.metric import Metric
from collector.poller import STALE, Source
from collector.settings import Otlp, Settings
from collector.store import Store
from collector.topology import Topology
from collector.web import api
from collector.worker import BusyError, Worker

if TYPE_CHECKING:
    from collector.export.pushes import Push

log = logging.getLogger(__name__)

LOOK = 60.0  # seconds between two looks for what else can be read on this host
HOUSEKEEPING = 5.0  # seconds between two looks at oneself
NEEDS_RESTART = tuple(section for section in Settings.model_fields if section != "topology")
_SELF = frozenset(value for value in vars(selfmetrics).values() if isinstance(value, Metric))
_PAGE = resource.getpagesize()


class Daemon:
    """One daemon: `run` serves until it is told to stop.

    Args:
        load: Reads the config; called again at each reload.

    Raises:
        ConfigError: The config cannot be used.
    """

    def __init__(self, load: Callable[[], Config]) -> None:
        self._load = load
        self.config = load()
        settings = self.config.settings
        self.host = Kind.HOST(settings.daemon.host_name)
        self.store = Store(settings.store.resolution, settings.store.history)
        self.topology = Topology(settings.store.history)
        self.attribution = Attribution(settings.attribution, self.host, self.store, self.topology)
        self.facility = Facility(settings.capacity, self.host, self.store, self.topology)
        self.hangs = Hangs(settings.hangs, self.host, self.store, self.topology)
        self.events = Events()
        self.sources: dict[str, Source] = {}
        self.evidence = Evidence(
            settings.evidence, self.host, self.store, self.topology, self.events, self.sources
        )
        self.listening: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._reader = Worker("config")
        self._reloading = asyncio.Lock()
        self._reload_ok = True
        self._reload_at = time.time()
        self._pushes: list[Push] = []
        self._headers = _reveal(settings.exporters.otlp)
        self._place()

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `stop`; SIGHUP reads the config again.

        Raises:
            OSError: An address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        reloads: set[asyncio.Task[list[str]]] = set()  # the loop alone does not keep its tasks

        def hangup() -> None:
            reloads.add(task := loop.create_task(self.reload()))
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hangup)
        settings = self.config.settings
        app = web.App(
            Page(self.store), self.waiting, self.reload if settings.web.enable_lifecycle else None
        )
        app.web.add_routes(api.routes(self.topology, self.sources, self.events))
        async with AsyncExitStack() as stack:
            self.listening = await stack.enter_async_context(
                web.serve(app, settings.web.listen_address)
            )
            stack.push_async_callback(self.evidence.close)
            stack.push_async_callback(self._stop_sources)
            self._start_sources()
            works = [
                _repeat("attribution", settings.attribution.interval, self._attribute),
                _repeat("facility", INTERVAL, self._derive),
                _repeat("hangs", hangs.INTERVAL, self._look_for_hangs),
                _repeat("housekeeping", HOUSEKEEPING, self._keep_house),
                self._look_again(),
            ]
            if settings.exporters.otlp:
                from collector.export.pushes import pushes

                self._pushes = pushes(
                    settings.exporters.otlp, self._headers, self.host, self.store, self.events
                )
                works += [push.run() for push in self._pushes]
            if interval := systemd.watchdog_interval():
                works.append(_repeat("watchdog", interval, _feed_watchdog))
            for work in works:
                stack.push_async_callback(_cancel, loop.create_task(work))
            log.info("w2t %s serves on %s", __version__, ", ".join(self.listening))
            systemd.notify("READY=1", f"STATUS={len(self.sources)} sources")
            await self._stopping.wait()
            log.info("stopping")
            systemd.notify("STOPPING=1")

    def stop(self) -> None:
        """Let `run` return."""
        self._stopping.set()

    def waiting(self) -> list[str]:
        """Name the sources that were not polled yet."""
        return [source.id for source in self.sources.values() if not source.polls]

    async def reload(self) -> list[str]:
        """Read the config again and apply it; one that cannot be used changes nothing.

        Returns:
            What is wrong with the config; nothing where it is in use.
        """
        async with self._reloading:  # a second one must see what the first has done
            systemd.reloading()
            try:
                config = await self._reader.run(self._load)
            except ConfigError as error:
                self._reload_ok = False
                for problem in error.problems:
                    log.error("%s", problem)
                log.error("the config is not taken into use; the old one stays")
                return error.problems
            else:
                await self._apply(config)
                return []
            finally:
                systemd.notify("READY=1")

    async def _apply(self, config: Config) -> None:
        self._reload_ok, self._reload_at = True, time.time()
        for section in NEEDS_RESTART:
            before = getattr(self.config.settings, section)
            if getattr(config.settings, section) != before:
                log.warning("config: [%s] changed; it takes effect with a restart", section)
                setattr(config.settings, section, before)
        self.config = config
        self._place()
        await self._stop_sources(keep=config.plugins)
        if self._stopping.is_set():
            return
        self._start_sources()
        log.info("config: read again, %d sources", len(self.sources))

    def _place(self) -> None:
        links = placement.links(self.config.settings.topology)
        self.topology.observe("config", links, time.time())

    def _start_sources(self) -> None:
        for name, plugin in self.config.plugins:
            source = Source(name, plugin, self.host, self.store, self.topology, self._deliver)
            if source.id not in self.sources:
                self.sources[source.id] = source
                self._tasks[source.id] = asyncio.create_task(source.run(), name=source.id)

    async def _stop_sources(self, keep: Sequence[Configured] = ()) -> None:
        """Stop all sources but those whose config is unchanged."""
        kept = {(name, plugin.target): plugin.model_dump() for name, plugin in keep}
        gone = [
            source
            for source in self.sources.values()
            if kept.get((source.name, source.plugin.target)) != source.plugin.model_dump()
        ]
        for source in gone:  # before the first await: a reload and the end can come together
            del self.sources[source.id]
        await asyncio.gather(*(_cancel(self._tasks.pop(source.id)) for source in gone))
        for source in gone:
            self.topology.observe(source.id, [], time.time())

    async def _look_again(self) -> None:
        """Start what can be read on this host since lately: an engine, a driver."""
        while True:
            await asyncio.sleep(LOOK)
            detectable = self.config.detectable
            try:
                there = await self._reader.run(partial(found, detectable))
            except BusyError:
                continue
            running = {(source.name, source.plugin.target) for source in self.sources.values()}
            new = [one for one in there if (one.name, one.plugin.target) not in running]
            self.config.plugins.extend(new)
            self._start_sources()
            for name, plugin in new:
                log.info("found on this host: %s %s", name, plugin.target)

    def _deliver(self, source: str, batch: Batch) -> None:
        self.attribution.take(batch.calls)
        self.events.take(batch.events, source)
        for event in batch.events:
            self.evidence.consider(event)

    def _attribute(self, now: float, late: float) -> None:
        lifetime = STALE * self.config.settings.attribution.interval
        self.store.write(self.attribution.step(now), "attribution", lifetime)

    def _derive(self, now: float, late: float) -> None:
        batch = self.facility.step(now)
        self.store.write(batch, "facility", STALE * INTERVAL)
        self._deliver("facility", batch)

    def _look_for_hangs(self, now: float, late: float) -> None:
        batch = self.hangs.step(now)
        self.store.write(batch, "hangs", STALE * hangs.INTERVAL)
        self._deliver("hangs", batch)

    def _keep_house(self, now: float, late: float) -> None:
        """Forget what is old, and say how the daemon itself does."""
        self.store.evict(now)
        self.topology.forget(now)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        with open("/proc/self/statm", "rb") as file:
            resident = int(file.read().split()[1]) * _PAGE
        daemon = Kind.DAEMON()
        batch = Batch(self.host, now, _SELF, self.store.index)
        python = platform.python_version()
        batch.add(selfmetrics.BUILD_INFO, daemon, 1.0, __version__, python)
        batch.add(selfmetrics.SERIES, daemon, float(len(self.store.index)))
        batch.add(selfmetrics.STORE_BYTES, daemon, float(self.store.size))
        batch.add(selfmetrics.CONFIG_RELOAD_OK, daemon, float(self._reload_ok))
        batch.add(selfmetrics.CONFIG_RELOAD_TIME, daemon, self._reload_at)
        batch.add(selfmetrics.LOOP_LAG, daemon, late)
        batch.add(selfmetrics.CPU_TIME, daemon, usage.ru_utime + usage.ru_stime)
        batch.add(selfmetrics.MEMORY, daemon, float(resident))
        self.events.samples(batch)
        for push in self._pushes:
            push.samples(batch)
        self.store.write(batch, "self", STALE * HOUSEKEEPING)


def _reveal(settings: Otlp | None) -> dict[str, str]:
    headers = settings.headers if settings else {}
    try:
        return {name: secret.reveal() for name, secret in headers.items()}
    except (OSError, LookupError) as error:
        raise ConfigError([f"exporters.otlp.headers: {error}"]) from error


def _feed_watchdog(now: float, late: float) -> None:
    systemd.notify("WATCHDOG=1")


async def _repeat(name: str, interval: float, work: Callable[[float, float], None]) -> None:
    """Call `work(now, late)` at each multiple of the interval; an error is logged once in a row."""
    loop = asyncio.get_running_loop()
    failing = False
    while True:
        wait = interval - time.time() % interval
        due = loop.time() + wait
        await asyncio.sleep(wait)
        try:
            work(time.time(), loop.time() - due)
            failing = False
        except Exception:
            if not failing:
                log.exception("%s failed; it goes on with the next step", name)
            failing = True


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
