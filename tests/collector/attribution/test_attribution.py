from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.attribution import _divide
from collector.catalog import attribution as derived
from collector.catalog import gpu, mig, power, serving
from collector.entity import Entity, Kind
from tests.fakes.rack import HOST, START, Rack, device, engine, outlet, process

MODEL = "llama"


def fill(
    rack: Rack, seconds: int, *, gpus: dict[str, float], tokens: dict[Entity, float] | None = None,
    outlets: dict[Entity, float] | None = None, prompt: float = 0.0, begin: int = 0, ahead: int = 0,
) -> None:  # fmt: skip
    """Read all each second: power of GPUs and outlets in W, generated and prompt tokens per second.

    The clock is `ahead` of the truth by so many seconds.
    """
    for second in range(begin, begin + seconds + 1):
        at = second + ahead
        for name, watts in gpus.items():
            rack.read(at, gpu.ENERGY, device(name), 1e6 + watts * second)
        for entity, rate in (tokens or {}).items():
            rack.read(at, serving.GENERATION_TOKENS, entity, 500 + rate * second, MODEL)
            rack.read(at, serving.PROMPT_TOKENS, entity, 700 + prompt * second, MODEL)
            rack.read(at, serving.PROMPT_TOKENS_COMPUTED, entity, prompt * second, MODEL)
        for entity, watts in (outlets or {}).items():
            rack.read(at, power.OUTLET_POWER, entity, watts)
        rack.step(at)


def one_engine() -> tuple[Rack, Entity]:
    rack, entity = Rack(), engine("8000")
    rack.link(device("g0"), HOST)
    rack.link(process("1"), device("g0"))
    rack.link(process("1"), entity)
    return rack, entity


class TestByHand:
    """Examples in which every joule can be told."""

    def test_from_the_outlet_to_the_agent(self) -> None:
        rack, entity = one_engine()
        rack.link(HOST, outlet("7"))
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20}, outlets={outlet("7"): 300})
        rack.call("writer", MODEL, 2, 6, output=50)
        rack.step(10)
        fill(rack, 1, begin=10, gpus={"g0": 100}, tokens={entity: 20}, outlets={outlet("7"): 300})
        assert rack.value(derived.PDU_OUTLETS_ENERGY, Kind.PDU("pdu1")) == pytest.approx(3300)
        assert rack.value(derived.PDU_ENERGY_UNATTRIBUTED, Kind.PDU("pdu1")) == 0
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(3300)
        assert rack.value(derived.HOST_POWER, HOST, "pdu") == pytest.approx(300)
        assert rack.value(derived.GPU_ENERGY_ATTRIBUTED, device("g0")) == pytest.approx(3300)
        assert rack.value(derived.ENGINE_ENERGY, entity, MODEL) == pytest.approx(3300)
        # 300 W make 20 tokens a second: 15 J for each.
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("writer"), MODEL) == pytest.approx(750)
        per_token = derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN
        assert rack.value(per_token, entity, MODEL) == pytest.approx(15)
        assert rack.value(
            derived.AGENT_ENERGY_PER_OUTPUT_TOKEN, Kind.AGENT("writer"), MODEL
        ) == pytest.approx(15)
        assert rack.value(
            derived.ENGINE_TOKEN_RATE_PER_WATT, entity, MODEL
        ) == pytest.approx(20 / 300)  # fmt: skip
        assert rack.value(derived.ENGINE_ENERGY_PENDING, entity, MODEL) == pytest.approx(2550)
        assert not rack.totals[derived.AGENT_TOKENS_UNMATCHED]

    def test_an_engine_on_several_gpus_counts_its_tokens_once(self) -> None:
        rack, entity = Rack(), engine("8000")
        names = [f"g{index}" for index in range(8)]
        for index, name in enumerate(names):
            rack.link(process(str(index)), device(name))
            rack.link(process(str(index)), entity)
        fill(rack, 10, gpus=dict.fromkeys(names, 50), tokens={entity: 40})
        rack.call("writer", MODEL, 0, 10, output=400)
        fill(rack, 1, begin=10, gpus=dict.fromkeys(names, 50), tokens={entity: 40})
        assert rack.value(
            derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, entity, MODEL
        ) == pytest.approx(10)  # fmt: skip
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("writer"), MODEL) == pytest.approx(4000)

    def test_several_engines_on_a_gpu_pay_by_their_use(self) -> None:
        rack, busy, calm = Rack(), engine("8000"), engine("8001")
        for pid, entity, use in (("1", busy, 0.6), ("2", calm, 0.2)):
            rack.link(process(pid), device("g0"))
            rack.link(process(pid), entity)
            rack.read(0, gpu.PROCESS_UTILIZATION, device("g0"), use, pid)
        fill(rack, 10, gpus={"g0": 100}, tokens={busy: 5, calm: 5})
        assert rack.value(derived.ENGINE_ENERGY, busy, MODEL) == pytest.approx(750)
        assert rack.value(derived.ENGINE_ENERGY, calm, MODEL) == pytest.approx(250)

    @pytest.mark.parametrize(
        ("busy", "parts"), [({}, (400, 300, 300)), ({"a": 0.6, "b": 0.4}, (667, 333, 0))]
    )
    def test_engines_on_slices_pay_by_size_and_use(
        self, busy: dict[str, float], parts: tuple[float, ...]
    ) -> None:
        rack, large, small = Rack(), engine("8000"), engine("8001")
        for name, share in (("a", 0.4), ("b", 0.3), ("idle", 0.3)):
            rack.link(Kind.MIG("node1", "g0", name), device("g0"), share)
        for pid, name, entity in (("1", "a", large), ("2", "b", small)):
            rack.link(process(pid), Kind.MIG("node1", "g0", name))
            rack.link(process(pid), entity)
        for name, use in busy.items():
            rack.read(0, mig.SM_UTILIZATION, Kind.MIG("node1", "g0", name), use)
        fill(rack, 10, gpus={"g0": 100}, tokens={large: 5, small: 5})
        assert rack.value(derived.ENGINE_ENERGY, large, MODEL) == pytest.approx(parts[0], abs=1)
        assert rack.value(derived.ENGINE_ENERGY, small, MODEL) == pytest.approx(parts[1], abs=1)
        assert rack.value(derived.GPU_ENERGY_UNATTRIBUTED, device("g0")) == pytest.approx(
            parts[2], abs=1
        )

    def test_an_engine_that_is_seen_is_not_counted_as_configured_too(self) -> None:
        rack, seen, told = Rack(), engine("8000"), engine("8001")
        rack.link(process("1"), device("g0"))
        rack.link(process("1"), seen)
        for entity in (seen, told):
            rack.link(entity, device("g0"))
        fill(rack, 10, gpus={"g0": 100}, tokens={seen: 5, told: 5})
        assert rack.value(derived.ENGINE_ENERGY, seen, MODEL) == pytest.approx(500)
        assert rack.value(derived.ENGINE_ENERGY, told, MODEL) == pytest.approx(500)

    def test_a_gpu_that_is_away_is_not_paid_for_by_the_others(self) -> None:
        rack, _ = one_engine()
        rack.link(HOST, outlet("7"))
        fill(rack, 10, gpus={"g0": 300, "g1": 100}, outlets={outlet("7"): 1000})
        fill(rack, 60, gpus={"g0": 300}, outlets={outlet("7"): 1000}, begin=11)
        # Its meter is stale after 30 s; from then on its part is left at the host.
        g0 = rack.value(derived.GPU_ENERGY_ATTRIBUTED, device("g0"))
        assert g0 is not None
        left = rack.value(derived.HOST_ENERGY_UNATTRIBUTED, HOST)
        assert left is not None
        fill(rack, 10, gpus={"g0": 300}, outlets={outlet("7"): 1000}, begin=72)
        now = rack.value(derived.GPU_ENERGY_ATTRIBUTED, device("g0"))
        assert now is not None
        assert now - g0 == pytest.approx(750 * 11)
        assert rack.value(derived.HOST_ENERGY_UNATTRIBUTED, HOST) == pytest.approx(left + 250 * 11)

    def test_an_engine_that_was_away_says_nothing_of_that_time(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 50})
        assert rack.value(derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, entity, MODEL) == pytest.approx(2)
        fill(rack, 99, gpus={"g0": 100}, begin=11)  # longer than the window and the lifetime
        for second in range(111, 116):  # comes back, and had counted from zero for 2 s
            rack.read(second, gpu.ENERGY, device("g0"), 1e6 + 100 * second)
            rack.read(second, serving.GENERATION_TOKENS, entity, 1e6 + 50 * second, MODEL)
            rack.step(second)
            cost = rack.value(derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, entity, MODEL)
            assert cost is None or cost == pytest.approx(2)
        assert cost == pytest.approx(2)

    def test_what_no_engine_used_stays_with_the_gpu(self) -> None:
        rack, entity = one_engine()
        rack.link(process("99"), device("g0"))  # a notebook that someone left open
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 5})
        assert rack.value(derived.ENGINE_ENERGY, entity, MODEL) == pytest.approx(500)
        assert rack.value(derived.GPU_ENERGY_UNATTRIBUTED, device("g0")) == pytest.approx(500)

    def test_an_idle_engine_takes_energy_that_no_call_can_claim(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 0})
        rack.call("writer", MODEL, 0, 10, output=50)
        rack.step(10)
        assert rack.value(
            derived.ENGINE_ENERGY_UNATTRIBUTED, entity, MODEL
        ) == pytest.approx(1000)  # fmt: skip
        assert not rack.totals[derived.AGENT_ENERGY]

    def test_feeds_of_two_pdus_add_up(self) -> None:
        rack, _ = one_engine()
        a, b = outlet("7", "a"), outlet("7", "b")
        rack.link(HOST, a)
        rack.link(HOST, b)
        fill(rack, 10, gpus={"g0": 100}, outlets={a: 250, b: 150})
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(4000)
        assert (HOST, ("components",)) not in rack.totals[derived.HOST_ENERGY]

    def test_a_host_with_an_unread_feed_is_the_sum_of_its_parts(self) -> None:
        rack, _ = one_engine()
        a, b = outlet("7", "a"), outlet("7", "b")
        rack.link(HOST, a)
        rack.link(HOST, b)
        for at in range(11):
            for domain, watts in (("package", 40), ("dram", 5), ("core", 30), ("psys", 90)):
                rack.read(at, power.CPU_ENERGY, Kind.CPU("node1", domain), watts * at, domain)
        fill(rack, 10, gpus={"g0": 100}, outlets={a: 250})
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") is None
        # RAPL was read before the first step: only what came after is accounted for.
        assert rack.value(derived.HOST_ENERGY, HOST, "components") == pytest.approx(1000)
        assert rack.value(derived.PDU_ENERGY_UNATTRIBUTED, Kind.PDU("a")) == pytest.approx(2500)

    def test_processors_and_their_memory_are_components_and_cores_are_not_added(self) -> None:
        rack, _ = one_engine()
        for at in range(11):
            for domain, watts in (("package", 40), ("dram", 5), ("core", 30), ("psys", 90)):
                rack.read(at, power.CPU_ENERGY, Kind.CPU("node1", domain), watts * at, domain)
            rack.read(at, gpu.ENERGY, device("g0"), 100 * at)
            rack.step(at)
        assert rack.value(derived.HOST_ENERGY, HOST, "components") == pytest.approx(1450)
        assert rack.value(derived.GPU_ENERGY_ATTRIBUTED, device("g0")) == pytest.approx(1450)

    def test_a_host_without_gpus_keeps_its_energy(self) -> None:
        rack, storage = Rack(), Kind.HOST("storage1")
        rack.link(storage, outlet("9"))
        fill(rack, 10, gpus={}, outlets={outlet("9"): 80})
        assert rack.value(derived.HOST_ENERGY, storage, "pdu") == pytest.approx(800)
        assert rack.value(derived.HOST_ENERGY_UNATTRIBUTED, storage) == pytest.approx(800)

    @pytest.mark.parametrize(
        ("shares", "joules"),
        [((0.75, 0.25), (600, 200)), ((1, 1), (400, 400)), ((0.5, 0.25), (400, 200))],
    )
    def test_two_hosts_on_one_outlet_share_it(
        self, shares: tuple[float, float], joules: tuple[float, float]
    ) -> None:
        rack, other = Rack(), Kind.HOST("node2")
        rack.link(HOST, outlet("7"), shares[0])
        rack.link(other, outlet("7"), shares[1])
        fill(rack, 10, gpus={}, outlets={outlet("7"): 80})
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(joules[0])
        assert rack.value(derived.HOST_ENERGY, other, "pdu") == pytest.approx(joules[1])

    def test_the_rest_of_a_host_goes_to_gpus_by_what_they_take(self) -> None:
        rack, _ = one_engine()
        rack.link(HOST, outlet("7"))
        fill(rack, 10, gpus={"g0": 300, "g1": 100}, outlets={outlet("7"): 1000})
        assert rack.value(derived.GPU_ENERGY_ATTRIBUTED, device("g0")) == pytest.approx(7500)
        assert rack.value(derived.GPU_ENERGY_ATTRIBUTED, device("g1")) == pytest.approx(2500)

    def test_a_gpu_without_an_energy_counter_is_integrated(self) -> None:
        rack, _ = one_engine()
        for at, watts in enumerate((100, 200, 200, 400)):
            rack.read(at, gpu.POWER, device("g0"), watts)
            rack.step(at)
        assert rack.value(derived.HOST_ENERGY, HOST, "components") == pytest.approx(650)

    def test_models_of_an_engine_pay_by_their_tokens(self) -> None:
        rack, entity = one_engine()
        for at in range(11):
            rack.read(at, gpu.ENERGY, device("g0"), 100 * at)
            for model, output, prompt in (("a", 10, 0), ("b", 0, 100)):
                rack.read(at, serving.GENERATION_TOKENS, entity, output * at, model)
                rack.read(at, serving.PROMPT_TOKENS, entity, prompt * at, model)
            rack.step(at)
        # By default a computed prompt token costs a tenth of a generated one.
        assert rack.value(derived.ENGINE_ENERGY, entity, "a") == pytest.approx(500)
        assert rack.value(derived.ENGINE_ENERGY, entity, "b") == pytest.approx(500)

    def test_cached_prompt_tokens_cost_nothing(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20}, prompt=200)
        rack.call("fresh", MODEL, 0, 10, prompt=1000)
        rack.call("cached", MODEL, 0, 10, prompt=1000, cached=1000, output=10)
        fill(rack, 1, begin=10, gpus={"g0": 100}, tokens={entity: 20}, prompt=200)
        # 40 generated tokens' worth a second at 100 W: 2.5 J for each.
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("fresh"), MODEL) == pytest.approx(250)
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("cached"), MODEL) == pytest.approx(25)

    def test_a_call_that_names_its_engine_takes_from_that_one(self) -> None:
        rack, near, far = Rack(), engine("8000"), engine("8001")
        for name, pid, entity in (("g0", "1", near), ("g1", "2", far)):
            rack.link(process(pid), device(name))
            rack.link(process(pid), entity)
        gpus = {"g0": 100.0, "g1": 900.0}
        fill(rack, 10, gpus=gpus, tokens={near: 10, far: 10})
        rack.call("named", MODEL, 0, 10, output=50, server="10.0.0.1:8000")
        rack.call("unnamed", MODEL, 0, 10, output=20)
        fill(rack, 1, begin=10, gpus=gpus, tokens={near: 10, far: 10})
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("named"), MODEL) == pytest.approx(500)
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("unnamed"), MODEL) == pytest.approx(1000)

    def test_a_hosted_model_is_unmatched(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20})
        rack.call("writer", "hosted", 0, 5, prompt=70, output=30)
        rack.step(10)
        fill(rack, 1, begin=10, gpus={"g0": 100}, tokens={entity: 20})
        writer = Kind.AGENT("writer")
        assert rack.value(derived.AGENT_TOKENS_UNMATCHED, writer, "hosted") == 100
        assert rack.value(derived.AGENT_ENERGY, writer, "hosted") is None

    def test_a_call_cannot_claim_more_than_was_computed(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20})
        rack.call("liar", MODEL, 0, 10, output=1000)
        fill(rack, 1, begin=10, gpus={"g0": 100}, tokens={entity: 20})
        liar = Kind.AGENT("liar")
        assert rack.value(derived.AGENT_ENERGY, liar, MODEL) == pytest.approx(1000)
        assert rack.value(derived.AGENT_TOKENS_UNMATCHED, liar, MODEL) == pytest.approx(800)


class TestTime:
    def test_a_slow_meter_is_waited_for(self) -> None:
        rack, _ = one_engine()
        rack.link(HOST, outlet("7"))
        for at in range(61):
            rack.read(at, gpu.ENERGY, device("g0"), 100 * at)
            if at % 30 == 0:
                rack.read(at, power.OUTLET_POWER, outlet("7"), 300, lifetime=90)
            rack.step(at)
            assert rack.value(derived.HOST_ENERGY, HOST, "components") is None
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(18000)

    def test_a_meter_that_is_rarely_read_has_no_gaps(self) -> None:
        rack = Rack()
        rack.link(HOST, outlet("7"))
        for at in range(0, 1201, 300):
            rack.read(at + 0.1, power.OUTLET_POWER, outlet("7"), 300, lifetime=900)
            rack.step(at + 1)
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(360_000)

    def test_a_meter_that_died_holds_nothing_up(self) -> None:
        rack, _ = one_engine()
        rack.read(0, power.OUTLET_POWER, outlet("7"), 300)
        fill(rack, 60, gpus={"g0": 100})
        assert rack.value(derived.HOST_ENERGY, HOST, "components") == pytest.approx(6000)

    def test_a_time_that_stands_still_does_not_stop_it_for_good(self) -> None:
        rack = Rack(claim=20.0)
        for at in range(60):
            rack.read(at, gpu.ENERGY, device("g0"), 100 * at)
            rack.read(0, power.OUTLET_POWER, outlet("7"), 300, lifetime=1000)
            rack.step(at)
        assert rack.value(derived.HOST_ENERGY, HOST, "components") == pytest.approx(5900)

    def test_an_unknown_reading_is_no_zero(self) -> None:
        rack, _ = one_engine()
        rack.link(HOST, outlet("7"))
        fill(rack, 10, gpus={"g0": 100}, outlets={outlet("7"): float("nan")})
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") is None
        assert rack.value(derived.HOST_ENERGY, HOST, "components") == pytest.approx(1000)

    @pytest.mark.parametrize("jump", [-3600, 3600, -365 * 86400, 365 * 86400])
    def test_it_goes_on_when_the_clock_jumps(self, jump: int) -> None:
        rack, entity = one_engine()
        rack.link(HOST, outlet("7"))
        outlets = {outlet("7"): 300.0}
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20}, outlets=outlets)
        before = rack.total(derived.ENGINE_ENERGY)
        day = {"gpus": {"g0": 100.0}, "tokens": {entity: 20.0}, "outlets": outlets, "ahead": jump}
        fill(rack, 10, begin=11, **day)  # type: ignore[arg-type]
        rack.topology.forget(START + jump + 21)  # what the daemon's housekeeping does
        seen = rack.total(derived.ENGINE_ENERGY)
        fill(rack, 100, begin=21, **day)  # type: ignore[arg-type]
        assert seen >= before
        assert rack.total(derived.ENGINE_ENERGY) == pytest.approx(seen + 30_000)
        assert rack.value(
            derived.ENGINE_ENERGY_PER_OUTPUT_TOKEN, entity, MODEL
        ) == pytest.approx(15)  # fmt: skip

    def test_a_late_call_still_claims(self) -> None:
        rack, entity = one_engine()
        fill(rack, 300, gpus={"g0": 100}, tokens={entity: 20})
        rack.call("late", MODEL, 10, 20, output=100)
        fill(rack, 1, begin=300, gpus={"g0": 100}, tokens={entity: 20})
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("late"), MODEL) == pytest.approx(500)

    def test_a_call_of_long_ago_is_unmatched(self) -> None:
        rack, entity = one_engine()
        rack = Rack(claim=60)
        rack.link(process("1"), device("g0"))
        rack.link(process("1"), entity)
        fill(rack, 100, gpus={"g0": 100}, tokens={entity: 20})
        rack.call("late", MODEL, 10, 20, output=100)
        fill(rack, 1, begin=100, gpus={"g0": 100}, tokens={entity: 20})
        late = Kind.AGENT("late")
        assert rack.value(derived.AGENT_TOKENS_UNMATCHED, late, MODEL) == 100
        unattributed = rack.value(derived.ENGINE_ENERGY_UNATTRIBUTED, entity, MODEL)
        assert unattributed == pytest.approx(4000)

    def test_a_call_waits_until_its_time_is_known(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20})
        rack.call("early", MODEL, 10, 15, output=100)
        rack.step(10)
        assert not rack.totals[derived.AGENT_ENERGY]
        fill(rack, 10, begin=10, gpus={"g0": 100}, tokens={entity: 20})
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("early"), MODEL) == pytest.approx(500)

    def test_a_call_by_a_clock_far_ahead_is_not_kept_for_good(self) -> None:
        rack, entity = one_engine()
        rack.call("ahead", MODEL, 1e9, 1e9 + 5, output=100)
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20})
        assert rack.attribution._spend._calls == []
        ahead = Kind.AGENT("ahead")
        assert rack.value(derived.AGENT_TOKENS_UNMATCHED, ahead, MODEL) == 100

    def test_cached_tokens_beyond_the_prompt_do_not_reduce_the_output(self) -> None:
        rack, entity = one_engine()
        fill(rack, 10, gpus={"g0": 100}, tokens={entity: 20})
        rack.call("odd", MODEL, 0, 10, prompt=0, cached=1000, output=100)
        fill(rack, 1, begin=10, gpus={"g0": 100}, tokens={entity: 20})
        assert rack.value(derived.AGENT_ENERGY, Kind.AGENT("odd"), MODEL) == pytest.approx(500)


HOSTS = [Kind.HOST("node1"), Kind.HOST("node2"), Kind.HOST("storage")]
OUTLETS = [outlet(number, pdu) for pdu in ("a", "b") for number in ("1", "2", "3")]
GPUS = [device(name, host.key[0]) for host in HOSTS[:2] for name in ("g0", "g1")]
PROCESSES = [process(pid, host.key[0]) for host in HOSTS[:2] for pid in ("1", "2", "3")]
ENGINES = [engine("8000"), engine("8001"), engine("8001", rank="1")]
MODELS = ["a", "b"]
SHARES = st.sampled_from([1.0, 1.0, 0.5, 0.3])
LINKS = st.one_of(
    st.tuples(st.sampled_from(HOSTS), st.sampled_from(OUTLETS), SHARES),
    st.tuples(st.sampled_from(PROCESSES), st.sampled_from(GPUS), SHARES),
    st.tuples(st.sampled_from(PROCESSES), st.sampled_from(ENGINES), SHARES),
    st.tuples(st.sampled_from(ENGINES), st.sampled_from(GPUS), SHARES),
)
METERS = [
    *((power.OUTLET_POWER, entity, ()) for entity in OUTLETS),
    *((gpu.ENERGY, entity, ()) for entity in GPUS[:3]),
    *((gpu.POWER, entity, ()) for entity in GPUS[2:]),
    (power.CPU_ENERGY, Kind.CPU("node1", "0"), ("package",)),
    *((gpu.PROCESS_UTILIZATION, GPUS[0], (pid,)) for pid in ("1", "2", "3")),
    *(
        (metric, entity, (model,))
        for entity in ENGINES
        for model in MODELS
        for metric in (serving.GENERATION_TOKENS, serving.PROMPT_TOKENS)
    ),
    (serving.PROMPT_TOKENS_COMPUTED, ENGINES[0], ("a",)),
]
CALLS = st.fixed_dictionaries(
    {
        "agent": st.sampled_from(["x", "y"]),
        "model": st.sampled_from([*MODELS, "hosted"]),
        "ago": st.floats(-30, 200),
        "took": st.floats(0, 100),
        "prompt": st.integers(0, 3000),
        "cached": st.integers(0, 3000),
        "output": st.integers(0, 500),
        "server": st.sampled_from(["", "10.0.0.1:8000", "10.0.0.1:8001", "elsewhere:80"]),
    }
)
RATES = st.floats(-1, 500, allow_nan=False)
EVENTS = st.one_of(
    st.tuples(st.just("run"), st.floats(0.1, 40), st.lists(RATES, min_size=1, max_size=7)),
    st.tuples(st.just("run"), st.floats(1, 10), st.lists(RATES, min_size=1, max_size=7)),
    st.tuples(st.just("stall"), st.floats(0, 20), st.none()),
    st.tuples(st.just("silence"), st.integers(0, len(METERS) - 1), st.none()),
    st.tuples(st.just("reset"), st.integers(0, len(METERS) - 1), st.none()),
    st.tuples(st.just("link"), LINKS, st.none()),
    st.tuples(st.just("unlink"), st.none(), st.none()),
    st.tuples(st.just("call"), CALLS, st.booleans()),
    st.tuples(st.just("jump"), st.sampled_from([-3600.0, 3600.0]), st.none()),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(LINKS, max_size=14), st.lists(EVENTS, min_size=3, max_size=25))
def test_what_is_handed_down_and_left_over_is_what_was_metered(
    links: list[Any], events: list[Any]
) -> None:
    rack, now = Rack(claim=120.0), 0.0
    for link in links:
        rack.link(*link)
    raw = [100.0 * index for index in range(len(METERS))]
    silent: set[int] = set()
    for what, first, second in events:
        if what == "run":
            now += first
            for index, (metric, entity, labels) in enumerate(METERS):
                rate = second[index % len(second)]
                if metric in (power.OUTLET_POWER, gpu.POWER, gpu.PROCESS_UTILIZATION):
                    raw[index] = rate
                else:
                    raw[index] += max(rate, 0.0) * first
                if index not in silent:
                    rack.read(now, metric, entity, raw[index], *labels)
            rack.step(now + 0.5)
        elif what == "stall":
            now += first
            rack.step(now)
        elif what == "silence":
            silent ^= {first}
        elif what == "reset":
            raw[first] = 0.0
        elif what == "link":
            child, parent, share = first
            rack.link(child, parent, share, now)
        elif what == "unlink":
            rack.unlink(now)
        elif what == "jump":
            now += first
            rack.topology.forget(START + now)
        else:
            call = dict(first)
            end = now - call.pop("ago")
            start = end - call.pop("took")
            for _ in range(2 if second else 1):
                rack.call(call["agent"], call["model"], start, end, prompt=call["prompt"],
                          cached=call["cached"], output=call["output"], server=call["server"])  # fmt: skip
    rack.step(now + 40)
    rack.step(now + 400)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 1000), st.floats(0, 500)), max_size=30))
def test_metered_energy_is_that_of_the_readings(readings: list[tuple[float, float, float]]) -> None:
    rack = Rack()
    rack.link(HOST, outlet("1"))
    now = truth_outlet = truth_gpu = before = 0.0
    rack.read(0, gpu.ENERGY, device("g0"), 0)
    rack.read(0, power.OUTLET_POWER, outlet("1"), 0, lifetime=60)
    rack.read(0, power.OUTLET_POWER, outlet("2"), 0, lifetime=60)
    rack.step(0)
    for passed, watts, taken in readings:
        now += passed
        truth_outlet += (before + watts) / 2 * passed
        truth_gpu += taken
        before = watts
        rack.read(now, power.OUTLET_POWER, outlet("1"), watts, lifetime=60)
        rack.read(now, power.OUTLET_POWER, outlet("2"), watts, lifetime=60)
        rack.read(now, gpu.ENERGY, device("g0"), truth_gpu)
        rack.step(now)
    if readings:
        assert rack.value(derived.HOST_ENERGY, HOST, "pdu") == pytest.approx(
            truth_outlet, abs=1e-3
        )  # times since the epoch are doubles: no better than a microsecond
        assert rack.total(derived.PDU_OUTLETS_ENERGY) == pytest.approx(2 * truth_outlet, abs=2e-3)


@given(
    st.floats(0, 1e9),
    st.dictionaries(
        st.integers(),
        st.one_of(st.floats(-1e9, 1e9), st.sampled_from([math.nan, math.inf, -math.inf, 5e-324])),
        min_size=1,
    ),
)
def test_whatever_is_divided_by_whatever_stays_the_same(
    amount: float, weights: dict[int, float]
) -> None:
    parts = _divide(amount, weights)
    assert set(parts) == set(weights)
    assert all(0 <= part <= amount for part in parts.values())
    assert sum(parts.values()) == pytest.approx(amount, rel=1e-9, abs=1e-300)
