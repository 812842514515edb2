"""A small machine room on loopback with the unmodified daemon in front.

A PDU answers SNMP from a walk of a real device, the NVML library stands in for two GPUs, a tree
stands in for /proc and /sys, two engines show growing vLLM pages, and three agents report through
the OpenTelemetry SDK. All loads are constant, so that what a token costs is known.

`python -m tests.fakes.room` runs it until interrupted and prints where to look.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple, Self

from tests.data import ROOT
from tests.fakes import nvml
from tests.fakes.agent import Agent, Called
from tests.fakes.processes import process
from tests.fakes.prometheus import Prometheus, free_port
from tests.fakes.snmp import Agent as Pdu

ENGINE = Path(__file__).with_name("engine.py")
WALK = ROOT / "snmp/walks/raritan-pdu_px3.snmprec"
TRUTH = ROOT / "snmp/TRUTH.json"
RECORDED = Path(__file__).parents[1] / "recorded"
OWN_WALK = RECORDED / "pdu_snmp/raritan/input/device.snmprec"
OWN_WATTS = {"1": 390.0, "2": 550.0}

GPU_WATTS = {"chat": 600.0, "code": 200.0}  # each model has a GPU of its own
RATES = {  # tokens per second
    "chat": {"output": 400.0, "prompt": 1000.0, "cached": 250.0},
    "code": {"output": 120.0, "prompt": 300.0, "cached": 0.0},
}


class Reported(NamedTuple):
    """An agent, and its share of all that the model's engine does."""

    agent: str
    model: str
    share: float


AGENTS = (
    Reported("planner", "chat", 0.5),
    Reported("coder", "chat", 0.3),
    Reported("linter", "code", 1.0),
)

CONFIG = """\
[daemon]
host_name = "gpu-node-1"
detect = false

[web]
listen_address = ["{web}"]

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
target = "{pdu}"
name = "pdu-a"
community = "public"
interval = 1.0

[plugins.nvml]
slow_interval = 2.0

[plugins.vllm]
targets = {engines}
interval = 1.0

[plugins.otlp]
listen_address = "{otlp}"
"""


class Room:
    """All of it, for as long as the `with` block lasts.

    Attributes:
        watts: What the host's outlets draw.
        config: The daemon's config file.
        daemon: Its process.
        prometheus: A real one that scrapes it each second.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._otlp = f"127.0.0.1:{free_port()}"
        self.web = f"127.0.0.1:{free_port()}"
        self.config = folder / "w2t.toml"
        self.agents = {
            name: Agent(f"http://{self._otlp}", name, delay=0.2, gzip=share < 0.5)
            for name, _, share in AGENTS
        }
        if WALK.exists() and TRUTH.exists():
            truth = json.loads(TRUTH.read_text())["raritan-pdu_px3"]["outlet_power_w"]
            self._walk = WALK
            outlets: dict[str, float] = {feed: truth[f"1.{feed}"] for feed in ("13", "24")}
        else:
            self._walk, outlets = OWN_WALK, OWN_WATTS
        self._feeds = list(outlets)
        self.watts = sum(outlets.values())

    def __enter__(self) -> Self:
        with self._stack as stack:
            pdu = stack.enter_context(Pdu(self._walk))
            library = nvml.build(self._folder / "nvml")
            scenario = nvml.Scenario(self._folder / "scenario.conf")
            engines = []
            for slot, (model, watts) in enumerate(GPU_WATTS.items()):
                options = [f"--{name}={rate}" for name, rate in RATES[model].items()]
                engine = stack.enter_context(process(str(ENGINE), f"--model={model}", *options))
                assert engine.stdout is not None
                pid, port = engine.stdout.readline().split()
                engines.append(f"http://127.0.0.1:{port}")
                scenario.gpu(slot)
                scenario.draw(slot, watts)
                scenario.process(slot, int(pid), 40 << 30, 90.0)
            scenario.write()
            self.config.write_text(
                CONFIG.format(
                    web=self.web, feeds=self._feeds, root=host_tree(self._folder / "root"),
                    pdu=pdu.target, engines=json.dumps(engines), otlp=self._otlp,
                )
            )  # fmt: skip
            self.daemon = stack.enter_context(
                process(
                    "-m", "collector", "run", f"--config.file={self.config}",
                    environment=nvml.environment(library, scenario.path),
                )
            )  # fmt: skip
            self._wait_for_receiver()
            self.prometheus = stack.enter_context(Prometheus(self._folder / "prometheus", self.web))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _wait_for_receiver(self) -> None:
        host, port = self._otlp.split(":")
        while self.daemon.poll() is None:
            with suppress(OSError), socket.create_connection((host, int(port))):
                return
            time.sleep(0.05)

    def run_agents(self, seconds: int) -> None:
        """Let every agent report one call a second, as the seconds pass."""
        for _ in range(seconds):
            start = time.time()
            time.sleep(1.0)
            end = time.time()
            for agent, model, share in AGENTS:
                done = {
                    name: round(rate * share * (end - start)) for name, rate in RATES[model].items()
                }
                call = Called(model, start, end, done["prompt"], done["cached"], done["output"])
                self.agents[agent].run([call])

    def power(self, model: str) -> float:
        """Watts of the outlets that a model's engine is to be charged for."""
        return self.watts * GPU_WATTS[model] / sum(GPU_WATTS.values())


def host_tree(root: Path) -> Path:
    """Lay the recorded cases of all that reads /proc and /sys over one another."""
    for name in ("host", "numa", "hwmon", "rapl", "edac"):
        case = min((RECORDED / name).iterdir())
        shutil.copytree(case / "input/root", root, dirs_exist_ok=True, symlinks=True)
    return root


def main() -> None:
    """Run until interrupted or terminated."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell lets its jobs ignore the first
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as folder, Room(Path(folder)) as room:
        print(f"daemon      http://{room.web}/metrics")
        print(f"config      {room.config}")
        print(f"Prometheus  {room.prometheus.url}", flush=True)
        try:
            room.run_agents(1 << 30)
        except KeyboardInterrupt:
            print("stopping")


if __name__ == "__main__":
    main()
