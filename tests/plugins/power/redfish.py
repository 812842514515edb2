"""What the tests of the Redfish plugin share."""

from __future__ import annotations

import time

from collector.batch import Batch
from collector.entity import Kind
from plugins.power.redfish import Redfish
from tests.fakes.redfish import Service

HOST = Kind.HOST("here")


async def opened(service: Service, **config: object) -> Redfish:
    """Open a plugin on a service; a poll waits until what it began is done."""
    values: dict[str, object] = {"target": service.url, "name": "u", "host": "node", "timeout": 60}
    plugin = Redfish.model_validate(values | config)
    await plugin.open()
    return plugin


async def poll(plugin: Redfish) -> Batch:
    batch = Batch(HOST, time.time(), Redfish.metrics)
    await plugin.poll(batch)
    return batch


async def read(service: Service, polls: int = 1, **config: object) -> Batch:
    """Poll some times and return what the last poll found; `gets` of the service are its own."""
    async with service:
        plugin = await opened(service, **config)
        try:
            for _ in range(polls):
                service.gets.clear()
                batch = await poll(plugin)
        finally:
            await plugin.close()
    return batch


def values(batch: Batch) -> dict[tuple[str, ...], float]:
    """Values by metric's name, entity's key and labels."""
    return {
        (key.metric.name, *key.entity.key, *key.labels): value
        for key, value in zip(batch.keys, batch.values, strict=True)
    }
