from __future__ import annotations

import pytest

from collector.attribution.spend import Spend
from collector.batch import Batch, Call
from collector.catalog import attribution as derived
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.settings import Attribution as Settings
from tests.fakes.rack import HOST, engine

NEAR, FAR = (engine("8000"), "m"), (engine("8001"), "m")


def call(agent: str = "a", start: float = 0, end: float = 10, **fields: object) -> Call:
    values = {"prompt_tokens": 0, "cached_tokens": 0, "output_tokens": 0, "model": "m", **fields}
    return Call(agent=agent, start=start, end=end, **values)  # type: ignore[arg-type]


def published(
    spend: Spend, at: float = 10.0
) -> dict[tuple[Metric, Entity, tuple[str, ...]], float]:
    batch = Batch(HOST, at, {m for m in vars(derived).values() if isinstance(m, Metric)})
    spend.add(batch, at)
    return {(*key,): value for key, value in zip(batch.keys, batch.values, strict=True)}


def test_prices_of_an_engine_over_the_window() -> None:
    spend = Spend(Settings(window=60))
    spend.serve(NEAR, 0, 10, 500, output=100, prompt=300, computed=200)
    spend.serve(NEAR, 10, 20, 700, output=20, prompt=0, computed=0)
    found = published(spend, 20)
    assert found[derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, NEAR[0], ("m",)] == 10
    assert found[derived.ENGINE_ENERGY_PER_TOKEN, NEAR[0], ("m",)] == 1200 / 420
    assert found[derived.ENGINE_TOKEN_RATE_PER_WATT, NEAR[0], ("m",)] == 0.1
    found = published(spend, 75)
    assert found[derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, NEAR[0], ("m",)] == 35
    assert found[derived.ENGINE_ENERGY, NEAR[0], ("m",)] == 1200


def test_no_figure_that_is_too_large_to_be_one() -> None:
    spend = Spend(Settings(window=60))
    spend.serve(NEAR, 0, 10, 1e-310, output=100, prompt=0, computed=0)
    rates = [key for key in published(spend) if key[0] is derived.ENGINE_TOKEN_RATE_PER_WATT]
    assert not rates


def test_no_price_where_nothing_was_generated() -> None:
    spend = Spend(Settings())
    spend.serve(NEAR, 0, 10, 500, output=0, prompt=0, computed=0)
    found = published(spend)
    assert (derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, NEAR[0], ("m",)) not in found
    assert (derived.ENGINE_ENERGY_PER_TOKEN, NEAR[0], ("m",)) not in found
    assert found[derived.ENGINE_TOKEN_RATE_PER_WATT, NEAR[0], ("m",)] == 0


def test_the_price_of_a_model_is_over_all_its_engines() -> None:
    spend = Spend(Settings())
    spend.serve(NEAR, 0, 10, 300, output=100, prompt=100, computed=0)
    spend.serve(FAR, 0, 10, 100, output=100, prompt=0, computed=0)
    found = published(spend)
    assert found[derived.MODEL_ENERGY_PER_OUTPUT_TOKEN, Kind.MODEL("m"), ()] == 2
    assert found[derived.MODEL_ENERGY_PER_TOKEN, Kind.MODEL("m"), ()] == 400 / 300


def test_a_call_that_names_no_server_takes_from_each_by_what_it_computed() -> None:
    spend = Spend(Settings())
    spend.serve(NEAR, 0, 10, 300, output=300, prompt=0, computed=0)
    spend.serve(FAR, 0, 10, 1000, output=100, prompt=0, computed=0)
    spend.take([call(output_tokens=40)])
    spend.settle(10)
    found = published(spend)
    assert found[derived.AGENT_ENERGY, Kind.AGENT("a"), ("m",)] == pytest.approx(30 + 100)
    assert found[derived.AGENT_ENERGY_PER_OUTPUT_TOKEN, Kind.AGENT("a"), ("m",)] == 130 / 40


def test_a_partly_matched_call_says_what_is_missing() -> None:
    spend = Spend(Settings(prompt_token_weight=0.5))
    spend.serve(NEAR, 0, 10, 300, output=30, prompt=0, computed=0)
    spend.take([call(prompt_tokens=100, cached_tokens=80, output_tokens=50)])  # weighs 60
    spend.settle(10)
    found = published(spend)
    assert found[derived.AGENT_TOKENS_UNMATCHED, Kind.AGENT("a"), ("m",)] == 75
    assert found[derived.AGENT_ENERGY_PER_OUTPUT_TOKEN, Kind.AGENT("a"), ("m",)] == 12


def test_a_fully_matched_call_misses_nothing_by_rounding() -> None:
    spend = Spend(Settings())
    for at in range(30):
        spend.serve(NEAR, at / 3, (at + 1) / 3, 0.1, output=0.7, prompt=0, computed=0)
        spend.serve(FAR, at / 3, (at + 1) / 3, 0.3, output=0.9, prompt=0, computed=0)
    spend.take([call(output_tokens=1, start=0.1, end=9.7) for _ in range(9)])
    spend.settle(10)
    assert not any(metric is derived.AGENT_TOKENS_UNMATCHED for metric, *_ in published(spend))


def test_a_call_without_tokens_is_nothing() -> None:
    spend = Spend(Settings())
    spend.serve(NEAR, 0, 10, 300, output=30, prompt=0, computed=0)
    spend.take([call(prompt_tokens=10, cached_tokens=10)])
    spend.settle(10)
    assert not any(entity.kind is Kind.AGENT for _, entity, _ in published(spend))
