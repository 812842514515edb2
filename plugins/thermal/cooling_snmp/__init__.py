"""Cooling units by SNMP: coolers of rows and racks, air conditioners, chillers, CDUs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from collector.batch import Batch
from collector.catalog import thermal
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.read.coolant import Coolant, heat
from collector.read.snmp.device import Device
from collector.read.snmp.fetch import Reply
from collector.read.snmp.plugin import SnmpPlugin
from collector.read.snmp.profile import METRICS


class CoolingSnmp(SnmpPlugin):
    """One cooling unit, or several behind one address.

    What the unit says of its heat is told as such; the heat of each coolant loop is computed beside
    it, where the unit measures flow, supply and return.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        metric for metric in METRICS.values() if metric in vars(thermal).values()
    )
    profiles: ClassVar[Path] = Path(__file__).parent / "profiles"

    coolant: Coolant = Field(
        default="water",
        description="What flows: water, or pg25 for 25 % of propylene glycol; glycol in other "
        "shares or kinds makes w2t.coolant_loop.heat wrong by some percent.",
    )

    def _read(self, device: Device, batch: Batch, reply: Reply) -> bool:
        before = len(batch.keys)
        stale = super()._read(device, batch, reply)
        loops: dict[Entity, dict[Metric, float]] = defaultdict(dict)
        for key, value in zip(batch.keys[before:], batch.values[before:], strict=True):
            if key.entity.kind is Kind.COOLANT_LOOP:
                loops[key.entity][key.metric] = value
        for loop, found in loops.items():
            flow, rise = found.get(thermal.COOLANT_FLOW), _rise(found)
            if flow is not None and rise is not None:
                batch.add(thermal.COOLANT_HEAT, loop, heat(flow, rise, self.coolant))
        return stale


def _rise(found: dict[Metric, float]) -> float | None:
    """Return by how much the coolant's temperature rises, as measured, else as the unit says."""
    try:
        back = found[thermal.COOLANT_RETURN_TEMPERATURE]
        return back - found[thermal.COOLANT_SUPPLY_TEMPERATURE]
    except KeyError:
        return found.get(thermal.COOLANT_TEMPERATURE_RISE)
