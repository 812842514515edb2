"""Sends events to an OTLP receiver, as log records with an event name."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter as Tally
from collections.abc import Callable, Mapping

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber

from collector import __version__
from collector.batch import Batch
from collector.catalog import selfmetrics
from collector.entity import Kind
from collector.events import Events, Kept
from collector.export.otlp_transport import DeliveryError, RejectedError, Transport
from collector.metric import NAMESPACE

log = logging.getLogger(__name__)

AT_ONCE = 500  # events in one request
BACKOFF_MAX = 60.0  # seconds


class OtlpEvents:
    """Sends each event once; those that wait for a receiver stay in `Events`, which is bounded.

    Args:
        events: Only read.
        transport: To the receiver's logs.
        interval: Seconds between two looks for new events.
        timeout: Seconds that one attempt may take.
        resource: Attributes of this daemon.
        name: The `exporter` label of its own metrics.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        events: Events,
        transport: Transport,
        *,
        interval: float = 1.0,
        timeout: float = 5.0,
        resource: Mapping[str, str],
        name: str = "otlp_events",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._events = events
        self._transport = transport
        self._interval = interval
        self._timeout = timeout
        self._resource = resource
        self._entity = Kind.EXPORTER(name)
        self._clock = clock
        self._sent = 0  # the number of the last event that is settled
        self._points: Tally[str] = Tally(sent=0, rejected=0, failed=0)
        self._last_success: float | None = None
        self._trouble = ""

    async def run(self) -> None:
        """Send until cancelled."""
        wait = self._interval
        try:
            while True:
                await asyncio.sleep(wait * random.uniform(0.8, 1.0))  # noqa: S311
                left = self._interval if await self.send() else min(2 * wait, BACKOFF_MAX)
                wait = max(self._interval, left)
        finally:
            await self._transport.close()

    async def send(self) -> bool:
        """Send what waits; returns whether nothing does any more."""
        while waiting := self._events.after(self._sent)[:AT_ONCE]:
            lost = waiting[0].number - self._sent - 1
            self._points["failed"] += lost  # they waited for longer than they are kept
            self._sent += lost
            try:
                rejected, message = await self._transport.send(self._encode(waiting), self._timeout)
            except RejectedError as error:
                rejected, message = len(waiting), str(error)
            except DeliveryError as error:
                self._tell(str(error))
                return False
            rejected = min(max(rejected, 0), len(waiting))
            self._points["rejected"] += rejected
            self._points["sent"] += len(waiting) - rejected
            self._sent = waiting[-1].number
            self._last_success = self._clock()
            self._tell(f"{rejected} were rejected: {message[:200]!r}" if rejected else "")
        return True

    def samples(self, batch: Batch) -> None:
        """Add what the export says of itself."""
        for outcome, count in self._points.items():
            batch.add(selfmetrics.EXPORTER_POINTS, self._entity, float(count), outcome)
        batch.add(selfmetrics.EXPORTER_LAST_SUCCESS, self._entity, self._last_success)

    def _encode(self, waiting: list[Kept]) -> bytes:
        request = ExportLogsServiceRequest()
        resource = request.resource_logs.add()
        resource.resource.attributes.extend(_attributes(self._resource))
        scope = resource.scope_logs.add()
        scope.scope.name, scope.scope.version = NAMESPACE, __version__
        scope.log_records.extend(_record(kept, self._clock()) for kept in waiting)
        return request.SerializeToString()

    def _tell(self, trouble: str) -> None:
        if trouble and not self._trouble:
            log.warning("OTLP events: %s", trouble)
        elif self._trouble and not trouble:
            log.info("OTLP events are delivered again")
        self._trouble = trouble


def _record(kept: Kept, now: float) -> LogRecord:
    _, source, event = kept
    attributes = {**dict(event.attributes), **dict(event.entity.labels), "w2t.source": source}
    record = LogRecord(
        time_unix_nano=int(event.at * 1e9),
        observed_time_unix_nano=int(now * 1e9),
        severity_number=SeverityNumber.ValueType(event.severity.value),
        severity_text=event.severity.name,
        event_name=f"{NAMESPACE}.{event.name}",
        attributes=_attributes(attributes),
    )
    record.body.string_value = _text(event.text)
    return record


def _attributes(values: Mapping[str, str]) -> list[KeyValue]:
    found = [KeyValue(key=_text(key)) for key in values]
    for pair, value in zip(found, values.values(), strict=True):
        pair.value.string_value = _text(value)
    return found


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
