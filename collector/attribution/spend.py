"""The last step of attribution: from engines to the agents whose calls they served."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

from collector.attribution.claims import Claims
from collector.attribution.window import Window
from collector.batch import Batch, Call
from collector.catalog import attribution as derived
from collector.entity import Entity, Kind
from collector.settings import Attribution as Settings

Served = tuple[Entity, str]  # an engine and a model that it serves
Spender = tuple[str, str]  # an agent and the model that it called


class Spend:
    """Energy of engines by model, and who spent it. Totals are joules since the daemon started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._calls: list[Call] = []
        self._engines: dict[Served, float] = defaultdict(float)
        self._claims: dict[Served, Claims] = {}
        self._engine_windows: dict[Served, Window] = {}
        self._agents: dict[Spender, float] = defaultdict(float)
        self._agent_windows: dict[Spender, Window] = {}
        self._unmatched: dict[Spender, float] = defaultdict(float)

    def take(self, calls: Iterable[Call]) -> None:
        """Take calls that agents reported; they are settled once their time is known."""
        self._calls += calls

    def serve(
        self,
        served: Served,
        start: float,
        end: float,
        energy: float,
        *,
        output: float,
        prompt: float,
        computed: float,
        whole: bool = True,
    ) -> None:
        """Charge energy to an engine's model for what it did between two times.

        Args:
            served: The engine and the model.
            start: Seconds since the epoch.
            end: Seconds since the epoch.
            energy: Joules.
            output: Generated tokens.
            prompt: Prompt tokens, cached ones included.
            computed: Prompt tokens that were computed.
            whole: Whether these are all tokens of that time. Where the engine was away, it is not
                known which of them are, so they neither claim energy nor say what a token costs.
        """
        if served not in self._claims:
            self._claims[served] = Claims(self._settings.claim)
            self._engine_windows[served] = Window(self._settings.window)
        weight = output + self._settings.prompt_token_weight * computed
        self._engines[served] += energy
        self._claims[served].add(start, end, energy, weight if whole else 0.0)
        if whole:
            self._engine_windows[served].add(end, energy, output, output + prompt)

    def settle(self, known: float) -> None:
        """Let the calls that ended before `known` claim what they took.

        Those that end long after it, by a wrong clock, are not waited for.
        """
        calls, self._calls = self._calls, []
        for call in calls:
            if known < call.end <= known + self._settings.claim:
                self._calls.append(call)
            else:
                self._settle(call, known)

    def add(self, batch: Batch, at: float) -> None:
        """Add all totals and what a token costs now, as known up to `at`."""
        models: dict[str, list[tuple[float, ...]]] = defaultdict(list)
        for served, joules in self._engines.items():
            engine, model = served
            claims = self._claims[served]
            batch.add(derived.ENGINE_ENERGY, engine, joules, model, at=at)
            batch.add(derived.ENGINE_ENERGY_UNATTRIBUTED, engine, claims.unattributed, model, at=at)
            batch.add(derived.ENGINE_ENERGY_PENDING, engine, claims.pending, model, at=at)
            if sums := self._engine_windows[served].sums(at):
                models[model].append(sums)
                energy, output, tokens = sums
                per_output, per_token = _ratio(energy, output), _ratio(energy, tokens)
                batch.add(derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, engine, per_output, model, at=at)
                batch.add(derived.ENGINE_ENERGY_PER_TOKEN, engine, per_token, model, at=at)
                per_joule = _ratio(output, energy)  # (token/s) / W
                batch.add(derived.ENGINE_TOKEN_RATE_PER_WATT, engine, per_joule, model, at=at)
        for model, parts in models.items():
            energy, output, tokens = map(sum, zip(*parts, strict=True))
            entity = Kind.MODEL(model)
            batch.add(derived.MODEL_ENERGY_PER_OUTPUT_TOKEN, entity, _ratio(energy, output), at=at)
            batch.add(derived.MODEL_ENERGY_PER_TOKEN, entity, _ratio(energy, tokens), at=at)
        for (agent, model), joules in self._agents.items():
            entity = Kind.AGENT(agent)
            batch.add(derived.AGENT_ENERGY, entity, joules, model, at=at)
            if sums := self._agent_windows[agent, model].sums(at):
                ratio = _ratio(sums[0], sums[1])
                batch.add(derived.AGENT_ENERGY_PER_OUTPUT_TOKEN, entity, ratio, model, at=at)
        for (agent, model), tokens in self._unmatched.items():
            entity = Kind.AGENT(agent)
            batch.add(derived.AGENT_TOKENS_UNMATCHED, entity, tokens, model, at=at)

    def _settle(self, call: Call, known: float) -> None:
        spender = (call.agent, call.model)
        computed = max(call.prompt_tokens - call.cached_tokens, 0)
        weight = call.output_tokens + self._settings.prompt_token_weight * computed
        if weight <= 0:
            return
        energy = matched = 0.0
        for served, part in self._servers(call).items():
            joules, found = self._claims[served].claim(call.start, call.end, weight * part)
            energy += joules
            matched += found
        share = matched / weight
        if share < 1 - 1e-9:  # not by rounding alone
            tokens = call.prompt_tokens + call.output_tokens
            self._unmatched[spender] += tokens * (1 - share)
        if matched:
            self._agents[spender] += energy
            if spender not in self._agent_windows:
                self._agent_windows[spender] = Window(self._settings.window)
            self._agent_windows[spender].add(known, energy, call.output_tokens * share)

    def _servers(self, call: Call) -> dict[Served, float]:
        """Who can have served a call, each with its probable share: by what it computed then."""
        serving = [served for served in self._claims if served[1] == call.model]
        named = [
            (engine, model)
            for engine, model in serving
            if call.server == f"{engine.key[0]}:{engine.key[1]}"
        ]
        available = {
            served: self._claims[served].available(call.start, call.end)
            for served in named or serving
        }
        total = sum(available.values())
        return {served: part / total for served, part in available.items() if part > 0}


def _ratio(above: float, below: float) -> float | None:
    ratio = above / below if below > 0 else math.inf
    return ratio if ratio < math.inf else None
