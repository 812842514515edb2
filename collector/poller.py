"""Polls one source on its grid, whatever the source does."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import zlib
from collections import Counter as Tally
from collections.abc import Callable

from collector.batch import Batch
from collector.catalog import selfmetrics
from collector.child import Child
from collector.entity import Entity, Kind
from collector.plugin import Plugin
from collector.store import Store
from collector.topology import Topology
from collector.worker import BusyError, Worker

log = logging.getLogger(__name__)

STALE = 3  # intervals after which a sample is no longer shown
CLOSING = 2.5  # seconds for a source to end; a session with a slow BMC is to be ended too
TELL = 5.0  # seconds after which a source whose state stays the same says so again
BACKOFF_MAX = 60.0  # seconds; a source that is polled more rarely is not slowed down further


class Source:
    """One plugin instance and all that is known of how its polls go.

    It polls at the multiples of the interval since the epoch, shifted by a share of the interval
    that depends on the target where the plugin is spread. A poll that takes too long is given up
    and what it found is kept. After failures the next polls come at growing distances, up to
    `BACKOFF_MAX`. The first failure and the recovery are logged, nothing in between.

    Args:
        name: The plugin's name.
        plugin: The instance that is polled.
        host: The host this daemon runs on.
        store: Takes the samples.
        topology: Takes the links.
        deliver: Is given the source's id and every batch, for what else is to be made of it.
    """

    def __init__(
        self,
        name: str,
        plugin: Plugin,
        host: Entity,
        store: Store,
        topology: Topology,
        deliver: Callable[[str, Batch], None] = lambda source, batch: None,
    ) -> None:
        self.name = name
        self.plugin = plugin
        self.entity = Kind.SOURCE(name, plugin.target)
        self.id = f"{name}:{plugin.target}" if plugin.target else name
        self.polls = 0
        self.error: str | None = None
        self._host = host
        self._store = store
        self._topology = topology
        self._deliver = deliver
        self._at = float("-inf")
        self._failed = 0
        self._failed_in_a_row = 0
        self._failures: Tally[str] = Tally()
        self._last_success: float | None = None
        self._refused = 0
        self._opened = False
        self._told: tuple[float, str | None] = (float("-inf"), None)
        self._awaited = {
            name for name in _METHODS if inspect.iscoroutinefunction(getattr(plugin, name))
        }
        self._worker = Worker(self.id)
        self._child: Child | None = None
        if plugin.driver_bound:
            config = plugin.model_dump(mode="json", exclude_unset=True)
            self._child = Child(name, config, host)

    async def run(self) -> None:
        """Poll until cancelled, then close the plugin."""
        try:
            while True:
                await asyncio.sleep(self.delay(time.time()))
                await self.poll()
        finally:
            await self.close()

    def delay(self, now: float) -> float:
        """Seconds from `now`, since the epoch, to the next poll.

        It is counted anew after each poll and is less than two intervals, so a clock that jumps
        moves the grid and stops nothing.
        """
        interval = self.plugin.interval
        shift = zlib.crc32(self.id.encode()) / (1 << 32) * interval * self.plugin.spread
        wait = interval - (now - shift) % interval
        if 0 <= now + wait - self._at < interval / 2:  # the last poll was a little early for this
            wait += interval
        if self._failed_in_a_row > 1:
            most = max(BACKOFF_MAX - interval, 0.0)
            extra = interval * (2 ** min(self._failed_in_a_row - 1, 16) - 1)
            wait += min(extra, most) // interval * interval
        return wait

    async def poll(self) -> Batch:
        """Poll once and hand on what was found; errors are counted, logged once and not raised."""
        plugin = self.plugin
        self._at = at = time.time()
        begun = time.monotonic()
        batch = Batch(self._host, at, plugin.metrics, self._store.index)
        reason, message = None, ""
        try:
            async with asyncio.timeout(plugin.timeout):
                await self._read(batch)
        except TimeoutError as error:
            reason, message = "timeout", str(error) or f"no answer within {plugin.timeout:g} s"
            if self._child is not None and self._child.end:
                message += f": {self._child.end}"
        except BusyError as error:
            reason, message = "hung", str(error)
        except OSError as error:
            reason, message = "unreachable", _describe(error)
        except Exception as error:  # noqa: BLE001 - a source may fail in any way
            reason, message = "error", _describe(error)
        batch.seal()
        if reason is None and batch.errors:
            reason, message = "partial", _describe_all(batch.errors)
        lifetime = STALE * plugin.interval + plugin.timeout
        try:
            self._refused += self._store.write(
                batch, self.id, lifetime, plugin.max_series, plugin.precedence
            )
        except Exception as error:  # noqa: BLE001 - a plugin of others added what is no number
            reason, message = "error", _describe(error)
        self._report(reason, message)
        if reason is None or batch.links:
            self._topology.observe(self.id, batch.links, at, complete=reason is None)
        self._deliver(self.id, batch)
        # Nothing but the clock moves in most seconds, and it is not worth a write in each of them.
        if reason != self._told[1] or not 0 <= at - self._told[0] < TELL:
            self._told = (at, reason)
            self._write_self(at, time.monotonic() - begun, reason)
        self.polls += 1
        return batch

    async def close(self) -> None:
        """Release what the source holds; a hung one is left behind."""
        try:
            async with asyncio.timeout(CLOSING):
                if self._child is not None:
                    await self._child.close()
                elif self._opened:
                    await self._call("close")
        except Exception as error:  # noqa: BLE001 - it is over either way
            log.debug("source %s: close: %s", self.id, _describe(error))
        self._opened = False
        self._worker.stop()

    async def _read(self, batch: Batch) -> None:
        if self._child is not None:
            await self._child.poll(batch)
            return
        if not self._opened:
            await self._call("open")
            self._opened = True
        await self._call("poll", batch)

    async def _call(self, name: str, *args: Batch) -> None:
        method = getattr(self.plugin, name)
        if name in self._awaited:
            await method(*args)
        elif getattr(type(self.plugin), name) is not getattr(Plugin, name):
            await self._worker.run(lambda: method(*args))

    def _report(self, reason: str | None, message: str) -> None:
        if reason is None:
            if self.error is not None:
                log.info("source %s: up again (failed polls: %d)", self.id, self._failed)
            self.error = None
            self._failed = self._failed_in_a_row = 0
            return
        if self.error is None:
            log.warning("source %s: %s: %s", self.id, reason, message)
        self.error = f"{reason}: {message}"
        self._failures[reason] += 1
        self._failed += 1
        # What answers in part is there: it keeps its pace.
        self._failed_in_a_row = 0 if reason == "partial" else self._failed_in_a_row + 1

    def _write_self(self, at: float, seconds: float, reason: str | None) -> None:
        own = Batch(self._host, at, _SELF, self._store.index)
        if reason is None:
            self._last_success = at
        own.add(selfmetrics.SOURCE_UP, self.entity, float(reason is None))
        own.add(selfmetrics.SOURCE_POLL, self.entity, seconds)
        own.add(selfmetrics.SOURCE_LAST_SUCCESS, self.entity, self._last_success)
        own.add(selfmetrics.SOURCE_REFUSED, self.entity, float(self._refused))
        for failure, count in self._failures.items():
            own.add(selfmetrics.SOURCE_FAILURES, self.entity, float(count), failure)
        lifetime = STALE * max(TELL, self.plugin.interval, self.delay(at)) + self.plugin.timeout
        self._store.write(own, "self", lifetime)


_METHODS = ("open", "poll", "close")
_SELF = frozenset(
    (
        selfmetrics.SOURCE_UP,
        selfmetrics.SOURCE_POLL,
        selfmetrics.SOURCE_LAST_SUCCESS,
        selfmetrics.SOURCE_REFUSED,
        selfmetrics.SOURCE_FAILURES,
    )
)


def _describe(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _describe_all(errors: list[tuple[Entity | None, Exception]]) -> str:
    parts = [f"{entity}: {error}" if entity else str(error) for entity, error in errors]
    more = f" (and {len(parts) - 3} more)" if len(parts) > 3 else ""
    return "; ".join(parts[:3]) + more
