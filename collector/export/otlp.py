"""Pushes all live series to an OTLP receiver."""

from __future__ import annotations

import asyncio
import logging
import random
import time
import zlib
from collections import Counter as Tally
from collections.abc import Callable, Mapping

from collector.batch import Batch
from collector.catalog import selfmetrics
from collector.entity import Kind
from collector.export.otlp_request import Request, Requests
from collector.export.otlp_transport import DeliveryError, RejectedError, shown, transport
from collector.metric import Metric
from collector.store import Store

log = logging.getLogger(__name__)

BACKOFF = 0.5  # seconds before the first retry; doubled with each


class OtlpPush:
    """Sends the latest sample of every live series once in each interval.

    What cannot be delivered within the interval is given up and counted: the next push carries
    newer values, and counters are cumulative. Nothing is kept on disk.

    Args:
        store: Only read.
        endpoint: `http://host:4318`, with a path where the receiver wants one
            (`http://host:9090/api/v1/otlp` for Prometheus); for gRPC `http://host:4317`.
        protocol: `http/protobuf` or `grpc`.
        headers: Sent along, for authentication; never logged.
        interval: Seconds between two pushes.
        timeout: Seconds that one attempt may take.
        compression: `gzip` or `none`.
        resource: Attributes of this daemon: `service.name`, `service.instance.id`, `host.name`,
            `service.version`.
        name: The `exporter` label of this push's own metrics.
        clock: Seconds since the epoch.

    Raises:
        ValueError: The endpoint is malformed, or gRPC is asked for and not installed.
    """

    metrics: tuple[Metric, ...] = (
        selfmetrics.EXPORTER_POINTS,
        selfmetrics.EXPORTER_LAST_SUCCESS,
    )

    def __init__(
        self,
        store: Store,
        endpoint: str,
        *,
        protocol: str = "http/protobuf",
        headers: Mapping[str, str] | None = None,
        interval: float = 10.0,
        timeout: float = 5.0,
        compression: str = "gzip",
        resource: Mapping[str, str],
        name: str = "otlp",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport(protocol, endpoint, headers or {}, compression == "gzip")
        self._requests = Requests(store, resource)
        self._shown = shown(endpoint)
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._entity = Kind.EXPORTER(name)
        self._points: Tally[str] = Tally(sent=0, rejected=0, failed=0)
        self._last_success: float | None = None
        self._trouble = ""
        # Many daemons do not push at the same instant.
        seed = resource.get("service.instance.id", "").encode(errors="replace")
        self._phase = zlib.crc32(seed) / 2**32 * interval

    async def run(self) -> None:
        """Push on a wall-clock grid until cancelled."""
        try:
            while True:
                behind = (self._clock() - self._phase) % self._interval
                await asyncio.sleep(self._interval - behind)
                await self.push()
        finally:
            await self.close()

    async def push(self) -> None:
        """Send everything once; what goes wrong is counted and logged, never raised."""
        now = self._clock()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._interval
        trouble = ""
        for request in self._requests.encode(now):
            try:
                rejected, message = await self._deliver(request, deadline)
            except DeliveryError as error:
                outcome = "rejected" if isinstance(error, RejectedError) else "failed"
                self._points[outcome] += request.points
                trouble = trouble or str(error)
                continue
            except Exception as error:  # a defect must not end the pushes
                log.exception("OTLP push to %s", self._shown)
                self._points["failed"] += request.points
                trouble = trouble or type(error).__name__
                continue
            rejected = min(max(rejected, 0), request.points)
            self._points["rejected"] += rejected
            self._points["sent"] += request.points - rejected
            if rejected:
                trouble = trouble or f"{rejected} points were rejected: {message[:200]!r}"
        if not trouble:
            self._last_success = now
        self._tell(trouble)

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    def samples(self, batch: Batch) -> None:
        """Add what the push says of itself."""
        for outcome, count in self._points.items():
            batch.add(selfmetrics.EXPORTER_POINTS, self._entity, float(count), outcome)
        batch.add(selfmetrics.EXPORTER_LAST_SUCCESS, self._entity, self._last_success)

    async def _deliver(self, request: Request, deadline: float) -> tuple[int, str]:
        """Try until it works, the receiver wants no retry, or the deadline (loop time) is near."""
        loop = asyncio.get_running_loop()
        backoff = BACKOFF
        while True:
            left = deadline - loop.time()
            if left <= 0:
                raise DeliveryError(f"no time left in the interval of {self._interval} s")
            try:
                return await self._transport.send(request.body, min(self._timeout, left))
            except DeliveryError as error:
                delay = max(error.after, backoff * random.uniform(0.5, 1.0))  # noqa: S311
                if not error.retry or loop.time() + delay >= deadline:
                    raise
                await asyncio.sleep(delay)
                backoff *= 2

    def _tell(self, trouble: str) -> None:
        """Log the first failure and the recovery, nothing in between."""
        if trouble and not self._trouble:
            log.warning("OTLP push to %s: %s", self._shown, trouble)
        elif self._trouble and not trouble:
            log.info("OTLP push to %s works again", self._shown)
        self._trouble = trouble
