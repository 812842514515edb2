"""From the outlet to the agent: the unmodified daemon over real protocols, seen by Prometheus.

Every figure that Prometheus gives is compared with what is true in the room.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.fakes.prometheus import Prometheus
from tests.fakes.room import AGENTS, GPU_WATTS, RATES, Room

WEIGHT = 0.1  # attribution.prompt_token_weight
SECONDS = 20  # for which agents call


def test_watts_become_tokens(tmp_path: Path) -> None:
    with Room(tmp_path) as room:
        prometheus = room.prometheus
        prometheus.wait("count(w2t_engine_energy_joules_total > 0) == 2")
        time.sleep(3)
        room.run_agents(SECONDS)
        check_models(room)
        for agent in room.agents.values():
            agent.close()
        spans = SECONDS * 2 * len(AGENTS)  # of the agent and of its call
        prometheus.wait(f"sum(w2t_otlp_spans_total) >= {spans}")
        time.sleep(4)  # the last calls are settled once their time is known everywhere
        check_agents(room)
        check_conservation(prometheus)
        check_sources(prometheus)
        room.daemon.send_signal(signal.SIGTERM)
        assert room.daemon.wait(5) == 0


def check_models(room: Room) -> None:
    prometheus = room.prometheus
    for model, rates in RATES.items():
        truth = room.power(model) / rates["output"]
        select = f'{{gen_ai_request_model="{model}"}}'
        gauge = prometheus.one(f"w2t_model_energy_per_output_token_joules{select}")
        assert gauge == pytest.approx(truth, rel=0.01)
        # Counters are as of different times, some steps apart on a busy machine: that much less
        # certain is what they say of a short time.
        ratio = prometheus.one(
            f"increase(w2t_engine_energy_joules_total{select}[15s])"
            " / on(server_port) "
            f"increase(w2t_engine_generation_tokens_total{select}[15s])"
        )
        assert ratio == pytest.approx(truth, rel=0.15)
        per_token = prometheus.one(f"w2t_model_energy_per_token_joules{select}")
        total = rates["output"] + rates["prompt"]
        assert per_token == pytest.approx(room.power(model) / total, rel=0.01)
        per_watt = prometheus.one(f"w2t_engine_output_tokens_per_second_per_watt{select}")
        assert per_watt == pytest.approx(1 / truth, rel=0.01)


def check_agents(room: Room) -> None:
    prometheus = room.prometheus
    for name, model, _ in AGENTS:
        rates = RATES[model]
        calls = room.agents[name].truth.calls
        output = sum(call.output_tokens for call in calls)
        weight = sum(c.output_tokens + WEIGHT * (c.input_tokens - c.cache_read) for c in calls)
        joules_per_weight = room.power(model) / (
            rates["output"] + WEIGHT * (rates["prompt"] - rates["cached"])
        )
        truth = joules_per_weight * weight / output
        select = f'{{gen_ai_agent_name="{name}",gen_ai_request_model="{model}"}}'
        tokens = f'w2t_agent_tokens_total{{gen_ai_agent_name="{name}",gen_ai_token_type="output"}}'
        assert prometheus.one(tokens) == output
        spent = prometheus.one(
            f"w2t_agent_energy_joules_total{select} / ignoring(gen_ai_token_type) {tokens}"
        )
        assert spent == pytest.approx(truth, rel=0.01)


def check_conservation(prometheus: Prometheus) -> None:
    """Handed down plus left over equals metered, at every level, in one scrape."""
    for whole, parts in (
        (
            "w2t_pdu_outlets_energy_joules_total",
            (
                'w2t_host_energy_joules_total{basis="pdu"}',
                "w2t_pdu_energy_unattributed_joules_total",
            ),
        ),
        (
            "w2t_host_energy_joules_total",
            ("w2t_gpu_energy_attributed_joules_total", "w2t_host_energy_unattributed_joules_total"),
        ),
        (
            "w2t_gpu_energy_attributed_joules_total",
            ("w2t_engine_energy_joules_total", "w2t_gpu_energy_unattributed_joules_total"),
        ),
        (
            "w2t_engine_energy_joules_total",
            (
                "w2t_agent_energy_joules_total",
                "w2t_engine_energy_unattributed_joules_total",
                "w2t_engine_energy_pending_joules",
            ),
        ),
    ):
        sums = " + ".join(f"(sum({part}) or vector(0))" for part in parts)
        assert prometheus.one(f"sum({whole})") > 0
        off = prometheus.one(f"abs(sum({whole}) - ({sums})) / sum({whole})")
        assert off <= 1e-9, f"{whole} is off by {off}"


def check_sources(prometheus: Prometheus) -> None:
    up = {labels["plugin"]: value for labels, value in prometheus.query("w2t_source_up")}
    assert up == dict.fromkeys(
        ("edac", "host", "hwmon", "numa", "nvml", "otlp", "pdu_snmp", "rapl", "vllm"), 1.0
    )
    assert prometheus.one("sum(w2t_gpu_power_watts)") == sum(GPU_WATTS.values())
