"""Polling NVML's plugin in a child, and what it found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from collector.batch import Batch
from collector.child import Child, ChildError
from collector.entity import Entity, Kind
from plugins.gpu.nvml import Nvml
from tests.fakes.nvml import Scenario, uuid

HOST = Kind.HOST("node1")
MIB = 1 << 20


def run(*steps: Callable[[], object], config: dict[str, object] | None = None) -> list[Any]:
    """Poll once for each step; a step is called before its poll. Polls are 10 s apart.

    Returns:
        The batches, with an error in place of one where the poll raised.
    """

    async def go() -> list[Any]:
        child = Child("nvml", config or {}, HOST)
        now = time.time()
        found: list[Any] = []
        for number, step in enumerate(steps):
            await asyncio.to_thread(step)
            batch = Batch(HOST, now + 10 * number, Nvml.metrics)
            try:
                async with asyncio.timeout(30):
                    await child.poll(batch)
            except ChildError as error:
                found.append(error)
            else:
                found.append(batch)
        process = child._process
        await child.close()
        # The library aborts where what was taken of it is not given back.
        assert process is None or process.returncode == 0
        return found

    return asyncio.run(go())


def poll(scenario: Scenario, **config: object) -> Batch:
    """Poll once."""
    (batch,) = run(scenario.write, config=config)
    if isinstance(batch, Exception):
        raise batch
    assert isinstance(batch, Batch)
    assert len(set(batch.keys)) == len(batch.keys), "a series twice in one poll"
    return batch


def of(batch: Batch, entity: Entity) -> dict[Any, float]:
    """The samples of one entity: by metric name, or by name and labels where there are some."""
    return {
        (key.metric.name, *key.labels) if key.labels else key.metric.name: value
        for key, value in zip(batch.keys, batch.values, strict=True)
        if key.entity == entity
    }


def values(batch: Batch, slot: int = 0) -> dict[Any, float]:
    """The samples of the GPU in a slot."""
    return of(batch, Kind.GPU("node1", uuid(slot)))
