"""What hosts took by what is read inside them: their own meter, or their parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from collector.attribution.meters import Meters
from collector.batch import SeriesKey
from collector.catalog import gpu, power
from collector.entity import Entity, Kind

_RAPL_DOMAINS = ("package", "dram")  # a package contains its other domains, psys contains packages
_GRACE = "grace"
_GRACE_PARTS = ("cpu", "sysio")  # which grace contains; module contains the GPUs, too
_PREFERRED = ("redfish", "dcmi", "hwmon")  # one power, read on several ways: never added


class Step(NamedTuple):
    """The time that a step accounts for, in seconds since the epoch."""

    start: float
    end: float
    now: float


def by_own_meter(meters: Meters, step: Step) -> dict[Entity, float]:
    """Joules of each host by the best of its own meters that was read all through the step."""
    best: dict[Entity, tuple[int, float]] = {}
    for key in meters.live(power.HOST_INPUT_POWER, step.now):
        if meters.is_whole(step.start, *key[:2], *key.labels):
            (meter,) = key.labels
            rank = _PREFERRED.index(meter) if meter in _PREFERRED else len(_PREFERRED)
            if key.entity not in best or rank < best[key.entity][0]:
                best[key.entity] = rank, _joules(meters, step, key)
    return {host: joules for host, (_, joules) in best.items()}


def by_components(
    meters: Meters, step: Step, gpus: Mapping[Entity, Mapping[Entity, float]]
) -> dict[Entity, float]:
    """Joules of each host as the sum of its parts, none of which contains another."""
    hosts: dict[Entity, float] = defaultdict(float)
    for host, devices in gpus.items():
        hosts[host] += sum(devices.values())
    for key in meters.live(power.CPU_ENERGY, step.now):
        if key.labels[0] in _RAPL_DOMAINS:
            hosts[Kind.HOST(key.entity.key[0])] += _joules(meters, step, key)
    sockets: dict[Entity, dict[str, float]] = defaultdict(dict)
    for key in meters.live(power.CPU_POWER, step.now):
        sockets[key.entity][key.labels[0]] = _joules(meters, step, key)
    for socket, domains in sockets.items():
        parts = (domains[part] for part in _GRACE_PARTS if part in domains)
        hosts[Kind.HOST(socket.key[0])] += domains[_GRACE] if _GRACE in domains else sum(parts)
    return hosts


def by_gpu(meters: Meters, step: Step) -> dict[Entity, dict[Entity, float]]:
    """Joules that each GPU of each host took itself: its energy counter, else integrated power."""
    hosts: dict[Entity, dict[Entity, float]] = defaultdict(dict)
    for metric in (gpu.POWER_AVERAGE, gpu.POWER, gpu.ENERGY):  # the best last
        for key in meters.live(metric, step.now):
            hosts[Kind.HOST(key.entity.key[0])][key.entity] = _joules(meters, step, key)
    return hosts


def _joules(meters: Meters, step: Step, key: SeriesKey) -> float:
    return meters.between(step.start, step.end, *key[:2], *key.labels) or 0.0
