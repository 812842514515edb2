"""Hands energy down: outlet, host, GPU, engine, agent, with what is left over at each level.

The rules, which docs/attribution.md explains:

- A host's energy is what its outlets gave (`basis="pdu"`), or else what its own meter says
  (`basis="bmc"`), or else the sum of the parts that can be read: processors, their memory, GPUs
  (`basis="components"`).
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
from typing import TypeVar

import numpy as np

from collector.attribution.curve import MAX_GAP
from collector.attribution.feeds import Feeds
from collector.attribution.hosts import Step, by_components, by_gpu, by_own_meter
from collector.attribution.meters import Meters
from collector.attribution.spend import Served, Spend
from collector.attribution.totals import Totals
from collector.batch import Batch, Call, Link
from collector.catalog import attribution as derived
from collector.catalog import gpu, mig, serving
from collector.entity import Entity, Kind
from collector.history import Floats
from collector.metric import Metric
from collector.settings import Attribution as Settings
from collector.store import Store
from collector.topology import Topology

K = TypeVar("K", bound=Hashable)
Tokens = dict[str, dict[str, float]]  # by model: output, prompt, computed

METRICS = frozenset(value for value in vars(derived).values() if isinstance(value, Metric))
_BASES = ("pdu", "bmc", "components")  # the best first


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
        end = self._feeds.feed(now)
        end = min(end, self._meters.feed(now, self._feeds.fed_hosts(end)))
        if self._end is None:
            self._end = end
        if end > self._end:
            self._account(Step(self._end, end, now))
            self._end = end
        batch = Batch(self._host, now, METRICS, self._store.index)
        self._add(batch, self._end)
        self._spend.add(batch, self._end)
        return batch

    def _account(self, step: Step) -> None:
        gpus = by_gpu(self._meters, step)
        inside = [
            self._column(by_own_meter(self._meters, step)),
            self._column(by_components(self._meters, step, gpus)),
        ]
        size = len(self._hosts)  # with the rows that were new
        left, metered = np.full(size, np.nan), np.zeros(size, np.bool_)
        for basis, joules in zip(
            _BASES, (self._feeds.divide(step.start, step.end), *inside), strict=True
        ):
            joules = np.append(joules, np.full(size - len(joules), np.nan))
            joules[~np.isnan(left)] = np.nan  # a better basis tells
            left = np.where(np.isnan(left), joules, left)
            metered |= ~np.isnan(joules) & (basis != "components")
            self._hosts.add(joules, derived.HOST_ENERGY, basis)
            self._hosts.put(joules / (step.end - step.start), derived.HOST_POWER, basis)
        tokens = self._tokens(step)
        served: dict[Served, float] = defaultdict(float)
        for host, devices in gpus.items():
            row = self._hosts.row(host)
            away = self._away(host, devices, step) if metered[row] else {}
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

    def _column(self, amounts: Mapping[Entity, float]) -> Floats:
        """Give amounts of hosts by row, NaN of the others."""
        rows = [self._hosts.row(host) for host in amounts]
        column = np.full(len(self._hosts), np.nan)
        column[rows] = list(amounts.values())
        return column

    def _away(
        self, host: Entity, devices: Mapping[Entity, float], step: Step
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

    def _serve(
        self, device: Entity, joules: float, tokens: Mapping[Entity, Tokens], step: Step
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

    def _use(self, device: Entity, step: Step) -> dict[Entity, float]:
        """How much of a GPU each of its processes uses; all the same where that is not known."""
        if slices := self._topology.children(device, Kind.MIG, step.end):
            return self._use_of_slices(slices, step)
        links = self._topology.children(device, Kind.PROCESS, step.end)
        used = {
            link.child: self._store.latest(
                step.now, gpu.PROCESS_UTILIZATION, device, link.child.key[1]
            )
            or 0.0
            for link in links
        }
        return used if any(used.values()) else {link.child: 1.0 for link in links}

    def _use_of_slices(self, slices: Iterable[Link], step: Step) -> dict[Entity, float]:
        """How much of a GPU the processes in its MIG slices use: by size and GPM's utilization.

        NVML says no use by process there, so those of one slice get the same. A slice in which
        nothing runs keeps its part, which is nobody's.
        """
        busy = {
            link.child: link.share
            * (self._store.latest(step.now, mig.SM_UTILIZATION, link.child) or 0)
            for link in slices
        }
        weights = busy if any(busy.values()) else {link.child: link.share for link in slices}
        found: dict[Entity, float] = defaultdict(float)
        for part, weight in weights.items():
            inside = self._topology.children(part, Kind.PROCESS, step.end)
            for user in [link.child for link in inside] or [part]:
                found[user] += weight / (len(inside) or 1)
        return found

    def _tokens(self, step: Step) -> dict[Entity, Tokens]:
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
