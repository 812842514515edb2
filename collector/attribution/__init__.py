"""Hands energy down: outlet, host, GPU, engine, agent, with what is left over at each level.

The rules, which docs/attribution.md explains:

- A host's energy is what its outlets gave (`basis="pdu"`), or else the sum of the parts that can
  be read: RAPL packages, their memory, GPUs (`basis="components"`).
- The host's energy goes to its GPUs in proportion to what each took itself, so that processors,
  fans and power supplies are paid for by what keeps them busy.
- A GPU's part goes to engines by their processes' use of the GPU.
- An engine's energy goes to agents by the tokens of their calls, see `attribution.claims`.

What is handed down and what is left over add up to what was metered, at every level and step.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from collector.attribution.curve import MAX_GAP
from collector.attribution.feeds import Feeds
from collector.attribution.meters import Meters
from collector.attribution.spend import Served, Spend
from collector.attribution.totals import Totals
from collector.batch import Batch, Call
from collector.catalog import attribution as derived
from collector.catalog import gpu, power, serving
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.settings import Attribution as Settings
from collector.store import Store
from collector.topology import Topology

K = TypeVar("K", bound=Hashable)
Tokens = dict[str, dict[str, float]]  # by model: output, prompt, computed

METRICS = frozenset(value for value in vars(derived).values() if isinstance(value, Metric))
_BASES = ("pdu", "components")
_RAPL_DOMAINS = ("package", "dram")  # the other domains lie within a package


class _Step(NamedTuple):
    """The time that a step accounts for, in seconds since the epoch."""

    start: float
    end: float
    now: float


class Attribution:
    """Accounts for energy step by step; a step covers the time up to which all is known.

    Totals are in joules since the daemon started and never fall.

    Args:
        settings: The config's `[attribution]`.
        host: The host this daemon runs on.
        store: Where readings are taken from.
        topology: What feeds and serves what.
    """

    def __init__(self, settings: Settings, host: Entity, store: Store, topology: Topology) -> None:
        self._host = host
        self._store = store
        self._topology = topology
        self._pdus = Totals(
            (derived.PDU_OUTLETS_ENERGY, ()),
            (derived.PDU_ENERGY_UNATTRIBUTED, ()),
        )
        self._hosts = Totals(
            *((derived.HOST_ENERGY, (basis,)) for basis in _BASES),
            *((derived.HOST_POWER, (basis,)) for basis in _BASES),
            (derived.HOST_ENERGY_UNATTRIBUTED, ()),
        )
        self._feeds = Feeds(store, topology, settings.claim, self._pdus, self._hosts)
        self._meters = Meters(store, settings.claim)
        self._spend = Spend(settings)
        self._prompt_weight = settings.prompt_token_weight
        self._end: float | None = None
        self._claim = settings.claim
        self._lately: dict[Entity, dict[Entity, tuple[float, float]]] = defaultdict(dict)
        self._gpus: dict[Entity, float] = defaultdict(float)
        self._gpus_left: dict[Entity, float] = defaultdict(float)

    def take(self, calls: Iterable[Call]) -> None:
        """Take calls that agents reported; they are settled once their time is known."""
        self._spend.take(calls)

    def step(self, now: float) -> Batch:
        """Account for the time since the last step and return all totals."""
        if self._end is not None and now < self._end - MAX_GAP:  # the clock was set back
            self._meters.restart()
            self._feeds.restart()
            self._end = None
        end = min(self._meters.feed(now), self._feeds.feed(now))
        if self._end is None:
            self._end = end
        if end > self._end:
            self._account(_Step(self._end, end, now))
            self._end = end
        batch = Batch(self._host, now, METRICS, self._store.index)
        self._add(batch, self._end)
        self._spend.add(batch, self._end)
        return batch

    def _account(self, step: _Step) -> None:
        gpus = self._gpus_by_host(step)
        inside = {
            self._hosts.row(host): joules
            for host, joules in self._by_components(step, gpus).items()
        }
        by_outlets = self._feeds.divide(step.start, step.end)
        by_components = np.full(len(self._hosts), np.nan)
        by_components[list(inside)] = list(inside.values())
        by_components[~np.isnan(by_outlets)] = np.nan
        for basis, joules in zip(_BASES, (by_outlets, by_components), strict=True):
            self._hosts.add(joules, derived.HOST_ENERGY, basis)
            self._hosts.put(joules / (step.end - step.start), derived.HOST_POWER, basis)
        left = np.where(np.isnan(by_outlets), by_components, by_outlets)
        tokens = self._tokens(step)
        served: dict[Served, float] = defaultdict(float)
        for host, devices in gpus.items():
            row = self._hosts.row(host)
            away = {} if np.isnan(by_outlets[row]) else self._away(host, devices, step)
            parts = _divide(float(left[row]), devices | away)
            left[row] = sum(parts[device] for device in away)
            for device in devices:
                part = parts[device]
                self._gpus[device] += part
                handed = self._serve(device, part, tokens, step)
                self._gpus_left[device] += max(part - sum(handed.values()), 0.0)
                for user, energy in handed.items():
                    served[user] += energy
        self._hosts.add(left, derived.HOST_ENERGY_UNATTRIBUTED)
        # Only now: the tokens of an engine on several GPUs must be counted once.
        for (engine, model), energy in served.items():
            whole = self._meters.is_whole(step.start, serving.GENERATION_TOKENS, engine, model)
            self._spend.serve(
                (engine, model), *step[:2], energy, **tokens[engine][model], whole=whole
            )
        self._spend.settle(step.end)

    def _away(
        self, host: Entity, devices: Mapping[Entity, float], step: _Step
    ) -> dict[Entity, float]:
        """Joules that GPUs which cannot be read now would take, as they last did.

        The host goes on feeding them, so what they take is not for the others to pay.
        """
        lately = self._lately[host]
        seconds = step.end - step.start
        for device, joules in devices.items():
            lately[device] = (step.end, joules / seconds)
        for device, (last, _) in list(lately.items()):
            if last < step.end - self._claim:
                del lately[device]
        return {
            device: watts * seconds
            for device, (_, watts) in lately.items()
            if device not in devices
        }

    def _by_components(
        self, step: _Step, gpus: Mapping[Entity, Mapping[Entity, float]]
    ) -> dict[Entity, float]:
        """Joules of the hosts as the sum of what can be read inside them."""
        hosts: dict[Entity, float] = defaultdict(float)
        for host, devices in gpus.items():
            hosts[host] += sum(devices.values())
        for key in self._meters.live(power.CPU_ENERGY, step.now):
            if key.labels[0] in _RAPL_DOMAINS:
                joules = self._meters.between(*step[:2], *key[:2], *key.labels)
                hosts[Kind.HOST(key.entity.key[0])] += joules or 0.0
        return hosts

    def _gpus_by_host(self, step: _Step) -> dict[Entity, dict[Entity, float]]:
        """Joules that each GPU took itself: its energy counter, else its integrated power."""
        hosts: dict[Entity, dict[Entity, float]] = defaultdict(dict)
        for metric in (gpu.POWER, gpu.ENERGY):
            for key in self._meters.live(metric, step.now):
                joules = self._meters.between(*step[:2], metric, key.entity) or 0.0
                hosts[Kind.HOST(key.entity.key[0])][key.entity] = joules
        return hosts

    def _serve(
        self, device: Entity, joules: float, tokens: Mapping[Entity, Tokens], step: _Step
    ) -> dict[Served, float]:
        """Divide a GPU's energy among the engines and models that used it."""
        shares: dict[Entity | None, float] = defaultdict(float)  # None: no engine
        for process, use in self._use(device, step).items():
            engines = self._topology.parents(process, Kind.ENGINE, step.end)
            for up in engines:
                shares[up.parent] += use / len(engines)
            if not engines:
                shares[None] += use
        for link in self._topology.children(device, Kind.ENGINE, step.end):
            shares.setdefault(link.child, link.share)  # what is seen goes before what is configured
        handed: dict[Served, float] = {}
        for user, part in _divide(joules, shares).items():
            if user is not None:
                work = {
                    model: done["output"] + self._prompt_weight * done["computed"]
                    for model, done in tokens.get(user, {}).items()
                }
                handed |= {(user, model): energy for model, energy in _divide(part, work).items()}
        return handed

    def _use(self, device: Entity, step: _Step) -> dict[Entity, float]:
        """How much of a GPU each of its processes uses; all the same where that is not known."""
        links = self._topology.children(device, Kind.PROCESS, step.end)
        used = {
            link.child: self._store.latest(
                step.now, gpu.PROCESS_UTILIZATION, device, link.child.key[1]
            )
            or 0.0
            for link in links
        }
        return used if any(used.values()) else {link.child: 1.0 for link in links}

    def _tokens(self, step: _Step) -> dict[Entity, Tokens]:
        """What each engine did in the step."""
        found: dict[Entity, Tokens] = defaultdict(dict)
        for key in self._meters.live(serving.GENERATION_TOKENS, step.now):
            output, prompt, computed = (
                self._meters.between(*step[:2], metric, key.entity, *key.labels)
                for metric in (
                    serving.GENERATION_TOKENS,
                    serving.PROMPT_TOKENS,
                    serving.PROMPT_TOKENS_COMPUTED,
                )
            )
            prompt = prompt or 0.0
            found[key.entity][key.labels[0]] = {
                "output": output or 0.0,
                "prompt": prompt,
                "computed": prompt if computed is None else computed,
            }
        return found

    def _add(self, batch: Batch, at: float) -> None:
        self._pdus.publish(batch, at)
        self._hosts.publish(batch, at)
        for metric, totals in (
            (derived.GPU_ENERGY_ATTRIBUTED, self._gpus),
            (derived.GPU_ENERGY_UNATTRIBUTED, self._gpus_left),
        ):
            for entity, joules in totals.items():
                batch.add(metric, entity, joules, at=at)


def _divide(amount: float, weights: Mapping[K, float]) -> dict[K, float]:
    """Divide an amount by weights, evenly where all are zero; what cannot be a weight is zero."""
    good = {key: weight if 0 < weight < math.inf else 0.0 for key, weight in weights.items()}
    total = sum(good.values())
    if total <= 0:
        return {key: amount / len(good) for key in good}
    return {key: amount * (weight / total) for key, weight in good.items()}
