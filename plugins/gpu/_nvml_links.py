"""NVLinks of one GPU, by NVML."""

from __future__ import annotations

from collections.abc import Iterator

import pynvml

from collector.catalog import nvlink
from collector.entity import Entity, Kind
from plugins.gpu import _nvml_fields as fields
from plugins.gpu._nvml_calls import Calls, Sample

MEGA = 1e6  # MB/s in a By/s
# NVML_NVLINK_STATE_*, in their order.
_STATES = ("inactive", "active", "sleep", "active_traffic_disabled")


def read(calls: Calls, device: Entity) -> Iterator[Sample]:
    """Yield what there is to know of each link, by one call for each.

    Raises:
        GoneError, DriverError: As `Calls.ask`.
    """
    count, _ = calls.values((fields.LINK_COUNT,)).get(fields.LINK_COUNT, (0.0, 0.0))
    for link in range(int(count)):
        entity = Kind.NVLINK(*device.key, str(link))
        found = calls.values(fields.of_link(link))
        if not any(field.metric is nvlink.STATE for field in found):  # drivers before 525
            yield from _state(entity, calls.ask(pynvml.nvmlDeviceGetNvLinkState, link))
        for field, (value, at) in found.items():
            if field.metric is nvlink.STATE:
                yield from _state(entity, value)
            elif field.metric is nvlink.BIT_ERROR_RATIO:
                ratio = fields.bit_error_ratio(int(value))
                yield Sample(field.metric, entity, ratio, field.labels)
            elif field.metric is nvlink.SPEED:
                yield Sample(field.metric, entity, value * MEGA)
            else:
                yield Sample(field.metric, entity, value / field.per, field.labels, at)


def _state(entity: Entity, state: float | None) -> Iterator[Sample]:
    if state is not None:
        for code, name in enumerate(_STATES):
            yield Sample(nvlink.STATE, entity, float(code == state), (name,))
