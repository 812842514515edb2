"""Small PDUs for tests, and a poll of one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from collector.batch import Batch
from collector.entity import Kind
from plugins.power.pdu_snmp import PduSnmp
from tests.fakes.snmp import Value

HOST = Kind.HOST("node1")
PDU = Kind.PDU("pdu1")
RPDU2, PDU2 = "1.3.6.1.4.1.318.1.1.26", "1.3.6.1.4.1.13742.6"

Samples = dict[tuple[str, ...], float]


def outlet(number: int) -> object:
    return Kind.OUTLET("pdu1", str(number))


def apc(outlets: int = 3) -> dict[str, Value]:
    """An APC rPDU2 whose outlet n draws n A and 200 n W."""
    objects: dict[str, Value] = {
        "1.3.6.1.2.1.1.1.0": "APC (AF1:v6.8.0 AN1:apc_hw05_rpdu2g_680.bin MN:AP8959 SN: ZA1 MD:1)",
        "1.3.6.1.2.1.1.2.0": (1, 3, 6, 1, 4, 1, 318, 1, 3, 4, 6),
        "1.3.6.1.2.1.1.3.0": ("timeticks", 5000),
        f"{RPDU2}.4.3.1.2.1": 1,
        f"{RPDU2}.4.3.1.4.1": 2,
        f"{RPDU2}.4.3.1.5.1": 114,
        f"{RPDU2}.4.3.1.9.1": 1000,
        f"{RPDU2}.4.3.1.16.1": 119,
    }
    for number in range(1, outlets + 1):
        columns: dict[int, Value] = {2: 1, 3: f"server {number}", 4: number}
        columns |= {6: 10 * number, 7: 200 * number, 11: 100 * number}
        objects |= {f"{RPDU2}.9.4.3.1.{c}.{number}": value for c, value in columns.items()}
    return objects


async def poll_once(plugin: PduSnmp) -> Batch:
    batch = Batch(HOST, 0.0, plugin.metrics)
    await plugin.poll(batch)
    return batch


def poll(target: str, times: int = 1, **config: object) -> Batch:
    """Poll and return what the last poll found."""

    plugin = PduSnmp.model_validate({"target": target, "name": "pdu1", **config})

    async def main() -> Batch:
        await plugin.open()
        try:
            for _ in range(times):
                batch = await poll_once(plugin)
        finally:
            await plugin.close()
        return batch

    return asyncio.run(main())


def samples(batch: Batch) -> Samples:
    """Index values by metric, entity's key and labels."""
    found = {}
    for (metric, entity, labels), value in zip(batch.keys, batch.values, strict=True):
        key = (metric.name, *entity.key, *labels)
        assert key not in found
        found[key] = value
    return found


def failures(batch: Batch) -> Mapping[object, str]:
    return {entity: str(error) for entity, error in batch.errors}
