"""Turns values of DCGM's fields into samples; serves the exporter's page and the hostengine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

from collector.batch import Batch, Event, SeriesKey
from collector.catalog import gpu
from collector.entity import Entity
from collector.metric import COUNTER
from collector.read import xid
from collector.read.counter import Counter
from plugins.gpu._dcgm_fields import (
    BOARD_POWER,
    BOARD_POWER_INSTANT,
    MEMORY_TEMPERATURE,
    REASONS,
    REDUNDANT,
    XID,
    Field,
)

# dcgm_structs.h: DCGM_INT64_BLANK and DCGM_FP64_BLANK, with what follows them for "not found", "not
# supported" and "no permission". On a page the first can be rounded to a double.
_INT64_BLANK = float(0x7FFFFFFFFFFFFFF0)
_FP64_BLANK = 140737488355328.0
_BLANKS = 16.0
_MOST_RATIO = 1.05  # a share of time is somewhat above 1 where two clocks differ
# nvml.h, nvmlClocksEventReason*, which DCGM hands through.
_REASONS = (
    ("gpu_idle", 0x1),
    ("applications_clocks_setting", 0x2),
    ("sw_power_cap", 0x4),
    ("hw_slowdown", 0x8),
    ("sync_boost", 0x10),
    ("sw_thermal_slowdown", 0x20),
    ("hw_thermal_slowdown", 0x40),
    ("hw_power_brake_slowdown", 0x80),
    ("display_clock_setting", 0x100),
)
# BOARD_POWER is an average over 1 s from Ampere on, but for the GA100, and instantaneous on older
# boards (nvml.h, nvmlDeviceGetPowerUsage).
_INSTANT = re.compile(
    r"\b(?:A100X?|A800|A30X?|T4G?|V100S?|P100|P40|P4|M60|M40|TITAN|GTX|Quadro|RTX 20\d\d)\b"
)


class Reading(NamedTuple):
    """A field's value of one GPU, or one of its NVLinks.

    Attributes:
        field: The field.
        entity: The GPU or NVLink.
        value: As DCGM has it.
        model: The GPU's model.
        at: Seconds since the epoch at which it was true, where that is known.
    """

    field: Field
    entity: Entity
    value: float
    model: str
    at: float | None = None


def known(value: float) -> bool:
    """Say whether a value is none of DCGM's words for "there is none"."""
    return (
        math.isfinite(value)
        and value < _INT64_BLANK
        and not _FP64_BLANK <= value < _FP64_BLANK + _BLANKS
    )


class Samples:
    """What is remembered of GPUs from poll to poll: counters, and their last Xid."""

    def __init__(self) -> None:
        self._counters: dict[SeriesKey, Counter] = {}
        self._xids: dict[Entity, int] = {}

    def add(self, batch: Batch, readings: Iterable[Reading]) -> None:
        """Add the samples, and an event where an Xid is another than before.

        Of several readings of one field and GPU the highest counts: on a page, each MIG instance
        repeats the whole GPU's power and energy, read some time apart.
        """
        highest: dict[tuple[Entity, int], Reading] = {}
        for reading in readings:
            if known(reading.value):
                key = reading.entity, reading.field.id
                if key not in highest or reading.value > highest[key].value:
                    highest[key] = reading
        for (entity, number), reading in highest.items():
            if any((entity, better) in highest for better in REDUNDANT.get(number, ())):
                continue
            if number == XID:
                self._xid(batch, reading)
            elif number == REASONS:
                for reason, bit in _REASONS:
                    active = float(bool(int(reading.value) & bit))
                    batch.add(gpu.THROTTLE_ACTIVE, entity, active, reason, at=reading.at)
            elif number != MEMORY_TEMPERATURE or reading.value != 0:
                # Boards without the sensor (L4, L40S, T4, vGPU) say 0.
                instant = (entity, BOARD_POWER_INSTANT) in highest
                self._sample(batch, reading, instant=instant)

    def _sample(self, batch: Batch, reading: Reading, *, instant: bool) -> None:
        field, entity, raw, model, at = reading
        metric, value = field.metric, raw * field.times / field.per
        if field.id == BOARD_POWER and not instant and _INSTANT.search(model):
            metric = gpu.POWER
        if value < 0 and metric is not gpu.TEMPERATURE_MARGIN:
            return
        if metric.unit == "1" and value > _MOST_RATIO:
            return
        if metric.instrument is COUNTER:
            key = SeriesKey(metric, entity, field.labels)
            value = self._counters.setdefault(key, Counter()).update(value)
        batch.add(metric, entity, value, *field.labels, at=at)

    def _xid(self, batch: Batch, reading: Reading) -> None:
        """DCGM shows the last Xid for good: it is news when it changes, not when first seen."""
        entity, number = reading.entity, int(reading.value)
        before = self._xids.get(entity)
        self._xids[entity] = number
        if before is None or number in (0, before):
            return
        name, action, severity = xid.lookup(number)
        text = f"Xid {number} {name}".rstrip() + (f", to do: {action}" if action else "")
        attributes = (("xid", str(number)), ("action", action))
        at = batch.at if reading.at is None else reading.at
        batch.event(Event("gpu.xid", entity, at, severity, text, attributes))
