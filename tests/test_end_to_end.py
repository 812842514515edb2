"""From the outlet to the agent: the unmodified daemon over real protocols, seen by Prometheus.

A PDU answers SNMP from a walk of a real device, the NVML library stands in for two GPUs, a tree
stands in for /proc and /sys, two engines show growing vLLM pages, and three agents report through
the OpenTelemetry SDK. Every figure that Prometheus gives is compared with what the test knows.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.data import ROOT
from tests.fakes import nvml
from tests.fakes.agent import Agent, Called
from tests.fakes.processes import process
from tests.fakes.prometheus import Prometheus, free_port
from tests.fakes.snmp import Agent as Pdu

ENGINE = Path(__file__).parent / "fakes/engine.py"
WALK = ROOT / "snmp/walks/raritan-pdu_px3.snmprec"
TRUTH = ROOT / "snmp/TRUTH.json"
RECORDED = Path(__file__).parent / "recorded"
OWN_WALK = RECORDED / "pdu_snmp/raritan/input/pdu.snmprec"
OWN_WATTS = {"1.1": 390.0, "1.2": 550.0}

WEIGHT = 0.1  # attribution.prompt_token_weight
CHAT = {"output": 400.0, "prompt": 1000.0, "cached": 250.0}  # tokens per second
CODE = {"output": 120.0, "prompt": 300.0, "cached": 0.0}
GPU_WATTS = (600.0, 200.0)  # chat runs on the first, code on the second
SECONDS = 20  # for which agents call


class Reported(NamedTuple):
    """An agent and its share of all that an engine does."""

    agent: str
    model: str
    share: float


AGENTS = (
    Reported("planner", "chat", 0.5),
    Reported("coder", "chat", 0.3),
    Reported("linter", "code", 1.0),
)


def engine(stack: ExitStack, model: str, rates: dict[str, float]) -> tuple[int, int]:
    """Start an engine; gives its pid and port."""
    options = [f"--{name}={rate}" for name, rate in rates.items()]
    started = stack.enter_context(process(str(ENGINE), f"--model={model}", *options))
    assert started.stdout is not None
    pid, port = started.stdout.readline().split()
    return int(pid), int(port)


def host_tree(root: Path) -> Path:
    """Lay the recorded cases of all that reads /proc and /sys over one another."""
    for name in ("host", "numa", "hwmon", "rapl", "edac"):
        for case in sorted((RECORDED / name).iterdir())[:1]:
            shutil.copytree(case / "input/root", root, dirs_exist_ok=True, symlinks=True)
    return root


def run_agents(endpoint: str) -> dict[str, Agent]:
    """Let agents report one call a second each, as the seconds pass."""
    agents = {a.agent: Agent(endpoint, a.agent, delay=0.2, gzip=a.share < 0.5) for a in AGENTS}
    for _ in range(SECONDS):
        start = time.time()
        time.sleep(1.0)
        end = time.time()
        for agent, model, share in AGENTS:
            rates = CHAT if model == "chat" else CODE
            part = {name: round(rate * share * (end - start)) for name, rate in rates.items()}
            call = Called(model, start, end, part["prompt"], part["cached"], part["output"])
            agents[agent].run([call])
    for one in agents.values():
        one.close()
    return agents


def test_watts_become_tokens(tmp_path: Path) -> None:
    real = WALK.exists() and TRUTH.exists()
    if real:
        watts = json.loads(TRUTH.read_text())["raritan-pdu_px3"]["outlet_power_w"]
        outlets = ("1.13", "1.24")
    else:
        watts, outlets = OWN_WATTS, ("1.1", "1.2")
    feeds = [outlet.partition(".")[2] for outlet in outlets]
    host_watts = sum(watts[outlet] for outlet in outlets)

    with ExitStack() as stack:
        pdu = stack.enter_context(Pdu(WALK if real else OWN_WALK))
        chat_pid, chat_port = engine(stack, "chat", CHAT)
        code_pid, code_port = engine(stack, "code", CODE)
        library = nvml.build(tmp_path / "nvml")
        scenario = nvml.Scenario(tmp_path / "scenario.conf")
        for slot, (gpu_watts, pid) in enumerate(zip(GPU_WATTS, (chat_pid, code_pid), strict=True)):
            scenario.gpu(slot)
            scenario.draw(slot, gpu_watts)
            scenario.process(slot, pid, 40 << 30, 90.0)
        scenario.write()
        root = host_tree(tmp_path / "root")
        web, otlp = free_port(), free_port()
        config = tmp_path / "w2t.toml"
        config.write_text(f"""
[daemon]
host_name = "gpu-node-1"
[web]
listen_address = ["127.0.0.1:{web}"]
[attribution]
interval = 1.0
window = 15.0
[topology.hosts.gpu-node-1]
rack = "r14"
outlets = ["pdu-a/{feeds[0]}", "pdu-a/{feeds[1]}"]
[plugins]
host.root = "{root}"
numa.root = "{root}"
hwmon.root = "{root}"
rapl.root = "{root}"
edac.root = "{root}"
[plugins.pdu_snmp]
target = "{pdu.target}"
name = "pdu-a"
community = "public"
interval = 1.0
[plugins.nvml]
slow_interval = 2.0
[plugins.vllm]
targets = ["http://127.0.0.1:{chat_port}", "http://127.0.0.1:{code_port}"]
interval = 1.0
[plugins.otlp]
listen_address = "127.0.0.1:{otlp}"
""")
        daemon = stack.enter_context(
            process(
                "-m", "collector", "run", f"--config.file={config}",
                **nvml.environment(library, scenario.path),
            )
        )  # fmt: skip
        prometheus = stack.enter_context(Prometheus(tmp_path / "prometheus", f"127.0.0.1:{web}"))
        prometheus.wait("count(w2t_engine_energy_joules_total > 0) == 2")
        time.sleep(3)
        agents = run_agents(f"http://127.0.0.1:{otlp}")
        check_models(prometheus, host_watts)
        spans = sum(len(agent.truth.calls) for agent in agents.values())
        prometheus.wait(f'w2t_otlp_spans_total{{outcome="counted"}} >= {spans}')
        time.sleep(4)  # the last calls are settled once their time is known everywhere
        check_agents(prometheus, agents, host_watts)
        check_conservation(prometheus)
        check_sources(prometheus)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(5) == 0


def power(model: str, host_watts: float) -> float:
    """Watts of the outlets that the model's engine is to be charged for."""
    return host_watts * GPU_WATTS[model != "chat"] / sum(GPU_WATTS)


def check_models(prometheus: Prometheus, host_watts: float) -> None:
    for model, rates in (("chat", CHAT), ("code", CODE)):
        truth = power(model, host_watts) / rates["output"]
        select = f'{{gen_ai_request_model="{model}"}}'
        gauge = prometheus.one(f"w2t_model_energy_per_output_token_joules{select}")
        assert gauge == pytest.approx(truth, rel=0.01)
        ratio = prometheus.one(
            f"increase(w2t_engine_energy_joules_total{select}[15s])"
            " / on(server_port) "
            f"increase(w2t_engine_generation_tokens_total{select}[15s])"
        )
        assert ratio == pytest.approx(truth, rel=0.01)
        per_token = prometheus.one(f"w2t_model_energy_per_token_joules{select}")
        total = rates["output"] + rates["prompt"]
        assert per_token == pytest.approx(power(model, host_watts) / total, rel=0.01)
        per_watt = prometheus.one(f"w2t_engine_output_tokens_per_second_per_watt{select}")
        assert per_watt == pytest.approx(1 / truth, rel=0.01)


def check_agents(prometheus: Prometheus, agents: dict[str, Agent], host_watts: float) -> None:
    for name, model, _ in AGENTS:
        rates = CHAT if model == "chat" else CODE
        calls = agents[name].truth.calls
        output = sum(call.output_tokens for call in calls)
        weight = sum(c.output_tokens + WEIGHT * (c.input_tokens - c.cache_read) for c in calls)
        joules_per_weight = power(model, host_watts) / (
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
    assert prometheus.one("sum(w2t_gpu_power_watts)") == sum(GPU_WATTS)
