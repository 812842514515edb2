"""Rack PDUs by SNMP: power, energy, current and voltage of inlets, phases, breakers and outlets."""

from pathlib import Path
from typing import ClassVar

from collector.catalog import metering, power
from collector.entity import Kind
from collector.metric import Metric
from collector.read.snmp.plugin import SnmpPlugin
from collector.read.snmp.profile import METRICS


class PduSnmp(SnmpPlugin):
    """One PDU, or a chain of them behind one address.

    Its objects are discovered by walking the columns that its profile needs, each once; a poll asks
    for these objects alone.
    """

    metrics: ClassVar[tuple[Metric, ...]] = tuple(
        metric
        for metric in METRICS.values()
        for module in (power, metering)
        if metric in vars(module).values() and metric.kind is not Kind.POWER_SUPPLY
    )
    profiles: ClassVar[Path] = Path(__file__).parent / "profiles"
